"""Tables of results: methods, networks, classification rules, and candidates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cbir_lib.errors import CbirError
from cbir_lib.evaluation.intervals import compute_paired_interval
from cbir_lib.study.config import NetworkRun
from cbir_lib.study.pairwise import score_queries
from cbir_lib.study.results import Result, group_by_method, name_method, name_variant
from cbir_lib.study.wording import DASH, format_settings, format_share


def select_descriptors(results: Sequence[Result], names: Sequence[str]) -> dict[str, Result]:
    """Return the results of handcrafted descriptors, by their names in ``study.yml``.

    Raises
    ------
    CbirError
        When one of them has no result.
    """
    by_descriptor = {r.parameters.get("descriptor"): r for r in results}
    if missing := [name for name in names if name not in by_descriptor]:
        raise CbirError(
            f"the study has no result of {', '.join(missing)}",
            "add it to grid.descriptors in study.yml, or remove its chapter from the Snakefile",
        )
    return {name: by_descriptor[name] for name in names}


def select_descriptor(results: Sequence[Result], name: str) -> Result:
    """Return the result of one handcrafted descriptor, by its name in ``study.yml``.

    Raises
    ------
    CbirError
        When it has no result.
    """
    return select_descriptors(results, [name])[name]


def tabulate_networks(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row per network run: ``network``, ``variant``, ``seed``, and measures in percent.

    ``accuracy`` and ``balanced accuracy`` (test split, highest score), ``validation accuracy``,
    ``mAP``; ``best epoch``, ``epochs``; ``training s``. The index is the run's name.
    """
    rows = {}
    for result in results:
        answers, curves = result.classification, result.training
        rows[result.run] = {
            "network": result.parameters["network"],
            "variant": name_variant(result),
            "seed": result.parameters["seed"],
            "accuracy": 100 * answers.accuracy,
            "balanced accuracy": 100 * answers.balanced_accuracy,
            "validation accuracy": 100 * answers.validation_accuracy,
            "mAP": 100 * result.retrieval.mean_average_precision,
            "best epoch": curves.best_epoch,
            "epochs": len(curves.train_loss),
            "training s": result.circumstances.seconds["training"],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def estimate_hours(planned: Sequence[NetworkRun], results: Sequence[Result]) -> pd.Series:
    """Estimate the core-hours of planned trainings from those done: ``least`` and ``median``.

    Each training takes the time of an epoch of that network at that precision, times its epochs,
    and what is done with its vectors afterwards. The least is the time on idle cores; the median
    includes what else the machines did. Trainings unlike any that is done are left out.
    """
    seconds = defaultdict(list)
    for r in results:
        spent = r.circumstances.seconds
        per_epoch = spent["training"] / len(r.training.train_loss)
        seconds[_find_kind(r.parameters)].append(
            (per_epoch, sum(spent.values()) - spent["training"])
        )
    totals = pd.Series({"least": 0.0, "median": 0.0})
    for run in planned:
        if measured := seconds.get(_find_kind(run.model_dump())):
            for name, pick in (("least", np.min), ("median", np.median)):
                per_epoch, rest = pick(measured, axis=0)
                totals[name] += run.all_epochs * per_epoch + rest
    return totals / 3600


def _find_kind(parameters: Mapping) -> tuple[str, str]:
    return parameters["network"], parameters["precision"]


def select_best(results: Sequence[Result]) -> Result:
    """Return the network with the highest mean average precision; without networks, any method."""
    networks = [result for result in results if "network" in result.parameters] or results
    return max(networks, key=lambda result: result.retrieval.mean_average_precision)


def index_by_name(results: Sequence[Result]) -> dict[str, Result]:
    """Return results by the names of their methods, with the seed if a method has several."""
    names = [name_method(result) for result in results]
    return {
        f"{name}, seed {result.parameters['seed']}" if names.count(name) > 1 else name: result
        for name, result in zip(names, results, strict=True)
    }


def tabulate_methods(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row per method, in percent: accuracies and mAP with 95 % intervals, precisions.

    ``accuracy``, ``balanced accuracy`` and ``mAP``, each with ``low`` and ``high``; ``P@1``,
    ``P@5``, ``P@10``, ``R-precision``; ``seeds``, 0 where nothing is trained; ``distance``;
    ``seconds`` of a run. For a network with several seeds these are means over the seeds, and the
    intervals of accuracy and mAP come from resampling seeds and subjects
    (:func:`cbir_lib.evaluation.intervals.compute_paired_interval`); that of balanced accuracy spans
    the intervals of the seeds.
    """
    groups = group_by_method(results)
    return pd.DataFrame.from_dict(
        {name: _summarise_method(runs) for name, runs in groups.items()}, orient="index"
    )


def _summarise_method(runs: Sequence[Result]) -> dict:
    """Return the row of :func:`tabulate_methods` for the runs of one method."""
    first = runs[0]
    answers = [r.classification for r in runs]
    searches = [r.retrieval for r in runs]
    row = {}
    for measure, values, interval in (
        ("accuracy", [a.accuracy for a in answers], first.classification.accuracy_interval),
        (
            "balanced accuracy",
            [a.balanced_accuracy for a in answers],
            _find_span([a.balanced_accuracy_interval for a in answers]),
        ),
        (
            "mAP",
            [s.mean_average_precision for s in searches],
            first.retrieval.mean_average_precision_interval,
        ),
    ):
        if len(runs) > 1 and measure != "balanced accuracy":
            scores = np.array([score_queries(r, measure) for r in runs])
            known = ~np.isnan(scores).any(axis=0)
            owner = first.data.test_subjects and np.array(first.data.test_subjects)[known]
            interval = compute_paired_interval(scores[:, known], subjects=owner)
        row |= {measure: 100 * np.mean(values)}
        row |= {f"{measure} low": 100 * interval[0], f"{measure} high": 100 * interval[1]}
    return row | {
        **{
            f"P@{k}": 100 * np.mean([getattr(s, f"precision_at_{k}") for s in searches])
            for k in (1, 5, 10)
        },
        "R-precision": 100 * np.mean([s.r_precision for s in searches]),
        "seeds": len(runs) if "network" in first.parameters else 0,
        "distance": first.retrieval.distance,
        "seconds": np.mean([sum(r.circumstances.seconds.values()) for r in runs]),
    }


def _find_span(intervals: Sequence[Sequence[float]]) -> tuple[float, float]:
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def tabulate_rules(result: Result) -> pd.DataFrame:
    """Return one row per classification rule, in percent, formatted for display."""
    return pd.DataFrame(
        {
            rule.rule: {
                "accuracy (%)": format_share(rule.accuracy, rule.accuracy_interval),
                "balanced (%)": format_share(
                    rule.balanced_accuracy, rule.balanced_accuracy_interval
                ),
                "validation (%)": f"{100 * rule.validation_accuracy:.1f}",
                "settings": format_settings(rule.settings) or DASH,
            }
            for rule in result.rules
        }
    ).T


def tabulate_rules_of_methods(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row per method: the accuracy of each classification rule, and mAP, for display.

    In percent with 95 % intervals; a dash where a rule does not apply.
    """
    table = pd.DataFrame(
        {
            name_method(result): {
                f"{rule.rule} (%)": format_share(rule.accuracy, rule.accuracy_interval)
                for rule in result.rules
            }
            | {
                "mAP (%)": format_share(
                    result.retrieval.mean_average_precision,
                    result.retrieval.mean_average_precision_interval,
                )
            }
            for result in results
        }
    ).T.fillna(DASH)
    return table[[*table.columns.drop("mAP (%)"), "mAP (%)"]]


def compare_interval_widths(results: Sequence[Result]) -> float:
    """Return how much wider intervals of mAP over subjects are than those over images.

    The median over the methods of the ratio of the widths.
    """
    return float(
        np.median(
            [
                np.ptp(r.retrieval.mean_average_precision_interval_of_subjects)
                / np.ptp(r.retrieval.mean_average_precision_interval)
                for r in results
            ]
        )
    )


def tabulate_candidates(result: Result) -> pd.DataFrame:
    """Return one row per candidate tried on the validation split, formatted for display."""
    return pd.DataFrame(
        {
            "settings": [format_settings(c.settings) or "defaults" for c in result.candidates],
            "accuracy (%)": [f"{100 * c.accuracy:.1f}" for c in result.candidates],
            "mAP (%)": [f"{100 * c.mean_average_precision:.1f}" for c in result.candidates],
            "values": [c.values or "" for c in result.candidates],
            "chosen": ["✓" if c is result.chosen else "" for c in result.candidates],
        }
    ).set_index("settings")

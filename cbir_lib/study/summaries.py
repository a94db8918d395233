"""TODO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cbir_lib.errors import CbirError
from cbir_lib.evaluation.intervals import paired_interval
from cbir_lib.study.pairwise import of_each_query
from cbir_lib.study.results import Result, method, variant_of
from cbir_lib.study.wording import in_words, with_interval


def of_descriptors(found: Sequence[Result], names: Sequence[str]) -> dict[str, Result]:
    """Return the results of handcrafted descriptors, by their names in ``study.yml``.

    Raises
    ------
    CbirError
        When there is none of one of them.
    """
    by_descriptor = {r.parameters.get("descriptor"): r for r in found}
    if missing := [name for name in names if name not in by_descriptor]:
        raise CbirError(
            f"the study has no result of {', '.join(missing)}",
            "enter it in grid.descriptors of study.yml, or take its chapter out of the Snakefile",
        )
    return {name: by_descriptor[name] for name in names}


def networks_table(found: Sequence[Result]) -> pd.DataFrame:
    """One row a run of a network: ``network``, ``variant``, ``seed``, and in percent its measures.

    ``accuracy`` and ``balanced accuracy`` (test split, largest score), ``validation accuracy``,
    ``mAP``; ``best epoch``, ``epochs``; ``training s``. The index is the run's name.
    """
    rows = {}
    for result in found:
        answers, curves = result.classification, result.training
        rows[result.run] = {
            "network": result.parameters["network"],
            "variant": variant_of(result),
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


def best(found: Sequence[Result]) -> Result:
    """The network with the highest mean average precision; any method where there is no network."""
    networks = [result for result in found if "network" in result.parameters] or found
    return max(networks, key=lambda result: result.retrieval.mean_average_precision)


def by_name(found: Sequence[Result]) -> dict[str, Result]:
    """Results by what tables call them; seeds told apart where a method has several."""
    names = [method(result) for result in found]
    return {
        f"{name}, seed {result.parameters['seed']}" if names.count(name) > 1 else name: result
        for name, result in zip(names, found, strict=True)
    }


def table(found: Sequence[Result]) -> pd.DataFrame:
    """Return one row a method, in percent: accuracies with their 95 % intervals, ranking measures.

    ``accuracy``, ``balanced accuracy`` and ``mAP``, each with ``low`` and ``high``; ``P@1``,
    ``P@5``, ``P@10``, ``R-precision``; ``seeds``, 0 where nothing is trained; ``distance``;
    ``seconds`` of a run. Of a network with several seeds it is the mean of these, and the intervals
    of accuracy and mAP are from resampling seeds and subjects
    (:func:`cbir_lib.evaluation.intervals.paired_interval`); that of balanced accuracy spans the seeds'.
    """
    of_method: dict[str, list[Result]] = {}
    for result in found:
        of_method.setdefault(method(result), []).append(result)
    return pd.DataFrame.from_dict(
        {name: _row(of) for name, of in of_method.items()}, orient="index"
    )


def _row(of: Sequence[Result]) -> dict:
    """Return the row of :func:`table` for the runs of one method."""
    first = of[0]
    answers = [r.classification for r in of]
    searches = [r.retrieval for r in of]
    row = {}
    for measure, values, interval in (
        ("accuracy", [a.accuracy for a in answers], first.classification.accuracy_interval),
        (
            "balanced accuracy",
            [a.balanced_accuracy for a in answers],
            _span([a.balanced_accuracy_interval for a in answers]),
        ),
        (
            "mAP",
            [s.mean_average_precision for s in searches],
            first.retrieval.mean_average_precision_interval,
        ),
    ):
        if len(of) > 1 and measure != "balanced accuracy":
            drawn = np.array([of_each_query(r, measure) for r in of])
            known = ~np.isnan(drawn).any(axis=0)
            owner = first.data.test_subjects and np.array(first.data.test_subjects)[known]
            interval = paired_interval(drawn[:, known], subjects=owner)
        row |= {measure: 100 * np.mean(values)}
        row |= {f"{measure} low": 100 * interval[0], f"{measure} high": 100 * interval[1]}
    return row | {
        **{
            f"P@{k}": 100 * np.mean([getattr(s, f"precision_at_{k}") for s in searches])
            for k in (1, 5, 10)
        },
        "R-precision": 100 * np.mean([s.r_precision for s in searches]),
        "seeds": len(of) if "network" in first.parameters else 0,
        "distance": first.retrieval.distance,
        "seconds": np.mean([sum(r.circumstances.seconds.values()) for r in of]),
    }


def _span(intervals: Sequence[Sequence[float]]) -> tuple[float, float]:
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def rules_table(result: Result) -> pd.DataFrame:
    """One row a way to name classes, in percent; ready to be shown."""
    return pd.DataFrame(
        {
            rule.rule: {
                "accuracy (%)": with_interval(rule.accuracy, rule.accuracy_interval),
                "balanced (%)": with_interval(
                    rule.balanced_accuracy, rule.balanced_accuracy_interval
                ),
                "validation (%)": f"{100 * rule.validation_accuracy:.1f}",
                "set": in_words(rule.settings),
            }
            for rule in result.rules
        }
    ).T


def candidates_table(result: Result) -> pd.DataFrame:
    """One row for each of the settings tried on the validation split; ready to be shown."""
    return pd.DataFrame(
        {
            "settings": [in_words(c.settings) or "as they are" for c in result.candidates],
            "accuracy (%)": [f"{100 * c.accuracy:.1f}" for c in result.candidates],
            "mAP (%)": [f"{100 * c.mean_average_precision:.1f}" for c in result.candidates],
            "values": [c.values or "" for c in result.candidates],
            "chosen": ["✓" if c is result.chosen else "" for c in result.candidates],
        }
    ).set_index("settings")

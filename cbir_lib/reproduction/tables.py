"""The paper's tables next to the corresponding numbers of this study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import confint_proportions_2indep

from cbir_lib.evaluation.intervals import compute_paired_interval
from cbir_lib.reproduction import paper, remedies
from cbir_lib.reproduction.paper import Comparison, Side
from cbir_lib.reproduction.verdicts import (
    compute_scores,
    find_descriptor,
    find_runs,
    get_subjects,
    pair_runs,
)
from cbir_lib.study.pairwise import Measure
from cbir_lib.study.results import Result, name_method, name_variant

SAME, HIGHER, LOWER = "≈", "▲", "▼"  # marks for this study's numbers next to the paper's


def get_side(row: str) -> Side:
    """Return a row of the paper's Table 4 as a side of a comparison, trained as there."""
    return (row, paper.TRAINED[row]) if row in paper.TRAINED else row


def compute_mean(
    results: Sequence[Result], side: Side, measure: Measure = "accuracy"
) -> dict | None:
    """Compute the mean of one side of a comparison; None if it was not run.

    Returns
    -------
    dict or None
        In percent: ``mean`` over the seeds, and its 95 % interval ``low``, ``high`` from
        resampling seeds and images. ``seeds``, 0 if nothing is trained, and ``results``.
    """
    if isinstance(side, str):
        runs = [r for r in [find_descriptor(results, side)] if r]
    else:
        runs = [*find_runs(results, side).values()]
    if not runs:
        return None
    values = np.array([compute_scores(r, measure) for r in runs])
    known = ~np.isnan(values).any(axis=0)
    owners = get_subjects(runs[0])
    low, high = compute_paired_interval(
        values[:, known], subjects=None if owners is None else owners[known]
    )
    return {
        "mean": values[:, known].mean(),
        "low": low,
        "high": high,
        "seeds": len(runs) if isinstance(side, tuple) else 0,
        "results": runs,
    }


def compare_table_4(results: Sequence[Result]) -> pd.DataFrame:
    """Compare the paper's Table 4 with this study, trained in the same way; one row per method.

    ``paper`` and ``here`` in percent with ``low`` and ``high``, ``plain`` without remedies; ranks
    among the rows that both have; ``mark``, :data:`SAME` if the paper's number lies in the
    interval, else :data:`HIGHER` or :data:`LOWER` here; ``seeds``.
    """
    rows = {}
    for name, value in paper.TABLE_4.items():
        here = compute_mean(results, get_side(name)) or {}
        plain = compute_mean(results, (name, "")) if name in paper.TRAINED else None
        rows[name] = {
            "paper": value,
            "here": here.get("mean", np.nan),
            **{key: here.get(key, np.nan) for key in ("low", "high")},
            "plain": plain["mean"] if plain else np.nan,
            "seeds": here.get("seeds", 0),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    both = table["here"].notna()
    table["paper rank"] = table["paper"].where(both).rank(ascending=False, method="min")
    table["rank"] = table["here"].rank(ascending=False, method="min")
    table["mark"] = [
        mark_difference(row.paper, row.low, row.high) if np.isfinite(row.here) else ""
        for row in table.itertuples()
    ]
    return table


def mark_difference(published: float, low: float, high: float) -> str:
    """Return the mark for a published number and the interval measured here."""
    return HIGHER if low > published else LOWER if high < published else SAME


def compute_interval(one: float, other: float, images: int) -> tuple[float, float]:
    """Compute the 95 % interval of the difference of two published accuracies of single runs.

    In percentage points, for two independent shares of ``images`` images each (Newcombe 1998,
    method 10). Two networks on the same images are more alike than that, but the paper does not
    say on which images they differ.
    """
    counts = [round(value * images / 100) for value in (one, other)]
    low, high = confint_proportions_2indep(counts[0], images, counts[1], images, method="newcomb")
    return 100 * low, 100 * high


def compare_remedies(results: Sequence[Result], variant: str) -> pd.DataFrame:
    """Compare the paper's Table 5, 6 or 7 with this study: each network with a remedy and without.

    In percent ``paper without``, ``paper with``, ``without``, ``with``; their differences in points
    ``paper``, and ``difference`` with ``low``, ``high``; ``seeds``; and ``direction``: ``same`` or
    ``opposite`` to the paper's if the interval excludes 0, else ``open``; empty if the paper has
    no difference.
    """
    rows, measured = {}, remedies.measure_remedy(results, variant)
    for name in paper.TRAINED:
        comparison = Comparison((name, variant), (name, ""))
        row = dict(
            zip(
                ("paper with", "paper without"),
                map(paper.get_published_accuracy, comparison.sides),
                strict=True,
            )
        )
        row["paper"] = paper.get_published_difference(comparison)
        if name in measured:
            ours = measured[name]
            off = int(ours["low"] > 0) - int(ours["high"] < 0)
            direction = (
                "open" if not off else "same" if off * (row["paper"] or 0) > 0 else "opposite"
            )
            row |= {
                "with": ours["one"],
                "without": ours["other"],
                **{key: ours[key] for key in ("difference", "low", "high", "seeds")},
                "direction": "" if row["paper"] is None else direction,
            }
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def select_table_4(results: Sequence[Result]) -> list[Result]:
    """Select the results for the paper's Table 4: all handcrafted methods, and networks twice.

    Every network A to G with plain training and trained as in Table 4, all seeds, on all classes.
    """
    return [
        r
        for r in results
        if "network" not in r.parameters
        or (
            name_variant(r) in ("", paper.TRAINED.get(r.parameters["network"], ""))
            and r.parameters["network"] in paper.TRAINED
        )
    ]


def select_one_run_per_method(results: Sequence[Result]) -> list[Result]:
    """Select every handcrafted method and one run per network: as in Table 4, with the lowest seed.

    For a network that was not trained in that way, plain training is used.
    """
    chosen: dict[str, Result] = {}
    for r in sorted(select_table_4(results), key=lambda r: r.parameters.get("seed", 0)):
        network = r.parameters.get("network", r.run)
        other = chosen.get(network)
        if other is None or (name_variant(r) and not name_variant(other)):
            chosen[network] = r
    return list(chosen.values())


def find_comparable_row(parameters: Mapping, variant: str) -> str | None:
    """Return the row of Table 4 that a run may be put next to.

    None if the paper has none, or if a network was not trained as in that row.
    """
    network = parameters.get("network")
    if network in paper.TRAINED and variant != paper.TRAINED[network]:
        return None
    return paper.find_row(dict(parameters))


def find_comparable_rows(results: Sequence[Result]) -> dict[str, str | None]:
    """Return the row of the paper's Table 4 that each method may be compared with, by its name."""
    return {
        name_method(r): find_comparable_row(
            r.parameters, name_variant(r) if "network" in r.parameters else ""
        )
        for r in results
    }


def tabulate_published_gains() -> pd.DataFrame:
    """Return the paper's gains in Tables 5 to 7, one row per network and remedy, in points.

    ``difference``, and ``low`` and ``high``, its 95 % interval if each accuracy is a share of the
    images of IRMA's test list (:func:`compute_interval`).
    """
    images = sum(paper.IRMA_2009["test"].values())
    rows = {}
    for remedy, variant in remedies.REMEDIES.items():
        for name in paper.TRAINED:
            before, after = (paper.get_published_accuracy((name, v)) for v in ("", variant))
            if before is not None and after is not None:
                low, high = compute_interval(after, before, images)
                difference = {"difference": after - before, "low": low, "high": high}
                rows[f"{name} with {remedy}"] = difference
    return pd.DataFrame.from_dict(rows, orient="index")


def list_compared_runs(results: Sequence[Result], variant: str) -> list[Result]:
    """Return the runs that :func:`compare_remedies` compares, with and without the remedy."""
    pairs = [pair_runs(results, Comparison((n, variant), (n, ""))) for n in paper.TRAINED]
    return [r for pair in pairs if pair for r in (*pair.one, *pair.other)]

"""TODO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import confint_proportions_2indep

from cbir_lib.evaluation.intervals import paired_interval
from cbir_lib.reproduction import paper
from cbir_lib.reproduction.paper import Comparison, Side
from cbir_lib.reproduction.verdicts import (
    HIGHER,
    LOWER,
    SAME,
    differences,
    family,
    pairs,
    runs_of,
    scores,
    subjects,
)
from cbir_lib.study.pairwise import Measure
from cbir_lib.study.results import Result, variant_of


def in_table_4(row: str) -> Side:
    """A row of the paper's Table 4 as it was trained."""
    return (row, paper.TRAINED[row]) if row in paper.TRAINED else row


def mean_of(found: Sequence[Result], side: Side, measure: Measure = "accuracy") -> dict | None:
    """Return how good one side is on average; None where it was not run.

    Returns
    -------
    dict or None
        In percent ``mean`` over the seeds, with its 95 % interval ``low``, ``high``: of seeds and
        images resampled. ``seeds``, 0 where nothing is trained, and ``results``.
    """
    if isinstance(side, str):
        of = [r for r in [family(found, side)] if r]
    else:
        of = [*runs_of(found, side).values()]
    if not of:
        return None
    values = np.array([scores(r, measure) for r in of])
    known = ~np.isnan(values).any(axis=0)
    owners = subjects(of[0])
    low, high = paired_interval(
        values[:, known], subjects=None if owners is None else owners[known]
    )
    return {
        "mean": values[:, known].mean(),
        "low": low,
        "high": high,
        "seeds": len(of) if isinstance(side, tuple) else 0,
        "results": of,
    }


def table_4(found: Sequence[Result]) -> pd.DataFrame:
    """The paper's Table 4 beside ours: one row each, trained as there.

    ``paper`` and ``here`` in percent with ``low`` and ``high``, ``plain`` without remedies; ranks
    among the rows that both have; ``mark``, :data:`SAME` where the paper's number lies in the
    interval, else :data:`HIGHER` or :data:`LOWER` here; ``seeds``.
    """
    rows = {}
    for name, value in paper.TABLE_4.items():
        here = mean_of(found, in_table_4(name)) or {}
        plain = mean_of(found, (name, "")) if name in paper.TRAINED else None
        rows[name] = {
            "paper": value,
            "here": here.get("mean", np.nan),
            **{key: here.get(key, np.nan) for key in ("low", "high")},
            "plain": plain["mean"] if plain else np.nan,
            "seeds": here.get("seeds", 0),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    both = table["here"].notna()
    table["paper rank"] = table["paper"].where(both).rank(ascending=False)
    table["rank"] = table["here"].rank(ascending=False)
    table["mark"] = [
        mark(row.paper, row.low, row.high) if np.isfinite(row.here) else ""
        for row in table.itertuples()
    ]
    return table


def mark(published: float, low: float, high: float) -> str:
    """How what was measured here lies to a published number."""
    return HIGHER if low > published else LOWER if high < published else SAME


def spread(one: float, other: float, images: int) -> tuple[float, float]:
    """95 % interval of the difference of two published accuracies, percent, each of one run.

    Of two independent shares of as many images (Newcombe 1998, method 10). Two networks on the same
    images are more alike than that, but the paper does not say on which images they differ.
    """
    counts = [round(value * images / 100) for value in (one, other)]
    low, high = confint_proportions_2indep(counts[0], images, counts[1], images, method="newcomb")
    return 100 * low, 100 * high


def remedies(found: Sequence[Result], variant: str) -> pd.DataFrame:
    """The paper's Table 5, 6 or 7 beside ours: each network with a way of training against plain.

    In percent ``paper without``, ``paper with``, ``without``, ``with``; their differences in points
    ``paper``, and ``difference`` with ``low``, ``high``; ``seeds``; and ``direction``: ``same`` or
    ``opposite`` to the paper's where the interval lies off 0, else ``open``; empty where the paper
    has none.
    """
    rows = {}
    for name in paper.TRAINED:
        comparison = Comparison((name, variant), (name, ""))
        row = dict(
            zip(
                ("paper with", "paper without"), map(paper.published, comparison.sides), strict=True
            )
        )
        row["paper"] = paper.published_difference(comparison)
        both = pairs(found, comparison)
        if both:
            points = differences(both, comparison)
            low, high = paired_interval(points, subjects=subjects(both.data))
            means = [
                np.mean([scores(r, "accuracy").mean() for r in of]) for of in (both.one, both.other)
            ]
            off = int(low > 0) - int(high < 0)
            direction = (
                "open" if not off else "same" if off * (row["paper"] or 0) > 0 else "opposite"
            )
            row |= {
                "with": means[0],
                "without": means[1],
                "difference": points.mean(),
                "low": low,
                "high": high,
                "seeds": len(both.one),
                "direction": "" if row["paper"] is None else direction,
            }
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def select_table_4(found: Sequence[Result]) -> list[Result]:
    """Return what stands beside the paper's Table 4: all handcrafted methods, and networks twice.

    Every network A to G plainly trained and trained as in Table 4, all seeds, on all classes.
    """
    return [
        r
        for r in found
        if "network" not in r.parameters
        or (
            variant_of(r) in ("", paper.TRAINED.get(r.parameters["network"], ""))
            and r.parameters["network"] in paper.TRAINED
        )
    ]


def one_run_per_method(found: Sequence[Result]) -> list[Result]:
    """Return every handcrafted method, and of each network one run: as Table 4 has it, seed lowest.

    A network that was not trained so is taken plainly trained.
    """
    chosen: dict[str, Result] = {}
    for r in sorted(select_table_4(found), key=lambda r: r.parameters.get("seed", 0)):
        network = r.parameters.get("network", r.run)
        other = chosen.get(network)
        if other is None or (variant_of(r) and not variant_of(other)):
            chosen[network] = r
    return list(chosen.values())

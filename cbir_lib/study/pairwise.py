"""Paired comparisons of results that were measured on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from cbir_lib.errors import CbirError
from cbir_lib.evaluation.intervals import compute_paired_interval
from cbir_lib.evaluation.significance import (
    adjust_by_holm,
    compute_critical_difference,
    run_mcnemar_test,
    run_permutation_test,
)
from cbir_lib.study.results import Result, name_variant, same_images

Measure = Literal["accuracy", "mAP", "P@1", "P@10"]


def compute_difference(
    results: Sequence[Result],
    one: tuple[str, str],
    other: tuple[str, str],
    measure: Measure = "accuracy",
) -> dict[str, float] | None:
    """Compute how far one (network, variant) is ahead of another, paired by seed and by image.

    Returns
    -------
    dict or None
        In percentage points: ``difference``, and ``low`` and ``high``, its 95 % interval
        (:func:`cbir_lib.evaluation.intervals.compute_paired_interval`); ``seeds``, the number
        that both have; ``lowest`` and ``highest`` of the seeds' differences. In percent ``one`` and
        ``other``, the means of the two over these seeds. None without a common seed.

    Raises
    ------
    CbirError
        When the two were measured on different images.
    """
    runs = {(r.parameters["network"], name_variant(r), r.parameters["seed"]): r for r in results}
    seeds = sorted(s for *which, s in runs if tuple(which) == one and (*other, s) in runs)
    if not seeds:
        return None
    rows = []
    for seed in seeds:
        pair = runs[*one, seed], runs[*other, seed]
        if not same_images(*pair):
            raise CbirError(
                f"{pair[0].run} and {pair[1].run} were measured on different images",
                "compare runs of the same images and classes",
            )
        rows.append([score_queries(result, measure) for result in pair])
    scores = 100 * np.array(rows)  # by seed, side and query
    known = ~np.isnan(scores).any(axis=(0, 1))
    first, second = scores[:, 0, known], scores[:, 1, known]
    differences, subjects = first - second, pair[0].data.test_subjects
    low, high = compute_paired_interval(
        differences, subjects=subjects and np.array(subjects)[known]
    )
    of_seeds = differences.mean(axis=1)
    return {
        "difference": float(differences.mean()),
        "low": low,
        "high": high,
        "one": float(first.mean()),
        "other": float(second.mean()),
        "seeds": len(seeds),
        "lowest": float(of_seeds.min()),
        "highest": float(of_seeds.max()),
    }


def score_queries(result: Result, measure: Measure) -> np.ndarray:
    """Return (Q,) float: 1 where the method's own answer is correct, or a precision, maybe NaN."""
    if measure == "accuracy":
        return np.equal(result.answers, result.data.test_labels).astype(float)
    name = {"mAP": "average_precisions", "P@1": "precisions_at_1", "P@10": "precisions_at_10"}[
        measure
    ]
    return np.array(getattr(result.retrieval, name), float)


def run_paired_tests(results: Mapping[str, Result], measure: Measure, against: str) -> pd.DataFrame:
    """Compare one method, ``against``, with every other one on the same queries; one row each.

    ``difference``, ``low`` and ``high`` (95 % interval) in percentage points; ``p``, McNemar's for
    accuracy, by permutation for mAP; ``holm``, the same adjusted for the number of rows. Intervals
    and permutations are over subjects where these are known.

    Raises
    ------
    CbirError
        When the methods were measured on different images.
    """
    best, rows = results[against], {}
    subjects = best.data.test_subjects
    for name, result in results.items():
        if name == against:
            continue
        if not same_images(best, result):
            raise CbirError(
                f"{best.run} and {result.run} were measured on different images",
                "compare runs of the same images and classes",
            )
        first, second = (score_queries(r, measure) for r in (best, result))
        known = ~np.isnan(first - second)
        gaps, owner = (first - second)[known], subjects and np.array(subjects)[known]
        low, high = compute_paired_interval(100 * gaps[None], subjects=owner)
        p = (
            run_mcnemar_test(first, second)
            if measure == "accuracy"
            else run_permutation_test(gaps, subjects=owner)
        )
        rows[name] = {"difference": 100 * gaps.mean(), "low": low, "high": high, "p": p}
    columns = ["difference", "low", "high", "p"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=None if rows else columns)
    return table.assign(holm=adjust_by_holm(table["p"]))


def compute_mean_ranks(results: Mapping[str, Result]) -> tuple[pd.Series, float, int]:
    """Rank the methods by average precision per query, or per subject where subjects are known.

    Returns
    -------
    Series
        The mean rank of each method, 1 the best.
    float
        The critical difference of two mean ranks
        (:func:`cbir_lib.evaluation.significance.compute_critical_difference`).
    int
        The number of blocks ranked: subjects, by the mean of their queries, or queries.
    """
    values = pd.DataFrame({name: score_queries(r, "mAP") for name, r in results.items()})
    subjects = next(iter(results.values())).data.test_subjects
    known = values.notna().all(axis=1)
    values = values[known]
    if subjects:
        values = values.groupby(np.array(subjects)[known]).mean()
    ranks, critical = compute_critical_difference(values.to_numpy())
    return pd.Series(ranks, values.columns), critical, len(values)

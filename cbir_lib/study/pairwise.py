"""TODO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from cbir_lib.errors import CbirError
from cbir_lib.evaluation.intervals import paired_interval
from cbir_lib.evaluation.significance import holm, mcnemar, nemenyi, permutation
from cbir_lib.study.results import Result, same_images, variant_of

Measure = Literal["accuracy", "mAP", "P@1", "P@10"]


def difference(
    found: Sequence[Result],
    one: tuple[str, str],
    other: tuple[str, str],
    measure: Measure = "accuracy",
) -> dict[str, float] | None:
    """How far the first (network, variant) is ahead of the second, seed by seed and image by image.

    Returns
    -------
    dict or None
        In percentage points: ``difference``, and ``low`` and ``high``, its 95 % interval
        (:func:`cbir_lib.evaluation.intervals.paired_interval`); ``seeds``, how many both have; ``lowest`` and
        ``highest`` of the seeds' differences. None where they have no seed in common.

    Raises
    ------
    CbirError
        When the two were measured on different images.
    """
    runs = {(r.parameters["network"], variant_of(r), r.parameters["seed"]): r for r in found}
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
        first, second = (of_each_query(result, measure) for result in pair)
        rows.append(100 * (first - second))
    known = ~np.isnan(rows).any(axis=0)
    differences, subjects = np.array(rows)[:, known], pair[0].data.test_subjects
    low, high = paired_interval(differences, subjects=subjects and np.array(subjects)[known])
    of_seeds = differences.mean(axis=1)
    return {
        "difference": float(differences.mean()),
        "low": low,
        "high": high,
        "seeds": len(seeds),
        "lowest": float(of_seeds.min()),
        "highest": float(of_seeds.max()),
    }


def of_each_query(result: Result, measure: Measure) -> np.ndarray:
    """(Q,) float: 1 where the method's own answer is right, or a precision, which may be NaN."""
    if measure == "accuracy":
        return np.equal(result.answers, result.data.test_labels).astype(float)
    name = {"mAP": "average_precisions", "P@1": "precisions_at_1", "P@10": "precisions_at_10"}[
        measure
    ]
    return np.array(getattr(result.retrieval, name), float)


def paired_tests(found: Mapping[str, Result], measure: Measure, against: str) -> pd.DataFrame:
    """One row a method: how far one of them, ``against``, is ahead of it on the same queries.

    ``difference``, ``low`` and ``high`` (95 % interval) in percentage points; ``p``, McNemar's for
    accuracy, by permutation for mAP; ``holm``, the same adjusted for the number of rows. Intervals
    and permutations are over subjects where these are known.

    Raises
    ------
    CbirError
        When the methods were measured on different images.
    """
    best, rows = found[against], {}
    subjects = best.data.test_subjects
    for name, result in found.items():
        if name == against:
            continue
        if not same_images(best, result):
            raise CbirError(
                f"{best.run} and {result.run} were measured on different images",
                "compare runs of the same images and classes",
            )
        first, second = (of_each_query(r, measure) for r in (best, result))
        known = ~np.isnan(first - second)
        gaps, owner = (first - second)[known], subjects and np.array(subjects)[known]
        low, high = paired_interval(100 * gaps[None], subjects=owner)
        p = mcnemar(first, second) if measure == "accuracy" else permutation(gaps, subjects=owner)
        rows[name] = {"difference": 100 * gaps.mean(), "low": low, "high": high, "p": p}
    columns = ["difference", "low", "high", "p"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=None if rows else columns)
    return table.assign(holm=holm(table["p"]))


def mean_ranks(found: Mapping[str, Result]) -> tuple[pd.Series, float, int]:
    """Ranks of the methods by average precision, query by query; subject by subject where known.

    Returns
    -------
    Series
        The mean rank of each method, 1 the best.
    float
        The critical difference of two mean ranks (:func:`cbir_lib.evaluation.significance.nemenyi`).
    int
        How many blocks were ranked: subjects, by the mean of their queries, or queries.
    """
    values = pd.DataFrame({name: of_each_query(r, "mAP") for name, r in found.items()})
    subjects = next(iter(found.values())).data.test_subjects
    known = values.notna().all(axis=1)
    values = values[known]
    if subjects:
        values = values.groupby(np.array(subjects)[known]).mean()
    ranks, critical = nemenyi(values.to_numpy())
    return pd.Series(ranks, values.columns), critical, len(values)

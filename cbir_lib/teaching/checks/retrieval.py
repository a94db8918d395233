"""Exercises on rankings and their measures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from cbir_lib import Index
from cbir_lib.descriptors.thumbnail import Thumbnail
from cbir_lib.evaluation import measures
from cbir_lib.evaluation.significance import adjust_by_holm
from cbir_lib.teaching.answers import Array, Expected, Function, Number
from cbir_lib.teaching.material import load_examples

RANKS = (1, 2, 4, 7)


def average_precision(ranks: Sequence[int]) -> float:
    """Compute the average precision of relevant items at these ranks, which are all there are."""
    relevant = np.zeros((1, max(ranks)), bool)
    relevant[0, np.array(ranks) - 1] = True
    return float(measures.average_precision(relevant)[0])


def write_average_precision() -> tuple[Expected, ...]:
    """Write average precision, and compute the R-precision of one ranking."""
    relevant = np.isin(np.arange(1, 8), RANKS)[None]
    return (
        Function(
            "average_precision",
            average_precision,
            cases=[([1, 2, 3],), ([2],), (list(RANKS),)],
            hidden=[([5, 1],), ([3, 4, 10],), ([100],)],
            hint="At the rank of the i-th relevant item the precision is i / rank; take the mean.",
        ),
        Number(
            "r_precision",
            float(measures.r_precision(relevant)[0]),
            "The share of relevant items among the first R, where R is the number of relevant "
            "items.",
            tolerance=1e-6,
        ),
    )


def break_ties() -> tuple[Expected, ...]:
    """Compute the average precision of each order of equals, and their mean."""
    orders = [average_precision([1, *pair, 7]) for pair in combinations((2, 3, 4), 2)]
    relevant = np.isin(np.arange(1, 8), RANKS)[None]
    distances = np.array([[1, 2, 2, 2, 3, 4, 5]], float)
    return (
        Array(
            "precisions",
            sorted(orders),
            "Two of the ranks 2, 3 and 4 are relevant: three orders. Give the lowest first.",
            tolerance=1e-4,
        ),
        Number(
            "mean",
            float(measures.average_precision(relevant, distances)[0]),
            "The three orders are equally probable.",
            tolerance=1e-4,
        ),
    )


def find_oneself() -> tuple[Expected, ...]:
    """Compute what happens when queries find themselves."""
    data = load_examples()
    index = Index("L2")
    vectors = Thumbnail(16).transform(data.images)
    index.add(vectors, data.image_ids)
    scores = {}
    for name, ids in (("with_self", None), ("without_self", data.image_ids)):
        ranking = index.search(vectors, ids=ids)
        relevant = measures.find_relevant(ranking, data.labels, data.labels)
        scores[name] = [
            float(measures.precision_at(relevant, 1, ranking.distances).mean()),
            float(measures.average_precision(relevant, ranking.distances).mean()),
        ]
    hint = "P@1, then mAP, as shares, from precision_at and average_precision with the distances. "
    return (
        Array("with_self", scores["with_self"], hint, tolerance=5e-3),
        Array(
            "without_self",
            scores["without_self"],
            hint + "Give the queries' identifiers to the search: ids=data.image_ids.",
            tolerance=5e-3,
        ),
    )


def adjust_three() -> tuple[Expected, ...]:
    """Adjust three p values for their number."""
    return (
        Array(
            "adjusted",
            adjust_by_holm(np.array([0.01, 0.04, 0.03])),
            "Multiply the smallest by 3, the next by 2, the last by 1; none may be smaller than "
            "one before it. Give them in the order of the p values.",
            tolerance=1e-6,
        ),
    )


EXERCISES = (write_average_precision, break_ties, find_oneself, adjust_three)

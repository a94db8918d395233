"""How good answers are: accuracy of classes, and of rankings.

Ranking measures take ``relevant``, a (Q, K) boolean array: whether each item of a query's whole
ranking has the query's class, nearest first, the query itself left out. Queries without any
relevant item have no average precision; they are left out of means and counted.
"""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix

from cbir_lib.errors import CbirError
from cbir_lib.retrieval import Ranking

CUTOFFS = (1, 5, 10)
DRAWS = 2000  # of a bootstrap
RECALL_LEVELS = np.linspace(0, 1, 101)


def classification(labels: np.ndarray, predicted: np.ndarray, classes: int) -> dict:
    """Accuracy, balanced accuracy (mean of the classes' recalls) and confusion matrix.

    Differs from the paper: its formula (TP + TN) / all is the one for two classes. For several
    classes this is the share of right answers.

    Returns
    -------
    dict
        ``accuracy``, ``balanced_accuracy`` in 0..1; their 95 % intervals ``accuracy_interval``
        (Wilson, 1927) and ``balanced_accuracy_interval`` (percentile bootstrap over images, 2,000
        draws); ``confusion``, (classes, classes) counts, rows true, columns predicted.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if len(labels) == 0 or len(labels) != len(predicted):
        raise CbirError(
            f"{len(predicted)} answers for {len(labels)} images", "give one answer an image"
        )
    right = int((labels == predicted).sum())
    interval = stats.binomtest(right, len(labels)).proportion_ci(0.95, method="wilson")
    confusion = confusion_matrix(labels, predicted, labels=range(classes))
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        # A bootstrap would call an accuracy of 100 % certain.
        "accuracy_interval": [float(interval.low), float(interval.high)],
        "balanced_accuracy": float(balanced_accuracy_score(labels, predicted)),
        "balanced_accuracy_interval": balanced_interval(confusion),
        "confusion": confusion.tolist(),
    }


def balanced_interval(confusion: np.ndarray, seed: int = 0) -> list[float]:
    """95 % percentile bootstrap interval of the balanced accuracy, 2,000 draws of the images.

    Drawing images with replacement draws their numbers by class and rightness from a multinomial
    distribution. A class that a draw leaves out has no recall in it.
    """
    right = np.diag(confusion)
    cells = np.concatenate([right, confusion.sum(axis=1) - right])
    draws = np.random.default_rng(seed).multinomial(cells.sum(), cells / cells.sum(), DRAWS)
    right, wrong = np.split(draws, 2, axis=1)
    recalls = np.divide(
        right, right + wrong, out=np.full(right.shape, np.nan), where=right + wrong > 0
    )
    low, high = np.quantile(np.nanmean(recalls, axis=1), [0.025, 0.975])
    return [float(low), float(high)]


def relevance(ranking: Ranking, labels: np.ndarray, gallery_labels: np.ndarray) -> np.ndarray:
    """(Q, K) bool: whether each ranked item has its query's class; a missing item has not."""
    same = gallery_labels[ranking.rows] == np.asarray(labels)[:, None]
    return same & (ranking.rows >= 0)


def average_precision(relevant: np.ndarray) -> np.ndarray:
    """(Q,) mean of the precisions at the ranks of the relevant items; NaN where there are none.

    The mean is over all relevant items of the gallery (R), as in TREC; give whole rankings.
    """
    ranks = np.arange(1, relevant.shape[1] + 1)
    precisions = np.where(relevant, np.cumsum(relevant, axis=1) / ranks, 0.0)
    return _ratio(precisions.sum(axis=1), relevant.sum(axis=1))


def precision_at(relevant: np.ndarray, k: int) -> np.ndarray:
    """(Q,) share of relevant items among the first k, also where the gallery has fewer."""
    return relevant[:, :k].sum(axis=1) / k


def r_precision(relevant: np.ndarray) -> np.ndarray:
    """(Q,) precision at R, the number of relevant items; NaN where there are none."""
    counts = relevant.sum(axis=1)
    hits = np.cumsum(relevant, axis=1)[np.arange(len(relevant)), np.maximum(counts, 1) - 1]
    return _ratio(hits, counts)


def precision_recall(relevant: np.ndarray) -> np.ndarray:
    """(Q, 101) interpolated precision at recalls 0, 0.01, ..., 1; NaN where none is relevant.

    The highest precision at that recall or a higher one, the usual interpolation of TREC. It is
    for drawing curves: its mean is not the average precision.
    """
    hits = np.cumsum(relevant, axis=1)
    counts = hits[:, -1:]
    precision = hits / np.arange(1, relevant.shape[1] + 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # The first rank at which a recall is reached: its number of hits, found among all ranks.
    needed = np.maximum(np.ceil(RECALL_LEVELS * counts - 1e-9), 1)
    first = np.stack([np.searchsorted(row, need) for row, need in zip(hits, needed, strict=True)])
    curve = np.take_along_axis(best, np.minimum(first, relevant.shape[1] - 1), axis=1)
    return np.where(counts > 0, curve, np.nan)


def retrieval(relevant: np.ndarray, seed: int = 0) -> dict:
    """All ranking measures, averaged over the queries that have a relevant item.

    Returns
    -------
    dict
        ``mean_average_precision`` with its 95 % ``mean_average_precision_interval`` (percentile
        bootstrap over queries, 2,000 draws), ``precision_at_1``, ``_5``, ``_10``, ``r_precision``,
        ``precision_recall`` (101 values), ``average_precisions`` (of each query, None where nothing
        is relevant), ``queries`` and ``queries_without_relevant``.

    Raises
    ------
    CbirError
        When no query has a relevant item.
    """
    answerable = relevant.any(axis=1)
    if not answerable.any():
        raise CbirError("no query has a relevant image in the gallery", "check the classes of both")
    found = relevant[answerable]
    precisions = average_precision(found)
    return {
        "queries": len(relevant),
        "queries_without_relevant": int((~answerable).sum()),
        "mean_average_precision": float(precisions.mean()),
        "mean_average_precision_interval": bootstrap_interval(precisions, seed),
        **{f"precision_at_{k}": float(precision_at(found, k).mean()) for k in CUTOFFS},
        "r_precision": float(r_precision(found).mean()),
        "precision_recall": precision_recall(found).mean(axis=0).tolist(),
        "average_precisions": [
            round(float(value), 5) if np.isfinite(value) else None
            for value in average_precision(relevant)
        ],
    }


def examples(ranking: Ranking, queries, gallery, neighbours: int = 8) -> list[dict]:
    """For each class the query of median and that of lowest average precision, with neighbours.

    A rule, not a choice: of equal values the first in the order of the test split is taken.

    Parameters
    ----------
    queries, gallery : RadiographSet
        Those that were ranked.
    """
    relevant = relevance(ranking, queries.labels, gallery.labels)
    precisions = average_precision(relevant)
    chosen = []
    for choice in ("median", "lowest"):
        for label in range(len(queries.class_names)):
            rows = np.flatnonzero((queries.labels == label) & np.isfinite(precisions))
            if len(rows) == 0:
                continue
            value = np.sort(precisions[rows])[len(rows) // 2 if choice == "median" else 0]
            row = rows[precisions[rows] == value][0]
            found = ranking.rows[row, :neighbours]
            found = found[found >= 0]  # where the query itself was left out
            chosen.append(
                {
                    "choice": choice,
                    "query": str(queries.image_ids[row]),
                    "label": label,
                    "average_precision": float(precisions[row]),
                    "neighbours": gallery.image_ids[found].tolist(),
                    "neighbour_labels": gallery.labels[found].tolist(),
                    "distances": ranking.distances[row, : len(found)].astype(float).tolist(),
                }
            )
    return chosen


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> list[float]:
    """95 % percentile bootstrap interval of the mean, 2,000 draws."""
    if np.ptp(values) == 0:  # SciPy has no interval for a constant
        return [float(values[0])] * 2
    interval = stats.bootstrap(
        (values,), np.mean, n_resamples=DRAWS, batch=100, method="percentile", rng=seed
    ).confidence_interval
    return [float(interval.low), float(interval.high)]


def paired_interval(differences: np.ndarray, seed: int = 0) -> list[float]:
    """95 % percentile bootstrap interval of a mean difference, 2,000 draws of seeds and of images.

    Parameters
    ----------
    differences : (S, Q)
        Of two methods trained with the same S seeds, on the same Q images: such as 1 where only the
        first is right, -1 where only the second is.

    Notes
    -----
    Seeds and images are drawn with replacement, independently. With few seeds their share of the
    spread is underestimated: three seeds give an interval that is too narrow.
    """
    differences = np.asarray(differences, float)
    rng = np.random.default_rng(seed)
    shares = [
        rng.multinomial(number, np.full(number, 1 / number), DRAWS) / number
        for number in differences.shape
    ]
    means = np.einsum("ds,sq,dq->d", shares[0], differences, shares[1], optimize=True)
    low, high = np.quantile(means, [0.025, 0.975])
    return [float(low), float(high)]


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    missing = np.full(len(numerator), np.nan)
    return np.divide(numerator, denominator, out=missing, where=denominator > 0)

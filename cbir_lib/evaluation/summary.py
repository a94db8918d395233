"""Summaries of a test split: accuracies, retrieval measures with intervals, examples."""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix

from cbir_lib.errors import CbirError
from cbir_lib.evaluation.intervals import (
    compute_balanced_interval,
    compute_bootstrap_interval,
    compute_percentile_interval,
    draw_means,
    draw_rows,
)
from cbir_lib.evaluation.measures import (
    ELEVEN,
    average_over_ties,
    average_precision,
    compute_curve_by_rank,
    find_relevant,
    ndcg,
    precision_at,
    precision_recall,
    r_precision,
    recall_at,
)
from cbir_lib.retrieval.ranking import Ranking

CUTOFFS = (1, 5, 10)
BLOCK = 256  # queries measured at once: their whole rankings have to fit into the memory
RANKS = 40  # of a raw curve, about: a result file need not have every rank


def summarise_classification(labels: np.ndarray, predicted: np.ndarray, classes: int) -> dict:
    """Compute accuracy, balanced accuracy (mean of the classes' recalls) and confusion matrix.

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
        "balanced_accuracy_interval": compute_balanced_interval(confusion),
        "confusion": confusion.tolist(),
    }


def summarise_retrieval(
    relevant: np.ndarray,
    seed: int = 0,
    *,
    distances: np.ndarray | None = None,
    classes: np.ndarray | None = None,
    subjects: np.ndarray | None = None,
    gains: np.ndarray | None = None,
) -> dict:
    """Average all ranking measures over the queries that have a relevant item.

    Parameters
    ----------
    distances : (Q, K)
        Of the rankings, for equal ones.
    classes : (Q,) str
        Of the queries, for means by class.
    subjects : (Q,)
        Whose each query is, for intervals over subjects.
    gains : (Q, K)
        From :func:`cbir_lib.evaluation.measures.compute_code_agreement`, for graded measures.

    Returns
    -------
    dict
        ``mean_average_precision`` with its 95 % ``mean_average_precision_interval`` (percentile
        bootstrap over queries, 2,000 draws) and ``mean_average_precision_interval_of_subjects``;
        ``precision_at_1``, ``_5``, ``_10``, ``recall_at_1``, ``_5``, ``_10``, ``r_precision``,
        ``precision_recall`` (101 values), ``average_precisions``, ``precisions_at_1`` and
        ``precisions_at_10`` (of each query, None where nothing is relevant), ``queries`` and
        ``queries_without_relevant``. The raw curve: ``ranks``, mean ``precision_by_rank`` and
        ``recall_by_rank``. Graded: ``ndcg``, ``ndcg_at_10`` and
        ``hierarchical_error`` of the nearest neighbour's code. ``macro_mean_average_precision``,
        the mean of the classes' means, and ``per_class``. ``..._by_chance`` is the expectation of a
        measure when all distances are equal. ``..._interval``, of several: 95 %,
        over subjects where these are given. What follows from something not given is None.

    Raises
    ------
    CbirError
        When no query has a relevant item.
    """
    answerable = relevant.any(axis=1)
    if not answerable.any():
        raise CbirError("no query has a relevant image in the gallery", "check the classes of both")
    rows = np.flatnonzero(answerable)
    classes, subjects = (
        None if values is None else np.asarray(values)[rows] for values in (classes, subjects)
    )
    ranks = np.unique(np.geomspace(1, relevant.shape[1], RANKS).round().astype(int))
    blocks = [
        _compute_measures(
            relevant[some], ranks, *(a if a is None else a[some] for a in (distances, gains))
        )
        for some in np.split(rows, range(BLOCK, len(rows), BLOCK))
    ]
    per_query = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    precisions = per_query["average_precision"]
    graded = "ndcg" in per_query
    shares = draw_rows(len(rows), np.random.default_rng(seed), subjects)

    def mean(name):
        return float(per_query[name].mean()) if name in per_query else None

    def interval(name):
        return (
            compute_percentile_interval(draw_means(shares, per_query[name]))
            if name in per_query
            else None
        )

    per_class = macro = macro_interval = None
    in_classes = ("precision_at_10", "r_precision", "ndcg", "ndcg_at_10", "hierarchical_error")
    if classes is not None:
        names = np.unique(classes)
        of_class = draw_means(shares, precisions, classes)  # (DRAWS, C)
        per_class = {}
        for name, means in zip(names, of_class.T, strict=True):
            own = classes == name
            per_class[str(name)] = {
                "queries": int(own.sum()),
                "mean_average_precision": float(precisions[own].mean()),
                "mean_average_precision_interval": compute_percentile_interval(means),
                **{
                    k: float(per_query[k][own].mean()) if k in per_query else None
                    for k in in_classes
                },
                "precision_recall": per_query["curve"][own][:, ELEVEN]
                .mean(axis=0)
                .round(5)
                .tolist(),
            }
        macro = float(np.mean([one["mean_average_precision"] for one in per_class.values()]))
        macro_interval = compute_percentile_interval(of_class)

    def of_each(name):
        rounded = iter(per_query[name].round(5).tolist())
        return [next(rounded) if known else None for known in answerable]

    return {
        "queries": len(relevant),
        "queries_without_relevant": int((~answerable).sum()),
        "mean_average_precision": mean("average_precision"),
        "mean_average_precision_interval": compute_bootstrap_interval(precisions, seed),
        "mean_average_precision_interval_of_subjects": (
            None if subjects is None else interval("average_precision")
        ),
        "mean_average_precision_by_chance": mean("average_precision_by_chance"),
        "macro_mean_average_precision": macro,
        "macro_mean_average_precision_interval": macro_interval,
        **{
            f"{name}_at_{k}": mean(f"{name}_at_{k}")
            for name in ("precision", "recall")
            for k in CUTOFFS
        },
        "r_precision": mean("r_precision"),
        **{name: mean(name) for name in in_classes[2:]},
        **{f"{name}_interval": interval(name) for name in in_classes},
        "ndcg_by_chance": mean("ndcg_by_chance"),
        "ndcg_at_10_by_chance": mean("ndcg_at_10_by_chance"),
        "hierarchical_error_by_chance": float(1 - gains[rows].mean()) if graded else None,
        "precision_recall": per_query["curve"].mean(axis=0).tolist(),
        "ranks": ranks.tolist(),
        "precision_by_rank": per_query["precision_by_rank"].mean(axis=0).round(5).tolist(),
        "recall_by_rank": per_query["recall_by_rank"].mean(axis=0).round(5).tolist(),
        "average_precisions": of_each("average_precision"),
        "precisions_at_1": of_each("precision_at_1"),
        "precisions_at_10": of_each("precision_at_10"),
        "per_class": per_class,
    }


def _compute_measures(
    relevant: np.ndarray,
    ranks: np.ndarray,
    distances: np.ndarray | None,
    gains: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Measure each of some queries: (Q,), (Q, 101) ``curve``, (Q, P) ``..._by_rank``."""
    all_equal = np.zeros(relevant.shape, np.int8)
    by_rank = compute_curve_by_rank(relevant, ranks, distances)
    measured = {
        "average_precision": average_precision(relevant, distances),
        "average_precision_by_chance": average_precision(relevant, all_equal),
        **{f"precision_at_{k}": precision_at(relevant, k, distances) for k in CUTOFFS},
        **{f"recall_at_{k}": recall_at(relevant, k, distances) for k in CUTOFFS},
        "r_precision": r_precision(relevant, distances),
        "curve": precision_recall(relevant, distances),
        "precision_by_rank": by_rank[0],
        "recall_by_rank": by_rank[1],
    }
    if gains is not None:
        measured |= {
            "ndcg": ndcg(gains, distances),
            "ndcg_at_10": ndcg(gains, distances, 10),
            "ndcg_by_chance": ndcg(gains, all_equal),
            "ndcg_at_10_by_chance": ndcg(gains, all_equal, 10),
            "hierarchical_error": 1 - average_over_ties(gains, distances)[:, 0],
        }
    return measured


def choose_examples(ranking: Ranking, queries, gallery, neighbours: int = 8) -> list[dict]:
    """Choose for each class the query of median and that of lowest average precision.

    A rule, not a choice: of equal values the first in the order of the test split is taken.

    Parameters
    ----------
    queries, gallery : RadiographSet
        Those that were ranked.
    """
    relevant = find_relevant(ranking, queries.labels, gallery.labels)
    precisions = average_precision(relevant, ranking.distances)
    chosen = []
    for choice in ("median", "lowest"):
        for label in range(len(queries.class_names)):
            rows = np.flatnonzero((queries.labels == label) & np.isfinite(precisions))
            if len(rows) == 0:
                continue
            value = np.sort(precisions[rows])[len(rows) // 2 if choice == "median" else 0]
            row = rows[precisions[rows] == value][0]
            nearest = ranking.rows[row, :neighbours]
            nearest = nearest[nearest >= 0]  # where the query itself was left out
            chosen.append(
                {
                    "choice": choice,
                    "query": str(queries.image_ids[row]),
                    "label": label,
                    "average_precision": float(precisions[row]),
                    "neighbours": gallery.image_ids[nearest].tolist(),
                    "neighbour_labels": gallery.labels[nearest].tolist(),
                    "distances": ranking.distances[row, : len(nearest)].astype(float).tolist(),
                }
            )
    return chosen

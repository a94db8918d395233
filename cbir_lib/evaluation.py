"""How good answers are: accuracy of classes, and of rankings.

Ranking measures take ``relevant``, a (Q, K) boolean array: whether each item of a query's whole
ranking has the query's class, nearest first, the query itself left out. Queries without any
relevant item have no average precision; they are left out of means and counted.

Given the (Q, K) ``distances`` of the ranking too, a measure is its expectation over all orders of
items at equal distances: which of them stands first in the gallery is luck. Without them, the order
is taken as it stands. A neighbour's rule must name one class, so accuracies follow the order.

F. McSherry, M. Najork: Computing information retrieval performance measures efficiently in the
presence of tied scores. ECIR 2008, LNCS 4956.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix

from cbir_lib import irma
from cbir_lib.errors import CbirError
from cbir_lib.retrieval import Ranking

CUTOFFS = (1, 5, 10)
DRAWS = 2000  # of a bootstrap
BLOCK = 256  # queries measured at once: their whole rankings have to fit into the memory
RECALL_LEVELS = np.linspace(0, 1, 101)
ELEVEN = slice(None, None, 10)  # of these levels: 0, 0.1, ..., 1, the eleven points of TREC
RANKS = 40  # of a raw curve, about: a result file need not have every rank


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


def agreement(ranking: Ranking, codes: np.ndarray, gallery_codes: np.ndarray) -> np.ndarray:
    """(Q, K) float: how far each ranked item's IRMA code agrees with the query's, 0..1.

    One less the hierarchical error (:func:`cbir_lib.irma.errors`) of answering with the item's
    code, the query's being the true one; branches counted in the gallery's codes. A missing item
    has 0.
    """
    branching = irma.Branching.of(gallery_codes)
    (true, of_query), (answers, of_item) = (
        np.unique(np.asarray(each, dtype=str), return_inverse=True)
        for each in (codes, gallery_codes)
    )
    costs = irma.errors(np.repeat(true, len(answers)), [*answers] * len(true), branching)
    gains = 1 - costs.reshape(len(true), len(answers))
    return np.where(ranking.rows >= 0, gains[of_query[:, None], of_item[ranking.rows]], 0.0)


def expected(gains: np.ndarray, distances: np.ndarray | None = None) -> np.ndarray:
    """(Q, K) float: the mean of (Q, K) gains over the items at the same distance.

    What an item at this rank brings on average, whatever the order of equals.
    """
    gains = np.array(gains, float)
    if distances is None:
        return gains
    tied = (distances[:, 1:] == distances[:, :-1]).any(axis=1)  # few, as a rule
    group, sizes, _ = _equals(distances[tied])
    gains[tied] = (np.bincount(group.ravel(), gains[tied].ravel()) / sizes)[group]
    return gains


def average_precision(relevant: np.ndarray, distances: np.ndarray | None = None) -> np.ndarray:
    """(Q,) mean of the precisions at the ranks of the relevant items; NaN where there are none.

    The mean is over all relevant items of the gallery (R), as in TREC; give whole rankings.

    Notes
    -----
    Of n items at one distance, r are relevant, after c relevant ones further forward. The i-th of
    them is relevant with probability r / n, and if it is, (i - 1)(r - 1) / (n - 1) of those before
    it are expected to be (McSherry, Najork 2008).
    """
    ranks = np.arange(1, relevant.shape[1] + 1)
    if distances is None:
        distances = np.broadcast_to(ranks, relevant.shape)
    group, sizes, places = _equals(distances)
    found = np.bincount(group.ravel(), relevant.ravel())  # of each group
    before = np.cumsum(found) - found
    before -= before[group[:, 0]][_row_of(group, len(sizes))]  # in the query's own ranking
    among = places * ((found - 1) / np.maximum(sizes - 1, 1))[group]
    precisions = (found / sizes)[group] * ((before[group] + among + 1) / ranks)
    return _ratio(precisions.sum(axis=1), relevant.sum(axis=1))


def precision_at(relevant: np.ndarray, k: int, distances: np.ndarray | None = None) -> np.ndarray:
    """(Q,) share of relevant items among the first k, also where the gallery has fewer."""
    return expected(relevant, distances)[:, :k].sum(axis=1) / k


def recall_at(relevant: np.ndarray, k: int, distances: np.ndarray | None = None) -> np.ndarray:
    """(Q,) share of the R relevant items that are among the first k; NaN where there are none."""
    return _ratio(expected(relevant, distances)[:, :k].sum(axis=1), relevant.sum(axis=1))


def r_precision(relevant: np.ndarray, distances: np.ndarray | None = None) -> np.ndarray:
    """(Q,) precision at R, the number of relevant items; NaN where there are none."""
    counts = relevant.sum(axis=1)
    hits = np.cumsum(expected(relevant, distances), axis=1)
    return _ratio(hits[np.arange(len(relevant)), np.maximum(counts, 1) - 1], counts)


def ndcg(
    gains: np.ndarray, distances: np.ndarray | None = None, k: int | None = None
) -> np.ndarray:
    """(Q,) normalised discounted cumulated gain, of the first k or of all; NaN where nothing gains.

    The sum of gains, each divided by the binary logarithm of its rank plus one, over that of the
    best order. Gains count as they are, not as powers of two.

    Parameters
    ----------
    gains : (Q, K)
        0 or more, such as :func:`agreement`, or relevance.

    References
    ----------
    K. Järvelin, J. Kekäläinen: Cumulated gain-based evaluation of IR techniques. ACM Transactions
    on Information Systems 20, 2002. doi:10.1145/582415.582418
    """
    discounts = 1 / np.log2(np.arange(2, gains.shape[1] + 2)[:k])
    best = np.sort(np.asarray(gains, float), axis=1)[:, ::-1]
    return _ratio(expected(gains, distances)[:, :k] @ discounts, best[:, :k] @ discounts)


def precision_recall(relevant: np.ndarray, distances: np.ndarray | None = None) -> np.ndarray:
    """(Q, 101) interpolated precision at recalls 0, 0.01, ..., 1; NaN where none is relevant.

    The highest precision at that recall or a higher one, the usual interpolation of TREC, whose
    eleven points are columns ``ELEVEN``. It is for drawing curves: its mean is not the average
    precision. Of equal distances the expected precision is interpolated, which is not the
    expectation of the interpolated one, but below it.
    """
    hits = np.cumsum(expected(relevant, distances), axis=1)
    counts = relevant.sum(axis=1, keepdims=True)
    precision = hits / np.arange(1, relevant.shape[1] + 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # The first rank at which a recall is reached: its number of hits, found among all ranks. Rows
    # are set apart, so that one search serves all; sums of shares are a little off.
    needed = np.maximum(np.ceil(RECALL_LEVELS * counts - 1e-9), 1) - 1e-6
    apart = np.arange(len(hits))[:, None] * (relevant.shape[1] + 1.0)
    first = np.searchsorted((hits + apart).ravel(), needed + apart)
    first -= np.arange(len(hits))[:, None] * relevant.shape[1]
    curve = np.take_along_axis(best, np.minimum(first, relevant.shape[1] - 1), axis=1)
    return np.where(counts > 0, curve, np.nan)


def curve_by_rank(
    relevant: np.ndarray, ranks: np.ndarray, distances: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(Q, P) precision and (Q, P) recall after each of P ranks: the raw curve, not interpolated."""
    hits = np.cumsum(expected(relevant, distances), axis=1)[:, np.asarray(ranks) - 1]
    counts = np.broadcast_to(relevant.sum(axis=1, keepdims=True), hits.shape)
    return hits / ranks, _ratio(hits, counts)


def retrieval(
    relevant: np.ndarray,
    seed: int = 0,
    *,
    distances: np.ndarray | None = None,
    classes: np.ndarray | None = None,
    subjects: np.ndarray | None = None,
    gains: np.ndarray | None = None,
) -> dict:
    """All ranking measures, averaged over the queries that have a relevant item.

    Parameters
    ----------
    distances : (Q, K)
        Of the rankings, for equal ones.
    classes : (Q,) str
        Of the queries, for means by class.
    subjects : (Q,)
        Whose each query is, for intervals over subjects.
    gains : (Q, K)
        :func:`agreement` of codes, for graded measures.

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
        None if given is None else np.asarray(given)[rows] for given in (classes, subjects)
    )
    ranks = np.unique(np.geomspace(1, relevant.shape[1], RANKS).round().astype(int))
    blocks = [
        _measures(relevant[some], ranks, *(a if a is None else a[some] for a in (distances, gains)))
        for some in np.split(rows, range(BLOCK, len(rows), BLOCK))
    ]
    each = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    precisions = each["average_precision"]
    graded = "ndcg" in each
    shares = _drawn(len(rows), np.random.default_rng(seed), subjects)

    def mean(name):
        return float(each[name].mean()) if name in each else None

    def interval(name):
        return _interval(_drawn_means(shares, each[name])) if name in each else None

    per_class = macro = macro_interval = None
    in_classes = ("precision_at_10", "r_precision", "ndcg", "ndcg_at_10", "hierarchical_error")
    if classes is not None:
        names = np.unique(classes)
        of_class = _drawn_means(shares, precisions, classes)  # (DRAWS, C)
        per_class = {}
        for name, means in zip(names, of_class.T, strict=True):
            own = classes == name
            per_class[str(name)] = {
                "queries": int(own.sum()),
                "mean_average_precision": float(precisions[own].mean()),
                "mean_average_precision_interval": _interval(means),
                **{k: float(each[k][own].mean()) if k in each else None for k in in_classes},
                "precision_recall": each["curve"][own][:, ELEVEN].mean(axis=0).round(5).tolist(),
            }
        macro = float(np.mean([one["mean_average_precision"] for one in per_class.values()]))
        macro_interval = _interval(of_class)

    def of_each(name):
        rounded = iter(each[name].round(5).tolist())
        return [next(rounded) if known else None for known in answerable]

    return {
        "queries": len(relevant),
        "queries_without_relevant": int((~answerable).sum()),
        "mean_average_precision": mean("average_precision"),
        "mean_average_precision_interval": bootstrap_interval(precisions, seed),
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
        "precision_recall": each["curve"].mean(axis=0).tolist(),
        "ranks": ranks.tolist(),
        "precision_by_rank": each["precision_by_rank"].mean(axis=0).round(5).tolist(),
        "recall_by_rank": each["recall_by_rank"].mean(axis=0).round(5).tolist(),
        "average_precisions": of_each("average_precision"),
        "precisions_at_1": of_each("precision_at_1"),
        "precisions_at_10": of_each("precision_at_10"),
        "per_class": per_class,
    }


def _measures(
    relevant: np.ndarray,
    ranks: np.ndarray,
    distances: np.ndarray | None,
    gains: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Measure each of some queries: (Q,), (Q, 101) ``curve``, (Q, P) ``..._by_rank``."""
    all_equal = np.zeros(relevant.shape, np.int8)
    by_rank = curve_by_rank(relevant, ranks, distances)
    found = {
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
        found |= {
            "ndcg": ndcg(gains, distances),
            "ndcg_at_10": ndcg(gains, distances, 10),
            "ndcg_by_chance": ndcg(gains, all_equal),
            "ndcg_at_10_by_chance": ndcg(gains, all_equal, 10),
            "hierarchical_error": 1 - expected(gains, distances)[:, 0],
        }
    return found


def examples(ranking: Ranking, queries, gallery, neighbours: int = 8) -> list[dict]:
    """For each class the query of median and that of lowest average precision, with neighbours.

    A rule, not a choice: of equal values the first in the order of the test split is taken.

    Parameters
    ----------
    queries, gallery : RadiographSet
        Those that were ranked.
    """
    relevant = relevance(ranking, queries.labels, gallery.labels)
    precisions = average_precision(relevant, ranking.distances)
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


def bootstrap_interval(
    values: np.ndarray,
    seed: int = 0,
    subjects: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> list[float]:
    """95 % percentile bootstrap interval of the mean, 2,000 draws.

    Parameters
    ----------
    values : (Q,)
    subjects : (Q,)
        Whose each value is: subjects are drawn, each with all its values. Images of one subject are
        alike, and an interval that takes them as independent is too narrow.
    groups : (Q,)
        Then the interval is that of the mean of the groups' means, such as classes. A group that a
        draw leaves out has no mean in it.
    """
    if np.ptp(values) == 0:  # SciPy has no interval for a constant
        return [float(values[0])] * 2
    if subjects is None and groups is None:
        interval = stats.bootstrap(
            (values,), np.mean, n_resamples=DRAWS, batch=100, method="percentile", rng=seed
        ).confidence_interval
        return [float(interval.low), float(interval.high)]
    shares = _drawn(len(values), np.random.default_rng(seed), subjects)
    return _interval(_drawn_means(shares, np.asarray(values, float), groups))


def paired_interval(
    differences: np.ndarray, seed: int = 0, subjects: np.ndarray | None = None
) -> list[float]:
    """95 % percentile bootstrap interval of a mean difference, 2,000 draws of seeds and of images.

    Parameters
    ----------
    differences : (S, Q)
        Of two methods trained with the same S seeds, on the same Q images: such as 1 where only the
        first is right, -1 where only the second is.
    subjects : (Q,)
        Whose each image is: subjects are drawn instead, each with all its images.

    Notes
    -----
    Seeds and images are drawn with replacement, independently. With few seeds their share of the
    spread is underestimated: three seeds give an interval that is too narrow.
    """
    differences = np.asarray(differences, float)
    rng = np.random.default_rng(seed)
    of_seeds = _drawn(len(differences), rng)
    of_images = _drawn(differences.shape[1], rng, subjects)
    means = np.einsum("ds,sq,dq->d", of_seeds, differences, of_images, optimize=True)
    low, high = np.quantile(means, [0.025, 0.975])
    return [float(low), float(high)]


def owners(records: pd.DataFrame) -> np.ndarray | None:
    """(N,) int: the number of each image's subject, in the order of their first images.

    An image whose subject is not known has one of its own; None where no subject is known.
    """
    names = records["subject_id"].to_numpy(dtype=str) if "subject_id" in records else np.array([""])
    if not (names != "").any():
        return None
    return pd.factorize(np.where(names == "", [f"?{row}" for row in range(len(names))], names))[0]


def _drawn(number: int, rng: np.random.Generator, subjects: np.ndarray | None = None) -> np.ndarray:
    """(DRAWS, number): what share of each draw with replacement each item has."""
    if subjects is None:
        return rng.multinomial(number, np.full(number, 1 / number), DRAWS) / number
    owner = pd.factorize(np.asarray(subjects))[0]
    units = owner.max() + 1
    times = rng.multinomial(units, np.full(units, 1 / units), DRAWS)[:, owner]
    return times / times.sum(axis=1, keepdims=True)


def _drawn_means(
    shares: np.ndarray, values: np.ndarray, groups: np.ndarray | None = None
) -> np.ndarray:
    """(DRAWS, G) means of each draw, group by group; NaN where a draw has nothing of one."""
    names, group = np.unique(np.zeros(len(values)) if groups is None else groups, return_inverse=1)
    member = (group[:, None] == np.arange(len(names))).astype(float)  # (Q, G)
    return _ratio(shares @ (member * values[:, None]), shares @ member)


def _interval(means: np.ndarray) -> list[float]:
    """The middle 95 % of (DRAWS,) or (DRAWS, G) drawn means, of groups their mean."""
    if means.ndim == 2:
        means = np.nanmean(means, axis=1)
    low, high = np.nanquantile(means, [0.025, 0.975])
    return [float(low), float(high)]


def _equals(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of equal distances: (Q, K) number of each item's, (N,) sizes, (Q, K) place in it."""
    first = np.ones(distances.shape, bool)
    first[:, 1:] = distances[:, 1:] != distances[:, :-1]
    group = np.cumsum(first).reshape(distances.shape) - 1
    starts = np.flatnonzero(first)
    places = np.arange(distances.size).reshape(distances.shape) - starts[group]
    return group, np.diff(starts, append=distances.size), places


def _row_of(group: np.ndarray, number: int) -> np.ndarray:
    """(N,) the query that each of the runs of :func:`_equals` belongs to."""
    return np.repeat(np.arange(len(group)), np.diff(group[:, 0], append=number))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    missing = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=missing, where=denominator > 0)

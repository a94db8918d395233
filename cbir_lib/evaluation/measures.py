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

from cbir_lib import irma_code
from cbir_lib.evaluation import tie_loops
from cbir_lib.loops import compile_loops
from cbir_lib.retrieval.ranking import Ranking

RECALL_LEVELS = np.linspace(0, 1, 101)
ELEVEN = slice(None, None, 10)  # of these levels: 0, 0.1, ..., 1, the eleven points of TREC


def find_relevant(ranking: Ranking, labels: np.ndarray, gallery_labels: np.ndarray) -> np.ndarray:
    """Tell whether each ranked item has its query's class, (Q, K) bool; a missing item has not."""
    same = gallery_labels[ranking.rows] == np.asarray(labels)[:, None]
    return same & (ranking.rows >= 0)


def compute_code_agreement(
    ranking: Ranking, codes: np.ndarray, gallery_codes: np.ndarray
) -> np.ndarray:
    """Compute how far each ranked item's IRMA code agrees with the query's: (Q, K), 0 to 1.

    One less the hierarchical error (:func:`cbir_lib.irma_code.compute_hierarchical_errors`) of
    answering with the item's code, the query's being the true one; branches counted in the
    gallery's codes. A missing item has 0.
    """
    branching = irma_code.Branching.from_codes(gallery_codes)
    (true, of_query), (answers, of_item) = (
        np.unique(np.asarray(texts, dtype=str), return_inverse=True)
        for texts in (codes, gallery_codes)
    )
    costs = irma_code.compute_hierarchical_errors(
        np.repeat(true, len(answers)), [*answers] * len(true), branching
    )
    gains = 1 - costs.reshape(len(true), len(answers))
    return np.where(ranking.rows >= 0, gains[of_query[:, None], of_item[ranking.rows]], 0.0)


def average_over_ties(gains: np.ndarray, distances: np.ndarray | None = None) -> np.ndarray:
    """Average (Q, K) gains over the items at the same distance: (Q, K) float.

    What an item at this rank brings on average, whatever the order of equals.
    """
    gains = np.array(gains, float)
    if distances is not None:
        compile_loops(tie_loops.average_gains)(gains, np.ascontiguousarray(distances))
    return gains


def average_precision(relevant: np.ndarray, distances: np.ndarray | None = None) -> np.ndarray:
    """Compute (Q,) means of the precisions at the ranks of relevant items; NaN without any.

    The mean is over all relevant items of the gallery (R), as in TREC; give whole rankings.

    Notes
    -----
    Of n items at one distance, r are relevant, after c relevant ones further forward. The i-th of
    them is relevant with probability r / n, and if it is, (i - 1)(r - 1) / (n - 1) of those before
    it are expected to be (McSherry, Najork 2008).

    Examples
    --------
    >>> average_precision(np.array([[True, False, True]])).round(3).tolist()
    [0.833]
    """
    if distances is None:
        distances = np.broadcast_to(np.arange(relevant.shape[1]), relevant.shape)
    sums = np.empty(len(relevant))
    add = compile_loops(tie_loops.add_precisions)
    add(*map(np.ascontiguousarray, (relevant, distances)), sums)
    return divide(sums, relevant.sum(axis=1))


def precision_at(relevant: np.ndarray, k: int, distances: np.ndarray | None = None) -> np.ndarray:
    """Compute (Q,) shares of relevant items among the first k, also where the gallery has fewer.

    >>> precision_at(np.array([[True, False, True]]), k=2).tolist()
    [0.5]
    """
    return average_over_ties(relevant, distances)[:, :k].sum(axis=1) / k


def recall_at(relevant: np.ndarray, k: int, distances: np.ndarray | None = None) -> np.ndarray:
    """Compute (Q,) shares of the R relevant items that are among the first k; NaN without any."""
    return divide(average_over_ties(relevant, distances)[:, :k].sum(axis=1), relevant.sum(axis=1))


def r_precision(relevant: np.ndarray, distances: np.ndarray | None = None) -> np.ndarray:
    """Compute (Q,) precisions at R, the number of relevant items; NaN where there are none."""
    counts = relevant.sum(axis=1)
    hits = np.cumsum(average_over_ties(relevant, distances), axis=1)
    return divide(hits[np.arange(len(relevant)), np.maximum(counts, 1) - 1], counts)


def ndcg(
    gains: np.ndarray, distances: np.ndarray | None = None, k: int | None = None
) -> np.ndarray:
    """Compute (Q,) normalised discounted cumulated gains of the first k or all; NaN without gain.

    The sum of gains, each divided by the binary logarithm of its rank plus one, over that of the
    best order. Gains count as they are, not as powers of two.

    Parameters
    ----------
    gains : (Q, K)
        0 or more, such as :func:`compute_code_agreement`, or relevance.

    References
    ----------
    K. Järvelin, J. Kekäläinen: Cumulated gain-based evaluation of IR techniques. ACM Transactions
    on Information Systems 20, 2002. doi:10.1145/582415.582418

    >>> ndcg(np.array([[0.0, 1.0]])).round(3).tolist()
    [0.631]
    """
    discounts = 1 / np.log2(np.arange(2, gains.shape[1] + 2)[:k])
    best = np.sort(np.asarray(gains, float), axis=1)[:, ::-1]
    return divide(average_over_ties(gains, distances)[:, :k] @ discounts, best[:, :k] @ discounts)


def precision_recall(relevant: np.ndarray, distances: np.ndarray | None = None) -> np.ndarray:
    """Interpolate (Q, 101) precisions at recalls 0, 0.01, ..., 1; NaN where none is relevant.

    The highest precision at that recall or a higher one, the usual interpolation of TREC, whose
    eleven points are columns ``ELEVEN``. It is for drawing curves: its mean is not the average
    precision. Of equal distances the expected precision is interpolated, which is not the
    expectation of the interpolated one, but below it.
    """
    hits = np.cumsum(average_over_ties(relevant, distances), axis=1)
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


def compute_curve_by_rank(
    relevant: np.ndarray, ranks: np.ndarray, distances: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute (Q, P) precision and (Q, P) recall after each of P ranks, not interpolated."""
    hits = np.cumsum(average_over_ties(relevant, distances), axis=1)[:, np.asarray(ranks) - 1]
    counts = np.broadcast_to(relevant.sum(axis=1, keepdims=True), hits.shape)
    return hits / ranks, divide(hits, counts)


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide (Q,) by (Q,) float64; NaN where the denominator is not positive."""
    missing = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=missing, where=denominator > 0)

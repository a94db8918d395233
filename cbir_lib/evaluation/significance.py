"""Whether one method is better than another by more than luck.

Tests are paired: both methods answer the same queries. A p-value is the share of worlds without any
difference in which one at least as large would be seen; it is neither how probable a difference is,
nor how large.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from cbir_lib.errors import CbirError

DRAWS = 9999  # of signs
BLOCK = 500  # draws at a time


def run_mcnemar_test(first_right: np.ndarray, second_right: np.ndarray) -> float:
    """Run the exact test of McNemar (1947) for two accuracies on the same images.

    Only images on which one method alone is right say anything. Without a difference, each of them
    falls to either method with probability 1/2.

    Parameters
    ----------
    first_right, second_right : (Q,) bool
        Whether each method names each image rightly.

    Returns
    -------
    float
        The p-value of both sides; 1 where the two are right on the same images.

    Notes
    -----
    Takes images as independent. Those of one subject are not: the test is then too sure.
    """
    first, second = np.asarray(first_right, bool), np.asarray(second_right, bool)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise CbirError(
            f"answers of shapes {first.shape} and {second.shape} are no pairs",
            "give both methods' answers to the same images",
        )
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def run_permutation_test(
    differences: np.ndarray, seed: int = 0, subjects: np.ndarray | None = None
) -> float:
    """Run the paired test of a mean difference, by changing signs at random.

    If the two methods do not differ, their two values of one query may as well be exchanged, which
    turns the sign of the difference. With several seeds all of a query's differences turn
    together, as networks of several seeds are alike on one image; with ``subjects``, so do those of
    all images of a subject. What is tested is therefore that the methods as trained do not differ
    on other queries, not that other seeds would show the same.

    Parameters
    ----------
    differences : (Q,) or (S, Q)
        Of the first method's value and the second's, such as average precisions; of S seeds.
        Queries with NaN are left out.
    subjects : (Q,)
        Whose each query is.

    Returns
    -------
    float
        The p-value of both sides. Exact where there are no more than ``DRAWS`` combinations of
        signs; otherwise of ``DRAWS`` draws, what was seen being one of them, so never below 1e-4.
    """
    differences = np.atleast_2d(np.asarray(differences, float)).mean(axis=0)
    known = ~np.isnan(differences)
    if differences.ndim != 1 or not known.any():
        raise CbirError("no differences to test", "give (Q,) or (S, Q) numbers")
    units = differences[known]
    if subjects is not None:
        _, owner = np.unique(np.asarray(subjects)[known], return_inverse=True)
        units = np.bincount(owner, units)
    units = units[units != 0]  # their sign changes nothing
    threshold = abs(units.sum()) - 1e-9 * np.abs(units).sum()  # equal sums count, however rounded
    if 2 ** min(len(units), 60) <= DRAWS:
        signs = 1 - 2 * (np.arange(2 ** len(units))[:, None] >> np.arange(len(units)) & 1)
        return float((np.abs(signs @ units) >= threshold).mean())
    rng, as_large = np.random.default_rng(seed), 1
    for start in range(0, DRAWS, BLOCK):
        size = min(BLOCK, DRAWS - start), len(units)
        turned = rng.integers(0, 2, size, dtype=np.int8)  # the sum is that of all less twice these
        as_large += int((np.abs(units.sum() - 2 * (turned @ units)) >= threshold).sum())
    return as_large / (DRAWS + 1)


def adjust_by_holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust (P,) p-values for their number: Holm (1979).

    Those below 0.05 may all be called differences with 5 % risk that any one of them is none,
    however the tests depend on each other.

    >>> adjust_by_holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    from statsmodels.stats.multitest import multipletests  # takes a while

    return multipletests(np.asarray(p_values, float), method="holm")[1]


def compute_critical_difference(
    values: np.ndarray, level: float = 0.05
) -> tuple[np.ndarray, float]:
    """Compute mean ranks of several methods, and how far apart two must be (Nemenyi 1963).

    Parameters
    ----------
    values : (N, M)
        Of each of M methods on each of N independent blocks, such as subjects; higher is better.

    Returns
    -------
    (M,) float
        Mean ranks, 1 the best; equal values share theirs.
    float
        The critical difference of mean ranks, for all pairs together.

    References
    ----------
    J. Demšar: Statistical comparisons of classifiers over multiple data sets. JMLR 7, 2006.
    """
    values = np.asarray(values, float)
    blocks, methods = values.shape
    ranks = stats.rankdata(-values, axis=1).mean(axis=0)
    width = stats.studentized_range.isf(level, methods, np.inf) / np.sqrt(2)
    return ranks, float(width * np.sqrt(methods * (methods + 1) / (6 * blocks)))

"""Exercises on comparing methods."""

from __future__ import annotations

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from cbir_lib.descriptors import DESCRIPTORS
from cbir_lib.evaluation.significance import run_mcnemar_test
from cbir_lib.teaching.answers import Expected, Number
from cbir_lib.teaching.material import read_published


def count_test_images() -> tuple[Expected, ...]:
    """Find how many test images separate the intervals of 90 % and 91 %."""
    counts = np.arange(100, 50_000, 100)
    high = proportion_confint(0.90 * counts, counts, method="wilson")[1]
    low = proportion_confint(0.91 * counts, counts, method="wilson")[0]
    needed = int(counts[np.argmax(high < low)])
    return (
        Number(
            "images",
            needed,
            "The half-widths, 1.96 sqrt(p (1 - p) / n), must add up to one percentage point.",
            tolerance=0.03 * needed,
        ),
    )


def compute_by_hand() -> tuple[Expected, ...]:
    """Compute Wilson's interval of 90 in 100, and McNemar's exact p of 8 against 2."""
    low, high = proportion_confint(90, 100, method="wilson")
    wilson = "(p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), with z = 1.96."
    simple = 1.96 * np.sqrt(0.9 * 0.1 / 100)
    near = "That is the simple interval, p ± 1.96 sqrt(p(1-p)/n); Wilson's is not symmetric."
    first = np.repeat([True, False], [8, 2])
    return (
        Number("low", low, wilson, tolerance=5e-4, common=[(0.9 - simple, near)]),
        Number("high", high, wilson, tolerance=5e-4, common=[(0.9 + simple, near)]),
        Number(
            "p",
            run_mcnemar_test(first, ~first),
            "Of 10 fair coins, the probability of 8 or more heads, or of 8 or more tails.",
            tolerance=1e-3,
            common=[(stats.binom.sf(7, 10, 0.5), "That is one-sided.")],
        ),
    )


def rank_twice() -> tuple[Expected, ...]:
    """Correlate the orders of the handcrafted descriptors by accuracy and by mAP."""
    handcrafted = [name for name, entry in DESCRIPTORS.items() if not entry.pretrained]
    results = [read_published(f"phantom-{name}") for name in handcrafted]
    accuracy = [result.classification.accuracy for result in results]
    precision = [result.retrieval.mean_average_precision for result in results]
    return (
        Number(
            "rho",
            float(stats.spearmanr(accuracy, precision).statistic),
            "Spearman's correlation: scipy.stats.spearmanr of the two lists.",
            tolerance=0.005,
        ),
    )


EXERCISES = (count_test_images, compute_by_hand, rank_twice)

"""Tests of differences: against other libraries, by counting every case, and by simulation."""

from itertools import product
from math import comb

import numpy as np
import pytest
import scikit_posthocs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar

from cbir_lib.errors import CbirError
from cbir_lib.evaluation.significance import (
    adjust_by_holm,
    compute_critical_difference,
    run_mcnemar_test,
    run_permutation_test,
)

unhurried = settings(deadline=None)


def answers(only_first, only_second, both=5, neither=2):
    """Right answers of two methods, so many of each kind."""
    first = [True] * only_first + [False] * only_second + [True] * both + [False] * neither
    second = [False] * only_first + [True] * only_second + [True] * both + [False] * neither
    return np.array(first), np.array(second)


# McNemar


@pytest.mark.parametrize(("b", "c"), [(0, 1), (3, 3), (1, 9), (9, 1), (0, 12), (40, 61)])
def test_mcnemar_is_statsmodels(b, c):
    first, second = answers(b, c)
    table = [[(first & second).sum(), b], [c, (~first & ~second).sum()]]
    assert run_mcnemar_test(first, second) == pytest.approx(
        reference_mcnemar(table, exact=True).pvalue
    )


def test_mcnemar_by_hand():
    # Of five images on which they differ, four to one: 2 * (C(5, 0) + C(5, 1)) / 2^5.
    assert run_mcnemar_test(*answers(4, 1)) == pytest.approx(2 * (comb(5, 0) + comb(5, 1)) / 2**5)
    assert run_mcnemar_test(*answers(0, 0)) == 1
    assert run_mcnemar_test(*answers(4, 1, both=0, neither=500)) == run_mcnemar_test(*answers(4, 1))


@pytest.mark.parametrize("pair", [([True], [True, False]), ([], []), ([[True]], [[False]])])
def test_mcnemar_wants_pairs(pair):
    with pytest.raises(CbirError, match="are no pairs"):
        run_mcnemar_test(*pair)


# The permutation test


def every_sign(differences):
    """The p-value by going through all combinations of signs."""
    sums = [np.dot(signs, differences) for signs in product((1, -1), repeat=len(differences))]
    return np.mean(np.abs(sums) >= abs(sum(differences)) - 1e-9)


@unhurried
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8))
def test_permutation_counts_every_combination_of_signs(differences):
    assert run_permutation_test(differences) == pytest.approx(every_sign(differences))


def test_permutation_by_hand():
    assert run_permutation_test([1.0, 1.0, 1.0]) == 2 / 8  # all the same sign: two of eight
    assert run_permutation_test([0.1, 0.2, -0.3]) == 1
    assert run_permutation_test([0.0, 0.0]) == 1
    assert (
        run_permutation_test([0.1, 0.2, np.nan, 0.4]) == 2 / 8
    )  # a query without a value is left out


@pytest.mark.parametrize("shift", [0.0, 0.08, 0.3])
def test_permutation_is_scipy_s(shift):
    differences = np.random.default_rng(1).normal(shift, 0.5, 150)
    reference = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9999, rng=2
    ).pvalue
    # Two shares of 9,999 draws each.
    assert run_permutation_test(differences) == pytest.approx(reference, abs=0.02)
    assert run_permutation_test(differences) == pytest.approx(  # of many values, Student's is close
        stats.ttest_1samp(differences, 0).pvalue, abs=0.03
    )


def test_permutation_follows_from_its_seed_and_not_from_the_sign():
    differences = np.random.default_rng(1).normal(0.05, 0.5, 100)
    assert run_permutation_test(differences, 1) == run_permutation_test(differences, 1)
    assert run_permutation_test(differences, 1) != run_permutation_test(differences, 2)
    assert run_permutation_test(-differences, 1) == run_permutation_test(differences, 1)
    assert run_permutation_test(np.ones(1000)) == 1e-4  # never surer than its draws allow


def test_seeds_of_one_query_turn_together():
    differences = np.random.default_rng(2).normal(0.2, 0.5, 9)
    # Five seeds that say the same are no more evidence than one.
    assert run_permutation_test(np.tile(differences, (5, 1))) == run_permutation_test(differences)
    two = np.array([[1.0, 0.0, 2.0], [3.0, -1.0, 0.0]])
    assert run_permutation_test(two) == every_sign(two.mean(axis=0))


def test_images_of_one_subject_turn_together():
    differences = np.array([1.0, 2.0, -1.0, 4.0, 0.5])
    subjects = np.array(["a", "a", "b", "c", "b"])
    assert run_permutation_test(differences, subjects=subjects) == every_sign([3.0, -0.5, 4.0])
    with_gap = np.append(differences, np.nan)
    assert run_permutation_test(
        with_gap, subjects=np.append(subjects, "d")
    ) == run_permutation_test(differences, subjects=subjects)


@pytest.mark.parametrize("differences", [[], [np.nan, np.nan]])
def test_permutation_wants_differences(differences):
    with pytest.raises(CbirError, match="no differences"):
        run_permutation_test(differences)


def test_without_a_difference_p_is_evenly_spread():
    rng = np.random.default_rng(3)
    # Skewed in size, even in sign; few enough that every combination is counted.
    p_values = [
        run_permutation_test(rng.exponential(1, 13) * rng.choice([-1, 1], 13)) for _ in range(400)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.08


def test_subjects_keep_the_risk_where_images_alone_do_not():
    rng = np.random.default_rng(4)
    owner = np.repeat(np.arange(12), 6)
    false_alarms = {"images": 0, "subjects": 0}
    for _ in range(60):
        differences = rng.normal(0, 1, 12)[owner] + rng.normal(0, 0.2, 72)
        false_alarms["images"] += run_permutation_test(differences) < 0.05
        false_alarms["subjects"] += run_permutation_test(differences, subjects=owner) < 0.05
    assert false_alarms["subjects"] <= 8 < 15 < false_alarms["images"]


# Many tests


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.04: times 3, 2 and 1, and never less than the one before.
    np.testing.assert_allclose(adjust_by_holm([0.04, 0.01, 0.02]), [0.04, 0.03, 0.04])
    assert adjust_by_holm([]).shape == (0,)


# Ranks


def test_mean_ranks_by_hand():
    ranks, _ = compute_critical_difference([[0.9, 0.5, 0.1], [0.2, 0.2, 0.1]])
    assert ranks.tolist() == [(1 + 1.5) / 2, (2 + 1.5) / 2, 3]


def test_critical_difference_is_the_published_one():
    # Demšar 2006, section 3.2.2: four methods on 14 data sets, q 2.569, CD 1.25.
    _, critical = compute_critical_difference(np.random.default_rng(0).random((14, 4)))
    assert critical == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert round(critical, 2) == 1.25


def test_further_apart_than_critical_is_p_below_the_level():
    values = np.random.default_rng(5).normal(0, 1, (40, 6)) + np.linspace(0, 0.8, 6)
    ranks, critical = compute_critical_difference(values)
    p_values = scikit_posthocs.posthoc_nemenyi_friedman(values).to_numpy()
    apart = np.abs(ranks[:, None] - ranks) > critical
    assert 0 < apart.sum() < 30
    np.testing.assert_array_equal(apart, (p_values < 0.05) & ~np.eye(6, dtype=bool))

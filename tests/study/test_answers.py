"""Answers image by image, compared with loops and with statsmodels' neighbour scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest

from cbir_lib.study import answers

SCORES = arrays(float, (12, 3), elements=st.floats(-5, 5), unique=True)
LABELS = arrays(np.int64, 12, elements=st.integers(0, 2))


@given(SCORES)
def test_a_margin_is_the_gap_to_the_second(scores):
    for row, margin in zip(scores, answers.compute_margins(scores), strict=True):
        first, second, _ = sorted(row, reverse=True)
        assert margin == first - second


@given(SCORES, LABELS, st.booleans())
def test_the_answer_selected_is_of_its_class_and_at_its_place(scores, labels, correct):
    margins = answers.compute_margins(scores)
    for place, pick in ((0, min), (1, max)):
        selected = answers.select_by_margin(scores, labels, correct=correct, place=place)
        for label, row in enumerate(selected):
            own = [
                n
                for n in range(12)
                if labels[n] == label and (scores[n].argmax() == labels[n]) == correct
            ]
            assert (row is None) == (not own)
            if own:
                assert margins[row] == pick(margins[n] for n in own)


def test_the_median_of_three_is_the_second():
    scores = np.array([[1.0, 0], [3, 0], [2, 0], [0, 9]])
    selected = answers.select_by_margin(scores, np.array([0, 0, 0, 0]), correct=True, place=0.5)
    assert selected == [2, None]


def test_the_most_frequent_errors_come_first():
    confusion = np.array([[50, 3, 0], [7, 40, 3], [0, 1, 30]])
    assert answers.find_frequent_errors(confusion, 3) == [(1, 0), (0, 1), (1, 2)]
    assert answers.find_frequent_errors(confusion, 9) == [(1, 0), (0, 1), (1, 2), (2, 1)]
    assert confusion[0, 0] == 50  # what is given stays as it was


def test_no_error_is_no_pair():
    assert answers.find_frequent_errors(np.diag([3, 4]), 4) == []


@given(arrays(bool, 40), arrays(bool, 40))
def test_the_interval_of_a_group_is_wilsons(correct, mask):
    table = answers.tabulate_accuracy(correct, {"all": np.ones(40, bool), "some": mask})
    assert ("some" in table.index) == mask.any()
    for name, row in table.iterrows():
        group = mask if name == "some" else np.ones(40, bool)
        hits, images = int(correct[group].sum()), int(group.sum())
        expected = binomtest(hits, images).proportion_ci(0.95, method="wilson")
        assert row["images"] == images
        assert row["accuracy"] == pytest.approx(100 * hits / images)
        assert row[["low", "high"]].to_list() == pytest.approx(
            [100 * expected.low, 100 * expected.high], abs=1e-6
        )


def test_the_view_with_most_errors_comes_first():
    views = ["a", "a", "a", "b", "b", "c"]
    labels = np.array([0, 0, 0, 1, 1, 1])
    said = np.array([1, 2, 2, 1, 0, 1])
    table = answers.tabulate_views(views, labels, said, ["hand", "foot", "skull"])
    assert list(table.index) == ["a", "b", "c"]
    assert table["region"].to_list() == ["hand", "foot", "foot"]
    assert table["wrong"].to_list() == [3, 1, 0]
    assert table["mostly"].to_list() == ["skull", "hand", ""]
    assert table["accuracy"].to_list() == [0, 50, 100]

"""What each kind of answer accepts, and what it says to the rest."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from cbir_lib.errors import CbirError
from cbir_lib.teaching import check, checking, grade
from cbir_lib.teaching.answers import (
    UNANSWERED,
    Array,
    Function,
    Items,
    Number,
    Word,
    find_fault,
    hide,
)

HINT = "think again"
WHOLE = Number("n", 4, HINT, common=[(2, "its square root")])
SHARE = Number("share", 0.25, HINT, tolerance=0.01)
ROW = Array("row", np.array([1.0, 2.0, 3.0]), HINT, tolerance=0.1)
FLAGS = Array("flags", np.array([True, False]), HINT)
PAIRS = Items("pairs", frozenset({(1, 2), (3, 4)}), HINT)
NAMES = Items("names", frozenset({"A", "B"}), HINT)
STEP = Word("step", hide("window"), ("mean", "window"), HINT)
SQUARE = Function("square", lambda x: x * x, [(2,), (-3,)], HINT, hidden=[(0.5,)])


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (WHOLE, 4),
        (WHOLE, 4.0),
        (WHOLE, np.int64(4)),
        (WHOLE, np.array([4])),
        (SHARE, 0.259),
        (SHARE, np.float32(0.25)),
        (SHARE, Fraction(1, 4)),
        (SHARE, Decimal("0.25")),
        (WHOLE, torch.tensor(4)),
        (WHOLE, torch.tensor([[4.0]], requires_grad=True)),
        (SHARE, torch.tensor(0.25, dtype=torch.bfloat16)),
        (ROW, [1, 2, 3]),
        (ROW, (1.05, 2.0, 3.0)),
        (ROW, range(1, 4)),
        (ROW, [Fraction(1), Decimal(2), 3]),
        (ROW, torch.tensor([1.0, 2.0, 3.0], requires_grad=True)),
        (ROW, torch.tensor([1, 2, 3], dtype=torch.bfloat16)),
        (ROW, [torch.tensor(1.0, requires_grad=True), torch.tensor([2.0]).squeeze(), 3]),
        (FLAGS, torch.tensor([True, False])),
        (FLAGS, [True, False]),
        (PAIRS, {(3, 4), (1, 2)}),
        (PAIRS, np.array([[1, 2], [3, 4]])),
        (PAIRS, [[1, 2], (np.int64(3), 4)]),
        (PAIRS, torch.tensor([[1, 2], [3, 4]])),
        (PAIRS, {(1, torch.tensor(2)), (3, 4)}),
        (NAMES, ["B", "A", "A"]),
        (STEP, " Window "),
        (SQUARE, lambda x: x**2),
        (SQUARE, lambda x: Fraction(x) ** 2),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_right_answers_are_accepted_in_every_usual_form(expected, answer):
    assert find_fault(expected, answer) is None


@pytest.mark.parametrize(
    ("expected", "answer", "said"),
    [
        (WHOLE, ..., UNANSWERED),
        (WHOLE, None, UNANSWERED),
        (ROW, [1, ..., 3], UNANSWERED),
        (ROW, [[...], 2, 3], UNANSWERED),
        (WHOLE, 5, HINT),
        (WHOLE, 2, "its square root"),
        (WHOLE, "4", "a number is expected, not a str"),
        (WHOLE, True, "a number is expected, not a bool"),
        (WHOLE, 4 + 0j, "a real number"),
        (WHOLE, np.complex64(4), "a real number"),
        (WHOLE, Fraction(9, 2), HINT),
        (WHOLE, 10**400, HINT),
        (WHOLE, -(10**400), HINT),
        (WHOLE, Decimal("NaN"), "a finite number"),
        (WHOLE, Decimal("sNaN"), "a finite number"),
        (WHOLE, torch.tensor(True), "a number is expected, not a bool"),
        (WHOLE, torch.ones(2), "a number is expected, not a Tensor"),
        (WHOLE, [4, 4], "a number is expected, not a list"),
        (WHOLE, np.ones(3), "not an array of shape (3,)"),
        (SHARE, float("nan"), "a finite number"),
        (SHARE, float("inf"), "a finite number"),
        (SHARE, 0.2611, HINT),
        (ROW, 1.0, "an array is expected, not a float"),
        (ROW, "123", "an array is expected, not a str"),
        (ROW, [1, 2], "shape (3,) is expected, not (2,)"),
        (ROW, [[1], [2, 3], 4], "no single shape"),
        (ROW, [1, np.nan, 3], "1 values are not finite"),
        (ROW, ["1", "2", "3"], "numbers are expected"),
        (ROW, [1, 2, 10**400], "1 of 3 values are wrong. " + HINT),
        (ROW, [1, 2, Decimal("sNaN")], "1 values are not finite"),
        (ROW, [1, 2, object()], "numbers are expected, not values of type object"),
        (ROW, [1, {}, "3"], "numbers are expected"),
        (ROW, torch.ones(2, 3), "shape (3,) is expected, not (2, 3)"),
        (ROW, torch.tensor(1.0), "shape (3,) is expected, not ()"),
        (ROW, [1, 2, 3.5], "1 of 3 values are wrong. " + HINT),
        (FLAGS, [1, 0], "True and False are expected"),
        (FLAGS, [False, False], "1 of 2 values are wrong"),
        (PAIRS, 3, "a set is expected"),
        (PAIRS, {1, 2}, "elements of type tuple are expected, not an int"),
        (PAIRS, {(1, 2)}, "1 missing. "),
        (PAIRS, {(1, 2), (3, 4), (5, 6)}, "1 too many. "),
        (NAMES, "AB", "a set is expected, not a str"),
        (NAMES, [{}], "a set of plain things"),
        (STEP, "mean", HINT),
        (STEP, "door", "one of these is expected: mean, window"),
        (STEP, 3, "a text is expected, not an int"),
        (SQUARE, 4, "a function is expected, not an int"),
        (SQUARE, lambda x: 2 * x, "square(-3): think again"),
        (SQUARE, lambda x: ..., "square(2) returns nothing"),
        (SQUARE, lambda: 1, "square(2) raises TypeError"),
        (SQUARE, lambda x: "4", "square(2): a number is expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_wrong_answers_get_a_hint(expected, answer, said):
    assert said in find_fault(expected, answer)


def test_hidden_arguments_are_tried_only_when_grading():
    def square(x):
        return {2: 4, -3: 9}.get(x, 0)

    assert find_fault(SQUARE, square) is None
    assert "square(0.5)" in find_fault(SQUARE, square, graded=True)


def test_a_hash_does_not_show_the_word():
    assert "window" not in repr(STEP).replace("('mean', 'window')", "")
    assert hide("window") != hide("mean")


def test_a_verdict_says_which_parts_are_wrong_and_not_the_answer():
    verdict = check("networks-2", 3, 1, 19600)
    assert not verdict
    assert repr(verdict).splitlines()[0] == "✗ networks-2: not right (2 of 3 right)"
    assert "weights_stacked: " in repr(verdict) and "10800" not in repr(verdict)
    assert repr(check("networks-2", 3, 10800, 19600)) == "✓ networks-2: right"


def test_points_are_for_the_parts_that_are_right(capsys):
    assert grade("networks-2", 3, 1, 19600, points=6) == pytest.approx(4)
    assert "weights_stacked" in capsys.readouterr().out
    assert grade("networks-2", 3, 10800, 19600, points=6) == 6
    assert grade("networks-2", ..., "1", None, points=6) == 0


@pytest.mark.parametrize(
    ("exercise", "answers", "what", "hint"),
    [
        ("network-1", (1,), "unknown chapter with exercises 'network'", "'networks'"),
        ("networks-9", (1,), "unknown exercise 'networks-9'", "networks-1"),
        ("networks", (1,), "unknown chapter", "networks"),
        (7, (1,), "unknown chapter", "networks"),
        ("networks-2", (1, 2), "has 3 answers, not 2", "depth, weights_stacked, weights_single"),
    ],
)
def test_a_wrong_call_is_two_lines(exercise, answers, what, hint):
    with pytest.raises(CbirError) as caught:
        check(exercise, *answers)
    assert what in caught.value.what
    assert hint in caught.value.hint


def test_every_module_of_checks_is_a_chapter():
    assert "networks" in checking.CHAPTERS and len(checking.CHAPTERS) == 24

import errno
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from cbir_lib.errors import (
    CbirError,
    check_integer,
    check_switch,
    explain_trouble,
    is_number,
    is_out_of_memory,
    unknown_name_error,
)


def test_error_is_two_lines_everywhere():
    error = CbirError("the disk is full", "free some space")
    assert str(error) == "error: the disk is full\nhint: free some space"
    # IPython prints what this hook returns in place of a traceback.
    assert error._render_traceback_() == ["error: the disk is full", "hint: free some space"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("COSINE", "did you mean 'cosine'? known: L1, L2, cosine"),  # not one letter in common
        ("cosin", "did you mean 'cosine'? known: L1, L2, cosine"),
        ("xyzzy", "known: L1, L2, cosine"),
        (7, "known: L1, L2, cosine"),
    ],
)
def test_unknown_suggests_the_closest_name(name, hint):
    error = unknown_name_error("distance", name, iter(["L1", "L2", "cosine"]))
    assert error.what == f"unknown distance {name!r}"
    assert error.hint == hint


def test_a_long_table_is_not_listed_whole_but_searched_whole():
    error = unknown_name_error("run", "run-199x", [f"run-{n}" for n in range(200)])
    assert error.hint.startswith("did you mean 'run-199'? known: run-0, run-1, ")
    assert error.hint.endswith(", run-39 and 160 more")


# Parameters


@pytest.mark.parametrize("value", [2, 5, np.int64(3), np.uint8(2)])
def test_whole_numbers_of_python_and_numpy_are_taken(value):
    check_integer("bins", value, 2, 5)
    check_integer("bins", value, 2)


@pytest.mark.parametrize(
    "value", [1, 6, -3, 2.0, 2.5, True, np.True_, "3", None, float("nan"), Fraction(3), [3]]
)
def test_anything_else_than_a_whole_number_in_the_range_is_refused(value):
    with pytest.raises(CbirError) as caught:
        check_integer("bins", value, 2, 5)
    assert caught.value.what == f"bins {value!r} is out of range"
    assert caught.value.hint == "give a whole number, 2 to 5"


def test_a_range_may_have_no_end():
    check_integer("epochs", 10**400, 1)
    with pytest.raises(CbirError) as caught:
        check_integer("epochs", 0, 1)
    assert caught.value.hint == "give a whole number, 1 or more"


@pytest.mark.parametrize("value", [0, -2.5, np.float32(0.1), np.int8(3), 1e300])
def test_finite_numbers(value):
    assert is_number(value)


@pytest.mark.parametrize(
    "value",
    [True, np.True_, "1", None, 1j, float("nan"), float("inf"), -np.inf, 10**400, np.ones(1)],
)
def test_what_is_no_finite_number(value):
    assert not is_number(value)


@pytest.mark.parametrize("value", [1, 0, "yes", "", None, 1.0])
def test_a_switch_is_true_or_false(value):
    for known in (True, False):
        check_switch("clahe", known)
    with pytest.raises(CbirError) as caught:
        check_switch("clahe", value)
    assert str(caught.value).splitlines() == [
        f"error: clahe {value!r} is out of range",
        "hint: give True or False",
    ]


# Trouble of the machine


EXHAUSTED = {
    "torch, processor": lambda: torch.empty(2**50),
    "NumPy": lambda: np.empty(2**50),
    "OpenCV": lambda: cv2.resize(np.zeros((2, 2), np.uint8), (2**30, 2**20)),
    "operating system": lambda: raise_error(OSError(errno.ENOMEM, "Cannot allocate memory")),
    "GPU": lambda: raise_error(torch.OutOfMemoryError("all of 8 GiB are taken")),
    "threads": lambda: raise_error(RuntimeError("can't start new thread")),
}


def raise_error(error):
    raise error


@pytest.mark.parametrize("exhaust", EXHAUSTED.values(), ids=EXHAUSTED)
def test_too_little_memory_is_trouble_of_the_machine_whoever_reports_it(exhaust):
    with pytest.raises(Exception) as caught:
        exhaust()
    assert is_out_of_memory(caught.value)
    assert explain_trouble(caught.value).what == "too little memory"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("no memory of this name"),
        cv2.error("OpenCV(5.0.0) resize.cpp: error: (-215:Assertion failed) !ssize.empty()"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_faults_of_the_code_are_not_explained_away(error):
    assert not is_out_of_memory(error)
    assert explain_trouble(error) is None


def test_an_error_for_the_user_stays_what_it_is():
    error = CbirError("no memory for a batch of 3: DefaultCPUAllocator", "give a smaller one")
    assert not is_out_of_memory(error)
    assert explain_trouble(error) is error

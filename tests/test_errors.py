import pytest

from cbir_lib.errors import CbirError, unknown_name_error


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

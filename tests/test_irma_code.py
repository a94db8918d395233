from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbir_lib.errors import CbirError
from cbir_lib.irma_code import (
    AXES,
    CLASSES,
    CONSTANT_BRANCHING,
    LABELS,
    NAMES,
    Branching,
    IrmaCode,
    compute_hierarchical_error,
    compute_hierarchical_errors,
    describe_axis,
    name_region,
    parse_code,
)

ABDOMEN = IrmaCode("1121", "127", "700", "500")

# Few labels, so that codes often share the beginning of an axis.
few_codes = st.tuples(*(st.text("012", min_size=n, max_size=n) for n in AXES.values())).map(
    lambda parts: IrmaCode(*parts)
)
any_codes = st.tuples(*(st.text(LABELS, min_size=n, max_size=n) for n in AXES.values())).map(
    lambda parts: IrmaCode(*parts)
)
answers = st.tuples(*(st.text("012*", min_size=n, max_size=n) for n in AXES.values())).map(
    lambda parts: IrmaCode(*parts)
)
branchings = st.lists(few_codes, max_size=20).map(Branching.from_codes)


# Spelling


@pytest.mark.parametrize(
    "text",
    [
        "1121-127-700-500",
        "1121127700500",
        "  1121-127-700-500\r\n",
        '"1121-127-700-500"',
        "'1121127700500' ",
    ],
)
def test_spellings(text):
    assert parse_code(text) == ABDOMEN


def test_upper_case():
    assert parse_code("112D-12F-91A-3C0") == IrmaCode("112d", "12f", "91a", "3c0")


@given(any_codes)
def test_printed_code_is_read_again(code):
    assert (
        parse_code(str(code))
        == parse_code(str(code).replace("-", ""))
        == parse_code(str(code).upper())
        == parse_code(code)
        == code
    )
    assert len(str(code)) == 16


WRONG = {
    "1121-127-700-50": "biosystem '50' has 2 characters, not 3",
    "112-1127-700-500": "technique '112' has 3 characters, not 4",
    "1121-127-700": "has 3 axes, not 4",
    "1121-127-700-500-": "has 5 axes, not 4",
    "112112770050": "has 12 characters, not 13",
    "": "has 0 characters, not 13",
    "nan": "has 3 characters, not 13",
    "1121-12?-700-500": "character 3 of direction is '?'",
    "112112770ä500": "character 3 of anatomy is 'ä'",
    "1121-1 7-700-500": "character 2 of direction is ' '",
}


@pytest.mark.parametrize(("text", "reason"), WRONG.items())
def test_wrong_codes_are_named(text, reason):
    with pytest.raises(CbirError) as caught:
        parse_code(text)
    assert reason in caught.value.what
    assert text.replace("-", "") in caught.value.what.replace("-", "")
    assert "TTTT-DDD-AAA-BBB" in caught.value.hint


def test_dont_know_is_for_answers():
    assert parse_code("1121-12*-7**-***", answer=True).direction == "12*"
    with pytest.raises(CbirError, match=r"direction has a '\*'"):
        parse_code("1121-12*-7**-***")
    with pytest.raises(CbirError, match=r"'\*' is for answers"):
        compute_hierarchical_error("1121-12*-700-500", ABDOMEN)


@given(st.text(LABELS + "*-AZ \"'?", max_size=18))
def test_any_text_is_a_code_or_an_error(text):
    try:
        code = parse_code(text, answer=True)
    except CbirError:
        return
    assert parse_code(str(code), answer=True) == code


# Words


def describe(text):
    code = parse_code(text)
    return "; ".join(", ".join(describe_axis(axis, getattr(code, axis))) for axis in AXES)


def test_codes_in_words():
    assert describe(ABDOMEN) == (
        "x-ray, plain radiography, analog, overview image; coronal, anteroposterior, supine; "
        "abdomen; uropoietic system"
    )
    # The examples of Lehmann et al. 2003, Figure 1.
    assert describe("1123-211-520-3a0") == (
        "x-ray, plain radiography, analog, high beam energy; "
        "sagittal, lateral, right-left, inspiration; chest, lung; respiratory system, lung"
    )
    assert describe("1220-127-722-430") == (
        "x-ray, fluoroscopy, analog; coronal, anteroposterior, supine; "
        "abdomen, upper abdomen, middle; gastrointestinal system, stomach"
    )


def test_what_is_unspecified_unknown_or_not_named():
    assert describe_axis("biosystem", "000") == ("unspecified",)
    assert describe_axis("technique", "112d")[-1] == "112d (not named here)"
    assert describe_axis("anatomy", "z00") == ("z (not named here)",)
    assert describe_axis("anatomy", "402") == (
        "upper extremity",
        "unspecified",
        "402 (not named here)",
    )
    assert describe_axis("direction", "1**") == ("coronal", "don't know")
    assert describe_axis("direction", "***") == ("don't know",)
    with pytest.raises(CbirError, match="unknown axis of the IRMA code 'anatomie'") as caught:
        describe_axis("anatomie", "700")
    assert "did you mean 'anatomy'" in caught.value.hint


def test_every_name_has_its_parent_and_every_class_its_region():
    for axis, names in NAMES.items():
        for prefix in names:
            assert 1 <= len(prefix) <= AXES[axis]
            assert set(prefix) <= set(LABELS[1:])
            assert len(prefix) == 1 or prefix[:-1] in names
    assert {first: name_region(f"1121-120-{first}00-700") for first in CLASSES} == CLASSES
    assert [name_region(f"1121-120-{first}11-700") for first in "01678z"] == [
        "unspecified",
        "whole body",
        "breast",
        "abdomen",
        "pelvis",
        "z (not named here)",
    ]


# The hierarchical error


def test_published_example():
    # Müller et al. 2008: scores of one axis, of at most 1. It is the technique axis: its list of
    # labels has 3, 9 and 16 after 3, 31 and 318, with 0 among them. The scores fit 10 at the first
    # position, and no other number.
    branching = Branching(
        {("technique", ""): 10, ("technique", "3"): 3, ("technique", "31"): 9}
        | {("technique", "318"): 16}
    )
    published = {
        "318a": 0.000,
        "318*": 0.024,
        "3187": 0.049,
        "31*a": 0.082,
        "31**": 0.082,
        "3177": 0.165,
        "3***": 0.343,
        "32**": 0.687,
        "1000": 1.000,
    }
    rest = "-000-000-000"
    errors = compute_hierarchical_errors(
        ["318a" + rest] * 9, [text + rest for text in published], branching
    )
    assert (4 * errors).round(3).tolist() == list(published.values())


# One axis, three positions: 1 + 1/2 + 1/3 = 11/6 where all positions have as many labels.
THREE = Fraction(11, 6)
# Anatomy 310 with 4, 2 and 5 labels: 1/4 + 1/4 + 1/15 = 17/30.
BRANCHING = Branching({("anatomy", ""): 4, ("anatomy", "3"): 2, ("anatomy", "31"): 5})
BY_HAND = [
    ("312", "312", CONSTANT_BRANCHING, Fraction(0)),
    ("312", "313", CONSTANT_BRANCHING, Fraction(1, 3) / THREE),
    ("312", "31*", CONSTANT_BRANCHING, Fraction(1, 6) / THREE),
    (
        "312",
        "322",
        CONSTANT_BRANCHING,
        (Fraction(1, 2) + Fraction(1, 3)) / THREE,
    ),  # the last 2 is no help
    (
        "312",
        "3*2",
        CONSTANT_BRANCHING,
        (Fraction(1, 4) + Fraction(1, 6)) / THREE,
    ),  # neither is it here
    ("312", "2*2", CONSTANT_BRANCHING, Fraction(1)),  # wrong stays wrong
    ("312", "***", CONSTANT_BRANCHING, Fraction(1, 2)),
    ("310", "31*", CONSTANT_BRANCHING, Fraction(0)),  # what is unspecified cannot be known
    ("310", "3**", CONSTANT_BRANCHING, Fraction(1, 4) / THREE),
    ("310", "3*5", CONSTANT_BRANCHING, (Fraction(1, 4) + Fraction(1, 6)) / THREE),
    ("310", "311", CONSTANT_BRANCHING, Fraction(1, 3) / THREE),  # too much said is wrong
    ("311", "310", CONSTANT_BRANCHING, Fraction(1, 3) / THREE),  # and so is too little
    ("310", "311", BRANCHING, Fraction(1, 15) / Fraction(17, 30)),
    ("310", "3**", BRANCHING, Fraction(1, 8) / Fraction(17, 30)),
    ("310", "320", BRANCHING, (Fraction(1, 4) + Fraction(1, 15)) / Fraction(17, 30)),
    # After 4 nothing is listed: one label each.
    ("410", "420", BRANCHING, Fraction(5, 6) / (Fraction(1, 4) + Fraction(5, 6))),
]


@pytest.mark.parametrize(("true", "answer", "branching", "share"), BY_HAND)
def test_error_by_hand(true, answer, branching, share):
    error = compute_hierarchical_error(f"1121-120-{true}-700", f"1121-120-{answer}-700", branching)
    assert error == pytest.approx(float(share / 4), abs=1e-12)


def test_axes_add_up():
    true = "1121-120-312-700"
    assert compute_hierarchical_error(true, "2121-220-412-600") == 1.0
    assert compute_hierarchical_error(true, "2121-120-312-700") == 0.25
    assert compute_hierarchical_error(true, "2121-120-313-700") == pytest.approx(0.25 + 2 / 11 / 4)
    assert compute_hierarchical_error(true, "****-***-***-***") == pytest.approx(
        (1 / 2 + (3 / 2 / 2) / (11 / 6) + 1 / 2 + (1 / 2) / (11 / 6)) / 4
    )


def naive(true, answer, labels):
    """The error from its formula: one loop, exact fractions."""
    total = Fraction(0)
    for axis, length in AXES.items():
        right, given_, state = getattr(true, axis), getattr(answer, axis), "right"
        cost = largest = Fraction(0)
        for i in range(length):
            weight = Fraction(1, labels.get((axis, right[:i]), 1) * (i + 1))
            largest += weight
            if state == "right" and given_[i] == "*":
                state = "unsure"
            elif state == "right" and given_[i] != right[i]:
                state = "wrong"
            if state == "wrong":
                cost += weight
            elif state == "unsure" and (given_[i], right[i]) != ("*", "0"):
                cost += weight / 2
        total += cost / largest / 4
    return float(total)


@given(st.lists(st.tuples(few_codes, answers), max_size=10), branchings)
def test_error_as_written_out(pairs, branching):
    true, given_ = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    errors = compute_hierarchical_errors(true, given_, branching)
    assert errors.dtype == np.float64
    expected = [naive(*pair, branching.labels) for pair in pairs]
    np.testing.assert_allclose(errors, expected, rtol=0, atol=1e-12)


@given(few_codes, few_codes, answers, branchings)
def test_error_is_a_share_and_none_only_for_the_right_code(true, other, answer, branching):
    assert 0 <= compute_hierarchical_error(true, answer, branching) <= 1
    assert compute_hierarchical_error(true, true, branching) == 0
    assert (compute_hierarchical_error(true, other, branching) == 0) == (true == other)


@given(few_codes, answers, st.integers(0, 12), branchings)
def test_dont_know_costs_between_right_and_wrong(true, answer, place, branching):
    def changed(code, character):
        characters = list(str(code).replace("-", ""))
        characters[place] = character
        return compute_hierarchical_error(true, "".join(characters), branching)

    assert changed(answer, "*") <= changed(answer, "3") + 1e-12  # 3 is always wrong
    # Where all the rest is right: a star may well pay where it hides a mistake behind it.
    assert 0 <= changed(true, "*") < changed(true, "3")


@given(st.lists(few_codes, min_size=1, max_size=20))
def test_branching_counts_the_labels_that_occur(codes):
    branching = Branching.from_codes(codes)
    for code in codes:
        for axis, length in AXES.items():
            path = getattr(code, axis)
            for i in range(length):
                here = {
                    getattr(other, axis)[i]
                    for other in codes
                    if getattr(other, axis)[:i] == path[:i]
                }
                assert branching.count_labels(axis, path)[i] == len(here)
    assert Branching.from_codes(str(code) for code in [*codes, *codes]) == branching


def test_places_that_never_occurred_count_one_label():
    branching = Branching.from_codes(["1121-120-310-700", "1121-120-410-700", "1121-120-320-700"])
    assert branching.count_labels("anatomy", "310") == [2, 2, 1]
    assert branching.count_labels("anatomy", "912") == [2, 1, 1]
    assert CONSTANT_BRANCHING.count_labels("technique", "1121") == [1, 1, 1, 1]


def test_as_many_answers_as_codes():
    assert compute_hierarchical_errors([], []).shape == (0,)
    with pytest.raises(CbirError, match="1 answers for 2 codes"):
        compute_hierarchical_errors([ABDOMEN, ABDOMEN], [ABDOMEN])
    with pytest.raises(CbirError, match="biosystem '50' has 2 characters"):
        compute_hierarchical_error(ABDOMEN, "1121-127-700-50")

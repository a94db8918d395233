import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cbir_lib.descriptors.combination import combine, compute_mean_distance
from cbir_lib.errors import CbirError
from cbir_lib.retrieval.distances import pairwise

RNG = np.random.default_rng(0)
A, B = RNG.uniform(0, 1, (2, 3, 4)).astype(np.float32)
MATRICES = st.lists(arrays(np.float32, (3, 4), elements=st.floats(0, 100, width=32)), min_size=1)


def test_by_hand():
    distances = {"a": np.array([[1.0, 2.0]]), "b": np.array([[30.0, 10.0]])}
    expected = [[2 * 1 / 4 + 1 * 30 / 20, 2 * 2 / 4 + 1 * 10 / 20]]
    combined = combine(distances, {"a": 4, "b": 20}, {"a": 2, "b": 1})
    assert combined.dtype == np.float32
    assert combined.tolist() == expected == [[2.0, 1.5]]


def test_mean_distance_is_the_mean_over_all_pairs():
    vectors = RNG.normal(size=(6, 3))
    pairs = [np.linalg.norm(a - b) for a in vectors for b in vectors]
    assert compute_mean_distance(pairwise("L2", vectors, vectors)) == pytest.approx(sum(pairs) / 36)


@given(MATRICES, st.data())
def test_it_is_the_literal_sum(matrices, data):
    names = [str(i) for i in range(len(matrices))]
    numbers = st.floats(0.01, 100)
    scales = {name: data.draw(numbers) for name in names}
    weights = {name: data.draw(numbers) for name in names}
    combined = combine(dict(zip(names, matrices, strict=True)), scales, weights)
    for q in range(3):
        for x in range(4):
            expected = sum(
                weights[n] * float(matrix[q, x]) / scales[n]
                for n, matrix in zip(names, matrices, strict=True)
            )
            assert combined[q, x] == pytest.approx(expected, rel=1e-5, abs=1e-30)


@pytest.mark.parametrize("factor", [1e-6, 1000.0])
def test_the_unit_of_a_distance_does_not_matter(factor):
    def combined(b):
        return combine(
            {"a": A, "b": b}, {"a": compute_mean_distance(A), "b": compute_mean_distance(b)}
        )

    assert np.allclose(combined(B), combined(B * factor), rtol=1e-5)
    assert combined(B).mean() == pytest.approx(2, rel=1e-5)  # each has mean 1


def test_weight_one_for_one_alone_keeps_its_ranking():
    combined = combine({"a": A, "b": B}, {"a": 0.5, "b": 0.5}, {"a": 3, "b": 0})
    assert np.array_equal(combined.argsort(axis=1), A.argsort(axis=1))


def test_the_distances_are_left_alone():
    a, b = A.copy(), B.copy()
    combine({"a": a, "b": b}, {"a": 2, "b": 3})
    assert np.array_equal(a, A)
    assert np.array_equal(b, B)


@pytest.mark.parametrize(
    ("distances", "scales", "weights", "message"),
    [
        ({}, {}, None, "no distances"),
        ({"a": A}, {}, None, "scale of 'a' is missing"),
        ({"a": A}, {"a": 1, "aa": 1}, None, "unknown descriptor of a scale 'aa'"),
        ({"a": A}, {"a": 1}, {}, "weight of 'a' is missing"),
        ({"a": A}, {"a": 1}, {"a": 1, "b": 1}, "unknown descriptor of a weight 'b'"),
        ({"a": A}, {"a": 0}, None, "scale 0 of 'a' is out of range\n.*more than 0"),
        ({"a": A}, {"a": np.nan}, None, "scale nan of 'a' is out of range"),
        ({"a": A}, {"a": "1"}, None, "scale '1' of 'a' is out of range"),
        ({"a": A}, {"a": True}, None, "scale True of 'a' is out of range"),
        ({"a": A}, {"a": 1}, {"a": -1}, "weight -1 of 'a' is out of range\n.*0 or more"),
        ({"a": A}, {"a": 1}, {"a": 0}, "weights are all 0"),
        ({"a": A, "b": B[:2]}, {"a": 1, "b": 1}, None, r"'b' have shape \(2, 4\)"),
        ({"a": A[0]}, {"a": 1}, None, "'a' are no matrix"),
        ({"a": A[:0]}, {"a": 1}, None, "'a' are no matrix"),
        ({"a": A.astype(str)}, {"a": 1}, None, "'a' are no matrix"),
        ({"a": A - 1}, {"a": 1}, None, "'a' have a value that is negative"),
        ({"a": A * np.nan}, {"a": 1}, None, "'a' have a value that is negative or not finite"),
    ],
)
def test_what_cannot_be_combined(distances, scales, weights, message):
    with pytest.raises(CbirError, match=message):
        combine(distances, scales, weights)


@pytest.mark.parametrize(
    ("distances", "message"),
    [(A * 0, "all 0"), (A[0], "no matrix"), (-A, "negative"), (A + np.inf, "not finite")],
)
def test_what_has_no_mean_distance(distances, message):
    with pytest.raises(CbirError, match=message):
        compute_mean_distance(distances)

"""Distances: against SciPy, by hand, and the properties that make them distances."""

from math import log, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from cbir_lib.descriptors.thumbnail import compute_image_distortion
from cbir_lib.errors import CbirError
from cbir_lib.retrieval import distances
from cbir_lib.retrieval.distances import DISTANCES, pairwise

unhurried = settings(deadline=None)  # a busy machine is no failure

# Two sets (Q, D) and (G, D) of histograms, which every distance accepts: multiples of 1/8 are exact
# in float32, and the one added to the first bin keeps a histogram from being empty.
EIGHTHS = st.integers(0, 800).map(lambda n: n / 8)
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 12))


@st.composite
def histograms(draw):
    queries, gallery, dimensions = draw(SHAPES)
    a = draw(arrays(np.float32, (queries, dimensions), elements=EIGHTHS))
    b = draw(arrays(np.float32, (gallery, dimensions), elements=EIGHTHS))
    a[:, 0] += 1
    b[:, 0] += 1
    return a, b


def scipy_s(distance, a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    if distance == "Jensen-Shannon":  # SciPy has the root of half of ours
        return 2 * cdist(a, b, "jensenshannon") ** 2
    if distance == "chi-square":  # SciPy has none
        return np.array([[((p - q) ** 2 / (p + q)).sum() for q in b] for p in a])
    if distance == "intersection":
        a, b = a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True)
        return np.array([[1 - np.minimum(p, q).sum() for q in b] for p in a])
    if distance == "earth mover":
        places = np.arange(a.shape[1])
        return np.array([[wasserstein_distance(places, places, p, q) for q in b] for p in a])
    if distance == "inner product":
        return -np.einsum("qd,gd->qg", a, b)
    return cdist(a, b, {"L1": "cityblock", "L2": "euclidean", "cosine": "cosine"}[distance])


OF_HISTOGRAMS = ("Jensen-Shannon", "chi-square", "intersection", "earth mover")
# The image distortion has tests of its own, below and in tests/descriptors/test_thumbnail.py.
EVERY = [name for name in DISTANCES if name != "image distortion"]
ZERO = [name for name in EVERY if name != "inner product"]  # between equal vectors
every_distance = pytest.mark.parametrize("distance", EVERY)


@every_distance
@pytest.mark.parametrize(
    ("queries", "gallery", "dimensions"), [(1, 1, 1), (3, 40, 7), (40, 3, 800)]
)
def test_agrees_with_scipy(distance, queries, gallery, dimensions):
    rng = np.random.default_rng(dimensions)
    a, b = rng.random((queries, dimensions)), rng.random((gallery, dimensions))
    if distance not in OF_HISTOGRAMS:
        a, b = a - 0.5, b - 0.5  # negative values too
    a, b = a.astype(np.float32), b.astype(np.float32)
    distances = pairwise(distance, a, b)
    assert distances.shape == (queries, gallery)
    assert distances.dtype == np.float32
    # float32 against float64: entropies of 800 bins are sums of about ln 800 = 6.7.
    np.testing.assert_allclose(distances, scipy_s(distance, a, b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("distance", ["L1", "L2", "Jensen-Shannon", "chi-square"])
def test_blocks_of_a_gallery_change_no_bit(distance, monkeypatch):
    rng = np.random.default_rng(0)
    a, b = (rng.random((n, 40), np.float32) * (rng.random((n, 40)) < 0.7) + 0.01 for n in (5, 1100))
    whole = pairwise(distance, a, b)
    monkeypatch.setattr(distances, "CACHED_VALUES", 1)
    assert [len(distances.split_gallery(b, least)) for least in (16, 512)] == [68, 2]
    np.testing.assert_array_equal(pairwise(distance, a, b), whole)


@pytest.mark.parametrize(
    "distance", ["L1", "L2", "Jensen-Shannon", "chi-square", "intersection", "earth mover"]
)
def test_a_pair_alone_has_the_same_bits_in_any_memory(distance):
    a, b = np.random.default_rng(1).random((2, 20, 75), np.float32)
    whole = pairwise(distance, a, b)
    b.flags.writeable = False  # as a memory map has it
    columns = np.asfortranarray(b)
    assert [[pairwise(distance, [p], [q])[0, 0] for q in columns] for p in a] == whole.tolist()
    np.testing.assert_array_equal(pairwise(distance, a, columns), whole)


def test_entropies_are_as_near_as_float32_allows():
    values = np.exp(np.linspace(-87, 5, 100_001)).astype(np.float32)  # from the least normal one on
    exact = values * np.log(values.astype(np.float64))
    terms = distances.compute_entropy_terms(values[None])[0]
    np.testing.assert_allclose(terms, exact, rtol=3e-7)
    assert distances.compute_entropy_terms(np.zeros((1, 1), np.float32)) == 0


@pytest.mark.parametrize("bins", [31, 32, 33, 16_384])
def test_divergences_of_many_bins_are_as_near_as_their_terms(bins):
    rng = np.random.default_rng(bins)
    a, b = rng.random((2, 4, bins), np.float32) ** 3
    a *= rng.random(a.shape) < 0.3
    a[0], a[:, 0] = b[0], 1  # one query is in the gallery; none is empty
    b[0, 0] = 1
    exact = scipy_s("Jensen-Shannon", a, b)
    found = pairwise("Jensen-Shannon", a, b)
    np.testing.assert_allclose(found, exact, atol=1e-6)
    assert found[0, 0] == 0


# Two points a right angle apart, and histograms of which half overlaps.
BY_HAND = [
    ("L1", [1, 2], [4, -2], 3 + 4),
    ("L2", [1, 2], [4, -2], sqrt(3**2 + 4**2)),
    ("cosine", [1, 0], [0, 3], 1 - 0),
    ("cosine", [1, 0], [2, 2], 1 - 1 / sqrt(2)),
    ("cosine", [1, 2], [-2, -4], 1 - -1),
    ("cosine", [0, 0], [1, 2], 1),  # no direction
    ("cosine", [1, 2], [0, 0], 1),
    ("cosine", [0, 0], [0, 0], 0),
    ("inner product", [1, 2], [4, -3], -(1 * 4 - 2 * 3)),
    ("Jensen-Shannon", [1, 0], [0, 1], 2 * log(2)),  # nothing in common
    # p = (1/2, 1/2, 0), q = (0, 1/2, 1/2): the middle bin adds nothing, the outer ones 1/2 ln 2.
    ("Jensen-Shannon", [1, 1, 0], [0, 2, 2], log(2) / 2 + log(2) / 2),
    # p = (1/4, 3/4), q = (3/4, 1/4), mean (1/2, 1/2).
    ("Jensen-Shannon", [1, 3], [3, 1], 2 * (1 / 4 * log(1 / 2) + 3 / 4 * log(3 / 2))),
    # A bin that is empty in both adds nothing.
    ("Jensen-Shannon", [1, 0, 3, 0], [3, 0, 1, 0], 2 * (1 / 4 * log(1 / 2) + 3 / 4 * log(3 / 2))),
    ("chi-square", [1, 3], [3, 1], 2**2 / 4 + 2**2 / 4),  # as they are, not scaled
    ("chi-square", [1, 0, 0], [0, 0, 2], 1**2 / 1 + 2**2 / 2),  # empty in both: nothing
    ("chi-square", [0, 0], [1, 2], 1 + 2),
    ("chi-square", [0, 0], [0, 0], 0),
    ("intersection", [1, 1, 0], [0, 2, 2], 1 - 1 / 2),
    ("intersection", [1, 0], [0, 3], 1),
    ("intersection", [1, 3], [3, 1], 1 - (1 / 4 + 1 / 4)),
    ("earth mover", [5, 0, 0, 0], [0, 0, 0, 1], 3),  # all of it, three bins on
    ("earth mover", [1, 1, 0], [0, 2, 2], 1 / 2 * 2),  # or each half by one bin
    ("earth mover", [1, 3], [3, 1], 1 / 2),
]


@pytest.mark.parametrize(("distance", "a", "b", "expected"), BY_HAND)
def test_by_hand(distance, a, b, expected):
    assert pairwise(distance, [a], [b])[0, 0] == pytest.approx(expected, rel=1e-6, abs=1e-7)


@every_distance
@unhurried
@given(sets=histograms())
def test_is_symmetric_and_never_negative(distance, sets):
    a, b = sets
    there, back = pairwise(distance, a, b), pairwise(distance, b, a)
    np.testing.assert_allclose(there, back.T, rtol=1e-6, atol=1e-6)
    assert (there >= 0).all() or distance not in ZERO


@pytest.mark.parametrize("distance", ZERO)
@unhurried
@given(sets=histograms())
def test_is_zero_between_equal_vectors(distance, sets):
    itself = np.diagonal(pairwise(distance, sets[0], sets[0].copy()))
    np.testing.assert_allclose(itself, 0, atol=1e-6)


@pytest.mark.parametrize("distance", ZERO)
def test_is_zero_between_equal_vectors_only(distance):
    a = np.random.default_rng(0).random((6, 5))
    assert (pairwise(distance, a, a)[~np.eye(6, dtype=bool)] > 1e-3).all()


@pytest.mark.parametrize("distance", [name for name in EVERY if name != "earth mover"])
@unhurried
@given(sets=histograms(), seed=st.integers(0, 99))
def test_the_order_of_the_dimensions_does_not_matter(distance, sets, seed):
    a, b = sets
    order = np.random.default_rng(seed).permutation(a.shape[1])
    np.testing.assert_allclose(
        pairwise(distance, a[:, order], b[:, order]), pairwise(distance, a, b), rtol=1e-5, atol=2e-6
    )


@unhurried
@given(sets=histograms())
def test_earth_mover_reads_from_either_end(sets):
    a, b = sets
    there, back = pairwise("earth mover", a, b), pairwise("earth mover", a[:, ::-1], b[:, ::-1])
    np.testing.assert_allclose(there, back, atol=1e-5)


@pytest.mark.parametrize("distance", ["cosine", "Jensen-Shannon", "intersection", "earth mover"])
@unhurried
@given(sets=histograms(), scale=st.sampled_from([1e-3, 0.3, 7, 1e4]))
def test_the_scale_of_a_vector_does_not_matter(distance, sets, scale):
    a, b = sets
    scaled = pairwise(distance, np.float32(scale) * a, b)
    np.testing.assert_allclose(scaled, pairwise(distance, a, b), atol=3e-6)


@pytest.mark.parametrize(
    ("distance", "upper"), [("cosine", 2), ("Jensen-Shannon", 2 * log(2)), ("intersection", 1)]
)
@unhurried
@given(sets=histograms())
def test_stays_below_its_upper_bound(distance, upper, sets):
    a, b = sets
    # The same histograms, and those in which no bin is filled in both: there the bound is reached.
    apart = np.hstack([a, 0 * a]), np.hstack([0 * b, b])
    if distance == "cosine":
        apart = a, -b
    assert pairwise(distance, a, b).max() <= upper + 1e-6
    assert pairwise(distance, *apart).max() <= upper + 1e-6
    if distance != "cosine":
        np.testing.assert_allclose(pairwise(distance, *apart), upper, atol=1e-6)


@pytest.mark.parametrize(("given_name", "meant"), [("l1", "L1"), ("cosin", "cosine")])
def test_an_unknown_name_is_refused_and_the_closest_suggested(given_name, meant):
    with pytest.raises(CbirError) as caught:
        pairwise(given_name, np.ones((1, 2)), np.ones((1, 2)))
    assert repr(given_name) in caught.value.what
    assert f"did you mean {meant!r}?" in caught.value.hint


@every_distance
@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), r"\(2, 3\) and \(2, 4\)"),
        (np.ones(3), np.ones((2, 3)), r"\(3,\)"),
        (np.ones((2, 3)), np.ones((2, 3, 1)), r"\(2, 3, 1\)"),
        ([[1, np.nan]], [[1, 1]], "not finite"),
        ([[1, 1]], [[1, np.inf]], "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(distance, a, b, said):
    with pytest.raises(CbirError, match=said):
        pairwise(distance, a, b)


@pytest.mark.parametrize("distance", OF_HISTOGRAMS)
@pytest.mark.parametrize("wrong", [[0.5, -0.1], [0, 0]], ids=["negative", "empty"])
def test_what_is_no_histogram_is_refused(distance, wrong):
    right = [0.5, 0.5]
    for a, b in (([right, wrong], [right]), ([right], [right, wrong])):
        if distance == "chi-square" and not any(wrong):
            assert pairwise(distance, a, b).max() == 1  # of an empty one, the other's sum
            continue
        with pytest.raises(CbirError, match=f"the {distance} distance needs histograms"):
            pairwise(distance, a, b)


def test_copies_are_equally_far_wherever_they_stand():
    # The blocks of a matrix product round differently; a ranking must not depend on it.
    rng = np.random.default_rng(0)
    vector = rng.random((1, 37), dtype=np.float32)
    gallery = np.repeat(vector, 67, axis=0)
    queries = np.concatenate([vector, rng.random((30, 37), dtype=np.float32)])
    for distance in EVERY:
        distances = pairwise(distance, queries, gallery)
        assert (distances == distances[:, :1]).all(), distance
        assert (distances[0] == 0).all() or distance not in ZERO, distance


# On a device of torch. The processor is one: this is the code that runs on a GPU.


@every_distance
def test_torch_computes_the_same(distance, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK_VALUES", 700)
    rng = np.random.default_rng(0)
    a, b = rng.random((13, 9), dtype=np.float32), rng.random((21, 9), dtype=np.float32)
    a[:, 3:5], b[:9, 4:6] = 0, 0  # empty in one, and in both
    a[5] = b[7]
    here, there = pairwise(distance, a, b), pairwise(distance, a, b, device="cpu")
    assert there.dtype == np.float32
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)
    for v in (a, b):
        v[2] = 0
    if distance in ("L1", "L2", "cosine", "inner product", "chi-square"):
        here, there = pairwise(distance, a, b), pairwise(distance, a, b, device="cpu")
        np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)
    if distance in OF_HISTOGRAMS:
        with pytest.raises(CbirError, match="needs histograms"):
            pairwise(distance, -a, b, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(CbirError, match="no device 'cuda'"):
        pairwise("L2", np.ones((1, 2)), np.ones((1, 2)), device="cuda")


# The image distortion


def test_image_distortion_takes_thumbnails_as_vectors():
    images = np.random.default_rng(0).integers(0, 256, (7, 16, 16), dtype=np.uint8)
    vectors = images.reshape(7, -1).astype(np.float32) / 255
    distances = pairwise("image distortion", vectors[:3], vectors)
    np.testing.assert_array_equal(distances, compute_image_distortion(images[:3], images))
    np.testing.assert_array_equal(np.diagonal(distances), 0)


@pytest.mark.parametrize("vectors", [np.ones((2, 15)), np.full((2, 16), -0.1), np.full((2, 16), 2)])
def test_image_distortion_refuses_what_is_no_thumbnail(vectors):
    with pytest.raises(CbirError, match="square thumbnails of values 0 to 1"):
        pairwise("image distortion", vectors, vectors)

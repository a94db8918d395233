"""Haralick's features: against scikit-image and mahotas, and the bounds they keep."""

from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.feature import graycomatrix, graycoprops
from sklearn.base import clone

from cbir_lib.descriptors import blocks, haralick
from cbir_lib.descriptors.haralick import (
    DIRECTIONS,
    FEATURES,
    Haralick,
    compute_co_occurrence,
    list_greatest,
)
from cbir_lib.errors import CbirError

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (3, 21, 30), dtype=np.uint8)
SMOOTH = (np.add.outer(np.arange(24), 3 * np.arange(33)) + RNG.integers(0, 9, (2, 24, 33))).astype(
    np.uint8
)
unhurried = settings(deadline=None, max_examples=30)
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 12), st.integers(1, 12))
# scikit-image's angles in our order: right, down and right, down, down and left.
ANGLES = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]


@pytest.mark.parametrize("images", [NOISE, SMOOTH], ids=["noise", "smooth"])
@pytest.mark.parametrize(("levels", "offset"), [(2, 1), (32, 3), (256, 1)])
def test_vectors_are_those_of_the_definition(images, levels, offset):
    vectors = Haralick(levels, offset, scaled=False).transform(images)
    matrices = compute_co_occurrence(images, levels, offset)
    for image, vector, matrix in zip(images, vectors, matrices, strict=True):
        expected = [
            haralick.compute_reference_matrix(image, levels, offset * down, offset * right)
            for down, right in DIRECTIONS
        ]
        np.testing.assert_allclose(matrix, expected, atol=1e-7)
        features = np.array([haralick.compute_reference(p) for p in expected])
        np.testing.assert_allclose(vector[:13], features.mean(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(vector[13:], np.ptp(features, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("images", [NOISE, SMOOTH], ids=["noise", "smooth"])
@pytest.mark.parametrize(("levels", "offset"), [(2, 1), (8, 3), (32, 1), (100, 2), (256, 1)])
def test_matrices_are_scikit_images(images, levels, offset):
    computed = compute_co_occurrence(images, levels, offset)
    for image, matrices in zip(images, computed, strict=True):
        level = (image.astype(int) * levels // 256).astype(np.uint8)
        # scikit-image moves by round(distance sin), round(distance cos).
        for matrix, angle in zip(matrices, ANGLES, strict=True):
            distance = offset * (np.sqrt(2) if angle in ANGLES[1::2] else 1)
            theirs = graycomatrix(level, [distance], [angle], levels, symmetric=True, normed=True)
            np.testing.assert_allclose(matrix, theirs[..., 0, 0], atol=1e-7)


@pytest.mark.parametrize(
    ("feature", "prop"),
    [
        ("angular second moment", "ASM"),
        ("contrast", "contrast"),
        ("inverse difference moment", "homogeneity"),
        ("correlation", "correlation"),
        ("variance", "variance"),
        ("entropy", "entropy"),
    ],
)
@pytest.mark.parametrize("images", [NOISE, SMOOTH], ids=["noise", "smooth"])
def test_features_are_scikit_images(feature, prop, images):
    vectors = Haralick(16, scaled=False).transform(images)
    place = FEATURES.index(feature)
    for image, vector in zip(images, vectors, strict=True):
        matrices = graycomatrix(image // 16, [1], ANGLES, 16, symmetric=True, normed=True)
        values = graycoprops(matrices, prop)[0]
        assert vector[place] == pytest.approx(values.mean(), rel=1e-4, abs=1e-6)
        assert vector[13 + place] == pytest.approx(np.ptp(values), rel=1e-3, abs=1e-5)


def in_nats(features):
    """Mahotas's features of each direction, which are in bits, in nats."""
    features = features.copy()
    features[:, [7, 8, 10]] *= log(2)
    features[:, 12] = np.sqrt(1 - (1 - features[:, 12] ** 2) ** log(2))  # of exp(-2 information)
    return features


@pytest.mark.parametrize("levels", [4, 32, 256])
@pytest.mark.parametrize("images", [NOISE, SMOOTH], ids=["noise", "smooth"])
def test_features_are_mahotas(images, levels):
    mahotas = pytest.importorskip("mahotas.features")
    vectors = Haralick(levels, scaled=False).transform(images)
    for image, vector in zip(images, vectors, strict=True):
        level = image // (256 // levels)
        theirs = in_nats(mahotas.haralick(level, use_x_minus_y_variance=True))
        np.testing.assert_allclose(vector[:13], theirs.mean(0), rtol=2e-4, atol=2e-4)
        np.testing.assert_allclose(vector[13:], np.ptp(theirs, axis=0), rtol=2e-3, atol=1e-3)


def test_by_hand():
    # One row: pairs (0, 0), (0, 1), (1, 1), both ways: p = [[2, 1], [1, 2]] / 6.
    image = np.array([[[0, 0, 255, 255]]], np.uint8)
    expected = np.array([[2, 1], [1, 2]]) / 6
    assert np.allclose(compute_co_occurrence(image, 2)[0], [expected, *np.zeros((3, 2, 2))])
    vector = Haralick(2, scaled=False).transform(image)[0]
    joint = -(4 / 6 * log(2 / 6) + 2 / 6 * log(1 / 6))
    by_hand = [
        10 / 36,
        2 / 6,
        (2 / 6 - 1 / 4) / (1 / 4),  # E[ij] - mean^2, over the variance
        1 / 4,
        4 / 6 + 2 / 6 / 2,
        1,
        2 / 6 * 1 + 2 / 6 * 1,  # sums 0, 1, 2 in shares 1/3
        log(3),
        joint,
        2 / 9,
        -(4 / 6 * log(4 / 6) + 2 / 6 * log(2 / 6)),
        (joint - 2 * log(2)) / log(2),
        np.sqrt(1 - np.exp(-2 * (2 * log(2) - joint))),
    ]
    np.testing.assert_allclose(vector[:13], by_hand, rtol=1e-5)
    assert (vector[13:] == 0).all()  # one direction only


@pytest.mark.parametrize("grey", [0, 77, 255])
def test_a_flat_image(grey):
    vector = Haralick(32, scaled=False).transform(np.full((1, 9, 9), grey, np.uint8))[0]
    expected = [1, 0, 1, 0, 1, 2 * (grey // 8), 0, 0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(vector, [*expected, *[0] * 13], atol=1e-6)


def test_no_pair_of_pixels():
    assert (Haralick(offset_px=4).transform(np.full((2, 4, 3), 9, np.uint8)) == 0).all()


@unhurried
@given(arrays(np.uint8, SHAPES), st.sampled_from([2, 16, 256]), st.integers(1, 3))
def test_features_keep_their_bounds(images, levels, offset):
    vectors = Haralick(levels, offset).transform(images)
    assert vectors.shape == (len(images), 26)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    lowest = np.zeros(26)
    lowest[[FEATURES.index("correlation"), 11]] = -1
    assert (vectors >= lowest - 1e-4).all()
    assert (np.abs(vectors[:, :13]) <= 1 + 1e-4).all()
    unscaled = Haralick(levels, offset, scaled=False).transform(images)
    np.testing.assert_allclose(vectors * np.tile(list_greatest(levels), 2), unscaled, rtol=1e-4)


@unhurried
@given(arrays(np.uint8, SHAPES), st.sampled_from([2, 8]))
def test_turning_by_90_degrees_exchanges_directions(images, levels):
    turned = np.rot90(images, axes=(1, 2))
    expected = compute_co_occurrence(images, levels)[:, [2, 3, 0, 1]]
    np.testing.assert_allclose(compute_co_occurrence(turned, levels), expected, atol=1e-7)


def test_brightness_moves_the_sum_average_only():
    images = NOISE // 2
    a, b = (Haralick(16, scaled=False).transform(x) for x in (images, images + np.uint8(112)))
    b[:, FEATURES.index("sum average")] -= 2 * 7
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_neither_blocks_nor_threads_change_a_bit(monkeypatch):
    whole, matrices = Haralick().transform(NOISE), compute_co_occurrence(NOISE)
    monkeypatch.setattr(blocks, "PIXELS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert np.array_equal(Haralick().transform(NOISE), whole)
    assert np.array_equal(compute_co_occurrence(NOISE), matrices)


@pytest.mark.parametrize(
    ("parameter", "value", "allowed"),
    [
        *(("levels", value, "2 to 256") for value in (1, 257, 8.0)),
        *(("offset_px", value, "1 to 16") for value in (0, 17, None)),
        ("scaled", 1, "True or False"),
    ],
)
def test_parameters_out_of_range(parameter, value, allowed):
    descriptor = clone(Haralick()).set_params(**{parameter: value})
    for use in (descriptor.fit, descriptor.transform):
        with pytest.raises(CbirError, match=f"{parameter} .* is out of range") as caught:
            use(NOISE)
        assert allowed in caught.value.hint


@pytest.mark.parametrize("images", [np.full((1, 8, 8), np.nan), NOISE[0], NOISE[:0]], ids=np.shape)
def test_what_is_no_batch_is_refused(images):
    for use in (Haralick().transform, compute_co_occurrence):
        with pytest.raises(CbirError, match="expected images of shape"):
            use(images)

"""Local binary patterns: against scikit-image, and the invariances they are made for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.feature import local_binary_pattern
from sklearn.base import clone

from cbir_lib.descriptors import blocks, lbp
from cbir_lib.descriptors.lbp import LBPHistogram, compute_patterns
from cbir_lib.errors import CbirError

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (3, 37, 50), dtype=np.uint8)
unhurried = settings(deadline=None, max_examples=30)
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 12), st.integers(1, 12))
CIRCLES = [(4, 1.0), (8, 1.0), (8, 2.0), (12, 1.5), (16, 2), (24, 3.0)]


def skimages(image, neighbours, radius, method):
    """The border's pixels repeated outwards, then cut off: scikit-image has zeros there."""
    margin = 9
    around = np.pad(image, margin, mode="edge")
    patterns = local_binary_pattern(around, neighbours, radius, method)
    return patterns[margin:-margin, margin:-margin]


@pytest.mark.parametrize(("neighbours", "radius"), CIRCLES)
@pytest.mark.parametrize(("invariant", "method"), [(True, "uniform"), (False, "nri_uniform")])
def test_patterns_are_scikit_images(neighbours, radius, invariant, method):
    patterns = compute_patterns(NOISE, neighbours, radius, invariant)
    expected = np.stack([skimages(image, neighbours, radius, method) for image in NOISE])
    # Neighbours within 1/1000 grey value of the pixel may go either way: rounding of theirs.
    different = (patterns != expected).mean()
    assert different <= (0 if neighbours == 4 and radius == 1 else 1e-3)


@pytest.mark.parametrize("circle", CIRCLES)
@pytest.mark.parametrize("invariant", [True, False])
def test_patterns_are_those_of_the_definition(circle, invariant):
    expected = [lbp.compute_reference(image, *circle, invariant) for image in NOISE]
    patterns = compute_patterns(NOISE, *circle, invariant)
    assert (patterns != expected).mean() < 1e-4  # rounding


@pytest.mark.parametrize("invariant", [True, False])
def test_histogram_counts_the_patterns_of_each_cell(invariant):
    bins = 10 if invariant else 59
    patterns = compute_patterns(NOISE, rotation_invariant=invariant)
    histograms = LBPHistogram(rotation_invariant=invariant, grid=3).transform(NOISE)
    assert histograms.shape == (3, 9 * bins)
    rows, columns = np.arange(37) * 3 // 37, np.arange(50) * 3 // 50
    for i, j in np.ndindex(3, 3):
        cell = patterns[:, rows == i][:, :, columns == j].reshape(3, -1)
        counts = [np.bincount(values, minlength=bins) for values in cell]
        start = (3 * i + j) * bins
        np.testing.assert_allclose(histograms[:, start : start + bins], np.divide(counts, 37 * 50))


def test_by_hand():
    # Anticlockwise from the right; only axes, P = 4: right and top as bright, left and bottom not.
    image = np.array([[[0, 9, 0], [1, 5, 5], [0, 2, 0]]], np.uint8)
    assert compute_patterns(image, 4)[0, 1, 1] == 2
    assert compute_patterns(image, 4, rotation_invariant=False)[0, 1, 1] == 1 + (2 - 1) * 4 + 0
    image[0, 1] = 5, 5, 4  # now top and left: three places more, and it begins on the right
    assert compute_patterns(image, 4, rotation_invariant=False)[0, 1, 1] == 1 + (2 - 1) * 4 + 3
    image[0] = [[0, 9, 0], [1, 5, 1], [0, 9, 0]]  # four changes
    assert compute_patterns(image, 4)[0, 1, 1] == 4 + 1
    assert compute_patterns(image, 4, rotation_invariant=False)[0, 1, 1] == 4 * 3 + 2


@pytest.mark.parametrize("grey", [0, 1, 77, 254, 255])
@pytest.mark.parametrize(("neighbours", "radius"), CIRCLES)
def test_a_flat_area_is_all_ones(grey, neighbours, radius):
    flat = np.full((1, 9, 9), grey, np.uint8)
    assert (compute_patterns(flat, neighbours, radius) == neighbours).all()


@unhurried
@given(arrays(np.uint8, SHAPES), st.sampled_from(CIRCLES), st.booleans(), st.integers(1, 4))
def test_histograms_are_finite_and_sum_to_one(images, circle, invariant, grid):
    neighbours, radius = circle
    histograms = LBPHistogram(neighbours, radius, invariant, grid).transform(images)
    bins = neighbours + 2 if invariant else neighbours * (neighbours - 1) + 3
    assert histograms.shape == (len(images), grid**2 * bins)
    assert histograms.dtype == np.float32
    np.testing.assert_allclose(histograms.sum(1), 1, atol=1e-5)


@unhurried
@given(arrays(np.uint8, SHAPES), st.sampled_from([(4, 1.0), (8, 1.0), (16, 2.0)]))
def test_turning_by_90_degrees_turns_the_patterns(images, circle):
    turned = compute_patterns(np.rot90(images, axes=(1, 2)), *circle)
    assert np.array_equal(turned, np.rot90(compute_patterns(images, *circle), axes=(1, 2)))


@unhurried
@given(arrays(np.uint8, SHAPES, elements=st.integers(0, 99)), st.integers(1, 155), st.booleans())
def test_brightness_does_not_matter(images, more, invariant):
    histogram = LBPHistogram(rotation_invariant=invariant)
    brighter = images + np.uint8(more)
    assert np.array_equal(histogram.transform(images), histogram.transform(brighter))


def test_neither_blocks_nor_threads_change_a_bit(monkeypatch):
    whole, patterns = LBPHistogram(grid=2).transform(NOISE), compute_patterns(NOISE)
    monkeypatch.setattr(blocks, "PIXELS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert np.array_equal(LBPHistogram(grid=2).transform(NOISE), whole)
    assert np.array_equal(compute_patterns(NOISE), patterns)


@pytest.mark.parametrize(
    ("parameter", "value", "allowed"),
    [
        *(("neighbours", value, "4 to 24") for value in (3, 25, 8.0)),
        *(("radius_px", value, "1 to 8 pixels") for value in (0.5, 9, float("nan"), "1", True)),
        ("rotation_invariant", "yes", "True or False"),
        *(("grid", value, "1 to 16") for value in (0, 17, 2.0)),
    ],
)
def test_parameters_out_of_range(parameter, value, allowed):
    descriptor = clone(LBPHistogram()).set_params(**{parameter: value})
    for use in (descriptor.fit, descriptor.transform):
        with pytest.raises(CbirError, match=f"{parameter} .* is out of range") as caught:
            use(NOISE)
        assert allowed in caught.value.hint


@pytest.mark.parametrize("images", [np.full((1, 8, 8), np.nan), NOISE[0], NOISE[:0]], ids=np.shape)
def test_what_is_no_batch_is_refused(images):
    for use in (LBPHistogram().transform, compute_patterns):
        with pytest.raises(CbirError, match="expected images of shape"):
            use(images)

"""Tamura histogram: against the definition, and cases by hand."""

from math import pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone

from cbir_lib.descriptors import blocks, tamura
from cbir_lib.descriptors.tamura import (
    TamuraHistogram,
    compute_reference_coarseness,
    compute_reference_contrast,
    compute_reference_direction,
    compute_tamura_maps,
)
from cbir_lib.errors import CbirError

RNG = np.random.default_rng(0)
unhurried = settings(deadline=None, max_examples=30)


def smooth(shape):
    """Waves and noise: neighbouring windows differ at every scale."""
    y, x = np.mgrid[: shape[1], : shape[2]]
    waves = 60 * np.sin(x / 3) + 50 * np.cos((x + 2 * y) / 9) + 128
    return np.clip(waves + RNG.normal(0, 9, shape), 0, 255).astype(np.uint8)


def reference_histogram(v, bins=8):
    codes = np.zeros(v.shape, int)
    maps = (
        compute_reference_direction(v),
        compute_reference_coarseness(v, 5),
        compute_reference_contrast(v, 11),
    )
    for values, factor in zip(maps, (1, bins, bins**2), strict=True):
        width = np.ptp(values) or 1
        scaled = (values - values.min()) / width
        codes += factor * np.minimum((bins * scaled + tamura.EDGE).astype(int), bins - 1)
    return np.bincount(codes.ravel(), minlength=bins**3) / v.size


SHAPES = [(2, 40, 40), (1, 70, 9), (2, 8, 8), (1, 13, 66), (1, 1, 5), (1, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_maps_are_those_of_the_definition(shape):
    images = smooth(shape)
    direction, coarseness, contrast = compute_tamura_maps(images)
    for i, v in enumerate(images):
        np.testing.assert_allclose(direction[i], compute_reference_direction(v), atol=1e-6)
        # The definition rounds differences to 1e-4 grey values, so that the smallest k wins.
        assert (coarseness[i] != compute_reference_coarseness(v, 5)).mean() < 0.005
        np.testing.assert_allclose(contrast[i], compute_reference_contrast(v, 11), atol=1e-5)


@pytest.mark.parametrize(("scales", "side"), [(1, 3), (3, 7), (6, 21)])
def test_maps_follow_their_parameters(scales, side):
    images = smooth((1, 45, 70))
    _, coarseness, contrast = compute_tamura_maps(images, scales, side)
    assert (coarseness[0] != compute_reference_coarseness(images[0], scales)).mean() < 0.005
    np.testing.assert_allclose(contrast[0], compute_reference_contrast(images[0], side), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_histogram_is_that_of_the_definition(shape):
    images = smooth(shape)
    expected = [reference_histogram(v) for v in images]
    histograms = TamuraHistogram().transform(images)
    # Half of L1 is the share of pixels in another bin.
    assert (abs(histograms - expected).sum(1) / 2 <= 0.01).all()


def test_an_edge_by_hand():
    """Left half black, right half white, away from the border."""
    image = np.zeros((1, 40, 40), np.uint8)
    image[..., 20:] = 255
    direction, coarseness, contrast = compute_tamura_maps(image)
    assert direction[0, 20, 19] == pytest.approx(pi / 2 + 0.001)  # atan(0 / dH)
    assert coarseness[0, 20, 20] == 1  # 255 at every scale: the smallest
    # 6 of 11 columns white: p = 6/11, variance p (1 - p), fourth moment p (1 - p)(1 - 3 p (1 - p)).
    pq = 6 / 11 * 5 / 11
    assert contrast[0, 20, 20] == pytest.approx(pq / (pq * (1 - 3 * pq)) ** 0.25, rel=1e-6)


@pytest.mark.parametrize("grey", [0, 1, 77, 254, 255])
def test_a_flat_area_gives_zero_exactly(grey):
    image = smooth((1, 90, 90))
    image[:, :, :70] = grey
    direction, coarseness, contrast = compute_tamura_maps(image)
    assert (direction[:, 2:-2, 2:60] == 0).all()
    assert (coarseness[:, :, :38] == 0).all()  # 16 to the window, 16 more to its end
    assert (contrast[:, :, :64] == 0).all()


@pytest.mark.parametrize("grey", [0, 255])
@pytest.mark.parametrize("side", [3, 11, 21])
def test_one_pixel_one_grey_value_off_is_not_flat(grey, side):
    image = np.full((1, 30, 30), grey, np.uint8)
    image[0, 15, 15] = abs(grey - 1)
    contrast = compute_tamura_maps(image, contrast_px=side).contrast
    np.testing.assert_allclose(contrast[0], compute_reference_contrast(image[0], side), rtol=1e-3)


IMAGES = st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 20))


@unhurried
@given(arrays(np.uint8, IMAGES), st.sampled_from([2, 8, 16]))
def test_histograms_are_finite_and_sum_to_one(images, bins):
    histograms = TamuraHistogram(bins).transform(images)
    assert histograms.shape == (len(images), bins**3)
    assert histograms.dtype == np.float32
    assert (histograms >= 0).all()
    np.testing.assert_allclose(histograms.sum(1), 1, atol=1e-5)


@unhurried
@given(arrays(np.uint8, IMAGES, elements=st.integers(0, 63)), st.sampled_from([2, 4]))
def test_the_scale_of_the_grey_values_does_not_matter(images, factor):
    a, b = TamuraHistogram().transform(images), TamuraHistogram().transform(images * factor)
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_neither_blocks_nor_threads_change_a_bit(monkeypatch):
    images = smooth((7, 16, 20))
    whole = TamuraHistogram().transform(images)
    maps = compute_tamura_maps(images)
    monkeypatch.setattr(blocks, "PIXELS", 2 * tamura.MAPS * 16 * 20)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert np.array_equal(TamuraHistogram().transform(images), whole)
    for a, b in zip(compute_tamura_maps(images), maps, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("parameter", "value", "allowed"),
    [
        *(("bins", value, "2 to 16") for value in (1, 17, 8.0, None)),
        *(("scales", value, "1 to 6") for value in (0, 7, "5")),
        *(("contrast_px", value, "3 to 21") for value in (1, 23, 11.0, True, None)),
        ("contrast_px", 10, "odd number of pixels"),
    ],
)
def test_parameters_out_of_range(parameter, value, allowed):
    descriptor = clone(TamuraHistogram()).set_params(**{parameter: value})
    for use in (descriptor.fit, descriptor.transform):
        with pytest.raises(CbirError, match=f"{parameter} .* is out of range") as caught:
            use(smooth((1, 8, 8)))
        assert allowed in caught.value.hint


@pytest.mark.parametrize("images", [np.full((1, 8, 8), np.nan), np.zeros((0, 8, 8), np.uint8)])
def test_what_is_no_batch_is_refused(images):
    for use in (TamuraHistogram().transform, compute_tamura_maps):
        with pytest.raises(CbirError, match="expected images of shape"):
            use(images)

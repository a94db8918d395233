"""Tamura histogram: against a slow, literal reading of the baselines' definition."""

from fractions import Fraction
from math import atan, pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone

from cbir_lib.descriptors import blocks, tamura
from cbir_lib.descriptors.tamura import TamuraHistogram, tamura_maps
from cbir_lib.errors import CbirError

RNG = np.random.default_rng(0)
unhurried = settings(deadline=None, max_examples=30)


def smooth(shape):
    """Waves and noise: neighbouring windows differ at every scale."""
    y, x = np.mgrid[: shape[1], : shape[2]]
    waves = 60 * np.sin(x / 3) + 50 * np.cos((x + 2 * y) / 9) + 128
    return np.clip(waves + RNG.normal(0, 9, shape), 0, 255).astype(np.uint8)


def literal_direction(v):
    height, width = v.shape

    def at(y, x):
        return int(v[y, x]) if 0 <= y < height and 0 <= x < width else 0

    result = np.zeros(v.shape)
    for y in range(height):
        for x in range(width):
            dh = sum(
                w * (at(y + j, x + 1) - at(y + j, x - 1)) for j, w in ((-1, 1), (0, 2), (1, 1))
            )
            dv = sum(
                w * (at(y - 1, x + i) - at(y + 1, x + i)) for i, w in ((-1, 1), (0, 2), (1, 1))
            )
            result[y, x] = atan(dv / dh) + pi / 2 + 0.001 if dh else 0
    return result


def literal_coarseness(v, scales):
    height, width = v.shape
    result, best = np.zeros(v.shape), np.zeros(v.shape)
    for k in range(1, scales + 1):
        half = 2 ** (k - 1)

        def mean(y, x, half=half):
            window = v[max(0, y - half) : y + half, max(0, x - half) : x + half]
            return Fraction(int(window.sum()), window.size)

        for y in range(height):
            for x in range(width):
                e = 0
                if x - half >= 0 and x + half < width:
                    e = abs(mean(y, x + half) - mean(y, x - half))
                if y - half >= 0 and y + half < height:
                    e = max(e, abs(mean(y + half, x) - mean(y - half, x)))
                if float(e) > best[y, x] + 1e-4:
                    best[y, x], result[y, x] = e, k
    return result


def literal_contrast(v, side):
    result = np.zeros(v.shape)
    margin = side // 2
    for y in range(v.shape[0]):
        for x in range(v.shape[1]):
            window = v[max(0, y - margin) : y + margin + 1, max(0, x - margin) : x + margin + 1]
            away = window / 255 - (window / 255).mean()
            if np.ptp(window):
                result[y, x] = (away**2).mean() / (away**4).mean() ** 0.25
    return result


def literal_histogram(v, bins=8):
    codes = np.zeros(v.shape, int)
    maps = literal_direction(v), literal_coarseness(v, 5), literal_contrast(v, 11)
    for values, factor in zip(maps, (1, bins, bins**2), strict=True):
        width = np.ptp(values) or 1
        scaled = (values - values.min()) / width
        codes += factor * np.minimum((bins * scaled + tamura.EDGE).astype(int), bins - 1)
    return np.bincount(codes.ravel(), minlength=bins**3) / v.size


SHAPES = [(2, 40, 40), (1, 70, 9), (2, 8, 8), (1, 13, 66), (1, 1, 5), (1, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_maps_are_those_of_the_definition(shape):
    images = smooth(shape)
    direction, coarseness, contrast = tamura_maps(images)
    for i, v in enumerate(images):
        np.testing.assert_allclose(direction[i], literal_direction(v), atol=1e-6)
        # The literal version lets the smallest k win up to 1e-4 grey values.
        assert (coarseness[i] != literal_coarseness(v, 5)).mean() < 0.005
        np.testing.assert_allclose(contrast[i], literal_contrast(v, 11), atol=1e-5)


@pytest.mark.parametrize(("scales", "side"), [(1, 3), (3, 7), (6, 21)])
def test_maps_follow_their_parameters(scales, side):
    images = smooth((1, 45, 70))
    _, coarseness, contrast = tamura_maps(images, scales, side)
    assert (coarseness[0] != literal_coarseness(images[0], scales)).mean() < 0.005
    np.testing.assert_allclose(contrast[0], literal_contrast(images[0], side), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_histogram_is_that_of_the_definition(shape):
    images = smooth(shape)
    expected = [literal_histogram(v) for v in images]
    found = TamuraHistogram().transform(images)
    # Half of L1 is the share of pixels in another bin.
    assert (abs(found - expected).sum(1) / 2 <= 0.01).all()


def test_an_edge_by_hand():
    """Left half black, right half white, away from the border."""
    image = np.zeros((1, 40, 40), np.uint8)
    image[..., 20:] = 255
    direction, coarseness, contrast = tamura_maps(image)
    assert direction[0, 20, 19] == pytest.approx(pi / 2 + 0.001)  # atan(0 / dH)
    assert coarseness[0, 20, 20] == 1  # 255 at every scale: the smallest
    # 6 of 11 columns white: p = 6/11, variance p (1 - p), fourth moment p (1 - p)(1 - 3 p (1 - p)).
    pq = 6 / 11 * 5 / 11
    assert contrast[0, 20, 20] == pytest.approx(pq / (pq * (1 - 3 * pq)) ** 0.25, rel=1e-6)


@pytest.mark.parametrize("grey", [0, 1, 77, 254, 255])
def test_a_flat_area_gives_zero_exactly(grey):
    image = smooth((1, 90, 90))
    image[:, :, :70] = grey
    direction, coarseness, contrast = tamura_maps(image)
    assert (direction[:, 2:-2, 2:60] == 0).all()
    assert (coarseness[:, :, :38] == 0).all()  # 16 to the window, 16 more to its end
    assert (contrast[:, :, :64] == 0).all()


@pytest.mark.parametrize("grey", [0, 255])
@pytest.mark.parametrize("side", [3, 11, 21])
def test_one_pixel_one_grey_value_off_is_not_flat(grey, side):
    image = np.full((1, 30, 30), grey, np.uint8)
    image[0, 15, 15] = abs(grey - 1)
    contrast = tamura_maps(image, contrast_px=side).contrast
    np.testing.assert_allclose(contrast[0], literal_contrast(image[0], side), rtol=1e-3)


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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("scales", "side"), [(1, 3), (5, 11), (6, 21)])
def test_a_gpu_would_find_the_same(shape, scales, side):
    images = smooth(shape)
    found = tamura.maps_in_torch(torch.from_numpy(images).double(), scales, side)
    assert found.dtype == torch.float32
    for a, b in zip(found, tamura.maps_of(images, scales, side), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_neither_blocks_nor_threads_change_a_bit(monkeypatch):
    images = smooth((7, 16, 20))
    whole = TamuraHistogram().transform(images)
    maps = tamura_maps(images)
    monkeypatch.setattr(blocks, "PIXELS", 2 * tamura.MAPS * 16 * 20)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert np.array_equal(TamuraHistogram().transform(images), whole)
    for a, b in zip(tamura_maps(images), maps, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("parameter", "value", "allowed"),
    [
        *(("bins", value, "2 to 16") for value in (1, 17, 8.0, None)),
        *(("scales", value, "1 to 6") for value in (0, 7, "5")),
        *(("contrast_px", value, "odd number of pixels, 3 to 21") for value in (1, 10, 23)),
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
    for use in (TamuraHistogram().transform, tamura_maps):
        with pytest.raises(CbirError, match="expected images of shape"):
            use(images)

import numpy as np
import pytest
from scipy.ndimage import convolve
from skimage.filters import gabor_kernel
from sklearn.base import clone

from cbir_lib.descriptors import blocks, gabor
from cbir_lib.descriptors.gabor import GaborHistogram, GaborVector, compute_response_maps
from cbir_lib.errors import CbirError
from tests.fixtures import draw_edge_cases

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (4, 20, 20), dtype=np.uint8)
EDGE_CASES = draw_edge_cases(20)
ALL = [(GaborVector(), 30), (GaborVector("manjunath-ma", 6, 4), 48), (GaborHistogram(), 384)]


def bank_in_pixels(bank, orientations, scales, side):
    """Frequency (cycles per pixel), angle, deviations of the spatial Gaussian (pixels)."""
    rows = gabor.BANKS[bank](side, orientations, scales)
    return [(c / side, angle, side / (2 * np.pi * a), side / (2 * np.pi * b))
            for c, angle, a, b in rows]  # fmt: skip


@pytest.mark.parametrize(("bank", "orientations", "scales"), [("octaves", 5, 3)])
def test_maps_are_a_convolution_with_scikit_images_kernels(bank, orientations, scales):
    images = RNG.integers(0, 256, (2, 30, 22), dtype=np.uint8)
    responses = compute_response_maps(images, bank, orientations, scales).reshape(2, -1, 30, 22)
    side = 128
    filters = bank_in_pixels(bank, orientations, scales, side)
    for number in (0, 3, 5, 9, 11, 14):
        frequency, angle, along, across = filters[number]
        kernel = gabor_kernel(frequency, angle, sigma_x=along, sigma_y=across, n_stds=4.5)
        for image, maps in zip(images, responses, strict=True):
            expected = abs(convolve(image / 255 + 0j, kernel, mode="constant"))
            assert np.allclose(maps[number], expected, atol=0.01 * expected.max())


@pytest.mark.parametrize(("bank", "orientations", "scales"), [("octaves", 5, 3),
                                                              ("manjunath-ma", 6, 4)])  # fmt: skip
@pytest.mark.parametrize("shape", [(3, 30, 22), (2, 65, 9)])
def test_maps_are_those_of_the_definition(bank, orientations, scales, shape):
    images = RNG.integers(0, 256, shape, dtype=np.uint8)
    responses = compute_response_maps(images, bank, orientations, scales)
    for image, maps in zip(images, responses, strict=True):
        expected = gabor.compute_reference(image, bank, orientations, scales)
        np.testing.assert_allclose(maps.reshape(expected.shape), expected, atol=1e-5)


def test_manjunath_ma_map_is_a_convolution():
    # At the second highest frequency; at the highest the kernel is undersampled.
    frequency, angle, along, across = bank_in_pixels("manjunath-ma", 6, 4, 128)[13]
    kernel = gabor_kernel(frequency, angle, sigma_x=along, sigma_y=across, n_stds=5)
    expected = abs(convolve(NOISE[0] / 255 + 0j, kernel, mode="constant"))
    response = compute_response_maps(NOISE[:1], "manjunath-ma", 6, 4)[0, 2, 1]
    assert np.allclose(response, expected, atol=0.01 * expected.max())


def test_manjunath_mas_filters_touch_at_half_their_peaks():
    rows = gabor.build_manjunath_ma_bank(1, 6, 4).reshape(4, 6, 4)
    centre, angle, along, across = np.moveaxis(rows, -1, 0)
    half = np.sqrt(2 * np.log(2))
    assert np.allclose(centre[:, 0], [0.05, 0.1, 0.2, 0.4])
    ends = (centre + half * along)[:-1, 0], (centre - half * along)[1:, 0]
    assert np.allclose(*ends)
    # The largest of a Gaussian on the ray halfway to its neighbour is half its peak.
    for c, a, b in zip(centre[:, 0], along[:, 0], across[:, 0], strict=True):
        ray = np.linspace(0, 2 * c, 20001)
        u, v = ray * np.cos(np.pi / 12), ray * np.sin(np.pi / 12)
        gain = np.exp(-0.5 * (((u - c) / a) ** 2 + (v / b) ** 2))
        assert gain.max() == pytest.approx(1 / 2, rel=1e-3)
    assert np.allclose(angle[2], np.arange(6) * np.pi / 6)


@pytest.mark.parametrize(("bank", "orientations", "scales"), [("octaves", 5, 3),
                                                              ("manjunath-ma", 6, 4)])  # fmt: skip
def test_a_grating_is_answered_by_its_own_filter(bank, orientations, scales):
    y, x = np.mgrid[:64, :64]
    filters = gabor.BANKS[bank](128, orientations, scales)
    waves = [c / 128 * (x * np.cos(a) + y * np.sin(a)) for c, a, _, _ in filters]
    images = np.stack([np.round(127.5 + 100 * np.cos(2 * np.pi * w)) for w in waves])
    inner = compute_response_maps(images.astype(np.uint8), bank, orientations, scales)[
        ..., 24:40, 24:40
    ]
    strengths = inner.mean(axis=(3, 4)).reshape(len(filters), -1)
    assert (strengths.argmax(axis=1) == np.arange(len(filters))).all()


def test_rotating_the_image_turns_the_orientations():
    images = RNG.integers(0, 256, (2, 24, 24), dtype=np.uint8)
    for bank in gabor.BANKS:
        maps = compute_response_maps(images, bank, 6, 3)
        turned = compute_response_maps(np.rot90(images, axes=(1, 2)), bank, 6, 3)
        expected = np.rot90(np.roll(maps, 3, axis=2), axes=(3, 4))
        assert np.allclose(turned, expected, atol=1e-5)
        assert not np.allclose(turned, np.rot90(maps, axes=(3, 4)), atol=1e-3)


def test_vector_is_mean_and_deviation_of_the_scaled_maps():
    maps = compute_response_maps(NOISE).reshape(4, 15, -1).astype(np.float64)
    maps -= maps.min(axis=2, keepdims=True)
    maps /= maps.max(axis=2, keepdims=True)
    expected = np.stack([maps.mean(axis=2), maps.std(axis=2)], axis=2).reshape(4, 30)
    assert np.allclose(GaborVector(scaled=False).transform(NOISE), expected, atol=1e-4)
    own = expected / expected.std(axis=0)
    assert np.allclose(GaborVector().fit(NOISE).transform(NOISE), own, rtol=0.01)
    raw = compute_response_maps(NOISE, "manjunath-ma", 6, 4).reshape(4, 24, -1)
    expected = np.stack([raw.mean(axis=2), raw.std(axis=2)], axis=2).reshape(4, 48)
    vectors = GaborVector("manjunath-ma", 6, 4, scaled=False).transform(NOISE)
    assert np.allclose(vectors, expected, atol=1e-5)


def test_histogram_is_numpys_and_full_alike_on_the_training_images():
    descriptor = GaborHistogram(bins=5).fit(NOISE)
    maps = compute_response_maps(NOISE, "manjunath-ma", 6, 4).reshape(4, 24, -1)
    vectors = descriptor.transform(NOISE).reshape(4, 24, 5)
    edges = np.pad(descriptor.edges_, ((0, 0), (1, 1)), constant_values=(-1, 99))
    for histograms, one in zip(vectors, maps, strict=True):
        for number in range(24):
            expected = np.histogram(one[number], edges[number])[0] / one[number].size / 24
            assert np.allclose(histograms[number], expected, atol=2 / one[number].size / 24)
    assert np.allclose(vectors.sum(axis=(1, 2)), 1, atol=1e-5)
    assert np.allclose(vectors.mean(axis=0), 1 / 24 / 5, rtol=0.01)


@pytest.mark.parametrize(("descriptor", "length"), ALL)
def test_every_image_gives_a_finite_vector_of_one_length(descriptor, length):
    fitted = clone(descriptor).fit(NOISE)
    for images in (*EDGE_CASES.values(), NOISE):
        vectors = fitted.transform(images)
        assert vectors.shape == (len(images), length)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()
        assert np.isfinite(clone(descriptor).fit(images).transform(images)).all()


@pytest.mark.parametrize(("descriptor", "length"), ALL)
def test_blocks_do_not_show(descriptor, length, monkeypatch):
    fitted = clone(descriptor).fit(NOISE)
    whole = fitted.transform(NOISE)
    monkeypatch.setattr(blocks, "PIXELS", 1)  # one image after the other
    assert np.allclose(fitted.transform(NOISE), whole, rtol=1e-4, atol=1e-4)
    assert len(np.unique(whole.round(4), axis=0)) == len(NOISE)


@pytest.mark.parametrize(
    ("descriptor", "what"),
    [
        (GaborVector("octave"), "unknown bank 'octave'"),
        (GaborVector(orientations=1), "orientations 1 is out of range"),
        (GaborVector(scales=7), "scales 7 is out of range"),
        (GaborHistogram(scales=2.0), "scales 2.0 is out of range"),
        (GaborVector(scaled="no"), "scaled 'no' is out of range"),
        (GaborHistogram(bins=1), "bins 1 is out of range"),
    ],
)
def test_parameters_out_of_range(descriptor, what):
    for use in (descriptor.fit, descriptor.transform):
        with pytest.raises(CbirError, match=what):
            use(NOISE)


@pytest.mark.parametrize("descriptor", [GaborVector(), GaborHistogram()])
def test_transform_before_fit_and_what_is_no_image(descriptor):
    with pytest.raises(CbirError, match="has not learned from training images"):
        clone(descriptor).transform(NOISE)
    fitted = clone(descriptor).fit(NOISE)
    for wrong in (NOISE / 255, NOISE[0], NOISE[:0], np.full((1, 9, 9), np.nan)):
        for use in (fitted.fit, fitted.transform):
            with pytest.raises(CbirError, match="expected images of shape"):
                use(wrong)
    with pytest.raises(CbirError, match="has not learned"):
        fitted.set_params(orientations=4).transform(NOISE)

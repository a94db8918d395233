import cv2
import numpy as np
import pytest
from scipy.fft import fft2, fftshift
from scipy.ndimage import map_coordinates
from sklearn.base import clone

from cbir_lib.descriptors.fourier_mellin import FourierMellin
from cbir_lib.errors import CbirError
from cbir_lib.retrieval.distances import pairwise
from tests.fixtures import draw_edge_cases

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (4, 32, 32), dtype=np.uint8)
EDGE_CASES = draw_edge_cases()


@pytest.fixture(scope="module")
def radiographs(phantom_set):
    """40 of the phantom's images, (40, 128, 128) uint8."""
    images = phantom_set.images
    return images[:: len(images) // 40][:40]


def moved(images, degrees=0.0, scale=1.0, shift=(0, 0)):
    """The images' inner discs at 0.6 of their size on black, then turned, scaled and shifted."""
    y, x = np.mgrid[:128, :128] - 63.5
    discs = (images * np.clip((60 - np.hypot(x, y)) / 8, 0, 1)).astype(np.uint8)
    matrix = cv2.getRotationMatrix2D((63.5, 63.5), degrees, 0.6 * scale)
    matrix[:, 2] += shift
    return np.stack([cv2.warpAffine(disc, matrix, (128, 128)) for disc in discs])


@pytest.mark.parametrize(
    ("motion", "tolerance"),
    [
        ({"degrees": 90}, 0.01),
        ({"degrees": 25}, 0.15),
        ({"scale": 0.8}, 0.4),
        ({"scale": 1.2}, 0.4),
        ({"shift": (12, -9)}, 0.5),
        ({"degrees": -40, "scale": 1.15, "shift": (-7, 5)}, 0.5),
    ],
)
def test_moved_images_stay_nearer_than_unrelated_ones(radiographs, motion, tolerance):
    descriptor = FourierMellin()
    gallery = descriptor.transform(moved(radiographs))
    apart = pairwise("L1", descriptor.transform(moved(radiographs, **motion)), gallery)
    other = apart[~np.eye(len(apart), dtype=bool)]
    assert np.median(np.diag(apart)) < tolerance * np.median(other)
    assert (apart.argmin(axis=1) == np.arange(len(apart))).mean() >= 0.95


def test_log_polar_spectrum_is_a_slow_ones():
    image = NOISE[0] / 255
    side = 64
    hann = np.hanning(34)[1:-1]
    spectrum = abs(fft2((image - image.mean()) * np.outer(hann, hann), (side, side)))
    spectrum = fftshift(spectrum)
    bins = np.arange(-32, 32) / side
    low = np.outer(np.cos(np.pi * bins), np.cos(np.pi * bins))
    spectrum = np.log(1 + spectrum * (1 - low) * (2 - low))
    polar = np.empty((64, 64))
    for r in range(64):
        radius = side * (2 / 32) * (0.5 * 32 / 2) ** (r / 64)
        for a in range(64):
            angle = (
                a * np.pi / 64 + np.pi / 2
            )  # opposite the descriptor's: the spectrum's other half
            place = [32 + radius * np.sin(angle)], [32 + radius * np.cos(angle)]
            polar[r, a] = map_coordinates(spectrum, place, order=1)[0]
    expected = (polar - polar.mean()) * np.hanning(66)[1:-1, None]
    inner = slice(0, 60)  # the other half has no bin at the highest frequency
    log_polar = FourierMellin().log_polar(NOISE[:1])[0]
    assert np.allclose(log_polar[inner], expected[inner], atol=0.01)


def test_vector_is_the_second_transforms_magnitude():
    descriptor = FourierMellin(angular=3, radial=2)
    for polar, vector in zip(descriptor.log_polar(NOISE), descriptor.transform(NOISE), strict=True):
        second = abs(fft2(polar))
        expected = [second[m, k] for k in range(3) for m in (-1, 0, 1)]
        assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize("images", EDGE_CASES.values(), ids=EDGE_CASES)
@pytest.mark.parametrize(("angular", "radial"), [(8, 16), (2, 2), (32, 32)])
def test_every_image_gives_a_finite_vector_of_the_declared_length(images, angular, radial):
    vectors = FourierMellin(angular, radial).fit(images).transform(images)
    assert vectors.shape == (len(images), angular * (2 * radial - 1))
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    flat = np.ptp(images, axis=(1, 2)) == 0
    assert np.allclose(np.linalg.norm(vectors, axis=1), np.where(flat, 0, 1), atol=1e-5)
    alone = [FourierMellin(angular, radial).transform(image[None]) for image in images]
    assert np.allclose(vectors, np.concatenate(alone), atol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "what"),
    [({"angular": 1}, "angular 1"), ({"radial": 33}, "radial 33"), ({"radial": 4.0}, "radial 4.0")],
)
def test_parameters_out_of_range(parameters, what):
    descriptor = clone(FourierMellin(**parameters))
    for use in (descriptor.fit, descriptor.transform):
        with pytest.raises(CbirError, match=f"{what} is out of range"):
            use(NOISE)

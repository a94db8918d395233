import numpy as np
import pytest
from skimage.transform import radon
from sklearn.base import clone

from cbir_lib.descriptors.radon import RadonBarcode
from cbir_lib.errors import CbirError
from tests.fixtures import draw_edge_cases

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (5, 32, 32), dtype=np.uint8)
EDGE_CASES = draw_edge_cases()


@pytest.mark.parametrize(("size", "angles"), [(32, 8), (17, 5)])
def test_projections_are_scikit_images(size, angles):
    images = RNG.integers(0, 256, (3, size, size), dtype=np.uint8)
    theta = np.arange(angles) * 180 / angles
    projections = RadonBarcode(size, angles).projections(images)
    for image, lines in zip(images, projections, strict=True):
        expected = radon(image.astype(float), theta, circle=False, preserve_range=True)
        assert np.allclose(lines, expected.T, atol=0.05)  # of some thousands


@pytest.mark.parametrize("angles", [1, 8])
def test_bits_are_those_of_a_loop(angles):
    descriptor = RadonBarcode(angles=angles)
    images = np.concatenate([NOISE, np.pad(NOISE[:, 8:20, 8:20], ((0, 0), (3, 17), (9, 11)))])
    bits = descriptor.transform(images).reshape(len(images), angles, -1)
    for lines, barcode in zip(descriptor.projections(images), bits, strict=True):
        for line, bit in zip(lines, barcode, strict=True):
            expected = line >= np.median(line[line > 0])
            assert np.array_equal(bit, expected & (line > 0))


def test_reduction_is_the_mean_over_areas():
    images = RNG.integers(0, 256, (2, 96, 64), dtype=np.uint8)
    reduced = images.reshape(2, 32, 3, 32, 2).mean(axis=(2, 4))
    straight = RadonBarcode(angles=2).projections(images)[:, 0]  # sums of columns
    first = (straight.shape[1] // 2) - 16
    assert np.allclose(straight[:, first : first + 32], reduced.sum(axis=1), rtol=1e-5)
    assert straight.sum() == pytest.approx(reduced.sum(), rel=1e-5)


@pytest.mark.parametrize("images", EDGE_CASES.values(), ids=EDGE_CASES)
@pytest.mark.parametrize(("size", "angles"), [(32, 8), (8, 1), (33, 3)])
def test_every_image_gives_bits_of_the_declared_number(images, size, angles):
    vectors = RadonBarcode(size, angles).fit(images).transform(images)
    assert vectors.shape == (len(images), angles * int(np.ceil(np.sqrt(2) * size)))
    assert vectors.dtype == np.float32
    assert set(np.unique(vectors)) <= {0, 1}
    alone = [RadonBarcode(size, angles).transform(image[None]) for image in images]
    assert np.array_equal(vectors, np.concatenate(alone))


def test_black_gives_no_bit_and_noise_about_half_of_them():
    assert not RadonBarcode().transform(EDGE_CASES["black"]).any()
    assert 0.4 < RadonBarcode().transform(NOISE).mean() < 0.6
    assert len(np.unique(RadonBarcode().transform(NOISE), axis=0)) == len(NOISE)


@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ({"size": 7}, "size 7"),
        ({"size": 65}, "size 65"),
        ({"angles": 0}, "angles 0"),
        ({"angles": 8.0}, "angles 8.0"),
    ],
)
def test_parameters_out_of_range(parameters, what):
    descriptor = clone(RadonBarcode(**parameters))
    for use in (descriptor.fit, descriptor.transform):
        with pytest.raises(CbirError, match=f"{what} is out of range"):
            use(NOISE)

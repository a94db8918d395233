import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone

from cbir_lib.descriptors import blocks
from cbir_lib.descriptors import thumbnail as module
from cbir_lib.descriptors.thumbnail import Thumbnail, compute_image_distortion
from cbir_lib.errors import CbirError
from tests.fixtures import draw_blobs

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (5, 64, 64), dtype=np.uint8)
SMALL = RNG.integers(0, 256, (5, 9, 7), dtype=np.uint8)


# Thumbnail


@pytest.mark.parametrize("size", [8, 32, 50])
def test_thumbnail_is_opencvs(size):
    expected = [
        cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).reshape(-1) / 255
        for image in NOISE
    ]
    vectors = Thumbnail(size).transform(NOISE)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, expected, atol=1e-7)


def test_thumbnail_by_halves_is_the_mean_of_four_pixels():
    means = NOISE.reshape(5, 32, 2, 32, 2).mean(axis=(2, 4))
    assert np.abs(Thumbnail().transform(NOISE) * 255 - means.reshape(5, -1)).max() <= 0.5001


@pytest.mark.parametrize("shape", [(2, 64, 64), (1, 8, 8), (1, 1, 1), (2, 20, 50), (1, 129, 9)])
@pytest.mark.parametrize("grey", [0, 77, 255])
def test_thumbnail_of_a_constant_image(shape, grey):
    vectors = Thumbnail().transform(np.full(shape, grey, np.uint8))
    assert vectors.shape == (shape[0], 32**2)
    assert (vectors == np.float32(grey) / np.float32(255)).all()


@pytest.mark.parametrize("size", [7, 257, 32.0, "32", None])
def test_thumbnail_size_out_of_range(size):
    for use in (Thumbnail(size).fit, Thumbnail(size).transform):
        with pytest.raises(CbirError, match=r"size .* is out of range\n.* 8 to 256"):
            use(NOISE)


def test_thumbnail_is_a_scikit_learn_estimator():
    assert clone(Thumbnail(16)).fit_transform(NOISE).shape == (5, 256)


@pytest.mark.parametrize("images", [NOISE / 255, NOISE[0], NOISE[:0]], ids=np.shape)
def test_no_batch_of_images(images):
    with pytest.raises(CbirError, match="expected images of shape"):
        Thumbnail().transform(images)
    for pair in ((images, NOISE), (NOISE, images)):
        with pytest.raises(CbirError, match="expected images of shape"):
            compute_image_distortion(*pair)


# Image distortion model


def sobel(image):
    """(H, W) -> (H, W, 2), OpenCV's, in grey values per pixel."""
    grey = image / 255
    kinds = ((1, 0), (0, 1))
    return np.stack(
        [cv2.Sobel(grey, -1, *kind, borderType=cv2.BORDER_REPLICATE) / 8 for kind in kinds], -1
    )


@pytest.mark.parametrize(("warp", "context"), [(0, 0), (2, 1), (1, 0), (0, 2), (3, 2), (8, 1)])
def test_distortion_is_that_of_the_definition(warp, context):
    distances = compute_image_distortion(SMALL[:2], SMALL[1:], warp, context)
    expected = [
        [module.compute_reference(q, x, warp, context) for x in SMALL[1:]] for q in SMALL[:2]
    ]
    assert distances.shape == (2, 4)
    assert distances.dtype == np.float32
    assert np.allclose(distances, expected, rtol=1e-4, atol=1e-5)


THUMBNAILS = st.integers(1, 8).flatmap(
    lambda side: arrays(np.uint8, st.tuples(st.just(2), st.just(side), st.integers(1, 6)))
)


@settings(max_examples=25, deadline=None)
@given(THUMBNAILS, st.integers(0, 3), st.integers(0, 2))
def test_distortion_of_any_shape(images, warp, context):
    distances = compute_image_distortion(images, images, warp, context)
    assert np.isfinite(distances).all()
    assert (distances >= 0).all()
    assert distances.max() <= images[0].size * (2 * context + 1) ** 2
    assert np.allclose(np.diag(distances), 0, atol=1e-4)
    expected = module.compute_reference(images[0], images[1], warp, context)
    assert distances[0, 1] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    # A farther warp only ever finds more alike.
    assert (compute_image_distortion(images, images, warp + 1, context) <= distances + 1e-4).all()


def test_without_warp_and_context_it_is_the_squared_distance_of_gradients():
    images = draw_blobs(4, 32, 32)
    gradients = np.stack([sobel(image) for image in images]).reshape(4, -1)
    expected = ((gradients[:, None] - gradients) ** 2).sum(-1)
    assert np.allclose(
        compute_image_distortion(images, images, 0, 0), expected, rtol=1e-4, atol=1e-6
    )


def test_smooth_images_are_at_exactly_zero_from_themselves():
    images = draw_blobs(5, 32, 32)
    distances = compute_image_distortion(images, images)
    assert (np.diag(distances) == 0).all()
    assert (distances[~np.eye(5, dtype=bool)] > 0).all()


def test_it_forgives_a_shift_within_the_warp():
    image = np.zeros((1, 32, 32), np.uint8)
    image[0, 10:20, 12:22] = 200
    for shift in ((2, 2), (-1, 2), (0, -2)):
        moved = np.roll(image, shift, axis=(1, 2))
        assert compute_image_distortion(image, moved)[0, 0] == 0
        assert compute_image_distortion(image, moved, warp=0)[0, 0] > 0.1
    assert compute_image_distortion(image, np.roll(image, 6, axis=2))[0, 0] > 0.1


def test_brightness_adds_nothing():
    images = draw_blobs(2, 32, 32) // 2
    assert np.array_equal(
        compute_image_distortion(images, images), compute_image_distortion(images, images + 100)
    )


def test_more_thumbnails_than_one_block(monkeypatch):
    queries, gallery = draw_blobs(5, 12, 12), draw_blobs(7, 12, 12, seed=1)
    whole = compute_image_distortion(queries, gallery)
    monkeypatch.setattr(module, "QUERIES", 2)
    monkeypatch.setattr(blocks, "PIXELS", 3 * 16 * 12**2)  # three of the gallery
    assert np.array_equal(compute_image_distortion(queries, gallery), whole)


@pytest.mark.parametrize(
    ("parameter", "value", "hint"),
    [
        ("warp", -1, "0 to 8"),
        ("warp", 9, "0 to 8"),
        ("warp", 1.5, "0 to 8"),
        ("context", 5, "0 to 4"),
    ],
)
def test_distortion_parameter_out_of_range(parameter, value, hint):
    with pytest.raises(CbirError, match=f"{parameter} .* is out of range") as caught:
        compute_image_distortion(SMALL, SMALL, **{parameter: value})
    assert hint in caught.value.hint


@pytest.mark.parametrize("gallery", [SMALL[:, :8], np.zeros((2, 9, 300), np.uint8)], ids=np.shape)
def test_thumbnails_of_differing_or_large_sides(gallery):
    with pytest.raises(CbirError, match="cannot be compared"):
        compute_image_distortion(SMALL, gallery)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.feature import hog
from sklearn.base import clone

from cbir_lib.descriptors import hog as module
from cbir_lib.descriptors.hog import HOG
from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (3, 64, 64), dtype=np.uint8)
RAMPS = np.stack([np.add.outer(a * np.arange(64), b * np.arange(64)) for a, b in [(1, 2), (3, 0)]])


def scikit_images(images, descriptor):
    return np.stack(
        [
            hog(
                image,
                orientations=descriptor.orientations,
                pixels_per_cell=(descriptor.cell_px,) * 2,
                cells_per_block=(descriptor.block_cells,) * 2,
                block_norm="L2-Hys",
            )
            for image in images
        ]
    )


@pytest.mark.parametrize(
    "descriptor",
    [
        HOG(),
        HOG(block_cells=3),
        HOG(orientations=7, cell_px=9),  # 64 is no multiple of it
        HOG(orientations=36, cell_px=5, block_cells=1),
        HOG(orientations=2, cell_px=32),
    ],
    ids=str,
)
@pytest.mark.parametrize("images", [NOISE, RAMPS.astype(np.uint8)], ids=["noise", "ramps"])
def test_is_scikit_images(descriptor, images):
    vectors = descriptor.transform(images)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, scikit_images(images, descriptor), atol=2e-6)


def test_other_sizes_are_brought_to_the_square_first():
    images = RNG.integers(0, 256, (2, 90, 41), dtype=np.uint8)
    square = Preprocessing(32, clahe=False).transform(images)
    assert np.allclose(HOG(32).transform(images), scikit_images(square, HOG(32)), atol=2e-6)


def literal(image, orientations, cell, block):
    """Pixel by pixel, from the definition."""
    grey = image.astype(float)
    cells = len(grey) // cell
    sums = np.zeros((cells, cells, orientations))
    for y in range(cells * cell):
        for x in range(cells * cell):
            dy = grey[y + 1, x] - grey[y - 1, x] if 0 < y < len(grey) - 1 else 0
            dx = grey[y, x + 1] - grey[y, x - 1] if 0 < x < len(grey) - 1 else 0
            degrees = np.rad2deg(np.arctan2(dy, dx)) % 180
            sums[y // cell, x // cell, int(degrees * orientations / 180)] += np.hypot(dy, dx)
    sums /= cell**2
    vector = []
    for y in range(cells - block + 1):
        for x in range(cells - block + 1):
            window = sums[y : y + block, x : x + block].reshape(-1)
            window = np.minimum(window / np.sqrt((window**2).sum() + 1e-10), 0.2)
            vector.append(window / np.sqrt((window**2).sum() + 1e-10))
    return np.concatenate(vector)


@settings(max_examples=25, deadline=None)
@given(
    arrays(np.uint8, (1, 13, 13)),
    st.sampled_from([4, 9]),
    st.integers(2, 6),
    st.integers(1, 2),
)
def test_is_the_definition_pixel_by_pixel(images, orientations, cell, block):
    vectors = HOG(13, orientations, cell, block).transform(images)
    side = 13 // cell - block + 1
    assert vectors.shape == (1, side**2 * block**2 * orientations)
    assert np.allclose(vectors[0], literal(images[0], orientations, cell, block), atol=1e-5)
    assert (vectors >= 0).all()
    assert (vectors <= 1).all()


def test_a_negative_has_the_same_edges():
    assert np.array_equal(HOG().transform(NOISE), HOG().transform(255 - NOISE))


def test_brightness_adds_nothing():
    images = NOISE // 2
    assert np.array_equal(HOG().transform(images), HOG().transform(images + 100))


@pytest.mark.parametrize("shape", [(2, 64, 64), (1, 8, 8), (1, 1, 1), (2, 20, 50), (1, 129, 9)])
@pytest.mark.parametrize("grey", [0, 77, 255])
def test_a_constant_image_has_no_edge(shape, grey):
    vectors = HOG().transform(np.full(shape, grey, np.uint8))
    assert vectors.shape == (shape[0], 7**2 * 2**2 * 9)
    assert not vectors.any()


def test_more_images_than_one_block(monkeypatch):
    images = RNG.integers(0, 256, (11, 16, 16), dtype=np.uint8)
    whole = HOG(16, cell_px=4).transform(images)
    monkeypatch.setattr(module, "BLOCK", 4)
    assert np.array_equal(HOG(16, cell_px=4).transform(images), whole)


@pytest.mark.parametrize(
    ("parameter", "value", "hint"),
    [
        ("size", 7, "8 to 1024"),
        ("size", 64.0, "8 to 1024"),
        ("orientations", 1, "2 to 36"),
        ("cell_px", 0, "2 to 256"),
        ("cell_px", 33, "at most size / block_cells, 32"),
        ("block_cells", None, "1 to 8"),
    ],
)
def test_parameter_out_of_range(parameter, value, hint):
    descriptor = HOG(**{parameter: value})
    for use in (descriptor.fit, descriptor.transform):
        with pytest.raises(CbirError, match=f"{parameter} .* is out of range") as caught:
            use(NOISE)
        assert hint in caught.value.hint


@pytest.mark.parametrize("images", [NOISE / 255, NOISE[0], NOISE[:0]], ids=np.shape)
def test_no_batch_of_images(images):
    with pytest.raises(CbirError, match="expected images of shape"):
        HOG().transform(images)


def test_is_a_scikit_learn_estimator():
    copy = clone(HOG(size=32, orientations=6))
    assert copy.get_params() == {"size": 32, "orientations": 6, "cell_px": 8, "block_cells": 2}
    assert copy.fit_transform(NOISE).shape == (3, 3**2 * 2**2 * 6)

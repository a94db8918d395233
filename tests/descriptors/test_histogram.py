import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cbir_lib.descriptors import blocks
from cbir_lib.descriptors.histogram import GreyHistogram
from cbir_lib.errors import CbirError
from cbir_lib.retrieval.distances import pairwise

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (5, 33, 50), dtype=np.uint8)
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20))


def by_hand(image, bins, grid):
    """Pixel by pixel."""
    height, width = image.shape
    counts = np.zeros((grid, grid, bins))
    for y in range(height):
        for x in range(width):
            counts[y * grid // height, x * grid // width, int(image[y, x]) * bins // 256] += 1
    return counts.reshape(-1) / image.size


@pytest.mark.parametrize("bins", [2, 16, 256])
def test_one_cell_is_the_histogram_it_always_was(bins):
    flat = NOISE.reshape(len(NOISE), -1)
    before = np.stack([np.bincount(image // (256 // bins), minlength=bins) for image in flat])
    before = (before / flat.shape[1]).astype(np.float32)
    assert np.array_equal(GreyHistogram(bins).transform(NOISE), before)
    assert np.array_equal(GreyHistogram(bins, grid=1).transform(NOISE), before)


@given(arrays(np.uint8, SHAPES), st.sampled_from([2, 16, 256]), st.integers(1, 6))
def test_grid_is_the_count_by_hand(images, bins, grid):
    vectors = GreyHistogram(bins, grid).transform(images)
    assert vectors.shape == (len(images), grid**2 * bins)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, [by_hand(image, bins, grid) for image in images], atol=1e-6)
    assert np.allclose(vectors.sum(axis=1), 1, atol=1e-5)


def test_each_cell_has_opencvs_histogram():
    images = NOISE[:, :32, :48]
    for image, vector in zip(images, GreyHistogram(64, 4).transform(images), strict=True):
        cells = [cell for row in np.split(image, 4) for cell in np.split(row, 4, axis=1)]
        expected = [cv2.calcHist([cell], [0], None, [64], [0, 256]).reshape(-1) for cell in cells]
        assert np.allclose(vector, np.concatenate(expected) / image.size, atol=1e-7)


def test_cells_of_a_literal_image_go_row_by_row():
    image = np.array([[[0, 255], [0, 0]]], np.uint8)
    assert GreyHistogram(2, 2).transform(image).tolist() == [
        [1 / 4, 0, 0, 1 / 4, 1 / 4, 0, 1 / 4, 0]
    ]


@pytest.mark.parametrize("grid", [2, 5])
def test_the_cells_add_up_to_the_whole(grid):
    vectors = GreyHistogram(32, grid).transform(NOISE)
    whole = vectors.reshape(len(NOISE), -1, 32).sum(axis=1)
    assert np.allclose(whole, GreyHistogram(32).transform(NOISE), atol=1e-6)


def test_a_grid_tells_apart_what_only_places_differ_in():
    images = np.zeros((2, 8, 8), np.uint8)
    images[0, :4], images[1, 4:] = 200, 200
    assert pairwise("Jensen-Shannon", *np.split(GreyHistogram().transform(images), 2))[0, 0] == 0
    grid = GreyHistogram(grid=2).transform(images)
    assert pairwise("Jensen-Shannon", *np.split(grid, 2))[0, 0] == pytest.approx(2 * np.log(2))


@pytest.mark.parametrize("grid", [0, -1, 17, 2.0, "2", None, True])
def test_grid_out_of_range(grid):
    for use in (GreyHistogram(grid=grid).fit, GreyHistogram(grid=grid).transform):
        with pytest.raises(CbirError, match=r"grid .* is out of range\n.* 1 to 16"):
            use(NOISE)


@pytest.mark.parametrize(("pixels", "values", "most"), [(1, 0, 1), (4000, 0, 2), (9000, 3000, 3)])
@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_are_small_and_hold_every_image_once(pixels, values, most, threads, monkeypatch):
    monkeypatch.setattr(blocks, "PIXELS", pixels)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    images = np.zeros_like(NOISE)
    sizes = []

    def work(block, part):
        sizes.append(len(block))
        images[part] += block

    blocks.map_blocks(work, NOISE[:, ::-1], values)
    assert np.array_equal(images, NOISE[:, ::-1])
    assert max(sizes) == most
    assert sum(sizes) == len(NOISE)


def test_an_error_in_a_block_is_not_lost():
    def work(block, part):
        raise CbirError("broken", "mend it")

    with pytest.raises(CbirError, match="broken"):
        blocks.map_blocks(work, NOISE)


def test_neither_blocks_nor_threads_change_a_bit(monkeypatch):
    whole = GreyHistogram(grid=2).transform(NOISE)
    monkeypatch.setattr(blocks, "PIXELS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert np.array_equal(GreyHistogram(grid=2).transform(NOISE), whole)

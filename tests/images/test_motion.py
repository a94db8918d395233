"""Motions that are exact on the pixel grid, and that undo one another."""

import cv2
import numpy as np
import pytest

from cbir_lib.images.motion import move
from cbir_lib.images.perturbations import rotate

NOISE = np.random.default_rng(0).integers(0, 256, (3, 24, 24), dtype=np.uint8)


def test_no_motion_changes_nothing():
    assert (move(NOISE) == NOISE).all()


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 5), (-4, 2), (7, -6)])
def test_whole_pixels_are_shifted_and_black_comes_in(right, down):
    expected = np.zeros_like(NOISE)
    for y in range(24):
        for x in range(24):
            if 0 <= y - down < 24 and 0 <= x - right < 24:
                expected[:, y, x] = NOISE[:, y - down, x - right]
    assert (move(NOISE, right_px=right, down_px=down) == expected).all()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_right_angles_are_exact(turns):
    assert (move(NOISE, angle_deg=90 * turns) == np.rot90(NOISE, turns, axes=(1, 2))).all()


@pytest.mark.parametrize("degrees", [0.0, 5.0, 45.0, -20.0, 400.0])
def test_queries_are_rotated_by_the_same_motion_bit_for_bit(degrees):
    images = NOISE[:, :17]
    matrix = cv2.getRotationMatrix2D((11.5, 8), degrees % 360, 1.0)
    expected = [cv2.warpAffine(image, matrix, (24, 17)) for image in images]
    assert np.array_equal(rotate(images, degrees), expected)
    assert np.array_equal(move(images, angle_deg=degrees), expected)


def test_a_smaller_square_is_as_much_smaller_and_in_the_centre():
    square = np.zeros((1, 65, 65), np.uint8)
    square[0, 12:53, 12:53] = 255  # 41 pixels
    small = move(square, scale=0.5)[0] > 127
    rows, columns = np.flatnonzero(small.any(1)), np.flatnonzero(small.any(0))
    for line in (rows, columns):
        assert len(line) == pytest.approx(41 / 2, abs=1)
        assert line.mean() == 32


def test_images_of_a_batch_do_not_meet():
    moved = move(NOISE, angle_deg=20, scale=0.8, right_px=2)
    for image, expected in zip(NOISE, moved, strict=True):
        assert (move(image[None], angle_deg=20, scale=0.8, right_px=2)[0] == expected).all()

"""Distances of shifted thumbnails, one pair at a time."""

import numpy as np
import pytest

from cbir_lib.retrieval.distances import pairwise
from cbir_lib.study.shift_tolerance import measure_shift_tolerance

THUMBNAILS = np.random.default_rng(0).integers(0, 256, (4, 12, 12), dtype=np.uint8)


def naive(distance, shifts, squared):
    def measure(one, other):
        vectors = [image.reshape(1, -1) / np.float32(255) for image in (one, other)]
        return float(pairwise(distance, *vectors)[0, 0]) ** (2 if squared else 1)

    rows = []
    for image in THUMBNAILS:
        mean = np.mean([measure(image, o) for o in THUMBNAILS if not np.array_equal(o, image)])
        row = []
        for shift in shifts:
            moved = np.empty_like(image)
            for x in range(12):
                moved[:, x] = image[:, max(0, x - shift)]
            row.append(measure(image, moved) / mean)
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(
    ("distance", "squared"), [("L2", False), ("L2", True), ("image distortion", False)]
)
def test_shifted_thumbnails_are_compared_one_by_one(distance, squared):
    shifts = (0, 1, 3)
    tolerance = measure_shift_tolerance(THUMBNAILS, distance, shifts, squared=squared)
    assert tolerance.shape == (4, 3)
    assert np.allclose(tolerance, naive(distance, shifts, squared), rtol=1e-4, atol=1e-6)
    assert np.allclose(tolerance[:, 0], 0, atol=1e-6)

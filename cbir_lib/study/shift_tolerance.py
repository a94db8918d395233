"""How far a distance puts an image from itself after a shift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cbir_lib.retrieval.distances import pairwise


def measure_shift_tolerance(
    thumbnails: np.ndarray, distance: str, shifts: Sequence[int], *, squared: bool = False
) -> np.ndarray:
    """Measure the distance of images from themselves, shifted to the right.

    Parameters
    ----------
    thumbnails : (N, S, S) uint8
        Two or more; the left column is repeated where pixels enter.
    distance
        One for vectors of S * S grey values, such as ``L2`` or ``image distortion``.
    shifts
        In pixels, 0 or more.
    squared
        Square the distances first.

    Returns
    -------
    (N, len(shifts)) float32
        In units of the image's mean distance from the other images, unshifted.
    """
    number, side = thumbnails.shape[:2]
    vectors = thumbnails.reshape(number, -1) / np.float32(255)
    power = 2 if squared else 1
    between = pairwise(distance, vectors, vectors) ** power
    others = between[~np.eye(number, dtype=bool)].reshape(number, -1).mean(axis=1)
    columns = []
    for shift in shifts:
        moved = np.pad(thumbnails, ((0, 0), (0, 0), (shift, 0)), mode="edge")[..., :side]
        after = moved.reshape(number, -1) / np.float32(255)
        columns.append(np.diag(pairwise(distance, vectors, after)) ** power / others)
    return np.stack(columns, axis=1)

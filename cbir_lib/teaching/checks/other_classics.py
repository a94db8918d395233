"""Exercises on descriptors that the paper leaves out."""

from __future__ import annotations

import numpy as np

from cbir_lib import Preprocessing
from cbir_lib.descriptors import build_descriptor
from cbir_lib.descriptors.thumbnail import compute_image_distortion
from cbir_lib.teaching.answers import Array, Expected, Number
from cbir_lib.teaching.material import load_examples

NAMES = ("lbp", "hog", "haralick", "thumbnail", "zernike")
ROUNDING = 1e-3  # of the largest value


def tabulate_invariances() -> tuple[Expected, ...]:
    """Find which descriptors ignore a quarter turn, a mirror, and brightness."""
    images = np.minimum(load_examples().images[:3], 235)
    changed = (
        np.rot90(images, axes=(1, 2)).copy(),
        images[:, :, ::-1].copy(),
        images + np.uint8(20),
    )
    table = []
    for name in NAMES:
        descriptor = build_descriptor(name).fit(images)
        vectors = descriptor.transform(images)
        gaps = [np.abs(vectors - descriptor.transform(altered)).max() for altered in changed]
        table.append([gap < ROUNDING * np.abs(vectors).max() for gap in gaps])
    return (
        Array(
            "ignores",
            np.array(table),
            "Rows: lbp, hog, haralick, thumbnail, zernike; columns: turned, mirrored, brighter. "
            "Equal up to rounding counts as ignored.",
        ),
    )


def let_pixels_move() -> tuple[Expected, ...]:
    """Find from which reach on the distortion model finds the right region."""
    data = load_examples()
    thumbnails = Preprocessing(32, clahe=False).transform(data.images)
    own = data.labels == data.labels[0]
    own[0] = False
    reaches = (0, 1, 2, 4)
    ratios = []
    for reach in reaches:
        (distances,) = compute_image_distortion(thumbnails[:1], thumbnails, warp=reach)
        ratios.append(float(distances[data.labels != data.labels[0]].min() / distances[own].min()))
    return (
        Array(
            "ratios",
            ratios,
            "For each reach: the smallest distance from image 0 to another region, divided by the "
            "smallest to its own, itself left out.",
            tolerance=0.01,
        ),
        Number(
            "needed",
            reaches[int(np.argmax(np.array(ratios) > 1))],
            "The nearest image is of the right region where the ratio is above 1.",
        ),
    )


EXERCISES = (tabulate_invariances, let_pixels_move)

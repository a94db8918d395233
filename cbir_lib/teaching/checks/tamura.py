"""Exercises on Tamura's texture features."""

from __future__ import annotations

import numpy as np

from cbir_lib.descriptors.tamura import TamuraHistogram, compute_tamura_maps
from cbir_lib.images.perturbations import add_noise
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.teaching.answers import Array, Expected, Number
from cbir_lib.teaching.material import draw_stripes, load_examples


def turn_stripes() -> tuple[Expected, ...]:
    """Find the most frequent direction of stripes, upright and turned."""
    stripes = np.stack([draw_stripes(10, degrees) for degrees in (0, 30)])
    direction = np.rad2deg(compute_tamura_maps(stripes).direction[:, 16:-16, 16:-16])
    return (
        Array(
            "directions",
            np.median(direction, axis=(1, 2)),
            "Take the median of the map of directions away from the border, in degrees.",
            tolerance=1.5,
        ),
    )


def add_mild_noise() -> tuple[Expected, ...]:
    """Compute how far mild noise moves a histogram, relative to its nearest neighbour."""
    images = load_examples().images[::5]
    descriptor = TamuraHistogram()
    vectors, noisy = descriptor.transform(images), descriptor.transform(add_noise(images, 5))
    between = pairwise(descriptor.distance, vectors, vectors)
    np.fill_diagonal(between, np.inf)
    moved = np.diag(pairwise(descriptor.distance, noisy, vectors))
    return (
        Number(
            "ratio",
            float(np.median(moved / between.min(axis=1))),
            "For each image: the distance to its noisy copy, divided by that to the nearest other "
            "image. Then the median.",
            tolerance=0.05,
        ),
    )


EXERCISES = (turn_stripes, add_mild_noise)

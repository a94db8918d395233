"""Exercises on looking for leaks."""

from __future__ import annotations

import numpy as np

from cbir_lib.datasets.duplicates import THRESHOLD, compute_thumbnails, find_nearest
from cbir_lib.teaching.answers import Array, Expected, Items
from cbir_lib.teaching.material import alter_image, load_examples, plant_copies


def find_copies() -> tuple[Expected, ...]:
    """Find the planted near copies across two splits."""
    train, test = plant_copies()
    rows, similarity = find_nearest(compute_thumbnails(test), compute_thumbnails(train))
    copies = np.flatnonzero(similarity >= THRESHOLD)
    return (
        Items(
            "pairs",
            frozenset((int(row), int(rows[row])) for row in copies),
            "Pairs are (row of test, row of train). A copy may be brighter or saved as JPEG: "
            "compare thumbnails, not pixels.",
        ),
    )


def miss_copies() -> tuple[Expected, ...]:
    """Find which altered copies the check does not see."""
    image = load_examples().images[0]
    altered = np.stack([alter_image(image, how) for how in ALTERATIONS])
    _, similarity = find_nearest(compute_thumbnails(altered), compute_thumbnails(image[None]))
    return (
        Array(
            "detected",
            similarity >= THRESHOLD,
            "The check calls two images copies if their thumbnails correlate with THRESHOLD or "
            "more.",
        ),
    )


ALTERATIONS = ("brighter", "JPEG", "mirrored", "turned", "cropped")
EXERCISES = (find_copies, miss_copies)

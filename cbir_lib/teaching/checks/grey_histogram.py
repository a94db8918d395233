"""Exercises on the grey histogram."""

from __future__ import annotations

import numpy as np

from cbir_lib.descriptors.histogram import GreyHistogram
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.teaching.answers import Array, Expected, Number, Word
from cbir_lib.teaching.material import load_examples, shuffle_pixels


def shuffle_image() -> tuple[Expected, ...]:
    """Compute how far an image is from itself shuffled, and which images are nearer."""
    images = load_examples().images
    vectors = GreyHistogram().transform(np.stack([shuffle_pixels(images[0]), *images]))
    (distances,) = pairwise(GreyHistogram.distance, vectors[1:2], vectors)
    return (
        Number(
            "distance",
            float(distances[0]),
            "A histogram counts grey values. Does a shuffled image have other values?",
            tolerance=1e-6,
        ),
        Number(
            "nearer",
            int((distances[2:] < distances[0]).sum()),
            "Count the 99 other images that are strictly nearer to the image than its shuffled "
            "copy.",
        ),
    )


def shuffle_cells() -> tuple[Expected, ...]:
    """Find which grids notice that pixels are shuffled within 4 x 4 cells."""
    image = load_examples().images[0]
    both = np.stack([image, shuffle_pixels(image, cells=4)])
    same = [np.equal(*GreyHistogram(grid=grid).transform(both)).all() for grid in (1, 4, 8)]
    return (
        Array(
            "unchanged",
            np.array(same),
            "A histogram changes only if pixels leave the cell that it counts.",
        ),
    )


def brighten_image() -> tuple[Expected, ...]:
    """Compare two distances from an image to its brighter copy, in terms of another region's."""
    data = load_examples()
    brighter = np.clip(data.images[:1].astype(int) + 5, 0, 255).astype(np.uint8)
    gallery = GreyHistogram().transform(np.concatenate([brighter, data.images]))
    ratios = {}
    for distance in ("Jensen-Shannon", "earth mover"):
        (distances,) = pairwise(distance, gallery[1:2], gallery)
        ratios[distance] = float(distances[0] / distances[1:][data.labels != data.labels[0]].min())
    return (
        Array(
            "ratios",
            list(ratios.values()),
            "Divide the distance to the brighter copy by the smallest distance to an image of "
            "another region (data.labels), for each of the two distances.",
            tolerance=0.01,
        ),
        Word(
            "mild",
            min(ratios, key=ratios.get),
            tuple(ratios),
            "Which of the two knows that grey value 100 is nearly 105?",
        ),
    )


EXERCISES = (shuffle_image, shuffle_cells, brighten_image)

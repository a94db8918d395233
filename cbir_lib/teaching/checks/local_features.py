"""Exercises on bags of visual words."""

from __future__ import annotations

from functools import cache

import numpy as np

from cbir_lib.descriptors.local import BagOfWords
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.teaching.answers import Array, Expected, Number, Word
from cbir_lib.teaching.material import load_examples

SETTINGS = {"words": 16, "step_px": 16, "sample": 1000}


def exchange_quarters() -> tuple[Expected, ...]:
    """Compute how far exchanged quarters move a bag of words, beside the nearest image."""
    images = load_examples().images[::5]
    bag = _fit("sift-dense")
    vectors = bag.transform(images)
    moved = bag.transform(np.roll(images[:1], (64, 64), axis=(1, 2)))
    own = pairwise(bag.distance, vectors[:1], moved)[0, 0]
    nearest = pairwise(bag.distance, vectors[:1], vectors[1:]).min()
    return (
        Number(
            "ratio",
            float(own / nearest),
            "The distance of image 0 to its rearranged copy, divided by that to the nearest of the "
            "other 19 images. np.roll by half the side exchanges the quarters.",
            tolerance=0.03,
        ),
    )


def halve_exposure() -> tuple[Expected, ...]:
    """Find which local features mind exposure."""
    images = load_examples().images[::5]
    moved = {}
    for features in ("sift-dense", "patches"):
        bag = _fit(features)
        pairs = pairwise(bag.distance, bag.transform(images), bag.transform(images // 2))
        moved[features] = float(np.diag(pairs).mean())
    return (
        Array(
            "moved",
            list(moved.values()),
            "The mean distance between the bag of an image and that of the image with halved grey "
            "values, for sift-dense, then patches.",
            tolerance=0.05,
        ),
        Word(
            "minds",
            max(moved, key=moved.get),
            tuple(moved),
            "One of the two is scaled to unit length; the other is made of the grey values.",
        ),
    )


@cache
def _fit(features: str) -> BagOfWords:
    return BagOfWords(features, **SETTINGS).fit(load_examples().images[::5])


EXERCISES = (exchange_quarters, halve_exposure)

"""Exercises on what a network looks at."""

from __future__ import annotations

import numpy as np

from cbir_lib.networks.occlusion import compute_log_odds, place_patches
from cbir_lib.teaching.answers import Array, Expected, Number
from cbir_lib.teaching.material import load_examples, load_shipped_network


def count_places() -> tuple[Expected, ...]:
    """Count the places of the patch of two occlusion maps."""
    return (
        Array(
            "places",
            [len(place_patches(64, patch, stride)) ** 2 for patch, stride in ((16, 8), (8, 4))],
            "Along a side, the first pixel of a patch can be at 0, one stride, two strides, ... as "
            "long as the patch fits; there are two sides.",
        ),
    )


def lower_odds() -> tuple[Expected, ...]:
    """Compute log-odds, and what halving the odds changes about them."""
    shares = np.array([0.99, 0.01])
    (before,) = compute_log_odds(np.log(shares)[None], np.array([0]))
    return (
        Number(
            "odds",
            float(before),
            "The natural logarithm of p / (1 - p).",
            tolerance=1e-3,
            common=[(np.log(0.99), "That is the logarithm of the probability, not of the odds.")],
        ),
        Number("fall", np.log(2), "Halving subtracts the logarithm of 2.", tolerance=1e-3),
    )


def turn_films() -> tuple[Expected, ...]:
    """Count the answers of a shipped network that survive a quarter turn."""
    data, network = load_examples(), load_shipped_network("scores")
    films = {"upright": data.images, "turned": np.rot90(data.images, axes=(1, 2)).copy()}
    return tuple(
        Number(
            name,
            int((network.transform(images).argmax(axis=1) == data.labels).sum()),
            "The answer is the class of the highest score; compare it with data.labels.",
            tolerance=1,
        )
        for name, images in films.items()
    )


EXERCISES = (count_places, lower_odds, turn_films)

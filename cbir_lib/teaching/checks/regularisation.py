"""Exercises on dropout and augmentation."""

from __future__ import annotations

import numpy as np

from cbir_lib.evaluation.intervals import compute_bootstrap_interval
from cbir_lib.study.pairwise import score_queries
from cbir_lib.teaching.answers import Array, Expected, Number
from cbir_lib.teaching.material import read_published

TURNS = 4  # quarters


def count_pictures() -> tuple[Expected, ...]:
    """Count the pictures that random crops and quarter turns make of one image."""
    return (
        Array(
            "pictures",
            [TURNS * (side - crop + 1) ** 2 for side, crop in ((64, 60), (128, 120))],
            "A crop of c pixels has s - c + 1 places along a side of s, and there are two sides; "
            "each crop comes in four directions.",
        ),
    )


def bootstrap_dropout() -> tuple[Expected, ...]:
    """Compute the gain of dropout and its paired interval from two published results."""
    with_dropout, plain = (read_published(f"phantom-B-{name}") for name in ("dropout-s0", "s0"))
    gains = 100 * (score_queries(with_dropout, "accuracy") - score_queries(plain, "accuracy"))
    low, high = compute_bootstrap_interval(gains)
    several = (
        "Draw images with replacement, 2,000 times; keep the two answers to an image together."
    )
    return (
        Number(
            "gain",
            float(gains.mean()),
            "The share of images right with dropout, less the share right without, in points.",
            tolerance=0.01,
        ),
        Number("low", low, f"{several} This is the 2.5 % quantile.", tolerance=0.3),
        Number("high", high, f"{several} This is the 97.5 % quantile.", tolerance=0.3),
    )


def draw_seeds() -> tuple[Expected, ...]:
    """Compute how often three draws from three seeds are the same seed."""
    return (
        Number(
            "probability",
            float(np.mean([len({a, b, c}) == 1 for a in "012" for b in "012" for c in "012"])),
            "There are 27 ordered draws. How many of them have one seed only?",
            tolerance=1e-3,
            common=[(1 / 27, "That is one particular seed; any of the three will do.")],
        ),
    )


EXERCISES = (count_pictures, bootstrap_dropout, draw_seeds)

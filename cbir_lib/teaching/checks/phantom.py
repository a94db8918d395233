"""Exercises on the phantom."""

from __future__ import annotations

import numpy as np

from cbir_lib.datasets.phantom.exposure import BONE, ENERGIES_KEV, SOFT
from cbir_lib.teaching.answers import Array, Expected, Number


def halve_noise() -> tuple[Expected, ...]:
    """Compute by which factor photons must grow to halve the noise, and the noise of 10,000."""
    return (
        Number(
            "factor",
            4,
            "The standard deviation of a count is the square root of its mean; relative noise is "
            "their ratio.",
            common=[(2, "Twice the photons divide relative noise by the square root of 2.")],
        ),
        Number(
            "noise",
            1 / np.sqrt(10_000),
            "The standard deviation of a Poisson count of mean n, divided by n.",
            tolerance=5e-4,
            common=[(100.0, "That is the standard deviation; divide it by the mean.")],
        ),
    )


def lose_contrast() -> tuple[Expected, ...]:
    """Compute what is left of the beam behind bone, beside soft tissue, at two energies."""
    rows = [ENERGIES_KEV.index(energy) for energy in (40, 80)]
    return (
        Array(
            "shares",
            np.exp(-0.02 * (BONE - SOFT)[rows]),
            "Beer-Lambert: behind x metres the share exp(-mu x) is left. What both rays have in "
            "common cancels; 2 cm of soft tissue are replaced by bone.",
            tolerance=2e-3,
        ),
    )


EXERCISES = (halve_noise, lose_contrast)

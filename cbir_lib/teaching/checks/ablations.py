"""Exercises on the ablations."""

from __future__ import annotations

import numpy as np
from scipy import stats

from cbir_lib.networks.architectures import Layer, list_layers
from cbir_lib.teaching.answers import Expected, Number

LEVEL = 0.05


def compare_h_with_d() -> tuple[Expected, ...]:
    """Count what two more convolutions cost, and how much further they see."""
    deep, shallow = (list(list_layers(name, classes=5)) for name in "HD")
    return (
        Number(
            "parameters",
            _count(deep) - _count(shallow),
            "Only the two added convolutions differ: 3 x 3 weights for 20 x 20 channels each, and "
            "biases.",
        ),
        Number(
            "field_px",
            _field(deep) - _field(shallow),
            "An added 3 x 3 convolution widens the field by 2 of its own pixels: by 8 pixels of "
            "the image after two poolings, by 16 after three.",
        ),
    )


def test_by_signs() -> tuple[Expected, ...]:
    """Compute the two-sided p value of five seeds that agree, and how many must."""
    p_values = [float(stats.binomtest(n, n).pvalue) for n in range(1, 20)]
    return (
        Number(
            "p",
            p_values[4],
            "If nothing differed, each seed would favour either side with probability 1/2; count "
            "both directions.",
            tolerance=1e-4,
            common=[(p_values[4] / 2, "That is one-sided: five against are as surprising.")],
        ),
        Number(
            "needed",
            1 + next(n for n, p in enumerate(p_values) if p < LEVEL),
            "Add seeds until the two-sided p value falls below 0.05.",
        ),
    )


def exclude_zero() -> tuple[Expected, ...]:
    """Find by how many images a network must be ahead for an interval that excludes 0."""
    images, differ = 600, 60
    ahead = np.arange(0, differ + 1, 2)
    mean = ahead / images
    error = np.sqrt((differ / images - mean**2) / images)
    return (
        Number(
            "more",
            int(ahead[np.argmax(mean - stats.norm.ppf(0.975) * error > 0)]),
            "The mean of 600 values of 1, 0 and -1 has standard error sqrt((60/600 - mean^2)/600). "
            "The number is even, since the two shares of the 60 add up to 60.",
            common=[
                (
                    int(ahead[np.argmax(mean - stats.norm.ppf(0.975) * error > 0)]) // 2,
                    "Count the images won less those lost, not the images beyond one half.",
                )
            ],
        ),
    )


def _count(listed: list[Layer]) -> int:
    return sum(layer.parameters for layer in listed)


def _field(listed: list[Layer]) -> int:
    return [layer for layer in listed if len(layer.shape) == 3][-1].receptive_field_px


EXERCISES = (compare_h_with_d, test_by_signs, exclude_zero)

"""Exercises on features that others have trained."""

from __future__ import annotations

import numpy as np

from cbir_lib.teaching.answers import Array, Expected, Number

MAP = np.array([[0.0, 0.0, 6.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]])
COLOUR_FILTER = np.array([[[1.0, 0.0], [-1.0, 2.0]], [[0.5, 0.5], [0.0, -1.0]], [[0.0, 1.0]] * 2])


def pool_by_hand() -> tuple[Expected, ...]:
    """Pool a map of nine values in three ways."""
    return (
        Number("average", MAP.mean(), "The sum of the nine values, divided by nine."),
        Number("maximum", MAP.max(), "The largest of the nine values."),
        Number(
            "generalised",
            float(np.cbrt((MAP**3).mean())),
            "Cube the values, take their mean, then the cubic root.",
            tolerance=1e-3,
            common=[(float(np.cbrt((MAP**3).sum())), "That is the root of the sum, not the mean.")],
        ),
    )


def fold_colours() -> tuple[Expected, ...]:
    """Fold a filter of three colours into one of grey values."""
    return (
        Array(
            "grey_filter",
            COLOUR_FILTER.sum(axis=0),
            "All three channels of a grey image are equal, so its value can be taken out of the "
            "sum over the channels.",
        ),
    )


def count_products() -> tuple[Expected, ...]:
    """Count the multiplications of a plain and of a separated convolution."""
    places, channels, side = 14 * 14, 112, 5
    return (
        Number(
            "plain",
            places * channels * channels * side**2,
            "At every place, each of the output's channels takes a window of all channels.",
        ),
        Number(
            "separated",
            places * channels * (side**2 + channels),
            "First each channel has one filter of its own; then, at every place, each output "
            "channel is a weighted sum of all channels.",
        ),
    )


EXERCISES = (pool_by_hand, fold_colours, count_products)

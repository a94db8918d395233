"""Exercises on robustness."""

from __future__ import annotations

import numpy as np

from cbir_lib.images.perturbations import rotate
from cbir_lib.study import effects
from cbir_lib.teaching.answers import Expected, Number, Word
from cbir_lib.teaching.material import read_published_effects


def lose_corners() -> tuple[Expected, ...]:
    """Compute the share of a square that is black after a rotation by 45 degrees."""
    white = np.full((1, 512, 512), 255, np.uint8)
    return (
        Number(
            "lost",
            float((rotate(white, 45) < 128).mean()),
            "A square and the same square turned by 45 degrees share an octagon of area "
            "2 sqrt(2) - 2.",
            tolerance=0.005,
        ),
    )


def add_mildest_noise() -> tuple[Expected, ...]:
    """Find the method that loses most P@1 at the mildest noise."""
    table = effects.tabulate(read_published_effects("robustness"), "noise")
    at = {level: rows.set_index("method")["P@1"] for level, rows in table.groupby("level")}
    falls = at[0.0] - at[min(level for level in at if level > 0)]
    return (
        Word(
            "method",
            falls.idxmax(),
            tuple(falls.index),
            "Subtract P@1 at the mildest noise from P@1 without noise, for each method.",
        ),
        Number("fall", float(falls.max()), "In percentage points of P@1.", tolerance=0.06),
    )


def find_worst_angle() -> tuple[Expected, ...]:
    """Find the angle at which the network is worst."""
    table = effects.tabulate(read_published_effects("robustness"), "rotation")
    network = table[table["method"].str.startswith("Network")].set_index("level")["mAP"]
    return (Number("angle", float(network.idxmin()), "In degrees: the level with the lowest mAP."),)


EXERCISES = (lose_corners, add_mildest_noise, find_worst_angle)

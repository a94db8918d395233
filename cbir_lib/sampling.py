"""Some of many rows: the same every time, and of all parts alike."""

from __future__ import annotations

import numpy as np


def space_evenly(count: int, most: int) -> np.ndarray:
    """Return at most ``most`` of ``count`` rows, evenly spaced from the first to the last.

    Returns
    -------
    (min(count, most),) int64, ascending, none twice.
    """
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)

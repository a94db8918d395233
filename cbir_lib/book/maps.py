"""Descriptor vectors arranged as maps, for figures."""

from __future__ import annotations

import numpy as np

from cbir_lib.descriptors.fourier_mellin import FourierMellin
from cbir_lib.descriptors.hog import HOG


def arrange_frequencies(method: FourierMellin, vectors: np.ndarray) -> np.ndarray:
    """Arrange Fourier-Mellin vectors as maps: a row per angular, a column per radial frequency.

    Parameters
    ----------
    vectors : (N, D) float32
        With ``D = angular * (2 radial - 1)``.

    Returns
    -------
    (N, angular * r, 2 radial - 1) float32
        Square roots, so that small values show; rows are repeated r times to fill about a square.
    """
    width = 2 * method.radial - 1
    rows = np.sqrt(vectors).reshape(len(vectors), method.angular, width)
    return rows.repeat(max(1, round(width / method.angular)), axis=1)


def sum_blocks(method: HOG, vectors: np.ndarray) -> np.ndarray:
    """Sum what the overlapping blocks of oriented gradients hold of each cell.

    Returns
    -------
    (N, C, C, orientations)
        With ``C = size / cell_px`` cells along a side. A cell is in one to four blocks.
    """
    number, across = len(vectors), method.size // method.cell_px
    blocks = vectors.reshape(number, across - 1, across - 1, 2, 2, method.orientations)
    total = np.zeros((number, across, across, method.orientations), vectors.dtype)
    for y in (0, 1):
        for x in (0, 1):
            total[:, y : across - 1 + y, x : across - 1 + x] += blocks[:, :, :, y, x]
    return total

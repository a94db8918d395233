"""Grey histogram: how often each grey value occurs, in the whole image or in each cell of a grid.

The paper's "colour histogram", which on grey images is this.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.descriptors.blocks import count_codes, map_blocks
from cbir_lib.errors import CbirError, check_integer
from cbir_lib.images.preprocessing import check_images


class GreyHistogram(TransformerMixin, BaseEstimator):
    """Relative frequencies of grey values, as in Deselaers, Keysers, Ney (2004, 2008).

    Parameters
    ----------
    bins : int
        Number of equal bins over 0..255, a divisor of 256. The baselines use 256.
    grid : int
        The image is cut into ``grid`` x ``grid`` cells, 1 to 16, each with a histogram of its own;
        1, as in the baselines, forgets all places. Pixel (y, x) lies in cell
        (floor(grid y / H), floor(grid x / W)).

    Notes
    -----
    Nothing is learned. The vector has ``grid`` ² ``bins`` values, cell after cell, row by row; all
    are 0 or more, and sum to 1 over the whole image. A cell that holds no pixel, where an image is
    smaller than the grid, is all 0. DOI 10.1007/978-3-540-28649-3_28, 10.1007/s10791-007-9039-3.
    """

    distance = "Jensen-Shannon"

    def __init__(self, bins: int = 256, grid: int = 1):
        self.bins = bins
        self.grid = grid

    def check(self) -> None:
        """Refuse parameters out of range."""
        check_integer("bins", self.bins, 2, 256)
        if 256 % self.bins:
            raise CbirError(f"bins {self.bins!r} is out of range", "give 2, 4, 8, ... or 256")
        check_integer("grid", self.grid, 1, 16)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> GreyHistogram:
        """Check the parameters; there is nothing to learn."""
        self.check()
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, grid² bins) float32."""
        self.check()
        images = check_images(images)
        row, column = (np.arange(side) * self.grid // side for side in images.shape[1:])
        first = (self.bins * (row[:, None] * self.grid + column)).astype(np.int32)  # of the cell
        vectors = np.empty((len(images), self.grid**2 * self.bins), np.float32)

        def work(block: np.ndarray, part: slice) -> None:
            codes = block // np.uint8(256 // self.bins)
            vectors[part] = count_codes(codes, first, vectors.shape[1]) / images[0].size

        map_blocks(work, images, vectors.shape[1])
        return vectors

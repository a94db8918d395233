"""Histograms of oriented gradients: which way the edges run, cell by cell."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.errors import CbirError, check_integer
from cbir_lib.images.preprocessing import Preprocessing, check_images

BLOCK = 64  # images at a time


class HOG(TransformerMixin, BaseEstimator):
    """Histograms of oriented gradients (Dalal, Triggs 2005), as ``skimage.feature.hog`` has them.

    Parameters
    ----------
    size : int
        Images are brought to a square of this side first, 8 to 1024 pixels, as
        :class:`~cbir_lib.images.preprocessing.Preprocessing` does; those that have it are left.
    orientations : int
        Bins over 0 to 180 degrees, 2 to 36.
    cell_px : int
        Side of a cell in pixels, 2 to 256.
    block_cells : int
        Side of a block in cells, 1 to 8. Blocks overlap: they move by one cell.

    Notes
    -----
    Nothing is learned. With C = floor(size / cell_px) cells a side and B = C - block_cells + 1
    blocks a side, the vector has B² block_cells² orientations values: index ``[block row, block
    column, cell row, cell column, orientation]``, each from 0 to 1. A block without an edge is all
    0, and so is the vector of a constant image.

    Differences of neighbours, (-1, 0, 1), 0 at the border; a pixel gives its magnitude to the one
    bin of its orientation and the one cell it lies in; blocks are normalised by L2-Hys (L2, cut at
    0.2, L2 again). DOI 10.1109/CVPR.2005.177.

    Differs from the paper: as in scikit-image, no interpolation between bins and cells and no
    Gaussian window on blocks; no gamma; orientation 0 starts a bin. L2 between vectors, where the
    paper trains a linear support vector machine.
    """

    distance = "L2"

    def __init__(
        self, size: int = 64, orientations: int = 9, cell_px: int = 8, block_cells: int = 2
    ):
        self.size = size
        self.orientations = orientations
        self.cell_px = cell_px
        self.block_cells = block_cells

    def check(self) -> None:
        """Refuse parameters out of range."""
        check_integer("size", self.size, 8, 1024)
        check_integer("orientations", self.orientations, 2, 36)
        check_integer("cell_px", self.cell_px, 2, 256)
        check_integer("block_cells", self.block_cells, 1, 8)
        if self.block_cells * self.cell_px > self.size:
            raise CbirError(
                f"cell_px {self.cell_px} is out of range: no block of {self.block_cells} cells "
                f"fits in {self.size} pixels",
                f"give cell_px of at most size / block_cells, {self.size // self.block_cells}",
            )

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> HOG:
        """Check the parameters; there is nothing to learn."""
        self.check()
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, D) float32."""
        self.check()
        images = check_images(images)
        magnitudes, bins = tabulate_gradients(self.orientations)
        cells, blocks = self.size // self.cell_px, self.size // self.cell_px - self.block_cells + 1
        used = cells * self.cell_px  # pixels a side that lie in a cell
        square = Preprocessing(self.size, clahe=False)
        cell = np.arange(used) // self.cell_px
        first = (cell[:, None] * cells + cell) * self.orientations  # (used, used)
        length = cells**2 * self.orientations
        vectors = np.empty((len(images), blocks**2 * self.block_cells**2 * self.orientations), "f4")
        for start in range(0, len(images), BLOCK):
            grey = square.transform(images[start : start + BLOCK]).astype(np.int32)
            # Which of the 511 x 511 pairs of differences each pixel has.
            pair = np.full(grey.shape, 255 * 511 + 255, np.int32)
            pair[:, 1:-1] += 511 * (grey[:, 2:] - grey[:, :-2])
            pair[:, :, 1:-1] += grey[:, :, 2:] - grey[:, :, :-2]
            pair = pair[:, :used, :used]
            place = bins[pair] + first
            place += length * np.arange(len(grey))[:, None, None]
            sums = np.bincount(
                place.reshape(-1), magnitudes[pair].reshape(-1), minlength=length * len(grey)
            )
            # Means, not sums: the normalisation adds a constant to the norm.
            histograms = (sums / self.cell_px**2).astype(np.float32)
            histograms = histograms.reshape(len(grey), cells, cells, self.orientations)
            windows = np.lib.stride_tricks.sliding_window_view(
                histograms, (self.block_cells, self.block_cells), axis=(1, 2)
            )  # (n, block row, block column, orientation, cell row, cell column)
            windows = np.moveaxis(windows, 3, -1).reshape(len(grey), blocks**2, -1)
            windows = normalise_blocks(np.minimum(normalise_blocks(windows), 0.2))
            vectors[start : start + BLOCK] = windows.reshape(len(grey), -1)
        return vectors


def tabulate_gradients(orientations: int) -> tuple[np.ndarray, np.ndarray]:
    """Tabulate magnitude and bin of all differences of 8-bit values, at 511 (dy + 255) + dx + 255.

    Computed once instead of a root and an arc tangent for every pixel.
    """
    dy, dx = np.mgrid[-255:256, -255:256].astype(np.float64)
    degrees = np.rad2deg(np.arctan2(dy, dx)) % 180
    edges = 180 / orientations * np.arange(orientations)
    bins = np.searchsorted(edges, degrees, side="right") - 1
    return np.hypot(dy, dx).reshape(-1), bins.reshape(-1)


def normalise_blocks(windows: np.ndarray) -> np.ndarray:
    """Scale (..., K) to an L2 norm of 1, or of 0 where all are 0."""
    squares = np.einsum("...k,...k->...", windows, windows)[..., None]
    return windows / np.sqrt(squares + np.float32(1e-10))

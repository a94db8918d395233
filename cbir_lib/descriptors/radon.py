"""Radon barcode: where the image's projections are above their medians."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.descriptors.blocks import choose_device
from cbir_lib.errors import check_integer
from cbir_lib.images.preprocessing import check_images

BLOCK = 256  # images computed at once


class RadonBarcode(TransformerMixin, BaseEstimator):
    """Projections at several angles, one bit a bin; L1 between barcodes is the Hamming distance.

    Parameters
    ----------
    size : int
        Side in pixels of the square to which images are brought first, 8 to 64. The paper takes 32.
    angles : int
        Number of projections, 1 to 64, at angles from 0 up to, not including, 180 degrees.

    Notes
    -----
    Nothing is learned. The vector has ``angles * ceil(sqrt(2) * size)`` values, each 0 or 1: the
    first projection's bits, the second's, ... A bit is 1 where the projection is at least the
    median of its own values that are not 0; a projection without any gives zeros.

    Tizhoosh, "Barcode annotations for medical image retrieval: a preliminary investigation", IEEE
    ICIP 2015, arXiv:1505.05212.

    Differs from the paper: images are reduced by the mean over areas; projections are those of
    scikit-image's ``radon`` and kept whole, with the bins that only corners reach.
    """

    distance = "L1"

    def __init__(self, size: int = 32, angles: int = 8):
        self.size = size
        self.angles = angles

    def check(self) -> None:
        """Refuse parameters out of range."""
        for name, low, high in (("size", 8, 64), ("angles", 1, 64)):
            check_integer(name, getattr(self, name), low, high)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> RadonBarcode:
        """Check the parameters; there is nothing to learn."""
        self.check()
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, angles * ceil(sqrt(2) * size)) float32."""
        return self._map_in_blocks(images, lambda p: (p >= _compute_median(p)) & (p > 0))

    def projections(self, images: np.ndarray) -> np.ndarray:
        """Sum (N, H, W) uint8 along lines: (N, angles, ceil(sqrt(2) * size)) float32."""
        lines = self._map_in_blocks(images, lambda p: p)
        return lines.reshape(len(lines), self.angles, -1)

    @torch.inference_mode()
    def _map_in_blocks(self, images: np.ndarray, function) -> np.ndarray:
        self.check()
        images = check_images(images)
        where = choose_device()
        to_lines = _compute_radon_matrix(self.size, self.angles, where)
        rows, columns = (_compute_area_matrix(n, self.size).to(where) for n in images.shape[1:])
        values = np.empty((len(images), to_lines.shape[1]), np.float32)
        for start in range(0, len(images), BLOCK):
            block = torch.tensor(images[start : start + BLOCK].copy())
            small = rows @ (block.to(where).double() @ columns.T)
            lines = (small.flatten(1) @ to_lines).unflatten(1, (self.angles, -1))
            lines = lines.round(decimals=6)  # what is equal but for rounding becomes equal
            values[start : start + BLOCK] = function(lines).flatten(1).cpu().numpy()
        return values


def _compute_median(lines: torch.Tensor) -> torch.Tensor:
    """(..., L) → (..., 1): median of the values above 0; infinite where there is none."""
    ordered = torch.where(lines > 0, lines, torch.inf).sort(dim=-1).values
    count = (lines > 0).sum(dim=-1, keepdim=True)
    middle = [ordered.gather(-1, place.clamp(min=0)) for place in ((count - 1) // 2, count // 2)]
    return (middle[0] + middle[1]) / 2


def _compute_area_matrix(length: int, size: int) -> torch.Tensor:
    """(size, length) float64: means over equal parts of a line of pixels."""
    bounds = torch.arange(size + 1, dtype=torch.float64)[:, None] * length / size
    pixels = torch.arange(length, dtype=torch.float64)
    shared = torch.minimum(bounds[1:], pixels + 1) - torch.maximum(bounds[:-1], pixels)
    return shared.clamp(min=0) * size / length


@lru_cache(maxsize=2)
def _compute_radon_matrix(size: int, angles: int, where: torch.device) -> torch.Tensor:
    """(size * size, angles * L) float64: from pixels to projections, each a sum over samples of the
    rotated image, interpolated bilinearly."""
    length = int(np.ceil(np.sqrt(2) * size))
    t, s = np.meshgrid(*[np.arange(length) - length // 2] * 2)
    lines = []
    for angle in np.arange(angles) * np.pi / angles:
        x = np.cos(angle) * t + np.sin(angle) * s + size // 2
        y = -np.sin(angle) * t + np.cos(angle) * s + size // 2
        line = np.zeros((length, size * size))
        for j in (np.floor(y).astype(int), np.floor(y).astype(int) + 1):
            for i in (np.floor(x).astype(int), np.floor(x).astype(int) + 1):
                weight = (1 - abs(x - i)) * (1 - abs(y - j))
                inside = (i >= 0) & (i < size) & (j >= 0) & (j < size)
                places = (t + length // 2)[inside], (j * size + i)[inside]
                np.add.at(line, places, weight[inside])
        lines.append(line)
    return torch.from_numpy(np.concatenate(lines).T.copy()).to(where)

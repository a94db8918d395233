"""Zernike moments: the image on a disc as a sum of orthogonal polynomials, blind to rotation."""

from __future__ import annotations

from functools import lru_cache
from math import factorial

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.descriptors.blocks import choose_device
from cbir_lib.errors import check_integer
from cbir_lib.images.preprocessing import check_images

BLOCK_PIXELS = 2**22  # computed at once


class ZernikeMoments(TransformerMixin, BaseEstimator):
    """Magnitudes of the Zernike moments on the disc inscribed in the image.

    Parameters
    ----------
    order : int
        Highest order of the polynomials, 0 to 20.

    Notes
    -----
    Nothing is learned. The vector has ``(order // 2 + 1) * ((order + 1) // 2 + 1)`` values, 25 for
    order 8: the orders n = 0, 1, ..., for each the repetitions l = n mod 2, ..., n - 2, n.
    Value (n, l) is ``(n + 1) / pi * |sum p(x, y) R_nl(r) exp(-i l phi)|``, where p is the grey
    value divided by the sum over the disc; the first is always 1 / pi. The disc's centre is the
    image's (to half a pixel), its radius half the shorter side; pixels whose centres are outside do
    not count. An image black on the disc gives zeros. Rotating by 90 degrees changes nothing, by
    other angles what resampling changes; brightness scales away.

    Teague, J. Opt. Soc. Am. 70(8), 1980, DOI 10.1364/JOSA.70.000920; Khotanzad & Hong, IEEE PAMI
    12(5), 1990, DOI 10.1109/34.55109.

    Differs from the paper: Khotanzad & Hong move the disc to a shape's centre of mass and scale it
    by its area; a radiograph fills its image, so the disc stays.
    """

    distance = "cosine"

    def __init__(self, order: int = 8):
        self.order = order

    def check(self) -> None:
        """Refuse parameters out of range."""
        check_integer("order", self.order, 0, 20)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> ZernikeMoments:
        """Check the parameters; there is nothing to learn."""
        self.check()
        return self

    @torch.inference_mode()
    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, (order // 2 + 1) * ((order + 1) // 2 + 1)) float32."""
        self.check()
        images = check_images(images)
        where = choose_device()
        height, width = images.shape[1:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        polynomials = _compute_polynomials(self.order, side, where)
        square = images[:, top : top + side, left : left + side]
        vectors = np.empty((len(images), polynomials.shape[1] // 2), np.float32)
        for start in range(0, len(images), count := max(1, BLOCK_PIXELS // side**2)):
            block = np.ascontiguousarray(square[start : start + count])
            grey = torch.tensor(block).to(where).flatten(1).float()
            moments = (grey @ polynomials).unflatten(1, (2, -1)).norm(dim=1)
            first = moments[:, :1] * torch.pi  # the sum over the disc
            moments /= torch.where(first > 0, first, 1)
            vectors[start : start + count] = moments.cpu().numpy()
        return vectors


@lru_cache(maxsize=2)
def _compute_polynomials(order: int, side: int, where: torch.device) -> torch.Tensor:
    """(side * side, 2 D) float32: real parts of D weighted polynomials, then imaginary parts."""
    places = (np.arange(side) - (side - 1) / 2) / (side / 2)
    x, y = np.meshgrid(places, places)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    columns = []
    for n in range(order + 1):
        for repetition in range(n % 2, n + 1, 2):
            radial = sum(
                (-1) ** m
                * factorial(n - m)
                // factorial(m)
                // factorial((n + repetition) // 2 - m)
                // factorial((n - repetition) // 2 - m)
                * radius ** (n - 2 * m)
                for m in range((n - repetition) // 2 + 1)
            )
            columns.append((n + 1) / np.pi * radial * np.exp(-1j * repetition * angle))
    weighted = np.stack(columns, axis=-1) * (radius <= 1)[..., None]
    parts = np.concatenate([weighted.real, weighted.imag], axis=-1)
    return torch.from_numpy(parts.reshape(side * side, -1).astype(np.float32)).to(where)

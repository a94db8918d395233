"""Fourier-Mellin: what stays of an image when it is shifted, turned and scaled."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch.nn import functional

from cbir_lib.descriptors.blocks import choose_device
from cbir_lib.errors import check_integer
from cbir_lib.images.preprocessing import check_images

ANGLES, RADII = 64, 64  # of the log-polar grid
LOWEST = 2  # cycles per image, the grid's inner radius
BLOCK_PIXELS = 2**20  # padded pixels computed at once


class FourierMellin(TransformerMixin, BaseEstimator):
    """Magnitude of the Fourier transform of the log-polar magnitude spectrum.

    Parameters
    ----------
    angular : int
        Frequencies kept along the angle, 2 to 32.
    radial : int
        Frequencies kept along the logarithm of the radius, 2 to 32, on either side of 0.

    Notes
    -----
    Nothing is learned. The vector has ``angular * (2 * radial - 1)`` values, 248 by default,
    0 or more, of Euclidean length 1, or all 0 where the image has no structure at all. Value
    ``k * (2 * radial - 1) + radial - 1 + m`` belongs to angular frequency k, 0 up to
    ``angular - 1``, and radial frequency m, ``1 - radial`` to ``radial - 1``.

    The image less its mean, under a Hann window, padded to twice its side, gives a magnitude
    spectrum, which no shift changes; a high-pass weakens low frequencies; sampled over half a turn
    of angles and over the logarithm of the radius, a rotation and a scaling become shifts, which
    the second magnitude forgets. The logarithm is taken between, so that a few strong frequencies
    do not drown the rest.

    Reddy & Chatterji, IEEE Trans. Image Processing 5(8), 1996, DOI 10.1109/83.506761: spectrum,
    high-pass, log-polar grid. Derrode & Ghorbel, Computer Vision and Image Understanding 83(1),
    2001, DOI 10.1006/cviu.2001.0922: the transform's magnitude as descriptor.

    Differs from the paper: Reddy & Chatterji register two images by phase correlation; here the
    magnitude describes one. Derrode & Ghorbel transform the image itself about its centre, which
    no longer forgets a shift. The invariance is approximate: what a shift or a scaling moves across
    the border, or over either end of the radii, is lost. Of radiographs on black, at 128 x 128, the
    median distance from an image to itself, moved, is below this share of the median distance
    between images: turned by 90 degrees 0.01, by 25 degrees 0.15, scaled by 0.8 or 1.2 0.4, shifted
    by a tenth of the side 0.5. A test holds it to these.
    """

    distance = "L1"

    def __init__(self, angular: int = 8, radial: int = 16):
        self.angular = angular
        self.radial = radial

    def check(self) -> None:
        """Refuse parameters out of range."""
        for name in ("angular", "radial"):
            check_integer(name, getattr(self, name), 2, 32)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> FourierMellin:
        """Check the parameters; there is nothing to learn."""
        self.check()
        return self

    @torch.inference_mode()
    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, angular * (2 * radial - 1)) float32."""
        self.check()
        images = check_images(images)
        vectors = np.empty((len(images), self.angular * (2 * self.radial - 1)), np.float32)
        start = 0
        for polar in self._sample_polar(images):
            second = torch.fft.rfft2(polar, dim=(1, 2)).abs()  # radii, angles: (B, R, A / 2 + 1)
            rows = torch.arange(1 - self.radial, self.radial, device=second.device)
            kept = second[:, rows % RADII, : self.angular].transpose(1, 2).flatten(1)
            length = kept.norm(dim=1, keepdim=True)
            flat = length < 1e-3  # rounding noise
            scaled = torch.where(flat, 0, kept / torch.where(flat, 1, length))
            vectors[start : start + len(scaled)] = scaled.cpu().numpy()
            start += len(scaled)
        return vectors

    @torch.inference_mode()
    def log_polar(self, images: np.ndarray) -> np.ndarray:
        """Map (N, H, W) uint8 to (N, 64, 64) float32, which the second transform is taken of.

        Rows are radii, from 2 cycles per image to the highest frequency; columns are angles, from 0
        to half a turn.
        """
        return torch.cat([polar.cpu() for polar in self._sample_polar(images)]).numpy()

    def _sample_polar(self, images: np.ndarray):
        self.check()
        images = check_images(images)
        where = choose_device()
        window, high_pass, grid, taper = _compute_tables(*images.shape[1:], where)
        side = len(high_pass)
        for start in range(0, len(images), count := max(1, BLOCK_PIXELS // side**2)):
            grey = torch.tensor(images[start : start + count].copy())
            grey = grey.to(where) / 255
            grey = (grey - grey.mean(dim=(1, 2), keepdim=True)) * window
            half = torch.fft.rfft2(grey, s=(side, side)).abs()  # (B, v, u), u 0 or more
            half = torch.log1p(torch.fft.fftshift(half, dim=1) * high_pass)
            places = grid.expand(len(half), -1, -1, -1)
            polar = functional.grid_sample(half[:, None], places, align_corners=True)[:, 0]
            yield (polar - polar.mean(dim=(1, 2), keepdim=True)) * taper


@lru_cache(maxsize=2)
def _compute_tables(height: int, width: int, where: torch.device) -> tuple[torch.Tensor, ...]:
    """Return window (H, W), high-pass (S, S / 2 + 1), grid (R, A, 2) and taper (R, 1), S = 2^n."""
    side = 2 ** int(np.ceil(np.log2(2 * max(height, width, 4))))
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in (height, width)))
    v = np.arange(-side // 2, side // 2)[:, None] / side  # cycles per pixel
    u = np.arange(side // 2 + 1) / side
    low = np.cos(np.pi * u) * np.cos(np.pi * v)
    high_pass = (1 - low) * (2 - low)  # Reddy & Chatterji
    lowest = LOWEST / max(height, width, 8)
    radii = np.geomspace(lowest, 0.5, RADII, endpoint=False)[:, None]
    angles = np.arange(ANGLES) * np.pi / ANGLES - np.pi / 2  # u is never below 0
    rows = (radii * np.sin(angles) + 0.5) * side
    columns = radii * np.cos(angles) * side
    grid = np.stack([columns / (side // 2), rows / (side - 1)], axis=-1) * 2 - 1
    taper = np.hanning(RADII + 2)[1:-1, None]
    arrays = (window, high_pass, grid, taper)
    return tuple(torch.from_numpy(array.astype(np.float32)).to(where) for array in arrays)

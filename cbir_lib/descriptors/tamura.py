"""Tamura histogram: direction, coarseness and contrast around every pixel, counted jointly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch.nn.functional import pad

from cbir_lib.errors import CbirError
from cbir_lib.preprocessing import as_images

PIXELS = 1 << 16  # in a block: the maps of one stay in a processor's cache
PIXELS_GPU = 1 << 23
# A scaled value this far below a bin's edge, in bins, counts as on it: rounding decides nothing.
EDGE = 1e-4


class TamuraMaps(NamedTuple):
    """Three (N, H, W) float32 maps, before they are scaled."""

    direction: np.ndarray
    coarseness: np.ndarray
    contrast: np.ndarray


class TamuraHistogram(TransformerMixin, BaseEstimator):
    """Joint histogram of Tamura's texture features, as in Deselaers, Keysers, Ney (2004, 2008).

    Each of the three maps of :func:`tamura_maps` is scaled to 0..1 by its least and greatest value
    in the image, then cut into equal bins: bin = min(int(bins v), bins - 1), and the bin of the
    joint histogram is direction + bins coarseness + bins^2 contrast.

    Parameters
    ----------
    bins : int
        Bins of each map, 2 to 16. The baselines use 8.
    scales : int
        Number K of window sizes for the coarseness, 1 to 6: 2, 4, ..., 2^K pixels. The baselines
        use 5.
    contrast_px : int
        Side of the window for the contrast in pixels, odd, 3 to 21. The baselines use 11.

    Notes
    -----
    Nothing is learned. The vector has D = bins^3 values, 512 by default, all 0 or more, and sums
    to 1. It is the same for an image and for the image with its contrast scaled, a v, except where
    grey values are rounded. A map that is constant is scaled to 0.

    A flat area has direction 0, coarseness 0 and contrast 0, exactly: sums are of whole numbers.
    It is *flat* for a map where that map's window is: 3 x 3, all of the coarseness's, 11 x 11. A
    black area at the border stays flat there; any other does not for the direction, which sees
    black outside. As the least values of coarseness and contrast are 0 where an image has a flat
    area, its pixels fall into bin 0 of the joint histogram, together with pixels of purely vertical
    change. The baselines' engine has rounding noise in flat areas.

    Differs from the paper: Tamura, Mori, Yamawaki (1978) reduce an image to one value of each
    feature, and count directions of strong edges only; that the features are taken per pixel and
    counted jointly is the baselines'.

    DOI 10.1109/TSMC.1978.4309999 (Tamura), 10.1007/978-3-540-28649-3_28,
    10.1007/s10791-007-9039-3 (baselines).
    """

    distance = "Jensen-Shannon"

    def __init__(self, bins: int = 8, scales: int = 5, contrast_px: int = 11):
        self.bins = bins
        self.scales = scales
        self.contrast_px = contrast_px

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> TamuraHistogram:
        """Check the parameters; there is nothing to learn."""
        if not isinstance(self.bins, int) or not 2 <= self.bins <= 16:
            raise CbirError(f"bins {self.bins!r} is out of range", "give a whole number, 2 to 16")
        check(self.scales, self.contrast_px)
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 → (N, bins^3) float32."""
        self.fit(images)
        images = as_images(images)
        length = self.bins**3
        histograms = np.empty((len(images), length), np.float32)
        for part, block in blocks(images):
            directions, coarsenesses, contrasts = maps_of(block, self.scales, self.contrast_px)
            codes = self._binned(contrasts).mul_(self.bins).add_(self._binned(coarsenesses))
            codes.mul_(self.bins).add_(self._binned(directions))
            number = block.shape[-1]
            codes += torch.arange(number, device=codes.device, dtype=codes.dtype) * length
            counts = torch.bincount(codes.flatten().long(), minlength=number * length)
            counts = counts.view(number, length).float() / images[0].size
            histograms[part] = counts.cpu().numpy()
        return histograms

    def _binned(self, values: torch.Tensor) -> torch.Tensor:
        """(H, W, n) map → bins 0..bins - 1, whole numbers as int32."""
        low, high = values.amin((0, 1)), values.amax((0, 1))
        width = torch.where(high > low, high - low, 1)
        scaled = (values - low).div_(width)
        return scaled.mul_(self.bins).add_(EDGE).clamp_(max=self.bins - 1).int()


def tamura_maps(images: np.ndarray, scales: int = 5, contrast_px: int = 11) -> TamuraMaps:
    """Direction, coarseness and contrast around every pixel.

    Grey values v are taken in 0..1.

    - *direction*: atan(dV / dH) + pi/2 + 0.001 radians, in 0.001..pi + 0.001, where dH = right -
      left is not 0, else 0; Sobel's 3 x 3 differences, dV = top - bottom, black outside.
    - *coarseness*: the k of 1..scales at which the means of two neighbouring 2^k x 2^k windows
      differ most, horizontally or vertically; the smallest such k, and 0 if none differ. The window
      of x is x - 2^(k-1)..x + 2^(k-1) - 1, clipped at the border and divided by what is left;
      those compared are at x + 2^(k-1) and x - 2^(k-1), and where one of the two is outside the
      image the difference is 0.
    - *contrast*: variance / (4th central moment)^(1/4) in a window clipped at the border, in 0..1;
      0 where the window is flat.

    Parameters
    ----------
    images : (N, H, W) uint8
    scales, contrast_px
        As in :class:`TamuraHistogram`.

    Returns
    -------
    TamuraMaps
        Three (N, H, W) float32.

    Raises
    ------
    CbirError
        When the images are no batch of grey images, or a parameter is out of range.
    """
    check(scales, contrast_px)
    images = as_images(images)
    maps = TamuraMaps(*(np.empty(images.shape, np.float32) for _ in TamuraMaps._fields))
    for part, block in blocks(images):
        for target, values in zip(maps, maps_of(block, scales, contrast_px), strict=True):
            target[part] = values.permute(2, 0, 1).cpu().numpy()
    return maps


def check(scales: int, contrast_px: int) -> None:
    """Refuse parameters out of range."""
    if not isinstance(scales, int) or not 1 <= scales <= 6:
        raise CbirError(f"scales {scales!r} is out of range", "give a whole number, 1 to 6")
    if not isinstance(contrast_px, int) or not 3 <= contrast_px <= 21 or contrast_px % 2 == 0:
        raise CbirError(
            f"contrast_px {contrast_px!r} is out of range", "give an odd number of pixels, 3 to 21"
        )


def blocks(images: np.ndarray):
    """Parts of a batch, with their images as (H, W, n) uint8: whole rows of n lie together."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = max(1, (PIXELS_GPU if device == "cuda" else PIXELS) // images[0].size)
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        block = np.moveaxis(images[part], 0, -1).copy()
        yield part, torch.from_numpy(block).to(device)


def maps_of(images: torch.Tensor, scales: int, contrast_px: int):
    """(H, W, n) uint8 → three (H, W, n) float32."""
    grey = images.float()
    return direction(grey), coarseness(grey, scales), contrast(images, contrast_px)


def direction(grey: torch.Tensor) -> torch.Tensor:
    """(H, W, n) → radians."""
    padded = pad(grey, (0, 0, 1, 1, 1, 1))
    across = padded[:, 2:] - padded[:, :-2]
    dh = across[:-2] + 2 * across[1:-1] + across[2:]
    down = padded[:-2] - padded[2:]
    dv = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    return torch.where(dh == 0, 0, torch.atan(dv / dh).add_(torch.pi / 2 + 0.001))


def coarseness(grey: torch.Tensor, scales: int) -> torch.Tensor:
    """(H, W, n) → 0..scales. Sums are of whole numbers below 2^24: exact."""
    height, width, _ = grey.shape
    margin = 2 ** (scales - 1)
    sums = pad(grey, (0, 0, margin, margin, margin, margin))
    best = torch.zeros_like(grey)
    result = torch.zeros_like(grey)
    for k in range(1, scales + 1):
        half = 2 ** (k - 1)
        # A window of 2^k is four of 2^(k-1), whose places are 2^(k-1) apart.
        sums = sums[:-half] + sums[half:]
        sums = sums[:, :-half] + sums[:, half:]
        left = margin - half  # where the window of pixel 0 is
        means = sums[left : left + height, left : left + width] / (
            extent(height, half, grey)[:, None, None] * extent(width, half, grey)[:, None]
        )
        differences = torch.zeros_like(grey)
        inner = differences[half : height - half]
        if len(inner):
            inner.copy_((means[2 * half :] - means[: -2 * half]).abs_())
        inner = differences[:, half : width - half]
        if inner.shape[1]:
            torch.maximum(inner, (means[:, 2 * half :] - means[:, : -2 * half]).abs_(), out=inner)
        more = differences > best
        result.masked_fill_(more, k)
        torch.maximum(best, differences, out=best)
    return result


def extent(length: int, half: int, like: torch.Tensor) -> torch.Tensor:
    """How many pixels of x - half..x + half - 1 lie in 0..length - 1, for every x."""
    places = torch.arange(length, device=like.device, dtype=like.dtype)
    return (places + half).clamp(max=length) - (places - half).clamp(min=0)


def contrast(images: torch.Tensor, side: int) -> torch.Tensor:
    """(H, W, n) uint8 → 0..1.

    Power sums of v - 128, which are whole numbers; n^2 variance, and n^4 times the fourth moment
    to the last bits, follow from them without a division.
    """
    height, width, _ = images.shape
    values = images.double().sub_(128)
    squares = values * values
    s1, s2, s3, s4 = (
        window_sums(power, side) for power in (values, squares, squares * values, squares * squares)
    )
    rows, columns = (window_extent(size, side, values) for size in (height, width))
    n = rows[:, None, None] * columns[:, None]
    square = s1 * s1
    variance = n * s2 - square  # n^2 times it
    fourth = n * n * (n * s4 - 4 * s3 * s1) + square * (6 * n * s2 - 3 * square)  # n^4 times it
    root = torch.where(variance > 0, fourth, 1).clamp_(min=1).sqrt_().sqrt_()
    return (variance / (255 * n * root)).float()


def window_sums(values: torch.Tensor, side: int) -> torch.Tensor:
    """(H, W, n) → sums over side x side windows around each pixel, of what is in the image."""
    margin = side // 2
    for axis in (0, 1):
        around = [0, 0, 0, 0, 0, 0]
        around[4 - 2 * axis : 6 - 2 * axis] = margin, margin
        run, size, place = pad(values, around), 1, 0
        length, total = values.shape[axis], None
        # Runs of 1, 2, 4, ... pixels; those of the side's binary digits, end to end, are the side.
        while size <= side:
            if side & size:
                piece = run.narrow(axis, place, length)
                total = piece if total is None else total + piece
                place += size
            if 2 * size <= side:
                left = run.shape[axis] - size
                run = run.narrow(axis, 0, left) + run.narrow(axis, size, left)
            size *= 2
        values = total
    return values


def window_extent(length: int, side: int, like: torch.Tensor) -> torch.Tensor:
    """How many pixels of the window around x lie in 0..length - 1, for every x."""
    places = torch.arange(length, device=like.device, dtype=like.dtype)
    margin = side // 2
    return (places + margin).clamp(max=length - 1) - (places - margin).clamp(min=0) + 1

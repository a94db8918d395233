"""Tamura histogram: the joint histogram of direction, coarseness and contrast of every pixel."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.ndimage import generic_filter, sobel, uniform_filter
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.descriptors import tamura_loops
from cbir_lib.descriptors.blocks import count_codes, map_blocks
from cbir_lib.errors import CbirError, check_integer
from cbir_lib.images.preprocessing import check_images
from cbir_lib.loops import compile_loops

# A scaled value this far below a bin's edge, in bins, counts as on it: rounding decides nothing.
EDGE = 1e-4
MAPS = 4  # floating-point maps, about, held in memory for an image


# The definition of :func:`compute_tamura_maps` for one (H, W) image, without its speed: the
# formulas of Tamura, Mori, Yamawaki 1978, DOI 10.1109/TSMC.1978.4309999, at every pixel as in the
# baselines.


def compute_reference_direction(image: np.ndarray) -> np.ndarray:
    """Compute the direction of the gradient, (H, W) radians."""
    grey = image.astype(float)
    right, up = sobel(grey, axis=1, mode="constant"), -sobel(grey, axis=0, mode="constant")
    angle = np.arctan(up / np.where(right == 0, 1, right)) + np.pi / 2 + 0.001
    return np.where(right == 0, 0, angle)


def compute_reference_coarseness(image: np.ndarray, scales: int) -> np.ndarray:
    """Find the scale at which the means of neighbouring windows differ most, (H, W)."""
    differences = np.zeros((scales + 1, *image.shape))
    for k in range(1, scales + 1):
        half = 2 ** (k - 1)
        sums, pixels = (
            uniform_filter(values, 2 * half, mode="constant")
            for values in (image.astype(float), np.ones(image.shape))
        )
        means = np.pad(sums / pixels, half, constant_values=np.nan)
        across = abs(means[half:-half, 2 * half :] - means[half:-half, : -2 * half])
        down = abs(means[2 * half :, half:-half] - means[: -2 * half, half:-half])
        differences[k] = np.nan_to_num(np.fmax(across, down))
    return differences.round(4).argmax(axis=0)  # the smallest of equal ones


def compute_reference_contrast(image: np.ndarray, side: int) -> np.ndarray:
    """Compute the variance over the fourth root of the fourth moment of windows, (H, W)."""

    def contrast(window: np.ndarray) -> float:
        window = window[~np.isnan(window)]
        away = window - window.mean()
        return np.mean(away**2) / np.mean(away**4) ** 0.25 if np.ptp(window) else 0

    return generic_filter(image / 255, contrast, side, mode="constant", cval=np.nan)


class TamuraMaps(NamedTuple):
    """Three (N, H, W) float32 maps, before they are scaled."""

    direction: np.ndarray
    coarseness: np.ndarray
    contrast: np.ndarray


class TamuraHistogram(TransformerMixin, BaseEstimator):
    """Joint histogram of Tamura's texture features, as in Deselaers, Keysers, Ney (2004, 2008).

    Each of the three maps of :func:`compute_tamura_maps` is scaled to 0..1 by its least and
    greatest value in the image, then cut into equal bins: bin = min(int(bins v), bins - 1), and the
    bin of the joint histogram is direction + bins coarseness + bins^2 contrast.

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
    feature, and count directions of strong edges only; the baselines introduced features per pixel
    and their joint histogram.

    DOI 10.1109/TSMC.1978.4309999 (Tamura), 10.1007/978-3-540-28649-3_28,
    10.1007/s10791-007-9039-3 (baselines).
    """

    distance = "Jensen-Shannon"

    def __init__(self, bins: int = 8, scales: int = 5, contrast_px: int = 11):
        self.bins = bins
        self.scales = scales
        self.contrast_px = contrast_px

    def check(self) -> None:
        """Refuse parameters out of range."""
        check_integer("bins", self.bins, 2, 16)
        check_parameters(self.scales, self.contrast_px)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> TamuraHistogram:
        """Check the parameters; there is nothing to learn."""
        self.check()
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, bins^3) float32."""
        self.check()
        images = check_images(images)
        histograms = np.empty((len(images), self.bins**3), np.float32)
        one_cell = np.zeros(images.shape[1:], np.int32)

        def work(block: np.ndarray, part: slice) -> None:
            codes = bin_maps(compute_maps(block, self.scales, self.contrast_px), self.bins)
            histograms[part] = count_codes(codes, one_cell, self.bins**3) / images[0].size

        map_blocks(work, images, max(MAPS * images[0].size, self.bins**3))
        return histograms


def compute_tamura_maps(images: np.ndarray, scales: int = 5, contrast_px: int = 11) -> TamuraMaps:
    """Compute direction, coarseness and contrast around every pixel.

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
        When the images are not a batch of grey images, or a parameter is out of range.
    """
    check_parameters(scales, contrast_px)
    images = check_images(images)
    maps = TamuraMaps(*(np.empty(images.shape, np.float32) for _ in TamuraMaps._fields))

    def work(block: np.ndarray, part: slice) -> None:
        for target, values in zip(maps, compute_maps(block, scales, contrast_px), strict=True):
            target[part] = values

    map_blocks(work, images, MAPS * images[0].size)
    return maps


def check_parameters(scales: int, contrast_px: int) -> None:
    """Refuse parameters out of range."""
    check_integer("scales", scales, 1, 6)
    check_integer("contrast_px", contrast_px, 3, 21)
    if contrast_px % 2 == 0:
        raise CbirError(
            f"contrast_px {contrast_px!r} is out of range", "give an odd number of pixels, 3 to 21"
        )


def bin_maps(maps: np.ndarray, bins: int) -> np.ndarray:
    """Find the bins of the joint histogram, (3, N, H, W) → (N, H, W) int16."""
    low, high = maps.min((2, 3)), maps.max((2, 3))
    codes = np.empty(maps.shape[1:], np.int16)
    compile_loops(tamura_loops.bin_jointly)(
        maps, low, np.where(high > low, high - low, 1), bins, EDGE, codes
    )
    return codes


def compute_maps(images: np.ndarray, scales: int, contrast_px: int) -> np.ndarray:
    """Compute the three maps of a block, (N, H, W) uint8 → (3, N, H, W) float32."""
    loops = tamura_loops
    maps = np.empty((3, *images.shape), np.float32)
    direction, coarseness, contrast = maps
    compile_loops(loops.compute_slope)(images, direction)
    np.arctan(direction, out=direction)
    direction += np.float32(math.pi / 2 + 0.001)
    np.fmax(direction, 0, out=direction)  # 0 where there is no slope
    compile_loops(loops.compute_coarseness, loops.integrate)(images, scales, coarseness)
    compile_loops(loops.compute_contrast, loops.add_powers, loops.accumulate)(
        images, contrast_px, contrast
    )
    return maps

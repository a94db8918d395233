"""Tamura histogram: direction, coarseness and contrast around every pixel, counted jointly."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch.nn.functional import pad

from cbir_lib.descriptors.blocks import check_integer, compiled, count, device, each_block
from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import as_images

# A scaled value this far below a bin's edge, in bins, counts as on it: rounding decides nothing.
EDGE = 1e-4
MAPS = 4  # of floating point, about, that the work remembers of an image


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
        check_integer("bins", self.bins, 2, 16)
        check(self.scales, self.contrast_px)
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 → (N, bins^3) float32."""
        self.fit(images)
        images = as_images(images)
        histograms = np.empty((len(images), self.bins**3), np.float32)
        nowhere_apart = np.zeros(images.shape[1:], np.int32)

        def work(block: np.ndarray, part: slice) -> None:
            codes = binned(maps_of(block, self.scales, self.contrast_px), self.bins)
            histograms[part] = count(codes, nowhere_apart, self.bins**3) / images[0].size

        each_block(work, images, max(MAPS * images[0].size, self.bins**3))
        return histograms


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

    def work(block: np.ndarray, part: slice) -> None:
        for target, values in zip(maps, maps_of(block, scales, contrast_px), strict=True):
            target[part] = values

    each_block(work, images, MAPS * images[0].size)
    return maps


def check(scales: int, contrast_px: int) -> None:
    """Refuse parameters out of range."""
    check_integer("scales", scales, 1, 6)
    if not isinstance(contrast_px, int) or not 3 <= contrast_px <= 21 or contrast_px % 2 == 0:
        raise CbirError(
            f"contrast_px {contrast_px!r} is out of range", "give an odd number of pixels, 3 to 21"
        )


def binned(maps: np.ndarray, bins: int) -> np.ndarray:
    """(3, N, H, W) → (N, H, W) int16, the bins of the joint histogram."""
    low, high = maps.min((2, 3)), maps.max((2, 3))
    codes = np.empty(maps.shape[1:], np.int16)
    compiled(bin_each)(maps, low, np.where(high > low, high - low, 1), bins, EDGE, codes)
    return codes


def maps_of(images: np.ndarray, scales: int, contrast_px: int) -> np.ndarray:
    """(N, H, W) uint8 → (3, N, H, W) float32."""
    if device().type == "cuda":
        grey = torch.from_numpy(images).to(device()).double()
        return maps_in_torch(grey, scales, contrast_px).cpu().numpy()
    maps = np.empty((3, *images.shape), np.float32)
    direction, coarseness, contrast = maps
    compiled(draw_slope)(images, direction)
    np.arctan(direction, out=direction)
    direction += np.float32(math.pi / 2 + 0.001)
    np.fmax(direction, 0, out=direction)  # 0 where the slope is none
    compiled(draw_coarseness, sum_up)(images, scales, coarseness)
    compiled(draw_contrast, add_powers, accumulate)(images, contrast_px, contrast)
    return maps


# Loops to be compiled, row by row.


def bin_each(maps, low, width, bins, edge, codes):
    """Scaled to 0..1, cut into bins, counted jointly."""
    number, height, columns = codes.shape
    for n in range(number):
        for y in range(height):
            for x in range(columns):
                code = 0
                for i in (2, 1, 0):
                    scaled = (maps[i, n, y, x] - low[i, n]) / width[i, n]
                    code = code * bins + min(np.int32(scaled * bins + edge), bins - 1)
                codes[n, y, x] = code


def draw_slope(images, slope):
    """dV / dH, and NaN where dH is 0."""
    number, height, width = images.shape
    grey = np.zeros((height + 2, width + 2), np.float32)
    two, nothing = np.float32(2), np.float32(np.nan)
    for n in range(number):
        grey[1:-1, 1:-1] = images[n]
        for y in range(height):
            up, here, low = grey[y], grey[y + 1], grey[y + 2]
            for x in range(width):
                dh = up[x + 2] - up[x] + two * (here[x + 2] - here[x]) + low[x + 2] - low[x]
                dv = up[x] - low[x] + two * (up[x + 1] - low[x + 1]) + up[x + 2] - low[x + 2]
                slope[n, y, x] = dv / dh if dh else nothing


def draw_coarseness(images, scales, coarseness):
    """The scale at which neighbouring windows differ most."""
    number, height, width = images.shape
    margin = 2 ** (scales - 1)
    sums = np.zeros((height + 2 * margin + 1, width + 2 * margin + 1), np.int32)
    means, most = np.empty((2, height, width), np.float32)
    difference, columns = np.empty((2, width), np.float32)
    for n in range(number):
        sum_up(images[n], margin, sums)
        most[:] = 0
        coarseness[n] = 0
        for k in range(1, scales + 1):
            half = 2 ** (k - 1)
            level = np.float32(k)
            for x in range(width):
                columns[x] = min(x + half, width) - max(x - half, 0)
            for y in range(height):
                rows = np.float32(min(y + half, height) - max(y - half, 0))
                above, below = sums[y + margin - half], sums[y + margin + half]
                a, b = above[margin - half :], above[margin + half :]
                c, d = below[margin - half :], below[margin + half :]
                mean = means[y]
                for x in range(width):
                    # Only the difference has to fit 32 bits.
                    mean[x] = np.float32(np.int32(d[x] - c[x] - b[x] + a[x])) / (rows * columns[x])
            for y in range(height):
                difference[:] = 0
                if width > 2 * half:
                    a, b, inner = means[y], means[y, 2 * half :], difference[half:]
                    for x in range(width - 2 * half):
                        inner[x] = abs(b[x] - a[x])
                if half <= y < height - half:
                    a, b = means[y - half], means[y + half]
                    for x in range(width):
                        difference[x] = max(difference[x], abs(b[x] - a[x]))
                for x in range(width):
                    more = difference[x] > most[y, x]
                    coarseness[n, y, x] = level if more else coarseness[n, y, x]
                    most[y, x] = max(difference[x], most[y, x])


def sum_up(image, margin, sums):
    """Sums of all pixels above and to the left, of the image in a margin of zeros."""
    height, width = image.shape
    for y in range(height):
        above, here = sums[y + margin], sums[y + margin + 1]
        total = 0
        for x in range(width):
            total += image[y, x]
            here[x + margin + 1] = above[x + margin + 1] + total
        here[width + margin + 1 :] = here[width + margin]
    sums[height + margin + 1 :] = sums[height + margin]


def draw_contrast(images, side, contrast):
    """Sums of powers of v - 128, which are whole numbers.

    n^2 variance, and n^4 times the fourth moment to the last bits, follow without a division.
    """
    number, height, width = images.shape
    margin = side // 2
    columns = np.empty((4, width))  # sums of the powers over the window's rows
    runs = np.zeros((4, width + side))  # and over all columns to the left
    left, right = runs[:, :width], runs[:, side:]
    across = np.empty(width)  # columns of the window in the image
    for x in range(width):
        across[x] = min(x + margin, width - 1) - max(x - margin, 0) + 1
    for i in range(number):
        columns[:] = 0
        for y in range(-margin, height):
            if y + margin < height:
                add_powers(images[i, y + margin], 1.0, columns)
            if y > margin:
                add_powers(images[i, y - margin - 1], -1.0, columns)
            if y < 0:
                continue
            accumulate(columns, margin, runs)
            rows = min(y + margin, height - 1) - max(y - margin, 0) + 1
            for x in range(width):
                n = rows * across[x]
                s1, s2 = right[0, x] - left[0, x], right[1, x] - left[1, x]
                s3, s4 = right[2, x] - left[2, x], right[3, x] - left[3, x]
                variance = n * s2 - s1 * s1
                fourth = n * n * (n * s4 - 4 * s3 * s1) + s1 * s1 * (6 * n * s2 - 3 * s1 * s1)
                # Where the window is flat, the variance is 0 exactly; else the moment is 1 or more.
                root = math.sqrt(math.sqrt(max(fourth, 1.0)))
                contrast[i, y, x] = variance / (255 * n * root)


def add_powers(row, sign, columns):
    """First to fourth powers, with a sign."""
    for x in range(len(row)):
        v = float(row[x]) - 128
        columns[0, x] += sign * v
        columns[1, x] += sign * (v * v)
        columns[2, x] += sign * (v * v * v)
        columns[3, x] += sign * (v * v * v * v)


def accumulate(columns, margin, runs):
    """Sums from the left, of columns in a margin of zeros."""
    width = columns.shape[1]
    a = b = c = d = 0.0
    for x in range(width):
        a += columns[0, x]
        b += columns[1, x]
        c += columns[2, x]
        d += columns[3, x]
        i = x + margin + 1
        runs[0, i], runs[1, i], runs[2, i], runs[3, i] = a, b, c, d
    for p in range(4):
        runs[p, width + margin + 1 :] = runs[p, width + margin]


# The same with torch, for a GPU.


def maps_in_torch(grey: torch.Tensor, scales: int, contrast_px: int) -> torch.Tensor:
    """(N, H, W) float64, 0..255 → (3, N, H, W) float32."""
    maps = direction_in_torch(grey), coarseness_in_torch(grey, scales)
    return torch.stack([*maps, contrast_in_torch(grey, contrast_px)])


def direction_in_torch(grey: torch.Tensor) -> torch.Tensor:
    """(N, H, W) → radians."""
    padded = pad(grey.float(), (1, 1, 1, 1))
    across = padded[..., 2:] - padded[..., :-2]
    dh = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    down = padded[:, :-2] - padded[:, 2:]
    dv = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return torch.where(dh == 0, 0, torch.atan(dv / dh) + (math.pi / 2 + 0.001))


def coarseness_in_torch(grey: torch.Tensor, scales: int) -> torch.Tensor:
    """(N, H, W) → 0..scales."""
    _, height, width = grey.shape
    differences = torch.zeros((scales + 1, *grey.shape), device=grey.device)
    for k in range(1, scales + 1):
        half = 2 ** (k - 1)
        sums, pixels = (window_sums(v, half, half) for v in (grey, torch.ones_like(grey)))
        means = sums.float() / pixels.float()
        if width > 2 * half:
            across = (means[..., 2 * half :] - means[..., : -2 * half]).abs()
            differences[k, ..., half : width - half] = across
        if height > 2 * half:
            down = (means[:, 2 * half :] - means[:, : -2 * half]).abs()
            inner = differences[k, :, half : height - half]
            torch.maximum(inner, down, out=inner)
    return differences.argmax(0).float()  # the first of equal ones


def contrast_in_torch(grey: torch.Tensor, side: int) -> torch.Tensor:
    """(N, H, W) → 0..1, as draw_contrast."""
    before, after = side // 2, side // 2 + 1
    v = grey - 128
    n, s1, s2, s3, s4 = (window_sums(v**power, before, after) for power in range(5))
    variance = n * s2 - s1 * s1
    fourth = n * n * (n * s4 - 4 * s3 * s1) + s1 * s1 * (6 * n * s2 - 3 * s1 * s1)
    return (variance / (255 * n * fourth.clamp(min=1).sqrt().sqrt())).float()


def window_sums(values: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """(N, H, W) → sums over x - before..x + after - 1, both ways, of what is in the image."""
    for axis in (1, 2):
        size = values.shape[axis]
        place = torch.arange(size, device=values.device)
        runs = torch.cat([torch.zeros_like(values.narrow(axis, 0, 1)), values.cumsum(axis)], axis)
        first, last = (place - before).clamp(min=0), (place + after).clamp(max=size)
        values = runs.index_select(axis, last) - runs.index_select(axis, first)
    return values

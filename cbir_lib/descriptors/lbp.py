"""Local binary patterns: which neighbours on a circle are as bright as the pixel, counted."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.errors import CbirError
from cbir_lib.preprocessing import as_images

PIXELS = 1 << 16  # in a block: its maps stay in a processor's cache
PIXELS_GPU = 1 << 23
# A neighbour counts as as bright as the pixel when it is less than this many grey values darker:
# rounding decides nothing.
TOLERANCE = 1e-3


class LBPHistogram(TransformerMixin, BaseEstimator):
    """Histogram of uniform local binary patterns (Ojala, Pietikäinen, Mäenpää 2002).

    Each pixel is compared with P neighbours on a circle, interpolated bilinearly; bit i is 1 where
    neighbour i, at the angle 2 pi i / P anticlockwise from the right, is at least as bright. A
    pattern is *uniform* if it changes between 0 and 1 at most twice around the circle. All others
    share the last bin.

    Parameters
    ----------
    neighbours : int
        Number P of neighbours, 4 to 24.
    radius_px : float
        Radius of the circle in pixels, 1 to 8.
    rotation_invariant : bool
        If so, uniform patterns are told apart by their number of ones only (the paper's riu2),
        otherwise by their place on the circle as well (u2).
    grid : int
        The image is cut into grid x grid cells, 1 to 16, each with its own histogram, row by row:
        cell floor(y grid / H), floor(x grid / W). In an image of fewer pixels some stay empty.

    Notes
    -----
    Nothing is learned. The vector has D = grid^2 (P + 2) values if rotation invariant, else
    grid^2 (P (P - 1) + 3), all 0 or more, and sums to 1. By default 10. Bins, of k ones: k if
    rotation invariant; otherwise 0 for no one, 1 + (k - 1) P + r, where r counts the places by
    which the run of ones would have to be turned on to begin at neighbour 0, and P (P - 1) + 1 for
    all ones. Bins are numbered as in scikit-image.

    A brightness added to all pixels changes nothing, nor does a positive factor, except where grey
    values are cut off or rounded. A flat area is all ones. If rotation invariant, with one cell and
    P a multiple of 4, turning the image by 90 degrees changes nothing either.

    Border: every pixel is counted; outside, the image goes on with its outermost pixels. Differs
    from the paper: it counts only pixels whose circle is inside, and compares histograms by
    log-likelihood; here by chi-square, as Ahonen, Hadid, Pietikäinen do.

    DOI 10.1109/TPAMI.2002.1017623, 10.1109/TPAMI.2006.244 (grid, chi-square).
    """

    distance = "chi-square"

    def __init__(
        self,
        neighbours: int = 8,
        radius_px: float = 1.0,
        rotation_invariant: bool = True,
        grid: int = 1,
    ):
        self.neighbours = neighbours
        self.radius_px = radius_px
        self.rotation_invariant = rotation_invariant
        self.grid = grid

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> LBPHistogram:
        """Check the parameters; there is nothing to learn."""
        check(self.neighbours, self.radius_px, self.rotation_invariant)
        if not isinstance(self.grid, int) or not 1 <= self.grid <= 16:
            raise CbirError(f"grid {self.grid!r} is out of range", "give a whole number, 1 to 16")
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 → (N, D) float32."""
        self.fit(images)
        images = as_images(images)
        bins, cells = number_of_bins(self.neighbours, self.rotation_invariant), self.grid**2
        histograms = np.empty((len(images), cells * bins), np.float32)
        rows, columns = (np.arange(size) * self.grid // size for size in images.shape[1:])
        cell = torch.from_numpy((rows[:, None] * self.grid + columns) * bins).int()
        for part, block in blocks(images):
            patterns = patterns_of(
                block, self.neighbours, float(self.radius_px), self.rotation_invariant
            )
            number, device = block.shape[-1], block.device
            first = torch.arange(number, device=device, dtype=torch.int32) * (cells * bins)
            places = cell.to(device)[..., None] + first + patterns
            counts = torch.bincount(places.flatten(), minlength=number * cells * bins)
            counts = counts.view(number, -1).float() / images[0].size
            histograms[part] = counts.cpu().numpy()
        return histograms


def local_binary_patterns(
    images: np.ndarray,
    neighbours: int = 8,
    radius_px: float = 1.0,
    rotation_invariant: bool = True,
) -> np.ndarray:
    """The bin of every pixel's pattern.

    Parameters
    ----------
    images : (N, H, W) uint8
    neighbours, radius_px, rotation_invariant
        As in :class:`LBPHistogram`, which says how bins are numbered.

    Returns
    -------
    (N, H, W) int16

    Raises
    ------
    CbirError
        When the images are no batch of grey images, or a parameter is out of range.
    """
    check(neighbours, radius_px, rotation_invariant)
    images = as_images(images)
    result = np.empty(images.shape, np.int16)
    for part, block in blocks(images):
        patterns = patterns_of(block, neighbours, float(radius_px), rotation_invariant)
        result[part] = patterns.permute(2, 0, 1).cpu().numpy()
    return result


def check(neighbours: int, radius_px: float, rotation_invariant: bool) -> None:
    """Refuse parameters out of range."""
    if not isinstance(neighbours, int) or not 4 <= neighbours <= 24:
        raise CbirError(
            f"neighbours {neighbours!r} is out of range", "give a whole number, 4 to 24"
        )
    if not isinstance(radius_px, int | float) or not 1 <= radius_px <= 8:
        raise CbirError(f"radius_px {radius_px!r} is out of range", "give 1 to 8 pixels")
    if not isinstance(rotation_invariant, bool):
        raise CbirError(
            f"rotation_invariant {rotation_invariant!r} is out of range", "give True or False"
        )


def number_of_bins(neighbours: int, rotation_invariant: bool) -> int:
    """Uniform patterns told apart, and one bin for all others."""
    return neighbours + 2 if rotation_invariant else neighbours * (neighbours - 1) + 3


def blocks(images: np.ndarray):
    """Parts of a batch, with their images as (H, W, n) uint8: whole rows of n lie together."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = max(1, (PIXELS_GPU if device == "cuda" else PIXELS) // images[0].size)
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        block = np.moveaxis(images[part], 0, -1).copy()
        yield part, torch.from_numpy(block).to(device)


def brighter(images: torch.Tensor, neighbours: int, radius_px: float) -> list[torch.Tensor]:
    """(H, W, n) uint8 → P of (H, W, n) bool: is the neighbour as bright as the pixel?

    Offsets are rounded to 1e-5 pixels, as in scikit-image, so that those on the axes lie there.
    """
    height, width, _ = images.shape
    margin = math.ceil(radius_px)
    rows, columns = (
        torch.arange(-margin, size + margin, device=images.device).clamp(0, size - 1)
        for size in (height, width)
    )
    grey = images.float().index_select(0, rows).index_select(1, columns)
    least = images - TOLERANCE
    shifted = {}  # by the way to the right
    bits = []
    for i in range(neighbours):
        angle = 2 * math.pi * i / neighbours
        down, right = (round(radius_px * part, 5) for part in (-math.sin(angle), math.cos(angle)))
        if right not in shifted:
            shifted[right] = between(grey, 1, margin + right, width)
        bits.append(between(shifted[right], 0, margin + down, height) >= least)
    return bits


def between(values: torch.Tensor, axis: int, start: float, length: int) -> torch.Tensor:
    """Values at start, start + 1, ... of one axis, interpolated linearly."""
    whole = math.floor(start)
    here = values.narrow(axis, whole, length)
    if start == whole:
        return here
    return torch.lerp(here, values.narrow(axis, whole + 1, length), start - whole)


def patterns_of(
    images: torch.Tensor, neighbours: int, radius_px: float, rotation_invariant: bool
) -> torch.Tensor:
    """(H, W, n) uint8 → (H, W, n), the bins, of a type that holds them."""
    bits = brighter(images, neighbours, radius_px)
    ones, starts = torch.zeros_like(images), torch.zeros_like(images)
    for i, bit in enumerate(bits):
        ones += bit
        starts += bit > bits[i - 1]  # a run of ones begins
    if rotation_invariant:
        return ones.masked_fill_(starts > 1, neighbours + 1)
    first = torch.zeros_like(
        images, dtype=torch.int16
    )  # places from where the only run begins to neighbour 0
    for i, bit in enumerate(bits):
        first += (bit > bits[i - 1]) * (-i % neighbours)
    result = (ones.short() - 1) * neighbours + first + 1
    result[ones == 0] = 0
    result[ones == neighbours] = neighbours * (neighbours - 1) + 1
    result[starts > 1] = neighbours * (neighbours - 1) + 2
    return result

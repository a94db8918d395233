"""Local binary patterns: which neighbours on a circle are as bright as the pixel, counted."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.descriptors.blocks import check_integer, compiled, count, device, each_block
from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import as_images

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
        check_integer("grid", self.grid, 1, 16)
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 → (N, D) float32."""
        self.fit(images)
        images = as_images(images)
        bins = number_of_bins(self.neighbours, self.rotation_invariant)
        rows, columns = (np.arange(size) * self.grid // size for size in images.shape[1:])
        first = (rows[:, None] * self.grid + columns).astype(np.int32) * bins
        histograms = np.empty((len(images), self.grid**2 * bins), np.float32)

        def work(block: np.ndarray, part: slice) -> None:
            patterns = find(block, self.neighbours, self.radius_px, self.rotation_invariant)
            histograms[part] = count(patterns, first, histograms.shape[1]) / images[0].size

        each_block(work, images, histograms.shape[1])
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

    def work(block: np.ndarray, part: slice) -> None:
        result[part] = find(block, neighbours, radius_px, rotation_invariant)

    each_block(work, images)
    return result


def check(neighbours: int, radius_px: float, rotation_invariant: bool) -> None:
    """Refuse parameters out of range."""
    check_integer("neighbours", neighbours, 4, 24)
    if not isinstance(radius_px, int | float) or not 1 <= radius_px <= 8:
        raise CbirError(f"radius_px {radius_px!r} is out of range", "give 1 to 8 pixels")
    if not isinstance(rotation_invariant, bool):
        raise CbirError(
            f"rotation_invariant {rotation_invariant!r} is out of range", "give True or False"
        )


def number_of_bins(neighbours: int, rotation_invariant: bool) -> int:
    """Uniform patterns told apart, and one bin for all others."""
    return neighbours + 2 if rotation_invariant else neighbours * (neighbours - 1) + 3


def circle(neighbours: int, radius_px: float) -> list[tuple[float, float]]:
    """How far down and to the right each neighbour is.

    Rounded to 1e-5 pixels, as in scikit-image, so that those on the axes lie there.
    """
    angles = [2 * math.pi * i / neighbours for i in range(neighbours)]
    return [
        (round(-radius_px * math.sin(angle), 5), round(radius_px * math.cos(angle), 5))
        for angle in angles
    ]


def numbers(neighbours: int, rotation_invariant: bool) -> tuple[np.ndarray, np.ndarray]:
    """The bin of k ones that begin at neighbour 0, by k; what beginning at neighbour i adds.

    The bin of all other patterns is the one after the greatest.
    """
    ones = np.arange(neighbours + 1, dtype=np.int32)
    if rotation_invariant:
        return ones, np.zeros(neighbours, np.int32)
    return np.where(ones, 1 + (ones - 1) * neighbours, 0), -ones[:-1] % neighbours


def find(
    images: np.ndarray, neighbours: int, radius_px: float, rotation_invariant: bool
) -> np.ndarray:
    """(N, H, W) uint8 → (N, H, W) int16, the bins."""
    bins = numbers(neighbours, rotation_invariant)
    if device().type == "cuda":
        tensor = torch.from_numpy(images).to(device())
        return patterns_of(tensor, circle(neighbours, radius_px), *bins).cpu().numpy()
    patterns = np.empty(images.shape, np.int16)
    places = np.array(circle(neighbours, radius_px)) + math.ceil(radius_px)
    fractions = (places % 1).astype(np.float32)
    find_each = compiled(find_patterns, repeat_border)
    find_each(images, places.astype(int), fractions, np.float32(TOLERANCE), *bins, patterns)
    return patterns


def find_patterns(images, places, fractions, tolerance, bin_of_ones, turned, patterns):
    """The bins, row by row, in loops to be compiled.

    ``places`` are the pixels up left of the neighbours, counted from the corner of a margin that
    repeats the outermost pixels; ``fractions`` are the rests of the way.
    """
    number, height, width = images.shape
    neighbours, margin = len(places), places[0, 0]  # the first is straight to the right
    several = bin_of_ones[-1] + 1
    grey = np.empty((height + 2 * margin + 1, width + 2 * margin + 1), np.float32)
    ones, starts, first, last = np.zeros((4, width), np.int32)
    for n in range(number):
        repeat_border(images[n], margin, grey)
        for y in range(height):
            here = grey[y + margin, margin:]
            ones[:] = starts[:] = first[:] = 0
            for i in range(-1, neighbours):  # the last neighbour comes before the first
                down, right = fractions[i]
                above = grey[y + places[i, 0], places[i, 1] :]
                below = grey[y + places[i, 0] + 1, places[i, 1] :]
                for x in range(width):
                    upper = above[x] + right * (above[x + 1] - above[x])
                    lower = below[x] + right * (below[x + 1] - below[x])
                    bright = np.int32(upper + down * (lower - upper) >= here[x] - tolerance)
                    if i >= 0:
                        begins = bright & ~last[x]
                        ones[x] += bright
                        starts[x] += begins
                        first[x] += begins * turned[i]
                    last[x] = bright
            for x in range(width):
                patterns[n, y, x] = several if starts[x] > 1 else bin_of_ones[ones[x]] + first[x]


def repeat_border(image, margin, grey):
    """The image goes on with its outermost pixels."""
    height, width = image.shape
    for y in range(len(grey)):
        row = image[min(max(y - margin, 0), height - 1)]
        grey[y, :margin] = row[0]
        grey[y, margin : margin + width] = row
        grey[y, margin + width :] = row[-1]


def patterns_of(
    images: torch.Tensor,
    circle: list[tuple[float, float]],
    bin_of_ones: np.ndarray,
    turned: np.ndarray,
) -> torch.Tensor:
    """The same on a GPU: (N, H, W) uint8 → (N, H, W) int16."""
    bits = brighter(images, circle)
    ones, starts, first = torch.zeros((3, *images.shape), dtype=torch.int16, device=images.device)
    for i, bit in enumerate(bits):
        begins = bit > bits[i - 1]
        ones += bit
        starts += begins
        first += begins * int(turned[i])
    bins = torch.from_numpy(bin_of_ones).short().to(images.device)
    return (bins[ones.int()] + first).masked_fill_(starts > 1, int(bins[-1]) + 1)


def brighter(images: torch.Tensor, circle: list[tuple[float, float]]) -> list[torch.Tensor]:
    """(N, H, W) uint8 → P of (N, H, W) bool: is the neighbour as bright as the pixel?"""
    _, height, width = images.shape
    margin = math.ceil(circle[0][1])
    rows, columns = (
        torch.arange(-margin, size + margin, device=images.device).clamp(0, size - 1)
        for size in (height, width)
    )
    grey = images.float()[:, rows[:, None], columns]
    shifted = (
        between(between(grey, 2, margin + right, width), 1, margin + down, height)
        for down, right in circle
    )
    return [values >= images - TOLERANCE for values in shifted]


def between(values: torch.Tensor, axis: int, start: float, length: int) -> torch.Tensor:
    """Values at start, start + 1, ... of one axis, interpolated linearly."""
    whole = math.floor(start)
    here = values.narrow(axis, whole, length)
    if start == whole:
        return here
    return torch.lerp(here, values.narrow(axis, whole + 1, length), start - whole)

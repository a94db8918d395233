"""Local binary patterns: histograms of which neighbours on a circle are as bright as the pixel."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import map_coordinates
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.descriptors import lbp_loops
from cbir_lib.descriptors.blocks import count_codes, map_blocks
from cbir_lib.errors import CbirError, check_integer, check_switch, is_number
from cbir_lib.images.preprocessing import check_images
from cbir_lib.loops import compile_loops

# Grey values by which a neighbour may be darker and still count as equally bright: rounding then
# decides nothing.
TOLERANCE = 1e-3


def compute_reference(
    image: np.ndarray, neighbours: int, radius_px: float, rotation_invariant: bool
) -> np.ndarray:
    """Find the bin of the pattern of every pixel of one (H, W) image.

    The definition of :func:`compute_patterns`, without its speed: Ojala, Pietikäinen,
    Mäenpää 2002, eq. 9 (riu2) or its variant by place (u2), DOI 10.1109/TPAMI.2002.1017623.
    """
    grey = image.astype(float)
    places = [
        np.indices(grey.shape) + np.reshape(offset, (2, 1, 1))
        for offset in place_neighbours(neighbours, radius_px)
    ]
    values = [map_coordinates(grey, place, order=1, mode="nearest") for place in places]
    bright = np.array(values) >= grey - TOLERANCE  # (P, H, W)
    begins = bright & ~np.roll(bright, 1, axis=0)  # where a run of ones begins on the circle
    bins = ones = bright.sum(axis=0)
    if not rotation_invariant:
        bins = np.where(ones > 0, 1 + (ones - 1) * neighbours + (-begins.argmax(0)) % neighbours, 0)
    other = count_bins(neighbours, rotation_invariant) - 1
    return np.where(begins.sum(axis=0) <= 1, bins, other)


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
        If so, uniform patterns differ by their number of ones only (the paper's riu2), else also by
        their place on the circle (u2).
    grid : int
        The image is cut into grid x grid cells, 1 to 16, each with its own histogram, row by row:
        cell floor(y grid / H), floor(x grid / W). If the image has fewer pixels, some stay empty.

    Notes
    -----
    Nothing is learned. The vector has D = grid^2 (P + 2) values if rotation invariant, else
    grid^2 (P (P - 1) + 3), all 0 or more, and sums to 1. By default D = 10. The bin of k ones is k
    if rotation invariant; else 0 for k = 0, P (P - 1) + 1 for k = P, and 1 + (k - 1) P + r between,
    where r is the number of places by which the run of ones must be turned to begin at neighbour 0.
    Bins are numbered as in scikit-image.

    A brightness added to all pixels changes nothing, nor does a positive factor, except where grey
    values are cut off or rounded. A flat area is all ones. If rotation invariant, with one cell and
    P a multiple of 4, turning the image by 90 degrees changes nothing either.

    Border: every pixel is counted; the image is continued by its outermost pixels. Differs from the
    paper: it counts only pixels whose circle is inside, and compares histograms by log-likelihood;
    here by chi-square, as Ahonen, Hadid, Pietikäinen do.

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

    def check(self) -> None:
        """Refuse parameters out of range."""
        check_parameters(self.neighbours, self.radius_px, self.rotation_invariant)
        check_integer("grid", self.grid, 1, 16)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> LBPHistogram:
        """Check the parameters; there is nothing to learn."""
        self.check()
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, D) float32."""
        self.check()
        images = check_images(images)
        bins = count_bins(self.neighbours, self.rotation_invariant)
        rows, columns = (np.arange(size) * self.grid // size for size in images.shape[1:])
        first = (rows[:, None] * self.grid + columns).astype(np.int32) * bins
        histograms = np.empty((len(images), self.grid**2 * bins), np.float32)

        def work(block: np.ndarray, part: slice) -> None:
            patterns = find_bins(block, self.neighbours, self.radius_px, self.rotation_invariant)
            histograms[part] = count_codes(patterns, first, histograms.shape[1]) / images[0].size

        map_blocks(work, images, histograms.shape[1])
        return histograms


def compute_patterns(
    images: np.ndarray,
    neighbours: int = 8,
    radius_px: float = 1.0,
    rotation_invariant: bool = True,
) -> np.ndarray:
    """Find the bin of every pixel's pattern.

    Parameters
    ----------
    images : (N, H, W) uint8
    neighbours, radius_px, rotation_invariant
        As in :class:`LBPHistogram`, whose notes number the bins.

    Returns
    -------
    (N, H, W) int16

    Raises
    ------
    CbirError
        When the images are not a batch of grey images, or a parameter is out of range.
    """
    check_parameters(neighbours, radius_px, rotation_invariant)
    images = check_images(images)
    result = np.empty(images.shape, np.int16)

    def work(block: np.ndarray, part: slice) -> None:
        result[part] = find_bins(block, neighbours, radius_px, rotation_invariant)

    map_blocks(work, images)
    return result


def check_parameters(neighbours: int, radius_px: float, rotation_invariant: bool) -> None:
    """Refuse parameters out of range."""
    check_integer("neighbours", neighbours, 4, 24)
    if not is_number(radius_px) or not 1 <= radius_px <= 8:
        raise CbirError(f"radius_px {radius_px!r} is out of range", "give 1 to 8 pixels")
    check_switch("rotation_invariant", rotation_invariant)


def count_bins(neighbours: int, rotation_invariant: bool) -> int:
    """Return the number of bins: one for each kind of uniform pattern, one for all others."""
    return neighbours + 2 if rotation_invariant else neighbours * (neighbours - 1) + 3


def place_neighbours(neighbours: int, radius_px: float) -> list[tuple[float, float]]:
    """Return how far down and to the right each neighbour lies, in pixels.

    Rounded to 1e-5 pixels, as in scikit-image, so that neighbours on the axes lie exactly there.
    """
    angles = [2 * math.pi * i / neighbours for i in range(neighbours)]
    return [
        (round(-radius_px * math.sin(angle), 5), round(radius_px * math.cos(angle), 5))
        for angle in angles
    ]


def number_patterns(neighbours: int, rotation_invariant: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the bin of k ones that begin at neighbour 0, by k, and what beginning at i adds, by i.

    The bin of all other patterns follows the greatest of these.
    """
    ones = np.arange(neighbours + 1, dtype=np.int32)
    if rotation_invariant:
        return ones, np.zeros(neighbours, np.int32)
    return np.where(ones, 1 + (ones - 1) * neighbours, 0), -ones[:-1] % neighbours


def find_bins(
    images: np.ndarray, neighbours: int, radius_px: float, rotation_invariant: bool
) -> np.ndarray:
    """Find the bins of a block, (N, H, W) uint8 → (N, H, W) int16."""
    bins = number_patterns(neighbours, rotation_invariant)
    patterns = np.empty(images.shape, np.int16)
    places = np.array(place_neighbours(neighbours, radius_px)) + math.ceil(radius_px)
    fractions = (places % 1).astype(np.float32)
    find_patterns = compile_loops(lbp_loops.find_patterns, lbp_loops.repeat_border)
    find_patterns(images, places.astype(int), fractions, np.float32(TOLERANCE), *bins, patterns)
    return patterns

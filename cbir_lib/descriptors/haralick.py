"""Haralick's features: 13 numbers from how often two grey levels lie side by side."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import entr, xlogy
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.descriptors import haralick_loops
from cbir_lib.descriptors.blocks import map_blocks
from cbir_lib.errors import check_integer, check_switch
from cbir_lib.images.preprocessing import check_images
from cbir_lib.loops import compile_loops

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))  # rows and columns: 0, -45, 90, 45 degrees
FEATURES = (
    "angular second moment",
    "contrast",
    "correlation",
    "variance",
    "inverse difference moment",
    "sum average",
    "sum variance",
    "sum entropy",
    "entropy",
    "difference variance",
    "difference entropy",
    "information measure of correlation 1",
    "information measure of correlation 2",
)


def compute_reference(p: np.ndarray) -> np.ndarray:
    """Compute the 13 features of one matrix p, (L, L) float64, symmetric and of sum 1.

    The definition of :class:`Haralick`, without its speed: f1 to f13 of Haralick, Shanmugam,
    Dinstein 1973, appendix I, DOI 10.1109/TSMC.1973.4309314.
    """
    i, j = np.indices(p.shape)
    margin = p.sum(axis=1)
    sums = np.bincount((i + j).ravel(), p.ravel())  # where i + j = 0, 1, ...
    differences = np.bincount(abs(i - j).ravel(), p.ravel())  # where |i - j| = 0, 1, ...
    k, d = np.arange(len(sums)), np.arange(len(p))
    mean, both = margin @ d, np.outer(margin, margin)
    f1, f2 = (p**2).sum(), ((i - j) ** 2 * p).sum()
    f4 = ((i - mean) ** 2 * p).sum()
    f3 = ((i * j * p).sum() - mean**2) / f4 if f4 > 1e-9 else 1.0
    f5 = (p / (1 + (i - j) ** 2)).sum()
    f6 = k @ sums
    f7, f8, f9 = (k - f6) ** 2 @ sums, entr(sums).sum(), entr(p).sum()
    f10, f11 = (d - d @ differences) ** 2 @ differences, entr(differences).sum()
    f12 = (f9 + xlogy(p, both).sum()) / entr(margin).sum() if f4 > 1e-9 else 0.0
    f13 = np.sqrt(1 - np.exp(-2 * max(0, entr(both).sum() - f9)))
    return np.array([f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13])


def compute_reference_matrix(image: np.ndarray, levels: int, down: int, right: int) -> np.ndarray:
    """Compute the co-occurrence matrix (L, L) of one (H, W) image for one direction."""
    level = image.astype(int) * levels // 256
    pairs = [
        (level[y, x], level[y + down, x + right])
        for y, x in np.ndindex(image.shape)
        if y + down < image.shape[0] and 0 <= x + right < image.shape[1]
    ]
    p = np.zeros((levels, levels))
    np.add.at(p, tuple(np.transpose(pairs)), 1)
    return (p + p.T) / (2 * len(pairs))


class Haralick(TransformerMixin, BaseEstimator):
    """Thirteen features of grey-level co-occurrence (Haralick, Shanmugam, Dinstein 1973).

    For each of four directions, the matrix p[i, j] is the share of pairs of pixels ``offset_px``
    apart in which one has the grey level i and the other j, counted both ways. ``FEATURES`` names
    the features of a matrix, in the paper's order, f1 to f13. The vector has their means over the
    directions, then their ranges, greatest minus least.

    Parameters
    ----------
    levels : int
        Number L of grey levels, equal bins over 0..255: level = floor(grey L / 256), 2 to 256.
    offset_px : int
        How many pixels apart the two of a pair are, along rows, columns or both, 1 to 16.
    scaled : bool
        Divide each feature by the greatest value that L levels allow; without it, features in
        squares of levels outweigh all others in a distance. All means are then in 0..1, those of
        the correlations in -1..1.

    Notes
    -----
    Nothing is learned. The vector has D = 2 * 13 = 26 values. A flat image has the second moment,
    the correlation and the inverse difference moment 1, the sum average 2 of its level, and all
    others 0. A direction in which the image has no pair is left out; an image with no pair at all
    has the vector 0.

    Levels count from 0, logarithms are natural: entropies are in nats.

    Differs from the paper: levels are of equal width, not equally filled; the sum variance f7 is
    about the sum average, where the paper prints the sum entropy, a known misprint; the correlation
    of a flat image, 0 / 0 there, is 1; f12, 0 / 0 for a flat image, is 0. f14 is left out, as most
    do. DOI 10.1109/TSMC.1973.4309314.
    """

    distance = "L1"

    def __init__(self, levels: int = 32, offset_px: int = 1, scaled: bool = True):
        self.levels = levels
        self.offset_px = offset_px
        self.scaled = scaled

    def check(self) -> None:
        """Refuse parameters out of range."""
        check_parameters(self.levels, self.offset_px)
        check_switch("scaled", self.scaled)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> Haralick:
        """Check the parameters; there is nothing to learn."""
        self.check()
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, 26) float32."""
        self.check()
        images = check_images(images)
        vectors = np.zeros((len(images), 2 * len(FEATURES)), np.float32)
        directions, _ = choose_directions(images, self.offset_px)

        def work(block: np.ndarray, part: slice) -> None:
            features = compute_features(compute_sums(block, self.levels, directions))
            if self.scaled:
                features /= list_greatest(self.levels)
            vectors[part] = np.concatenate([features.mean(1), np.ptp(features, 1)], 1)

        if len(directions):
            map_blocks(work, images, len(directions) * self.levels**2)
        return vectors


def compute_co_occurrence(images: np.ndarray, levels: int = 32, offset_px: int = 1) -> np.ndarray:
    """Compute grey-level co-occurrence matrices.

    Parameters
    ----------
    images : (N, H, W) uint8
    levels, offset_px
        As in :class:`Haralick`.

    Returns
    -------
    (N, 4, L, L) float32
        p[n, d, i, j], symmetric in i and j, of sum 1, for pairs side by side, down to the right,
        one below the other, down to the left. A direction without pairs has zeros.

    Raises
    ------
    CbirError
        When the images are not a batch of grey images, or a parameter is out of range.
    """
    check_parameters(levels, offset_px)
    images = check_images(images)
    result = np.zeros((len(images), len(DIRECTIONS), levels, levels), np.float32)
    directions, present = choose_directions(images, offset_px)

    def work(block: np.ndarray, part: slice) -> None:
        counts = count_pairs(block, levels, directions)
        counts = counts + counts.swapaxes(2, 3)
        result[part][:, present] = counts / counts.sum((2, 3), keepdims=True)

    map_blocks(work, images, len(directions) * levels**2)
    return result


def check_parameters(levels: int, offset_px: int) -> None:
    """Refuse parameters out of range."""
    check_integer("levels", levels, 2, 256)
    check_integer("offset_px", offset_px, 1, 16)


def choose_directions(images: np.ndarray, offset_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the F directions in which the images have pairs, (F, 2), and a mask of the four."""
    directions = offset_px * np.array(DIRECTIONS)
    present = (np.abs(directions) < images.shape[1:]).all(1)
    return directions[present], present


class Sums(NamedTuple):
    """The sums from which the features follow, for the matrix p of each image and direction.

    (N, F, ...) float64; p is symmetric, of sum 1.
    """

    margin: np.ndarray  # (N, F, L), sums of p over j
    sums: np.ndarray  # (N, F, 2 L - 1), sums of p where i + j = 0, 1, ...
    differences: np.ndarray  # (N, F, L), sums of p where |i - j| = 0, 1, ...
    squares: np.ndarray  # (N, F), sums of p^2
    entropy: np.ndarray  # (N, F), sums of -p ln p


def compute_sums(images: np.ndarray, levels: int, directions: np.ndarray) -> Sums:
    """Compute the sums of (N, H, W) uint8 images for (F, 2) directions."""
    shape = len(images), len(directions)
    sums = Sums(
        *(np.zeros((*shape, size)) for size in (levels, 2 * levels - 1, levels)),
        *np.zeros((2, *shape)),
    )
    compile_loops(haralick_loops.sum_entries)(count_pairs(images, levels, directions), *sums)
    return sums


def count_pairs(images: np.ndarray, levels: int, directions: np.ndarray) -> np.ndarray:
    """Count pairs one way, (N, H, W) uint8 → (N, F, L, L) int32."""
    level = (images * np.uint16(levels) >> 8).astype(np.uint8)  # 255 * 256 fits
    counts = np.zeros((len(images), len(directions), levels, levels), np.int32)
    compile_loops(haralick_loops.count_pairs)(level, directions, counts)
    return counts


def compute_features(parts: Sums) -> np.ndarray:
    """Compute the features, (N, F, 13) float64.

    A symmetric matrix has equal margins: with their variance v and entropy h, the variance of the
    sum is 4 v - f2, the covariance v - f2 / 2, and the paper's HXY1 and HXY2 are both 2 h.
    """
    margin, sums, differences, squares, joint = parts
    level = np.arange(margin.shape[-1])
    mean = margin @ level
    variance = (margin * (level - mean[..., None]) ** 2).sum(-1)
    contrast = differences @ level**2
    apart = differences @ level
    alone = compute_entropy(margin)
    varied = variance > 1e-9
    correlation = np.where(varied, 1 - contrast / (2 * np.where(varied, variance, 1)), 1)
    shared = np.maximum(2 * alone - joint, 0)
    features = [
        squares,
        contrast,
        correlation,
        variance,
        differences @ (1 / (1 + level**2)),
        2 * mean,
        np.maximum(4 * variance - contrast, 0),
        compute_entropy(sums),
        joint,
        (differences * (level - apart[..., None]) ** 2).sum(-1),
        compute_entropy(differences),
        np.where(varied, -shared / np.where(varied, alone, 1), 0),
        np.sqrt(1 - np.exp(-2 * shared)),
    ]
    return np.stack(features, -1)


def compute_entropy(p: np.ndarray) -> np.ndarray:
    """Compute the entropy of (..., K) shares, (...), in nats; 0 ln 0 is 0."""
    return -(p * np.log(np.maximum(p, np.finfo(p.dtype).tiny))).sum(-1)


def list_greatest(levels: int) -> list[float]:
    """Return the greatest absolute value of each feature, in the order of ``FEATURES``."""
    widest = float(levels - 1) ** 2
    nats = math.log(levels)
    return [
        1.0,
        widest,
        1.0,
        widest / 4,
        1.0,
        2.0 * (levels - 1),
        widest,
        math.log(2 * levels - 1),
        2 * nats,
        widest / 4,
        nats,
        1.0,
        1.0,
    ]

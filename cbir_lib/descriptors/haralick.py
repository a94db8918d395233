"""Haralick's features: how often which grey values lie side by side, in 13 numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.descriptors.blocks import check_integer, compiled, device, each_block
from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import as_images

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


class Haralick(TransformerMixin, BaseEstimator):
    """Thirteen features of grey-level co-occurrence (Haralick, Shanmugam, Dinstein 1973).

    For each of four directions, the matrix p[i, j] is the share of pairs of pixels ``offset_px``
    apart of which one has the grey level i and the other j, counted both ways. ``FEATURES`` names
    the features of a matrix, in the paper's order, f1 to f13. The vector has their means over the
    directions, then their ranges, greatest minus least.

    Parameters
    ----------
    levels : int
        Number L of grey levels, equal bins over 0..255: level = floor(grey L / 256), 2 to 256.
    offset_px : int
        How many pixels apart the two of a pair are, along rows, columns or both, 1 to 16.
    scaled : bool
        Divide each feature by the greatest value that L levels allow, for without it those in
        squares of levels outweigh all others in a distance. All means are then in 0..1, the
        correlations' in -1..1.

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

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> Haralick:
        """Check the parameters; there is nothing to learn."""
        check(self.levels, self.offset_px)
        if not isinstance(self.scaled, bool):
            raise CbirError(f"scaled {self.scaled!r} is out of range", "give True or False")
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 → (N, 26) float32."""
        self.fit(images)
        images = as_images(images)
        vectors = np.zeros((len(images), 2 * len(FEATURES)), np.float32)
        directions, _ = fitting(images, self.offset_px)

        def work(block: np.ndarray, part: slice) -> None:
            features = features_of(sums_of(block, self.levels, directions))
            if self.scaled:
                features /= greatest(self.levels)
            vectors[part] = np.concatenate([features.mean(1), np.ptp(features, 1)], 1)

        if len(directions):
            each_block(work, images, len(directions) * self.levels**2)
        return vectors


def co_occurrence(images: np.ndarray, levels: int = 32, offset_px: int = 1) -> np.ndarray:
    """Grey-level co-occurrence matrices.

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
        When the images are no batch of grey images, or a parameter is out of range.
    """
    check(levels, offset_px)
    images = as_images(images)
    result = np.zeros((len(images), len(DIRECTIONS), levels, levels), np.float32)
    directions, present = fitting(images, offset_px)

    def work(block: np.ndarray, part: slice) -> None:
        counts = count_pairs(block, levels, directions)
        counts = counts + counts.swapaxes(2, 3)
        result[part][:, present] = counts / counts.sum((2, 3), keepdims=True)

    each_block(work, images, len(directions) * levels**2)
    return result


def check(levels: int, offset_px: int) -> None:
    """Refuse parameters out of range."""
    check_integer("levels", levels, 2, 256)
    check_integer("offset_px", offset_px, 1, 16)


def fitting(images: np.ndarray, offset_px: int) -> tuple[np.ndarray, np.ndarray]:
    """The F directions in which the images have pairs, (F, 2), and which of the four they are."""
    directions = offset_px * np.array(DIRECTIONS)
    present = (np.abs(directions) < images.shape[1:]).all(1)
    return directions[present], present


class Sums(NamedTuple):
    """What the features follow from: of each image's and direction's matrix p, (N, F, ...) float64.

    p is symmetric, of sum 1.
    """

    margin: np.ndarray  # (N, F, L), of p over j
    sums: np.ndarray  # (N, F, 2 L - 1), of p where i + j = 0, 1, ...
    differences: np.ndarray  # (N, F, L), of p where |i - j| = 0, 1, ...
    squares: np.ndarray  # (N, F), of p^2
    entropy: np.ndarray  # (N, F), of -p ln p


def sums_of(images: np.ndarray, levels: int, directions: np.ndarray) -> Sums:
    """Of (N, H, W) uint8."""
    if device().type == "cuda":
        images = torch.from_numpy(images).to(device())
        counts = count_in_torch(images, levels, directions)
        return Sums(*(values.cpu().numpy() for values in sum_in_torch(counts)))
    shape = len(images), len(directions)
    sums = Sums(
        *(np.zeros((*shape, size)) for size in (levels, 2 * levels - 1, levels)),
        *np.zeros((2, *shape)),
    )
    compiled(sum_each)(count_pairs(images, levels, directions), *sums)
    return sums


def count_pairs(images: np.ndarray, levels: int, directions: np.ndarray) -> np.ndarray:
    """(N, H, W) uint8 → (N, F, L, L) int32, pairs counted one way."""
    level = (images * np.uint16(levels) >> 8).astype(np.uint8)  # 255 * 256 fits
    counts = np.zeros((len(images), len(directions), levels, levels), np.int32)
    compiled(count_each)(level, directions, counts)
    return counts


def count_each(level, directions, counts):
    """Pair after pair, in loops to be compiled."""
    number, height, width = level.shape
    for n in range(number):
        for d in range(len(directions)):
            down, right = directions[d]
            left = max(0, -right)
            for y in range(height - down):
                here, there = level[n, y, left:], level[n, y + down, left + right :]
                for x in range(width - abs(right)):
                    counts[n, d, here[x], there[x]] += 1


def sum_each(counts, margin, sums, differences, squares, entropy):
    """Entry after entry of the lower half, in loops to be compiled."""
    number, directions, levels, _ = counts.shape
    for n in range(number):
        for d in range(directions):
            count = counts[n, d]
            pairs = 2 * count.sum()
            for i in range(levels):
                for j in range(i + 1):
                    both = count[i, j] + count[j, i]
                    if both == 0:
                        continue
                    p = both / pairs
                    margin[n, d, i] += p
                    times = 1
                    if i != j:  # p[j, i] is the same
                        margin[n, d, j] += p
                        times = 2
                    sums[n, d, i + j] += times * p
                    differences[n, d, i - j] += times * p
                    squares[n, d] += times * p * p
                    entropy[n, d] -= times * p * math.log(p)


def count_in_torch(images: torch.Tensor, levels: int, directions: np.ndarray) -> torch.Tensor:
    """What count_pairs does, on a GPU."""
    number, height, width = images.shape
    level = images.long() * levels >> 8
    image = torch.arange(number, device=images.device)[:, None, None] * levels**2
    counts = []
    for down, right in directions.tolist():
        left = max(0, -right)
        here = level[:, : height - down, left : width - max(0, right)]
        there = level[:, down:, max(0, right) : width - left]
        codes = image + here * levels + there
        counts.append(torch.bincount(codes.flatten(), minlength=number * levels**2))
    return torch.stack(counts).view(-1, number, levels, levels).transpose(0, 1)


def sum_in_torch(counts: torch.Tensor) -> Sums:
    """What sum_each does, on a GPU."""
    both = (counts + counts.mT).double()
    p = both / both.sum((-2, -1), keepdim=True)
    levels = p.shape[-1]
    differences = skewed(p.flip(-1))[..., levels - 1 :].clone()  # i - j = 0, 1, ..., L - 1
    differences[..., 1:] *= 2  # and j - i
    entropy = torch.special.entr(p).sum((-2, -1))
    return Sums(p.sum(-1), skewed(p), differences, (p * p).sum((-2, -1)), entropy)


def skewed(p: torch.Tensor) -> torch.Tensor:
    """(..., L, L) → (..., 2 L - 1): sums where i + j is equal.

    Rows of L zeros more, cut at one less, move each row one place further than the one above it.
    """
    levels = p.shape[-1]
    wide = torch.nn.functional.pad(p, (0, levels)).flatten(-2)[..., : levels * (2 * levels - 1)]
    return wide.unflatten(-1, (levels, 2 * levels - 1)).sum(-2)


def features_of(parts: Sums) -> np.ndarray:
    """(N, F, 13) float64.

    A symmetric matrix has equal margins: with their variance v and entropy h, the variance of the
    sum is 4 v - f2, the covariance v - f2 / 2, and the paper's HXY1 and HXY2 are both 2 h.
    """
    margin, sums, differences, squares, joint = parts
    level = np.arange(margin.shape[-1])
    mean = margin @ level
    variance = (margin * (level - mean[..., None]) ** 2).sum(-1)
    contrast = differences @ level**2
    apart = differences @ level
    alone = entropy_of(margin)
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
        entropy_of(sums),
        joint,
        (differences * (level - apart[..., None]) ** 2).sum(-1),
        entropy_of(differences),
        np.where(varied, -shared / np.where(varied, alone, 1), 0),
        np.sqrt(1 - np.exp(-2 * shared)),
    ]
    return np.stack(features, -1)


def entropy_of(p: np.ndarray) -> np.ndarray:
    """(..., K) → (...), in nats; 0 ln 0 is 0."""
    return -(p * np.log(np.maximum(p, np.finfo(p.dtype).tiny))).sum(-1)


def greatest(levels: int) -> list[float]:
    """The greatest absolute value of each feature."""
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

"""Haralick's features: how often which grey values lie side by side, in 13 numbers."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.errors import CbirError
from cbir_lib.preprocessing import as_images

VALUES = 1 << 19  # entries of matrices, and pairs of pixels, in a block
VALUES_GPU = 1 << 25
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
        for part, matrices in co_occurrences(images, self.levels, self.offset_px):
            features = features_of(matrices)
            if self.scaled:
                features /= torch.tensor(greatest(self.levels), device=features.device)
            ranges = features.amax(1) - features.amin(1)
            vectors[part] = torch.cat([features.mean(1), ranges], 1).cpu().numpy()
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
    present = [i for i, _ in enumerate(DIRECTIONS) if DIRECTIONS[i] in fitting(images, offset_px)]
    for part, matrices in co_occurrences(images, levels, offset_px):
        result[part, present] = matrices.cpu().numpy()
    return result


def check(levels: int, offset_px: int) -> None:
    """Refuse parameters out of range."""
    if not isinstance(levels, int) or not 2 <= levels <= 256:
        raise CbirError(f"levels {levels!r} is out of range", "give a whole number, 2 to 256")
    if not isinstance(offset_px, int) or not 1 <= offset_px <= 16:
        raise CbirError(f"offset_px {offset_px!r} is out of range", "give 1 to 16 whole pixels")


def fitting(images: np.ndarray, offset_px: int) -> list[tuple[int, int]]:
    """The directions in which the images have pairs."""
    _, height, width = images.shape
    return [
        (down, right)
        for down, right in DIRECTIONS
        if offset_px * down < height and offset_px * abs(right) < width
    ]


def co_occurrences(images: np.ndarray, levels: int, offset_px: int):
    """Parts of a batch, with their matrices of the fitting directions, (n, F, L, L) float32."""
    directions = fitting(images, offset_px)
    if not directions:
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    _, height, width = images.shape
    values = VALUES_GPU if device == "cuda" else VALUES
    step = max(1, values // (len(directions) * max(height * width, levels**2)))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        level = (torch.from_numpy(images[part].copy()).to(device).int() * levels) >> 8
        number = len(level)
        matrix = torch.arange(number, device=device, dtype=torch.int32) * len(directions)
        seconds = level + (matrix * levels**2)[:, None, None]
        firsts = level * levels
        codes = []
        for place, (down, right) in enumerate(directions):
            down, right = down * offset_px, right * offset_px
            above, below = slice(0, height - down), slice(down, height)
            here, there = slice(max(0, -right), width - max(0, right)), slice(max(0, right), None)
            if right < 0:
                there = slice(0, width + right)
            pairs = firsts[:, above, here] + seconds[:, below, there]
            codes.append((pairs + place * levels**2).flatten())
        counts = torch.bincount(
            torch.cat(codes), minlength=number * len(directions) * levels**2
        ).view(number, len(directions), levels, levels)
        counts = counts.float()
        totals = torch.tensor(
            [(height - offset_px * d) * (width - offset_px * abs(r)) for d, r in directions],
            device=device,
        )
        yield part, (counts + counts.mT) / (2 * totals[:, None, None])


def features_of(p: torch.Tensor) -> torch.Tensor:
    """(n, F, L, L) → (n, F, 13) float64.

    A symmetric matrix has equal margins: with their variance v and entropy h, the variance of the
    sum is 4 v - f2, the covariance v - f2 / 2, and the paper's HXY1 and HXY2 are both 2 h.
    """
    levels = p.shape[-1]
    level = torch.arange(levels, dtype=torch.float64, device=p.device)
    margin = p.sum(-1).double()
    sums = skewed(p)
    differences = skewed(p.flip(-1))[..., levels - 1 :].clone()  # i - j = 0, 1, ..., L - 1
    differences[..., 1:] *= 2  # and j - i

    mean = margin @ level
    variance = (margin * (level - mean[..., None]) ** 2).sum(-1)
    contrast = differences @ level**2
    apart = differences @ level
    joint = entropy(p.flatten(-2)).double()
    alone = entropy(margin)
    varied = variance > 1e-9
    correlation = torch.where(varied, 1 - contrast / (2 * torch.where(varied, variance, 1)), 1)
    shared = (2 * alone - joint).clamp(min=0)
    features = [
        (p * p).sum((-1, -2)).double(),
        contrast,
        correlation,
        variance,
        differences @ (1 / (1 + level**2)),
        2 * mean,
        (4 * variance - contrast).clamp(min=0),
        entropy(sums),
        joint,
        (differences * (level - apart[..., None]) ** 2).sum(-1),
        entropy(differences),
        torch.where(varied, -shared / torch.where(varied, alone, 1), 0),
        torch.sqrt(1 - torch.exp(-2 * shared)),
    ]
    return torch.stack(features, -1)


def skewed(p: torch.Tensor) -> torch.Tensor:
    """(..., L, L) → (..., 2 L - 1) float64: sums where i + j is equal.

    Rows of L zeros more, cut at one less, move each row one place further than the one above it.
    """
    levels = p.shape[-1]
    wide = torch.nn.functional.pad(p, (0, levels)).flatten(-2)[..., : levels * (2 * levels - 1)]
    return wide.unflatten(-1, (levels, 2 * levels - 1)).sum(-2).double()


def entropy(p: torch.Tensor) -> torch.Tensor:
    """(..., K) → (...), in nats; 0 ln 0 is 0."""
    return -(p * p.clamp(min=torch.finfo(p.dtype).tiny).log()).sum(-1)


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

"""Duplicates in a data set: exact copies, near copies, and subjects in more than one split.

A near copy in another split is a leak: the test asks for what training has already shown.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cbir_lib.datasets.radiographs import SPLITS, RadiographSet
from cbir_lib.datasets.splits import hash_pixels

SIDE_PX = 16
# Measured on MedNIST. Of its 4,047 hand and chest films in the test split, 3 have such a similar
# image among the 47,000 others; for half of them the nearest stays below 0.95. Of copies of 1,200
# images, the threshold finds 99.8 % of those with grey values changed by up to 1, 99.9 % of dimmed
# ones, 97 % turned by one degree, 96 % saved as JPEG of quality 50; but only 34 % of those cropped
# by 1.6 % at each side. Slices of one CT or MR study are as similar as copies and are found too:
# two of three test images of abdomens have such a neighbour.
THRESHOLD = 0.99
BLOCK = 2048


def find_exact_duplicates(images: np.ndarray) -> list[np.ndarray]:
    """Find groups of images that are equal pixel by pixel.

    >>> images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1)
    >>> [rows.tolist() for rows in find_exact_duplicates(images[[0, 1, 0, 2, 1]])]
    [[0, 2], [1, 4]]

    Parameters
    ----------
    images : (N, H, W) uint8

    Returns
    -------
    list of (K,) int64
        The rows of each group of two or more, ascending, ordered by their first rows.
    """
    digests = pd.Series([hash_pixels(image) for image in images])
    twice = digests[digests.duplicated(keep=False)]
    groups = (np.asarray(rows) for rows in twice.groupby(twice).indices.values())
    return sorted((twice.index.to_numpy()[rows] for rows in groups), key=lambda rows: rows[0])


def compute_thumbnails(images: np.ndarray) -> np.ndarray:
    """Compute thumbnails as unit vectors, independent of brightness and contrast.

    Parameters
    ----------
    images : (N, H, W) uint8
        Of any size; sides of less than 16 pixels are enlarged.

    Returns
    -------
    (N, 256) float32
        Means over the cells of a 16 x 16 grid (exact areas, cells may divide pixels), minus their
        mean, divided by their norm: the product of two is their correlation, -1..1. The vector of a
        constant image is all zeros and correlates with nothing.
    """
    count, height, width = images.shape
    down, across = _compute_areas(height), _compute_areas(width)
    vectors = np.empty((count, SIDE_PX * SIDE_PX), dtype=np.float32)
    for start in range(0, count, BLOCK):
        block = images[start : start + BLOCK].astype(np.float32)
        vectors[start : start + BLOCK] = (down @ block @ across.T).reshape(len(block), -1)
    vectors -= vectors.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    # Rounding leaves a constant image a norm below 1e-3; one cell brighter by one grey value has 1.
    return np.where(norms > 1e-2, vectors / np.maximum(norms, 1e-2), 0.0)


def _compute_areas(length: int) -> np.ndarray:
    """Compute the share of each pixel in each cell, (16, length) float32; rows sum to 1."""
    edges = np.linspace(0, length, SIDE_PX + 1)
    pixels = np.arange(length)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    return (np.clip(high - low, 0, None) * (SIDE_PX / length)).astype(np.float32)


def find_nearest(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the most similar gallery vector of each query: its row, and their scalar product.

    Exact, in blocks. Parameters (Q, D) and (G, D) float32; returns (Q,) int64 and (Q,) float32.
    """
    best = np.full(len(queries), -np.inf, dtype=np.float32)
    rows = np.zeros(len(queries), dtype=np.int64)
    for start in range(0, len(queries), BLOCK):
        part = slice(start, start + BLOCK)
        for first in range(0, len(gallery), 4 * BLOCK):
            products = queries[part] @ gallery[first : first + 4 * BLOCK].T
            nearest = products.argmax(axis=1)
            highest = np.take_along_axis(products, nearest[:, None], axis=1)[:, 0]
            better = highest > best[part]
            rows[part][better] = first + nearest[better]
            best[part][better] = highest[better]
    return rows, best


def find_near_duplicates(data: RadiographSet, threshold: float = THRESHOLD) -> pd.DataFrame:
    """Find validation and test images that have a near copy in an earlier split.

    Parameters
    ----------
    threshold
        Minimum correlation of the two 16 x 16 thumbnails, 0..1.

    Returns
    -------
    DataFrame
        ``image_id``, ``split``, ``other_id``, ``other_split``, ``similarity``: for each test image
        the most similar image of train or validation, for each validation image the most similar
        image of train, if their similarity reaches the threshold. Most similar pairs first.
    """
    vectors = compute_thumbnails(data.images)
    splits = data.records["split"].to_numpy(dtype=str)
    pairs = [(np.empty(0, int), np.empty(0, int), np.empty(0, np.float32))]
    for place, split in enumerate(SPLITS[1:], start=1):
        here = np.flatnonzero(splits == split)
        before = np.flatnonzero(np.isin(splits, SPLITS[:place]))
        if len(here) and len(before):
            rows, similarity = find_nearest(vectors[here], vectors[before])
            is_copy = similarity >= threshold
            pairs.append((here[is_copy], before[rows[is_copy]], similarity[is_copy]))
    first, second, similarity = map(np.concatenate, zip(*pairs, strict=True))
    return pd.DataFrame(
        {
            "image_id": data.image_ids[first],
            "split": splits[first],
            "other_id": data.image_ids[second],
            "other_split": splits[second],
            "similarity": similarity,
        }
    ).sort_values(["similarity", "image_id"], ascending=[False, True], ignore_index=True)


def find_subject_overlap(data: RadiographSet) -> pd.DataFrame:
    """Find subjects in more than one split: images per subject (rows) and split (columns).

    Images of unknown subjects are ignored.
    """
    known = data.records[data.records["subject_id"] != ""]
    splits = pd.Categorical(known["split"], categories=list(SPLITS))
    counts = pd.crosstab(known["subject_id"], splits, colnames=["split"], dropna=False)
    return counts[(counts > 0).sum(axis=1) > 1]

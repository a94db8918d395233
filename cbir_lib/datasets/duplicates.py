"""Images that are in a set twice: exactly, nearly, or as two images of one subject.

A near copy in another split is a leak: the test asks for what training has shown.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from cbir_lib.datasets.radiographs import SPLITS, RadiographSet

SIDE_PX = 16
# Measured on MedNIST. Of its 4,047 hands and chest films in the test split, 3 have one as similar
# as that among the 47,000 other images; the nearest of half of them stays below 0.95. Of copies of
# 1,200 images, those with grey values changed by up to 1 reach it in 99.8 % of cases, dimmed ones
# in 99.9 %, turned by one degree in 97 %, saved as JPEG of quality 50 in 96 %; but cropped by 1.6 %
# at each side in 34 % only. Slices of one CT or MR study are as similar as copies and are found
# too: two of three test images of abdomens have such a neighbour.
THRESHOLD = 0.99
BLOCK = 2048


def exact(images: np.ndarray) -> list[np.ndarray]:
    """Groups of images that are equal pixel by pixel.

    Parameters
    ----------
    images : (N, H, W) uint8

    Returns
    -------
    list of (K,) int64
        The rows of each group of two or more, ascending, in the order of their first rows.
    """
    digests = pd.Series([hashlib.sha256(image.tobytes()).digest() for image in images])
    twice = digests[digests.duplicated(keep=False)]
    groups = (np.asarray(rows) for rows in twice.groupby(twice).indices.values())
    return sorted((twice.index.to_numpy()[rows] for rows in groups), key=lambda rows: rows[0])


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Each image as a unit vector of its coarse shades, whatever its brightness and contrast.

    Parameters
    ----------
    images : (N, H, W) uint8
        Of any size; smaller sides than 16 pixels are spread.

    Returns
    -------
    (N, 256) float32
        Means over the cells of a 16 x 16 grid (exact areas, cells may divide pixels), minus their
        mean, over their norm: the product of two is their correlation, -1..1. A constant image is
        all zeros and correlates with nothing.
    """
    count, height, width = images.shape
    down, across = _areas(height), _areas(width)
    vectors = np.empty((count, SIDE_PX * SIDE_PX), dtype=np.float32)
    for start in range(0, count, BLOCK):
        block = images[start : start + BLOCK].astype(np.float32)
        vectors[start : start + BLOCK] = (down @ block @ across.T).reshape(len(block), -1)
    vectors -= vectors.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    # Rounding leaves a constant image less than 1e-3; one cell brighter by one grey value is 1.
    return np.where(norms > 1e-2, vectors / np.maximum(norms, 1e-2), 0.0)


def _areas(length: int) -> np.ndarray:
    """(16, length) float32: the share of each pixel in each cell; rows sum to 1."""
    edges = np.linspace(0, length, SIDE_PX + 1)
    pixels = np.arange(length)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    return (np.clip(high - low, 0, None) * (SIDE_PX / length)).astype(np.float32)


def nearest(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each query the most similar vector of the gallery: its row, and their product.

    Exact, in blocks. Parameters (Q, D) and (G, D) float32; returns (Q,) int64 and (Q,) float32.
    """
    best = np.full(len(queries), -np.inf, dtype=np.float32)
    rows = np.zeros(len(queries), dtype=np.int64)
    for start in range(0, len(queries), BLOCK):
        part = slice(start, start + BLOCK)
        for first in range(0, len(gallery), 4 * BLOCK):
            products = queries[part] @ gallery[first : first + 4 * BLOCK].T
            found = products.argmax(axis=1)
            highest = np.take_along_axis(products, found[:, None], axis=1)[:, 0]
            better = highest > best[part]
            rows[part][better] = first + found[better]
            best[part][better] = highest[better]
    return rows, best


def near_duplicates(data: RadiographSet, threshold: float = THRESHOLD) -> pd.DataFrame:
    """Images of validation and test that are all but in an earlier split too.

    Parameters
    ----------
    threshold
        Least correlation of the two 16 x 16 thumbnails, 0..1.

    Returns
    -------
    DataFrame
        ``image_id``, ``split``, ``other_id``, ``other_split``, ``similarity``: for each image of
        test the most similar one of train or validation, for each of validation the most similar
        of train, where they are as similar as that. Most similar pairs first.
    """
    vectors = thumbnails(data.images)
    splits = data.records["split"].to_numpy(dtype=str)
    pairs = [(np.empty(0, int), np.empty(0, int), np.empty(0, np.float32))]
    for place, split in enumerate(SPLITS[1:], start=1):
        here = np.flatnonzero(splits == split)
        before = np.flatnonzero(np.isin(splits, SPLITS[:place]))
        if len(here) and len(before):
            rows, similarity = nearest(vectors[here], vectors[before])
            found = similarity >= threshold
            pairs.append((here[found], before[rows[found]], similarity[found]))
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


def subject_overlap(data: RadiographSet) -> pd.DataFrame:
    """Subjects with images in more than one split: images per split (columns) and subject (rows).

    Images whose subject is not known are passed over.
    """
    known = data.records[data.records["subject_id"] != ""]
    splits = pd.Categorical(known["split"], categories=list(SPLITS))
    counts = pd.crosstab(known["subject_id"], splits, colnames=["split"], dropna=False)
    return counts[(counts > 0).sum(axis=1) > 1]

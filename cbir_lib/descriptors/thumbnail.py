"""Thumbnails: the image itself, made small; and a distance that tolerates small distortions."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import sobel
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.descriptors import thumbnail_loops
from cbir_lib.descriptors.blocks import map_blocks
from cbir_lib.errors import CbirError, check_integer
from cbir_lib.images.preprocessing import Preprocessing, check_images
from cbir_lib.loops import compile_loops

QUERIES = 64  # thumbnails compared at a time, at most


def compute_reference(query: np.ndarray, other: np.ndarray, warp: int, context: int) -> float:
    """Compute the image distortion between two (H, W) thumbnails, pixel by pixel.

    The definition of :func:`compute_image_distortion`, without its speed: Keysers, Deselaers,
    Gollan, Ney 2007, DOI 10.1109/TPAMI.2007.1153.
    """
    here, there = (
        np.pad(
            [sobel(image / 255 / 8, axis, mode="nearest") for axis in (1, 0)],
            ((0, 0), (context, context), (context, context)),
        )
        for image in (query, other)
    )
    height, width = query.shape
    side = 2 * context + 1
    total = 0.0
    for y, x in np.ndindex(height, width):
        total += min(
            (
                (here[:, y : y + side, x : x + side] - there[:, v : v + side, u : u + side]) ** 2
            ).sum()
            for v in range(max(0, y - warp), min(height, y + warp + 1))
            for u in range(max(0, x - warp), min(width, x + warp + 1))
        )
    return total


class Thumbnail(TransformerMixin, BaseEstimator):
    """The grey values of the image at a small size, as in Deselaers, Keysers, Ney (2004, 2008).

    Parameters
    ----------
    size : int
        Side of the thumbnail in pixels, 8 to 256. The baselines use 32.

    Notes
    -----
    Nothing is learned. The vector has ``size`` ² values, row by row, from 0 black to 1 white.
    Shrunk by area, enlarged bilinearly. DOI 10.1007/978-3-540-28649-3_28,
    10.1007/s10791-007-9039-3.
    """

    distance = "L2"

    def __init__(self, size: int = 32):
        self.size = size

    def check(self) -> None:
        """Refuse parameters out of range."""
        check_integer("size", self.size, 8, 256)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> Thumbnail:
        """Check the parameters; there is nothing to learn."""
        self.check()
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, size²) float32."""
        self.check()
        thumbnails = Preprocessing(self.size, clahe=False).transform(images)
        return thumbnails.reshape(len(thumbnails), -1) / np.float32(255)


class DistortedThumbnail(Thumbnail):
    """The same thumbnail, compared under the image distortion model."""

    distance = "image distortion"


def compute_image_distortion(
    queries: np.ndarray, gallery: np.ndarray, warp: int = 2, context: int = 1
) -> np.ndarray:
    """Compute distances under the image distortion model (Keysers, Deselaers, Gollan, Ney 2007).

    Each pixel of the query is explained by the best pixel nearby in the gallery's thumbnail:
    with g the gradient, a vector of two values,

    d(q, x) = sum over pixels i of min over |i' - i| <= warp of
    sum over |m| <= context of ‖g_q(i + m) - g_x(i' + m)‖²,

    where |.| is the larger of the two coordinates. Meant for re-ranking what a faster
    distance found: a pair takes (2 warp + 1)² times as long as without distortion.

    Parameters
    ----------
    queries : (Q, H, W) uint8
        Thumbnails, such as 32 x 32, or 32 x X with the aspect ratio kept; sides of 1 to 256 pixels.
    gallery : (G, H, W) uint8
        Thumbnails of the same size.
    warp : int
        How far a pixel may move, 0 to 8 pixels each way. The paper's 2 is a region of 5 x 5.
    context : int
        How many pixels around each are compared with it, 0 to 4 each way. The paper's 1 is 3 x 3.

    Returns
    -------
    (Q, G) float32
        0 or more, in squared grey values per pixel, grey from 0 to 1: at most
        4 H W (2 context + 1)² / 4.

    Raises
    ------
    CbirError
        When the thumbnails are not batches of one size, or a parameter is out of range.

    Notes
    -----
    Gradients are Sobel's, divided by 8, of the thumbnail continued by its border; outside the
    thumbnail they are 0. No pixel is explained by one outside the thumbnail. Zero between equal
    thumbnails, but not symmetric: two query pixels may take the same pixel of the gallery.
    The sums are of whole numbers, exact in float32 up to 2²⁴, which gradients of radiographs do not
    reach. DOI 10.1109/TPAMI.2007.1153.

    Differs from the paper: thumbnails have one size, so that pixels need no scaling to one another;
    no threshold on what one pixel may contribute.
    """
    check_integer("warp", warp, 0, 8)
    check_integer("context", context, 0, 4)
    queries, gallery = check_images(queries), check_images(gallery)
    if queries.shape[1:] != gallery.shape[1:] or max(queries.shape[1:]) > 256:
        raise CbirError(
            f"thumbnails of shapes {queries.shape} and {gallery.shape} cannot be compared",
            "give (Q, H, W) and (G, H, W) of the same sides, 1 to 256 pixels",
        )
    distances = np.empty((len(queries), len(gallery)), np.float32)
    for start in range(0, len(queries), QUERIES):
        part = slice(start, start + QUERIES)
        _compare(queries[part], gallery, warp, context, distances[part])
    distances /= (8 * 255) ** 2
    return distances


def _compare(
    queries: np.ndarray, gallery: np.ndarray, warp: int, context: int, distances: np.ndarray
) -> None:
    """Fill (Q, G) with sums of whole numbers, shift by shift."""
    here = pad_gradients(queries, warp + context)
    places = np.arange(queries.shape[1] * here.shape[3]) % here.shape[3]
    outside = np.zeros((2 * warp + 1, len(places)), np.float32)  # infinite where a shift leads out
    for shift in range(-warp, warp + 1):
        outside[shift + warp, (places < -shift) | (places >= queries.shape[2] - shift)] = np.inf

    def work(block: np.ndarray, part: slice) -> None:
        there = pad_gradients(block, warp + context)
        sums = np.empty((len(here), len(there)), np.float32)
        compile_loops(thumbnail_loops.sum_least)(here, there, warp, context, outside, sums)
        distances[:, part] = sums

    map_blocks(work, gallery, 16 * gallery[0].size)


def pad_gradients(thumbnails: np.ndarray, margin: int) -> np.ndarray:
    """Compute eight times the gradient of (N, H, W) uint8 thumbnails, in a margin of zeros.

    (N, 2, H + 2 margin, W + 2 margin) float32.
    """
    grey = np.pad(thumbnails.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    across, down = grey[:, :, 2:] - grey[:, :, :-2], grey[:, 2:] - grey[:, :-2]
    across = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    down = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    return np.pad(np.stack([across, down], 1), ((0, 0), (0, 0), (margin, margin), (margin, margin)))

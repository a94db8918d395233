"""The image itself, made small; and a distance between thumbnails that forgives distortions."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.descriptors.histogram import check_integer
from cbir_lib.errors import CbirError
from cbir_lib.preprocessing import Preprocessing, as_images

QUERIES, GALLERY = 64, 256  # thumbnails compared at a time, at most
VALUES = 2**23  # of their contexts, at most


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

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> Thumbnail:
        """Check the parameters; there is nothing to learn."""
        check_integer("size", self.size, 8, 256)
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 → (N, size²) float32."""
        self.fit(images)
        thumbnails = Preprocessing(self.size, clahe=False).transform(images)
        return thumbnails.reshape(len(thumbnails), -1) / np.float32(255)


@torch.inference_mode()
def image_distortion(
    queries: np.ndarray, gallery: np.ndarray, warp: int = 2, context: int = 1
) -> np.ndarray:
    """Distance under the image distortion model (Keysers, Deselaers, Gollan, Ney 2007).

    Each pixel of the query is explained by the best pixel of the gallery's thumbnail nearby:
    with g the gradient, a vector of two values,

    d(q, x) = sum over pixels i of min over |i' - i| <= warp of
    sum over |m| <= context of ‖g_q(i + m) - g_x(i' + m)‖²,

    where |.| is the larger of the two coordinates. Meant for ranking anew what a quicker distance
    found: a pair takes (2 warp + 1)² times as long as without distortion.

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
    queries, gallery = as_images(queries), as_images(gallery)
    if queries.shape[1:] != gallery.shape[1:] or max(queries.shape[1:]) > 256:
        raise CbirError(
            f"thumbnails of shapes {queries.shape} and {gallery.shape} cannot be compared",
            "give (Q, H, W) and (G, H, W) of the same sides, 1 to 256 pixels",
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    distances = torch.empty(len(queries), len(gallery))
    most = max(1, VALUES // (queries[0].size * 2 * (2 * context + 1) ** 2))
    q_block, g_block = min(QUERIES, most), min(GALLERY, most)
    for g in range(0, len(gallery), g_block):
        there = contexts(gallery[g : g + g_block], context, device)  # (H, W, n, K)
        norms = there.square().sum(-1, keepdim=True)
        # |q|² + |x|² - 2 q x as one product of vectors, of K + 2 values.
        there = torch.cat([-2 * there, torch.ones_like(norms), norms], -1).transpose(2, 3)
        for q in range(0, len(queries), q_block):
            here = contexts(queries[q : q + q_block], context, device)
            norms = here.square().sum(-1, keepdim=True)
            here = torch.cat([here, norms, torch.ones_like(norms)], -1)
            distances[q : q + q_block, g : g + g_block] = least_sums(here, there, warp)
    return (distances / (8 * 255) ** 2).numpy()


def least_sums(here: torch.Tensor, there: torch.Tensor, warp: int) -> torch.Tensor:
    """(H, W, Q, K) and (H, W, K, G) → (Q, G): of each pixel the least product nearby, summed."""
    height, width, queries, _ = here.shape
    total = here.new_zeros(queries, there.shape[-1])
    for y in range(height):
        least = here.new_full((width, queries, there.shape[-1]), torch.inf)
        for other in range(max(0, y - warp), min(height, y + warp + 1)):
            for right in range(-min(warp, width - 1), min(warp, width - 1) + 1):
                first, last = max(0, -right), min(width, width - right)
                part = torch.bmm(here[y, first:last], there[other, first + right : last + right])
                torch.minimum(least[first:last], part, out=least[first:last])
        total += least.clamp_(min=0).sum(0)
    return total


def contexts(thumbnails: np.ndarray, context: int, device: torch.device) -> torch.Tensor:
    """(N, H, W) uint8 → (H, W, N, 2 (2 context + 1)²): the gradients around each pixel.

    Whole numbers, -1020 to 1020: eight times the gradient.
    """
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=device)
    sobel = torch.stack([across, across.T])[:, None]
    grey = torch.from_numpy(thumbnails.astype(np.float32))[:, None].to(device)
    gradients = torch.nn.functional.conv2d(
        torch.nn.functional.pad(grey, (1, 1, 1, 1), mode="replicate"), sobel
    )
    windows = torch.nn.functional.unfold(gradients, 2 * context + 1, padding=context)
    return windows.unflatten(2, thumbnails.shape[1:]).permute(2, 3, 0, 1).contiguous()

"""The image itself, made small; and a distance between thumbnails that forgives distortions."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.descriptors.blocks import check_integer, compiled, device, each_block
from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing, as_images

QUERIES, GALLERY = 64, 256  # thumbnails compared at a time, at most
VALUES = 2**23  # of their contexts on a GPU, at most


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


class DistortedThumbnail(Thumbnail):
    """The same thumbnail, compared under the image distortion model."""

    distance = "image distortion"


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
    distances = np.empty((len(queries), len(gallery)), np.float32)
    compare = compare_contexts if device().type == "cuda" else compare_shifted
    for start in range(0, len(queries), QUERIES):
        part = slice(start, start + QUERIES)
        compare(queries[part], gallery, warp, context, distances[part])
    distances /= (8 * 255) ** 2
    return distances


# On a processor: shift by shift, the differences of all pixels, summed over contexts.


def compare_shifted(
    queries: np.ndarray, gallery: np.ndarray, warp: int, context: int, distances: np.ndarray
) -> None:
    """Fill (Q, G), in whole numbers."""
    here = padded_gradients(queries, warp + context)
    places = np.arange(queries.shape[1] * here.shape[3]) % here.shape[3]
    outside = np.zeros((2 * warp + 1, len(places)), np.float32)  # infinite, where a shift leads
    for shift in range(-warp, warp + 1):
        outside[shift + warp, (places < -shift) | (places >= queries.shape[2] - shift)] = np.inf

    def work(block: np.ndarray, part: slice) -> None:
        there = padded_gradients(block, warp + context)
        found = np.empty((len(here), len(there)), np.float32)
        compiled(sum_least)(here, there, warp, context, outside, found)
        distances[:, part] = found

    each_block(work, gallery, 16 * gallery[0].size)


def padded_gradients(thumbnails: np.ndarray, margin: int) -> np.ndarray:
    """(N, H, W) uint8 → (N, 2, H + 2 margin, W + 2 margin) float32, eight times the gradient."""
    grey = np.pad(thumbnails.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    across, down = grey[:, :, 2:] - grey[:, :, :-2], grey[:, 2:] - grey[:, :-2]
    across = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    down = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    return np.pad(np.stack([across, down], 1), ((0, 0), (0, 0), (margin, margin), (margin, margin)))


def sum_least(
    here: np.ndarray,
    there: np.ndarray,
    warp: int,
    context: int,
    outside: np.ndarray,
    found: np.ndarray,
) -> None:
    """(Q, 2, H', W') and (G, 2, H', W') padded gradients → (Q, G): the least sums, summed.

    Rows follow one another, so that one loop without a branch goes over a whole thumbnail; what
    lies in the margins is computed and not used.
    """
    stride = here.shape[3]
    height, width = here.shape[2] - 2 * (warp + context), stride - 2 * (warp + context)
    first = warp * stride + warp  # where the context of the pixel at the upper left begins
    rows = height + 2 * context
    apart = np.empty(rows * stride, np.float32)
    sums = np.empty(rows * stride, np.float32)
    least = np.empty(height * stride, np.float32)
    columns = np.empty(width, np.float32)
    for q in range(len(here)):
        for g in range(len(there)):
            least[:] = np.inf
            for down in range(max(-warp, 1 - height), min(warp, height - 1) + 1):
                top, bottom = max(0, -down), min(height, height - down)
                start = first + top * stride
                a = here[q, 0].reshape(-1)[start:]
                b = here[q, 1].reshape(-1)[start:]
                best = least[top * stride :]
                for right in range(-warp, warp + 1):
                    c = there[g, 0].reshape(-1)[start + down * stride + right :]
                    d = there[g, 1].reshape(-1)[start + down * stride + right :]
                    number = (bottom - top + 2 * context) * stride - 2 * warp
                    for i in range(number):
                        x, y = a[i] - c[i], b[i] - d[i]
                        apart[i] = x * x + y * y
                    number -= 2 * context * stride
                    for i in range(number):
                        sums[i] = apart[i]
                    for k in range(1, 2 * context + 1):
                        below = apart[k * stride :]
                        for i in range(number):
                            sums[i] += below[i]
                    number -= 2 * context
                    for i in range(number):
                        apart[i] = sums[i]
                    for k in range(1, 2 * context + 1):
                        beside = sums[k:]
                        for i in range(number):
                            apart[i] += beside[i]
                    wall = outside[right + warp]
                    for i in range(number):
                        x = apart[i] + wall[i]
                        best[i] = x if x < best[i] else best[i]
            columns[:] = 0
            for y in range(height):
                row = least[y * stride :]
                for x in range(width):
                    columns[x] += row[x]
            found[q, g] = columns.sum()


# On a GPU: pixel by pixel, products of all contexts with all.


@torch.inference_mode()
def compare_contexts(
    queries: np.ndarray, gallery: np.ndarray, warp: int, context: int, distances: np.ndarray
) -> None:
    """Fill (Q, G), in whole numbers."""
    where = device()
    most = max(1, VALUES // (queries[0].size * 2 * (2 * context + 1) ** 2))
    q_block, g_block = min(QUERIES, most), min(GALLERY, most)
    for g in range(0, len(gallery), g_block):
        there = contexts(gallery[g : g + g_block], context, where)  # (H, W, n, K)
        norms = there.square().sum(-1, keepdim=True)
        # |q|² + |x|² - 2 q x as one product of vectors, of K + 2 values.
        there = torch.cat([-2 * there, torch.ones_like(norms), norms], -1).transpose(2, 3)
        for q in range(0, len(queries), q_block):
            here = contexts(queries[q : q + q_block], context, where)
            norms = here.square().sum(-1, keepdim=True)
            here = torch.cat([here, norms, torch.ones_like(norms)], -1)
            sums = least_sums(here, there, warp)
            distances[q : q + q_block, g : g + g_block] = sums.cpu().numpy()


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


def contexts(thumbnails: np.ndarray, context: int, where: torch.device) -> torch.Tensor:
    """(N, H, W) uint8 → (H, W, N, 2 (2 context + 1)²): the gradients around each pixel.

    Whole numbers, -1020 to 1020: eight times the gradient.
    """
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=where)
    sobel = torch.stack([across, across.T])[:, None]
    grey = torch.from_numpy(thumbnails.astype(np.float32))[:, None].to(where)
    gradients = torch.nn.functional.conv2d(
        torch.nn.functional.pad(grey, (1, 1, 1, 1), mode="replicate"), sobel
    )
    windows = torch.nn.functional.unfold(gradients, 2 * context + 1, padding=context)
    return windows.unflatten(2, thumbnails.shape[1:]).permute(2, 3, 0, 1).contiguous()

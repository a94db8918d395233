"""Where an answer comes from: an image is covered patch by patch, and the network asked again."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from cbir_lib.errors import CbirError, is_integer
from cbir_lib.networks.modules import TrainedNetwork

BATCH = 128  # covered images at a time


def place_patches(side_px: int, patch_px: int, stride_px: int) -> np.ndarray:
    """Place the patch along a side: (S,) int64, first pixels; what is left over is at the ends.

    Parameters
    ----------
    side_px
        Of the image.
    patch_px
        Side of the patch, 1 to ``side_px``.
    stride_px
        From one place to the next, 1 or more.

    Raises
    ------
    CbirError
        When the patch or the stride is out of range.
    """
    if not is_integer(patch_px) or not 1 <= patch_px <= side_px:
        raise CbirError(
            f"a patch of {patch_px} px on an image of {side_px} px",
            f"give a whole number, 1 to {side_px} pixels",
        )
    if not is_integer(stride_px) or stride_px < 1:
        raise CbirError(f"a stride of {stride_px} px", "give a whole number, 1 pixel or more")
    room = side_px - patch_px
    return room % stride_px // 2 + np.arange(0, room + 1, stride_px)


def score_covered_images(
    trained: TrainedNetwork,
    images: np.ndarray,
    tops: np.ndarray,
    lefts: np.ndarray,
    *,
    patch_px: int,
    fill: float | None = None,
) -> np.ndarray:
    """Score images with one patch of each covered.

    Parameters
    ----------
    images : (N, H, W) uint8
        As they are; the network brings its own preprocessing.
    tops, lefts : (N,) int64
        First row and first column of each image's patch, in pixels of the network's input.
    patch_px
        Side of the patch in pixels of the network's input; at 0 nothing is covered.
    fill
        Grey value of the patch, 0 to 255; by default the mean image of the training set, which is
        zero after centring.

    Returns
    -------
    (N, classes) float32
        Before the softmax.
    """
    prepared = trained.prepare(images)
    where = np.arange(len(prepared)), np.asarray(tops), np.asarray(lefts)
    return _compute_scores(trained, prepared, *where, patch_px, fill)


def compute_log_odds(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Compute (N,) log(p / (1 - p)) of a class for each image, in nats.

    Parameters
    ----------
    scores : (N, classes)
        Before the softmax.
    classes : (N,) int64
    """
    rows = np.arange(len(scores))
    others = np.array(scores)
    others[rows, classes] = -np.inf
    return scores[rows, classes] - logsumexp(others, axis=1)


def measure_occlusion(
    trained: TrainedNetwork,
    images: np.ndarray,
    *,
    patch_px: int,
    stride_px: int,
) -> np.ndarray:
    """Measure how much the log-odds of the answer fall when a patch is covered, for every place.

    The patch slides over the preprocessed image, as in Zeiler and Fergus 2014,
    DOI 10.1007/978-3-319-10590-1_53. Differs from them: they cover with one grey and draw the
    probability, which hardly moves where an answer is nearly certain; here the patch is the mean
    image, and what is drawn the fall of the log-odds.

    Parameters
    ----------
    images : (N, H, W) uint8
        As they are; the network brings its own preprocessing.
    patch_px, stride_px
        Side of the patch, and from one place to the next, in pixels of the network's input.

    Returns
    -------
    (N, S, S) float32
        In nats, by row and column of :func:`place_patches`: positive where the network's answer is
        less probable when the patch is covered, negative where it is more probable.

    Raises
    ------
    CbirError
        When the patch or the stride is out of range.
    """
    prepared = trained.prepare(images)
    number = len(prepared)
    starts = place_patches(prepared.shape[-1], patch_px, stride_px)
    nowhere = np.zeros(number, np.int64)
    whole = _compute_scores(trained, prepared, np.arange(number), nowhere, nowhere, 0, None)
    answers = whole.argmax(1)
    shape = number, len(starts), len(starts)
    rows, down, across = (axis.ravel() for axis in np.indices(shape))
    left = _compute_scores(trained, prepared, rows, starts[down], starts[across], patch_px, None)
    before, after = compute_log_odds(whole, answers)[rows], compute_log_odds(left, answers[rows])
    return (before - after).reshape(shape)


@torch.inference_mode()
def _compute_scores(
    trained: TrainedNetwork,
    prepared: Tensor,
    rows: np.ndarray,
    tops: np.ndarray,
    lefts: np.ndarray,
    patch_px: int,
    fill: float | None,
) -> np.ndarray:
    """(M, classes) of M covered copies of preprocessed images, by their rows, in batches."""
    mean_image = trained.module.centre.mean_image
    prepared = prepared.to(mean_image.device)
    cover = mean_image if fill is None else torch.full_like(mean_image, fill)
    step = torch.arange(prepared.shape[-1], device=cover.device)
    parts = []
    for start in range(0, len(rows), BATCH):
        of_batch = slice(start, start + BATCH)
        row, top, left = (
            torch.as_tensor(part[of_batch], device=cover.device) for part in (rows, tops, lefts)
        )
        down, across = (
            (step >= first[:, None]) & (step < first[:, None] + patch_px) for first in (top, left)
        )
        patch = down[:, :, None] & across[:, None, :]
        parts.append(trained.module(torch.where(patch, cover, prepared[row].float())).cpu())
    return torch.cat(parts).numpy()

"""Image perturbations: rotation, noise, contrast, gamma and crop, with the anatomy unchanged.

Every function takes (N, H, W) uint8 and a level, and returns (N, H, W) uint8. At the neutral level
the images are returned unchanged, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from cbir_lib.errors import CbirError, is_number, unknown_name_error
from cbir_lib.images.motion import move
from cbir_lib.images.preprocessing import check_images

SEED = 0  # of the noise


def rotate(images: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate images counter-clockwise about their centre; what enters from outside is black."""
    return move(images, angle_deg=degrees)


def add_noise(images: np.ndarray, deviation: float) -> np.ndarray:
    """Add normal noise of this standard deviation in grey values; always the same noise."""
    noise = np.random.default_rng(SEED).standard_normal(images.shape, np.float32)
    return _round_to_grey(images + np.float32(deviation) * noise)


def scale_contrast(images: np.ndarray, factor: float) -> np.ndarray:
    """Scale the distances of grey values from their image's mean by this factor."""
    means = images.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return _round_to_grey(means + np.float32(factor) * (images - means))


def apply_gamma(images: np.ndarray, gamma: float) -> np.ndarray:
    """Raise grey values, as shares of white, to this power: below 1 brighter, above 1 darker."""
    curve = 255 * (np.arange(256) / 255) ** gamma
    return np.rint(curve).astype(np.uint8)[images]


def crop_and_enlarge(images: np.ndarray, share: float) -> np.ndarray:
    """Crop images to their centre, this share of each side, and enlarge it to the original size."""
    rows, columns = images.shape[1:]
    down, across = (max(1, round(share * side)) for side in (rows, columns))
    top, left = (rows - down) // 2, (columns - across) // 2
    middle = images[:, top : top + down, left : left + across]
    return np.stack(
        [cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR) for image in middle]
    )


class Perturbation(NamedTuple):
    """A perturbation: its function, the neutral level, the range of levels, and how to say one."""

    apply: Callable[[np.ndarray, float], np.ndarray]
    neutral: float
    low: float
    high: float
    unit: str  # for an axis
    phrase: str  # for a sentence: a format of the level


PERTURBATIONS = {
    "rotation": Perturbation(rotate, 0.0, -360.0, 360.0, "degrees", "{:g}°"),
    "noise": Perturbation(
        *(add_noise, 0.0, 0.0, 255.0),
        *("standard deviation, grey values of 255", "{:g} grey values"),
    ),
    "contrast": Perturbation(
        *(scale_contrast, 1.0, 0.0, 10.0),
        *("factor of the distance from the mean grey", "a factor of {:g}"),
    ),
    "gamma": Perturbation(
        *(apply_gamma, 1.0, 0.01, 100.0),
        *("exponent of the grey value", "an exponent of {:g}"),
    ),
    "crop": Perturbation(
        *(crop_and_enlarge, 1.0, 0.05, 1.0),
        *("share of each side that is left", "{:g} of each side"),
    ),
}


def perturb(images: np.ndarray, name: str, level: float) -> np.ndarray:
    """Apply one of ``PERTURBATIONS`` to images.

    >>> perturb(np.array([[[100, 200]]], np.uint8), "contrast", 0.5).tolist()
    [[[125, 175]]]

    Raises
    ------
    CbirError
        When there is no such perturbation, or the level is out of range.
    """
    check_level(name, level)
    return PERTURBATIONS[name].apply(check_images(images), level)


def check_level(name: str, level: float) -> None:
    """Refuse what is none of ``PERTURBATIONS``, and a level out of its range.

    Raises
    ------
    CbirError
        Naming the closest perturbation, or the range.
    """
    if name not in PERTURBATIONS:
        raise unknown_name_error("perturbation", name, PERTURBATIONS)
    perturbation = PERTURBATIONS[name]
    if not is_number(level) or not perturbation.low <= level <= perturbation.high:
        raise CbirError(
            f"{name} {level!r} is out of range",
            f"give {perturbation.low:g} to {perturbation.high:g}",
        )


def _round_to_grey(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)

"""What may be otherwise about an image of the same anatomy: turned, noisy, flat, cropped.

Every function takes (N, H, W) uint8 and a level, and returns (N, H, W) uint8. At its neutral level
an image comes back as it was, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from cbir_lib.errors import CbirError, unknown
from cbir_lib.images.preprocessing import as_images

SEED = 0  # of the noise


def rotated(images: np.ndarray, degrees: float) -> np.ndarray:
    """Turned about the middle, against the clock; what comes from outside is black."""
    rows, columns = images.shape[1:]
    turn = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), degrees % 360, 1.0)
    return np.stack([cv2.warpAffine(image, turn, (columns, rows)) for image in images])


def noisy(images: np.ndarray, deviation: float) -> np.ndarray:
    """With normal noise added, of this standard deviation in grey values; always the same noise."""
    noise = np.random.default_rng(SEED).standard_normal(images.shape, np.float32)
    return _as_grey(images + np.float32(deviation) * noise)


def contrasted(images: np.ndarray, factor: float) -> np.ndarray:
    """Grey values moved away from their image's mean by this factor, below 1 towards it."""
    means = images.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return _as_grey(means + np.float32(factor) * (images - means))


def brightened(images: np.ndarray, gamma: float) -> np.ndarray:
    """Grey values, as shares of white, raised to this power: below 1 brighter, above 1 darker."""
    curve = 255 * (np.arange(256) / 255) ** gamma
    return np.rint(curve).astype(np.uint8)[images]


def cropped(images: np.ndarray, share: float) -> np.ndarray:
    """The middle alone, this share of each side, enlarged to the size it was cut from."""
    rows, columns = images.shape[1:]
    down, across = (max(1, round(share * side)) for side in (rows, columns))
    top, left = (rows - down) // 2, (columns - across) // 2
    middle = images[:, top : top + down, left : left + across]
    return np.stack(
        [cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR) for image in middle]
    )


class Change(NamedTuple):
    """A way to change images: how, the level that changes nothing, those allowed, and the unit."""

    apply: Callable[[np.ndarray, float], np.ndarray]
    neutral: float
    low: float
    high: float
    unit: str


CHANGES = {
    "rotation": Change(rotated, 0.0, -360.0, 360.0, "degrees"),
    "noise": Change(noisy, 0.0, 0.0, 255.0, "standard deviation, grey values of 255"),
    "contrast": Change(contrasted, 1.0, 0.0, 10.0, "factor of the distance from the mean grey"),
    "gamma": Change(brightened, 1.0, 0.01, 100.0, "exponent of the grey value"),
    "crop": Change(cropped, 1.0, 0.05, 1.0, "share of each side that is left"),
}


def changed(images: np.ndarray, name: str, level: float) -> np.ndarray:
    """Images changed in one way of ``CHANGES``.

    Raises
    ------
    CbirError
        When there is no such change, or the level is out of its range.
    """
    if name not in CHANGES:
        raise unknown("change", name, CHANGES)
    change = CHANGES[name]
    if not change.low <= level <= change.high:
        raise CbirError(
            f"{name} {level:g} is out of range", f"give {change.low:g} to {change.high:g}"
        )
    return change.apply(as_images(images), level)


def _as_grey(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)

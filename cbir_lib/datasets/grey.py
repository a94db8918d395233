"""What the decoders share: the limits of an image, and from deep grey values to 8 bits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SMALLEST_PX = 8
LARGEST_PX = 100_000_000  # pixels in one image; above it, a file is a bomb rather than a radiograph


class Decoded(NamedTuple):
    """A grey image, or None; and what had to be done to it, or why there is none."""

    image: np.ndarray | None  # (H, W) uint8
    remark: str  # empty when the file was 8-bit grey as it should be


def size_fault(width: int, height: int) -> str:
    """Why an image of this size is refused; empty where it is not."""
    if width * height > LARGEST_PX:
        return f"{width} x {height} pixels, too large"
    if min(width, height) < SMALLEST_PX:
        return f"{width} x {height} pixels, too small"
    return ""


def stretch(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Linearly from ``low``..``high`` to 0..255, cut off outside; by default from their extremes.

    Parameters
    ----------
    values : (H, W) of any real type
        Finite. A constant image becomes black.
    low, high
        ``low`` becomes 0 and ``high`` 255; ``low`` may be the larger one.

    Returns
    -------
    (H, W) uint8
    """
    values = np.asarray(values, dtype=np.float64)
    low = values.min() if low is None else low
    high = values.max() if high is None else high
    scaled = (values - low) * (255.0 / ((high - low) or 1.0))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)

"""From the bytes of an image file to grey values."""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image

SMALLEST_PX = 8
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP")  # Pillow's other readers may start programs (EPS)
LARGEST_PX = 100_000_000  # pixels in one image; above it, a file is a bomb rather than a radiograph


class Decoded(NamedTuple):
    """A grey image, or None; and what had to be done to it, or why there is none."""

    image: np.ndarray | None  # (H, W) uint8
    remark: str  # empty when the file was 8-bit grey as it should be


def decode(data: bytes) -> Decoded:
    """Decode one PNG, JPEG, TIFF or WebP file to 8-bit grey.

    Colour becomes luminance (ITU-R 601). Deeper than 8 bits is stretched linearly from the image's
    own minimum and maximum to 0..255. Files that are empty, truncated, foreign, or smaller than
    8 x 8 pixels give no image.
    """
    if not data:
        return Decoded(None, "empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            if picture.width * picture.height > LARGEST_PX:
                return Decoded(None, f"{picture.width} x {picture.height} pixels, too large")
            picture.load()
    except Exception as error:  # Pillow's decoders raise a dozen types, one per format and fault
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else "damaged"
        return Decoded(None, reason)
    if min(picture.size) < SMALLEST_PX:
        return Decoded(None, f"{picture.width} x {picture.height} pixels, too small")
    if picture.mode == "L":
        return Decoded(np.asarray(picture), "")
    if picture.mode == "F" or picture.mode.startswith("I"):
        deep = np.asarray(picture, dtype=np.float64)
        if not np.isfinite(deep).all():
            return Decoded(None, "damaged")
        span = float(np.ptp(deep)) or 1.0
        grey = np.rint((deep - deep.min()) * (255.0 / span)).astype(np.uint8)
        return Decoded(grey, "more than 8 bits, stretched to 8")
    try:
        grey = np.asarray(picture.convert("L"))
    except ValueError:  # CIE Lab has no way to grey
        return Decoded(None, f"{picture.mode}, cannot be converted to grey")
    return Decoded(grey, f"{picture.mode}, converted to grey")


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """The image on a black square: longer side scaled to ``size`` pixels, proportions kept.

    Parameters
    ----------
    image : (H, W) uint8
    size
        Side of the square in pixels.

    Returns
    -------
    (size, size) uint8
        The image in the middle. Smaller images are enlarged (bilinear), larger ones averaged.
    """
    import cv2

    height, width = image.shape
    scale = size / max(height, width)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    if shape != (width, height):
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, shape, interpolation=way)
    height, width = image.shape
    square = np.zeros((size, size), dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = image
    return square

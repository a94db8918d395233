"""From the bytes of an image file to grey values."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from cbir_lib.datasets import dicom
from cbir_lib.datasets.grey import LARGEST_PX, SMALLEST_PX, Decoded, size_fault, stretch

__all__ = ["LARGEST_PX", "SMALLEST_PX", "Decoded", "decode", "fit"]

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP")  # Pillow's other readers may start programs (EPS)
WHITE_IS_ZERO = 0  # TIFF 6.0, PhotometricInterpretation (tag 262)


def decode(data: bytes) -> Decoded:
    """Decode one PNG, JPEG, TIFF, WebP or DICOM file to 8-bit grey.

    Colour becomes luminance (ITU-R 601). Deeper than 8 bits is stretched linearly from the image's
    own minimum and maximum to 0..255. Files that are empty, truncated, foreign, smaller than
    8 x 8 pixels or larger than ``LARGEST_PX`` give no image. For DICOM see
    :func:`cbir_lib.datasets.dicom.decode`.
    """
    if not data:
        return Decoded(None, "empty file")
    if dicom.is_dicom(data):
        return dicom.decode(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            if fault := size_fault(*picture.size):
                return Decoded(None, fault)
            picture.load()
    except Image.DecompressionBombError:  # Pillow's own limit, before a pixel is decoded
        return Decoded(None, f"more than {LARGEST_PX:,} pixels, too large")
    except Exception as error:  # Pillow's decoders raise a dozen types, one per format and fault
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else "damaged"
        return Decoded(None, reason)
    if picture.mode == "L":
        return Decoded(np.asarray(picture), "")
    if picture.mode == "F" or picture.mode.startswith("I"):
        deep = np.asarray(picture, dtype=np.float64)
        if not np.isfinite(deep).all():
            return Decoded(None, "damaged")
        # Pillow heeds this at 8 bits, and not above.
        if picture.format == "TIFF" and picture.tag_v2.get(262) == WHITE_IS_ZERO:
            return Decoded(
                stretch(-deep), "more than 8 bits, white is zero, inverted, stretched to 8"
            )
        return Decoded(stretch(deep), "more than 8 bits, stretched to 8")
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

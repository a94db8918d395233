"""Motion of what an image shows: rotated, scaled and shifted in its frame."""

from __future__ import annotations

import cv2
import numpy as np

from cbir_lib.images.preprocessing import check_images


def move(
    images: np.ndarray,
    *,
    angle_deg: float = 0.0,
    scale: float = 1.0,
    right_px: float = 0.0,
    down_px: float = 0.0,
) -> np.ndarray:
    """Rotate and scale images about their centre, then shift them; what enters is black.

    Parameters
    ----------
    images : (N, H, W) uint8
    angle_deg
        Counter-clockwise.
    scale
        Above 0; below 1 smaller.
    right_px, down_px
        The shift.

    Returns
    -------
    (N, H, W) uint8
        Interpolated bilinearly; whole pixels and right angles of square images are exact.
    """
    images = check_images(images)
    rows, columns = images.shape[1:]
    matrix = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), angle_deg % 360, scale)
    matrix[:, 2] += right_px, down_px
    return np.stack([cv2.warpAffine(image, matrix, (columns, rows)) for image in images])

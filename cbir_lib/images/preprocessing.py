"""Preprocessing of images for the descriptors: size, contrast, and the mean image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cbir_lib.errors import CbirError, check_integer, check_switch, is_number


@dataclass(frozen=True)
class Preprocessing:
    """Resizing to a square and, optionally, local contrast equalisation (CLAHE).

    The same object serves training and search. The mean image is not subtracted here but by the
    network's first layer, because images are passed on as uint8.

    >>> images = np.zeros((2, 200, 160), np.uint8)
    >>> Preprocessing(size=64).transform(images).shape
    (2, 64, 64)

    Parameters
    ----------
    size : int
        Side of the square in pixels, 8 to 1024. The paper uses 128. The aspect ratio is not kept,
        as in the paper.
    clahe : bool
        Contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994), as
        implemented in OpenCV.
    clip_limit : float
        A tile's histogram is clipped at this multiple of its mean bin, above 0; at the maximum,
        256, nothing is clipped. The paper names no value.
    tile_px : int
        Side of a tile in pixels, 8 or more; a tile never exceeds the image.
    """

    size: int = 128
    clahe: bool = True
    clip_limit: float = 2.0
    tile_px: int = 16

    def __post_init__(self):
        check_integer("size", self.size, 8, 1024)
        check_switch("clahe", self.clahe)
        if not is_number(self.clip_limit) or not 0 < self.clip_limit <= 256:
            raise CbirError(
                f"clip_limit {self.clip_limit!r} is out of range", "give more than 0, at most 256"
            )
        check_integer("tile_px", self.tile_px, 8)

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Resize (N, H, W) to (N, size, size) uint8, by area or to enlarge bilinearly; equalise."""
        images = check_images(images)
        tiles = max(1, self.size // self.tile_px)
        equalise = cv2.createCLAHE(self.clip_limit, (tiles, tiles)).apply if self.clahe else None
        result = np.empty((len(images), self.size, self.size), np.uint8)
        for image, target in zip(images, result, strict=True):
            if image.shape != target.shape:
                shrinks = image.shape[0] >= self.size and image.shape[1] >= self.size
                method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
                image = cv2.resize(image, target.shape, interpolation=method)
            target[...] = equalise(image) if equalise else image
        return result


def compute_mean_image(images: np.ndarray) -> np.ndarray:
    """Compute the mean of (N, H, W) uint8 training images: (H, W) float32, grey values 0..255."""
    return check_images(images).mean(axis=0, dtype=np.float64).astype(np.float32)


def check_images(images: np.ndarray) -> np.ndarray:
    """Return the argument as an array if it is a batch of grey images.

    Raises
    ------
    CbirError
        When it is not (N, H, W) uint8, or contains no image.
    """
    images = np.asanyarray(images)
    if images.dtype != np.uint8 or images.ndim != 3 or 0 in images.shape:
        raise CbirError(
            f"expected images of shape (N, H, W) and type uint8, got {images.shape} {images.dtype}",
            "give at least one grey image, 0 black to 255 white",
        )
    return images

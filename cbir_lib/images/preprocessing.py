"""Size, contrast and mean image: what every image goes through before a descriptor sees it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np

from cbir_lib.errors import CbirError


@dataclass(frozen=True)
class Preprocessing:
    """Resize to a square and, if wanted, equalise the contrast locally (CLAHE).

    The same object serves training and search. The mean image is not subtracted here but by the
    network's first layer, because images travel as uint8.

    Parameters
    ----------
    size : int
        Side of the square in pixels, 8 to 1024. The paper uses 128. The aspect ratio is given up,
        as in the paper.
    clahe : bool
        Contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994), as
        OpenCV has it.
    clip_limit : float
        A tile's histogram is clipped at this multiple of its mean bin, above 0; at 256, the most,
        nothing is clipped. The paper names no value.
    tile_px : int
        Side of a tile in pixels; a tile never covers less than 8 pixels or more than the image.
    """

    size: int = 128
    clahe: bool = True
    clip_limit: float = 2.0
    tile_px: int = 16

    def __post_init__(self):
        if not 8 <= self.size <= 1024:
            raise CbirError(f"size {self.size} px is out of range", "give 8 to 1024 pixels")
        if not 0 < self.clip_limit <= 256:
            raise CbirError(
                f"clip_limit {self.clip_limit} is out of range", "give more than 0, at most 256"
            )
        if not self.tile_px >= 8:
            raise CbirError(f"tile_px {self.tile_px} is out of range", "give 8 pixels or more")

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 → (N, size, size) uint8; shrinks by area, enlarges bilinearly."""
        images = as_images(images)
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

    def to_dict(self) -> dict:
        """The parameters, as plain data."""
        return asdict(self)


def mean_image(images: np.ndarray) -> np.ndarray:
    """(N, H, W) uint8 → (H, W) float32, in grey values 0..255. Give it the training images only."""
    return as_images(images).mean(axis=0, dtype=np.float64).astype(np.float32)


def as_images(images: np.ndarray) -> np.ndarray:
    """The argument, if it is a batch of grey images.

    Raises
    ------
    CbirError
        When it is not (N, H, W) uint8 or has no image.
    """
    images = np.asanyarray(images)
    if images.dtype != np.uint8 or images.ndim != 3 or 0 in images.shape:
        raise CbirError(
            f"expected images of shape (N, H, W) and type uint8, got {images.shape} {images.dtype}",
            "give at least one grey image, 0 black to 255 white",
        )
    return images

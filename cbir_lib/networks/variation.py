"""Variation: training images as other devices, doses and positions would have shown them.

A simulated radiograph is taken by one device with a few habits. What differs between clinics is
drawn anew for every image of a batch, each quantity uniformly between its limits, in the order of
its cause: geometry, focal spot, collimator, exposure, quantum noise, detector, processing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbir_lib.errors import unknown_name_error

WHITE = 255.0


def magnify(images: Tensor, factors: Tensor) -> Tensor:
    """Enlarge each (S, S) image about its centre by its factor; below 1, the border is black."""
    matrices = images.new_zeros(len(images), 2, 3)
    matrices[:, 0, 0] = matrices[:, 1, 1] = 1 / factors
    shape = (len(images), 1, *images.shape[1:])
    grid = functional.affine_grid(matrices, list(shape), align_corners=False)
    moved = functional.grid_sample(images[:, None], grid, align_corners=False)
    return moved[:, 0]


def blur(images: Tensor, deviations: Tensor) -> Tensor:
    """Blur each image with a normal kernel of its standard deviation, in pixels."""
    reach = math.ceil(3 * float(deviations.max()))
    if reach == 0:
        return images
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    spread = deviations[:, None].clamp(min=1e-3)
    kernels = torch.exp(-0.5 * (places / spread) ** 2)  # (N, K)
    kernels /= kernels.sum(1, keepdim=True)
    padded = functional.pad(images[None], (reach,) * 4, mode="replicate")
    across = functional.conv2d(padded, kernels[:, None, None], groups=len(images))
    return functional.conv2d(across, kernels[:, None, :, None], groups=len(images))[0]


def collimate(images: Tensor, shares: Tensor) -> Tensor:
    """Blacken the borders: ``shares`` (N, 4) of the side, at left, right, top and bottom."""
    side = images.shape[-1]
    places = (torch.arange(side, device=images.device) + 0.5) / side
    left, right, top, bottom = shares[:, :, None].unbind(1)  # (N, 1) each
    open_columns = (places >= left) & (places <= 1 - right)  # (N, S)
    open_rows = (places >= top) & (places <= 1 - bottom)
    return images * (open_rows[:, :, None] & open_columns[:, None, :])


def expose(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply grey values by a factor for each image; above white they saturate."""
    return (images * factors[:, None, None]).clamp(0, WHITE)


def add_noise(images: Tensor, deviations: Tensor) -> Tensor:
    """Add normal noise with a standard deviation for each image, in grey values of 255."""
    noise = torch.randn_like(images)
    return (images + deviations[:, None, None] * noise).clamp(0, WHITE)


def coarsen(images: Tensor, shares: Tensor) -> Tensor:
    """Average images to a share of their pixels a side, and enlarge them again.

    One detector for the batch: the share of its first image.
    """
    side = images.shape[-1]
    pixels = max(1, round(float(shares[0]) * side))
    small = functional.interpolate(images[:, None], size=pixels, mode="area")
    return functional.interpolate(small, size=side, mode="bilinear", align_corners=False)[:, 0]


def scale_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Scale the distances of grey values from their image's mean by a factor for each image."""
    means = images.mean((1, 2), keepdim=True)
    return (means + factors[:, None, None] * (images - means)).clamp(0, WHITE)


def apply_gamma(images: Tensor, exponents: Tensor) -> Tensor:
    """Raise grey values, as shares of white, to a power for each image."""
    return WHITE * (images / WHITE) ** exponents[:, None, None]


def invert(images: Tensor, draws: Tensor) -> Tensor:
    """Exchange black and white where the draw is positive."""
    return torch.where((draws > 0)[:, None, None], WHITE - images, images)


class Kind(NamedTuple):
    """A quantity that varies: its function, its limits, their unit, and values drawn an image."""

    apply: Callable[[Tensor, Tensor], Tensor]
    low: float
    high: float
    unit: str
    values: int = 1
    logarithmic: bool = False  # a factor: half and twice are as far away


# In the order of their causes.
VARIATIONS = {
    "magnification": Kind(magnify, 0.8, 1.25, "factor of lengths", logarithmic=True),
    "blur": Kind(blur, 0.0, 1.2, "standard deviation, pixels"),
    "collimation": Kind(collimate, 0.0, 0.15, "share of the side, at each border", values=4),
    "exposure": Kind(expose, 0.6, 1.6, "factor of grey values", logarithmic=True),
    "noise": Kind(add_noise, 0.0, 16.0, "standard deviation, grey values of 255"),
    "resolution": Kind(coarsen, 0.5, 1.0, "share of the pixels of a side"),
    "contrast": Kind(
        scale_contrast, 0.5, 1.6, "factor of the distance from the mean grey", logarithmic=True
    ),
    "gamma": Kind(apply_gamma, 0.5, 2.0, "exponent of the grey value", logarithmic=True),
    "inversion": Kind(invert, -1.0, 1.0, "inverted where positive"),
}


class Variation(nn.Module):
    """A layer that varies grey values at random in training, and leaves them alone otherwise.

    What is random comes from torch's generator of the images' device.

    Parameters
    ----------
    names
        Of ``VARIATIONS``; applied in the order of that table.

    Raises
    ------
    CbirError
        When a name is unknown.
    """

    def __init__(self, names: Sequence[str]):
        super().__init__()
        for name in names:
            if name not in VARIATIONS:
                raise unknown_name_error("variation", name, VARIATIONS)
        self.names = [name for name in VARIATIONS if name in names]

    def extra_repr(self) -> str:
        # The text of a network tells a checkpoint of one training from that of another.
        return ", ".join(self.names)

    def forward(self, images: Tensor) -> Tensor:
        """Vary (N, S, S) uint8 grey values in training: (N, S, S) float32, 0..255."""
        if not self.training:
            return images
        varied = images.float()
        with torch.autocast(images.device.type, enabled=False):  # 8 bits would be left
            for kind in map(VARIATIONS.get, self.names):
                varied = kind.apply(varied, self._draw(kind, varied))
        return varied

    def _draw(self, kind: Kind, images: Tensor) -> Tensor:
        """Draw a value, or several, for each image: (N,), or (N, values)."""
        shape = (len(images), kind.values) if kind.values > 1 else (len(images),)
        share = torch.rand(shape, device=images.device)
        if kind.logarithmic:
            return kind.low * (kind.high / kind.low) ** share
        return kind.low + (kind.high - kind.low) * share

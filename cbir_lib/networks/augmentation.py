"""Augmentation: training images turned and cropped at random, whole batches at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cbir_lib.errors import CbirError, is_integer


def move_images(images: Tensor, turns: Tensor, tops: Tensor, lefts: Tensor, side: int) -> Tensor:
    """Turn, then crop each image of a batch in its own way; pixels are only copied.

    Equals ``numpy.rot90(image, turn)[top : top + side, left : left + side]``.

    Parameters
    ----------
    images : (N, C, S, S)
        Of any type, on any device.
    turns : (N,) int64
        Quarter turns against the clock, 0 to 3.
    tops, lefts : (N,) int64
        Corner of the crop in the turned image, 0 to S - side.
    side
        Of the crop, in pixels.

    Returns
    -------
    (N, C, side, side)
    """
    number, channels, size, _ = images.shape
    steps = torch.arange(side, device=images.device)
    down = tops[:, None] + steps  # (N, side), row in the turned image
    across = lefts[:, None] + steps
    # Where a pixel of the turned image was before: a quarter turn takes (r, c) from (c, S - 1 - r).
    odd, turns = (turns % 2 == 1)[:, None, None], turns[:, None, None]
    down, across = down[:, :, None], across[:, None, :]
    rows, columns = torch.where(odd, across, down), torch.where(odd, down, across)
    rows = torch.where(turns >= 2, size - 1 - rows, rows)
    columns = torch.where((turns == 1) | (turns == 2), size - 1 - columns, columns)
    places = (rows * size + columns).reshape(number, 1, side * side)
    flat = images.reshape(number, channels, size * size)
    return flat.gather(2, places.expand(-1, channels, -1)).view(number, channels, side, side)


class Augmentation(nn.Module):
    """A layer that moves images at random in training, and takes the centre of the crop otherwise.

    The paper turns by 90, 180 and 270 degrees and crops at random, without a number for the crop.
    What is random comes from torch's generator of the images' device.

    Parameters
    ----------
    size
        Side of the input in pixels.
    turns
        Turn by 0 to 3 quarters, each with the same probability.
    crop
        Side of the crop in pixels; None takes the whole image.
    shifts
        Whether the crop lies anywhere in training, or always at the centre.

    Raises
    ------
    CbirError
        When the crop is larger than the image or empty.
    """

    def __init__(
        self,
        size: int,
        *,
        turns: bool = False,
        crop: int | None = None,
        shifts: bool = False,
    ):
        super().__init__()
        self.side = size if crop is None else crop
        if not is_integer(self.side) or not 1 <= self.side <= size:
            raise CbirError(
                f"a crop of {crop} px from an image of {size} px",
                f"give a whole number, 1 to {size} pixels",
            )
        self.size, self.turns, self.shifts = size, turns, shifts

    def extra_repr(self) -> str:
        # The text of a network tells a checkpoint of one training from that of another.
        return f"{self.size}, crop={self.side}, turns={self.turns}, shifts={self.shifts}"

    def forward(self, images: Tensor) -> Tensor:
        """Move (N, C, size, size) in training, and cut out (N, C, crop, crop)."""
        room = self.size - self.side
        if not (self.training and (self.turns or (self.shifts and room))):
            corner = room // 2
            return images[..., corner : corner + self.side, corner : corner + self.side]

        def drawn(low: int, high: int) -> Tensor:
            return torch.randint(low, high, (len(images),), device=images.device)

        corners = (0, room + 1) if self.shifts else (room // 2, room // 2 + 1)
        turns = drawn(0, 4 if self.turns else 1)
        drawn(0, 1)  # for nothing: the published networks were trained with this draw
        tops, lefts = drawn(*corners), drawn(*corners)
        moved = move_images(images, turns, tops, lefts, self.side)
        return moved.contiguous(memory_format=torch.channels_last)

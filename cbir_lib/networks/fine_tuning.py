"""Training EfficientNet-Lite0 further, from the weights that others have trained on photographs."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbir_lib.networks.efficientnet import CENTRE, CHANNELS, RANGE, load_network

# What learns, and the number of blocks before it: the stem, sixteen blocks, the head.
PARTS = {"last stage": 16, "whole network": 0}


class FineTuned(nn.Module):
    """The pretrained network with a new linear layer for the classes at hand.

    Takes (B, H, W) uint8, enlarges or reduces it to ``size``, and gives (B, classes) scores. The
    average of the head's channels goes into the linear layer, which starts at zero: the first step
    pulls no weight of the network in a random direction.

    Batch normalisation has been folded into the convolutions, so that its statistics stay those of
    the photographs.
    """

    def __init__(self, classes: int, size: int, learns: Literal["last stage", "whole network"]):
        super().__init__()
        network = copy.deepcopy(load_network(torch.device("cpu"), "float32"))
        self.size = size
        self.frozen = network[: PARTS[learns]]
        self.learning = network[PARTS[learns] :].requires_grad_(True)
        self.scores = nn.Linear(CHANNELS, classes)
        nn.init.zeros_(self.scores.weight)
        nn.init.zeros_(self.scores.bias)

    def forward(self, images: Tensor) -> Tensor:
        grey = images[:, None].float()
        if images.shape[-1] != self.size:
            square = (self.size, self.size)
            grey = functional.interpolate(grey, square, mode="bilinear", antialias=True)
        maps = grey.sub(CENTRE).div(RANGE).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            maps = self.frozen(maps)
        return self.scores(self.learning(maps).mean((2, 3)))

"""What the layers of a trained network pass on: activations, their maps, and where they peak."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cbir_lib.networks import architectures
from cbir_lib.networks.architectures import Layer
from cbir_lib.networks.modules import TrainedNetwork

BATCH = 100
RELU = "relu_"  # before the name of a layer: its module after the activation


@dataclass(frozen=True)
class Activations:
    """What images do to a network.

    Attributes
    ----------
    scores : (N, classes) float32
        Before the softmax.
    layers
        One row per layer with a ReLU: ``channels``, ``never active``, the number of channels or
        units that are 0 for all images and everywhere, and ``active``, the mean share of values
        above 0.
    """

    scores: np.ndarray
    layers: pd.DataFrame


def crop_input(trained: TrainedNetwork, images: np.ndarray) -> np.ndarray:
    """Return images as the first convolution gets them, before centring: (N, S, S) uint8.

    Prepared, and without the border that a network trained on crops leaves out.
    """
    prepared = trained.preprocessing.transform(images)
    side = trained.options.get("crop") or prepared.shape[-1]
    corner = (prepared.shape[-1] - side) // 2
    return prepared[:, corner : corner + side, corner : corner + side]


def get_layers(trained: TrainedNetwork) -> dict[str, Layer]:
    """Return the layers of a trained network by name, with shapes for its input."""
    side = trained.options.get("crop") or trained.preprocessing.size
    return {
        layer.name: layer
        for layer in architectures.list_layers(
            trained.name,
            classes=len(trained.class_names),
            size=side,
            reading=trained.options["reading"],
            bits=trained.options.get("bits"),
        )
    }


@torch.inference_mode()
def measure_activations(trained: TrainedNetwork, images: np.ndarray) -> Activations:
    """Pass images (N, H, W) uint8 through every layer, and measure what is active."""
    prepared = trained.prepare(images)
    highest: dict[str, Tensor] = {}
    shares: dict[str, Tensor] = {}
    scores = []
    for values in prepared.split(BATCH):
        for name, module in trained.module.named_children():
            values = module(values)
            if name.startswith(RELU):
                layer = name.removeprefix(RELU)
                places = values.flatten(2) if values.ndim > 2 else values[:, :, None]
                most = places.amax((0, 2))
                highest[layer] = torch.maximum(highest.get(layer, most), most)
                shares[layer] = shares.get(layer, 0) + (places > 0).float().mean(2).sum(0)
        scores.append(values)
    rows = {
        layer: {
            "channels": len(most),
            "never active": int((most <= 0).sum()),
            "active": float(shares[layer].mean() / len(prepared)),
        }
        for layer, most in highest.items()
    }
    return Activations(torch.cat(scores).numpy(), pd.DataFrame.from_dict(rows, orient="index"))


def list_stages(trained: TrainedNetwork) -> list[str]:
    """Return the names of the first convolution, and of the last one before each pooling."""
    spatial = [layer for layer in get_layers(trained).values() if len(layer.shape) == 3]
    last = [
        layer.name
        for layer, following in pairwise(spatial)
        if following.kind == "P" and layer.kind != "P"
    ]
    return list(dict.fromkeys([spatial[0].name, *last]))


@torch.inference_mode()
def extract_maps(
    trained: TrainedNetwork, images: np.ndarray, layers: Collection[str]
) -> dict[str, np.ndarray]:
    """Return the maps of some convolutions after their ReLU: (N, C, h, w) float32, by layer."""
    maps, values = {}, trained.prepare(images)
    for name, module in trained.module.named_children():
        values = module(values)
        if name.startswith(RELU) and name.removeprefix(RELU) in layers:
            maps[name.removeprefix(RELU)] = values.numpy()
    return maps


def select_channels(maps: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Select of each layer the channel that varies most over images and places."""
    return {name: int(values.std((0, 2, 3)).argmax()) for name, values in maps.items()}


def find_peaks(values: np.ndarray, side_px: int) -> np.ndarray:
    """Find where each map is brightest: (N, 2), row and column of the centre in the input.

    Parameters
    ----------
    values : (N, h, h)
    side_px
        Side of the input; one value of a map stands for a square of ``side_px // h`` pixels.
    """
    stride = side_px // values.shape[-1]
    first = values.reshape(len(values), -1).argmax(1)
    places = np.stack(np.unravel_index(first, values.shape[1:]), axis=1)
    return (places + 0.5) * stride - 0.5

"""What follows from the architectures: layers, sizes, parameters and cost, as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from cbir_lib.networks.architectures import NETWORKS, Layer, list_layers


def tabulate_architectures() -> pd.DataFrame:
    """Return the paper's Tables 1 and 2: a row per network, with its layers, n and classes."""
    rows = {
        name: {
            "layers": " ".join(network.layers),
            "FC-n": network.named,
            "classes in the paper": " or ".join(map(str, network.classes)),
        }
        for name, network in NETWORKS.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")


def tabulate_costs(classes: int, size: int) -> pd.DataFrame:
    """Return a row per network: convolutions, receptive field, parameters, multiply-adds.

    For an input of ``size`` pixels a side. The receptive field is that of the last feature map;
    parameters and multiply-adds are in millions.
    """
    rows = {}
    for name in NETWORKS:
        of_network = list(list_layers(name, classes=classes, size=size))
        convolutions = [layer for layer in of_network if layer.kind.startswith("c")]
        total = sum(layer.parameters for layer in of_network)
        rows[name] = {
            "convolutions": len(convolutions),
            "receptive field (px)": _find_last_map(of_network).receptive_field_px,
            "parameters (million)": total / 1e6,
            "of them convolutional (%)": 100 * sum(c.parameters for c in convolutions) / total,
            "multiply-adds (million)": sum(layer.multiply_adds for layer in of_network) / 1e6,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")


def tabulate_flattened(sizes: Sequence[int], classes: int = 5) -> pd.DataFrame:
    """Return the values of the last feature map at some input sizes, next to the n of FC-n."""
    rows = {}
    for name, network in NETWORKS.items():
        values = {
            f"flattened at {size} px": math.prod(
                _find_last_map(list(list_layers(name, classes=classes, size=size))).shape
            )
            for size in sizes
        }
        equal = [
            f"{size} px" for size in sizes if values[f"flattened at {size} px"] == network.named
        ]
        rows[name] = {"FC-n": network.named} | values | {"equal at": ", ".join(equal) or "neither"}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")


def _find_last_map(of_network: Sequence[Layer]) -> Layer:
    return [layer for layer in of_network if len(layer.shape) == 3][-1]

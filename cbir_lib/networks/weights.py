"""What training does to weights: the parts of filters, and how far layers have moved."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from cbir_lib.networks.modules import TrainedNetwork, reset_weights

PARTS = ("mean", "edge", "line or spot")


def split_energy(filters: np.ndarray) -> pd.DataFrame:
    """Split the energy of filters, their sum of squares, into three parts that do not overlap.

    ``mean``, which responds to brightness; ``edge``, the part that changes its sign when the filter
    is rotated by 180 degrees; ``line or spot``, the rest, which does not change.

    Parameters
    ----------
    filters : (F, S, S)

    Returns
    -------
    DataFrame
        One row per filter, shares that sum to 1; all 0 for a filter that is 0.
    """
    side = filters.shape[-1]
    energy = (filters**2).sum((1, 2))
    odd = (((filters - filters[:, ::-1, ::-1]) / 2) ** 2).sum((1, 2))
    flat = filters.sum((1, 2)) ** 2 / side**2
    parts = np.stack([flat, odd, energy - flat - odd], axis=1)
    return pd.DataFrame(parts / np.maximum(energy, 1e-12)[:, None], columns=list(PARTS))


def expect_energy(side: int) -> dict[str, float]:
    """Return the shares of :func:`split_energy` to expect of independent random weights."""
    return dict(zip(PARTS, (1 / side**2, *[(side**2 - 1) / 2 / side**2] * 2), strict=True))


@torch.no_grad()
def measure_training_changes(trained: TrainedNetwork, seed: int) -> pd.DataFrame:
    """Measure how far training moved the weights of each layer from where they started.

    The seed of the run draws the same first weights again.

    Returns
    -------
    DataFrame
        One row per layer with weights: ``moved``, the length of the change as a share of the length
        at the start, and ``correlation`` of the weights with those at the start.
    """
    start = reset_weights(trained, seed).module
    rows = {}
    for name, module in trained.module.named_children():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            first, last = getattr(start, name).weight, module.weight.cpu()
            both = torch.stack([first.flatten(), last.flatten()])
            rows[name] = {
                "moved": float((last - first).norm() / first.norm()),
                "correlation": float(torch.corrcoef(both)[0, 1]),
            }
    return pd.DataFrame.from_dict(rows, orient="index")

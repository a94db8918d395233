"""Batch normalisation with the statistics of other images than the network was trained on.

Y. Li, N. Wang, J. Shi, X. Hou, J. Liu: Adaptive batch normalization for practical domain
adaptation. Pattern Recognition 80, 2018. DOI 10.1016/j.patcog.2018.03.005
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from cbir_lib.errors import CbirError
from cbir_lib.networks.modules import TrainedNetwork

BATCH = 256


def has_batch_norm(trained: TrainedNetwork) -> bool:
    """Return whether there are statistics to replace."""
    return any(isinstance(module, nn.BatchNorm2d) for module in trained.module)


@torch.no_grad()
def adapt_statistics(trained: TrainedNetwork, images: np.ndarray) -> TrainedNetwork:
    """Return the same network with mean and variance of each channel taken from these images.

    They need no labels. The means and variances are those of batches of about 256 images, averaged;
    each layer sees what the layers before it give with those of the batch.

    Parameters
    ----------
    images : (N, H, W) uint8

    Raises
    ------
    CbirError
        When the network has no batch normalisation, or there are fewer than two images.
    """
    if not has_batch_norm(trained):
        raise CbirError(
            f"network {trained.name} has no batch normalisation: there are no statistics to adapt",
            "give one that was trained with batch_norm",
        )
    if len(images) < 2:
        raise CbirError(f"{len(images)} images have no variance", "give two or more")
    module = copy.deepcopy(trained.module).eval()
    for part in module:
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None  # the mean of all batches
            part.train()
    device = next(module.buffers()).device
    prepared = trained.prepare(images)
    for batch in prepared.tensor_split(-(-len(prepared) // BATCH)):
        module(batch.to(device))
    return replace(trained, module=module.eval())

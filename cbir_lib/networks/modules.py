"""The networks as torch modules: build, save, load."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cbir_lib.errors import CbirError, check_switch, is_number
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks import architectures
from cbir_lib.networks.augmentation import Augmentation
from cbir_lib.networks.variation import Variation
from cbir_lib.tensors import read_tensors, write_tensors

FORMAT = "cbir_lib network 3"
# Files of the version before have no checksum; their description is the same.
UNSUMMED = "cbir_lib network 2"
DESCRIBED = ("format", "name", "options", "class_names", "preprocessing")


class Centre(nn.Module):
    """Scale grey values to 0..1 and subtract the mean image of the training set."""

    def __init__(self, mean_image: Tensor):
        super().__init__()
        self.register_buffer("mean_image", mean_image)  # (H, W) float32, grey values 0..255

    def forward(self, images: Tensor) -> Tensor:
        """Convert (N, H, W) uint8 to centred (N, 1, H, W) float32."""
        return ((images.float() - self.mean_image) / 255.0).unsqueeze(1)


def build_network(
    name: str,
    mean_image: np.ndarray,
    *,
    classes: int,
    reading: str = "units",
    dropout: float = 0.0,
    batch_norm: bool = False,
    turns: bool = False,
    crop: int | None = None,
    shifts: bool = False,
    variations: Sequence[str] = (),
    bits: int | None = None,
) -> nn.Sequential:
    """Build a network that takes (N, H, W) uint8 images and gives (N, classes) scores.

    The scores are those before the softmax. Convolutions are padded to keep their size; every
    hidden layer is followed by ReLU. Modules have the names of
    :func:`cbir_lib.networks.architectures.list_layers`, with ``relu_`` before it for the
    activation: ``conv1``, ``relu_conv1``, ``pool1``, ..., ``fc1``, ``relu_fc1``, ``scores``;
    ``norm_`` and ``dropout_`` likewise.

    Weights start normal with variance 2 / inputs, biases at zero (He et al. 2015,
    DOI 10.1109/ICCV.2015.123). The paper names no initialisation.

    Parameters
    ----------
    mean_image : (size, size) float32
        Mean of the training images, grey values 0..255; its side is the input size.
    dropout
        Share of values set to zero in training after the first two fully connected layers, 0 to
        below 1; the paper has 0.5. Where FC-n is not a layer (``reading``), its values are those of
        the flattened or averaged feature map.
    batch_norm
        Normalise each channel of a convolution before its ReLU (Ioffe and Szegedy 2015,
        arXiv:1502.03167).
    turns, crop, shifts
        See :class:`cbir_lib.networks.augmentation.Augmentation`. With a crop the network itself is
        built for images of that side.
    variations
        What varies in training: see :class:`cbir_lib.networks.variation.Variation`.
    bits
        Values of a layer with a sigmoid before the scores, ``bits`` and ``sigmoid_bits``, that are
        searched as bits: above 1/2, or not (Lin et al. 2015, DOI 10.1109/CVPRW.2015.7301269). The
        paper has no such layer.

    Raises
    ------
    CbirError
        When a name is unknown, a value out of range, or the image too small for the poolings.
    """
    if not is_number(dropout) or not 0 <= dropout < 1:
        raise CbirError(f"dropout {dropout!r} is out of range", "give 0 or more, below 1")
    modules = OrderedDict(variation=Variation(variations)) if variations else OrderedDict()
    modules["centre"] = Centre(torch.tensor(mean_image))
    shape = (1, *mean_image.shape)
    if turns or crop is not None:
        augmentation = Augmentation(shape[-1], turns=turns, crop=crop, shifts=shifts)
        modules["augmentation"] = augmentation
        shape = (1, augmentation.side, augmentation.side)
    for layer in architectures.list_layers(
        name, classes=classes, size=shape[-1], reading=reading, bits=bits
    ):
        if layer.kind == "P":
            modules[layer.name] = nn.MaxPool2d(2)
        elif layer.kind == "mean":
            modules[layer.name] = nn.AdaptiveAvgPool2d(1)
        elif layer.kind == "fc":
            if "flatten" not in modules:
                modules["flatten"] = nn.Flatten()
                if dropout and reading != "units":
                    modules["dropout_flatten"] = nn.Dropout(dropout)
            modules[layer.name] = nn.Linear(math.prod(shape), *layer.shape)
        else:
            kernel = int(layer.kind[1:])
            modules[layer.name] = nn.Conv2d(shape[0], layer.shape[0], kernel, padding="same")
            if batch_norm:
                modules["norm_" + layer.name] = nn.BatchNorm2d(layer.shape[0])
        if layer.name == "bits":
            modules["sigmoid_bits"] = nn.Sigmoid()
        elif layer.kind not in ("P", "mean") and layer.name != "scores":
            modules["relu_" + layer.name] = nn.ReLU()
            if dropout and layer.kind == "fc":
                modules["dropout_" + layer.name] = nn.Dropout(dropout)
        shape = layer.shape
    built = nn.Sequential(modules)
    for module in built:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return built.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with everything needed to use it on a new image.

    ``options`` are those arguments of :func:`build_network` that decide its form.
    """

    name: str
    options: dict
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    module: nn.Sequential

    def prepare(self, images: np.ndarray) -> Tensor:
        """Prepare (N, H, W) uint8 images as the module takes them: (N, size, size) uint8."""
        return torch.from_numpy(self.preprocessing.transform(images))


def save_network(path: Path | str, trained: TrainedNetwork, *, half: bool = False) -> None:
    """Write weights and description to one safetensors file; ``half``: weights in 16 bits."""
    described = {
        "format": FORMAT,
        "name": trained.name,
        "options": json.dumps(trained.options, default=np.generic.item),  # some are NumPy's
        "class_names": json.dumps(trained.class_names),
        "preprocessing": json.dumps(asdict(trained.preprocessing), default=np.generic.item),
    }
    tensors = {
        key: value.to(torch.float16 if half and key.endswith(("weight", "bias")) else value.dtype)
        for key, value in trained.module.state_dict().items()
    }
    write_tensors(path, {k: v.cpu().contiguous().numpy() for k, v in tensors.items()}, described)


def read_network(path: Path | str) -> TrainedNetwork:
    """Read a file that :func:`save_network` wrote. Nothing in it is executed.

    Raises
    ------
    CbirError
        When the file is missing, damaged, not a network of this library, or its weights do not
        fit its description.
    """
    again = "run the study again, or give a model.safetensors of one of its runs"
    arrays, described = read_tensors(path, "network", again, unsummed=DESCRIBED)
    if described.get("format") not in (FORMAT, UNSUMMED):
        raise CbirError(f"{path} is not a network of this library", again)
    try:
        trained = TrainedNetwork(
            name=described["name"],
            options={**json.loads(described["options"])},
            class_names=tuple(json.loads(described["class_names"])),
            preprocessing=Preprocessing(**json.loads(described["preprocessing"])),
            module=nn.Sequential(),
        )
        if not all(isinstance(name, str) for name in trained.class_names):
            raise TypeError("class_names")
        if (
            trained.options.pop("flips", False) is not False
        ):  # networks of an earlier version have it
            raise TypeError("flips")
        for switch in ("batch_norm", "turns", "shifts"):
            check_switch(switch, trained.options.get(switch, False))
        mean_image = arrays["centre.mean_image"]
        if mean_image.shape != (trained.preprocessing.size,) * 2:
            raise ValueError(mean_image.shape)
        with torch.device("meta"):  # takes no memory, whatever size the description asks for
            module = build_network(
                trained.name,
                mean_image,
                classes=len(trained.class_names),
                **trained.options,
            )
        types = {key: value.dtype for key, value in module.state_dict().items()}
        tensors = {key: torch.from_numpy(array).to(types[key]) for key, array in arrays.items()}
        module.load_state_dict(tensors, assign=True)
    except CbirError as error:  # a name or a number that there is not
        raise CbirError(f"{path}: {error.what}", again) from error
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError, OverflowError) as error:
        raise CbirError(f"{path} does not hold the weights it describes", again) from error
    return replace(trained, module=module.to(memory_format=torch.channels_last).eval())


def reset_weights(trained: TrainedNetwork, seed: int = 0) -> TrainedNetwork:
    """Return the same network with the random weights it starts from; the mean image stays.

    It is on the CPU, and the caller's random numbers go on as if nothing had been drawn.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build_network(
            trained.name,
            trained.module.centre.mean_image.cpu().numpy(),
            classes=len(trained.class_names),
            **trained.options,
        )
    return replace(trained, module=module.eval())

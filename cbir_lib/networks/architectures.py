"""Networks A to G of the paper as data, with the shapes and costs that follow from it.

The paper's Tables 1 and 2 list convolutions (stride 1, 20 channels each), poolings (maximum,
2 x 2, stride 2) and fully connected layers, and can be read in two ways:

``units``
    FC-n is a fully connected layer of n units, followed by one of 800 units and the classes:
    "3 fully connected layers", as the text has it. The default of this study.
``flattened``
    FC-n names the flattened last feature map, followed by a layer of 800 units and the classes.
    The numbers fit B, C at an input of 120 px and D, F, G at 128 px; A and E fit neither.
``pooled``
    Not in the paper: FC-n is replaced by the mean of each channel of the last feature map (global
    average pooling, Lin et al. 2014, arXiv:1312.4400), followed by 800 units and the classes.

Differs from the paper: its Table 1 lacks the second fully connected layer of A to D and A's first
pooling cell. Here A to D have the 800 units of E to G, and A mirrors E.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cbir_lib.errors import CbirError, is_integer, unknown_name_error

CHANNELS = 20
READINGS = ("units", "flattened", "pooled")


@dataclass(frozen=True)
class Network:
    """One column of the paper's Tables 1 and 2, or a network of this study in their style.

    Attributes
    ----------
    layers
        ``c3`` and ``c5`` are convolutions of 3 x 3 and 5 x 5, ``P`` is max pooling.
    named
        The n of FC-n.
    flattened_at
        Input side in pixels at which the flattened feature map has ``named`` values; None where
        there is no such size among 120 and 128.
    classes
        Class counts the paper trained it on; none for a network of this study.
    """

    layers: tuple[str, ...]
    named: int
    flattened_at: int | None
    classes: tuple[int, ...]


def _make_network(layers: str, named: int, flattened_at: int | None, *classes: int) -> Network:
    return Network(tuple(layers.split()), named, flattened_at, classes)


NETWORKS = {
    "A": _make_network("c3 c3 P c3 P", 4500, None, 5),
    "B": _make_network("c3 c3 P c3 c3 P c3 c3 P", 4500, 120, 5),
    "C": _make_network("c3 c3 P c3 c3 P c3 c3 c3 P", 4500, 120, 5),
    "D": _make_network("c3 c3 P c3 c3 P c3 c3 P c3 c3 P", 1280, 128, 5),
    "E": _make_network("c5 c5 P c5 P", 5120, None, 3, 4),
    "F": _make_network("c5 P c5 P c5 P", 5120, 128, 3, 4),
    "G": _make_network("c5 P c5 P c5 P c5 P", 1280, 128, 3, 4),
}
# Deeper, as the paper's future work names it: D with the doubled stacks of VGG-16 (Simonyan and
# Zisserman 2015, arXiv:1409.1556) in its last two stages.
OWN_NETWORKS = {
    "H": _make_network("c3 c3 P c3 c3 P c3 c3 c3 P c3 c3 c3 P", 1280, 128),
}
SECOND_FC = 800


@dataclass(frozen=True)
class Layer:
    """One layer with trainable weights, or a pooling, at a given input size.

    ``kind`` is ``c3``, ``c5``, ``P``, ``mean`` (of each channel) or ``fc``. ``shape`` is (channels,
    height, width) of the output, or (units,). ``receptive_field_px`` is the
    side of the input square that one output value depends on (the whole input after flattening).
    ``multiply_adds`` is for one image.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    receptive_field_px: int
    parameters: int
    multiply_adds: int


def get_network(name: str) -> Network:
    """Return the network of that name.

    Raises
    ------
    CbirError
        When there is none.
    """
    known = NETWORKS | OWN_NETWORKS
    if name not in known:
        raise unknown_name_error("network", name, known)
    return known[name]


def list_layers(
    name: str, *, classes: int, size: int = 128, reading: str = "units", bits: int | None = None
) -> Iterator[Layer]:
    """List the layers of a network from input to classes, each with its shape and cost.

    With ``bits``, a layer of so many units stands before the classes.

    Raises
    ------
    CbirError
        When the name or the reading is unknown, the image too small for the poolings, or the bits
        are not a multiple of 8.

    Examples
    --------
    >>> [layer.name for layer in list_layers("A", classes=5)]
    ['conv1', 'conv2', 'pool1', 'conv3', 'pool2', 'fc1', 'fc2', 'scores']
    """
    if reading not in READINGS:
        raise unknown_name_error("reading", reading, READINGS)
    if bits is not None and (not is_integer(bits) or bits < 8 or bits % 8):
        raise CbirError(f"{bits} bits do not fill bytes", "give a multiple of 8")
    if not is_integer(classes) or classes < 2:
        raise CbirError(f"{classes} classes cannot be told apart", "give 2 classes or more")
    channels, side, field, stride = 1, size, 1, 1
    convolutions = poolings = 0
    for token in get_network(name).layers:
        if token == "P":
            poolings += 1
            side //= 2
            field, stride = field + stride, 2 * stride
            if side == 0:
                raise CbirError(
                    f"network {name} pools {poolings} times: an image of {size} px is too small",
                    f"give at least {2 ** get_network(name).layers.count('P')} px",
                )
            yield Layer(f"pool{poolings}", token, (channels, side, side), field, 0, 0)
        else:
            convolutions += 1
            kernel = int(token[1:])
            field += (kernel - 1) * stride
            weights = kernel * kernel * channels * CHANNELS
            channels = CHANNELS
            yield Layer(
                f"conv{convolutions}",
                token,
                (channels, side, side),
                field,
                weights + channels,
                weights * side * side,
            )
    inputs = channels * side * side
    if reading == "pooled":
        yield Layer("mean", "mean", (channels,), size, 0, 0)
        inputs = channels
    units = [get_network(name).named, SECOND_FC] if reading == "units" else [SECOND_FC]
    outputs_of = {f"fc{i + 1}": outputs for i, outputs in enumerate(units)}
    if bits:
        outputs_of["bits"] = bits
    for layer_name, outputs in (outputs_of | {"scores": classes}).items():
        weights = inputs * outputs
        yield Layer(layer_name, "fc", (outputs,), size, weights + outputs, weights)
        inputs = outputs

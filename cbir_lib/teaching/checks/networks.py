"""Exercises on the seven networks."""

from __future__ import annotations

from cbir_lib.networks.architectures import CHANNELS, NETWORKS, list_layers
from cbir_lib.teaching.answers import Array, Expected, Number, Word

CLASSES, SIZE_PX = 5, 128


def follow_network_b() -> tuple[Expected, ...]:
    """Compute by hand what network B makes of an image: shape, receptive field, weights."""
    listed = list(list_layers("B", classes=CLASSES, size=SIZE_PX))
    spatial = [layer for layer in listed if len(layer.shape) == 3]
    return (
        Array(
            "shape",
            spatial[-1].shape,
            "Convolutions are padded and keep the side; each pooling halves it.",
        ),
        Number(
            "field",
            spatial[-1].receptive_field_px,
            "A layer adds its side less one, times the product of all strides before it.",
            common=[
                (
                    1 + sum(int(t[1:]) - 1 for t in NETWORKS["B"].layers if t != "P"),
                    "After a pooling, neighbours are two pixels apart, after two poolings four.",
                )
            ],
        ),
        Number(
            "parameters",
            sum(layer.parameters for layer in spatial),
            "The first convolution has one input channel, the others as many as the layer before "
            "puts out.",
            common=[
                (
                    sum(layer.parameters for layer in spatial)
                    - CHANNELS * sum(layer.kind != "P" for layer in spatial),
                    "Each output channel has a bias as well.",
                )
            ],
        ),
    )


def stack_small_filters() -> tuple[Expected, ...]:
    """Compare stacked convolutions of 3 x 3 with one of 7 x 7."""
    depth = (7 - 1) // (3 - 1)
    return (
        Number("depth", depth, "The first sees 3 pixels, each further one 2 more."),
        Number(
            "weights_stacked",
            depth * 3 * 3 * CHANNELS * CHANNELS,
            "Count 3 x 3 weights for every pair of an input and an output channel, in each layer.",
        ),
        Number(
            "weights_single",
            7 * 7 * CHANNELS * CHANNELS,
            "Count 7 x 7 weights for every pair of an input and an output channel.",
        ),
    )


def compare_a_with_e() -> tuple[Expected, ...]:
    """Find which of A and E has more parameters, and in which layer."""
    parameters_of = {
        name: {layer.name: layer.parameters for layer in list_layers(name, classes=CLASSES)}
        for name in "AE"
    }
    larger = max(parameters_of, key=lambda name: sum(parameters_of[name].values()))
    most = max(
        parameters_of["A"],
        key=lambda layer: abs(parameters_of["A"][layer] - parameters_of["E"][layer]),
    )
    return (
        Word("larger", larger, ("A", "E"), "Add up the parameters of all layers."),
        Word(
            "where",
            most,
            tuple(parameters_of["A"]),
            "Compare the two layer by layer: which one differs most?",
        ),
    )


def pool_globally() -> tuple[Expected, ...]:
    """Count the parameters of network C with global average pooling in place of FC-n."""
    left = sum(layer.parameters for layer in list_layers("C", classes=CLASSES, reading="pooled"))
    whole = sum(layer.parameters for layer in list_layers("C", classes=CLASSES))
    return (
        Number(
            "left",
            left,
            "What remains: the convolutions, 20 means to 800 units, and 800 units to the classes.",
        ),
        Number(
            "share",
            left / whole,
            "Divide by the parameters of C as the paper has it; give a share, not percent.",
            tolerance=0.0002,
            common=[(100 * left / whole, "Give a share from 0 to 1, not percent.")],
        ),
    )


EXERCISES = (follow_network_b, stack_small_filters, compare_a_with_e, pool_globally)

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cbir_lib.errors import CbirError
from cbir_lib.networks.architectures import (
    NETWORKS,
    OWN_NETWORKS,
    READINGS,
    get_network,
    list_layers,
)
from cbir_lib.networks.modules import build_network

# Worked out by hand from the paper's Tables 1 and 2, for one grey channel and five classes: name,
# side in pixels of each of the 20 output channels (or number of units), parameters.
#   c3: 3 * 3 * 1 * 20 + 20 = 200 first, then 3 * 3 * 20 * 20 + 20 = 3620
#   c5: 5 * 5 * 1 * 20 + 20 = 520 first, then 5 * 5 * 20 * 20 + 20 = 10020
#   fc: inputs * units + units, the first with 20 * side * side inputs
UNITS_128 = {
    "A": "conv1 128 200, conv2 128 3620, pool1 64 0, conv3 64 3620, pool2 32 0, "
    "fc1 4500 92164500, fc2 800 3600800, scores 5 4005",
    "B": "conv1 128 200, conv2 128 3620, pool1 64 0, conv3 64 3620, conv4 64 3620, pool2 32 0, "
    "conv5 32 3620, conv6 32 3620, pool3 16 0, "
    "fc1 4500 23044500, fc2 800 3600800, scores 5 4005",
    "C": "conv1 128 200, conv2 128 3620, pool1 64 0, conv3 64 3620, conv4 64 3620, pool2 32 0, "
    "conv5 32 3620, conv6 32 3620, conv7 32 3620, pool3 16 0, "
    "fc1 4500 23044500, fc2 800 3600800, scores 5 4005",
    "D": "conv1 128 200, conv2 128 3620, pool1 64 0, conv3 64 3620, conv4 64 3620, pool2 32 0, "
    "conv5 32 3620, conv6 32 3620, pool3 16 0, conv7 16 3620, conv8 16 3620, pool4 8 0, "
    "fc1 1280 1639680, fc2 800 1024800, scores 5 4005",
    "E": "conv1 128 520, conv2 128 10020, pool1 64 0, conv3 64 10020, pool2 32 0, "
    "fc1 5120 104862720, fc2 800 4096800, scores 5 4005",
    "F": "conv1 128 520, pool1 64 0, conv2 64 10020, pool2 32 0, conv3 32 10020, pool3 16 0, "
    "fc1 5120 26219520, fc2 800 4096800, scores 5 4005",
    "G": "conv1 128 520, pool1 64 0, conv2 64 10020, pool2 32 0, conv3 32 10020, pool3 16 0, "
    "conv4 16 10020, pool4 8 0, "
    "fc1 1280 1639680, fc2 800 1024800, scores 5 4005",
}
FLATTENED_120 = {
    "A": "conv1 120 200, conv2 120 3620, pool1 60 0, conv3 60 3620, pool2 30 0, "
    "fc1 800 14400800, scores 5 4005",
    "B": "conv1 120 200, conv2 120 3620, pool1 60 0, conv3 60 3620, conv4 60 3620, pool2 30 0, "
    "conv5 30 3620, conv6 30 3620, pool3 15 0, fc1 800 3600800, scores 5 4005",
    "C": "conv1 120 200, conv2 120 3620, pool1 60 0, conv3 60 3620, conv4 60 3620, pool2 30 0, "
    "conv5 30 3620, conv6 30 3620, conv7 30 3620, pool3 15 0, fc1 800 3600800, scores 5 4005",
}
FLATTENED_128 = {
    "D": "conv1 128 200, conv2 128 3620, pool1 64 0, conv3 64 3620, conv4 64 3620, pool2 32 0, "
    "conv5 32 3620, conv6 32 3620, pool3 16 0, conv7 16 3620, conv8 16 3620, pool4 8 0, "
    "fc1 800 1024800, scores 5 4005",
    "E": "conv1 128 520, conv2 128 10020, pool1 64 0, conv3 64 10020, pool2 32 0, "
    "fc1 800 16384800, scores 5 4005",
    "F": "conv1 128 520, pool1 64 0, conv2 64 10020, pool2 32 0, conv3 32 10020, pool3 16 0, "
    "fc1 800 4096800, scores 5 4005",
    "G": "conv1 128 520, pool1 64 0, conv2 64 10020, pool2 32 0, conv3 32 10020, pool3 16 0, "
    "conv4 16 10020, pool4 8 0, fc1 800 1024800, scores 5 4005",
}
# Of this study: H, and the mean of each of the 20 channels in place of FC-n.
H = (
    "conv1 128 200, conv2 128 3620, pool1 64 0, conv3 64 3620, conv4 64 3620, pool2 32 0, "
    "conv5 32 3620, conv6 32 3620, conv7 32 3620, pool3 16 0, "
    "conv8 16 3620, conv9 16 3620, conv10 16 3620, pool4 8 0, "
)
OWN_128 = {"H": H + "fc1 1280 1639680, fc2 800 1024800, scores 5 4005"}
OWN_FLATTENED_128 = {"H": H + "fc1 800 1024800, scores 5 4005"}
POOLED_128 = {
    "A": "conv1 128 200, conv2 128 3620, pool1 64 0, conv3 64 3620, pool2 32 0, "
    "mean 20 0, fc1 800 16800, scores 5 4005",
    "B": "conv1 128 200, conv2 128 3620, pool1 64 0, conv3 64 3620, conv4 64 3620, pool2 32 0, "
    "conv5 32 3620, conv6 32 3620, pool3 16 0, mean 20 0, fc1 800 16800, scores 5 4005",
    "G": "conv1 128 520, pool1 64 0, conv2 64 10020, pool2 32 0, conv3 32 10020, pool3 16 0, "
    "conv4 16 10020, pool4 8 0, mean 20 0, fc1 800 16800, scores 5 4005",
    "H": H + "mean 20 0, fc1 800 16800, scores 5 4005",
}
CASES = [
    pytest.param(name, reading, size, table[name], id=f"{name} {reading}")
    for reading, size, table in [
        ("units", 128, UNITS_128),
        ("units", 128, OWN_128),
        ("flattened", 120, FLATTENED_120),
        ("flattened", 128, FLATTENED_128),
        ("flattened", 128, OWN_FLATTENED_128),
        ("pooled", 128, POOLED_128),
    ]
    for name in table
]
BY_HAND = pytest.mark.parametrize(("name", "reading", "size", "text"), CASES)


def by_hand(text):
    """(name, shape, parameters) of each layer of a line of the tables above."""
    for entry in text.split(", "):
        layer, number, parameters = entry.split()
        number = int(number)
        shape = (20, number, number) if layer.startswith(("conv", "pool")) else (number,)
        yield layer, shape, int(parameters)


def build(name, size, **options):
    """A network without values: shapes and costs need no memory."""
    with torch.device("meta"):
        return build_network(name, np.zeros((size, size), np.float32), **options)


def test_tables_cover_every_network_in_both_readings():
    assert list(NETWORKS) == list(UNITS_128) == [*FLATTENED_120, *FLATTENED_128]
    assert list(OWN_NETWORKS) == list(OWN_128) == list(OWN_FLATTENED_128)
    assert {reading for _, reading, *_ in (case.values for case in CASES)} == set(READINGS)


@BY_HAND
def test_shapes_and_parameters(name, reading, size, text):
    layers = list_layers(name, classes=5, size=size, reading=reading)
    assert [(layer.name, layer.shape, layer.parameters) for layer in layers] == list(by_hand(text))


@BY_HAND
def test_shapes_and_parameters_of_the_torch_module(name, reading, size, text):
    module = build(name, size, classes=5, reading=reading)
    layers = []

    def record(layer, module, output):
        parameters = sum(parameter.numel() for parameter in module.parameters())
        shape = tuple(output.shape[1:])
        assert layer != "mean" or shape[1:] == (1, 1)
        layers.append((layer, shape[:1] if layer == "mean" else shape, parameters))

    for layer, child in module.named_children():
        if not isinstance(child, nn.ReLU | nn.Flatten) and layer != "centre":
            child.register_forward_hook(
                lambda module, _, output, layer=layer: record(layer, module, output)
            )
    module(torch.zeros((3, size, size), dtype=torch.uint8, device="meta"))
    assert layers == list(by_hand(text))
    assert sum(p.numel() for p in module.parameters()) == sum(n for _, _, n in by_hand(text))


@BY_HAND
def test_every_hidden_layer_and_no_other_is_followed_by_relu(name, reading, size, text):
    expected = ["centre"]
    for layer, _, _ in by_hand(text):
        if layer == "fc1":
            expected.append("flatten")
        expected.append(layer)
        if layer.startswith(("conv", "fc")):
            expected.append("relu_" + layer)
    module = build(name, size, classes=5, reading=reading)
    assert [layer for layer, _ in module.named_children()] == expected
    assert all(isinstance(module.get_submodule(f), nn.ReLU) for f in expected if "relu" in f)


@BY_HAND
def test_multiply_adds_are_those_torch_counts(name, reading, size, text):
    module = build(name, size, classes=5, reading=reading)
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros((1, size, size), dtype=torch.uint8, device="meta"))
    operations = counter.get_flop_counts()
    for layer in list_layers(name, classes=5, size=size, reading=reading):
        counted = sum(operations.get(f"Sequential.{layer.name}", {}).values())
        assert 2 * layer.multiply_adds == counted  # a multiplication and an addition each


@pytest.mark.parametrize("name", [*NETWORKS, *OWN_NETWORKS])
def test_receptive_field_is_the_square_with_a_gradient(name):
    size = 128
    module = build_network(name, np.zeros((size, size), np.float32), classes=2, reading="flattened")
    image = torch.zeros((1, 1, size, size), requires_grad=True)
    signal = image
    fields = []
    for layer, child in list(module.named_children())[1:]:  # after the mean image
        if layer == "flatten":
            break
        if isinstance(child, nn.MaxPool2d):
            child = nn.AvgPool2d(2)  # passes the gradient on to all four
        elif isinstance(child, nn.Conv2d):
            nn.init.constant_(child.weight, 0.01)  # nothing cancels, nothing is cut off by ReLU
            nn.init.constant_(child.bias, 1.0)
        signal = child(signal)
        if not isinstance(child, nn.ReLU):
            middle = signal[0, 0, signal.shape[2] // 2, signal.shape[3] // 2]
            (gradient,) = torch.autograd.grad(middle, image, retain_graph=True)
            rows, columns = (int((gradient[0, 0] != 0).any(axis).sum()) for axis in (0, 1))
            assert rows == columns
            fields.append((layer, rows))
    expected = list(list_layers(name, classes=2, size=size, reading="flattened"))
    assert fields == [(x.name, x.receptive_field_px) for x in expected if x.kind != "fc"]
    assert {x.receptive_field_px for x in expected if x.kind == "fc"} == {size}


# 4500 = 20 * 15 * 15 = 20 * (120 / 8)^2; 5120 = 20 * (128 / 8)^2; 1280 = 20 * (128 / 16)^2.
FITS = {"A": [], "B": [120], "C": [120], "D": [128], "E": [], "F": [128], "G": [128], "H": [128]}


@pytest.mark.parametrize("name", FITS)
def test_flattened_size_is_the_named_one_at_the_stated_side_only(name):
    def flattened(size):
        maps = [layer for layer in list_layers(name, classes=5, size=size) if layer.kind != "fc"]
        return math.prod(maps[-1].shape)

    assert [size for size in (120, 128) if flattened(size) == get_network(name).named] == FITS[name]
    assert get_network(name).flattened_at == next(iter(FITS[name]), None)


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("reading", READINGS)
def test_only_the_last_layer_depends_on_the_classes(reading, classes):
    five = list(list_layers("G", classes=5, reading=reading))
    other = list(list_layers("G", classes=classes, reading=reading))
    assert five[:-1] == other[:-1]
    assert other[-1].shape == (classes,)
    assert other[-1].parameters == 801 * classes


@pytest.mark.parametrize(("name", "smallest"), [("A", 4), ("C", 8), ("G", 16), ("H", 16)])
def test_smallest_image(name, smallest):
    *_, last_pooling = (x for x in list_layers(name, classes=2, size=smallest) if x.kind == "P")
    assert last_pooling.shape == (20, 1, 1)
    with pytest.raises(CbirError, match=f"an image of {smallest - 1} px is too small") as caught:
        list(list_layers(name, classes=2, size=smallest - 1))
    assert caught.value.hint == f"give at least {smallest} px"


@pytest.mark.parametrize(
    ("arguments", "what", "hint"),
    [
        ({"name": "Z"}, "unknown network 'Z'", "known: A, B, C, D, E, F, G, H"),
        ({"name": "c"}, "unknown network 'c'", "did you mean 'C'?"),
        ({"reading": "flat"}, "unknown reading 'flat'", "did you mean 'flattened'?"),
        ({"classes": 1}, "1 classes", "give 2 classes or more"),
        ({"bits": 12}, "12 bits", "give a multiple of 8"),
        ({"bits": 0}, "0 bits", "give a multiple of 8"),
    ],
)
def test_refused(arguments, what, hint):
    with pytest.raises(CbirError) as caught:
        list(list_layers(**{"name": "C", "classes": 5, **arguments}))
    assert what in caught.value.what
    assert hint in caught.value.hint


# In the other readings the first fully connected layer grows with the image.
@pytest.mark.parametrize("size", [16, 64, 128, 200])
def test_pooled_network_has_the_same_parameters_at_every_size(size):
    layers = list(list_layers("H", classes=5, size=size, reading="pooled"))
    assert [layer.parameters for layer in layers] == [n for *_, n in by_hand(POOLED_128["H"])]
    [mean] = (layer for layer in layers if layer.kind == "mean")
    assert (mean.shape, mean.receptive_field_px, mean.multiply_adds) == ((20,), size, 0)


def test_mean_is_that_of_each_channel():
    torch.manual_seed(0)
    module = build_network("A", np.zeros((20, 20), np.float32), classes=2, reading="pooled")
    names = [name for name, _ in module.named_children()]
    images = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8)
    with torch.inference_mode():
        maps = module[: names.index("pool2") + 1](images)
        means = module[: names.index("flatten") + 1](images)
    assert maps.shape == (3, 20, 5, 5)
    assert torch.allclose(means, maps.sum(dim=(2, 3)) / 25, rtol=1e-5, atol=1e-6)


# A to G stay the paper's; what is added is another table.
def test_own_networks_have_no_name_of_the_paper_s_and_no_classes():
    assert not NETWORKS.keys() & OWN_NETWORKS.keys()
    assert all(own.classes == () for own in OWN_NETWORKS.values())


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", [*NETWORKS, *OWN_NETWORKS])
def test_crop_of_120_of_128_gives_the_network_of_120(name, reading):
    options = {"classes": 5, "reading": reading}
    cropped = build(name, 128, **options, crop=120, turns=True, shifts=True)
    whole = build(name, 120, **options)
    assert [n for n, _ in cropped.named_children()] == [
        *("centre", "augmentation"),
        *(n for n, _ in whole.named_children() if n != "centre"),
    ]
    shapes = {key: value.shape for key, value in cropped.state_dict().items()}
    assert shapes.pop("centre.mean_image") == (128, 128)
    expected = {key: value.shape for key, value in whole.state_dict().items()}
    assert expected.pop("centre.mean_image") == (120, 120)
    assert shapes == expected
    for mode in (True, False):
        images = torch.zeros((3, 128, 128), dtype=torch.uint8, device="meta")
        assert cropped.train(mode)(images).shape == (3, 5)

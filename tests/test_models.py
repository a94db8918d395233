import json
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from cbir_lib.errors import CbirError
from cbir_lib.models import Centre, TrainedNetwork, build_network, read_network, save_network
from cbir_lib.preprocessing import Preprocessing

SIZE = 32
RNG = np.random.default_rng(0)
IMAGES = torch.tensor(RNG.integers(0, 256, (5, SIZE, SIZE), dtype=np.uint8))
MEAN = RNG.uniform(0, 255, (SIZE, SIZE)).astype(np.float32)


def trained(**options):
    torch.manual_seed(0)
    options = {"name": "G", "reading": "flattened", **options}
    return TrainedNetwork(
        name=options["name"],
        reading=options["reading"],
        class_names=("skull", "Hand, links", "ü"),
        preprocessing=Preprocessing(size=SIZE, clahe=False, clip_limit=3.25, tile_px=8),
        module=build_network(mean_image=MEAN, classes=3, **options).eval(),
    )


@pytest.fixture(scope="module")
def original():
    return trained()


@pytest.fixture
def saved(original, tmp_path):
    save_network(tmp_path / "model.safetensors", original)
    return tmp_path / "model.safetensors"


# Building


def test_centre_subtracts_the_mean_and_scales():
    centred = Centre(torch.tensor([[10.0, 55.0], [255.0, 0.0]]))(
        torch.tensor([[[0, 255], [255, 255]], [[10, 55], [0, 51]]], dtype=torch.uint8)
    )
    expected = [[[[-10 / 255, 200 / 255], [0, 1]]], [[[0, 0], [-1, 0.2]]]]
    assert centred.shape == (2, 1, 2, 2)
    assert torch.allclose(centred, torch.tensor(expected))


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_are_not_yet_probabilities(classes):
    torch.manual_seed(0)
    scores = build_network("F", MEAN, classes=classes, reading="flattened")(IMAGES)
    assert scores.shape == (5, classes)
    assert scores.dtype == torch.float32
    assert not torch.allclose(scores.sum(1), torch.ones(5), atol=0.01)


def test_he_initialisation_is_normal_with_variance_two_over_inputs():
    torch.manual_seed(0)
    module = build_network("C", MEAN, classes=5, reading="flattened")
    inputs = {"conv1": 9, "fc1": 20 * 4 * 4, "scores": 800} | {
        f"conv{i}": 9 * 20 for i in range(2, 8)
    }
    layers = {name: child for name, child in module.named_children() if hasattr(child, "weight")}
    assert layers.keys() == inputs.keys()
    for name, layer in layers.items():
        weights = layer.weight.detach().numpy() / np.sqrt(2 / inputs[name])
        n = weights.size
        # Four standard errors of the mean, the variance, and the share within one deviation.
        assert abs(weights.mean()) < 4 / np.sqrt(n)
        assert abs(weights.var() - 1) < 4 * np.sqrt(2 / n)
        assert abs((np.abs(weights) < 1).mean() - 0.6827) < 4 * np.sqrt(0.6827 * 0.3173 / n)
        assert not layer.bias.any()


def test_torch_initialisation_is_torchs():
    torch.manual_seed(0)
    module = build_network("G", MEAN, classes=2, reading="flattened", initialisation="torch")
    torch.manual_seed(0)
    assert torch.equal(module.conv1.weight, nn.Conv2d(1, 20, 5).weight)
    assert torch.equal(module.conv2.weight, nn.Conv2d(20, 20, 5).weight)


def test_unknown_initialisation():
    with pytest.raises(CbirError, match="unknown initialisation 'xavier'"):
        build_network("G", MEAN, classes=2, initialisation="xavier")


# Saving and loading


@pytest.mark.parametrize("options", [{}, {"name": "D"}, {"reading": "units"}], ids=str)
@torch.inference_mode()
def test_loaded_network_is_the_saved_one(tmp_path, options):
    original = trained(**options)
    save_network(tmp_path / "model.safetensors", original)
    loaded = read_network(str(tmp_path / "model.safetensors"))
    assert torch.equal(loaded.module(IMAGES), original.module(IMAGES))
    assert not loaded.module.training
    for field in ("name", "reading", "class_names", "preprocessing"):
        assert getattr(loaded, field) == getattr(original, field)


def test_file_describes_itself(saved):
    with safe_open(saved, framework="pt") as file:
        assert file.metadata() == {
            "format": "cbir_lib network 1",
            "name": "G",
            "reading": "flattened",
            "class_names": json.dumps(["skull", "Hand, links", "ü"]),
            "preprocessing": json.dumps(
                {"size": 32, "clahe": False, "clip_limit": 3.25, "tile_px": 8}
            ),
        }
        assert np.array_equal(file.get_tensor("centre.mean_image").numpy(), MEAN)


def test_saving_does_not_change_the_network(original, tmp_path):
    before = {key: value.clone() for key, value in original.module.state_dict().items()}
    save_network(tmp_path / "model.safetensors", original)
    for key, value in original.module.state_dict().items():
        assert torch.equal(value, before[key])


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "header only": lambda path: path.write_bytes(path.read_bytes()[:2000]),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "prolonged": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "foreign": lambda path: path.write_bytes(bytes(range(256)) * 100),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Trap(path.with_name("trapped")))),
    "torch pickle": lambda path: torch.save({"a": Trap(path.with_name("trapped"))}, path),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_or_disguised_file_is_refused_and_not_executed(saved, damage):
    damage(saved)
    with pytest.raises(CbirError, match=r"cannot read the network .*model\.safetensors"):
        read_network(saved)
    assert not saved.with_name("trapped").exists()


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"name": "G"}], ids=str)
def test_other_safetensors_are_refused(tmp_path, metadata):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors", metadata)
    with pytest.raises(CbirError, match="is not a network of this library"):
        read_network(tmp_path / "other.safetensors")


def changed(saved, description=(), tensors=()):
    """Change entries of a saved network; None removes one."""
    with safe_open(saved, framework="pt") as file:
        held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        parts = file.metadata(), held
    for part, changes in zip(parts, (dict(description), dict(tensors)), strict=True):
        part.update(changes)
        for key in [key for key, value in part.items() if value is None]:
            del part[key]
    save_file(parts[1], saved, parts[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "F"},
        {"name": None},
        {"reading": "units"},
        {"class_names": '["a", "b"]'},
        {"class_names": "5"},
        {"class_names": "not JSON"},
        {"preprocessing": "[]"},
        {"preprocessing": '{"sharpen": true}'},
        {"preprocessing": '{"size": "32"}'},
        {"preprocessing": '{"size": 64}'},
    ],
    ids=str,
)
def test_description_that_does_not_fit_the_weights_is_refused(saved, changes):
    changed(saved, changes)
    with pytest.raises(CbirError, match="does not hold the weights it describes"):
        read_network(saved)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("scores.bias", None),
        ("scores.bias", (4,)),
        ("extra", (4,)),
        ("centre.mean_image", None),
        ("centre.mean_image", (64, 64)),
        ("centre.mean_image", (30, 32)),
        ("centre.mean_image", (32,)),
    ],
)
def test_weights_that_do_not_fit_the_description_are_refused(saved, key, shape):
    changed(saved, tensors={key: shape and torch.zeros(shape)})
    with pytest.raises(CbirError, match="does not hold the weights it describes"):
        read_network(saved)


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ({"name": "H"}, "unknown network 'H'"),
        ({"reading": "both"}, "unknown reading 'both'"),
        ({"class_names": '["a"]'}, "1 classes cannot be told apart"),
        ({"preprocessing": '{"size": 4}'}, "size 4 px is out of range"),
    ],
)
def test_description_out_of_range_is_named(saved, description, reason):
    changed(saved, description)
    with pytest.raises(CbirError, match=reason):
        read_network(saved)

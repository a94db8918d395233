import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks.modules import (
    Centre,
    TrainedNetwork,
    build_network,
    read_network,
    save_network,
)
from cbir_lib.tensors import read_tensors, write_tensors
from tests.fixtures import untrained_network

SIZE = 32
RNG = np.random.default_rng(0)
IMAGES = torch.tensor(RNG.integers(0, 256, (5, SIZE, SIZE), dtype=np.uint8))
MEAN = RNG.uniform(0, 255, (SIZE, SIZE)).astype(np.float32)


def trained(name="G", **options):
    torch.manual_seed(0)
    options = {"reading": "flattened", **options}
    return TrainedNetwork(
        name=name,
        options=options,
        class_names=("skull", "Hand, links", "ü"),
        preprocessing=Preprocessing(size=SIZE, clahe=False, clip_limit=3.25, tile_px=8),
        module=build_network(name, MEAN, classes=3, **options).eval(),
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


def names_of(module):
    return [name for name, _ in module.named_children()]


def parts(module, kind):
    return [name for name, part in module.named_children() if isinstance(part, kind)]


@torch.inference_mode()
def test_batch_norm_is_torchs_between_convolution_and_relu():
    torch.manual_seed(0)
    module = build_network("F", MEAN, classes=3, batch_norm=True)
    convolutions = ["conv1", "conv2", "conv3"]
    assert parts(module, nn.BatchNorm2d) == ["norm_" + name for name in convolutions]
    names = names_of(module)
    for name in convolutions:
        place = names.index(name)
        assert names[place : place + 3] == [name, "norm_" + name, "relu_" + name]
    before = module[:2](IMAGES)  # (5, 20, SIZE, SIZE), behind the first convolution
    # By hand: in training with the batch's own moments, in evaluation with the running ones.
    mean, variance = before.mean((0, 2, 3)), before.var((0, 2, 3), correction=0)
    normalised = module.train()[:3](IMAGES)
    expected = (before - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    assert torch.allclose(normalised, expected, atol=1e-5)
    norm = module.norm_conv1
    assert torch.allclose(norm.running_mean, 0.1 * mean, atol=1e-6)
    evaluated = module.eval()[:3](IMAGES)
    spread = (norm.running_var + 1e-5).sqrt()[:, None, None]
    assert torch.allclose(evaluated, (before - norm.running_mean[:, None, None]) / spread)
    assert torch.equal(module[:4](IMAGES), evaluated.clamp(min=0))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_batch_norm_is_left_out_unless_asked_for(batch_norm):
    module = build_network("G", MEAN, classes=3, batch_norm=batch_norm)
    assert len(parts(module, nn.BatchNorm2d)) == 4 * batch_norm


DROPPED = {  # what a dropout follows, by reading: two fully connected layers and nothing else
    "units": ["relu_fc1", "relu_fc2"],
    "flattened": ["flatten", "relu_fc1"],  # FC-n names the flattened feature map
    "pooled": ["flatten", "relu_fc1"],
}


@pytest.mark.parametrize("reading", DROPPED)
def test_dropout_follows_the_first_two_fully_connected_layers(reading):
    module = build_network("G", MEAN, classes=3, reading=reading, dropout=0.3)
    names = names_of(module)
    places = [i for i, part in enumerate(module) if isinstance(part, nn.Dropout)]
    assert [names[i - 1] for i in places] == DROPPED[reading]
    assert [module[i].p for i in places] == [0.3, 0.3]
    assert names[-1] == "scores"
    plain = build_network("G", MEAN, classes=3, reading=reading)
    assert [n for n in names if not n.startswith("dropout_")] == names_of(plain)


@pytest.mark.parametrize("reading", DROPPED)
@torch.inference_mode()
def test_dropout_sets_its_share_to_zero_in_training_and_does_nothing_afterwards(reading):
    torch.manual_seed(0)
    plain = build_network("F", MEAN, classes=3, reading=reading)
    dropping = build_network("F", MEAN, classes=3, reading=reading, dropout=0.3)
    dropping.load_state_dict(plain.state_dict())
    assert torch.equal(dropping.eval()(IMAGES), plain.eval()(IMAGES))
    dropping.train()
    one, other = dropping(IMAGES), dropping(IMAGES)
    assert not torch.equal(one, other)
    names = names_of(dropping)
    for name in DROPPED[reading]:
        part = dropping[names.index(name) + 1]
        ones = torch.ones(40_000)
        dropped = part(ones)
        kept = dropped > 0
        assert torch.allclose(dropped[kept], ones[kept] / 0.7)  # the sum stays as it is
        assert abs(float(kept.float().mean()) - 0.7) < 4 * np.sqrt(0.3 * 0.7 / 40_000)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, float("nan"), False, "0.5"])
def test_dropout_out_of_range(dropout):
    with pytest.raises(CbirError, match=f"dropout {dropout!r} is out of range"):
        build_network("G", MEAN, classes=3, dropout=dropout)


@pytest.mark.parametrize("crop", [0, -3, SIZE + 1, 16.5, True])
def test_crop_out_of_range(crop):
    with pytest.raises(CbirError, match=f"a crop of {crop} px from an image of {SIZE} px"):
        build_network("G", MEAN, classes=3, crop=crop)


def test_crop_must_leave_enough_for_the_poolings():
    with pytest.raises(CbirError, match="an image of 15 px is too small"):
        build_network("G", MEAN, classes=3, crop=15)


@torch.inference_mode()
def test_images_are_moved_with_their_mean_image_subtracted():
    # The mean image belongs to the upright images: a network that turned first would subtract it
    # askew.
    torch.manual_seed(0)
    module = build_network("F", MEAN, classes=3, turns=True, crop=28, shifts=True)
    centred = module[:1](IMAGES)
    moved = module.train()[:2](IMAGES)
    assert moved.shape == (5, 1, 28, 28)
    for image, result in zip(centred, moved, strict=True):
        turned = [torch.rot90(image, k, (1, 2)) for k in range(4)]
        crops = [
            way[:, top : top + 28, left : left + 28]
            for way in turned
            for top in range(5)
            for left in range(5)
        ]
        assert sum(torch.equal(result, crop) for crop in crops) == 1
    assert torch.equal(module.eval()[:2](IMAGES), centred[:, :, 2:30, 2:30])


# Saving and loading

OPTIONS = [
    {},
    {"name": "D"},
    {"name": "H"},
    {"reading": "units"},
    {"reading": "pooled"},
    {"dropout": 0.5},
    {"batch_norm": True},
    {"turns": True},
    {"crop": 24},
    {"crop": 24, "shifts": True},
    {"bits": 16},
    {"name": "B", "reading": "units", "dropout": 0.25, "batch_norm": True, "turns": True}
    | {"crop": 30, "shifts": True},
]


def stirred(original):
    """The same network after a step in training, so that its running moments are not at rest."""
    with torch.no_grad():
        original.module.train()(IMAGES)
        for parameter in original.module.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    original.module.eval()
    return original


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.inference_mode()
def test_loaded_network_is_the_saved_one(tmp_path, options):
    original = stirred(trained(**options))
    save_network(tmp_path / "model.safetensors", original)
    loaded = read_network(str(tmp_path / "model.safetensors"))
    assert torch.equal(loaded.module(IMAGES), original.module(IMAGES))
    assert not loaded.module.training
    assert names_of(loaded.module) == names_of(original.module)
    for field in ("name", "options", "class_names", "preprocessing"):
        assert getattr(loaded, field) == getattr(original, field)
    for seed in range(3):  # and it goes on training as the original would
        outputs = []
        for network in (loaded.module, original.module):
            torch.manual_seed(seed)
            outputs.append(network.train()(IMAGES))
        assert torch.equal(*outputs)


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[-1]], ids=str)
@torch.inference_mode()
def test_half_precision_halves_the_file_and_hardly_moves_the_scores(tmp_path, options):
    original = stirred(trained(**options))
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_network(whole, original)
    save_network(half, original, half=True)
    weights = sum(p.numel() for p in original.module.parameters())
    header = 8000  # at most: names and shapes, as long in both
    assert whole.stat().st_size - half.stat().st_size == pytest.approx(2 * weights, abs=300)
    assert half.stat().st_size == pytest.approx(2 * weights + 4 * MEAN.size, abs=header)
    loaded = read_network(half)
    for key, value in loaded.module.state_dict().items():
        exact = original.module.state_dict()[key]
        if key.endswith(("weight", "bias")):
            assert torch.equal(value, exact.half().float())
        else:  # the mean image and running moments
            assert torch.equal(value, exact)
        assert value.dtype == exact.dtype
    assert np.array_equal(loaded.module.centre.mean_image.numpy(), MEAN)
    # Weights of 11 significant bits, through ten layers: within 0.5 % of the largest score.
    scores, exact = loaded.module(IMAGES), original.module(IMAGES)
    assert 0 < (scores - exact).abs().max() < 5e-3 * exact.abs().max()


def test_file_describes_itself(saved):
    arrays, described = read_tensors(saved, "network", "")
    assert described == {
        "format": "cbir_lib network 3",
        "name": "G",
        "options": json.dumps({"reading": "flattened"}),
        "class_names": json.dumps(["skull", "Hand, links", "ü"]),
        "preprocessing": json.dumps({"size": 32, "clahe": False, "clip_limit": 3.25, "tile_px": 8}),
    }
    assert np.array_equal(arrays["centre.mean_image"], MEAN)


def test_a_network_from_before_there_were_checksums_is_read(saved):
    arrays, described = read_tensors(saved, "network", "")
    before = described | {"format": "cbir_lib network 2"}
    save_file({name: torch.tensor(array) for name, array in arrays.items()}, saved, before)
    loaded = read_network(saved)
    assert torch.equal(loaded.module.scores.bias, torch.tensor(arrays["scores.bias"]))


def test_a_flipped_bit_anywhere_in_a_network_is_refused(saved):
    whole = saved.read_bytes()
    head = int.from_bytes(whole[:8], "little") + 8
    rng = np.random.default_rng(0)
    places = [*range(0, head, 7), *rng.integers(head, len(whole), 50)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(damaged)
        try:
            read_network(saved)
        except CbirError:
            continue
        assert whole[place : place + 1].isspace(), place  # padding of the head


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


@pytest.mark.parametrize(
    "metadata",
    [None, {"format": "pt"}, {"name": "G"}, {"format": "cbir_lib network 1", "name": "G"}],
    ids=str,
)
def test_other_safetensors_are_refused(tmp_path, metadata):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors", metadata)
    with pytest.raises(CbirError, match="is not a network of this library"):
        read_network(tmp_path / "other.safetensors")


def changed(saved, description=(), tensors=()):
    """Change entries of a saved network; None removes one."""
    held, described = read_tensors(saved, "network", "")
    parts = described, held
    for part, changes in zip(parts, (dict(description), dict(tensors)), strict=True):
        part.update(changes)
        for key in [key for key, value in part.items() if value is None]:
            del part[key]
    write_tensors(saved, parts[1], parts[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "F"},
        {"name": None},
        {"options": None},
        {"options": "{}"},  # another reading
        {"options": '{"reading": "pooled"}'},
        {"options": '{"reading": "flattened", "batch_norm": true}'},
        {"options": '{"reading": "flattened", "crop": 16}'},
        {"options": '{"reading": "flattened", "sharpen": true}'},
        {"options": '{"reading": "flattened", "classes": 3}'},
        {"options": '{"reading": "flattened", "name": "G"}'},
        {"options": '{"reading": "flattened", "flips": 1}'},
        {"options": "[]"},
        {"options": "flattened"},
        {"options": "[" * 100_000},
        {"class_names": '["a", "b"]'},
        {"class_names": "5"},
        {"class_names": "not JSON"},
        {"preprocessing": "[]"},
        {"preprocessing": '{"sharpen": true}'},
        {"preprocessing": '{"size": 64}'},
    ],
    ids=lambda changes: str(changes)[:60],
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
    changed(saved, tensors={key: shape and np.zeros(shape)})
    with pytest.raises(CbirError, match="does not hold the weights it describes"):
        read_network(saved)


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ({"name": "Z"}, "unknown network 'Z'"),
        ({"options": '{"reading": "both"}'}, "unknown reading 'both'"),
        ({"options": '{"dropout": 1.0}'}, "dropout 1.0 is out of range"),
        ({"options": '{"dropout": "0.5"}'}, "dropout '0.5' is out of range"),
        ({"options": '{"dropout": null}'}, "dropout None is out of range"),
        ({"options": '{"turns": "no"}'}, "turns 'no' is out of range"),
        ({"options": '{"batch_norm": null}'}, "batch_norm None is out of range"),
        ({"options": '{"bits": 12}'}, "12 bits do not fill bytes"),
        ({"options": '{"bits": 16.0}'}, "16.0 bits do not fill bytes"),
        ({"options": '{"crop": 33}'}, "a crop of 33 px from an image of 32 px"),
        ({"options": '{"crop": 0}'}, "a crop of 0 px from an image of 32 px"),
        ({"options": '{"crop": "24"}'}, "a crop of 24 px from an image of 32 px"),
        ({"options": '{"crop": 24.5}'}, "a crop of 24.5 px from an image of 32 px"),
        ({"options": '{"crop": [24]}'}, "a crop of .*24.* px from an image of 32 px"),
        ({"class_names": '["a"]'}, "1 classes cannot be told apart"),
        ({"preprocessing": '{"size": 4}'}, "size 4 is out of range"),
        ({"preprocessing": '{"size": "32"}'}, "size '32' is out of range"),
        ({"preprocessing": '{"clahe": "no"}'}, "clahe 'no' is out of range"),
    ],
)
def test_description_out_of_range_is_named(saved, description, reason):
    changed(saved, description)
    with pytest.raises(CbirError, match=reason):
        read_network(saved)


def test_numbers_of_numpy_are_saved_as_numbers(tmp_path):
    prepared = Preprocessing(size=np.int64(SIZE), tile_px=np.int32(8), clip_limit=np.float32(2))
    options = {"crop": np.int64(16), "dropout": np.float64(0.5)}
    module = build_network("G", MEAN, classes=2, **options)
    save_network(tmp_path / "n", TrainedNetwork("G", options, ("a", "b"), prepared, module))
    read = read_network(tmp_path / "n")
    assert (read.options, read.preprocessing) == (options, prepared)


def test_a_network_prepares_images_of_any_size_by_its_own_preprocessing():
    network = untrained_network(MEAN)
    films = RNG.integers(0, 256, (3, 50, 41), dtype=np.uint8)
    prepared = network.prepare(films)
    assert prepared.dtype == torch.uint8
    assert np.array_equal(prepared.numpy(), network.preprocessing.transform(films))
    with pytest.raises(CbirError, match="expected images of shape"):
        network.prepare(films[0])

"""Models of Hugging Face by name: tiny ones that the tests make, read from a folder and a cache."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from cbir_lib.archive.store import Archive
from cbir_lib.archive.update import build
from cbir_lib.descriptors import build_descriptor, hub
from cbir_lib.descriptors.hub import HubFeatures
from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing

transformers = pytest.importorskip("transformers")

RNG = np.random.default_rng(0)
SIDE = 32
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TRANSFORMER = {"image_size": SIDE, "patch_size": 8, "intermediate_size": 32} | SIZES
IMAGES = RNG.integers(0, 256, (10, 40, 30), dtype=np.uint8)  # more than one batch
PREPROCESSOR = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}


@pytest.fixture(autouse=True)
def forgotten():
    hub.load_model.cache_clear()


def save(folder, model, size):
    torch.manual_seed(0)
    model.save_pretrained(folder)
    described = json.dumps(PREPROCESSOR | {"size": size})
    (folder / "preprocessor_config.json").write_text(described)
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    torch.manual_seed(0)
    model = transformers.ViTModel(transformers.ViTConfig(**TRANSFORMER), add_pooling_layer=False)
    return save(tmp_path_factory.mktemp("vit"), model, {"height": SIDE, "width": SIDE})


@pytest.fixture(scope="module")
def registers(tmp_path_factory):
    config = transformers.Dinov2WithRegistersConfig(**TRANSFORMER, num_register_tokens=3)
    model = transformers.Dinov2WithRegistersModel(config)
    return save(tmp_path_factory.mktemp("registers"), model, {"shortest_edge": SIDE})


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory):
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    return save(tmp_path_factory.mktemp("resnet"), transformers.ResNetModel(config), SIDE)


def run_model(folder, kind):
    """What the model gives for the images, one at a time: (N, tokens, C) or (N, C, h, w)."""
    model = kind.from_pretrained(folder).eval()
    grey = torch.tensor(Preprocessing(SIDE, clahe=False).transform(IMAGES)) / 255
    mean, deviation = (torch.tensor(v).reshape(3, 1, 1) for v in PREPROCESSOR.values())
    with torch.no_grad():
        return np.concatenate(
            [model(((one - mean) / deviation)[None]).last_hidden_state.numpy() for one in grey]
        )


def transform(folder, pooling):
    return HubFeatures(str(folder), pooling, "float32").fit(IMAGES).transform(IMAGES)


def test_vectors_of_a_transformer_are_its_class_token_or_its_patches_pooled(vit):
    tokens = run_model(vit, transformers.ViTModel)
    assert tokens.shape == (10, 1 + 16, 16)
    for pooling, expected in (
        ("class-token", tokens[:, 0]),
        ("average", tokens[:, 1:].mean(1)),
        ("maximum", tokens[:, 1:].max(1)),
    ):
        np.testing.assert_allclose(transform(vit, pooling), expected, rtol=1e-4, atol=1e-5)


def test_registers_are_no_patches(registers):
    tokens = run_model(registers, transformers.Dinov2WithRegistersModel)
    assert tokens.shape == (10, 1 + 3 + 16, 16)
    np.testing.assert_allclose(
        transform(registers, "average"), tokens[:, 4:].mean(1), rtol=1e-4, atol=1e-5
    )


def test_maps_of_a_convolutional_network_are_pooled_and_it_has_no_class_token(convolutional):
    maps = run_model(convolutional, transformers.ResNetModel)
    assert maps.ndim == 4
    found = transform(convolutional, "average")
    np.testing.assert_allclose(found, maps.mean((2, 3)), rtol=1e-4, atol=1e-5)
    with pytest.raises(CbirError, match="not known to have a class token") as caught:
        transform(convolutional, "class-token")
    assert "average" in caught.value.hint


def test_sixteen_bits_point_the_same_way(vit):
    half = HubFeatures(str(vit), precision="bfloat16").fit(IMAGES).transform(IMAGES)
    whole = transform(vit, "class-token")
    lengths = np.linalg.norm(half, axis=1) * np.linalg.norm(whole, axis=1)
    assert ((half * whole).sum(1) / lengths > 0.99).all()


# By name, from the cache


@pytest.fixture
def cached(vit, tmp_path, monkeypatch):
    """A cache of Hugging Face's that has the model as owner/tiny."""
    from huggingface_hub import constants

    place = tmp_path / "cache" / "models--owner--tiny"
    shutil.copytree(vit, place / "snapshots" / ("0" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        transformers.utils.hub, "TRANSFORMERS_CACHE", str(tmp_path / "cache"), raising=False
    )
    return place


def test_an_archive_is_built_and_searched_with_a_model_by_its_name(cached, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    images = RNG.integers(0, 256, (10, 128, 128), dtype=np.uint8)  # of the archive's size
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    build(folder, tmp_path / "archive", "hf:owner/tiny")
    archive = Archive(tmp_path / "archive")
    assert archive.description.descriptor == "hf:owner/tiny"
    rows, vectors = archive.read_vectors()
    expected = build_descriptor("hf:owner/tiny").fit(images).transform(images)
    order = [int(row.path.removesuffix(".png")) for row in rows]
    np.testing.assert_allclose(vectors, expected[order], rtol=1e-2, atol=1e-2)
    hub.load_model.cache_clear()  # as another process would read it
    found = Archive(tmp_path / "archive").search([str(folder / "3.png")], k=9)
    assert len(found) == 9


def test_an_archive_refuses_queries_by_other_weights(cached, tmp_path):
    descriptor = build_descriptor("hf:owner/tiny").fit(IMAGES)
    (snapshot,) = (cached / "snapshots").iterdir()
    torch.manual_seed(1)
    config = transformers.ViTConfig(**TRANSFORMER)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(snapshot)
    hub.load_model.cache_clear()
    with pytest.raises(CbirError, match="has other weights than before"):
        descriptor.transform(IMAGES)


# What is refused


def refuse(name, what, hint, **settings):
    with pytest.raises(CbirError) as caught:
        HubFeatures(str(name), **settings).fit(IMAGES)
    assert what in caught.value.what, caught.value
    assert hint in caught.value.hint, caught.value
    assert len(str(caught.value).splitlines()) == 2


def test_an_archive_of_a_model_that_is_not_here_leaves_nothing(cached, tmp_path):
    (tmp_path / "images").mkdir()
    Image.fromarray(IMAGES[0]).save(tmp_path / "images" / "0.png")
    with pytest.raises(CbirError, match="cannot load owner/other"):
        build(tmp_path / "images", tmp_path / "archive", "hf:owner/other")
    assert not (tmp_path / "archive").exists()


def test_a_model_that_is_not_here_is_not_downloaded(cached, monkeypatch):
    import socket

    def connect(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", connect)
    refuse("owner/other", "cannot load owner/other", "hf download owner/other")
    refuse("", "no model is named", "hf:owner/name")
    refuse("not a name", "cannot load not a name", "")


def test_settings_out_of_range(vit):
    refuse(vit, "unknown pooling 'mean'", "average", pooling="mean")
    refuse(vit, "unknown precision 'float16'", "float32", precision="float16")


def test_a_pickle_is_not_opened(vit, tmp_path):
    copy = tmp_path / "pickled"
    shutil.copytree(vit, copy)
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    refuse(copy, "cannot load", "")


def test_a_damaged_file_is_refused(vit, tmp_path):
    copy = tmp_path / "damaged"
    shutil.copytree(vit, copy)
    (copy / "model.safetensors").write_bytes(b"damaged")
    refuse(copy, "cannot load", "")


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_a_model_without_a_readable_description_is_refused(file, content, vit, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(vit, copy)
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_text(content)
    refuse(copy, "cannot load", "")


def test_code_that_comes_with_a_model_is_not_executed(vit, tmp_path):
    copy = tmp_path / "with_code"
    shutil.copytree(vit, copy)
    described = json.loads((copy / "config.json").read_text())
    described |= {"model_type": "own", "auto_map": {"AutoModel": "own.Own", "AutoConfig": "own.C"}}
    (copy / "config.json").write_text(json.dumps(described))
    (copy / "own.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    refuse(copy, "cannot load", "without code of its own")
    assert not (tmp_path / "executed").exists()


def test_weights_that_are_missing_are_not_made_up(vit, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "incomplete"
    shutil.copytree(vit, copy)
    weights = load_file(copy / "model.safetensors")
    del weights[sorted(weights)[3]]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    refuse(copy, "no weights for", "complete")


def test_a_model_of_texts_is_refused(tmp_path):
    config = transformers.BertConfig(vocab_size=20, intermediate_size=32, **SIZES)
    folder = save(tmp_path / "bert", transformers.BertModel(config), SIDE)
    refuse(folder, "is not a model of images", "name one")


def test_without_transformers_two_lines_say_how_to_get_it(monkeypatch):
    import builtins

    importing = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("transformers"):
            raise ModuleNotFoundError(name)
        return importing(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    refuse("owner/tiny", "need transformers", ".[hub]")

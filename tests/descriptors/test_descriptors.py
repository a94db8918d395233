import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cbir_lib
from cbir_lib import paths
from cbir_lib.descriptors import DESCRIPTORS, build_descriptor, learned
from cbir_lib.descriptors.fitted import load_descriptor, save_descriptor
from cbir_lib.descriptors.fourier_mellin import FourierMellin
from cbir_lib.descriptors.gabor import GaborHistogram, GaborVector
from cbir_lib.descriptors.haralick import Haralick
from cbir_lib.descriptors.histogram import GreyHistogram
from cbir_lib.descriptors.hog import HOG
from cbir_lib.descriptors.lbp import LBPHistogram
from cbir_lib.descriptors.learned import LearnedDescriptor
from cbir_lib.descriptors.local import VLAD, BagOfWords
from cbir_lib.descriptors.pretrained import PretrainedFeatures
from cbir_lib.descriptors.radon import RadonBarcode
from cbir_lib.descriptors.tamura import TamuraHistogram
from cbir_lib.descriptors.thumbnail import DistortedThumbnail, Thumbnail
from cbir_lib.descriptors.zernike import ZernikeMoments
from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks.modules import TrainedNetwork, build_network, save_network
from cbir_lib.retrieval.distances import DISTANCES, pairwise
from cbir_lib.retrieval.hashing import compute_hamming_distances
from tests.fixtures import draw_edge_cases

RNG = np.random.default_rng(0)


def trained_network(reading="flattened"):
    """A network of a few weights, as it starts out."""
    torch.manual_seed(0)
    mean = RNG.uniform(0, 255, (32, 32)).astype(np.float32)
    module = build_network("G", mean, classes=3, reading=reading)
    preprocessing = Preprocessing(size=32, clip_limit=5.0, tile_px=8)
    return TrainedNetwork("G", {"reading": reading}, ("a", "b", "c"), preprocessing, module)


NETWORK = trained_network()
TRAINING = RNG.integers(0, 256, (12, 48, 48), dtype=np.uint8)
# Every descriptor, with the length of its vector.
ALL = (
    (GreyHistogram(), 256),
    (GreyHistogram(bins=16), 16),
    (GreyHistogram(bins=16, grid=2), 64),
    (TamuraHistogram(), 512),
    (GaborVector().fit(TRAINING), 30),
    (GaborHistogram().fit(TRAINING), 384),
    (FourierMellin(), 248),
    (BagOfWords(words=8).fit(TRAINING), 8),
    (VLAD(words=4).fit(TRAINING), 4 * 128),
    (LBPHistogram(), 10),
    (HOG(), 1764),
    (Haralick(), 26),
    (Thumbnail(), 32 * 32),
    (DistortedThumbnail(), 32 * 32),
    (RadonBarcode(), 368),
    (ZernikeMoments(), 25),
    (PretrainedFeatures(size=64), 1280),
    (PretrainedFeatures("stage5", 64, "maximum"), 112),
    (LearnedDescriptor(NETWORK), 800),
    (LearnedDescriptor(NETWORK, "pool1"), 20 * 16 * 16),
    (LearnedDescriptor(NETWORK, "scores"), 3),
)
CONTRACT = pytest.mark.parametrize(
    ("descriptor", "length"), ALL, ids=[f"{type(d).__name__}-{length}" for d, length in ALL]
)
IMAGES = draw_edge_cases()


# The contract


def test_every_handcrafted_descriptor_is_under_contract():
    assert {entry.load() for entry in DESCRIPTORS.values()} <= {type(d) for d, _ in ALL}


@CONTRACT
@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)
def test_vectors_are_finite_and_of_one_length(descriptor, length, images):
    vectors = descriptor.transform(images)
    assert vectors.shape == (len(images), length)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()


@CONTRACT
@pytest.mark.parametrize("kind", ["noise", "wide"])
def test_a_batch_gives_what_its_images_give_one_by_one(descriptor, length, kind):
    images = IMAGES[kind]
    alone = np.concatenate([descriptor.transform(image[None]) for image in images])
    assert np.allclose(descriptor.transform(images), alone, rtol=1e-4, atol=1e-5)
    assert len(np.unique(alone.round(4), axis=0)) == len(images)  # and not the same for all


@CONTRACT
def test_transform_keeps_no_state_and_leaves_the_images(descriptor, length):
    images = IMAGES["noise"].copy()
    images.flags.writeable = False  # as a memory map is
    before = descriptor.transform(images)
    descriptor.transform(IMAGES["wide"])
    assert np.array_equal(descriptor.transform(images), before)


@CONTRACT
def test_fit_gives_the_descriptor_back(descriptor, length):
    assert descriptor.fit(IMAGES["noise"]) is descriptor
    assert descriptor.fit(IMAGES["noise"], np.arange(5)) is descriptor


@CONTRACT
def test_distance_is_a_known_one(descriptor, length):
    assert descriptor.distance in DISTANCES


@CONTRACT
@pytest.mark.parametrize(
    "images", [IMAGES["noise"] / 255, IMAGES["noise"][0], IMAGES["noise"][:0]], ids=np.shape
)
def test_what_is_not_a_batch_of_grey_images_is_refused(descriptor, length, images):
    with pytest.raises(CbirError, match="expected images of shape"):
        descriptor.transform(images)


@pytest.mark.parametrize(
    ("name", "parameters", "what", "hint"),
    [
        ("grey-histgram", {}, "descriptor 'grey-histgram'", "did you mean 'grey-histogram'?"),
        ("grey-histogram", {"bin": 8}, "of grey-histogram 'bin'", "did you mean 'bins'?"),
    ],
)
def test_unknown_name_or_parameter(name, parameters, what, hint):
    with pytest.raises(CbirError) as caught:
        build_descriptor(name, **parameters)
    assert what in caught.value.what
    assert hint in caught.value.hint


def test_build_by_name():
    assert build_descriptor("grey-histogram", bins=8).get_params() == {"bins": 8, "grid": 1}
    assert isinstance(build_descriptor("grey-histogram"), GreyHistogram)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_saved_descriptor_gives_the_same_vectors(name, tmp_path):
    small = {"bag-of-words": {"words": 8}, "vlad": {"words": 4}}.get(name, {})
    descriptor = build_descriptor(name, **small).fit(TRAINING)
    save_descriptor(tmp_path / "d.safetensors", name, descriptor)
    loaded = load_descriptor(tmp_path / "d.safetensors")
    assert loaded.get_params() == descriptor.get_params()
    expected = descriptor.transform(IMAGES["noise"])
    assert np.array_equal(loaded.transform(IMAGES["noise"]), expected)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_the_table_names_the_parameters_of_a_class_without_loading_it(name):
    entry = DESCRIPTORS[name]
    assert sorted(entry.parameters.split()) == sorted(entry.load()().get_params())


def whole_numbers(name):
    """The parameters of a descriptor that are whole numbers, small ones for few images."""
    small = {"bag-of-words": {"words": 8}, "vlad": {"words": 4}}.get(name, {})
    values = build_descriptor(name).get_params() | small
    return {p: value for p, value in values.items() if type(value) is int and p != "radius_px"}


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_whole_numbers_of_numpy_are_taken_and_saved(name, tmp_path):
    own = {parameter: np.int64(value) for parameter, value in whole_numbers(name).items()}
    descriptor = build_descriptor(name, **own).fit(TRAINING)
    save_descriptor(tmp_path / "d.safetensors", name, descriptor)
    assert load_descriptor(tmp_path / "d.safetensors").get_params() == descriptor.get_params()


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_whole_numbers_of_other_types_are_refused(name):
    for parameter, value in whole_numbers(name).items():
        for wrong in (float(value), str(value), True):
            refused = pytest.raises(CbirError, match=f"{parameter} {wrong!r} is out of range")
            with refused:
                build_descriptor(name, **whole_numbers(name) | {parameter: wrong})
            descriptor = build_descriptor(name, **whole_numbers(name))
            with refused:
                descriptor.set_params(**{parameter: wrong}).fit(TRAINING)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_descriptor_is_a_step_of_a_pipeline(name):
    small = {"bag-of-words": {"words": 8}, "vlad": {"words": 4}}.get(name, {})
    labels = np.arange(len(TRAINING)) % 3
    steps = (build_descriptor(name, **small), StandardScaler(), KNeighborsClassifier(1))
    pipeline = make_pipeline(*map(clone, steps)).fit(TRAINING, labels)
    vectors = steps[0].fit(TRAINING).transform(TRAINING)
    scaled = steps[1].fit_transform(vectors)
    expected = steps[2].fit(scaled, labels).predict(scaled)
    assert np.array_equal(pipeline.predict(TRAINING), expected)
    assert pipeline[0].get_params() == steps[0].get_params()


@pytest.mark.parametrize("content", [None, b"", b"nothing of the kind" * 10])
def test_what_is_no_descriptor_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "d.safetensors").write_bytes(content)
    with pytest.raises(CbirError, match="cannot read the descriptor"):
        load_descriptor(tmp_path / "d.safetensors")


# Grey histogram


@pytest.mark.parametrize("bins", [2, 4, 8, 16, 32, 64, 128, 256])
def test_histogram_is_numpys(bins):
    images = IMAGES["wide"]
    expected = [np.histogram(image, bins, range=(0, 256))[0] / image.size for image in images]
    assert np.allclose(GreyHistogram(bins).transform(images), expected, rtol=1e-6)


def test_histogram_of_a_literal_image():
    image = np.array([[[0, 63, 64, 255], [0, 0, 128, 200]]], np.uint8)
    assert GreyHistogram(4).transform(image).tolist() == [[4 / 8, 1 / 8, 1 / 8, 2 / 8]]


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))


@given(arrays(np.uint8, SHAPES), st.sampled_from([2, 16, 256]), st.randoms())
def test_histogram_sums_to_one_and_forgets_the_places(images, bins, random):
    histograms = GreyHistogram(bins).transform(images)
    assert (histograms >= 0).all()
    assert np.allclose(histograms.sum(axis=1), 1, atol=1e-5)
    places = list(range(images[0].size))
    random.shuffle(places)
    moved = images.reshape(len(images), -1)[:, places].reshape(images.shape)
    assert np.array_equal(GreyHistogram(bins).transform(moved), histograms)


@pytest.mark.parametrize("bins", [0, 1, 3, 100, 512, -2, 16.0, "16", None, True])
def test_bins_out_of_range(bins):
    for use in (GreyHistogram(bins).fit, GreyHistogram(bins).transform):
        with pytest.raises(CbirError, match=r"bins .* is out of range"):
            use(IMAGES["noise"])


def test_histogram_is_a_scikit_learn_estimator():
    copy = clone(GreyHistogram(bins=32))
    assert copy.get_params() == {"bins": 32, "grid": 1}
    assert copy.set_params(bins=8).transform(IMAGES["noise"]).shape == (5, 8)


# Learned descriptor


def test_each_layer_gives_its_activations():
    images = IMAGES["wide"]
    activations = {}
    hooks = [
        module.register_forward_hook(
            lambda _, __, output, name=name: activations.update({name: output.flatten(1)})
        )
        for name, module in NETWORK.module.named_children()
    ]
    with torch.no_grad():
        NETWORK.module(torch.tensor(NETWORK.preprocessing.transform(images)))
    for hook in hooks:
        hook.remove()
    assert len(activations) == 17
    for name, expected in activations.copy().items():
        vectors = LearnedDescriptor(NETWORK, name).transform(images)
        assert np.allclose(vectors, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("reading", "layer"),
    [("units", "relu_fc2"), ("flattened", "relu_fc1"), ("pooled", "relu_fc1")],
)
def test_default_is_the_last_hidden_layer(reading, layer):
    descriptor = LearnedDescriptor(trained_network(reading))
    assert descriptor.layer == layer
    vectors = descriptor.transform(IMAGES["noise"])
    assert vectors.shape == (5, 800)
    assert (vectors >= 0).all()  # behind the ReLU
    assert (vectors == 0).any()


def test_learnt_bits_are_searched_as_bits():
    torch.manual_seed(0)
    module = build_network("G", np.zeros((32, 32), np.float32), classes=3, bits=16, dropout=0.5)
    assert [name for name, _ in module.named_children()][-4:] == [
        *("dropout_fc2", "bits", "sigmoid_bits", "scores")
    ]
    trained = TrainedNetwork("G", {"bits": 16}, ("a", "b", "c"), NETWORK.preprocessing, module)
    descriptor = LearnedDescriptor(trained)
    assert descriptor.layer == "sigmoid_bits"
    images = RNG.integers(0, 256, (40, 32, 32), dtype=np.uint8)
    vectors = descriptor.transform(images)
    before = LearnedDescriptor(trained, "bits").transform(images)
    assert np.array_equal(vectors, before > 0) and 0 < vectors.mean() < 1
    assert vectors.dtype == np.float32
    packed = np.packbits(vectors.astype(np.uint8), axis=1)
    counted = compute_hamming_distances(packed[:3], packed)
    assert np.array_equal(pairwise(descriptor.distance, vectors[:3], vectors), counted)
    assert LearnedDescriptor(trained, "relu_fc2").distance == "cosine"


def test_default_layer_is_that_of_a_network_with_everything_and_nothing_in_it_is_random():
    torch.manual_seed(0)
    options = {"dropout": 0.5, "batch_norm": True, "turns": True}
    options |= {"crop": 24, "shifts": True}
    module = build_network("F", np.zeros((32, 32), np.float32), classes=3, **options).train()
    trained = TrainedNetwork("F", options, ("a", "b", "c"), NETWORK.preprocessing, module)
    descriptor = LearnedDescriptor(trained)
    assert descriptor.layer == "relu_fc2"
    first = descriptor.transform(IMAGES["noise"])
    assert np.array_equal(descriptor.transform(IMAGES["noise"]), first)


@pytest.mark.parametrize("layer", ["pool1", "relu_fc1", "sigmoid_bits", "scores"])
def test_one_pass_describes_and_answers(layer):
    torch.manual_seed(0)
    module = build_network("G", np.zeros((32, 32), np.float32), classes=3, bits=16)
    trained = TrainedNetwork("G", {"bits": 16}, ("a", "b", "c"), NETWORK.preprocessing, module)
    images = RNG.integers(0, 256, (300, 32, 32), dtype=np.uint8)  # more than one batch
    mean = LearnedDescriptor(trained, "scores").transform(images).mean(axis=0)
    module.scores.bias.data -= torch.tensor(mean)  # answers of random weights are all the same
    vectors, answers = LearnedDescriptor(trained, layer).transform_and_answer(images)
    assert np.array_equal(vectors, LearnedDescriptor(trained, layer).transform(images))
    scores = LearnedDescriptor(trained, "scores").transform(images)
    assert answers.tolist() == ["abc"[row] for row in scores.argmax(axis=1)]
    assert len(set(answers)) > 1


def test_more_images_than_one_batch():
    images = RNG.integers(0, 256, (300, 8, 8), dtype=np.uint8)
    descriptor = LearnedDescriptor(NETWORK, "scores")
    parts = [descriptor.transform(part) for part in np.array_split(images, 7)]
    assert np.allclose(descriptor.transform(images), np.concatenate(parts), rtol=1e-4, atol=1e-5)


def test_saved_network_gives_the_same_vectors(tmp_path):
    save_network(tmp_path / "model.safetensors", NETWORK)
    loaded = LearnedDescriptor.from_file(tmp_path / "model.safetensors", "pool2")
    expected = LearnedDescriptor(NETWORK, "pool2").transform(IMAGES["noise"])
    assert np.array_equal(loaded.transform(IMAGES["noise"]), expected)


def test_unknown_layer():
    with pytest.raises(CbirError, match="unknown layer of network G 'relu-fc1'") as caught:
        LearnedDescriptor(NETWORK, "relu-fc1")
    assert "did you mean 'relu_fc1'?" in caught.value.hint


# A network by the name of its run


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder in which to put networks, told apart by their first weight."""
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)

    def put(place, weight, age_s=0):
        network = trained_network()
        with torch.no_grad():
            network.module.conv1.weight[0, 0, 0, 0] = weight
        path = tmp_path / place
        save_network(path, network)
        os.utime(path, (1e9 - age_s, 1e9 - age_s))
        return path

    put.root = tmp_path
    return put


def weight_of(descriptor):
    return descriptor.trained.module.conv1.weight[0, 0, 0, 0].item()


def test_a_network_is_found_by_its_run_shipped_ones_first_then_the_latest(project):
    run = "phantom-G-dropout-s0"
    project(f"build/quick/runs/{run}/model.safetensors", 2, age_s=60)
    assert weight_of(learned.load_network(run)) == 2
    project(f"build/full/runs/{run}/model.safetensors", 3, age_s=30)
    project("build/other/runs/phantom-G-s0/model.safetensors", 4)
    project(f"build/about/runs/{run}/model.safetensors", 5, age_s=90)
    assert weight_of(learned.load_network(run)) == 3
    project(f"models/{run}.safetensors", 6, age_s=1000)
    assert weight_of(learned.load_network(run)) == 6
    assert weight_of(learned.load_network("phantom-G-s0")) == 4


def test_a_network_by_its_run_is_the_descriptor_of_its_file(project):
    path = project("models/phantom-G-s0.safetensors", 1)
    for layer in (None, "pool2"):
        loaded = cbir_lib.load_network("phantom-G-s0", layer)
        expected = LearnedDescriptor.from_file(path, layer)
        assert loaded.layer == expected.layer
        vectors = loaded.transform(IMAGES["noise"])
        assert np.array_equal(vectors, expected.transform(IMAGES["noise"]))


@pytest.mark.parametrize("name", ["phantom-H-s0", "phantom-G", "*", ""])
def test_a_run_without_a_network_is_refused_and_those_that_are_there_named(name, project):
    with pytest.raises(CbirError) as caught:
        learned.load_network(name)
    assert caught.value.hint.endswith("there are none")
    project("models/phantom-G-s0.safetensors", 1)
    project("build/full/runs/phantom-A-s0/model.safetensors", 1)
    with pytest.raises(CbirError) as caught:
        learned.load_network(name)
    assert caught.value.what == f"no trained network of a run {name!r}"
    assert caught.value.hint.endswith("there are phantom-A-s0, phantom-G-s0")
    assert f"--run {name}" in caught.value.hint
    assert len(str(caught.value).splitlines()) == 2


def test_a_damaged_network_is_refused_and_no_other_taken(project):
    project("build/full/runs/phantom-G-s0/model.safetensors", 1)
    project("models/phantom-G-s0.safetensors", 1).write_bytes(b"damaged")
    with pytest.raises(CbirError, match="cannot read the network .*models/phantom-G-s0"):
        learned.load_network("phantom-G-s0")


def test_load_network_of_the_library_is_lazy():
    assert cbir_lib.LAZY["load_network"] == "cbir_lib.descriptors.learned"
    code = (
        "import sys, cbir_lib; assert 'load_network' in cbir_lib.__all__;"
        "assert not {'torch', 'cbir_lib.descriptors.learned'} & set(sys.modules);"
        "cbir_lib.load_network; assert 'cbir_lib.descriptors.learned' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Activations, maps and weights of small networks, compared with loops over channels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks import activations, weights
from cbir_lib.networks.modules import TrainedNetwork
from cbir_lib.networks.occlusion import (
    compute_log_odds,
    measure_occlusion,
    place_patches,
    score_covered_images,
)
from cbir_lib.networks.sensitivity import compare_covers, tabulate_covers
from tests.fixtures import untrained_network

SIZE, CROP = 40, 32
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, SIZE, SIZE), dtype=np.uint8)
MEAN = RNG.uniform(0, 255, (SIZE, SIZE)).astype(np.float32)
OPTIONS = {"reading": "units", "crop": CROP}


def trained(seed=3):
    return untrained_network(MEAN, seed, **OPTIONS)


@torch.inference_mode()
def after(network, image, name):
    """What one image is after a module of the network."""
    values = torch.from_numpy(network.preprocessing.transform(image[None]))
    for name_of, module in network.module.named_children():
        values = module(values)
        if name_of == name:
            return values[0].numpy()
    raise AssertionError(name)


def test_what_is_active_is_counted_channel_by_channel():
    network = trained()
    with torch.no_grad():
        network.module.conv2.bias[:7] = -1e6  # these channels never respond
        network.module.fc1.bias[:9] = -1e6
    measured = activations.measure_activations(network, IMAGES)
    names = ["conv1", "conv2", "conv3", "conv4", "fc1", "fc2"]
    assert list(measured.layers.index) == names
    for name in names:
        values = np.stack([after(network, image, f"relu_{name}") for image in IMAGES])
        row = measured.layers.loc[name]
        silent = [c for c in range(values.shape[1]) if not (values[:, c] > 0).any()]
        assert row["channels"] == values.shape[1]
        assert row["never active"] == len(silent)
        assert row["active"] == pytest.approx((values > 0).mean(), abs=1e-6)
    assert measured.layers.loc["conv2", "never active"] >= 7
    assert measured.layers.loc["fc1", "never active"] >= 9
    scores = np.stack([after(network, image, "scores") for image in IMAGES])
    assert np.allclose(measured.scores, scores, atol=1e-4)


def test_batches_do_not_matter(monkeypatch):
    whole = activations.measure_activations(trained(), IMAGES)
    monkeypatch.setattr(activations, "BATCH", 2)
    parts = activations.measure_activations(trained(), IMAGES)
    assert np.allclose(whole.scores, parts.scores, atol=1e-4)
    assert np.allclose(whole.layers, parts.layers, atol=1e-6)


def test_the_input_is_the_centre():
    assert (activations.crop_input(trained(), IMAGES) == IMAGES[:, 4:36, 4:36]).all()


def test_stages_are_the_first_convolution_and_the_last_before_each_pooling():
    assert activations.list_stages(trained()) == ["conv1", "conv2", "conv3", "conv4"]
    deeper = TrainedNetwork("C", OPTIONS, ("a", "b"), Preprocessing(size=SIZE), trained().module)
    # c3 c3 P c3 c3 P c3 c3 c3 P
    assert activations.list_stages(deeper) == ["conv1", "conv2", "conv4", "conv7"]


def test_maps_are_those_of_their_layer_and_the_most_varied_channel_is_found():
    network = trained()
    maps = activations.extract_maps(network, IMAGES, ["conv1", "conv3"])
    assert list(maps) == ["conv1", "conv3"]
    for name, values in maps.items():
        expected = np.stack([after(network, image, f"relu_{name}") for image in IMAGES])
        assert np.allclose(values, expected, atol=1e-4)
        channel = activations.select_channels(maps)[name]
        spreads = [values[:, c].std() for c in range(values.shape[1])]
        assert spreads[channel] == max(spreads)


def test_a_peak_is_the_centre_of_its_square():
    maps = np.zeros((2, 8, 8))
    maps[0, 2, 5], maps[1, 7, 0] = 1, 3
    # 32 pixels, 4 for each value: value 2 stands for pixels 8 to 11.
    assert activations.find_peaks(maps, 32).tolist() == [[9.5, 21.5], [29.5, 1.5]]


def test_the_parts_of_a_filter_share_its_energy():
    filters = RNG.normal(size=(50, 5, 5))
    parts = weights.split_energy(filters)
    assert np.allclose(parts.sum(axis=1), 1) and (parts >= -1e-12).all(axis=None)
    for weight, (_, row) in zip(filters, parts.iterrows(), strict=True):
        flat = np.full((5, 5), weight.mean())
        odd = (weight - np.rot90(weight, 2)) / 2
        rest = weight - flat - odd
        energies = [(part**2).sum() / (weight**2).sum() for part in (flat, odd, rest)]
        assert row.to_list() == pytest.approx(energies)


def test_pure_filters_have_one_part():
    ramp = np.arange(-2.0, 3)[None].repeat(5, axis=0)
    spot = np.zeros((5, 5))
    spot[2, 2] = 1
    pure = np.stack([np.ones((5, 5)), ramp, spot - spot.mean(), np.zeros((5, 5))])
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert np.allclose(weights.split_energy(pure), expected, atol=1e-12)


@pytest.mark.parametrize("side", [3, 5])
def test_random_weights_have_the_expected_parts(side):
    shares = weights.split_energy(RNG.normal(size=(20_000, side, side))).mean()
    for name, share in weights.expect_energy(side).items():
        assert shares[name] == pytest.approx(share, abs=0.01)
    assert sum(weights.expect_energy(side).values()) == pytest.approx(1)


def test_an_untrained_network_has_not_moved():
    changes = weights.measure_training_changes(trained(seed=3), 3)
    assert list(changes.index) == ["conv1", "conv2", "conv3", "conv4", "fc1", "fc2", "scores"]
    assert (changes["moved"] == 0).all() and np.allclose(changes["correlation"], 1)


def test_measuring_draws_nothing_from_the_callers_generator():
    network = trained(seed=3)
    state = torch.get_rng_state()
    weights.measure_training_changes(network, 4)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_network_on_a_gpu_is_measured_as_on_the_processor():
    network = trained(seed=3)
    on_cpu = weights.measure_training_changes(network, 4)
    on_gpu = weights.measure_training_changes(replace(network, module=network.module.cuda()), 4)
    assert np.allclose(on_cpu, on_gpu)


def test_how_far_a_layer_moved_is_measured_from_its_own_start():
    network = trained(seed=3)
    before = network.module.conv2.weight.detach().numpy().copy()
    step = RNG.normal(size=before.shape).astype(np.float32)
    with torch.no_grad():
        network.module.conv2.weight += torch.from_numpy(step)
    changes = weights.measure_training_changes(network, 3)
    assert changes.loc["conv2", "moved"] == pytest.approx(
        np.linalg.norm(step) / np.linalg.norm(before), rel=1e-4
    )
    expected = np.corrcoef(before.ravel(), (before + step).ravel())[0, 1]
    assert changes.loc["conv2", "correlation"] == pytest.approx(expected, abs=1e-4)
    assert (changes.drop("conv2")["moved"] == 0).all()


def test_covers_are_compared_place_by_place():
    network, patch, stride = trained(), 10, 10
    compared = compare_covers(network, IMAGES, patch_px=patch, stride_px=stride, seed=1)
    assert len(compared) == 2 * 2 * len(IMAGES)
    falls = measure_occlusion(network, IMAGES, patch_px=patch, stride_px=stride)
    starts = place_patches(SIZE, patch, stride)
    nowhere = np.zeros(len(IMAGES), np.int64)
    scores = score_covered_images(network, IMAGES, nowhere, nowhere, patch_px=0)
    answers = scores.argmax(1)
    by = compared.set_index(["place", "cover", "image"]).sort_index()
    for n, image in enumerate(IMAGES):
        row, column = np.unravel_index(falls[n].argmax(), falls[n].shape)
        best = by.loc["the most sensitive place", "mean image", n]
        assert best["fall"] == pytest.approx(falls[n].max(), abs=1e-4)
        # By hand: the same square painted with grey into the image itself.
        painted = image.copy()
        painted[starts[row] : starts[row] + patch, starts[column] : starts[column] + patch] = 128
        after_grey = score_covered_images(network, painted[None], [0], [0], patch_px=0)
        fall = compute_log_odds(scores[n : n + 1], answers[n : n + 1]) - compute_log_odds(
            after_grey, answers[n : n + 1]
        )
        grey = by.loc["the most sensitive place", "grey", n]
        assert grey["fall"] == pytest.approx(fall[0], abs=1e-3)
        assert grey["changed"] == (after_grey.argmax() != answers[n])
    table = tabulate_covers(compared)
    for (place, cover), row in table.iterrows():
        own = by.loc[place, cover]
        assert row["odds divided by"] == pytest.approx(np.exp(own["fall"].mean()))
        assert row["answers that change (%)"] == pytest.approx(100 * own["changed"].mean())
    again = compare_covers(network, IMAGES, patch_px=patch, stride_px=stride, seed=1)
    assert again.equals(compared)

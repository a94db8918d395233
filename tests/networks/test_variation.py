"""Variation: each quantity against SciPy, OpenCV or NumPy, and what is drawn against its limits."""

from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from cbir_lib.errors import CbirError
from cbir_lib.images import perturbations
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks import variation
from cbir_lib.networks.modules import TrainedNetwork, build_network
from cbir_lib.networks.onnx_export import export_network
from cbir_lib.networks.variation import VARIATIONS, Variation
from cbir_lib.study import config

RNG = np.random.default_rng(5)
SIDE = 32
SMOOTH = np.stack([ndimage.gaussian_filter(RNG.uniform(0, 255, (SIDE, SIDE)), 2) for _ in range(4)])
SMOOTH = (255 * (SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH)).astype(np.float32)
IMAGES = torch.from_numpy(SMOOTH)


def test_magnified_is_scipys_affine_transform():
    factors = np.array([0.8, 1.0, 1.1, 1.25], np.float32)
    varied = variation.magnify(IMAGES, torch.from_numpy(factors)).numpy()
    middle = (SIDE - 1) / 2
    for image, factor, of_torch in zip(SMOOTH, factors, varied, strict=True):
        wanted = ndimage.affine_transform(
            image, np.eye(2) / factor, middle - middle / factor, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(of_torch, wanted, atol=0.01)


def test_blurred_is_scipys_normal_filter():
    deviations = np.array([0.3, 0.6, 0.9, 1.2], np.float32)
    varied = variation.blur(IMAGES, torch.from_numpy(deviations)).numpy()
    reach = int(np.ceil(3 * deviations.max()))
    for image, deviation, of_torch in zip(SMOOTH, deviations, varied, strict=True):
        wanted = ndimage.gaussian_filter(image, deviation, radius=reach, mode="nearest")
        np.testing.assert_allclose(of_torch, wanted, atol=0.01)
    assert torch.equal(variation.blur(IMAGES, torch.zeros(4)), IMAGES)


def test_collimated_is_black_outside_its_borders():
    shares = torch.tensor([[0.25, 0, 0, 0], [0, 0.25, 0, 0], [0, 0, 0.25, 0], [0, 0, 0, 0.25]])
    varied = variation.collimate(IMAGES, shares).numpy()
    wanted = SMOOTH.copy()
    wanted[0, :, :8] = wanted[1, :, 24:] = wanted[2, :8] = wanted[3, 24:] = 0
    np.testing.assert_array_equal(varied, wanted)


def test_contrast_and_gamma_are_those_of_changed_queries():
    images = SMOOTH.round().astype(np.uint8)
    grey = torch.from_numpy(images).float()
    for name, function in (
        ("contrast", variation.scale_contrast),
        ("gamma", variation.apply_gamma),
    ):
        varied = function(grey, torch.full((4,), 0.7))
        wanted = perturbations.perturb(images, name, 0.7)
        np.testing.assert_allclose(varied.numpy(), wanted, atol=0.51)


def test_coarsened_is_opencvs_area_and_back():
    varied = variation.coarsen(IMAGES, torch.tensor([0.5, 1.0, 1.0, 1.0])).numpy()
    for image, of_torch in zip(SMOOTH, varied, strict=True):
        small = cv2.resize(image, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
        wanted = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(of_torch, wanted, atol=0.01)


def test_exposed_saturates_and_inverted_twice_is_itself():
    varied = variation.expose(IMAGES, torch.tensor([0.5, 1.0, 2.0, 4.0])).numpy()
    wanted = np.minimum(SMOOTH * np.array([0.5, 1, 2, 4], np.float32)[:, None, None], 255)
    np.testing.assert_allclose(varied, wanted, rtol=1e-6)
    inverted = variation.invert(IMAGES, torch.tensor([1.0, -1.0, 1.0, -1.0]))
    np.testing.assert_array_equal(inverted[0].numpy(), 255 - SMOOTH[0])
    np.testing.assert_array_equal(inverted[1].numpy(), SMOOTH[1])


def test_noise_has_its_deviation_in_each_image():
    torch.manual_seed(0)
    grey = torch.full((2, 200, 200), 128.0)
    noise = variation.add_noise(grey, torch.tensor([2.0, 16.0])) - grey
    for image, deviation in zip(noise.numpy(), (2, 16), strict=True):
        assert stats.kstest(image.ravel() / deviation, "norm").pvalue > 1e-3


@pytest.mark.parametrize("name", VARIATIONS)
def test_what_is_drawn_fills_its_limits(name):
    torch.manual_seed(1)
    kind = VARIATIONS[name]
    drawn = Variation([name])._draw(kind, torch.zeros(4000, 2, 2)).numpy()
    assert drawn.shape == ((4000, kind.values) if kind.values > 1 else (4000,))
    ends = np.array([kind.low, kind.high])
    values, (low, high) = (np.log(drawn), np.log(ends)) if kind.logarithmic else (drawn, ends)
    assert stats.kstest(values.ravel(), "uniform", (low, high - low)).pvalue > 1e-3


def test_a_network_varies_its_images_in_training_alone():
    images = torch.from_numpy(RNG.integers(0, 256, (8, SIDE, SIDE), dtype=np.uint8))
    layer = Variation(list(VARIATIONS)).eval()
    assert layer(images) is images
    layer.train()
    torch.manual_seed(2)
    varied = layer(images)
    torch.manual_seed(2)
    assert torch.equal(layer(images), varied)
    assert varied.shape == images.shape and varied.dtype == torch.float32
    assert varied.min() >= 0 and varied.max() <= 255
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(2)
        assert torch.equal(layer(images), varied)


def test_variations_change_neither_the_first_weights_nor_the_exported_network():
    networks = []
    for names in ([], ["gamma", "blur"]):
        torch.manual_seed(3)
        module = build_network("G", np.zeros((SIDE, SIDE), np.float32), classes=5, variations=names)
        preprocessing = Preprocessing(size=SIDE)
        networks.append(TrainedNetwork("G", {}, tuple("abcde"), preprocessing, module.eval()))
    plain, varied = (export_network(one, "fc2") for one in networks)
    assert plain == varied
    assert "Variation" not in str(networks[0].module)


def test_the_study_file_knows_the_variations_and_refuses_others():
    assert get_args(config.Variation) == tuple(VARIATIONS)
    with pytest.raises(CbirError, match="unknown variation 'colour'"):
        Variation(["colour"])

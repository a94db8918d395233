from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks import occlusion as module_under_test
from cbir_lib.networks.modules import Centre, TrainedNetwork
from cbir_lib.networks.occlusion import (
    compute_log_odds,
    measure_occlusion,
    place_patches,
    score_covered_images,
)
from tests.fixtures import untrained_network

SIZE = 32
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
MEAN = RNG.uniform(0, 255, (SIZE, SIZE)).astype(np.float32)


def trained(**options):
    return untrained_network(MEAN, **options)


def watching(weights, mean=MEAN):
    """A network by hand: class 0 scores the weighted sum of centred pixels, class 1 nothing."""
    flat = nn.Linear(weights.size, 2, bias=False)
    with torch.no_grad():
        flat.weight[:] = torch.tensor(np.stack([weights.ravel(), 0 * weights.ravel()]))
    modules = OrderedDict(centre=Centre(torch.tensor(mean)), flatten=nn.Flatten(), scores=flat)
    return TrainedNetwork(
        name="by hand",
        options={},
        class_names=("seen", "unseen"),
        preprocessing=Preprocessing(size=SIZE, clahe=False),
        module=nn.Sequential(modules).eval(),
    )


@torch.inference_mode()
def naive(network, images, classes, patch_px, stride_px, fill):
    """One image, one place at a time."""
    centre = network.module.centre.mean_image.numpy()
    starts = place_patches(SIZE, patch_px, stride_px)
    fall = np.empty((len(images), len(starts), len(starts)))
    for n, image in enumerate(images):

        def odds(picture, wanted=classes[n]):
            share = network.module(torch.tensor(picture[None]))[0].double().softmax(0)[wanted]
            return float(torch.log(share / (1 - share)))

        for i, top in enumerate(starts):
            for j, left in enumerate(starts):
                picture = image.astype(np.float32)
                patch = np.s_[top : top + patch_px, left : left + patch_px]
                picture[patch] = centre[patch] if fill is None else fill
                fall[n, i, j] = odds(image) - odds(picture)
    return fall


# The maps


@torch.inference_mode()
def answer(network, images=IMAGES):
    return network.module(torch.tensor(images)).argmax(1).numpy()


@pytest.mark.parametrize("options", [{}, {"crop": 28}, {"batch_norm": True}], ids=str)
def test_maps_are_those_of_a_loop(options):
    network = trained(**options)
    maps = measure_occlusion(network, IMAGES, patch_px=9, stride_px=5)
    assert maps.dtype == np.float32
    assert maps.shape == (3, 5, 5)
    expected = naive(network, IMAGES, answer(network), 9, 5, None)
    assert np.ptp(expected) > 0.01
    assert np.allclose(maps, expected, atol=1e-5)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (13, 20), (31, 31), (30, 5)])
def test_one_pixel_that_decides_is_found_where_the_patch_covers_it(row, column):
    weights = np.zeros((SIZE, SIZE), np.float32)
    weights[row, column] = 3.0
    patch, stride = 6, 2
    maps = measure_occlusion(watching(weights), IMAGES, patch_px=patch, stride_px=stride)
    starts = place_patches(SIZE, patch, stride)
    covers = [(starts <= place) & (place < starts + patch) for place in (row, column)]
    covers = np.outer(*covers)
    assert covers.any()
    # Of two classes, the log-odds are the difference of the scores, which the answer is ahead by;
    # covered, both score nothing.
    fall = np.abs(3.0 * (IMAGES[:, row, column] - MEAN[row, column]) / 255)
    assert np.allclose(maps, fall[:, None, None] * covers, atol=1e-6)


def test_where_the_network_does_not_look_nothing_falls():
    weights = np.zeros((SIZE, SIZE), np.float32)
    weights[8:16, 16:24] = RNG.normal(size=(8, 8))
    maps = measure_occlusion(watching(weights), IMAGES, patch_px=8, stride_px=8)
    seen = np.zeros((4, 4), bool)
    seen[1, 2] = True
    assert np.abs(maps[:, ~seen]).max() < 1e-6  # sums may differ by the batch
    assert (maps[:, 1, 2] > 0.001).all()  # without its region no answer is ahead


def test_an_image_that_is_the_mean_image_has_nothing_to_cover():
    network = watching(RNG.normal(size=(SIZE, SIZE)).astype(np.float32), np.float32(IMAGES[0]))
    assert (measure_occlusion(network, IMAGES[:1], patch_px=4, stride_px=4) == 0).all()
    assert measure_occlusion(network, IMAGES[1:], patch_px=4, stride_px=4).any()


def test_images_are_not_changed_and_go_through_the_preprocessing():
    small = IMAGES[:, ::2, ::2].copy()
    before = small.copy()
    network = trained()
    enlarged = network.preprocessing.transform(small)
    maps = measure_occlusion(network, small, patch_px=8, stride_px=8)
    assert np.array_equal(maps, measure_occlusion(network, enlarged, patch_px=8, stride_px=8))
    assert np.array_equal(small, before)


def test_batches_do_not_show(monkeypatch):
    network = trained()
    maps = measure_occlusion(network, IMAGES, patch_px=9, stride_px=5)
    monkeypatch.setattr(module_under_test, "BATCH", 7)
    assert np.allclose(maps, measure_occlusion(network, IMAGES, patch_px=9, stride_px=5), atol=1e-5)


# One patch an image


@pytest.mark.parametrize("fill", [None, 0.0, 200.0])
def test_one_patch_each_is_a_value_of_the_maps(fill):
    network, starts = trained(), place_patches(SIZE, 9, 5)
    answers = answer(network)
    maps = naive(network, IMAGES, answers, 9, 5, fill)
    down, across = np.array([0, 4, 2]), np.array([3, 1, 4])
    whole, left = (
        score_covered_images(
            network, IMAGES, starts[down], starts[across], patch_px=patch, fill=fill
        )
        for patch in (0, 9)
    )
    with torch.inference_mode():
        assert np.allclose(whole, network.module(torch.tensor(IMAGES)).numpy(), atol=1e-6)
    fall = compute_log_odds(whole, answers) - compute_log_odds(left, answers)
    assert np.allclose(fall, maps[range(3), down, across], atol=1e-5)


def test_log_odds_are_those_of_the_softmax_and_stay_finite():
    scores = RNG.normal(0, 3, (6, 4)).astype(np.float32)
    shares = torch.tensor(scores).double().softmax(1).numpy()
    classes = np.array([0, 1, 2, 3, 0, 2])
    share = shares[np.arange(6), classes]
    assert np.allclose(compute_log_odds(scores, classes), np.log(share / (1 - share)), atol=1e-5)
    assert compute_log_odds(np.array([[900.0, 0.0, 0.0]]), np.array([0])) == pytest.approx(
        900 - np.log(2)
    )


def test_the_patch_is_zero_after_centring_and_the_rest_as_it_was():
    seen = []
    network = watching(np.ones((SIZE, SIZE), np.float32))
    network.module.centre.register_forward_hook(lambda _, __, out: seen.append(out[:, 0].numpy()))
    tops, lefts = np.array([0, 5, 20]), np.array([3, 0, 20])
    score_covered_images(network, IMAGES, tops, lefts, patch_px=12)
    for image, centred, top, left in zip(IMAGES, seen[0], tops, lefts, strict=True):
        expected = (image - MEAN) / 255
        expected[top : top + 12, left : left + 12] = 0
        assert np.allclose(centred, expected, atol=1e-6)
        assert (centred[top : top + 12, left : left + 12] == 0).all()


# Places


@pytest.mark.parametrize(
    ("side", "patch", "stride", "starts"),
    [
        (64, 12, 4, range(0, 53, 4)),
        (10, 4, 4, [1, 5]),
        (10, 3, 4, [1, 5]),  # 1 px is left before, 2 px after
        (8, 8, 3, [0]),
        (5, 1, 1, range(5)),
    ],
)
def test_positions(side, patch, stride, starts):
    assert place_patches(side, patch, stride).tolist() == list(starts)


@pytest.mark.parametrize("patch", range(1, 20))
@pytest.mark.parametrize("stride", [1, 3, 7])
def test_positions_are_inside_evenly_spaced_and_in_the_middle(patch, stride):
    starts = place_patches(19, patch, stride)
    before, after = starts[0], 19 - (starts[-1] + patch)
    assert (np.diff(starts) == stride).all()
    assert 0 <= before <= after <= before + 1
    assert before + after < stride


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_px": 33, "stride_px": 4}, "a patch of 33 px on an image of 32 px"),
        ({"patch_px": 0, "stride_px": 4}, "a patch of 0 px"),
        ({"patch_px": 4.5, "stride_px": 4}, "a patch of 4.5 px"),
        ({"patch_px": 4, "stride_px": 0}, "a stride of 0 px"),
        ({"patch_px": 4, "stride_px": 1.5}, "a stride of 1.5 px"),
    ],
    ids=str,
)
def test_what_is_out_of_range_is_refused(options, message):
    with pytest.raises(CbirError, match=message):
        measure_occlusion(trained(), IMAGES, **options)

"""Augmentation: against NumPy pixel by pixel, and by how often each movement comes up."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cbir_lib.errors import CbirError
from cbir_lib.networks.augmentation import Augmentation, move_images

unhurried = settings(deadline=None)  # a busy machine is no failure


def by_numpy(image, turn, top, left, side):
    """(C, S, S) turned and cropped."""
    turned = np.rot90(image, turn, axes=(1, 2))
    return turned[:, top : top + side, left : left + side]


# One image after the other


@st.composite
def movements(draw):
    """Images, and a movement for each."""
    number, channels, size = (draw(st.integers(1, high)) for high in (4, 3, 9))
    side = draw(st.integers(1, size))
    dtype = draw(st.sampled_from([np.uint8, np.int64, np.float32, np.float64]))
    images = np.arange(number * channels * size**2).reshape(number, channels, size, size)
    corner = st.integers(0, size - side)
    movement = st.tuples(st.integers(0, 3), corner, corner)
    return images.astype(dtype), draw(st.lists(movement, min_size=number, max_size=number)), side


@unhurried
@given(movements())
def test_moved_is_numpys_turn_and_crop(drawn):
    images, ways, side = drawn  # no two pixels are equal, but for 256 and more in uint8
    turns, tops, lefts = map(torch.tensor, zip(*ways, strict=True))
    moved = move_images(torch.tensor(images), turns, tops, lefts, side)
    expected = np.stack([by_numpy(i, *way, side) for i, way in zip(images, ways, strict=True)])
    assert moved.numpy().dtype == images.dtype
    np.testing.assert_array_equal(moved, expected)


def test_moved_takes_any_layout_in_memory_and_leaves_its_input():
    images = torch.arange(2 * 3 * 16).reshape(2, 3, 4, 4)
    before = images.clone()
    turns, zeros = torch.tensor([1, 2]), torch.zeros(2, dtype=torch.int64)
    movement = (turns, zeros, zeros, 4)
    plain = move_images(images, *movement)
    for format in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(move_images(images.contiguous(memory_format=format), *movement), plain)
    assert torch.equal(images, before)


# Batches, at random

DRAWS = 8000
EVERY = {"turns": True, "crop": 3, "shifts": True}


def drawn(size=4, seed=0, number=DRAWS, **options):
    """How often each result came up, of so many equal images whose pixels all differ."""
    torch.manual_seed(seed)
    images = torch.arange(float(size**2)).reshape(1, 1, size, size).expand(number, 1, size, size)
    moved = Augmentation(size, **options).train()(images)
    return Counter(tuple(map(tuple, image[0].tolist())) for image in moved)


def possible(size=4, turns=False, crop=None, shifts=False):
    """What the same options allow, by NumPy."""
    image = np.arange(float(size**2)).reshape(1, size, size)
    side = crop or size
    corners = range(size - side + 1) if shifts else [(size - side) // 2]
    return {
        tuple(map(tuple, by_numpy(image, turn, top, left, side)[0].tolist()))
        for turn in (range(4) if turns else [0])
        for top in corners
        for left in corners
    }


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({"turns": True}, 4),
        ({"crop": 2, "shifts": True}, 9),
        (EVERY, 4 * 4),
        ({"turns": True, "crop": 2}, 4),  # at the centre
        ({"turns": True, "crop": 3}, 4),
        ({"turns": True, "shifts": True}, 4),  # no room
    ],
    ids=str,
)
def test_training_moves_in_each_way_equally_often(options, number):
    counts = drawn(**options)
    assert counts.keys() == possible(**options)
    assert len(counts) == number
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


def test_turns_and_corners_are_drawn_independently():
    # A table of 4 turns and 4 corners: were two tied, some of the 16 would lack or abound.
    number_of = drawn(**EVERY)
    cells = []
    image = np.arange(16.0).reshape(1, 4, 4)
    for turn in range(4):
        for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
            result = by_numpy(image, turn, *corner, 3)[0].tolist()
            cells.append(number_of[tuple(map(tuple, result))])
    counts = np.array(cells).reshape(4, 4)
    assert counts.sum() == DRAWS
    assert stats.chi2_contingency(counts).pvalue > 0.001


def test_each_image_of_a_batch_moves_in_its_own_way_and_its_channels_together():
    torch.manual_seed(0)
    images = torch.arange(64.0 * 2 * 16).reshape(64, 2, 4, 4)
    moved = Augmentation(4, **EVERY).train()(images)
    assert moved.shape == (64, 2, 3, 3)
    assert torch.equal(moved[:, 1], moved[:, 0] + 16)
    ways = {tuple((image[0] - image[0].min()).flatten().tolist()) for image in moved}
    assert len(ways) == 4  # turns


@pytest.mark.parametrize("options", [EVERY, {"crop": 2}, {"crop": 3, "turns": True}, {}], ids=str)
def test_evaluation_takes_the_centre(options):
    images = torch.arange(5 * 2 * 36).reshape(5, 2, 6, 6)
    side = options.get("crop", 6)
    first = (6 - side) // 2
    state = torch.get_rng_state()
    cut = Augmentation(6, **options).eval()(images)
    assert torch.equal(cut, images[:, :, first : first + side, first : first + side])
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn


@pytest.mark.parametrize("options", [{}, {"shifts": True}, {"crop": 6, "shifts": True}], ids=str)
def test_without_options_training_changes_nothing(options):
    images = torch.rand(5, 1, 6, 6)
    state = torch.get_rng_state()
    assert torch.equal(Augmentation(6, **options).train()(images), images)
    assert torch.equal(torch.get_rng_state(), state)


def test_same_seed_same_bits():
    assert drawn(**EVERY, number=50) == drawn(**EVERY, number=50)
    assert drawn(**EVERY, number=50) != drawn(**EVERY, number=50, seed=1)


def test_a_gradient_flows_back_to_where_a_pixel_was():
    images = torch.zeros(6, 1, 4, 4, requires_grad=True)
    Augmentation(4, **EVERY).train()(images).sum().backward()
    assert images.grad.sum(dim=(1, 2, 3)).tolist() == [9.0] * 6  # the pixels of each crop
    assert set(images.grad.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("crop", [0, -1, 5, 2.0, True])
def test_crops_out_of_range_are_refused(crop):
    with pytest.raises(CbirError, match=f"a crop of {crop} px from an image of 4 px") as caught:
        Augmentation(4, crop=crop)
    assert caught.value.hint == "give a whole number, 1 to 4 pixels"


def test_two_augmentations_are_told_apart_by_their_text():
    # A checkpoint knows by it which training it is of.
    options = ({}, {"turns": True}, {"crop": 3}, {"crop": 3, "shifts": True})
    assert len({str(Augmentation(4, **chosen)) for chosen in options}) == len(options)
    assert str(Augmentation(5)) != str(Augmentation(4))

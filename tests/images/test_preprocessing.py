import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing, check_images, compute_mean_image

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (3, 32, 32), dtype=np.uint8)
NOISE.flags.writeable = False  # as a memory map is


def equalised(image):
    """Plain histogram equalisation: a grey value becomes the share of pixels up to it, of 255."""
    histogram = np.bincount(image.ravel(), minlength=256)
    return np.rint(np.cumsum(histogram) * 255 / image.size)[image]


# Size


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_shrinking_by_a_whole_factor_takes_the_mean_of_each_block(factor):
    size = 16
    images = RNG.integers(0, 256, (2, size * factor, size * factor), dtype=np.uint8)
    blocks = images.reshape(2, size, factor, size, factor).mean(axis=(2, 4))
    small = Preprocessing(size=size, clahe=False).transform(images)
    assert small.dtype == np.uint8
    assert np.abs(small - blocks).max() <= 0.5


@pytest.mark.parametrize(
    ("shape", "method"),
    [
        ((40, 25), cv2.INTER_AREA),  # both sides shrink
        ((10, 9), cv2.INTER_LINEAR),  # both grow
        ((40, 9), cv2.INTER_LINEAR),
        ((16, 9), cv2.INTER_LINEAR),
    ],
)
def test_any_shape_becomes_the_square(shape, method):
    images = RNG.integers(0, 256, (2, *shape), dtype=np.uint8)
    square = Preprocessing(size=16, clahe=False).transform(images)
    expected = [cv2.resize(image, (16, 16), interpolation=method) for image in images]
    assert np.array_equal(square, expected)


def test_enlarging_a_ramp_is_linear():
    ramp = np.tile(np.arange(0, 160, 20, dtype=np.uint8), (1, 8, 1))  # 8 columns, 20 apart
    large = Preprocessing(size=16, clahe=False).transform(ramp)[0]
    # Pixel centres: column j of 16 lies at (j + 1/2) / 2 - 1/2 of 8.
    at = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7)
    assert np.array_equal(large, np.tile(at * 20, (16, 1)))


def test_right_size_is_left_alone():
    assert np.array_equal(Preprocessing(size=32, clahe=False).transform(NOISE), NOISE)


# Contrast


def test_one_tile_without_clipping_is_plain_equalisation():
    images = (NOISE // 3 + 40).astype(np.uint8)  # little contrast
    transformed = Preprocessing(size=32, clip_limit=256, tile_px=32).transform(images)
    assert np.array_equal(transformed, [equalised(image) for image in images])
    assert np.ptp(images[0]) < 90
    assert np.ptp(transformed[0]) > 240


def test_tiles_have_the_given_side():
    # Four tiles of 16 px, each of noise in another range. Within a quarter tile of the corners
    # of the image there is no neighbour to interpolate with: plain equalisation of the tile.
    image = np.kron([[0, 1], [2, 3]], np.ones((16, 16), int)) * 64 + NOISE[0] // 8
    image = image.astype(np.uint8)
    result = Preprocessing(size=32, clip_limit=256, tile_px=16).transform(image[None])[0]
    for rows in (slice(0, 16), slice(16, 32)):
        for columns in (slice(0, 16), slice(16, 32)):
            corner = np.ix_(
                range(8) if rows.start == 0 else range(8, 16),
                range(8) if columns.start == 0 else range(8, 16),
            )
            tile = equalised(image[rows, columns])
            assert np.array_equal(result[rows, columns][corner], tile[corner])


@pytest.mark.parametrize("tile_px", [33, 1000])
def test_tile_never_covers_more_than_the_image(tile_px):
    whole = Preprocessing(size=32, tile_px=32).transform(NOISE)
    assert np.array_equal(Preprocessing(size=32, tile_px=tile_px).transform(NOISE), whole)


def test_the_lower_the_limit_the_less_contrast_is_added():
    images = (NOISE // 8 + 100).astype(np.uint8)
    spreads = [
        Preprocessing(size=32, clip_limit=limit, tile_px=32).transform(images).std()
        for limit in (1, 2, 4, 256)
    ]
    assert spreads == sorted(spreads)
    assert spreads[0] < spreads[-1] / 2


@pytest.mark.parametrize("value", [0, 77, 255])
def test_constant_image_stays_constant(value):
    images = np.full((1, 40, 40), value, np.uint8)
    # Clipping spreads the one filled bin over all 256: value v becomes the share of bins up to v,
    # give or take the clipped bin's own 2 of 256.
    (result,) = Preprocessing(size=32, clip_limit=2, tile_px=32).transform(images)
    assert np.ptp(result) == 0
    assert abs(int(result[0, 0]) - value) <= 3
    plain = Preprocessing(size=32, clahe=False).transform(images)
    assert np.array_equal(plain, np.full((1, 32, 32), value))


def test_every_image_is_treated_by_itself():
    preprocessing = Preprocessing(size=24, tile_px=8)
    together = preprocessing.transform(NOISE)
    alone = [preprocessing.transform(image[None])[0] for image in NOISE]
    assert np.array_equal(together, alone)


# Mean image


@given(arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(3), st.just(2))))
def test_mean_image_is_the_mean_of_the_images(images):
    mean = compute_mean_image(images)
    assert mean.dtype == np.float32
    assert np.allclose(mean, np.mean(images.astype(float), axis=0), rtol=1e-6)


def test_mean_of_many_images_does_not_lose_bits():
    # Summed in float32 the mean of these would be off by some grey values.
    images = np.broadcast_to(np.array([[[255, 1]]], np.uint8), (300_000, 1, 2))
    assert compute_mean_image(images).tolist() == [[255, 1]]


# What is refused


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"size": 7}, "size 7"),
        ({"size": 1025}, "size 1025"),
        ({"size": 64.0}, "size 64.0"),
        ({"size": "64"}, "size '64'"),
        ({"clahe": "no"}, "clahe 'no'"),
        ({"clip_limit": 0}, "clip_limit 0"),
        ({"clip_limit": float("nan")}, "clip_limit nan"),
        ({"clip_limit": 1e9}, "clip_limit 1000000000.0"),  # OpenCV's product overflows there
        ({"clip_limit": True}, "clip_limit True"),
        ({"clip_limit": "2"}, "clip_limit '2'"),
        ({"tile_px": 7}, "tile_px 7"),
        ({"tile_px": 16.5}, "tile_px 16.5"),
    ],
)
def test_parameters_out_of_range(parameters, named):
    with pytest.raises(CbirError, match=f"{named} is out of range"):
        Preprocessing(**parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {"size": 8},
        {"size": 1024},
        {"clip_limit": 256},
        {"tile_px": 8},
        {"size": np.int64(16), "tile_px": np.int32(8), "clip_limit": np.float32(2)},
    ],
)
def test_ends_of_the_ranges_work(parameters):
    preprocessing = Preprocessing(**parameters)
    assert preprocessing.transform(NOISE).shape == (3, preprocessing.size, preprocessing.size)


@pytest.mark.parametrize("function", [check_images, compute_mean_image, Preprocessing().transform])
@pytest.mark.parametrize(
    "images",
    [
        NOISE.astype(np.float32),
        NOISE.astype(np.int64),
        NOISE[0],
        NOISE[..., None],
        NOISE[:0],
        NOISE[:, :0],
        [[1, 2], [3, 4]],
        None,
    ],
    ids=["float", "int64", "one image", "channels", "none", "no rows", "a list", "nothing"],
)
def test_what_is_not_a_batch_of_grey_images(function, images):
    with pytest.raises(CbirError, match=r"expected images of shape \(N, H, W\) and type uint8"):
        function(images)

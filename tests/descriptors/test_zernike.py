import cv2
import mahotas
import numpy as np
import pytest
from sklearn.base import clone

from cbir_lib.descriptors.zernike import ZernikeMoments
from cbir_lib.errors import CbirError
from tests.fixtures import draw_edge_cases

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (4, 32, 32), dtype=np.uint8)
EDGE_CASES = draw_edge_cases()


@pytest.mark.parametrize("side", [32, 33])
@pytest.mark.parametrize("order", [0, 3, 8, 12])
def test_moments_are_mahotas(side, order):
    images = RNG.integers(0, 256, (3, side, side), dtype=np.uint8)
    centre = ((side - 1) / 2, (side - 1) / 2)
    for image, moments in zip(images, ZernikeMoments(order).transform(images), strict=True):
        expected = mahotas.features.zernike_moments(image, side / 2, order, cm=centre)
        assert np.allclose(moments, expected, atol=1e-5)
        assert moments[0] == pytest.approx(1 / np.pi)


def test_rotation_by_right_angles_changes_nothing():
    vectors = ZernikeMoments(12).transform(NOISE)
    for turns in (1, 2, 3):
        turned = ZernikeMoments(12).transform(np.rot90(NOISE, turns, axes=(1, 2)))
        assert np.allclose(turned, vectors, atol=1e-6)


@pytest.mark.parametrize("degrees", [20, 45, 100])
def test_rotation_by_other_angles_changes_little(degrees):
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 2) for image in NOISE])
    smooth = np.stack([cv2.resize(image, (96, 96)) for image in smooth])
    smooth = cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)
    turn = cv2.getRotationMatrix2D((47.5, 47.5), degrees, 1)
    turned = np.stack([cv2.warpAffine(image, turn, (96, 96)) for image in smooth])
    descriptor = ZernikeMoments()
    before, after = descriptor.transform(smooth), descriptor.transform(turned)
    apart = abs(before[:, None] - after).sum(axis=2)
    own, other = np.diag(apart), apart[~np.eye(len(apart), dtype=bool)]
    assert own.max() < other.min() / 5


def test_brightness_scales_away():
    dark = NOISE // 2 * 2
    assert np.allclose(
        ZernikeMoments().transform(dark // 2), ZernikeMoments().transform(dark), atol=1e-6
    )


@pytest.mark.parametrize("images", EDGE_CASES.values(), ids=EDGE_CASES)
@pytest.mark.parametrize("order", [0, 1, 8, 9, 20])
def test_every_image_gives_a_finite_vector_of_the_declared_length(images, order):
    vectors = ZernikeMoments(order).fit(images).transform(images)
    assert vectors.shape == (len(images), (order // 2 + 1) * ((order + 1) // 2 + 1))
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    alone = [ZernikeMoments(order).transform(image[None]) for image in images]
    assert np.allclose(vectors, np.concatenate(alone), atol=1e-5)


@pytest.mark.parametrize("order", [-1, 21, 8.0, None])
def test_order_out_of_range(order):
    descriptor = clone(ZernikeMoments(order))
    for use in (descriptor.fit, descriptor.transform):
        with pytest.raises(CbirError, match=f"order {order} is out of range"):
            use(NOISE)

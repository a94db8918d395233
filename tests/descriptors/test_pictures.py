"""Pictures of what descriptors hold: filters, words, moments, cells and frequencies."""

import mahotas
import numpy as np
import pytest

from cbir_lib.book.drawings import draw_disc_and_bar, draw_figures, draw_stripes
from cbir_lib.book.maps import arrange_frequencies, sum_blocks
from cbir_lib.descriptors import gabor, local
from cbir_lib.descriptors.fourier_mellin import FourierMellin
from cbir_lib.descriptors.gabor_waves import draw_waves
from cbir_lib.descriptors.hog import HOG
from cbir_lib.descriptors.visual_words import average_patches, colour_words, spell
from cbir_lib.descriptors.zernike_reconstruction import reconstruct

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (6, 48, 48), dtype=np.uint8)


@pytest.mark.parametrize(
    ("bank", "orientations", "scales"), [("octaves", 5, 3), ("manjunath-ma", 6, 4)]
)
def test_a_wave_is_the_inverse_transform_of_its_filter(bank, orientations, scales):
    side, reach, finer = 128, 10, 4  # a spectrum four times as wide: the Gaussian fits into it
    bins = np.fft.fftfreq(finer * side, 1 / (finer * side))
    u, v = bins, bins[:, None]
    waves = draw_waves(bank, orientations, scales, side=side, reach_px=reach)
    filters = gabor.BANKS[bank](side, orientations, scales)
    for number, (centre, angle, along, across) in enumerate(filters):
        away = u * np.cos(angle) + v * np.sin(angle) - centre
        aside = v * np.cos(angle) - u * np.sin(angle)
        gain = np.exp(-0.5 * ((away / along) ** 2 + (aside / across) ** 2))
        inverse = np.fft.fftshift(np.fft.ifft2(gain).real)[::finer, ::finer]  # whole pixels
        middle = slice(side // 2 - reach, side // 2 + reach + 1)
        expected = inverse[middle, middle] / inverse[side // 2, side // 2]
        wave = waves[number // orientations, number % orientations]
        assert np.allclose(wave, expected, atol=1e-6)


def test_the_word_of_a_point_is_the_nearest():
    method = local.BagOfWords(words=5, sample=300).fit(NOISE)
    words, distances = spell(method, NOISE)
    side = len(local.place_grid(48, method.patch_px, method.step_px))
    assert words.shape == distances.shape == (len(NOISE), side, side)
    _, features = local.describe_densely(NOISE, method.step_px, method.patch_px)
    away = np.linalg.norm(features[:, None] - method.vocabulary_[None], axis=2)
    assert (words.ravel() == away.argmin(1)).all()
    assert np.allclose(distances.ravel(), away.min(1), atol=1e-5)


def test_the_words_of_an_image_are_its_bag():
    method = local.BagOfWords(words=7, sample=300).fit(NOISE)
    for bag, own in zip(method.transform(NOISE), spell(method, NOISE)[0], strict=True):
        counts = np.bincount(own.ravel(), minlength=7)
        assert np.allclose(bag / bag.sum(), counts / counts.sum())


def test_a_word_looks_like_the_mean_of_its_patches():
    method = local.BagOfWords(words=3, sample=300).fit(NOISE)
    words = spell(method, NOISE)[0].ravel()
    _, patches = local.cut_patches(NOISE, method.step_px, method.patch_px)
    totals = np.zeros((3, method.patch_px**2))
    for word, patch in zip(words, patches, strict=True):
        totals[word] += patch - patch.mean()
    expected = totals / np.bincount(words, minlength=3)[:, None]
    assert np.allclose(average_patches(method, NOISE).reshape(3, -1), expected, atol=1e-5)


def test_a_word_that_no_point_has_has_no_look():
    method = local.BagOfWords(words=3, sample=300).fit(NOISE)
    method.vocabulary_ = np.concatenate([method.vocabulary_[:2], [[1e6] * 128]]).astype(np.float32)
    looks = average_patches(method, NOISE)
    assert np.isnan(looks[2]).all() and np.isfinite(looks[:2]).all()


def test_like_words_have_like_colours():
    method = local.BagOfWords(words=40)
    line = np.zeros((40, 128), np.float32)
    line[:, 3] = np.arange(40)  # words in a row along one axis
    method.vocabulary_ = line
    colours = colour_words(method)
    assert colours.min() == 0 and colours.max() < 1
    steps = np.diff(colours[:, 0])
    assert np.allclose(np.abs(steps), 1 / 40) and len(set(np.sign(steps))) == 1


@pytest.mark.parametrize("side", [40, 41])
def test_zernike_polynomials_are_reconstructed_by_their_own_order(side):
    """A disc of one value, a tilt and a defocus: they need orders 0, 1 and 2, no more."""
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / (side / 2)
    disc = np.hypot(x, y) <= 0.95  # the rim is pixels cut by the circle
    for order, polynomial in ((0, 0 * x + 1), (1, x), (1, y), (2, 2 * (x**2 + y**2) - 1)):
        image = np.rint(128 + 100 * polynomial * (np.hypot(x, y) <= 1)).astype(np.uint8)
        restored = reconstruct(image[None], max(order, 2))[0]
        assert np.abs(restored - image)[disc].mean() < 4
        if order:
            assert np.abs(reconstruct(image[None], order - 1)[0] - image)[disc].mean() > 15


def test_magnitudes_are_those_of_mahotas():
    """The reconstruction of order 3 less that of order 2 carries the moments of order 3."""
    side, image = 32, RNG.integers(0, 256, (32, 32), dtype=np.uint8)
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / (side / 2)
    disc = np.hypot(x, y) <= 1
    layer = reconstruct(image[None], 3)[0] - reconstruct(image[None], 2)[0]
    expected = mahotas.features.zernike_moments(image, side / 2, 3, cm=((side - 1) / 2,) * 2)
    a31, a33 = expected[-2:] * image[disc].sum() * (2 / side) ** 2  # mahotas divides by the sum
    # Parseval: the integral of a term 2 Re(A V) is 2 pi / (n + 1) |A|^2.
    energy = (layer[disc] ** 2).sum() * (2 / side) ** 2
    assert energy == pytest.approx(2 * np.pi / 4 * (a31**2 + a33**2), rel=0.05)


def test_higher_orders_come_closer():
    radiograph = draw_disc_and_bar()
    y, x = (np.mgrid[:64, :64] - 31.5) / 32
    disc = np.hypot(x, y) <= 0.9
    errors = [
        np.abs(reconstruct(radiograph[None], order)[0] - radiograph)[disc].mean()
        for order in (0, 4, 8, 16)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 3
    assert (reconstruct(radiograph[None], 4)[0][np.hypot(x, y) > 1] == 0).all()


def test_blocks_are_summed_cell_by_cell():
    hog = HOG(cell_px=16)
    vectors = hog.transform(NOISE)
    across = hog.size // hog.cell_px
    expected = np.zeros((len(NOISE), across, across, hog.orientations))
    blocks = vectors.reshape(len(NOISE), across - 1, across - 1, 2, 2, hog.orientations)
    for n, row, column, y, x, o in np.ndindex(blocks.shape):
        expected[n, row + y, column + x, o] += blocks[n, row, column, y, x, o]
    assert np.allclose(sum_blocks(hog, vectors), expected, atol=1e-5)


def test_frequencies_stand_in_rows_and_columns():
    method = FourierMellin(angular=4, radial=8)
    vectors = method.transform(NOISE)
    maps = arrange_frequencies(method, vectors)
    assert maps.shape == (len(NOISE), 4 * 4, 15)
    for row in range(16):
        for column in range(15):
            value = vectors[:, (row // 4) * 15 + column]
            assert np.allclose(maps[:, row, column] ** 2, value, atol=1e-6)


@pytest.mark.parametrize("period", [4, 8, 32])
def test_stripes_have_their_period_and_their_grey_values(period):
    stripes = draw_stripes(period, dark=10, bright=200)
    assert set(np.unique(stripes)) == {10, 200}
    assert (stripes[:, period:] == stripes[:, :-period]).all()
    assert (stripes[:, period // 2 :] != stripes[:, : -period // 2]).all()
    assert (stripes == stripes[0]).all()


def test_slanted_stripes_run_at_45_degrees():
    stripes = draw_stripes(8, slanted=True)
    assert (stripes[1:, :-1] == stripes[:-1, 1:]).all()
    assert (stripes[0] == draw_stripes(8)[0]).all()


def test_the_figures_are_three_different_ones_on_black():
    figures = draw_figures()
    assert list(figures) == ["leg", "fan", "ring"]
    vectors = np.stack([image.ravel() / 255 for image in figures.values()])
    assert all(image.max() > 150 and image[:4].max() == 0 for image in figures.values())
    for one in range(3):
        for other in range(one):
            assert np.abs(vectors[one] - vectors[other]).mean() > 0.05

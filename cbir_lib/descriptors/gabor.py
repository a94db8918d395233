"""Gabor filters: how strongly an image responds to each frequency and orientation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from threadpoolctl import threadpool_limits

from cbir_lib.descriptors import gabor_loops
from cbir_lib.descriptors.blocks import map_blocks
from cbir_lib.errors import CbirError, check_integer, check_switch, unknown_name_error
from cbir_lib.images.preprocessing import check_images
from cbir_lib.loops import compile_loops
from cbir_lib.sampling import space_evenly

PAD_PX = 32  # zeros on each side, as the baselines have it
CUT = np.sqrt(2 * np.log(1e6))  # deviations from a filter's centre where it is down to 1e-6
SAMPLES = 2**20  # magnitudes of each filter at most, from which bins are learned
HALF_PEAK = np.sqrt(2 * np.log(2))  # deviations from a Gaussian's centre to half its peak


def compute_reference(image: np.ndarray, bank: str, orientations: int, scales: int) -> np.ndarray:
    """Compute the magnitudes of the responses of one (H, W) image: (scales * orientations, H, W).

    The definition of :func:`compute_response_maps`, without its speed: a filter is a Gaussian
    around its centre frequency in the spectrum of the padded image (Manjunath & Ma 1996, eq. 2,
    DOI 10.1109/34.531803).
    """
    side = compute_padded_side(*image.shape)
    spectrum = np.fft.fft2(image / 255, s=(side, side))
    u = np.fft.fftfreq(side, 1 / side)  # bins
    v = u[:, None]
    maps = []
    for centre, angle, along, across in BANKS[bank](side, orientations, scales):
        away = u * np.cos(angle) + v * np.sin(angle) - centre
        aside = v * np.cos(angle) - u * np.sin(angle)
        gain = np.exp(-0.5 * ((away / along) ** 2 + (aside / across) ** 2))
        gain[side // 2], gain[:, side // 2] = 0, 0  # the highest frequency has no sign
        maps.append(abs(np.fft.ifft2(spectrum * gain))[: image.shape[0], : image.shape[1]])
    return np.stack(maps)


def compute_padded_side(height: int, width: int) -> int:
    """Return the side of the transform in pixels: a power of two with room for the padding."""
    return 2 ** int(np.ceil(np.log2(max(height, width) + 2 * PAD_PX)))


def build_octave_bank(side: int, orientations: int, scales: int) -> np.ndarray:
    """Return the baselines' filters (Deselaers, Keysers, Ney 2008, and their open engine).

    Centre frequencies sqrt(2) 2^(f + 2) FFT bins, f = 0, 1, ...; the Gaussians are one octave wide
    at half their peak, where neighbours in orientation touch.

    Returns
    -------
    (scales * orientations, 4) float64
        Centre frequency, orientation (radians), deviation along and across the orientation; in bins
        of a transform of ``side`` pixels. Row ``f * orientations + p``: low frequencies first,
        orientation p pi / orientations.
    """
    centres = np.sqrt(2) * 2.0 ** (np.arange(scales) + 2)
    across = centres * np.tan(np.pi / (2 * orientations)) / HALF_PEAK
    return _stack_filters(centres, centres / 3 / HALF_PEAK, across, orientations)


def build_manjunath_ma_bank(side: int, orientations: int, scales: int) -> np.ndarray:
    """Return the filters of Manjunath & Ma (1996), appendix, from 0.05 to 0.4 cycles per pixel.

    Neighbours in scale and in orientation touch at half their peaks. The array is that of
    :func:`build_octave_bank`.
    """
    low, high = 0.05, 0.4
    ratio = (high / low) ** (1 / (scales - 1))
    along = (ratio - 1) / (ratio + 1) * high / HALF_PEAK
    # The ellipse's half-peak contour touches the ray halfway to the next orientation.
    half = (along * HALF_PEAK) ** 2
    across = np.tan(np.pi / (2 * orientations)) * np.sqrt(high**2 - half) / HALF_PEAK
    shrink = ratio ** -np.arange(scales - 1, -1, -1.0)
    return _stack_filters(*(side * shrink * size for size in (high, along, across)), orientations)


def _stack_filters(centres, along, across, orientations: int) -> np.ndarray:
    angles = np.tile(np.arange(orientations) * np.pi / orientations, len(centres))
    sizes = (np.repeat(size, orientations) for size in (centres, along, across))
    centre, along, across = sizes
    return np.stack([centre, angles, along, across], axis=1)


BANKS = {"octaves": build_octave_bank, "manjunath-ma": build_manjunath_ma_bank}


def compute_response_maps(
    images: np.ndarray, bank: str = "octaves", orientations: int = 5, scales: int = 3
) -> np.ndarray:
    """Compute the magnitudes of the filters' responses, for display.

    Parameters
    ----------
    images : (N, H, W) uint8
    bank
        ``octaves`` or ``manjunath-ma``.
    orientations, scales : int
        Size of the bank, 2 to 16 and 2 to 6.

    Returns
    -------
    (N, scales, orientations, H, W) float32
        0 or more; grey values count as 0 to 1, and a filter's gain is 1 at its centre frequency.
        Low frequencies first; orientation p is p pi / orientations radians from the direction of
        rows to that of columns, the direction in which the grey value changes.
    """
    images = check_images(images)
    _check(bank, orientations, scales)
    maps = np.empty((len(images), scales * orientations, *images.shape[1:]), np.float32)

    def store(part: slice, number: int, responses: np.ndarray) -> None:
        maps[part, number] = _compute_magnitudes(responses)

    _apply_filters(store, images, bank, orientations, scales)
    return maps.reshape(len(images), scales, orientations, *images.shape[1:])


class GaborVector(TransformerMixin, BaseEstimator):
    """Mean and standard deviation of each filter's response.

    Parameters
    ----------
    bank : str
        ``octaves``, the baselines' filters (Deselaers, Keysers, Ney 2008), or ``manjunath-ma``.
    orientations : int
        2 to 16. The baselines take 5; Manjunath & Ma 6.
    scales : int
        Number of frequencies, 2 to 6. The baselines take 3; Manjunath & Ma 4.
    scaled : bool
        Divide each value by its standard deviation over the training images, as Manjunath & Ma do,
        so that values of differing size count alike.

    Attributes
    ----------
    scale_ : (D,) float32
        What ``fit`` learned from the training images; 1 where a value never varies.

    Notes
    -----
    The vector has ``2 * scales * orientations`` values, 30 by default: mean and standard deviation
    of the first filter, of the second, ... With ``octaves`` each map of magnitudes is first scaled
    to [0, 1], image by image: contrast does not count, nor how strong a filter is beside others; a
    flat map counts as 0. With ``manjunath-ma`` magnitudes are taken as they are. Images are padded
    by 32 zeros on each side, and to a square of a power of two.

    DOI 10.1007/s10791-007-9039-3 (baselines), 10.1109/34.531803 (Manjunath & Ma).

    Differs from the paper: the baselines' centre frequencies are in bins of the padded transform,
    so in cycles per pixel they depend on the image's size. Deselaers et al. do not scale by the
    training images; ``scaled=False`` is theirs. Manjunath & Ma do not pad.
    """

    distance = "L1"

    def __init__(
        self, bank: str = "octaves", orientations: int = 5, scales: int = 3, scaled: bool = True
    ):
        self.bank = bank
        self.orientations = orientations
        self.scales = scales
        self.scaled = scaled

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> GaborVector:
        """Check the parameters; learn each value's spread from (N, H, W) uint8 training images."""
        self.check()
        images = check_images(images)
        if self.scaled:
            self.fit_transform(images)
        return self

    def fit_transform(self, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Do what ``fit`` and ``transform`` do, and apply the filters only once."""
        self.check()
        vectors = self._compute_vectors(check_images(images))
        if not self.scaled:
            return vectors
        spread = vectors.std(axis=0, dtype=np.float64)
        self.scale_ = np.where(spread > 1e-6, spread, 1).astype(np.float32)
        return vectors / self.scale_

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, 2 * scales * orientations) float32."""
        self.check()
        images = check_images(images)
        if not self.scaled:
            return self._compute_vectors(images)
        return self._compute_vectors(images) / _get_learned(
            self, "scale_", 2 * self.scales * self.orientations
        )

    def _compute_vectors(self, images: np.ndarray) -> np.ndarray:
        summaries = np.empty((len(images), self.scales * self.orientations, 4), np.float32)

        def store(part: slice, number: int, responses: np.ndarray) -> None:
            summaries[part, number] = _summarise(responses)

        _apply_filters(store, images, self.bank, self.orientations, self.scales)
        vectors = summaries[..., :2]
        if self.bank == "octaves":
            lowest, highest = summaries[..., 2:3], summaries[..., 3:]
            flat = highest - lowest < 1e-6  # rounding noise
            vectors[..., :1] -= lowest
            vectors = np.where(flat, 0, vectors / np.where(flat, 1, highest - lowest))
        return vectors.reshape(len(images), -1)

    def check(self) -> None:
        """Refuse parameters out of range."""
        _check(self.bank, self.orientations, self.scales)
        check_switch("scaled", self.scaled)


class GaborHistogram(TransformerMixin, BaseEstimator):
    """Histograms of the magnitudes of each filter's response.

    Parameters
    ----------
    bank : str
        ``manjunath-ma`` (1996) or ``octaves``, the baselines' filters.
    orientations : int
        2 to 16; Manjunath & Ma take 6.
    scales : int
        2 to 6; Manjunath & Ma take 4.
    bins : int
        Bins of each filter's magnitudes, 2 to 64.

    Attributes
    ----------
    edges_ : (scales * orientations, bins - 1) float32
        What ``fit`` learned: each filter's quantiles over the training images, so that its bins are
        equally full there.

    Notes
    -----
    The vector has ``scales * orientations * bins`` values, 384 by default, and sums to 1. The
    quantiles are of at most 512 training images, evenly spaced, and 2^20 magnitudes a filter.

    Manjunath & Ma, IEEE PAMI 18(8), 1996, DOI 10.1109/34.531803: frequencies and widths.

    Differs from the paper: it takes mean and standard deviation of the magnitudes, which
    ``GaborVector("manjunath-ma", 6, 4)`` gives; a histogram keeps their distribution.
    """

    distance = "Jensen-Shannon"

    def __init__(
        self, bank: str = "manjunath-ma", orientations: int = 6, scales: int = 4, bins: int = 16
    ):
        self.bank = bank
        self.orientations = orientations
        self.scales = scales
        self.bins = bins

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> GaborHistogram:
        """Check the parameters; learn the bins from (N, H, W) uint8 training images."""
        self.check()
        images = check_images(images)
        images = images[space_evenly(len(images), 512)]
        step = -(-images.size // SAMPLES)
        filters = self.scales * self.orientations
        sample = np.empty((filters, len(images), -(-images[0].size // step)), np.float32)

        def store(part: slice, number: int, responses: np.ndarray) -> None:
            magnitudes = _compute_magnitudes(responses)
            sample[number, part] = magnitudes.reshape(len(magnitudes), -1)[:, ::step]

        _apply_filters(store, images, self.bank, self.orientations, self.scales)
        parts = np.arange(1, self.bins) / self.bins
        self.edges_ = np.stack([np.quantile(magnitudes, parts) for magnitudes in sample])
        self.edges_ = self.edges_.astype(np.float32)
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, scales * orientations * bins) float32, summing to 1."""
        self.check()
        images = check_images(images)
        filters = self.scales * self.orientations
        edges = _get_learned(self, "edges_", filters * (self.bins - 1)).reshape(filters, -1)
        histograms = np.empty((len(images), filters, self.bins), np.float32)

        def store(part: slice, number: int, responses: np.ndarray) -> None:
            above = _count_above(responses, edges[number])
            histograms[part, number] = -np.diff(above, prepend=images[0].size, append=0)

        _apply_filters(store, images, self.bank, self.orientations, self.scales)
        histograms /= np.float32(filters * images[0].size)
        return histograms.reshape(len(images), -1)

    def check(self) -> None:
        """Refuse parameters out of range."""
        _check(self.bank, self.orientations, self.scales)
        check_integer("bins", self.bins, 2, 64)


def _check(bank: str, orientations: int, scales: int) -> None:
    if bank not in BANKS:
        raise unknown_name_error("bank", bank, BANKS)
    check_integer("orientations", orientations, 2, 16)
    check_integer("scales", scales, 2, 6)


def _get_learned(descriptor: BaseEstimator, name: str, size: int) -> np.ndarray:
    """Return what ``fit`` learned, if it did with the same parameters."""
    learned = getattr(descriptor, name, None)
    if learned is None or learned.size != size:
        raise CbirError(
            f"{type(descriptor).__name__} has not learned from training images",
            "call fit with the training images first",
        )
    return learned


def _apply_filters(
    work: Callable[[slice, int, np.ndarray], None],
    images: np.ndarray,
    bank: str,
    orientations: int,
    scales: int,
) -> None:
    """Call ``work(part of the images, filter's number, responses)`` for all images and filters.

    The responses are (B, 2, H, W) float32, real and imaginary parts. A filter is zero except in a
    band of frequencies, so the inverse transform is a product with the few waves of that band,
    computed only where the image is, not its padding: exact except for gains below 1e-6 of the
    filter's peak. The band's centre is moved to frequency 0, which changes no magnitude.
    """
    height, width = images.shape[1:]
    side = compute_padded_side(height, width)
    settings = bank, side, orientations, scales, height, width

    def work_on(block: np.ndarray, part: slice) -> None:
        for number, responses in enumerate(_compute_responses(block, settings)):
            work(part, number, responses)

    # The blocks already use all threads.
    with threadpool_limits(1, user_api="blas"):
        map_blocks(work_on, images, 2 * side**2)


class _Filter(NamedTuple):
    """The middle of a filter's band, in bins, and the gain around it."""

    row: int
    column: int
    gain: np.ndarray  # (2 K + 1, 2 L + 1) float64


def _list_bands(bank: str, side: int, orientations: int, scales: int) -> list[_Filter]:
    """Return the filters, each where it is above 1e-6 of its peak."""
    filters = []
    for centre, angle, along, across in BANKS[bank](side, orientations, scales):
        cos, sin = np.cos(angle), np.sin(angle)
        column, u, used = _find_band(centre * cos, CUT * np.hypot(along * cos, across * sin), side)
        row, v, rows = _find_band(centre * sin, CUT * np.hypot(along * sin, across * cos), side)
        away = u * cos + v[:, None] * sin - centre
        aside = v[:, None] * cos - u * sin
        gain = np.exp(-0.5 * ((away / along) ** 2 + (aside / across) ** 2))
        filters.append(_Filter(row, column, gain * rows[:, None] * used))
    return filters


def _find_band(centre: float, reach: float, side: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Return a middle, whole frequencies equally far on both sides, and a mask of the band.

    The band is what lies within ``reach`` of the centre, from 1 - side / 2 to side / 2 - 1.
    """
    low = int(max(np.ceil(centre - reach), 1 - side // 2))
    high = int(min(np.floor(centre + reach), side // 2 - 1))
    middle = (low + high) // 2
    places = np.arange(2 * middle - high, high + 1)
    return middle, places, places >= low


# Products of real matrices. Frequencies of opposite sign are folded together first: their waves
# have the same cosine and opposite sines.


class _Folded(NamedTuple):
    """A filter: its band's middle, its gains in the four quadrants around it, and the waves."""

    row: int
    column: int
    gains: np.ndarray  # (4, K + 1, L + 1): of (k, l), (-k, l), (k, -l), (-k, -l)
    to_rows: np.ndarray  # (H, 2 K + 1): K + 1 cosines, then K sines
    to_columns: np.ndarray  # (2 L + 1, W)


@lru_cache(maxsize=2)
def _fold_filters(
    bank: str, side: int, orientations: int, scales: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, list[_Folded]]:
    """Return waves over rows (2 P, H) and columns (W, 2 P), and the filters.

    The waves are P cosines, then P sines, of frequencies 0, 1, ..., P - 1, the highest used.
    """
    filters, most = [], 0
    for row, column, gain in _list_bands(bank, side, orientations, scales):
        middle_row, middle_column = np.array(gain.shape) // 2
        most = max(most, abs(row) + middle_row, abs(column) + middle_column)
        gain[middle_row] /= 2  # taken twice, as k and as -k
        gain[:, middle_column] /= 2
        down, right = gain[::-1], gain[:, ::-1]
        gains = [part[middle_row:, middle_column:] for part in (gain, down, right, down[:, ::-1])]
        to_rows, to_columns = (
            np.delete(_compute_waves(length, middle + 1, side), middle + 1, axis=1)
            / side  # no sine of 0
            for length, middle in ((height, middle_row), (width, middle_column))
        )
        arrays = np.stack(gains), to_rows, to_columns.T
        filters.append(_Folded(row, column, *(array.astype(np.float32) for array in arrays)))
    rows, columns = (_compute_waves(length, most + 1, side) for length in (height, width))
    return rows.T.astype(np.float32), (columns / 255).astype(np.float32), filters


def _compute_waves(length: int, count: int, side: int) -> np.ndarray:
    """Return (length, 2 * count): cosines of 0, 1, ... bins, then sines."""
    phases = 2 * np.pi / side * np.outer(np.arange(length), np.arange(count))
    return np.concatenate([np.cos(phases), np.sin(phases)], axis=1)


def _compute_responses(images: np.ndarray, settings: tuple) -> Iterator[np.ndarray]:
    """Yield the responses of each filter, (B, 2, H, W) float32: real and imaginary parts."""
    rows, columns, filters = _fold_filters(*settings)
    count, bins = len(images), len(rows) - 1
    spectra = np.empty((count, 2, 2, bins, bins), np.float32)
    compile_loops(gabor_loops.compute_spectra)(
        rows @ (images.astype(np.float32) @ columns), spectra
    )
    for row, column, gains, to_rows, to_columns in filters:
        folded = np.empty((count, 2, to_rows.shape[1], len(to_columns)), np.float32)
        compile_loops(gabor_loops.fold_band)(spectra, row, column, gains, folded)
        yield to_rows @ (folded @ to_columns)


def _compute_magnitudes(responses: np.ndarray) -> np.ndarray:
    """Return the magnitudes of (B, 2, H, W) responses, (B, H, W) float32."""
    return np.sqrt(responses[:, 0] ** 2 + responses[:, 1] ** 2)


def _summarise(responses: np.ndarray) -> np.ndarray:
    """Return mean, deviation, least and greatest magnitude of (B, 2, H, W) responses, (B, 4)."""
    summaries = np.empty((len(responses), 4), np.float32)
    compile_loops(gabor_loops.summarise_magnitudes)(responses, summaries)
    return summaries


def _count_above(responses: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count the magnitudes of (B, 2, H, W) responses above each of (E,) edges, (B, E) int64."""
    counts = np.zeros((len(responses), len(edges)), np.int64)
    compile_loops(gabor_loops.count_above)(responses, edges, counts)
    return counts

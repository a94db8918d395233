"""Gabor filters: how strongly each frequency and orientation answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from threadpoolctl import threadpool_limits

from cbir_lib.descriptors.blocks import check_integer, compiled, device, each_block
from cbir_lib.errors import CbirError, unknown
from cbir_lib.images.preprocessing import as_images

PAD_PX = 32  # zeros on each side, as the baselines have it
CUT = np.sqrt(2 * np.log(1e6))  # deviations from a filter's centre where it is down to 1e-6
SAMPLES = 2**20  # magnitudes of each filter at most, from which bins are learned
HALF_PEAK = np.sqrt(2 * np.log(2))  # deviations from a Gaussian's centre to half its peak


def octave_bank(side: int, orientations: int, scales: int) -> np.ndarray:
    """The baselines' filters (Deselaers, Keysers, Ney 2008, and their open engine).

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
    return _rows(centres, centres / 3 / HALF_PEAK, across, orientations)


def manjunath_ma_bank(side: int, orientations: int, scales: int) -> np.ndarray:
    """The filters of Manjunath & Ma (1996), appendix, from 0.05 to 0.4 cycles per pixel.

    Neighbours in scale and in orientation touch at half their peaks. Returns what
    ``octave_bank`` returns.
    """
    low, high = 0.05, 0.4
    ratio = (high / low) ** (1 / (scales - 1))
    along = (ratio - 1) / (ratio + 1) * high / HALF_PEAK
    # The ellipse's half-peak contour touches the ray halfway to the next orientation.
    half = (along * HALF_PEAK) ** 2
    across = np.tan(np.pi / (2 * orientations)) * np.sqrt(high**2 - half) / HALF_PEAK
    shrink = ratio ** -np.arange(scales - 1, -1, -1.0)
    return _rows(*(side * shrink * size for size in (high, along, across)), orientations)


def _rows(centres, along, across, orientations: int) -> np.ndarray:
    angles = np.tile(np.arange(orientations) * np.pi / orientations, len(centres))
    sizes = (np.repeat(size, orientations) for size in (centres, along, across))
    centre, along, across = sizes
    return np.stack([centre, angles, along, across], axis=1)


BANKS = {"octaves": octave_bank, "manjunath-ma": manjunath_ma_bank}


def response_maps(
    images: np.ndarray, bank: str = "octaves", orientations: int = 5, scales: int = 3
) -> np.ndarray:
    """Magnitudes of the filters' responses, to look at.

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
    images = as_images(images)
    _check(bank, orientations, scales)
    maps = np.empty((len(images), scales * orientations, *images.shape[1:]), np.float32)

    def keep(part: slice, number: int, responses: Responses) -> None:
        maps[part, number] = _magnitudes(responses)

    _each_response(keep, images, bank, orientations, scales)
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
        _check(self.bank, self.orientations, self.scales)
        images = as_images(images)
        if self.scaled:
            spread = self._vectors(images).std(axis=0, dtype=np.float64)
            self.scale_ = np.where(spread > 1e-6, spread, 1).astype(np.float32)
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 → (N, 2 * scales * orientations) float32."""
        _check(self.bank, self.orientations, self.scales)
        images = as_images(images)
        if not self.scaled:
            return self._vectors(images)
        return self._vectors(images) / _learned(self, "scale_", 2 * self.scales * self.orientations)

    def _vectors(self, images: np.ndarray) -> np.ndarray:
        found = np.empty((len(images), self.scales * self.orientations, 4), np.float32)

        def keep(part: slice, number: int, responses: Responses) -> None:
            found[part, number] = _summaries(responses)

        _each_response(keep, images, self.bank, self.orientations, self.scales)
        vectors = found[..., :2]
        if self.bank == "octaves":
            least, most = found[..., 2:3], found[..., 3:]
            flat = most - least < 1e-6  # rounding noise
            vectors[..., :1] -= least
            vectors = np.where(flat, 0, vectors / np.where(flat, 1, most - least))
        return vectors.reshape(len(images), -1)


class GaborHistogram(TransformerMixin, BaseEstimator):
    """How often each filter answers how strongly.

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
        self._check()
        images = as_images(images)
        images = images[np.linspace(0, len(images) - 1, min(len(images), 512)).astype(int)]
        step = -(-images.size // SAMPLES)
        filters = self.scales * self.orientations
        found = np.empty((filters, len(images), -(-images[0].size // step)), np.float32)

        def keep(part: slice, number: int, responses: Responses) -> None:
            magnitudes = _magnitudes(responses)
            found[number, part] = magnitudes.reshape(len(magnitudes), -1)[:, ::step]

        _each_response(keep, images, self.bank, self.orientations, self.scales)
        parts = np.arange(1, self.bins) / self.bins
        self.edges_ = np.stack([np.quantile(some, parts) for some in found])
        self.edges_ = self.edges_.astype(np.float32)
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 → (N, scales * orientations * bins) float32, summing to 1."""
        self._check()
        images = as_images(images)
        filters = self.scales * self.orientations
        edges = _learned(self, "edges_", filters * (self.bins - 1)).reshape(filters, -1)
        histograms = np.empty((len(images), filters, self.bins), np.float32)

        def keep(part: slice, number: int, responses: Responses) -> None:
            above = _counts(responses, edges[number])  # pixels above each edge
            histograms[part, number] = -np.diff(above, prepend=images[0].size, append=0)

        _each_response(keep, images, self.bank, self.orientations, self.scales)
        histograms /= np.float32(filters * images[0].size)
        return histograms.reshape(len(images), -1)

    def _check(self) -> None:
        _check(self.bank, self.orientations, self.scales)
        check_integer("bins", self.bins, 2, 64)


def _check(bank: str, orientations: int, scales: int) -> None:
    if bank not in BANKS:
        raise unknown("bank", bank, BANKS)
    check_integer("orientations", orientations, 2, 16)
    check_integer("scales", scales, 2, 6)


def _learned(descriptor: BaseEstimator, name: str, size: int) -> np.ndarray:
    """What ``fit`` left, if it did, and under the same parameters."""
    learned = getattr(descriptor, name, None)
    if learned is None or learned.size != size:
        raise CbirError(
            f"{type(descriptor).__name__} has not learned from training images",
            "call fit with the training images first",
        )
    return learned


# Real and imaginary parts, (B, 2, H, W) float32: a tensor if it was computed on a GPU.
Responses = np.ndarray | torch.Tensor


def _each_response(
    work: Callable[[slice, int, Responses], None],
    images: np.ndarray,
    bank: str,
    orientations: int,
    scales: int,
) -> None:
    """Do ``work(part of the images, filter's number, responses)`` for all images and filters.

    A filter is zero but for a band of frequencies, so the transform back is a product with the few
    waves that belong to the band, and only where the image is, not its padding: exact but for what
    lies below 1e-6 of the filter's peak. The band's centre is moved to frequency 0, which changes
    no magnitude.
    """
    height, width = images.shape[1:]
    side = 2 ** int(np.ceil(np.log2(max(height, width) + 2 * PAD_PX)))
    settings = bank, side, orientations, scales, height, width
    where = device()

    def work_on(block: np.ndarray, part: slice) -> None:
        if where.type == "cuda":
            responses = _responses_of_waves(block, settings, where)
        else:
            responses = _responses(block, settings)
        for number, some in enumerate(responses):
            work(part, number, some)

    # The threads are those of the blocks.
    with threadpool_limits(1, user_api="blas"):
        each_block(work_on, images, 2 * side**2)


class _Filter(NamedTuple):
    """Where the middle of a filter's band is, in bins, and its gain around it."""

    row: int
    column: int
    gain: np.ndarray  # (2 K + 1, 2 L + 1) float64


def _bands(bank: str, side: int, orientations: int, scales: int) -> list[_Filter]:
    """The filters, each where it is above 1e-6 of its peak."""
    found = []
    for centre, angle, along, across in BANKS[bank](side, orientations, scales):
        cos, sin = np.cos(angle), np.sin(angle)
        column, u, used = _band(centre * cos, CUT * np.hypot(along * cos, across * sin), side)
        row, v, rows = _band(centre * sin, CUT * np.hypot(along * sin, across * cos), side)
        away = u * cos + v[:, None] * sin - centre
        aside = v[:, None] * cos - u * sin
        gain = np.exp(-0.5 * ((away / along) ** 2 + (aside / across) ** 2))
        found.append(_Filter(row, column, gain * rows[:, None] * used))
    return found


def _band(centre: float, reach: float, side: int) -> tuple[int, np.ndarray, np.ndarray]:
    """A middle, whole frequencies as far below as above it, and which of them are of the band.

    The band is what lies within reach of the centre, from 1 - side / 2 to side / 2 - 1.
    """
    low = int(max(np.ceil(centre - reach), 1 - side // 2))
    high = int(min(np.floor(centre + reach), side // 2 - 1))
    middle = (low + high) // 2
    places = np.arange(2 * middle - high, high + 1)
    return middle, places, places >= low


# On a processor: products of real matrices. Frequencies of either sign are folded together first,
# as waves of opposite frequencies have the same cosine and opposite sines.


class _Folded(NamedTuple):
    """A filter: its band's middle, its gains in the four quadrants around it, and the waves."""

    row: int
    column: int
    gains: np.ndarray  # (4, K + 1, L + 1): of (k, l), (-k, l), (k, -l), (-k, -l)
    to_rows: np.ndarray  # (H, 2 K + 1): K + 1 cosines, then K sines
    to_columns: np.ndarray  # (2 L + 1, W)


@lru_cache(maxsize=2)
def _folded_filters(
    bank: str, side: int, orientations: int, scales: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, list[_Folded]]:
    """Waves over rows (2 P, H) and columns (W, 2 P) up to the highest frequency, and the filters.

    The waves are P cosines, then P sines, of frequencies 0, 1, ..., P - 1.
    """
    filters, most = [], 0
    for row, column, gain in _bands(bank, side, orientations, scales):
        middle_row, middle_column = np.array(gain.shape) // 2
        most = max(most, abs(row) + middle_row, abs(column) + middle_column)
        gain[middle_row] /= 2  # taken twice, as k and as -k
        gain[:, middle_column] /= 2
        down, right = gain[::-1], gain[:, ::-1]
        gains = [part[middle_row:, middle_column:] for part in (gain, down, right, down[:, ::-1])]
        to_rows, to_columns = (
            np.delete(_waves(length, middle + 1, side), middle + 1, axis=1) / side  # no sine of 0
            for length, middle in ((height, middle_row), (width, middle_column))
        )
        arrays = np.stack(gains), to_rows, to_columns.T
        filters.append(_Folded(row, column, *(array.astype(np.float32) for array in arrays)))
    rows, columns = (_waves(length, most + 1, side) for length in (height, width))
    return rows.T.astype(np.float32), (columns / 255).astype(np.float32), filters


def _waves(length: int, count: int, side: int) -> np.ndarray:
    """(length, 2 * count): cosines of 0, 1, ... bins, then sines."""
    phases = 2 * np.pi / side * np.outer(np.arange(length), np.arange(count))
    return np.concatenate([np.cos(phases), np.sin(phases)], axis=1)


def _responses(images: np.ndarray, settings: tuple) -> Iterator[np.ndarray]:
    """Of each filter, (B, 2, H, W) float32."""
    rows, columns, filters = _folded_filters(*settings)
    count, bins = len(images), len(rows) - 1
    spectra = np.empty((count, 2, 2, bins, bins), np.float32)
    compiled(_spectra)(rows @ (images.astype(np.float32) @ columns), spectra)
    for row, column, gains, to_rows, to_columns in filters:
        folded = np.empty((count, 2, to_rows.shape[1], len(to_columns)), np.float32)
        compiled(_fold)(spectra, row, column, gains, folded)
        yield to_rows @ (folded @ to_columns)


def _spectra(products: np.ndarray, found: np.ndarray) -> None:
    """(B, 2 P, 2 P) products with cosines and sines → (B, 2, 2, 2 P - 1, 2 P - 1) spectra.

    Index ``[image, mirrored, imaginary, v + P - 1, u + P - 1]``; mirrored is u with its sign
    changed, so that the folding below reads in one direction only.
    """
    count = products.shape[1] // 2
    for image in range(len(products)):
        for v in range(count):
            cos_cos, cos_sin = products[image, v, :count], products[image, v, count:]
            sin_cos, sin_sin = (
                products[image, v + count, :count],
                products[image, v + count, count:],
            )
            for sign in (-1, 1):
                s, row = np.float32(sign), count - 1 + sign * v
                plain, mirrored = found[image, 0, :, row], found[image, 1, :, row]
                for u in range(count):
                    plain[0, u + count - 1] = cos_cos[u] - s * sin_sin[u]
                for u in range(count):
                    plain[1, u + count - 1] = -s * sin_cos[u] - cos_sin[u]
                for u in range(count):
                    mirrored[0, u + count - 1] = cos_cos[u] + s * sin_sin[u]
                for u in range(count):
                    mirrored[1, u + count - 1] = cos_sin[u] - s * sin_cos[u]
        for part in range(2):
            for row in range(2 * count - 1):
                plain, mirrored = found[image, 0, part, row], found[image, 1, part, row]
                for u in range(1, count):
                    plain[count - 1 - u] = mirrored[count - 1 + u]
                    mirrored[count - 1 - u] = plain[count - 1 + u]


def _fold(
    spectra: np.ndarray, row: int, column: int, gains: np.ndarray, folded: np.ndarray
) -> None:
    """A filter's band → (B, 2, 2 K + 1, 2 L + 1), what real and imaginary part are products of.

    Rows are factors of K + 1 cosines and K sines down, columns of L + 1 cosines and L sines across.
    """
    most_k, most_l = gains.shape[1] - 1, gains.shape[2] - 1
    middle = spectra.shape[3] // 2
    for image in range(len(spectra)):
        for k in range(most_k + 1):
            for part in range(2):
                a = spectra[image, 0, part, middle + row + k, middle + column :]
                b = spectra[image, 0, part, middle + row - k, middle + column :]
                c = spectra[image, 1, part, middle + row + k, middle - column :]
                d = spectra[image, 1, part, middle + row - k, middle - column :]
                e, f, g, h = gains[0, k], gains[1, k], gains[2, k], gains[3, k]
                # A sine comes with i, two of them with -1: a part goes to the other, its sign
                # changed if imaginary.
                sign = np.float32(1 - 2 * part)
                to = folded[image, part, k]
                for n in range(most_l + 1):
                    to[n] = (e[n] * a[n] + f[n] * b[n]) + (g[n] * c[n] + h[n] * d[n])
                to = folded[image, 1 - part, k, most_l:]
                for n in range(1, most_l + 1):
                    to[n] = sign * ((e[n] * a[n] + f[n] * b[n]) - (g[n] * c[n] + h[n] * d[n]))
                if k > 0:
                    to = folded[image, 1 - part, most_k + k]
                    for n in range(most_l + 1):
                        to[n] = sign * ((e[n] * a[n] - f[n] * b[n]) + (g[n] * c[n] - h[n] * d[n]))
                    to = folded[image, part, most_k + k, most_l:]
                    for n in range(1, most_l + 1):
                        to[n] = (f[n] * b[n] - e[n] * a[n]) + (g[n] * c[n] - h[n] * d[n])


# On a GPU: products of complex matrices.


@torch.inference_mode()
def _responses_of_waves(
    images: np.ndarray, settings: tuple, where: torch.device
) -> Iterator[torch.Tensor]:
    """Of each filter, (B, 2, H, W) float32."""
    side = settings[1]
    spectrum = torch.fft.fft2(torch.from_numpy(images).to(where) / 255, s=(side, side))
    for v, u, gain, to_rows, to_columns in _wave_filters(*settings, where):
        found = to_rows @ (spectrum[:, v[:, None], u] * gain @ to_columns)
        yield torch.view_as_real(found).movedim(-1, 1)


@lru_cache(maxsize=2)
def _wave_filters(
    bank: str,
    side: int,
    orientations: int,
    scales: int,
    height: int,
    width: int,
    where: torch.device,
) -> list[tuple[torch.Tensor, ...]]:
    """For each filter: its band's rows v and columns u of the spectrum, its gain there (v, u), and
    the inverse Fourier matrices to the image's rows (H, v) and columns (u, W)."""
    found = []
    for row, column, gain in _bands(bank, side, orientations, scales):
        v, u = (
            middle + np.arange(count) - count // 2
            for middle, count in zip((row, column), gain.shape, strict=True)
        )
        to_rows = np.exp(2j * np.pi / side * np.outer(np.arange(height), v)) / side
        to_columns = np.exp(2j * np.pi / side * np.outer(u, np.arange(width))) / side
        waves = to_rows.astype(np.complex64), to_columns.astype(np.complex64)
        arrays = v % side, u % side, gain.astype(np.float32), *waves
        found.append(tuple(torch.from_numpy(array).to(where) for array in arrays))
    return found


# What is made of the responses.


def _magnitudes(responses: Responses) -> np.ndarray:
    """(B, 2, H, W) → (B, H, W) float32."""
    if isinstance(responses, torch.Tensor):
        return responses.norm(dim=1).cpu().numpy()
    return np.sqrt(responses[:, 0] ** 2 + responses[:, 1] ** 2)


def _summaries(responses: Responses) -> np.ndarray:
    """(B, 2, H, W) → (B, 4) float32: mean, deviation, least and greatest magnitude."""
    if isinstance(responses, torch.Tensor):
        magnitudes = responses.norm(dim=1).flatten(1)
        spread, mean = torch.std_mean(magnitudes, dim=1, correction=0)
        return torch.stack([mean, spread, *torch.aminmax(magnitudes, dim=1)], 1).cpu().numpy()
    found = np.empty((len(responses), 4), np.float32)
    compiled(_summarise)(responses, found)
    return found


def _summarise(responses: np.ndarray, found: np.ndarray) -> None:
    # Sums of columns first: the compiler may not add up a row in another order than written.
    _, _, height, width = responses.shape
    magnitudes = np.empty((height, width), np.float32)
    total, squares, least, most = np.empty((4, width), np.float32)
    for image in range(len(responses)):
        total[:], squares[:], least[:], most[:] = 0, 0, np.inf, 0
        for y in range(height):
            real, imaginary, row = responses[image, 0, y], responses[image, 1, y], magnitudes[y]
            for x in range(width):
                row[x] = np.sqrt(real[x] * real[x] + imaginary[x] * imaginary[x])
            for x in range(width):
                total[x] += row[x]
            for x in range(width):
                least[x] = row[x] if row[x] < least[x] else least[x]
            for x in range(width):
                most[x] = row[x] if row[x] > most[x] else most[x]
        mean = np.float32(total.sum() / (height * width))
        for y in range(height):
            row = magnitudes[y]
            for x in range(width):
                squares[x] += (row[x] - mean) * (row[x] - mean)
        found[image, 0] = mean
        found[image, 1] = np.sqrt(squares.sum() / (height * width))
        found[image, 2] = least.min()
        found[image, 3] = most.max()


def _counts(responses: Responses, edges: np.ndarray) -> np.ndarray:
    """(B, 2, H, W), (E,) → (B, E): how many magnitudes are above each edge."""
    if isinstance(responses, torch.Tensor):
        magnitudes = responses.norm(dim=1).flatten(1)
        found = [(magnitudes > float(edge)).sum(dim=1) for edge in edges]
        return torch.stack(found, dim=1).cpu().numpy()
    found = np.zeros((len(responses), len(edges)), np.int64)
    compiled(_count)(responses, edges, found)
    return found


def _count(responses: np.ndarray, edges: np.ndarray, found: np.ndarray) -> None:
    _, _, height, width = responses.shape
    magnitudes = np.empty((height, width), np.float32)
    above = np.empty(width, np.int32)
    for image in range(len(responses)):
        for y in range(height):
            real, imaginary, row = responses[image, 0, y], responses[image, 1, y], magnitudes[y]
            for x in range(width):
                row[x] = np.sqrt(real[x] * real[x] + imaginary[x] * imaginary[x])
        for number in range(len(edges)):
            above[:] = 0
            edge = edges[number]
            for y in range(height):
                row = magnitudes[y]
                for x in range(width):
                    above[x] += row[x] > edge
            found[image, number] = above.sum()

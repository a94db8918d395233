"""Gabor filters: how strongly each frequency and orientation answers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.errors import CbirError, unknown
from cbir_lib.preprocessing import as_images

PAD_PX = 32  # zeros on each side, as the baselines have it
CUT = np.sqrt(2 * np.log(1e6))  # deviations from a filter's centre where it is down to 1e-6
BLOCK_PIXELS = 2**20  # padded pixels computed at once
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
    for block, number, magnitudes in _responses(images, bank, orientations, scales):
        maps[block, number] = magnitudes.cpu().numpy()
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
        vectors = np.empty((len(images), self.scales * self.orientations, 2), np.float32)
        for block, number, magnitudes in _responses(
            images, self.bank, self.orientations, self.scales
        ):
            values = magnitudes.flatten(1)
            spread, mean = torch.std_mean(values, dim=1, correction=0)
            if self.bank == "octaves":
                least, most = torch.aminmax(values, dim=1)
                width = most - least
                flat = width < 1e-6  # rounding noise
                width = torch.where(flat, 1, width)
                mean = torch.where(flat, 0, (mean - least) / width)
                spread = torch.where(flat, 0, spread / width)
            vectors[block, number] = torch.stack([mean, spread], dim=1).cpu().numpy()
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
        found: list[list[torch.Tensor]] = [[] for _ in range(self.scales * self.orientations)]
        for _, number, magnitudes in _responses(images, self.bank, self.orientations, self.scales):
            found[number].append(magnitudes.flatten()[::step].cpu())
        parts = np.arange(1, self.bins) / self.bins
        self.edges_ = np.stack([np.quantile(torch.cat(some), parts) for some in found])
        self.edges_ = self.edges_.astype(np.float32)
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 → (N, scales * orientations * bins) float32, summing to 1."""
        self._check()
        images = as_images(images)
        filters = self.scales * self.orientations
        edges = torch.from_numpy(_learned(self, "edges_", filters * (self.bins - 1)))
        edges = edges.reshape(filters, -1).to(_device())
        histograms = np.empty((len(images), filters, self.bins), np.float32)
        for block, number, magnitudes in _responses(
            images, self.bank, self.orientations, self.scales
        ):
            rows = torch.bucketize(magnitudes.flatten(1), edges[number], out_int32=True)
            rows += (
                self.bins * torch.arange(len(rows), device=rows.device, dtype=rows.dtype)[:, None]
            )
            counts = torch.bincount(rows.flatten(), minlength=self.bins * len(rows))
            histograms[block, number] = counts.reshape(-1, self.bins).cpu().numpy()
        return histograms.reshape(len(images), -1) / np.float32(filters * images[0].size)

    def _check(self) -> None:
        _check(self.bank, self.orientations, self.scales)
        if not isinstance(self.bins, int) or not 2 <= self.bins <= 64:
            raise CbirError(f"bins {self.bins!r} is out of range", "give 2 to 64")


def _check(bank: str, orientations: int, scales: int) -> None:
    if bank not in BANKS:
        raise unknown("bank", bank, BANKS)
    if not isinstance(orientations, int) or not 2 <= orientations <= 16:
        raise CbirError(f"orientations {orientations!r} is out of range", "give 2 to 16")
    if not isinstance(scales, int) or not 2 <= scales <= 6:
        raise CbirError(f"scales {scales!r} is out of range", "give 2 to 6")


def _learned(descriptor: BaseEstimator, name: str, size: int) -> np.ndarray:
    """What ``fit`` left, if it did, and under the same parameters."""
    learned = getattr(descriptor, name, None)
    if learned is None or learned.size != size:
        raise CbirError(
            f"{type(descriptor).__name__} has not learned from training images",
            "call fit with the training images first",
        )
    return learned


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def _responses(
    images: np.ndarray, bank: str, orientations: int, scales: int
) -> Iterator[tuple[slice, int, torch.Tensor]]:
    """Blocks of images, a filter's number, and its magnitudes (B, H, W), on the device.

    A filter is zero but for a band of frequencies, so the transform back is a product with the few
    rows of the Fourier matrix that belong to the band, and only where the image is, not its
    padding: exact but for what lies below 1e-6 of the filter's peak.
    """
    height, width = images.shape[1:]
    side = 2 ** int(np.ceil(np.log2(max(height, width) + 2 * PAD_PX)))
    filters = _filters(bank, side, orientations, scales, height, width, _device())
    count = max(1, BLOCK_PIXELS // side**2)
    for start in range(0, len(images), count):
        block = slice(start, start + count)
        grey = torch.tensor(images[block].copy()).to(_device()) / 255
        spectrum = torch.fft.fft2(grey, s=(side, side))
        for number, (v, u, gain, to_rows, to_columns) in enumerate(filters):
            band = spectrum[:, v[:, None], u] * gain  # (B, v, u)
            yield block, number, (to_rows @ (band @ to_columns)).abs()


@lru_cache(maxsize=2)
def _filters(
    bank: str,
    side: int,
    orientations: int,
    scales: int,
    height: int,
    width: int,
    device: torch.device,
) -> list[tuple[torch.Tensor, ...]]:
    """For each filter: its band's rows v and columns u of the spectrum, its gain there (v, u), and
    the inverse Fourier matrices to the image's rows (H, v) and columns (u, W)."""
    found = []
    for centre, angle, along, across in BANKS[bank](side, orientations, scales):
        cos, sin = np.cos(angle), np.sin(angle)
        u = _band(centre * cos, CUT * np.hypot(along * cos, across * sin), side)
        v = _band(centre * sin, CUT * np.hypot(along * sin, across * cos), side)
        away = u * cos + v[:, None] * sin - centre
        aside = v[:, None] * cos - u * sin
        gain = np.exp(-0.5 * ((away / along) ** 2 + (aside / across) ** 2))
        to_rows = np.exp(2j * np.pi / side * np.outer(np.arange(height), v)) / side
        to_columns = np.exp(2j * np.pi / side * np.outer(u, np.arange(width))) / side
        arrays = (
            v % side,
            u % side,
            gain.astype(np.float32),
            to_rows.astype(np.complex64),
            to_columns.astype(np.complex64),
        )
        found.append(tuple(torch.from_numpy(array).to(device) for array in arrays))
    return found


def _band(centre: float, reach: float, side: int) -> np.ndarray:
    """Whole frequencies within reach of the centre, from 1 - side / 2 to side / 2 - 1."""
    low, high = np.ceil(centre - reach), np.floor(centre + reach)
    return np.arange(max(low, 1 - side // 2), min(high, side // 2 - 1) + 1).astype(np.int64)

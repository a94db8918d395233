"""What the decoders share: the limits of an image, and from grey values of any depth to 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

SMALLEST_PX = 8
LARGEST_PX = 100_000_000  # pixels in one image; above it, a file is a bomb rather than a radiograph
LARGEST_BYTES = 900_000_000  # of memory to read one file, its own bytes included
LARGEST_FILE = 2**28  # bytes: 100 million pixels of 16 bits take 0.2 GB
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601

BAND_PX = 1 << 20  # pixels that are computed at a time
SAMPLE_PX = 1 << 20  # pixels that the percentiles are taken from
TAIL = 0.005  # share of the pixels below the lower and above the upper percentile
FENCE = 0.5  # beyond the percentiles by this share of their distance, a lone pixel is dead
BORDER = 0.1  # a value on this share of the outermost pixels is a border
BORDER_GAP = 0.05  # a border this far from the picture's own values, by their range, is set aside


class Decoded(NamedTuple):
    """A grey image, or None; and what had to be done to it, or why there is none."""

    image: np.ndarray | None  # (H, W) uint8
    remark: str  # empty when the file was 8-bit grey as it should be


def size_fault(width: int, height: int) -> str:
    """Say why an image of this size is refused; empty where it is not."""
    if width * height > LARGEST_PX:
        return f"{width} x {height} pixels, too large"
    if min(width, height) < SMALLEST_PX:
        return f"{width} x {height} pixels, too small"
    return ""


def memory_fault(width: int, height: int, bytes_per_pixel: float, file_bytes: int) -> str:
    """Say why reading an image would take too much memory; empty where it would not.

    Parameters
    ----------
    width, height
        As the file declares them.
    bytes_per_pixel
        At the peak of decoding.
    file_bytes
        What the file itself takes in memory.
    """
    if width * height * bytes_per_pixel + file_bytes > LARGEST_BYTES:
        return f"{width} x {height} pixels, would take more than 1 GB to read"
    return ""


def lost_remark(lost: int) -> str:
    """Say how many grey values are no finite numbers."""
    if lost == 1:
        return "1 grey value is no finite number"
    return f"{lost:,} grey values are no finite numbers"


def bands(height: int, width: int) -> Iterator[slice]:
    """Yield the rows of an image in slices of about ``BAND_PX`` pixels."""
    rows = max(1, BAND_PX // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def by_bands(values: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply ``function``, (h, W, ...) -> (h, W) uint8, to a few rows at a time: it saves memory."""
    image = np.empty(values.shape[:2], dtype=np.uint8)
    for rows in bands(*image.shape):
        image[rows] = function(values[rows])
    return image


def stretch(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Map ``low``..``high`` linearly to 0..255, cut off outside; by default their extremes.

    Parameters
    ----------
    values : (H, W) of any real type
        A constant image becomes black, and so does what is no number.
    low, high
        ``low`` becomes 0 and ``high`` 255; ``low`` may be the larger one.

    Returns
    -------
    (H, W) uint8
    """
    if low is None or high is None:
        least, most = _extremes(values, None) or (0, 0)
        low = least if low is None else low
        high = most if high is None else high
    low, high = float(low), float(high)
    # Beyond what the difference of two floats can hold, or its inverse.
    factor = 1.0 if np.isfinite(high - low) else 0.25
    if 0 < abs(high - low) < 1e-300:
        factor = 2.0**600
    low, high = low * factor, high * factor

    def one(band: np.ndarray) -> np.ndarray:
        band = np.asarray(band, dtype=np.float64)
        if factor != 1.0:
            band = band * factor
        scaled = (band - low) * (255.0 / ((high - low) or 1.0))
        return np.rint(np.nan_to_num(np.clip(scaled, 0, 255), nan=0.0)).astype(np.uint8)

    with np.errstate(all="ignore"):
        return by_bands(values, one)


def limits(values: np.ndarray, void: np.ndarray | None = None) -> tuple[float, float]:
    """Return the black and white of an image whose file names neither.

    These are the extremes of the picture, which leaves out:

    - what is void, and what is no finite number;
    - constant borders: the values that ``BORDER`` or more of the outermost pixels share, as far as
      they reach into the image from there, where such a value lies away from the picture's own
      range (by ``BORDER_GAP`` of it);
    - dead pixels: those that lie beyond the percentiles ``TAIL`` and ``1 - TAIL`` of the pixels
      within the border by more than ``FENCE`` of the distance between the two, while the median of
      their 5 x 5 neighbourhood does not. The tails hold two rows or columns of pixels more, so that
      a dead line cannot move them.

    An image without borders and dead pixels keeps its extremes.

    Parameters
    ----------
    values : (H, W) of any real type
    void : (H, W) bool, optional
        True where there is no picture.

    Returns
    -------
    low, high
        Both 0 where nothing is left.
    """
    keep = None if void is None or not void.any() else ~void
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            keep = finite if keep is None else keep & finite
    if (whole := _extremes(values, keep)) is None:
        return 0.0, 0.0
    if whole[0] == whole[1]:
        return whole
    shared = _shared_by_the_edge(values, keep)
    inner = _within(values, keep, shared)
    if (extremes := _extremes(values, inner)) is None:  # nothing but borders
        return whole
    sample = _sample(values, inner)
    low, high = _without_dead_pixels(values, inner, sample, extremes)
    # One step more or less is no gap, where there are few grey values.
    gap = (high - low) * max(BORDER_GAP, 1.5 / max(1, len(np.unique(sample)) - 1))
    for value in shared:
        if low - gap <= value < low:
            low = value
        elif high < value <= high + gap:
            high = value
    return low, high


def _extremes(values: np.ndarray, keep: np.ndarray | None) -> tuple[float, float] | None:
    """Return minimum and maximum of the pixels that are kept, finite; None where there is none."""
    found = []
    for rows in bands(*values.shape[:2]):
        band = values[rows] if keep is None else values[rows][keep[rows]]
        if values.dtype.kind == "f":
            band = band[np.isfinite(band)]
        if band.size:
            found += [band.min(), band.max()]
    return (float(min(found)), float(max(found))) if found else None


def _shared_by_the_edge(values: np.ndarray, keep: np.ndarray | None) -> list[float]:
    """Return the values that many of the outermost pixels share."""
    around = [values[0], values[-1], values[1:-1, 0], values[1:-1, -1]]
    edge = np.concatenate(around)
    if keep is not None:
        edge = edge[np.concatenate([keep[0], keep[-1], keep[1:-1, 0], keep[1:-1, -1]])]
    found, counts = np.unique(edge, return_counts=True)
    least = BORDER * sum(map(len, around))
    return [float(value) for value in found[counts >= least]]


def _within(values: np.ndarray, keep: np.ndarray | None, shared: list[float]) -> np.ndarray | None:
    """Return the pixels that are kept and no border, (H, W) bool; None for all of them.

    A border is what is connected to the edge by pixels of the ``shared`` values, or by pixels that
    are not kept.
    """
    if not shared:
        return keep
    import cv2

    height, width = values.shape
    # 1: may be border, 0: is none. A frame of 1 around connects the four edges.
    place = np.ones((height + 2, width + 2), dtype=np.uint8)
    for rows in bands(height, width):
        band = np.isin(values[rows].astype(np.float64), shared)
        if keep is not None:
            band |= ~keep[rows]
        place[rows.start + 1 : rows.stop + 1, 1:-1] = band
    cv2.floodFill(place, None, (0, 0), 2)
    inner = place[1:-1, 1:-1] != 2
    if keep is not None:
        inner &= keep
    return inner


def _sample(values: np.ndarray, inner: np.ndarray | None) -> np.ndarray:
    """Return not many more than ``SAMPLE_PX`` of the pixels within the border, evenly chosen."""
    step = max(1, values.size // SAMPLE_PX)
    sample = values.reshape(-1)[::step]
    return (sample if inner is None else sample[inner.reshape(-1)[::step]]).astype(np.float64)


def _without_dead_pixels(
    values: np.ndarray,
    inner: np.ndarray | None,
    sample: np.ndarray,
    extremes: tuple[float, float],
) -> tuple[float, float]:
    low, high = extremes
    step = max(1, values.size // SAMPLE_PX)
    tail = TAIL * len(sample) + 2 * max(values.shape) / step
    tail = int(min(np.ceil(tail), len(sample) // 8))
    if not tail:
        return extremes
    ordered = np.partition(sample, [tail, len(sample) - 1 - tail])
    least, most = ordered[tail], ordered[-1 - tail]
    fence = FENCE * (most - least)
    if not 0 < fence < np.inf or (low >= least - fence and high <= most + fence):
        return extremes
    kept = []
    for rows in bands(*values.shape):
        band = values[rows].astype(np.float64)
        own = np.isfinite(band) if inner is None else inner[rows]
        beyond = own & ((band < least - fence) | (band > most + fence))
        inside = band[own & ~beyond]
        if inside.size:
            kept += [inside.min(), inside.max()]
        if not beyond.any():
            continue
        y, x = np.nonzero(beyond)
        y += rows.start
        for part in range(0, len(y), BAND_PX // 8):
            at = slice(part, part + BAND_PX // 8)
            median = _median_around(values, inner, y[at], x[at])
            alive = (median < least - fence) | (median > most + fence)
            if alive.any():
                own_values = values[y[at], x[at]][alive]
                kept += [own_values.min(), own_values.max()]
    return float(min(kept)), float(max(kept))


def _median_around(
    values: np.ndarray, inner: np.ndarray | None, y: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Return the median of the 5 x 5 pixels around each place, but for borders, as (N,) float64."""
    height, width = values.shape
    around = np.full((len(y), 25), np.nan)
    for column, (down, right) in enumerate(np.ndindex(5, 5)):
        rows, columns = y + down - 2, x + right - 2
        there = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        if inner is not None:
            there[there] = inner[rows[there], columns[there]]
        around[there, column] = values[rows[there], columns[there]]
    return np.nanmedian(around, axis=1)


def shade(
    values: np.ndarray,
    *,
    void: np.ndarray | None = None,
    alpha: np.ndarray | None = None,
    inverted: bool = False,
) -> np.ndarray:
    """Map grey values or colours, deeper than 8 bits, to 8-bit grey between their ``limits``.

    Parameters
    ----------
    values : (H, W) grey or (H, W, 3) red, green, blue; of any real type
        Colour becomes luminance (ITU-R 601).
    void : (H, W) bool, optional
        True where there is no picture: black.
    alpha : (H, W), optional
        Opacity, up to the largest value of its type, or 1.0: what lies below is black.
    inverted
        Whether the largest value is black.

    Returns
    -------
    (H, W) uint8
    """
    if values.ndim == 3:
        grey = np.empty(values.shape[:2], dtype=np.float32)
        for rows in bands(*grey.shape):
            grey[rows] = values[rows] @ LUMINANCE
        values = grey
    if alpha is not None:
        hidden = alpha <= 0
        void = hidden if void is None else void | hidden
    low, high = limits(values, void)
    image = stretch(values, high, low) if inverted else stretch(values, low, high)
    if values.dtype.kind == "f":
        image[np.isnan(values)] = 0  # black, whatever black is
    if alpha is not None:
        cover(image, alpha)
    if void is not None:
        image[void] = 0
    return image


def cover(image: np.ndarray, alpha: np.ndarray) -> None:
    """Darken an image, (H, W) uint8, in place, as far as it is transparent."""
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1.0
    for rows in bands(*image.shape):
        share = np.clip(np.nan_to_num(alpha[rows] / opaque), 0, 1)
        image[rows] = np.rint(image[rows] * share)

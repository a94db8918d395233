"""What the decoders share: refusing large images, and reducing any depth to 8-bit grey."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from cbir_lib.images.memory import reserve

# The number of the decoding rules: raised whenever a file may give other pixels than before. Caches
# and archives record it.
RULES = 9
SMALLEST_PX = 8
LARGEST_PX = 100_000_000  # pixels; a larger image is a decompression bomb, not a radiograph
LARGEST_BYTES = 900_000_000  # of memory to read one file, including its own bytes
TOO_LITTLE_MEMORY = "too little memory to read it"
LARGEST_FILE = 2**28  # bytes: 100 million pixels of 16 bits take 0.2 GB
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601

BAND_PX = 1 << 20  # pixels computed at a time
SAMPLE_PX = 1 << 20  # pixels from which the percentiles are estimated
TAIL = 0.005  # share of the pixels below the lower and above the upper percentile
FENCE = 0.5  # an isolated pixel this share of their distance beyond the percentiles is dead
BORDER = 0.1  # a value, or values close together, on this share of the outermost pixels is a border
BORDER_GAP = 0.05  # a border is excluded if this share of the picture's range away from it
NOISE = 0.08  # values of a border extend over this share of the image's range at most ...
NOISE_GAP = 0.01  # ... without a gap as wide as this


class Decoded(NamedTuple):
    """A grey image and how it was converted, or None and why there is no image."""

    image: np.ndarray | None  # (H, W) uint8
    remark: str  # empty when the file was plain 8-bit grey


def find_size_fault(width: int, height: int) -> str:
    """Return why an image of this size is refused; empty where it is not."""
    if width * height > LARGEST_PX:
        return f"{width} x {height} pixels, too large"
    if min(width, height) < SMALLEST_PX:
        return f"{width} x {height} pixels, too small"
    return ""


def find_memory_fault(width: int, height: int, bytes_per_pixel: float, file_bytes: int) -> str:
    """Return why an image is refused that would take too much memory; empty where it is not.

    What it takes is reserved (:mod:`cbir_lib.images.memory`): where several files are read at the
    same time, this waits until the others leave enough.

    Parameters
    ----------
    width, height
        As the file declares them.
    bytes_per_pixel
        At the peak of decoding.
    file_bytes
        Memory that the file itself takes.
    """
    if width * height * bytes_per_pixel + file_bytes > LARGEST_BYTES:
        return f"{width} x {height} pixels, would take more than 1 GB to read"
    if not reserve(int(width * height * bytes_per_pixel) + file_bytes):
        return TOO_LITTLE_MEMORY
    return ""


def unpacks_to_more(data: bytes | memoryview, most: int, start: int = 0) -> bool:
    """Tell whether run lengths (PackBits, DICOM's RLE) from ``start`` on make too many bytes."""
    place, total = start, 0
    while place < len(data) and total <= most:
        head = data[place]
        place += 2 if head > 128 else 2 + head if head < 128 else 1
        total += 257 - head if head > 128 else 1 + head if head < 128 else 0
    return total > most


def describe_lost_values(lost: int) -> str:
    """Describe how many grey values are not finite."""
    if lost == 1:
        return "1 grey value is no finite number"
    return f"{lost:,} grey values are no finite numbers"


def find_used_bits(declared: int, largest: int) -> int:
    """Find the bits of a look-up table's entries from the largest: 8 or 12 where it fits in them.

    Some writers declare 16 whatever they write, and their pictures would be nearly black.

    >>> find_used_bits(16, 4095), find_used_bits(16, 40_000), find_used_bits(12, 255)
    (12, 16, 8)
    """
    return next((bits for bits in (8, 12) if 0 < largest < 2**bits < 2**declared), declared)


def describe_used_bits(table: str, declared: int, used: int) -> str:
    """Describe a table whose entries take fewer bits than it declares."""
    return f"{table} of {declared} bits taken as {used}, as its values are"


def describe_aspect(across: float, down: float) -> str:
    """Describe pixels that are not square, which are shown as if they were; empty for others.

    >>> describe_aspect(204, 98)
    'pixels are not square, shown as if they were'
    """
    if not (0 < across < np.inf and 0 < down < np.inf) or 0.98 < across / down < 1.02:
        return ""
    return "pixels are not square, shown as if they were"


def iterate_bands(height: int, width: int) -> Iterator[slice]:
    """Yield the rows of an image in slices of about ``BAND_PX`` pixels."""
    rows = max(1, BAND_PX // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def map_bands(values: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply ``function``, (h, W, ...) -> (h, W) uint8, to a few rows at a time to save memory."""
    image = np.empty(values.shape[:2], dtype=np.uint8)
    for rows in iterate_bands(*image.shape):
        image[rows] = function(values[rows])
    return image


def stretch(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Map ``low``..``high`` (by default the extremes) linearly to 0..255; clip what is outside.

    >>> stretch(np.array([[0, 512, 4095]]), 0, 4095).tolist()
    [[0, 32, 255]]

    Parameters
    ----------
    values : (H, W) of any real type
        A constant image becomes black, and so does NaN.
    low, high
        ``low`` becomes 0 and ``high`` 255; ``low`` may be the larger one.

    Returns
    -------
    (H, W) uint8
    """
    if low is None or high is None:
        lowest, highest = _find_extremes(values, None) or (0, 0)
        low = lowest if low is None else low
        high = highest if high is None else high
    low, high = float(low), float(high)
    # Scale where the difference of the two, or its inverse, would overflow.
    factor = 1.0 if np.isfinite(high - low) else 0.25
    if 0 < abs(high - low) < 1e-300:
        factor = 2.0**600
    low, high = low * factor, high * factor

    def stretch_band(band: np.ndarray) -> np.ndarray:
        band = np.asarray(band, dtype=np.float64)
        if factor != 1.0:
            band = band * factor
        scaled = (band - low) * (255.0 / ((high - low) or 1.0))
        return np.rint(np.nan_to_num(np.clip(scaled, 0, 255), nan=0.0)).astype(np.uint8)

    with np.errstate(all="ignore"):
        return map_bands(values, stretch_band)


def find_limits(values: np.ndarray, void: np.ndarray | None = None) -> tuple[float, float]:
    """Find the values of black and white of an image whose file names neither.

    These are the extremes of the pixels, except:

    - void pixels, and values that are not finite;
    - borders, constant or noisy: a value that ``BORDER`` or more of the outermost pixels share, or
      values of so many that lie as close together as ``NOISE`` and ``NOISE_GAP`` say, as far as
      they extend into the image from the edge, if they lie outside the picture's own range by more
      than ``BORDER_GAP`` of it;
    - dead pixels: those beyond the percentiles ``TAIL`` and ``1 - TAIL`` of the pixels within the
      border by more than ``FENCE`` of the distance between the two, while the median of their 5 x 5
      neighbourhood is not. The tails are widened by two rows or columns of pixels, so that a dead
      line cannot move them;
    - letters and marks written into the picture: what remains beyond a percentile by more than
      that, if it is a single value, as far from all others.

    An image without borders and dead pixels keeps its extremes.

    Parameters
    ----------
    values : (H, W) of any real type
    void : (H, W) bool, optional
        True where there is no picture.

    Returns
    -------
    low, high
        Both 0 where no pixel is left.
    """
    keep = None if void is None or not void.any() else ~void
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            keep = finite if keep is None else keep & finite
    if (whole := _find_extremes(values, keep)) is None:
        return 0.0, 0.0
    if whole[0] == whole[1]:
        return whole
    borders = _find_border_values(values, keep)
    inner = _find_inner_pixels(values, keep, borders)
    if (extremes := _find_extremes(values, inner)) is None:  # nothing but borders
        return whole
    sample = _sample_pixels(values, inner)
    low, high = _find_limits_without_dead_pixels(values, inner, sample, extremes)
    # Where there are few grey values, a single step is not a gap.
    gap = (high - low) * max(BORDER_GAP, 1.5 / max(1, len(np.unique(sample)) - 1))
    for darkest, brightest in borders:
        if low - gap <= brightest and darkest < low:
            low = darkest
        if darkest <= high + gap and high < brightest:
            high = brightest
    return low, high


def _find_extremes(values: np.ndarray, keep: np.ndarray | None) -> tuple[float, float] | None:
    """Find minimum and maximum of the finite pixels that are kept; None where there are none."""
    extremes = []
    for rows in iterate_bands(*values.shape[:2]):
        band = values[rows] if keep is None else values[rows][keep[rows]]
        if values.dtype.kind == "f":
            band = band[np.isfinite(band)]
        if band.size:
            extremes += [band.min(), band.max()]
    return (float(min(extremes)), float(max(extremes))) if extremes else None


def _find_border_values(values: np.ndarray, keep: np.ndarray | None) -> list[tuple[float, float]]:
    """Find values, from the darkest to the brightest, that many of the outermost pixels have."""
    around = [values[0], values[-1], values[1:-1, 0], values[1:-1, -1]]
    edge = np.concatenate(around)
    if keep is not None:
        edge = edge[np.concatenate([keep[0], keep[-1], keep[1:-1, 0], keep[1:-1, -1]])]
    if values.dtype.kind == "f":
        edge = edge[np.isfinite(edge)]
    edge = edge.astype(np.float64)
    distinct, counts = np.unique(edge, return_counts=True)
    minimum = BORDER * sum(map(len, around))
    borders = [(value, value) for value in distinct[counts >= minimum].tolist()]
    sample = _sample_pixels(values, keep)
    spread = np.subtract(*np.quantile(sample, [1 - TAIL, TAIL])) if sample.size else 0.0
    if not 0 < spread < np.inf:
        return borders
    ordered = np.sort(edge)
    for close in np.split(ordered, np.flatnonzero(np.diff(ordered) > NOISE_GAP * spread) + 1):
        if len(close) >= minimum and 0 < close[-1] - close[0] <= NOISE * spread:
            borders.append((float(close[0]), float(close[-1])))
    return borders


def _find_inner_pixels(
    values: np.ndarray, keep: np.ndarray | None, borders: list[tuple[float, float]]
) -> np.ndarray | None:
    """Find the kept pixels that are not border, (H, W) bool; None means all pixels.

    The border is what pixels of its values, or pixels that are not kept, connect to the edge. Where
    it is noisy, its pixels vary more than those of them that are outermost.
    """
    if not borders:
        return keep
    import cv2

    height, width = values.shape
    # 1: may be border, 0: is not. An outer frame of 1 connects the four edges.
    place = np.ones((height + 2, width + 2), dtype=np.uint8)
    for rows in iterate_bands(height, width):
        pixels = values[rows].astype(np.float64)
        band = np.zeros(pixels.shape, dtype=bool)
        for darkest, brightest in borders:
            more = (brightest - darkest) / 2
            band |= (pixels >= darkest - more) & (pixels <= brightest + more)
        if keep is not None:
            band |= ~keep[rows]
        place[rows.start + 1 : rows.stop + 1, 1:-1] = band
    cv2.floodFill(place, None, (0, 0), 2)
    inner = place[1:-1, 1:-1] != 2
    if keep is not None:
        inner &= keep
    return inner


def _sample_pixels(values: np.ndarray, inner: np.ndarray | None) -> np.ndarray:
    """Sample about ``SAMPLE_PX`` of the pixels within the border, evenly spaced."""
    step = max(1, values.size // SAMPLE_PX)
    sample = values.reshape(-1)[::step]
    return (sample if inner is None else sample[inner.reshape(-1)[::step]]).astype(np.float64)


def _find_limits_without_dead_pixels(
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
    lowest, highest = ordered[tail], ordered[-1 - tail]
    fence = FENCE * (highest - lowest)
    if not 0 < fence < np.inf or (low >= lowest - fence and high <= highest + fence):
        return extremes
    kept, marks = [], []
    for rows in iterate_bands(*values.shape):
        band = values[rows].astype(np.float64)
        own = np.isfinite(band) if inner is None else inner[rows]
        beyond = own & ((band < lowest - fence) | (band > highest + fence))
        inside = band[own & ~beyond]
        if inside.size:
            kept += [inside.min(), inside.max()]
        if not beyond.any():
            continue
        y, x = np.nonzero(beyond)
        y += rows.start
        for part in range(0, len(y), BAND_PX // 8):
            at = slice(part, part + BAND_PX // 8)
            median = _compute_local_medians(values, inner, y[at], x[at])
            alive = (median < lowest - fence) | (median > highest + fence)
            marks.append(np.unique(values[y[at], x[at]][alive].astype(np.float64)))
    low, high = min(kept), max(kept)
    marks = np.unique(np.concatenate(marks))
    below, above = marks[marks < lowest], marks[marks > highest]
    if len(below) > 1 or (len(below) and low - below[0] <= fence):
        low = below[0]
    if len(above) > 1 or (len(above) and above[-1] - high <= fence):
        high = above[-1]
    return float(low), float(high)


def _compute_local_medians(
    values: np.ndarray, inner: np.ndarray | None, y: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Compute the medians of the 5 x 5 pixels around positions, without borders: (N,) float64."""
    height, width = values.shape
    around = np.full((len(y), 25), np.nan)
    for column, (down, right) in enumerate(np.ndindex(5, 5)):
        rows, columns = y + down - 2, x + right - 2
        there = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        if inner is not None:
            there[there] = inner[rows[there], columns[there]]
        around[there, column] = values[rows[there], columns[there]]
    return np.nanmedian(around, axis=1)


def convert_to_8_bits(
    values: np.ndarray,
    *,
    void: np.ndarray | None = None,
    alpha: np.ndarray | None = None,
    inverted: bool = False,
) -> np.ndarray:
    """Convert grey values or colours deeper than 8 bits to 8-bit grey: see :func:`find_limits`.

    Parameters
    ----------
    values : (H, W) grey or (H, W, 3) red, green, blue; of any real type
        Colour becomes luminance (ITU-R 601).
    void : (H, W) bool, optional
        True where there is no picture: black.
    alpha : (H, W), optional
        Opacity, up to the largest value of its type, or 1.0, over a black background.
    inverted
        Whether the largest value is black.

    Returns
    -------
    (H, W) uint8
    """
    if values.ndim == 3:
        grey = np.empty(values.shape[:2], dtype=np.float32)
        for rows in iterate_bands(*grey.shape):
            grey[rows] = values[rows] @ LUMINANCE
        values = grey
    if alpha is not None:
        hidden = alpha <= 0
        void = hidden if void is None else void | hidden
    low, high = find_limits(values, void)
    image = stretch(values, high, low) if inverted else stretch(values, low, high)
    if values.dtype.kind == "f":
        image[np.isnan(values)] = 0  # black, even if inverted
    if alpha is not None:
        apply_opacity(image, alpha)
    if void is not None:
        image[void] = 0
    return image


def apply_opacity(image: np.ndarray, alpha: np.ndarray) -> None:
    """Darken an image, (H, W) uint8, in place, by its transparency."""
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1.0
    for rows in iterate_bands(*image.shape):
        share = np.clip(np.nan_to_num(alpha[rows] / opaque), 0, 1)
        image[rows] = np.rint(image[rows] * share)

"""From the stored values of a DICOM image to the grey values that a viewer would show.

The steps are those of DICOM PS3.3, C.11: modality LUT or rescale, then VOI LUT or window, then
inversion of MONOCHROME1. pydicom does them, except the LUTs and palettes: its own look-up wraps
around at 256 where the entries have 8 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cbir_lib.images.grey import (
    LUMINANCE,
    Decoded,
    describe_lost_values,
    describe_used_bits,
    find_limits,
    find_used_bits,
    iterate_bands,
    map_bands,
    stretch,
)
from cbir_lib.images.parts import FileOfParts, PartsError, comes_from_parts

if TYPE_CHECKING:
    from pydicom import Dataset

COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")  # the first is the default
COLOUR_NAMES = ("Red", "Green", "Blue")
MODALITY_LUT, VOI_LUT = "ModalityLUTSequence", "VOILUTSequence"
LONGEST_ELEMENT = 2 * 65536  # bytes: a LUT of 16 bits; no other element that is read has more


def read_text(header: Dataset, name: str) -> str:
    """Read an element as short printable text; empty where it is missing."""
    text = str(header.get(name) or "").strip()[:40]
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def remove_long_elements(dataset: Dataset, kept: tuple[str, ...] = ()) -> None:
    """Remove elements longer than ``LONGEST_ELEMENT``, but those ``kept``, before they are parsed.

    pydicom makes an object of each of an element's values.
    """
    from pydicom.datadict import keyword_for_tag

    for tag in list(dataset.keys()):
        value = dataset.get_item(tag).value
        long = isinstance(value, bytes) and len(value) > LONGEST_ELEMENT
        if long and keyword_for_tag(tag) not in kept:
            del dataset[tag]


def read_first_item(dataset: Dataset, name: str) -> Dataset | None:
    """Read the first item of a sequence, without its long elements; None where there is none.

    Raises :class:`cbir_lib.images.parts.PartsError` where the sequence has too many.
    """
    from pydicom.charset import default_encoding
    from pydicom.filereader import read_sequence

    if name not in dataset:
        return None
    element = dataset.get_item(name)
    items = element.value
    if isinstance(items, bytes):  # nothing has been made of it
        file, encoded = FileOfParts(items), (element.is_implicit_VR, element.is_little_endian)
        try:
            items = read_sequence(file, *encoded, len(items), [default_encoding])
        except Exception as error:  # any, whatever the cause
            if comes_from_parts(error):
                raise PartsError from error
            raise
    if not items:
        return None
    remove_long_elements(items[0])
    return items[0]


def convert_for_display(pixels: np.ndarray, header: Dataset, void: np.ndarray | None) -> Decoded:
    """Convert stored values (H, W), or colour (H, W, 3), to the picture a viewer would show."""
    kind = header.PhotometricInterpretation
    stored = int(header.BitsStored)
    if kind in COLOURS and pixels.ndim == 3:
        return Decoded(_compute_luminance(pixels, 2**stored - 1), f"{kind}, converted to grey")
    if kind == "PALETTE COLOR":
        return _apply_palette(pixels, header)
    if pixels.ndim != 2:
        return Decoded(None, f"{kind}, cannot be converted to grey")
    remarks = []
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels)
        if not finite.any():
            return Decoded(None, "no grey value is a number")
        if lost := finite.size - int(finite.sum()):
            void = ~finite if void is None else void | ~finite
            remarks.append(describe_lost_values(lost))
    try:
        image, remark = _apply_window(pixels, header, void)
        remarks.insert(0, remark)
    except (MemoryError, PartsError):
        raise
    except Exception:  # invalid values in one of a dozen elements
        image = stretch(pixels, *find_limits(pixels, void))
        remarks.insert(0, "faulty window or LUT, stretched to 8 bits instead")
    if kind == "MONOCHROME1" or read_text(header, "PresentationLUTShape").upper() == "INVERSE":
        image = 255 - image
        remarks.append("white is zero, inverted")
    if void is not None:
        image = image.copy()
        image[void] = 0
    return Decoded(image, ", ".join(filter(None, remarks)))


def _apply_palette(pixels: np.ndarray, header: Dataset) -> Decoded:
    """Map stored values (H, W) to the luminance of their colours (PS3.3, C.7.6.3.1.5)."""
    ends = _find_possible_ends(pixels, header)
    tables = []
    for name in COLOUR_NAMES:
        description = header[f"{name}PaletteColorLookupTableDescriptor"].value
        data = header[f"{name}PaletteColorLookupTableData"].value
        tables.append(_read_lut(description, data, header, ends))
    declared = max(int(header.RedPaletteColorLookupTableDescriptor[2]), 8)
    brightest = max(int(table.max(initial=0)) for table, _ in tables)
    bits = find_used_bits(declared, brightest)
    white = 2**bits - 1 if brightest < 2**bits else 2**16 - 1
    remark = f"{header.PhotometricInterpretation}, converted to grey"
    if bits < declared:
        remark += f", {describe_used_bits('palette', declared, bits)}"
    # Luminance is linear: that of a table's entries is summed up, and no colour is stored.
    weighed = zip(LUMINANCE, tables, strict=True)
    grey = sum(np.float32(share) * _apply_lut(pixels, *table) for share, table in weighed)
    return Decoded(stretch(grey, 0, white), remark)


def _compute_luminance(pixels: np.ndarray, white: int) -> np.ndarray:
    """Compute the luminance of colours (H, W, 3), 0..``white``, as (H, W) uint8."""
    return map_bands(pixels, lambda band: stretch(band @ LUMINANCE, 0, white))


def _apply_window(
    pixels: np.ndarray, header: Dataset, void: np.ndarray | None
) -> tuple[np.ndarray, str]:
    """Apply modality LUT or rescale, then VOI LUT or window; return (H, W) uint8 and a remark."""
    from pydicom.pixels import apply_rescale, apply_windowing

    ends = _find_possible_ends(pixels, header)
    if (item := read_first_item(header, MODALITY_LUT)) is not None:
        lut = _read_lut(item.LUTDescriptor, item.LUTData, header, ends)
        pixels = _apply_lut(pixels, *lut)
        ends = np.zeros(2)

        def rescale(band: np.ndarray) -> np.ndarray:
            return band

    else:

        def rescale(band: np.ndarray) -> np.ndarray:
            return apply_rescale(band, header)

    low, high = find_limits(pixels, void)
    black, white = (float(end) for end in rescale(np.array([low, high], dtype=np.float64)))
    if not np.isfinite([black, white]).all() or (black == white and low != high):
        raise ValueError("no rescale")
    remark = ""
    if (item := read_first_item(header, VOI_LUT)) is not None:
        table, first = _read_lut(item.LUTDescriptor, item.LUTData, header, rescale(ends))
        declared = int(item.LUTDescriptor[2])
        bits = find_used_bits(declared, int(table.max()))

        def shown(band: np.ndarray) -> np.ndarray:
            return stretch(_apply_lut(rescale(band), table, first), 0, 2**bits - 1)

        remark = "VOI LUT applied, to 8 bits"
        if bits < declared:
            remark += f", {describe_used_bits('VOI LUT', declared, bits)}"
    elif header.get("WindowCenter") is not None and header.get("WindowWidth") is not None:
        function = read_text(header, "VOILUTFunction")
        if function.upper() not in WINDOW_FUNCTIONS:
            header.VOILUTFunction = WINDOW_FUNCTIONS[0]
        # What the window maps black and white to depends on depth, sign and rescale.
        lowest, highest = apply_windowing(np.array([-1e30, 1e30]), header)
        if not np.isfinite([lowest, highest]).all() or lowest == highest:
            raise ValueError("no window")

        def shown(band: np.ndarray) -> np.ndarray:
            values = apply_windowing(rescale(band), header)
            if pixels.dtype.kind != "f" and not np.isfinite(values).all():
                raise ValueError("no window")
            return stretch(values, lowest, highest)

        remark = "window applied, to 8 bits"
        if function and function.upper() not in WINDOW_FUNCTIONS:
            remark += f", its function {function} is unknown, taken as {WINDOW_FUNCTIONS[0]}"
    if remark:
        image = map_bands(pixels, shown)
        seen = image if void is None else image[~void]
        if low == high or seen.min() < seen.max():
            return image, remark
        remark = f"{remark.split(' applied')[0]} leaves nothing to see, stretched to 8 bits instead"
    stored = int(header.BitsStored)
    if not remark and stored <= 8 and pixels.dtype.kind == "u" and (black, white) == (low, high):
        if stored == 8:
            return pixels.astype(np.uint8), ""
        return stretch(pixels, 0, 2**stored - 1), f"{stored} bits, to 8"
    # With a falling rescale the larger stored value is the darker one.
    black, white = min(black, white), max(black, white)
    image = map_bands(pixels, lambda band: stretch(rescale(band), black, white))
    return image, remark or "stretched to 8 bits"


def _find_possible_ends(pixels: np.ndarray, header: Dataset) -> np.ndarray:
    """Find the lowest and the highest value that can be stored: (2,) float64."""
    bits = float(header.BitsStored)
    if pixels.dtype.kind == "u":
        return np.array([0.0, 2**bits - 1])
    return np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1])


def _read_lut(
    description: list[int], data: bytes | list[int], header: Dataset, ends: np.ndarray
) -> tuple[np.ndarray, int]:
    """Read a LUT: its entries, (N,) int64, and the value that is mapped to the first of them.

    That value is negative only where one of the ``ends`` of the values that are mapped is: some
    writers give it with the wrong sign.
    """
    entries, first, _ = description
    first %= 2**16
    if min(ends) < 0 and first >= 2**15:
        first -= 2**16
    return _read_table(data, header, entries % 2**16 or 2**16), first


def _apply_lut(values: np.ndarray, table: np.ndarray, first: int) -> np.ndarray:
    """Map values through a LUT (PS3.3, C.11.1.1): (H, W) int32."""
    mapped = np.empty(values.shape, dtype=np.int32)
    for rows in iterate_bands(*values.shape):
        place = np.clip(np.asarray(values[rows], dtype=np.float64) - first, 0, len(table) - 1)
        mapped[rows] = table[np.rint(place).astype(np.intp)]
    return mapped


def _read_table(data: bytes | list[int], header: Dataset, entries: int) -> np.ndarray:
    """Read the entries of a LUT or palette, of 8 or 16 bits: (N,) int64."""
    if isinstance(data, bytes):
        order = "<" if header.original_encoding[1] else ">"
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * entries else order + "u2")
    return np.atleast_1d(np.asarray(data, dtype=np.int64))[:entries]

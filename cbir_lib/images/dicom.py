"""From the bytes of a DICOM file to the grey values a viewer would show.

The steps are those of DICOM PS3.3, C.11: modality LUT or rescale, then VOI LUT or window, then
MONOCHROME1 inverted. pydicom reads the file and does the steps, but for the LUTs: its own look-up
wraps around at 256 where the entries have 8 bits. It also passes over High Bit and pixel padding,
which are heeded here.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import TYPE_CHECKING

import numpy as np

from cbir_lib.images.grey import (
    LARGEST_BYTES,
    LUMINANCE,
    Decoded,
    bands,
    by_bands,
    limits,
    lost_remark,
    memory_fault,
    size_fault,
    stretch,
)

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

# Projection radiography. CT, MR, US and the like are other pictures with other grey values.
MODALITIES = {
    "CR": "computed radiography",
    "DX": "digital radiography",
    "IO": "intra-oral radiography",
    "MG": "mammography",
    "PX": "panoramic X-ray",
    "RF": "radio fluoroscopy",
    "RG": "radiographic imaging, film",
    "XA": "X-ray angiography",
}
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")
INSTALL = 'pip install "cbir_lib[dicom]"'


def is_dicom(data: bytes) -> bool:
    """Tell whether the bytes start as a DICOM file does; the first 4 KB suffice.

    That is 128 of anything, then ``DICM``; or, without this preamble, two elements of the groups
    that come first, in any encoding.
    """
    return data[128:132] == b"DICM" or _is_bare(data[:4096])


def _is_bare(data: bytes) -> bool:
    """Tell whether a DICOM data set starts here: group 0002 or 0008, and a second tag behind it."""
    if len(data) < 16 or data[:2] not in (b"\2\0", b"\x08\0", b"\0\2", b"\0\x08"):
        return False
    order = "<" if data[1] == 0 else ">"
    group, element = struct.unpack_from(order + "HH", data)
    if data[4:6] in LONG_VRS:
        start, (length,) = 12, struct.unpack_from(order + "I", data, 8)
    elif data[4:6].isalpha() and data[4:6].isupper():
        start, (length,) = 8, struct.unpack_from(order + "H", data, 6)
    elif order == "<":  # implicit VR
        start, (length,) = 8, struct.unpack_from("<I", data, 4)
    else:
        return False
    if start + length + 4 > len(data):
        return False
    following = struct.unpack_from(order + "HH", data, start + length)
    return (group, element) < following and following[0] <= 0x0010


def decode(data: bytes) -> Decoded:
    """Decode one DICOM file of projection radiography (``MODALITIES``, or none named) to 8 bits.

    The first VOI LUT or, where there is none, the first window maps linearly to 0..255. Without
    either, or where they are faulty or leave nothing to see, the image is stretched between the
    limits that :func:`cbir_lib.images.grey.limits` finds; but what has 8 bits already stays as
    it is, and fewer are stretched from their whole range. Colour becomes luminance, pixel padding
    black.

    Preamble, file meta information, transfer syntax and the elements that describe the pixels may
    be missing: they are told from the data, and the remark says so. Of several frames the first is
    read; overlays are not shown. Files of other modalities, truncated, compressed without the codec
    at hand, or that would take too much memory give no image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, on values that bend the standard
        try:
            return _decode(data)
        except MemoryError:
            return Decoded(None, "too little memory to read it")
        except Exception:  # pydicom raises what its parsing ran into, of any type
            return Decoded(None, "damaged")


def _decode(data: bytes) -> Decoded:
    from pydicom import dcmread
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    syntax = _transfer_syntax(data)
    # Before anything is inflated: a few bytes can become gigabytes.
    if syntax == DeflatedExplicitVRLittleEndian:
        return Decoded(None, f"compressed as {syntax.name}, which is not read")
    header = dcmread(io.BytesIO(data), force=True)
    modality = _text(header, "Modality")
    if modality and modality not in MODALITIES:
        return Decoded(None, f"modality {modality}, no projection X-ray")
    name = next((name for name in PIXELS if name in header), "")
    rows, columns = _number(header, "Rows") or 0, _number(header, "Columns") or 0
    if not rows or not columns:
        return Decoded(None, "no Rows or no Columns for its pixels" if name else "no pixels")
    if fault := size_fault(columns, rows):
        return Decoded(None, fault)
    if not name:
        # pydicom passes over an element that the file's end cuts off.
        return Decoded(None, "truncated, or without pixels")
    syntax, remarks = _encoding(header, name, syntax)
    if syntax is None:
        return Decoded(None, "compressed, but its transfer syntax is not named")
    if fault := _codec_fault(syntax):
        return Decoded(None, fault)
    remarks += _complete(header, name, syntax)
    if fault := _fault(header, name, syntax, len(data)):
        return Decoded(None, fault)
    frames = header.NumberOfFrames
    try:
        pixels, void, done = _pixels(header, name, syntax)
    except MemoryError:
        raise
    except Exception:  # each codec has its own types
        if syntax.is_encapsulated:
            return Decoded(
                None, f"compressed as {syntax.name}, damaged or of a kind no codec here reads"
            )
        kind, bits = header.PhotometricInterpretation, header.BitsAllocated
        samples = header.SamplesPerPixel
        return Decoded(None, f"{kind} with {samples} samples of {bits} bits, which is not read")
    remarks += done
    image, remark = _shown(pixels, header, void)
    if image is None:
        return Decoded(None, remark)
    if frames > 1:
        remarks.append(f"first of {frames} frames")
    if overlays := sum((group, 0x0010) in header for group in range(0x6000, 0x6100, 2)):
        remarks.append(f"{overlays} overlay{'s' * (overlays > 1)} not shown")
    return Decoded(image, ", ".join(filter(None, [remark, *remarks])))


def _transfer_syntax(data: bytes) -> UID | None:
    """Return how the data set is written, from the file meta information (group 0002) alone."""
    from pydicom.filereader import read_dataset

    file = io.BytesIO(data)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    if data[file.tell() : file.tell() + 2] != b"\2\0":
        return None
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    return meta.get("TransferSyntaxUID") or None


def _encoding(header: Dataset, name: str, said: UID | None) -> tuple[UID | None, list[str]]:
    """Return the transfer syntax of the pixels, from what is there; None where it cannot be told.

    What the file says is taken, unless the pixels are compressed and it says they are not, or the
    other way round.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    compressed = header[name].value[:4] == b"\xfe\xff\x00\xe0"
    if said is not None and said.is_encapsulated == compressed:
        return said, []
    if said is not None and (said.is_private or not said.is_transfer_syntax):
        return said, []
    implicit, little = header.original_encoding
    if compressed:
        found = _compression(header[name].value)
    elif said is not None and len(header[name].value) < _expected(header):
        return said, []  # damaged
    elif implicit:
        found = ImplicitVRLittleEndian
    else:
        found = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    if found is None:
        return said, []
    meta = getattr(header, "file_meta", None)
    header.file_meta = FileMetaDataset() if meta is None else meta
    header.file_meta.TransferSyntaxUID = found
    what = "is not named" if said is None else "is wrong"
    return found, [f"its transfer syntax {what}, taken as {found.name}"]


def _compression(value: bytes) -> UID | None:
    """Return the compression of encapsulated pixels, by how their first fragment starts."""
    from pydicom import uid

    (table,) = struct.unpack_from("<I", value, 4)
    start = value[8 + table + 8 :][:1024]
    if start[:4] == b"\xff\x4f\xff\x51" or start[4:8] == b"jP  ":
        return uid.JPEG2000
    if start[:2] == b"\xff\xd8":
        kinds = {0xC0: uid.JPEGBaseline8Bit, 0xC1: uid.JPEGExtended12Bit, 0xC3: uid.JPEGLossless}
        kinds[0xF7] = uid.JPEGLSLossless
        place = 2
        while place + 4 <= len(start) and start[place] == 0xFF:
            if start[place + 1] in kinds:
                return kinds[start[place + 1]]
            place += 2 + int.from_bytes(start[place + 2 : place + 4], "big")
        return None
    segments = start[:64]
    if len(segments) == 64 and 1 <= segments[0] <= 15 and segments[1:4] == bytes(3):
        return uid.RLELossless if segments[4:8] == b"\x40\0\0\0" else None
    return None


def _number(header: Dataset, name: str) -> int | None:
    """Return an element as a whole number, the first of several; None where there is none."""
    try:
        value = header.get(name)
        if isinstance(value, bytes):  # a VR that the encoding leaves open
            order = "little" if header.original_encoding[1] else "big"
            return int.from_bytes(value[:2], order) if value else None
        if not isinstance(value, (int, float, str)) and value is not None:
            value = value[0]
        return None if value is None or value == "" else int(value)
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError):
        return None


def _text(header: Dataset, name: str) -> str:
    """Return an element as text that can be printed, short; empty where it is missing."""
    text = str(header.get(name) or "").strip()[:40]
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _expected(header: Dataset) -> int:
    """Return how many bytes all frames take, uncompressed."""
    number = {name: _number(header, name) or 1 for name in ("NumberOfFrames", "SamplesPerPixel")}
    samples = number["NumberOfFrames"] * number["SamplesPerPixel"]
    bits = _number(header, "BitsAllocated") or 8
    return -(-header.Rows * header.Columns * samples * bits // 8)


def _complete(header: Dataset, name: str, syntax: UID) -> list[str]:
    """Fill in the elements that describe the pixels, where they are missing or contradictory.

    Returns
    -------
    list of str
        What was missing and what it was taken for.
    """
    remarks = []

    def take(element: str, value: int | str, why: str = "missing") -> None:
        setattr(header, element, value)
        if element not in ("HighBit", "PlanarConfiguration", "NumberOfFrames") or why != "missing":
            remarks.append(f"{element} {why}, taken as {value}")

    _lift_groups(header)
    frames = _number(header, "NumberOfFrames")
    if frames is None or frames < 1:
        take("NumberOfFrames", 1)
    header.NumberOfFrames = max(1, frames or 1)
    header.Rows, header.Columns = _number(header, "Rows"), _number(header, "Columns")
    per_frame = header.Rows * header.Columns * header.NumberOfFrames
    length = 0 if syntax.is_encapsulated else len(header[name].value)
    kind = _text(header, "PhotometricInterpretation").upper()
    samples, bits = _number(header, "SamplesPerPixel"), _number(header, "BitsAllocated")
    if samples is None:
        colour = (3, 6) if bits is None else (3 * bits // 8,)
        threefold = kind in COLOURS or (not kind and length // per_frame in colour)
        samples = 3 if threefold else 1
        take("SamplesPerPixel", samples)
    if kind:
        header.PhotometricInterpretation = kind
    else:
        take("PhotometricInterpretation", "RGB" if samples == 3 else "MONOCHROME2")
    if samples > 1 and _number(header, "PlanarConfiguration") not in (0, 1):
        take("PlanarConfiguration", 0)
    stored, high = _number(header, "BitsStored"), _number(header, "HighBit")
    if name != "PixelData":
        header.BitsAllocated = header.BitsStored = 32 if name == "FloatPixelData" else 64
        header.PixelRepresentation, header.HighBit = 1, header.BitsStored - 1
        return remarks
    if bits is None:
        each = length // (per_frame * max(1, samples))
        bits = {1: 8, 2: 16, 4: 32, 8: 64}.get(each) or (8 if 0 < (stored or 8) <= 8 else 16)
        take("BitsAllocated", bits)
    if stored is None:
        stored = high + 1 if high is not None and 0 < high < bits else bits
        take("BitsStored", stored)
    elif not 1 <= stored <= bits:
        take("BitsStored", bits, f"{stored} of {bits} allocated")
        stored = bits
    if high is None:
        take("HighBit", stored - 1)
    elif not stored - 1 <= high < bits:
        take("HighBit", stored - 1, f"{high} with {stored} bits stored")
    if _number(header, "PixelRepresentation") not in (0, 1):
        take("PixelRepresentation", 0)
    return remarks


def _lift_groups(header: Dataset) -> None:
    """Put the rescale and window of an enhanced file's first frame where other files have them."""
    for outer in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for inner in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            groups = header.get(outer)
            items = groups[0].get(inner) if groups else None
            for element in items[0] if items else ():
                if element.tag not in header:
                    header.add(element)


def _fault(header: Dataset, name: str, syntax: UID, file_bytes: int) -> str:
    """Say why the pixels are not decoded; empty where they can be."""
    width, height, bits = header.Columns, header.Rows, header.BitsAllocated
    kind, samples = header.PhotometricInterpretation, header.SamplesPerPixel
    known = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    if kind not in (*COLOURS, *known) or samples != (3 if kind in COLOURS else 1):
        wrong = "" if kind not in (*COLOURS, *known) else f" with {samples} samples"
        return f"{kind}{wrong}, cannot be converted to grey"
    if bits not in (1, 8, 16, 32, 64):
        return f"{bits} bits allocated, which is not read"
    if kind == "PALETTE COLOR":
        if "SegmentedRedPaletteColorLookupTableData" in header:  # a few bytes become gigabytes
            return "a segmented palette, which is not read"
        if "RedPaletteColorLookupTableData" not in header:
            return "PALETTE COLOR, but without a palette"
    # Measured: pydicom copies the values, and computes with YBR and palettes in floats.
    on_top = {"MONOCHROME1": 5, "MONOCHROME2": 5, "RGB": 6, "PALETTE COLOR": 14}.get(kind, 32)
    per_pixel = samples * max(1, bits // 8) * 2 + on_top + (12 if syntax.is_encapsulated else 0)
    if fault := memory_fault(width, height, per_pixel, 2 * file_bytes):
        return fault
    value = header[name].value
    if not syntax.is_encapsulated:
        expected = _expected(header)
        if kind == "YBR_FULL_422":
            expected = expected // 3 * 2
        return "truncated pixels" if len(value) < expected else ""
    return _inner_fault(header, value, syntax)


def _inner_fault(header: Dataset, value: bytes, syntax: UID) -> str:
    """Say why the first compressed frame is not what the elements around it say."""
    from PIL import Image
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    try:
        frame = get_frame(value, 0, number_of_frames=header.NumberOfFrames)
    except Exception:  # of any type, on broken fragments
        return f"compressed as {syntax.name}, damaged or of a kind no codec here reads"
    if syntax == RLELossless:
        whole = header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated // 8
        # A run of two bytes makes 128.
        if len(frame) * 64 > max(LARGEST_BYTES // 4, 2 * whole) and _unpacked(frame) > 2 * whole:
            return "more pixels than Rows and Columns say"
        return ""
    try:
        with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as picture:
            width, height = picture.size
    except Image.DecompressionBombError:
        return "more pixels than Rows and Columns say"
    except Exception:  # no format of Pillow's: the codec will tell
        return ""
    if (width, height) != (header.Columns, header.Rows):
        said = f"{header.Columns} x {header.Rows}"
        return f"its compressed picture is {width} x {height} pixels, not {said} as it says"
    return ""


def _unpacked(frame: bytes) -> int:
    """Return how many bytes an RLE frame becomes, without its 64 bytes of header."""
    place, total = 64, 0
    while place < len(frame):
        head = frame[place]
        place += 2 if head > 128 else 2 + head if head < 128 else 1
        total += 257 - head if head > 128 else 1 + head if head < 128 else 0
    return total


def _codec_fault(syntax: UID) -> str:
    """Say why pixels in this transfer syntax cannot be decompressed here; empty where they can."""
    from pydicom.pixels import get_decoder

    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:  # video, private
        return f"compressed as {syntax.name}, which is not read"
    if decoder.is_available:
        return ""
    if any(missing.startswith("gdcm") for missing in decoder.missing_dependencies):
        return f"compressed as {syntax.name}, which needs codecs: {INSTALL}"
    return f"compressed as {syntax.name}, which is not read"


def _pixels(
    header: Dataset, name: str, syntax: UID
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Read the first frame: its stored values, where they are padding, and what was odd.

    Returns
    -------
    pixels : (H, W) or (H, W, 3)
        Of the sign and depth that the elements state.
    void : (H, W) bool, or None
    remarks
    """
    from pydicom.pixels import pixel_array
    from pydicom.uid import RLELossless

    as_stored = name == "PixelData" and (not syntax.is_encapsulated or syntax == RLELossless)
    options = {"correct_unused_bits": False} if as_stored else {}
    raw = pixel_array(header, index=0, **options)
    raw = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    if raw.ndim == 3 and raw.shape[2] == 1:
        raw = raw[..., 0]
    pixels, remarks = raw, []
    bits, stored, high = header.BitsAllocated, header.BitsStored, header.HighBit
    if as_stored and bits > 1 and (stored < bits or high != stored - 1):
        if high != stored - 1:
            unsigned = raw.view(f"u{raw.dtype.itemsize}")
            low_bits = unsigned.dtype.type(2 ** (high + 1 - stored) - 1)
            if unsigned.max() < 2**stored and (unsigned & low_bits).any():
                remarks.append(f"HighBit {high} does not fit the values, taken as {stored - 1}")
                high = stored - 1
        pixels = np.left_shift(raw, bits - 1 - high)
        pixels >>= bits - stored
    void = _padding(header, raw, pixels) if raw.ndim == 2 and name == "PixelData" else None
    if void is not None and void.all():
        void = None
        remarks.append("all pixels are padding")
    elif void is not None:
        remarks.append("pixel padding black")
    return pixels, void, remarks


def _padding(header: Dataset, raw: np.ndarray, pixels: np.ndarray) -> np.ndarray | None:
    """Find the pixel padding (PS3.3, C.7.5.1.1.2), by value or range; None where there is none."""
    first = _number(header, "PixelPaddingValue")
    if first is None:
        return None
    last = _number(header, "PixelPaddingRangeLimit")
    ends = []
    for value in (first, first if last is None else last):
        # The bits count, where the sign is bent.
        size, signed = 8 * raw.dtype.itemsize, raw.dtype.kind == "i"
        value %= 2 ** max(16, size) if value < 0 else 2**64
        if signed and size >= 16 and value >= 2 ** (size - 1):
            value -= 2**size
        ends.append(value)
    low, high = min(ends), max(ends)
    void = (pixels >= low) & (pixels <= high)
    if raw is not pixels:  # padding may lie beyond the bits stored
        void |= (raw >= low) & (raw <= high)
    return void if void.any() else None


def _shown(pixels: np.ndarray, header: Dataset, void: np.ndarray | None) -> Decoded:
    """Return the picture a viewer would show, from stored values (H, W) or colour (H, W, 3)."""
    kind = header.PhotometricInterpretation
    stored = int(header.BitsStored)
    if kind in COLOURS and pixels.ndim == 3:
        return Decoded(_of_colour(pixels, 2**stored - 1), f"{kind}, converted to grey")
    if kind == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        colour = apply_color_lut(pixels, header)
        deep = max(int(header.RedPaletteColorLookupTableDescriptor[2]), 8)
        white = 255 if colour.dtype == np.uint8 else 2**deep - 1
        if colour.max(initial=0) > white:
            white = np.iinfo(colour.dtype).max
        return Decoded(_of_colour(colour[..., :3], white), f"{kind}, converted to grey")
    if pixels.ndim != 2:
        return Decoded(None, f"{kind}, cannot be converted to grey")
    remarks = []
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels)
        if not finite.any():
            return Decoded(None, "no grey value is a number")
        if lost := finite.size - int(finite.sum()):
            void = ~finite if void is None else void | ~finite
            remarks.append(lost_remark(lost))
    try:
        image, done = _windowed(pixels, header, void)
        remarks.insert(0, done)
    except MemoryError:
        raise
    except Exception:  # values that no standard allows, in one of a dozen elements
        image = stretch(pixels, *limits(pixels, void))
        remarks.insert(0, "faulty window or LUT, stretched to 8 bits instead")
    if kind == "MONOCHROME1" or _text(header, "PresentationLUTShape").upper() == "INVERSE":
        image = 255 - image
        remarks.append("white is zero, inverted")
    if void is not None:
        image = image.copy()
        image[void] = 0
    return Decoded(image, ", ".join(filter(None, remarks)))


def _of_colour(pixels: np.ndarray, white: int) -> np.ndarray:
    """Return the luminance of colours (H, W, 3), ``white`` at most, as (H, W) uint8."""
    return by_bands(pixels, lambda band: stretch(band @ LUMINANCE, 0, white))


def _windowed(
    pixels: np.ndarray, header: Dataset, void: np.ndarray | None
) -> tuple[np.ndarray, str]:
    """Apply modality LUT or rescale, then VOI LUT or window; (H, W) uint8, and what was done."""
    from pydicom.pixels import apply_rescale, apply_windowing

    if header.get("ModalityLUTSequence"):
        pixels, _ = _look_up(pixels, header, header.ModalityLUTSequence[0])

        def rescale(band: np.ndarray) -> np.ndarray:
            return band

    else:

        def rescale(band: np.ndarray) -> np.ndarray:
            return apply_rescale(band, header)

    low, high = limits(pixels, void)
    black, white = (float(end) for end in rescale(np.array([low, high], dtype=np.float64)))
    if not np.isfinite([black, white]).all():
        raise ValueError("no rescale")
    remark = ""
    if header.get("VOILUTSequence"):
        item = header.VOILUTSequence[0]

        def shown(band: np.ndarray) -> np.ndarray:
            values, most = _look_up(rescale(band), header, item)
            return stretch(values, 0, most)

        remark = "VOI LUT applied, to 8 bits"
    elif header.get("WindowCenter") is not None and header.get("WindowWidth") is not None:
        # What the window gives for black and white: it depends on depth, sign and rescale.
        least, most = apply_windowing(np.array([-1e30, 1e30]), header)
        if not np.isfinite([least, most]).all() or least == most:
            raise ValueError("no window")

        def shown(band: np.ndarray) -> np.ndarray:
            values = apply_windowing(rescale(band), header)
            if pixels.dtype.kind != "f" and not np.isfinite(values).all():
                raise ValueError("no window")
            return stretch(values, least, most)

        remark = "window applied, to 8 bits"
    if remark:
        image = by_bands(pixels, shown)
        seen = image if void is None else image[~void]
        if low == high or seen.min() < seen.max():
            return image, remark
        remark = f"{remark.split(' applied')[0]} leaves nothing to see, stretched to 8 bits instead"
    stored = int(header.BitsStored)
    if not remark and stored <= 8 and pixels.dtype.kind == "u" and (black, white) == (low, high):
        if stored == 8:
            return pixels.astype(np.uint8), ""
        return stretch(pixels, 0, 2**stored - 1), f"{stored} bits, to 8"
    # Of a falling rescale the larger value is the darker one.
    black, white = min(black, white), max(black, white)
    image = by_bands(pixels, lambda band: stretch(rescale(band), black, white))
    return image, remark or "stretched to 8 bits"


def _look_up(values: np.ndarray, header: Dataset, item: Dataset) -> tuple[np.ndarray, int]:
    """Map values through a LUT (PS3.3, C.11.1.1); and the largest value it can give."""
    entries, first, bits = item.LUTDescriptor
    entries = entries % 2**16 or 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if header.original_encoding[1] else ">"
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * entries else order + "u2")
    table = np.atleast_1d(np.asarray(data, dtype=np.int64))[:entries]
    mapped = np.empty(values.shape, dtype=np.int32)
    for rows in bands(*values.shape):
        place = np.clip(np.asarray(values[rows], dtype=np.float64) - first, 0, len(table) - 1)
        mapped[rows] = table[np.rint(place).astype(np.intp)]
    return mapped, 2**bits - 1

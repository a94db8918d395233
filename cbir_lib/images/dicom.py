"""Decoding DICOM files: their header made whole, the stored values of their first frame.

pydicom reads the file. It ignores High Bit and pixel padding, which are honoured here. What a
viewer makes of the stored values is in :mod:`cbir_lib.images.dicom_display`.
"""

from __future__ import annotations

import re
import struct
import warnings
from typing import TYPE_CHECKING

import numpy as np

from cbir_lib.images.dicom_display import (
    COLOURS,
    MODALITY_LUT,
    VOI_LUT,
    convert_for_display,
    read_first_item,
    read_text,
    remove_long_elements,
)
from cbir_lib.images.grey import (
    LARGEST_BYTES,
    TOO_LITTLE_MEMORY,
    Decoded,
    describe_aspect,
    find_memory_fault,
    find_size_fault,
    unpacks_to_more,
)
from cbir_lib.images.jpeg import find_end, read_depths
from cbir_lib.images.parts import (
    MOST_PARTS,
    TOO_MANY_PARTS,
    FileOfParts,
    PartsError,
    comes_from_parts,
)

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

# Projection radiography: the standard's terms (PS3.3, C.7.3.1.1.1), its retired ones, and those
# that devices write in their place. In CT, MR, US and the like, grey values mean something else.
MODALITIES = {
    "CF": "cinefluorography",
    "CR": "computed radiography",
    "DF": "digital fluoroscopy",
    "DR": "digital radiography",
    "DS": "digital subtraction angiography",
    "DX": "digital radiography",
    "IO": "intra-oral radiography",
    "MG": "mammography",
    "PX": "panoramic X-ray",
    "RF": "radio fluoroscopy",
    "RG": "radiographic imaging, film",
    "XA": "X-ray angiography",
    "XR": "X-ray",
}
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")
INSTALL_COMMAND = 'pip install "cbir_lib[dicom]"'


def is_dicom(data: bytes) -> bool:
    """Tell whether the bytes start like a DICOM file; the first 4 KB suffice.

    A DICOM file starts with 128 arbitrary bytes and ``DICM``; or, without this preamble, with
    ``DICM``, or with two elements of the groups that come first, in any encoding.
    """
    return b"DICM" in (data[128:132], data[:4]) or _is_bare(data[:4096])


def _is_bare(data: bytes) -> bool:
    """Tell whether a DICOM data set starts here: group 0002 or 0008, followed by a second tag."""
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
    limits that :func:`cbir_lib.images.grey.find_limits` returns; but 8-bit images stay as they are,
    and those of fewer bits are stretched from their whole range. Colour becomes luminance, pixel
    padding black.

    Preamble, file meta information, transfer syntax and the elements that describe the pixels may
    be missing: they are inferred from the data, and the remark says so. Of several frames the first
    is read; overlays are not shown. Files that are of other modalities, truncated, compressed with
    a codec that is not installed, or would take too much memory give no image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, on values that violate the standard
        try:
            return _decode(data)
        except MemoryError:
            return Decoded(None, TOO_LITTLE_MEMORY)
        except Exception as error:  # pydicom passes on whatever its parsing raises
            return Decoded(None, TOO_MANY_PARTS if comes_from_parts(error) else "damaged")


def _decode(data: bytes) -> Decoded:
    from pydicom import dcmread
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    if data[:4] == b"DICM":
        data = bytes(128) + data
    syntax = _read_transfer_syntax(data)
    # Checked before anything is inflated: a few bytes can become gigabytes.
    if syntax == DeflatedExplicitVRLittleEndian:
        return Decoded(None, f"compressed as {syntax.name}, which is not read")
    header = dcmread(FileOfParts(data), force=True)
    remove_long_elements(header, kept=(*PIXELS, *GROUPS, MODALITY_LUT, VOI_LUT))
    modality = read_text(header, "Modality")
    if modality and not MODALITIES.keys() & set(re.findall("[A-Z]+", modality.upper())):
        return Decoded(None, f"modality {modality}, no projection X-ray")
    name = next((name for name in PIXELS if name in header), "")
    rows, columns = _read_number(header, "Rows") or 0, _read_number(header, "Columns") or 0
    if not rows or not columns:
        return Decoded(None, "no Rows or no Columns for its pixels" if name else "no pixels")
    if fault := find_size_fault(columns, rows):
        return Decoded(None, fault)
    if not name or not header[name].value:
        # pydicom skips an element that is cut off by the end of the file.
        return Decoded(None, "truncated, or without pixels")
    syntax, remarks = _find_transfer_syntax(header, name, syntax)
    if syntax is None:
        return Decoded(None, "compressed, but its transfer syntax is not named")
    if fault := _find_codec_fault(syntax):
        return Decoded(None, fault)
    remarks += _complete_header(header, name, syntax)
    if syntax.is_encapsulated and header.NumberOfFrames == 1:
        _empty_offset_table(header, name)
    if fault := _find_fault(header, name, syntax, len(data)):
        return Decoded(None, fault)
    frames = header.NumberOfFrames
    try:
        pixels, void, pixel_remarks = _read_pixels(header, name, syntax)
    except (MemoryError, PartsError):
        raise
    except Exception:  # each codec raises its own types
        if syntax.is_encapsulated:
            return Decoded(
                None, f"compressed as {syntax.name}, damaged or of a kind no codec here reads"
            )
        kind, bits = header.PhotometricInterpretation, header.BitsAllocated
        samples = header.SamplesPerPixel
        return Decoded(None, f"{kind} with {samples} samples of {bits} bits, which is not read")
    remarks += pixel_remarks
    image, remark = convert_for_display(pixels, header, void)
    if image is None:
        return Decoded(None, remark)
    if frames > 1:
        remarks.append(f"first of {frames} frames")
    elif whole := _count_further_frames(header, name, syntax):
        remarks.append(f"first of {whole} frames, of which NumberOfFrames says nothing")
    if overlays := sum((group, 0x0010) in header for group in range(0x6000, 0x6100, 2)):
        remarks.append(f"{overlays} overlay{'s' * (overlays > 1)} not shown")
    if read_text(header, "ShutterShape"):
        remarks.append("display shutter not applied")
    if read_text(header, "PresentationIntentType").upper() == "FOR PROCESSING":
        remarks.append("for processing, not for presentation")
    remarks.append(describe_aspect(*_read_density(header)))
    return Decoded(image, ", ".join(filter(None, [remark, *remarks])))


def _empty_offset_table(header: Dataset, name: str) -> None:
    """Empty the table of the frames' offsets: all fragments are one frame, and it may be wrong."""
    value = header[name].value
    start = 8 + int.from_bytes(value[4:8], "little")
    if 8 < start <= 4 * MOST_PARTS:
        header[name].value = value[:4] + bytes(4) + value[start:]
    for element in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if element in header:
            del header[element]


def _count_further_frames(header: Dataset, name: str, syntax: UID) -> int:
    """Count the frames that the pixels are enough for; 0 if there is only one."""
    if syntax.is_encapsulated:
        return 0
    frames = len(header[name].value) // max(1, _count_expected_bytes(header))
    return frames if frames > 1 else 0


def _read_density(header: Dataset) -> tuple[float, float]:
    """Read how densely pixels lie along rows and along columns, in any unit; 1, 1 if unknown."""
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            down, across = header[name].value  # from row to row, and from column to column, in mm
            return 1 / float(across), 1 / float(down)
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            continue
    try:
        tall, wide = header.PixelAspectRatio
        return 1 / float(wide), 1 / float(tall)
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return 1.0, 1.0


def _read_transfer_syntax(data: bytes) -> UID | None:
    """Read the transfer syntax from the file meta information (group 0002) alone."""
    from pydicom.filereader import read_dataset

    file = FileOfParts(data)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    if data[file.tell() : file.tell() + 2] != b"\2\0":
        return None
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    return meta.get("TransferSyntaxUID") or None


def _find_transfer_syntax(
    header: Dataset, name: str, declared: UID | None
) -> tuple[UID | None, list[str]]:
    """Find the transfer syntax of the pixels from the data; None where that is not possible.

    The declared one is used, unless the pixels are compressed and it says they are not, or the
    other way round.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    compressed = header[name].value[:4] == b"\xfe\xff\x00\xe0"
    if declared is not None and (declared.is_private or not declared.is_transfer_syntax):
        return declared, []
    if declared is not None and declared.is_encapsulated == compressed:
        return declared, []
    implicit, little = header.original_encoding
    if compressed:
        syntax = _detect_compression(header[name].value)
    elif declared is not None and len(header[name].value) < _count_expected_bytes(header):
        return declared, []  # damaged
    elif implicit:
        syntax = ImplicitVRLittleEndian
    else:
        syntax = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    if syntax is None:
        return declared, []
    meta = getattr(header, "file_meta", None)
    header.file_meta = FileMetaDataset() if meta is None else meta
    header.file_meta.TransferSyntaxUID = syntax
    fault = "is not named" if declared is None else "is wrong"
    return syntax, [f"its transfer syntax {fault}, taken as {syntax.name}"]


def _detect_compression(value: bytes) -> UID | None:
    """Detect the compression of encapsulated pixels from the start of their first fragment."""
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


def _read_number(header: Dataset, name: str) -> int | None:
    """Read an element as an integer, the first of several; None where there is none."""
    try:
        value = header.get(name)
        if isinstance(value, bytes):  # the encoding does not determine the VR
            order = "little" if header.original_encoding[1] else "big"
            return int.from_bytes(value[:2], order) if value else None
        if not isinstance(value, (int, float, str)) and value is not None:
            value = value[0]
        return None if value is None or value == "" else int(value)
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError):
        return None


def _count_expected_bytes(header: Dataset) -> int:
    """Count the bytes that all frames take, uncompressed."""
    number = {
        name: _read_number(header, name) or 1 for name in ("NumberOfFrames", "SamplesPerPixel")
    }
    samples = number["NumberOfFrames"] * number["SamplesPerPixel"]
    bits = _read_number(header, "BitsAllocated") or 8
    return -(-header.Rows * header.Columns * samples * bits // 8)


def _complete_header(header: Dataset, name: str, syntax: UID) -> list[str]:
    """Fill in the elements that describe the pixels where they are missing or contradictory.

    Returns
    -------
    list of str
        Remarks: which element was missing, and the value assumed.
    """
    from pydicom.uid import RLELossless

    remarks = []

    def take(element: str, value: int | str, why: str = "missing") -> None:
        setattr(header, element, value)
        if element not in ("HighBit", "PlanarConfiguration", "NumberOfFrames") or why != "missing":
            remarks.append(f"{element} {why}, taken as {value}")

    _lift_functional_groups(header)
    rescale = {"RescaleSlope": 1, "RescaleIntercept": 0}
    lacking = [element for element in rescale if header.get(element) in (None, "")]
    if len(lacking) == 1:  # pydicom would rescale by neither
        take(lacking[0], rescale[lacking[0]])
    frames = _read_number(header, "NumberOfFrames")
    if frames is None or frames < 1:
        take("NumberOfFrames", 1)
    header.NumberOfFrames = max(1, frames or 1)
    header.Rows, header.Columns = _read_number(header, "Rows"), _read_number(header, "Columns")
    per_frame = header.Rows * header.Columns * header.NumberOfFrames
    length = 0 if syntax.is_encapsulated else len(header[name].value)
    kind = read_text(header, "PhotometricInterpretation").upper()
    samples, bits = _read_number(header, "SamplesPerPixel"), _read_number(header, "BitsAllocated")
    if samples is None:
        colour = (3, 6) if bits is None else (3 * bits // 8,)
        threefold = kind in COLOURS or (not kind and length // per_frame in colour)
        samples = 3 if threefold else 1
        take("SamplesPerPixel", samples)
    if kind:
        header.PhotometricInterpretation = kind
    else:
        take("PhotometricInterpretation", "RGB" if samples == 3 else "MONOCHROME2")
    # Within a compressed picture the codec decides (PS3.5, 8.2); the element may be left over from
    # before the compression.
    decided = syntax.is_encapsulated and syntax != RLELossless
    if samples > 1 and (decided or _read_number(header, "PlanarConfiguration") not in (0, 1)):
        take("PlanarConfiguration", 0)
    stored, high = _read_number(header, "BitsStored"), _read_number(header, "HighBit")
    if name != "PixelData":
        header.BitsAllocated = header.BitsStored = 32 if name == "FloatPixelData" else 64
        header.PixelRepresentation, header.HighBit = 1, header.BitsStored - 1
        return remarks
    if bits is None:
        sample_bytes = length // (per_frame * max(1, samples))
        bits = {1: 8, 2: 16, 4: 32, 8: 64}.get(sample_bytes) or (
            8 if 0 < (stored or 8) <= 8 else 16
        )
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
    if _read_number(header, "PixelRepresentation") not in (0, 1):
        take("PixelRepresentation", 0)
    return remarks


def _lift_functional_groups(header: Dataset) -> None:
    """Copy rescale and window of an enhanced file's first frame to where other files have them."""
    for outer in GROUPS:
        groups = read_first_item(header, outer)
        for inner in ("PixelValueTransformationSequence", "FrameVOILUTSequence") if groups else ():
            for element in read_first_item(groups, inner) or ():
                if element.tag not in header:
                    header.add(element)


def _find_fault(header: Dataset, name: str, syntax: UID, file_bytes: int) -> str:
    """Return why the pixels cannot be decoded; empty where they can."""
    width, height, bits = header.Columns, header.Rows, header.BitsAllocated
    kind, samples = header.PhotometricInterpretation, header.SamplesPerPixel
    known = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    if kind not in (*COLOURS, *known) or samples != (3 if kind in COLOURS else 1):
        wrong = "" if kind not in (*COLOURS, *known) else f" with {samples} samples"
        return f"{kind}{wrong}, cannot be converted to grey"
    if bits not in (1, 8, 16, 32, 64):
        return f"{bits} bits allocated, which is not read"
    if kind == "PALETTE COLOR":
        if "SegmentedRedPaletteColorLookupTableData" in header:  # could expand to gigabytes
            return "a segmented palette, which is not read"
        if "RedPaletteColorLookupTableData" not in header:
            return "PALETTE COLOR, but without a palette"
    # Measured: pydicom copies the values, and converts YBR and palettes in floating point.
    on_top = {"MONOCHROME1": 5, "MONOCHROME2": 5, "RGB": 6, "PALETTE COLOR": 14}.get(kind, 32)
    per_pixel = samples * max(1, bits // 8) * 2 + on_top + (12 if syntax.is_encapsulated else 0)
    if fault := find_memory_fault(width, height, per_pixel, 2 * file_bytes):
        return fault
    value = header[name].value
    if not syntax.is_encapsulated:
        expected = _count_expected_bytes(header)
        if kind == "YBR_FULL_422":
            expected = expected // 3 * 2
        return "truncated pixels" if len(value) < expected else ""
    return _find_frame_fault(header, value, syntax)


def _find_frame_fault(header: Dataset, value: bytes, syntax: UID) -> str:
    """Return how the first compressed frame contradicts the header; empty where it does not."""
    from PIL import Image
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    table_bytes = int.from_bytes(value[4:8], "little")  # of the offsets of the frames
    if 4 * MOST_PARTS < table_bytes <= len(value):
        raise PartsError
    try:
        frame = get_frame(FileOfParts(value), 0, number_of_frames=header.NumberOfFrames)
    except PartsError:
        raise
    except Exception:  # broken fragments raise any type
        return f"compressed as {syntax.name}, damaged or of a kind no codec here reads"
    if syntax == RLELossless:
        whole = header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated // 8
        # A run of two bytes makes 128.
        if len(frame) * 64 > max(LARGEST_BYTES // 4, 2 * whole) and unpacks_to_more(
            frame, 2 * whole, start=64
        ):
            return "more pixels than Rows and Columns say"
        return ""
    if (depth := max(read_depths(frame), default=0)) > header.BitsAllocated:
        return f"its compressed picture has {depth} bits, not {header.BitsAllocated} as it says"
    try:
        with Image.open(FileOfParts(frame), formats=("JPEG", "JPEG2000")) as picture:
            width, height = picture.size
            cut_off = picture.format == "JPEG" and find_end(frame) < 0
    except PartsError:
        raise
    except Image.DecompressionBombError:
        return "more pixels than Rows and Columns say"
    except Exception:  # not a format that Pillow reads: left to the codec
        return ""
    if (width, height) != (header.Columns, header.Rows):
        declared = f"{header.Columns} x {header.Rows}"
        return f"its compressed picture is {width} x {height} pixels, not {declared} as it says"
    return f"compressed as {syntax.name}, but cut off" if cut_off else ""


def _find_codec_fault(syntax: UID) -> str:
    """Return why pixels in this transfer syntax cannot be decompressed; empty where they can."""
    from pydicom.pixels import get_decoder

    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:  # video, private
        if syntax.is_private or not syntax.is_transfer_syntax:
            return f"transfer syntax {syntax.name}, which is not read"
        return f"compressed as {syntax.name}, which is not read"
    if decoder.is_available:
        return ""
    if any(missing.startswith("gdcm") for missing in decoder.missing_dependencies):
        return f"compressed as {syntax.name}, which needs codecs: {INSTALL_COMMAND}"
    return f"compressed as {syntax.name}, which is not read"


def _read_pixels(
    header: Dataset, name: str, syntax: UID
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Read the first frame: its stored values, a mask of its padding, and remarks.

    Returns
    -------
    pixels : (H, W) or (H, W, 3)
        With the sign and depth that the header declares.
    void : (H, W) bool, or None
    remarks
    """
    from pydicom.pixels import pixel_array
    from pydicom.uid import JPEGBaseline8Bit, RLELossless

    as_stored = name == "PixelData" and (not syntax.is_encapsulated or syntax == RLELossless)
    options = {"correct_unused_bits": False} if as_stored else {}
    # GDCM, where it is installed, would come first, and prints what it finds amiss to stderr.
    plugin = "pillow" if syntax == JPEGBaseline8Bit else ""
    raw = pixel_array(header, index=0, decoding_plugin=plugin, **options)
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
    void = _find_padding(header, raw, pixels) if raw.ndim == 2 and name == "PixelData" else None
    if void is not None and void.all():
        void = None
        remarks.append("all pixels are padding")
    elif void is not None:
        remarks.append("pixel padding black")
    return pixels, void, remarks


def _find_padding(header: Dataset, raw: np.ndarray, pixels: np.ndarray) -> np.ndarray | None:
    """Find the pixel padding (PS3.3, C.7.5.1.1.2), by value or range; None where there is none."""
    first = _read_number(header, "PixelPaddingValue")
    if first is None:
        return None
    last = _read_number(header, "PixelPaddingRangeLimit")
    ends = []
    for value in (first, first if last is None else last):
        # Where the sign is wrong, the bits count.
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

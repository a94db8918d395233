"""From the bytes of a DICOM file to the grey values a viewer would show.

The steps are those of DICOM PS3.3, C.11: modality LUT or rescale, then VOI LUT or window, then
MONOCHROME1 inverted. pydicom reads the file and does the steps, but for the LUTs: its own look-up
wraps around at 256 where the entries have 8 bits.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np

from cbir_lib.datasets.grey import Decoded, size_fault, stretch

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
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601
INSTALL = 'pip install "cbir_lib[dicom]"'


def is_dicom(data: bytes) -> bool:
    """Whether the bytes start as a DICOM file does: 128 of anything, then ``DICM``."""
    return data[128:132] == b"DICM"


def decode(data: bytes) -> Decoded:
    """Decode one DICOM file of projection radiography (``MODALITIES``, or none named) to 8 bits.

    The first VOI LUT or, where there is none, the first window maps linearly to 0..255. Without
    either, or where they are faulty, the image is stretched from its own minimum and maximum; but
    what has 8 bits already stays as it is. Colour becomes luminance. Files with several frames, of
    other modalities, truncated, or compressed without the codec at hand give no image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, on values that bend the standard
        try:
            return _decode(data)
        except Exception:  # pydicom raises what its parsing ran into, of any type
            return Decoded(None, "damaged")


def _decode(data: bytes) -> Decoded:
    from pydicom import dcmread
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    syntax = _transfer_syntax(data)
    # Before anything is inflated: a few bytes can become gigabytes.
    if syntax == DeflatedExplicitVRLittleEndian:
        return Decoded(None, f"compressed as {syntax.name}, which is not read")
    header = dcmread(io.BytesIO(data))
    modality = str(header.get("Modality") or "")
    if modality and modality not in MODALITIES:
        return Decoded(None, f"modality {modality}, no projection X-ray")
    if not header.get("Rows") or not header.get("Columns"):
        return Decoded(None, "no pixels")
    if fault := size_fault(int(header.Columns), int(header.Rows)):
        return Decoded(None, fault)
    if (frames := int(header.get("NumberOfFrames") or 1)) > 1:
        return Decoded(None, f"{frames} frames, only single images are read")
    if fault := _codec_fault(syntax):
        return Decoded(None, fault)
    if "PixelData" not in header:
        # pydicom passes over an element that the file's end cuts off.
        return Decoded(None, "truncated, or without pixels")
    try:
        pixels = header.pixel_array
    except Exception:  # each codec has its own types
        if not syntax.is_encapsulated:
            return Decoded(None, "truncated pixels")
        return Decoded(
            None, f"compressed as {syntax.name}, damaged or of a kind no codec here reads"
        )
    return _shown(pixels, header)


def _transfer_syntax(data: bytes) -> UID | None:
    """How the data set is written, from the file meta information (group 0002) alone."""
    from pydicom.filereader import read_dataset

    file = io.BytesIO(data)
    file.seek(132)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    return meta.TransferSyntaxUID


def _codec_fault(syntax: UID) -> str:
    """Why pixels in this transfer syntax cannot be decompressed here; empty where they can."""
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


def _shown(pixels: np.ndarray, header: Dataset) -> Decoded:
    """The picture a viewer would show, from stored values (H, W) or colour (H, W, 3)."""
    kind = header.PhotometricInterpretation
    stored = int(header.BitsStored)
    if kind in COLOURS and pixels.ndim == 3:
        return Decoded(stretch(pixels @ LUMINANCE, 0, 2**stored - 1), f"{kind}, converted to grey")
    if kind not in ("MONOCHROME1", "MONOCHROME2") or pixels.ndim != 2:
        return Decoded(None, f"{kind}, cannot be converted to grey")
    remarks = []
    try:
        values, done = _windowed(pixels, header)
        remarks.append(done)
    except Exception:  # values that no standard allows, in one of a dozen elements
        values = stretch(pixels)
        remarks.append("faulty window or LUT, stretched to 8 bits instead")
    if kind == "MONOCHROME1":
        values = 255 - values
        remarks.append("white is zero, inverted")
    return Decoded(values, ", ".join(filter(None, remarks)))


def _windowed(pixels: np.ndarray, header: Dataset) -> tuple[np.ndarray, str]:
    """Modality LUT or rescale, then VOI LUT or window, as (H, W) uint8; and what was done."""
    from pydicom.pixels import apply_rescale, apply_windowing

    if header.get("ModalityLUTSequence"):
        values, _ = _look_up(pixels, header, header.ModalityLUTSequence[0])
    else:
        values = apply_rescale(pixels, header)
    if not np.isfinite(values).all():
        raise ValueError("no rescale")
    if header.get("VOILUTSequence"):
        values, white = _look_up(values, header, header.VOILUTSequence[0])
        return stretch(values, 0, white), "VOI LUT applied, to 8 bits"
    if header.get("WindowCenter") is not None and header.get("WindowWidth") is not None:
        # What the window gives for black and white: it depends on depth, sign and rescale.
        low, high = apply_windowing(np.array([-1e30, 1e30]), header)
        values = apply_windowing(values, header)
        if not np.isfinite(values).all() or low == high:
            raise ValueError("no window")
        return stretch(values, low, high), "window applied, to 8 bits"
    if header.BitsStored == 8 and pixels.dtype == np.uint8 and np.array_equal(values, pixels):
        return pixels, ""
    return stretch(values), "stretched to 8 bits"


def _look_up(values: np.ndarray, header: Dataset, item: Dataset) -> tuple[np.ndarray, int]:
    """Map values through a LUT (PS3.3, C.11.1.1); and the largest value it can give."""
    entries, first, bits = item.LUTDescriptor
    entries = entries % 2**16 or 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if header.original_encoding[1] else ">"
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * entries else order + "u2")
    table = np.atleast_1d(np.asarray(data, dtype=np.int64))[:entries]
    rows = np.clip(np.asarray(values, dtype=np.float64) - first, 0, len(table) - 1)
    return table[np.rint(rows).astype(np.intp)], 2**bits - 1

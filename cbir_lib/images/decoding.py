"""Decoding image files to 8-bit grey values."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageChops

from cbir_lib.errors import CbirError, find_reason
from cbir_lib.images import dicom, jpeg, png, tiff
from cbir_lib.images.grey import (
    LARGEST_BYTES,
    LARGEST_FILE,
    LARGEST_PX,
    RULES,
    SMALLEST_PX,
    TOO_LITTLE_MEMORY,
    Decoded,
    apply_opacity,
    convert_to_8_bits,
    describe_aspect,
    describe_lost_values,
    find_memory_fault,
    find_size_fault,
    stretch,
)
from cbir_lib.images.memory import reserving
from cbir_lib.images.parts import TOO_MANY_PARTS, FileOfParts, comes_from_parts

__all__ = [
    "LARGEST_FILE",
    "LARGEST_PX",
    "READABLE_FORMATS",
    "RULES",
    "SMALLEST_PX",
    "TOO_LITTLE_MEMORY",
    "Decoded",
    "decode",
    "fit_to_square",
]

# Pillow's other readers may start programs (EPS).
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "DIB", "PPM", "JPEG2000")
READABLE_FORMATS = "PNG, JPEG, TIFF, WebP, BMP, PGM, JPEG 2000 or DICOM"  # for messages

for _name in ("PIL", "pydicom", "tifffile"):  # faults are reported in remarks, not on stderr
    logging.getLogger(_name).addHandler(logging.NullHandler())

# Peak memory in bytes per pixel, without the file itself; measured on 4000 x 4000 pixels of each
# layout and rounded up.
BYTES_PER_PIXEL = {"1": 5, "L": 4, "P": 5, "I;16": 8, "I": 12, "F": 12, "RGB": 8}
COLOUR_BYTES = 10  # RGBA, CMYK and the like
DEEP_COLOUR_BYTES = 24
PROGRESSIVE_BYTES = 2  # added per channel: the coefficients of the whole picture
FORMAT_BYTES = {"WEBP": 10, "JPEG2000": 4}  # added; for JPEG 2000 per channel
FILE_COPIES = {"WEBP": 7, "JPEG2000": 5}  # times the file in memory, where it is not once
TAG_COPIES = 4  # times the texts in a TIFF's tags or in EXIF, besides the file
LARGEST_WEBP = LARGEST_BYTES // FILE_COPIES["WEBP"]  # bytes: it is copied before its size is known
MOST_SCANS = 200  # of a JPEG: each passes over the whole picture
MOST_TEXT_PX = 10_000_000  # of a PGM in text form, which is read number by number

ALL_TRANSPARENT = "transparent everywhere, shown as if it were opaque"

# Formats that are recognised but not read: by the bytes at an offset.
UNREADABLE_SIGNATURES = {
    "GIF": (0, b"GIF8"),
    "Photoshop file": (0, b"8BPS"),
    "PDF": (0, b"%PDF"),
    "JPEG XL": (0, b"\xff\x0a"),
    "JPEG XL file": (4, b"JXL "),
    "HEIF, AVIF or video": (4, b"ftyp"),
    "gzip file": (0, b"\x1f\x8b"),
    "ZIP file": (0, b"PK\x03\x04"),
    "NIfTI file": (344, b"n+1\0"),
    "PAM file": (0, b"P7\n"),
    "PFM file of colours": (0, b"PF\n"),
    "Windows icon": (0, b"\0\0\1\0"),
    "NumPy file": (0, b"\x93NUMPY"),
    "MATLAB or HDF5 file": (0, b"\x89HDF"),
    "volume (NRRD)": (0, b"NRRD"),
    "volume (MetaImage)": (0, b"ObjectType"),
    "tar file": (257, b"ustar"),
    "Git LFS pointer": (0, b"version https://git-lfs"),
    "web page": (0, b"<!DOCTYPE html"),
}
# PNG, JPEG, JPEG 2000, WebP: files that start so and are not recognised are cut off.
READABLE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"RIFF")


def decode(data: bytes) -> Decoded:
    """Decode one file of a format in ``READABLE_FORMATS`` to 8-bit grey, upright.

    Colour becomes luminance (ITU-R 601); transparent parts become black, unless all would be.
    Images of up to 8 bits keep their brightness. Deeper, signed or float values are stretched
    linearly from the limits that :func:`cbir_lib.images.grey.find_limits` returns to 0..255; NaN
    becomes black. Of several pages or frames the first is read, and the remark says so.

    Files that are empty, truncated, of another format, smaller than 8 x 8 pixels, larger than
    ``LARGEST_PX``, of too many parts (:mod:`cbir_lib.images.parts`), or that would take more than
    1 GB of memory give no image. For DICOM see :func:`cbir_lib.images.dicom.decode`.
    """
    if not data:
        return Decoded(None, "empty file")
    if len(data) > LARGEST_FILE:
        return Decoded(None, f"more than {LARGEST_FILE:,} bytes, too large")
    try:
        with reserving(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, on invalid metadata
            if dicom.is_dicom(data):
                return dicom.decode(data)
            return _decode(data)
    except MemoryError:
        return Decoded(None, TOO_LITTLE_MEMORY)
    except Image.DecompressionBombError:  # Pillow's own limit, checked before it decodes a pixel
        return Decoded(None, f"more than {LARGEST_PX:,} pixels, too large")
    except Exception as error:  # Pillow's decoders raise a dozen types, by format and fault
        if comes_from_parts(error):
            return Decoded(None, TOO_MANY_PARTS)
        if str(error).startswith("Unsupported BMP"):
            return Decoded(None, "a BMP of unusual colour masks or compression, which is not read")
        scarce = "out of memory" in str(error)
        return Decoded(None, TOO_LITTLE_MEMORY if scarce else "damaged")


def _decode(data: bytes) -> Decoded:
    layout = None
    if data[:4] == tiff.BIG_ENDIAN_BIG_TIFF:
        return Decoded(None, "big-endian BigTIFF, which is not read")
    if tiff.is_tiff(data):
        data, layout = tiff.find_first_page(data)
        if fault := find_size_fault(layout.width, layout.height) or _find_tile_fault(layout):
            return Decoded(None, fault)
        if layout.fault:
            return Decoded(None, layout.fault)
    jpeg.verify_header(data)
    if fault := jpeg.find_meaning_fault(data):
        return Decoded(None, fault)
    if data[8:12] == b"WEBP" and len(data) > LARGEST_WEBP:
        return Decoded(None, f"a WebP of more than {LARGEST_WEBP:,} bytes, too large")
    try:
        picture = Image.open(FileOfParts(data), formats=FORMATS)
    except Image.UnidentifiedImageError:
        if layout and (layout.deep or layout.packed):
            return _decode_deep_tiff(data, layout)
        return Decoded(None, _explain_unidentified(data, layout))
    with picture:
        width, height = picture.size
        if fault := find_size_fault(width, height) or _find_fault(picture, data, layout):
            return Decoded(None, fault)
        if picture.format == "PNG":
            _verify_png(data)
        remarks = layout.remarks if layout else _describe_the_rest(picture, data)
        if layout and layout.deep and not _is_read_by_pillow(layout):
            return _decode_deep_tiff(data, layout)
        if maximum := _find_unusual_maximum(picture):
            return _add_remarks(_decode_netpbm(data, picture.mode, maximum), remarks)
        if layout:
            tiff.correct_byte_order(picture)
            with tiff.raising_libtiff_errors():
                picture.load()  # also turns it upright
            if tiff.fax_ends_early(picture, layout):
                return Decoded(None, "damaged")
            remarks = [tiff.correct_palette(picture), *remarks]
            picture = tiff.recover_colours(picture, data, layout)
            if layout.photometric_missing and layout.photometric != tiff.WHITE_IS_ZERO:
                picture = _invert_shallow_grey(picture)
            orientation = 1
        else:
            picture.load()
            if picture.format == "PNG" and png.lacks_rows(picture, data):
                return Decoded(None, "damaged")
            if picture.format == "JPEG" and picture.mode == "CMYK" and "adobe" not in picture.info:
                picture = ImageChops.invert(picture)  # only Adobe stores no ink as 255
            _scale_transparent_grey(picture, data)
            orientation = _read_orientation(picture)
        if _is_deep_colour(picture, data):
            image, remark = _convert_deep_colour(picture, data)
        elif picture.mode == "F" or picture.mode.startswith("I"):
            image, remark = _convert_deep(picture, layout)
        else:
            if picture.format == "JPEG2000":
                picture = _scale_to_8_bits(picture, jpeg.read_depths(data))
            image, remark = _convert_shallow(picture)
    if image is None:
        return Decoded(None, remark)
    image = np.ascontiguousarray(tiff.turn_upright(image, orientation))
    return _add_remarks(Decoded(image, remark), remarks)


def _verify_png(data: bytes) -> None:
    """Compare the checksums of a PNG's chunks, those of the pixels too, which loading skips."""
    with Image.open(FileOfParts(data), formats=("PNG",)) as picture:
        picture.verify()  # afterwards it cannot be loaded


def _add_remarks(decoded: Decoded, remarks: list[str]) -> Decoded:
    if decoded.image is None:
        return decoded
    return Decoded(decoded.image, ", ".join(filter(None, [decoded.remark, *remarks])))


def _explain_unidentified(data: bytes, layout: tiff.Layout | None) -> str:
    """Return why Pillow does not open the file."""
    if layout:
        return f"{layout}, which is not read"
    if data[:3] == b"\xff\xd8\xff" and (kind := jpeg.name_kind(data)):
        return f"{kind}, which is not read"
    for name, (place, start) in UNREADABLE_SIGNATURES.items():
        if data[place : place + len(start)] == start:
            return f"a {name}, which is not read"
    return "damaged" if data.startswith(READABLE_STARTS) else "not an image"


def _find_tile_fault(layout: tiff.Layout) -> str:
    """Return why the tiles of a page are refused; empty where they are not.

    A tile is decompressed as a whole, however little of it belongs to the picture.
    """
    if layout.tile and layout.tile[0] * layout.tile[1] > LARGEST_PX:
        return f"tiles of {layout.tile[0]} x {layout.tile[1]} pixels, too large"
    return ""


def _find_fault(picture: Image.Image, data: bytes, layout: tiff.Layout | None) -> str:
    """Return why a picture is refused, judged by its header; empty where it is not."""
    width, height = layout.padded if layout else picture.size
    channels = max(1, len(picture.getbands()))
    per_pixel = BYTES_PER_PIXEL.get(picture.mode.replace("16B", "16"), COLOUR_BYTES)
    decoder = picture.tile[0][0] if picture.tile else ""
    if _is_deep_colour(picture, data) or (
        decoder in ("ppm", "ppm_plain") and picture.mode == "RGB"
    ):
        per_pixel = DEEP_COLOUR_BYTES
    if picture.info.get("progressive"):
        per_pixel += PROGRESSIVE_BYTES * channels
    more = FORMAT_BYTES.get(picture.format, 0)
    per_pixel += more * channels if picture.format == "JPEG2000" else more
    file_bytes = len(data) * FILE_COPIES.get(picture.format, 1)
    tag_bytes = layout.tag_bytes if layout else len(picture.info.get("exif", b""))
    file_bytes += TAG_COPIES * tag_bytes
    if fault := find_memory_fault(width, height, per_pixel, file_bytes):
        return fault
    if picture.format in ("JPEG", "MPO"):
        if (end := jpeg.find_end(data)) < 0:
            return "damaged"
        if (scans := data.count(b"\xff\xda", 0, end)) > MOST_SCANS:
            return f"a JPEG of {scans:,} scans, which is not read"
    if decoder == "ppm_plain" and width * height > MOST_TEXT_PX:
        return f"{width} x {height} pixels in text, too large"
    return ""


def _describe_the_rest(picture: Image.Image, data: bytes) -> list[str]:
    """Describe what of the file is not read: other frames or pictures, the shape of its pixels."""
    frames = getattr(picture, "n_frames", 1)
    others = f"first of {frames} frames" if frames > 1 else ""
    if picture.format == "PPM" and _has_further_netpbm(picture, data):
        others = "first of several pictures"
    return [others, describe_aspect(*_read_density(picture))]


def _has_further_netpbm(picture: Image.Image, data: bytes) -> bool:
    """Tell whether another picture follows, as PBM, PGM and PPM allow."""
    decoder, (_, _, width, height), start, parameters = picture.tile[0]
    if decoder == "ppm_plain":
        return re.search(rb"\sP[1-6]\s", data[start:]) is not None
    samples = len(picture.getbands()) * width
    row_bytes = -(-samples // 8) if picture.mode == "1" else samples
    deep = parameters[1] > 255 if decoder == "ppm" else picture.mode.startswith("I")
    end = start + height * row_bytes * (4 if picture.mode == "F" else 2 if deep else 1)
    return re.match(rb"\s*P[1-6f]\s", data[end : end + 20]) is not None


def _read_density(picture: Image.Image) -> tuple[float, float]:
    """Read how densely pixels lie along rows and along columns, in any unit; 1, 1 if unknown."""
    for name in ("dpi", "jfif_density", "aspect"):
        try:
            across, down = map(float, picture.info[name])
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            continue
        return across, down
    return 1.0, 1.0


def _read_orientation(picture: Image.Image) -> int:
    """Read the orientation from EXIF or XMP, 1 to 8; 1 where it is invalid or missing."""
    if "exif" in picture.info:
        tiff.verify_exif(picture.info["exif"])
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
        return orientation if orientation in range(1, 9) else 1
    except Exception:  # broken EXIF raises half a dozen types
        return 1


def _is_read_by_pillow(layout: tiff.Layout) -> bool:
    """Tell whether Pillow reads such a deep page correctly; it cuts colours and wraps integers."""
    return len(layout.bits) == 1 and (layout.kind, *layout.bits) not in (("u", 32), ("i", 8))


def _invert_shallow_grey(picture: Image.Image) -> Image.Image:
    """Invert grey of up to 8 bits, of which Pillow took white to be zero."""
    return ImageChops.invert(picture) if picture.mode in ("1", "L") else picture


def _scale_transparent_grey(picture: Image.Image, data: bytes) -> None:
    """Scale the grey value that is transparent as Pillow scales a PNG's pixels of 2 or 4 bits."""
    transparent = picture.info.get("transparency")
    if picture.format == "PNG" and picture.mode == "L" and isinstance(transparent, int):
        picture.info["transparency"] = transparent * 255 // (2 ** data[24] - 1)  # data: bit depth


def _scale_to_8_bits(picture: Image.Image, depths: list[int]) -> Image.Image:
    """Scale the samples of a JPEG 2000 so that white is 255; Pillow only shifts them up."""
    if len(depths) != len(picture.getbands()) or min(depths) > 7 or picture.mode in ("P", "YCbCr"):
        return picture
    steps = np.arange(256)
    tables = [
        np.rint((steps >> (8 - depth)) * (255 / (2**depth - 1))) if depth < 8 else steps
        for depth in depths
    ]
    return picture.point(np.concatenate(tables).astype(int).tolist())


def _is_deep_colour(picture: Image.Image, data: bytes) -> bool:
    """Tell whether Pillow would cut colours, or grey with alpha, down to their upper 8 bits."""
    if picture.format == "PNG":
        return data[24] == 16 and data[25] != 0  # in the header: bit depth, colour type
    if picture.format == "JPEG2000":
        return len(picture.getbands()) > 1 and max(jpeg.read_depths(data), default=0) > 8
    return False


def _read_pixels(picture: Image.Image) -> np.ndarray:
    """Return the pixels of a loaded picture, copied a few rows at a time to save memory."""
    width, height = picture.size
    rows = max(1, (1 << 22) // width)
    parts = (
        np.asarray(picture.crop((0, top, width, min(top + rows, height))))
        for top in range(0, height, rows)
    )
    first = next(parts)
    values = np.empty((height, *first.shape[1:]), dtype=first.dtype)
    values[: len(first)] = first
    top = len(first)
    for part in parts:
        values[top : top + len(part)] = part
        top += len(part)
    return values


def _convert_shallow(picture: Image.Image) -> tuple[np.ndarray | None, str]:
    """Convert a picture of up to 8 bits per sample to grey."""
    mode = picture.mode
    if mode == "L" and "transparency" not in picture.info:
        return _read_pixels(picture), ""
    remark = "" if mode == "L" else f"{mode}, converted to grey"
    alpha = None
    if mode == "La":  # multiplied by its opacity
        picture = picture.convert("LA")
    if "transparency" in picture.info or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        alpha = _read_pixels(picture.convert("RGBA").getchannel("A"))
    try:
        image = _read_pixels(picture.convert("L"))
    except ValueError:  # Pillow cannot convert CIE Lab
        return None, f"{mode}, cannot be converted to grey"
    if alpha is not None and not alpha.any():
        remark = ", ".join(filter(None, [remark, ALL_TRANSPARENT]))
    elif alpha is not None and (alpha < 255).any():
        apply_opacity(image, alpha)
        remark = ", ".join(filter(None, [remark, "transparent parts black"]))
    return image, remark


def _convert_deep(
    picture: Image.Image, layout: tiff.Layout | None
) -> tuple[np.ndarray | None, str]:
    """Convert a grey picture of more than 8 bits to 8 bits."""
    inverted = layout is not None and layout.photometric == tiff.WHITE_IS_ZERO
    values = _read_pixels(picture)
    transparent = picture.info.get("transparency")
    void = values == transparent if isinstance(transparent, int) else None
    return _stretch_with_remark(values, "", void=void, inverted=inverted)


def _convert_deep_colour(picture: Image.Image, data: bytes) -> tuple[np.ndarray | None, str]:
    """Convert a picture of which Pillow would give the upper 8 bits alone."""
    pixels = tiff.read_opencv(png.keep_pixels(data) if picture.format == "PNG" else data)
    if pixels is None:  # OpenCV reads no grey with alpha from JPEG 2000
        return None, f"{picture.mode} of more than 8 bits, which is not read"
    return _convert_opencv(pixels, picture.mode)


def _convert_opencv(pixels: np.ndarray, mode: str) -> tuple[np.ndarray | None, str]:
    """Convert what OpenCV reads of a picture with more than 8 bits to 8-bit grey."""
    if pixels.ndim == 2:
        return _stretch_with_remark(pixels, "")
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    return _stretch_with_remark(pixels[..., :3], f"{mode}, converted to grey", alpha=alpha)


def _find_unusual_maximum(picture: Image.Image) -> int:
    """Find the white of a PGM or PPM that Pillow would cut down to 8 bits, or read slowly; or 0.

    It computes each pixel of binary files in Python, and cuts colours.
    """
    if picture.format != "PPM" or not picture.tile:
        return 0
    decoder, _, _, parameters = picture.tile[0]
    if decoder == "ppm":
        return parameters[1]
    deep = decoder == "ppm_plain" and picture.mode == "RGB" and parameters[1] > 255
    return parameters[1] if deep else 0


def _decode_netpbm(data: bytes, mode: str, maximum: int) -> Decoded:
    """Decode a PGM or PPM of unusual depth, whose white is ``maximum``."""
    pixels = tiff.read_opencv(data + b"\n")  # without which it does not read the last number
    if pixels is None:
        return Decoded(None, "damaged")
    if maximum > 255:
        return Decoded(*_convert_opencv(pixels, mode))
    table = np.rint(np.minimum(np.arange(256) * (255 / maximum), 255)).astype(np.uint8)
    return Decoded(*_convert_shallow(Image.fromarray(table[pixels])))


def _decode_deep_tiff(data: bytes, layout: tiff.Layout) -> Decoded:
    cost = sum(layout.bits) / 8 * 2 + (48 if 1 in layout.extra_samples else 8)
    cost = 20 if layout.packed else cost
    if fault := find_memory_fault(*layout.padded, cost, len(data) + TAG_COPIES * layout.tag_bytes):
        return Decoded(None, fault)
    if layout.truncated:
        return Decoded(None, "damaged")
    read = tiff.read_deep(data, layout)
    if read is None:
        return Decoded(None, f"{layout}, which is not read")
    values, alpha = read
    conversion = "RGB, converted to grey" if values.ndim == 3 else ""
    inverted = layout.photometric == tiff.WHITE_IS_ZERO
    if layout.packed and layout.bits[0] < 8:
        ends = (2 ** layout.bits[0] - 1, 0) if inverted else (0, 2 ** layout.bits[0] - 1)
        return _add_remarks(Decoded(stretch(values, *ends), ""), layout.remarks)
    image, remark = _stretch_with_remark(values, conversion, alpha=alpha, inverted=inverted)
    return _add_remarks(Decoded(image, remark), layout.remarks)


def _stretch_with_remark(
    values: np.ndarray,
    conversion: str,
    *,
    void: np.ndarray | None = None,
    alpha: np.ndarray | None = None,
    inverted: bool = False,
) -> tuple[np.ndarray | None, str]:
    remarks = [conversion] if conversion else []
    remarks.append("8 bits signed" if values.dtype == np.int8 else "more than 8 bits")
    if inverted:
        remarks.append("white is zero, inverted")
    remarks.append("stretched to 8")
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.any():
            return None, "no grey value is a number"
        if lost := finite.size - int(finite.sum()):
            remarks.append(describe_lost_values(lost))
    if alpha is not None:
        opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
        alpha = None if (alpha >= opaque).all() else alpha
    if (alpha is not None and not (alpha > 0).any()) or (void is not None and void.all()):
        void = alpha = None
        remarks.append(ALL_TRANSPARENT)
    elif alpha is not None or (void is not None and void.any()):
        remarks.append("transparent parts black")
    image = convert_to_8_bits(values, void=void, alpha=alpha, inverted=inverted)
    return image, ", ".join(remarks)


def fit_to_square(image: np.ndarray, size: int) -> np.ndarray:
    """Fit an image to a black square: its longer side becomes ``size``, its aspect ratio is kept.

    >>> fit_to_square(np.full((2, 4), 9, np.uint8), 4).tolist()
    [[0, 0, 0, 0], [9, 9, 9, 9], [9, 9, 9, 9], [0, 0, 0, 0]]

    Parameters
    ----------
    image : (H, W) uint8
    size
        Side of the square in pixels.

    Returns
    -------
    (size, size) uint8
        The image, centred. Smaller images are enlarged (bilinear), larger ones averaged (area).
    """
    import cv2

    height, width = image.shape
    scale = size / max(height, width)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    if shape != (width, height):
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, shape, interpolation=way)
    height, width = image.shape
    square = np.zeros((size, size), dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def read_image(path: Path) -> np.ndarray:
    """Read one image file, or a pipe, as (H, W) uint8; ``-`` is standard input.

    Raises
    ------
    CbirError
        When the file is missing, too large, or cannot be decoded.
    """
    source = Path("/dev/stdin") if str(path) == "-" else path
    try:
        with source.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except MemoryError as error:
        raise CbirError(f"cannot read {path}: too little memory", "close other programs") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = find_reason(error)
        raise CbirError(f"cannot read {path}: {reason}", "name an image file") from error
    image, remark = decode(data)
    if image is None:
        raise CbirError(f"cannot read {path}: {remark}", f"give a {READABLE_FORMATS} image")
    return image

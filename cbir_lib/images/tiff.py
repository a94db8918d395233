"""TIFF files: pages, pixel layouts, and reading the layouts that Pillow does not read correctly."""

from __future__ import annotations

import ctypes
import importlib.util
import io
import lzma
import re
import struct
import sys
import threading
import zlib
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageChops, TiffImagePlugin

from cbir_lib.images.grey import (
    describe_aspect,
    describe_used_bits,
    find_used_bits,
    unpacks_to_more,
)
from cbir_lib.images.parts import MOST_PARTS, FileOfParts, PartsError

MOST_SEARCHED = 16  # pages, and their SubIFDs, in which the picture is looked for
MOST_PAGES = 1000  # pages counted; a small file can hold millions of empty ones
BIG_ENDIAN_BIG_TIFF = b"MM\0+"  # Pillow does not read its tags
SUBFILE_TYPE, COLOUR_MAP, SUB_IFDS = 254, 320, 330  # tags
WHOLE_NUMBERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of tags
BYTES = (1, 2, 7)  # types of tags that are read as one object, however many they are
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, YCBCR = 0, 1, 2, 6  # PhotometricInterpretation (tag 262)
REDUCED, MASK = 1, 4  # bits of NewSubfileType: a thumbnail, or the transparency of another page
KINDS = {1: "u", 2: "i", 3: "f"}  # SampleFormat

NONE, GROUP4, JPEG, PACKBITS = 1, 4, 7, 32773  # Compression
FAXES = (2, 3, GROUP4, 32771)
# Compressions that tifffile reads, and what inflates a part of the output only.
INFLATERS = {
    8: zlib.decompressobj,
    32946: zlib.decompressobj,
    34925: partial(lzma.LZMADecompressor, memlimit=2**28),
}
READ_COMPRESSIONS = (NONE, *FAXES, 5, 6, JPEG, PACKBITS, *INFLATERS, 32809, 34676, 34677, 50000)
COMPRESSION_NAMES = {
    22610: "JPEG XR",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}


class Layout(NamedTuple):
    """The pixel layout of a page, as its tags declare it."""

    width: int
    height: int
    bits: tuple[int, ...]  # of each sample
    kind: str  # u, i or f: unsigned, signed, float; empty for others
    photometric: int  # WHITE_IS_ZERO, BLACK_IS_ZERO, RGB or others
    photometric_missing: bool
    extra_samples: tuple[int, ...]  # ExtraSamples: 0 unspecified, 1 associated alpha, 2 alpha
    orientation: int
    pages: int
    slices: int  # of a volume in this page
    density: tuple[float, float]  # of pixels along rows and columns, in any unit
    truncated: bool  # whether pixels would lie beyond the end of the file
    planar: bool  # whether each sample is stored in a plane of its own
    compression: int  # its number in the standard
    byte_order: str  # < or >
    tile: tuple[int, int] | None  # width, and height of all its slices; None for strips
    strip_offsets: tuple[int, ...]  # of strips or tiles; empty where their bits are reversed
    strip_rows: int
    strip_bytes: tuple[int, ...]
    tag_bytes: int  # of texts and the like

    @property
    def deep(self) -> bool:
        """Whether the pixels are grey or colour, and not unsigned of 1 to 8 bits."""
        return (max(self.bits) > 8 or self.kind != "u") and self.photometric <= RGB

    @property
    def grey_of_several(self) -> bool:
        """Whether the first sample is the grey value, and more than an opacity follows it."""
        return len(self.bits) > 2 and self.photometric <= BLACK_IS_ZERO

    @property
    def packed(self) -> bool:
        """Whether the pixels are grey with a number of bits that no type has: 3, 12, 24 ..."""
        grey = self.kind == "u" and len(self.bits) == 1 and self.photometric <= BLACK_IS_ZERO
        return grey and 0 < self.bits[0] < 64 and self.bits[0] not in (1, 2, 4, 8, 16, 32)

    @property
    def padded(self) -> tuple[int, int]:
        """Width and height up to the end of the last tiles: so much is decompressed."""
        if not self.tile:
            return self.width, self.height
        across, down = self.tile
        return -(-self.width // across) * across, -(-self.height // down) * down

    @property
    def dtype(self) -> np.dtype | None:
        """The type of one sample; None where no type has that number of bits."""
        if not self.kind or len(set(self.bits)) > 1 or self.bits[0] not in (8, 16, 32, 64):
            return None
        if self.kind == "f" and self.bits[0] == 8:
            return None
        return np.dtype(f"{self.kind}{self.bits[0] // 8}")

    @property
    def fault(self) -> str:
        """Why the page is not read, by how its pixels are stored; empty where that is no reason."""
        # Pillow takes the colours of these to be as many as the pixels, whatever the file says.
        as_stored = self.photometric == YCBCR and self.compression == NONE and self.strip_bytes
        if as_stored and sum(self.strip_bytes) < self.width * self.height * len(self.bits):
            return "TIFF with uncompressed YCbCr of fewer colours than pixels, which is not read"
        if self.compression in READ_COMPRESSIONS:
            return ""
        name = COMPRESSION_NAMES.get(self.compression)
        way = f"compressed as {name}" if name else f"of compression {self.compression}"
        return f"TIFF {way}, which is not read"

    @property
    def remarks(self) -> list[str]:
        """What is assumed, and what of the file is not read: other pages, the shape of pixels."""
        looks = ""
        if self.photometric_missing:
            black = "white" if self.photometric == WHITE_IS_ZERO else "black"
            looks = f"PhotometricInterpretation missing, taken as {black} is zero"
        pages = f"first of {self.pages} pages" if self.pages > 1 else ""
        if self.pages > MOST_PAGES:
            pages = f"first of more than {MOST_PAGES:,} pages"
        slices = f"first of {self.slices} slices" if self.slices > 1 else ""
        samples = f"first of {len(self.bits)} samples" if self.grey_of_several else ""
        return [looks, samples, pages, slices, describe_aspect(*self.density)]

    def __str__(self) -> str:
        names = {"u": "unsigned", "i": "signed", "f": "float"}
        samples = f"{len(self.bits)} samples" if len(self.bits) > 1 else "1 sample"
        bits = " and ".join(map(str, sorted(set(self.bits))))
        kind = names.get(self.kind, "of another format")
        photometric = "missing" if self.photometric_missing else self.photometric
        way = "JPEG with " if self.compression == JPEG else ""
        return f"TIFF with {way}{samples} of {bits} bits, {kind}, photometric {photometric}"


def is_tiff(data: bytes) -> bool:
    """Tell whether the bytes start like a TIFF or BigTIFF file."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def find_first_page(data: bytes) -> tuple[bytes, Layout]:
    """Find the first page that is neither a thumbnail nor a mask, also in another's SubIFDs.

    Returns
    -------
    bytes
        The file, changed so that this page comes first.
    Layout
        The layout of the page.

    Raises
    ------
    PartsError
        Where a tag has too many numbers.
    Exception
        Of any type that Pillow raises on broken tags.
    """
    places = _find_pages(data)
    chosen = places[0]
    for place in places[:MOST_SEARCHED]:
        inner = _read_numbers(data, place, SUB_IFDS)
        whole = [at for at in (place, *inner) if not _is_part(data, at)]
        if whole:
            chosen = whole[0]
            break
    if chosen != places[0]:
        order, _, _, word = _read_widths(data)
        at = struct.calcsize(word)
        data = data[:at] + struct.pack(order + word, chosen) + data[2 * at :]
    tag_bytes = _count_bytes(data, chosen)
    tags = _read_tags(data, chosen)
    offsets = tags.get(273) or tags.get(324) or ()
    counts = tags.get(279) or tags.get(325) or ()
    ends = [start + count for start, count in zip(offsets, counts, strict=False)]
    compression = int(tags.get(259, NONE))
    samples = int(tags.get(277, 1))
    bits = tuple(tags.get(258, (1,)))
    formats = set(tags.get(339, (1,)))
    return data, Layout(
        width=int(tags[256]),
        height=int(tags[257]),
        bits=bits if len(bits) > 1 else bits * max(1, min(samples, 64)),
        kind=KINDS.get(formats.pop(), "") if len(formats) == 1 else "",
        photometric=int(tags.get(262, WHITE_IS_ZERO if compression in FAXES else BLACK_IS_ZERO)),
        photometric_missing=262 not in tags,
        extra_samples=tuple(tags.get(338, ())),
        orientation=int(tags.get(274, 1)),
        pages=len(places),
        slices=_count_slices(tags) if len(places) == 1 else 1,
        density=(_read_ratio(tags, 282), _read_ratio(tags, 283)),
        truncated=max(ends, default=0) > len(data),
        planar=int(tags.get(284, 1)) == 2 and samples > 1,
        compression=compression,
        byte_order="<" if data[:2] == b"II" else ">",
        tile=(int(tags[322]), int(tags[323]) * int(tags.get(32998, 1))) if 322 in tags else None,
        strip_offsets=tuple(offsets) if tags.get(266, 1) == 1 else (),
        strip_rows=min(int(tags.get(278, tags[257])), int(tags[257])),
        strip_bytes=tuple(counts),
        tag_bytes=tag_bytes,
    )


def _is_part(data: bytes, place: int) -> bool:
    """Tell whether a page is a thumbnail or a mask."""
    return any(kind & (REDUCED | MASK) for kind in _read_numbers(data, place, SUBFILE_TYPE))


def _read_numbers(data: bytes, place: int, tag: int) -> tuple[int, ...]:
    """Read whole numbers, ``MOST_SEARCHED`` at most, from one tag of a page's directory.

    The other tags are passed over: a small file can have many pages that share a long directory.
    """
    order, _, size, word = _read_widths(data)
    try:
        start, entries = _read_entries(data, place)
        for entry in np.flatnonzero(entries["tag"] == tag)[-1:].tolist():
            _, kind, count = entries[entry].item()
            letter, at = WHOLE_NUMBERS[kind], start + entry * size + 4 + struct.calcsize(word)
            if struct.calcsize(letter) * count > struct.calcsize(word):
                (at,) = struct.unpack_from(order + word, data, at)
            return struct.unpack_from(order + letter * min(count, MOST_SEARCHED), data, at)
    except (struct.error, KeyError, ValueError):  # broken
        pass
    return ()


def _read_entries(data: bytes, place: int) -> tuple[int, np.ndarray]:
    """Read where the entries of a directory start, and ``tag``, ``kind`` and ``count`` of each.

    Raises struct.error where the file has no directory there; of one that is cut off, the entries
    that are whole are read.
    """
    order, number, size, word = _read_widths(data)
    (declared,) = struct.unpack_from(order + number, data, place)
    start = place + struct.calcsize(number)
    entry = np.dtype(
        {
            "names": ["tag", "kind", "count"],
            "formats": [order + "u2", order + "u2", f"{order}u{struct.calcsize(word)}"],
            "offsets": [0, 2, 4],
            "itemsize": size,
        }
    )
    return start, np.ndarray(min(declared, (len(data) - start) // size), entry, data, start)


def _count_bytes(data: bytes, place: int) -> int:
    """Count the bytes of text and the like in a directory's tags, at most those of the file.

    Raises PartsError where another tag has more than ``MOST_PARTS`` numbers. One with more than the
    file can hold is broken, and passed over by what reads it.
    """
    _, entries = _read_entries(data, place)
    kinds, counts = entries["kind"], entries["count"]
    as_bytes = (kinds == BYTES[0]) | (kinds == BYTES[1]) | (kinds == BYTES[2])
    numbers = counts[~as_bytes & (counts <= len(data))]
    if numbers.max(initial=0) > MOST_PARTS:
        raise PartsError
    return min(len(data), int(counts[as_bytes].astype(float).sum()))


def verify_exif(data: bytes) -> None:
    """Raise PartsError if a tag of EXIF, whose form is that of a TIFF, has too many numbers."""
    data = data.removeprefix(b"Exif\0\0")
    with suppress(struct.error):  # broken
        _count_bytes(data, _find_pages(data)[0])


def _read_widths(data: bytes) -> tuple[str, str, int, str]:
    """Read how directories are written: byte order, their count, bytes of an entry, an offset."""
    order = "<" if data[:2] == b"II" else ">"
    return (order, "Q", 20, "Q") if data[2:4] in (b"+\0", b"\0+") else (order, "H", 12, "I")


def _count_slices(tags: TiffImagePlugin.ImageFileDirectory_v2) -> int:
    """Count the slices in one page: ImageDepth, or what ImageJ writes into the description."""
    described = re.match(r"ImageJ=[^\0]*?\nimages=(\d{1,9})\s", str(tags.get(270, "")))
    return int(described[1]) if described else int(tags.get(32997, 1))


def _read_ratio(tags: TiffImagePlugin.ImageFileDirectory_v2, tag: int) -> float:
    try:
        return float(tags.get(tag, 1))
    except (TypeError, ValueError, ZeroDivisionError):
        return 1.0


def _find_pages(data: bytes) -> list[int]:
    """Find the offset of each page's directory, at most ``MOST_PAGES`` + 1 of them."""
    order, number, size, word = _read_widths(data)
    (place,) = struct.unpack_from(order + word, data, struct.calcsize(word))
    offsets = []
    while place and place not in offsets and len(offsets) <= MOST_PAGES:
        try:
            (entries,) = struct.unpack_from(order + number, data, place)
            after = place + struct.calcsize(order + number) + entries * size
            (following,) = struct.unpack_from(order + word, data, after)
        except struct.error:
            if not offsets:  # a broken directory after the first is not a page
                offsets.append(place)
            break
        offsets.append(place)
        place = following
    return offsets or [place]


def _read_tags(data: bytes, place: int) -> TiffImagePlugin.ImageFileDirectory_v2:
    file = FileOfParts(data)
    head = file.read(16 if data[2:4] in (b"+\0", b"\0+") else 8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    file.seek(place)
    tags.load(file)
    return tags


def read_deep(data: bytes, layout: Layout) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Read a page with samples of 8, 16, 32 or 64 bits, or with one sample of any number of bits.

    OpenCV reads most, with any compression. tifffile, if it is installed, reads the rest: half
    floats, signed bytes, grey with alpha, and planes; uncompressed, PackBits or of ``INFLATERS``.

    Returns
    -------
    values : (H, W) or (H, W, 3)
        Of the type that the file declares, upright.
    alpha : (H, W), or None
        Instead of both, a single None where no reader supports such a page.
    """
    samples = len(layout.bits)
    pixels = None
    if layout.packed:
        pixels = _unpack(data, layout) if layout.compression == NONE else read_opencv(data)
        return None if pixels is None or pixels.ndim > 2 else (pixels, None)
    if layout.dtype is None or samples not in (1, 2, 3, 4):
        return None
    # OpenCV reduces two samples to 8 bits, takes the first of others beside a grey value or reads
    # them as colours, and mistakes planes for pixels; with signed bytes it inverts white-is-zero
    # and multiplies colours by the opacity.
    of_one_kind = samples != 2 and not layout.grey_of_several and not layout.planar
    if of_one_kind and layout.dtype not in (np.int8, np.float16):
        pixels = read_opencv(data)  # upright
    if pixels is None or pixels.dtype != layout.dtype:
        pixels = _read_tifffile(data, layout)
    if pixels is None:
        return None
    if samples == 1:
        return pixels, None
    colours = 1 if samples == 2 or layout.grey_of_several else 3
    values, alpha = pixels[..., :colours], None
    extra = layout.extra_samples or ((2,) if samples == colours + 1 else ())
    opacity = next((number for number, kind in enumerate(extra) if kind in (1, 2)), samples)
    if colours + opacity < samples:
        alpha = pixels[..., colours + opacity]
        if extra[opacity] == 1:
            # Undo the multiplication of the colours by their opacity.
            opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1.0
            share = np.maximum(alpha, 0) / opaque
            values = values / np.where(share > 0, share, 1)[..., None]
    return np.squeeze(values, axis=2) if colours == 1 else values, alpha


def _unpack(data: bytes, layout: Layout) -> np.ndarray | None:
    """Read one uncompressed sample of any number of bits: (H, W) unsigned, upright; or None."""
    bits, row_bytes = layout.bits[0], -(-layout.width * layout.bits[0] // 8)
    strips = -(-layout.height // layout.strip_rows)
    if layout.tile or strips != len(layout.strip_offsets):
        return None
    values = np.zeros((layout.height, layout.width), dtype=np.uint64)
    for number, start in enumerate(layout.strip_offsets):
        top = number * layout.strip_rows
        for row in range(top, min(top + layout.strip_rows, layout.height)):
            place = start + (row - top) * row_bytes
            line = np.frombuffer(data, np.uint8, row_bytes, place)
            if bits % 8 == 0:  # whole bytes, in the byte order of the file
                parts = line.reshape(layout.width, -1)[:, :: -1 if layout.byte_order == "<" else 1]
                step = 8
            else:  # a stream of bits, the highest bit first
                parts = np.unpackbits(line)[: layout.width * bits].reshape(layout.width, bits)
                step = 1
            for part in parts.T:
                values[row] = (values[row] << step) | part
    return turn_upright(values, layout.orientation)


def read_opencv(data: bytes) -> np.ndarray | None:
    """Decode stored values with OpenCV: (H, W), (H, W, 3) or (H, W, 4), red first; or None."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        return None
    if pixels is None or pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 3:
        return pixels[..., ::-1]
    return pixels[..., [2, 1, 0, 3]] if pixels.shape[2] == 4 else None


def _verify_inflated_size(data: bytes, layout: Layout) -> None:
    """Raise ValueError if a strip or tile inflates to more than it can hold.

    tifffile inflates whatever is there, and a megabyte can become a gigabyte.
    """
    width, height = layout.tile or (layout.width, layout.strip_rows)
    across, down = layout.padded
    samples = len(layout.bits)
    parts = -(-across // width) * -(-down // height) * (samples if layout.planar else 1)
    if len(layout.strip_offsets) < parts:
        raise ValueError("a strip or tile is missing")
    room = width * height * layout.dtype.itemsize * (1 if layout.planar else samples)
    for start, count in zip(layout.strip_offsets, layout.strip_bytes, strict=True):
        part = memoryview(data)[start : start + count]
        if layout.compression == PACKBITS:
            too_much = unpacks_to_more(part, room)
        else:
            inflater = INFLATERS[layout.compression]()
            too_much = len(inflater.decompress(part, room + 1)) > room
        if too_much:
            raise ValueError("a strip or tile holds too much")


def _read_tifffile(data: bytes, layout: Layout) -> np.ndarray | None:
    if not importlib.util.find_spec("tifffile"):
        return None
    if layout.compression != NONE:
        if layout.compression not in (*INFLATERS, PACKBITS) or not layout.strip_offsets:
            return None
        _verify_inflated_size(data, layout)
    import tifffile

    try:
        with tifffile.TiffFile(FileOfParts(data)) as file:
            page = file.pages[0]
            pixels = page.asarray(maxworkers=1)
    except (MemoryError, PartsError):
        raise
    except Exception:  # of any type
        return None
    shape = (layout.height, layout.width)
    samples = len(layout.bits)
    if samples > 1 and pixels.shape == (samples, *shape):  # planes one after the other
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.shape != (shape if samples == 1 else (*shape, samples)):
        return None
    if pixels.dtype != layout.dtype:
        return None
    return turn_upright(pixels, layout.orientation)


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels (H, W, ...) upright, given the orientation (1 to 8) of EXIF and TIFF, tag 274."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def correct_byte_order(picture: Image.Image) -> None:
    """Have Pillow read samples that libtiff decompresses in the byte order of the machine.

    libtiff turns them to it; Pillow knows that of unsigned samples of 16 bits only.
    """
    tile = picture.tile[0]
    if tile.codec_name == "libtiff":
        raw_mode, *others = tile.args
        raw_mode = re.sub(r";(16|32|64)B", r";\1N", raw_mode)
        picture.tile = [tile._replace(args=(raw_mode, *others))]


def correct_palette(picture: Image.Image) -> str:
    """Brighten a palette whose values take 8 or 12 bits only; describe it if so."""
    values = np.asarray(picture.tag_v2.get(COLOUR_MAP, ()) if picture.mode == "P" else ())
    bits = find_used_bits(16, int(values.max(initial=0)))
    if bits == 16:
        return ""
    colours = np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)
    picture.putpalette(colours.tobytes(), "RGB;L")
    return describe_used_bits("palette", 16, bits)


def recover_colours(picture: Image.Image, data: bytes, layout: Layout) -> Image.Image:
    """Read colours again that Pillow made black, divided by an opacity that is 0 everywhere."""
    multiplied = picture.mode == "RGBA" and layout.extra_samples[:1] == (1,)
    if not multiplied or picture.getchannel("A").getbbox():
        return picture
    pixels = read_opencv(data)
    return picture if pixels is None else Image.fromarray(pixels)


def fax_ends_early(picture: Image.Image, layout: Layout) -> bool:
    """Tell whether a strip of a Group 4 fax, as it was read, accounts for less than is stored.

    A fault can look like the end of the strip; libtiff then silently leaves the rest white. A strip
    that was read whole takes as many bytes when it is encoded again.
    """
    if layout.compression != GROUP4 or layout.orientation != 1 or picture.mode != "1":
        return False
    if picture.tag_v2.get(262, WHITE_IS_ZERO) == WHITE_IS_ZERO:  # back to the bits as stored
        picture = ImageChops.invert(picture)
    file = io.BytesIO()
    picture.save(file, "TIFF", compression="group4", tiffinfo={278: layout.strip_rows})
    encoded = file.getvalue()
    counts = _read_tags(encoded, _find_pages(encoded)[0]).get(279, ())
    if len(counts) != len(layout.strip_bytes):
        return False
    return any(new < 0.95 * old - 8 for new, old in zip(counts, layout.strip_bytes, strict=True))


# libtiff prints its errors to stderr, and returns what it could decode of a faulty fax.

_recorded = threading.local()
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


@_HANDLER
def _record_error(module: bytes | None, _text: bytes | None, _values: int | None) -> None:
    if b"Decode" in (module or b""):
        _recorded.fault = True


@cache
def _install_error_handler() -> None:
    """Record the errors of Pillow's libtiff, if the library is found, instead of printing them."""
    places = Path(PIL.__file__).parent
    libraries = [*places.parent.glob("pillow.libs/libtiff*"), *places.glob(".dylibs/libtiff*")]
    if sys.platform == "win32" or not libraries:
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(str(libraries[0])).TIFFSetErrorHandler(_record_error)


@contextmanager
def raising_libtiff_errors():
    """Raise ValueError at the end if libtiff, used by Pillow, reported a fault inside the block."""
    _install_error_handler()
    _recorded.fault = False
    yield
    if _recorded.fault:
        raise ValueError("libtiff reports a fault in the compressed pixels")

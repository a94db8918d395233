"""JPEG and JPEG 2000 files: their kind, their end, the depth and the meaning of their samples."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from cbir_lib.images.parts import MOST_PARTS, PartsError

LOSSLESS = 0xF7  # start of frame of JPEG-LS
KINDS = {
    0xC3: "lossless JPEG",
    0xC9: "arithmetic JPEG",
    0xCA: "arithmetic JPEG",
    LOSSLESS: "JPEG-LS",
}
TABLES = (0xC4, 0xC8, 0xCC)  # markers among those of frames that start none
END = 0xD9
ALONE = (0x01, *range(0xD0, 0xD9))  # markers that no segment follows
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # any other
CODE_STREAM = b"\xff\x4f\xff\x51"  # how one of JPEG 2000 starts; the sizes follow
LONGEST_HEADER = 2**22  # bytes of a JPEG 2000's boxes about its picture, a colour profile included
# Colour spaces of JPEG 2000 whose samples mean what the decoder takes them for: CMYK, sRGB, grey,
# sYCC, e-sRGB and ROMM-RGB (ISO/IEC 15444-1 and 15444-2, EnumCS).
READ_SPACES = (12, 16, 17, 18, 20, 21)
ENUMERATED = 1  # METH of a colr box: by a number, not by a profile
COLOUR, UNSPECIFIED = 0, 0xFFFF  # Typ of a channel


def _read_frame_header(data: bytes) -> tuple[int, int]:
    """Read a JPEG's or JPEG-LS' start of frame: its marker, and the bits of a sample; or 0, 0."""
    place = 2
    for _ in range(MOST_PARTS):
        if place + 9 >= len(data) or data[place] != 0xFF:
            return 0, 0
        marker = data[place + 1]
        if marker == LOSSLESS or (0xC0 <= marker <= 0xCF and marker not in TABLES):
            return marker, data[place + 4]
        place += 2
        if marker not in ALONE:
            place += int.from_bytes(data[place : place + 2], "big")
    raise PartsError


def name_kind(data: bytes) -> str:
    """Name the kind of a JPEG; empty for baseline and progressive of 8 bits."""
    marker, bits = _read_frame_header(data)
    return KINDS.get(marker) or (f"JPEG of {bits} bits" if bits not in (0, 8) else "")


def find_end(data: bytes) -> int:
    """Find where a JPEG's first picture ends, after the marker of the end; -1 where it has none.

    The decoder takes zeros, as in a copy that broke off, for pixels.
    """
    place = 2
    for _ in range(MOST_PARTS):
        marker = MARKER.search(data, place)
        if marker is None:
            return -1
        if data[marker.end() - 1] == END:
            return marker.end()
        place = marker.end()
        place += int.from_bytes(data[place : place + 2], "big")
    raise PartsError


def read_depths(data: bytes) -> list[int]:
    """Read the bits of each component of a JPEG 2000, or of all of a JPEG; or an empty list."""
    if data[:2] == b"\xff\xd8":
        return [_read_frame_header(data)[1]]
    start = data.find(CODE_STREAM)
    if start < 0:
        return []
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    return [(depth & 0x7F) + 1 for depth in data[start + 42 : start + 42 + 3 * count : 3]]


def verify_header(data: bytes) -> None:
    """Raise PartsError if the boxes about a JPEG 2000's picture are longer than ``LONGEST_HEADER``.

    Pillow copies them before it reads them one by one.
    """
    if _find_header(data)[1] > LONGEST_HEADER:
        raise PartsError


def _find_header(data: bytes) -> tuple[int, int]:
    """Find where the boxes about a JPEG 2000's picture begin, and their declared bytes; or 0, 0."""
    place = -1
    if data[4:8] == b"jP  ":
        place = data.find(b"jp2h", 0, max(0, data.find(CODE_STREAM)))
    if place < 0:
        return 0, 0
    return place - 4, int.from_bytes(data[place - 4 : place], "big")


def _list_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the content of each box about a JPEG 2000's picture."""
    start, size = _find_header(data)
    header = memoryview(data)[start + 8 : max(start + 8, start + size)]
    for _ in range(MOST_PARTS):
        size, kind = int.from_bytes(header[:4], "big"), bytes(header[4:8])
        if size < 8:
            return
        yield kind, bytes(header[8:size])
        header = header[size:]
    raise PartsError


def find_meaning_fault(data: bytes) -> str:
    """Return why a JPEG 2000 is refused whose samples the decoder would take for others; or "".

    It looks nothing up in a palette of one column, takes channels in the order in which they are
    stored, and colours of a space that it does not know for red, green and blue.
    """
    spaces, known = [], False
    for kind, content in _list_boxes(data):
        if kind == b"colr" and len(content) >= 7 and content[0] == ENUMERATED:
            spaces.append(int.from_bytes(content[3:7], "big"))
        elif kind == b"colr":
            known = True
        elif kind == b"pclr" and len(content) > 2 and content[2] != 3:
            return "JPEG 2000 with a palette of other than three colours, which is not read"
        elif kind == b"cmap":
            whole = content[: len(content) // 4 * 4]
            columns = [column for _, mapped, column in struct.iter_unpack(">HBB", whole) if mapped]
            if columns != sorted(columns):
                return "JPEG 2000 with a palette in another order, which is not read"
        elif kind == b"cdef":
            whole = content[2 : 2 + (len(content) - 2) // 6 * 6]
            channels = sorted(struct.iter_unpack(">HHH", whole))
            roles = [role for _, role, _ in channels]
            colours = [colour for _, role, colour in channels if role == COLOUR]
            if colours != list(range(1, len(colours) + 1)) or roles != sorted(roles):
                return "JPEG 2000 with its channels in another order, which is not read"
            if UNSPECIFIED in roles:
                return "JPEG 2000 with a channel of unspecified meaning, which is not read"
    if spaces and not known and not set(spaces) & set(READ_SPACES):
        return f"JPEG 2000 in colour space {spaces[0]}, which is not read"
    return ""

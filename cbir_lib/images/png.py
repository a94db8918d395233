"""PNG files: their chunks, and rows that are missing."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# The passes of an interlaced picture: first column and row, steps across and down.
PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
PART_BYTES = 1 << 20  # read, and inflated, at a time


def _iterate_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield each chunk's name, and where it starts and ends in the file."""
    place = 8
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8], place, end
        place = end


def keep_pixels(data: bytes) -> bytes:
    """Return the file without all that does not say what its pixels are.

    libpng prints to stderr what it finds amiss there, and OpenCV reads an animation's first frame
    in place of its picture.
    """
    chunks = _iterate_chunks(data)
    kept = (data[start:end] for name, start, end in chunks if name in PIXEL_CHUNKS)
    return data[:8] + b"".join(kept)


def lacks_rows(picture: Image.Image, data: bytes) -> bool:
    """Tell whether a loaded picture has fewer rows than its header says.

    Pillow leaves what is missing black, and says nothing where the compressed data are valid.
    """
    width, height = picture.size
    # Rows come in their order, or, if interlaced, those of odd number last.
    last = np.asarray(picture.crop((0, height - 2, width, height))).reshape(2, -1)
    if last.any(axis=1).all():
        return False
    bits = data[24] * CHANNELS[data[25]]
    passes = PASSES if data[28] else ((0, 0, 1, 1),)
    expected = 0
    for left, top, right, down in passes:
        across, rows = -(-(width - left) // right), -(-(height - top) // down)
        expected += rows * (1 + -(-across * bits // 8)) if across > 0 and rows > 0 else 0
    inflater, found = zlib.decompressobj(), 0
    for name, start, end in _iterate_chunks(data):
        for place in range(start + 8, end - 4, PART_BYTES) if name == b"IDAT" else ():
            part = data[place : min(place + PART_BYTES, end - 4)]
            while part and found < expected:
                found += len(inflater.decompress(part, PART_BYTES))
                part = inflater.unconsumed_tail
    return found + len(inflater.flush()) < expected

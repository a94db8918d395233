"""JPEG 2000 files whose boxes give their samples another meaning than the decoder does."""

import re
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbir_lib.images import grey, jpeg
from cbir_lib.images.decoding import decode
from tests.images.test_pictures import COLOUR, LUMINANCE, PICTURE, ROUNDED, saved


def box(kind, content):
    return struct.pack(">I", 8 + len(content)) + kind + content


def described(picture, *boxes, colr=None):
    """A JPEG 2000 with boxes added to those about its picture, and another colour space."""
    data = saved(picture, "JPEG2000", irreversible=False, mct=0)
    start = data.index(b"jp2h") - 4
    end = start + int.from_bytes(data[start : start + 4], "big")
    header = data[start + 8 : end]
    at = header.index(b"colr") - 4
    after = at + int.from_bytes(header[at : at + 4], "big")
    spaces = header[at:after] if colr is None else colr
    content = b"".join([header[:at], spaces, header[after:], *boxes])
    return data[:start] + box(b"jp2h", content) + data[end:]


def space(number):
    return box(b"colr", struct.pack(">BBBI", 1, 0, 0, number))


def channels(*each):
    listed = b"".join(struct.pack(">HHH", *channel) for channel in each)
    return box(b"cdef", struct.pack(">H", len(each)) + listed)


def mapping(*columns):
    return box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, column) for column in columns))


INDICES = (np.arange(32 * 32, dtype=np.uint8) % 4).reshape(32, 32)
COLOURS = np.array([(10, 20, 30), (250, 0, 0), (0, 250, 0), (0, 0, 250)], np.uint8)
PALETTE = box(b"pclr", struct.pack(">HB3B", 4, 3, 7, 7, 7) + COLOURS.tobytes())
ODD_JPEG_2000 = {
    "blue first": (
        described(COLOUR, channels((0, 0, 3), (1, 0, 2), (2, 0, 1))),
        "in another order",
    ),
    "opacity first": (
        described(np.dstack([PICTURE, PICTURE]), channels((0, 1, 0), (1, 0, 1))),
        "channels in another order",
    ),
    "something beside": (
        described(np.dstack([PICTURE, PICTURE]), channels((0, 0, 1), (1, 65535, 65535))),
        "a channel of unspecified meaning",
    ),
    "grey palette": (
        described(INDICES, box(b"pclr", struct.pack(">HBB4B", 4, 1, 7, 9, 1, 5, 3)), mapping(0)),
        "a palette of other than three colours",
    ),
    "palette, blue first": (
        described(INDICES, PALETTE, mapping(2, 1, 0), colr=space(16)),
        "a palette in another order",
    ),
    "CIE Lab": (described(COLOUR, colr=space(14)), "in colour space 14"),
    "YCbCr(1)": (described(COLOUR, colr=space(1)), "in colour space 1"),
}


@pytest.mark.parametrize(("data", "said"), ODD_JPEG_2000.values(), ids=ODD_JPEG_2000)
def test_a_jpeg_2000_whose_samples_mean_something_else_is_refused(data, said):
    """They were read as if they were stored as usual, silently."""
    image, remark = decode(data)
    assert image is None
    assert re.fullmatch(rf"JPEG 2000 .*{said}, which is not read", remark)


def test_a_jpeg_2000_that_says_what_is_usual_is_read():
    usual = channels((0, 0, 1), (1, 0, 2), (2, 0, 3))
    for data in (
        described(COLOUR, usual),
        described(COLOUR, colr=space(14) + space(16)),  # readers take the one that they know
        described(COLOUR, colr=space(14) + box(b"colr", b"\2\0\0" + bytes(200))),
    ):
        assert np.abs(decode(data).image - LUMINANCE).max() <= ROUNDED
    data = described(INDICES, PALETTE, mapping(0, 1, 2), colr=space(16))
    assert np.abs(decode(data).image - COLOURS[INDICES] @ np.array(grey.LUMINANCE)).max() <= ROUNDED


@given(st.binary(max_size=40), st.sampled_from([b"colr", b"pclr", b"cmap", b"cdef", b"free"]))
def test_any_box_about_a_jpeg_2000_is_read_or_refused(content, kind):
    jpeg.find_meaning_fault(described(PICTURE, box(kind, content)))

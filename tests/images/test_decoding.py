import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cbir_lib.images.decoding import SMALLEST_PX, decode

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 10), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8) * 8


def encode(picture, kind, **options):
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_comes_back_as_it_was(kind):
    image, remark = decode(encode(GREY, kind))
    assert image.dtype == np.uint8
    assert np.array_equal(image, GREY)
    assert remark == ""


def test_grey_jpeg_needs_no_remark():
    image, remark = decode(encode(SMOOTH, "JPEG", quality=95))
    assert np.abs(image.astype(int) - SMOOTH).max() <= 4
    assert remark == ""


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]
)
def test_colour_becomes_luminance(kind, options):
    image, remark = decode(encode(COLOUR, kind, **options))
    luminance = COLOUR @ [0.299, 0.587, 0.114]  # ITU-R 601
    assert np.abs(image - luminance).max() <= 0.51  # rounded, not cut off
    assert remark == "RGB, converted to grey"


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "1", "CMYK"])
def test_other_modes_of_a_grey_picture_become_that_grey(mode):
    black_and_white = np.where(GREY > 127, 255, 0).astype(np.uint8)
    picture = Image.fromarray(black_and_white).convert("RGB").convert(mode)
    image, remark = decode(encode(picture, "TIFF"))
    assert np.array_equal(image, black_and_white)
    assert remark == f"{mode}, converted to grey"


@pytest.mark.parametrize(
    ("deep", "kind"),
    [
        (GREY.astype(np.uint16) * 100 + 300, "PNG"),
        (GREY.astype(np.int32) * 1000 - 70_000, "TIFF"),
        (GREY.astype(np.float32) / 1000, "TIFF"),
    ],
    ids=["16 bit", "32 bit", "float"],
)
def test_deep_images_are_stretched_between_their_extremes(deep, kind):
    image, remark = decode(encode(deep, kind))
    low, high = int(GREY.min()), int(GREY.max())
    assert np.abs(image - (GREY - float(low)) * 255 / (high - low)).max() <= 0.51
    assert (image.min(), image.max()) == (0, 255)
    assert remark == "more than 8 bits, stretched to 8"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_white_is_zero_is_inverted(dtype):
    file = bytearray(encode(GREY.astype(dtype), "TIFF"))
    # The entry of tag 262: one SHORT, 1 (black is zero); then 0 (white is zero).
    tag = struct.pack("<HHI", 262, 3, 1)
    assert file.count(tag) == 1
    file[file.index(tag) + len(tag)] = 0
    image, remark = decode(bytes(file))
    if dtype == np.uint8:
        assert np.array_equal(image, 255 - GREY)
        assert remark == ""
    else:
        low, high = int(GREY.min()), int(GREY.max())
        assert np.abs(image - (high - GREY.astype(float)) * 255 / (high - low)).max() <= 0.51
        assert remark == "more than 8 bits, white is zero, inverted, stretched to 8"


def test_constant_deep_image_is_black():
    assert not decode(encode(np.full((9, 9), 4000, np.uint16), "PNG")).image.any()


@pytest.mark.parametrize(
    ("value", "look"), [(np.nan, 0), (np.inf, 255), (-np.inf, 0)], ids=["nan", "inf", "-inf"]
)
def test_a_grey_value_that_is_no_number_moves_no_limit(value, look):
    deep = GREY.astype(np.float32)
    expected = decode(encode(deep, "TIFF")).image.copy()
    deep[3, 3], expected[3, 3] = value, look
    image, remark = decode(encode(deep, "TIFF"))
    assert np.array_equal(image, expected)
    assert remark == "more than 8 bits, stretched to 8, 1 grey value is no finite number"


def test_no_number_at_all_gives_no_image():
    nothing = np.full((12, 10), np.nan, np.float32)
    assert decode(encode(nothing, "TIFF")) == (None, "no grey value is a number")


def png_header(width, height):
    """A PNG that claims a size and has no pixels."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


LAB = Image.merge("LAB", [Image.fromarray(GREY)] * 3)
REFUSED = {
    "empty": (b"", "empty file"),
    "text": (b"\xff\xd8 this is no picture", "not an image"),
    "another format": (encode(GREY, "EPS"), "not an image"),  # Pillow would start Ghostscript
    "half a PNG": (encode(GREY, "PNG")[:-40], "damaged"),
    "half a JPEG": (encode(GREY, "JPEG")[:-40], "damaged"),
    "no pixels": (png_header(16, 16), "damaged"),
    "one pixel": (encode(GREY[:1, :1], "PNG"), "1 x 1 pixels, too small"),
    "a line": (encode(GREY[:7], "PNG"), "10 x 7 pixels, too small"),
    "large": (png_header(10_001, 10_000), "10001 x 10000 pixels, too large"),
    # Refused for its size, not for its missing pixels; Pillow has a higher limit of its own.
    "bomb": (png_header(30_000, 30_000), "more than 100,000,000 pixels, too large"),
    "CIE Lab": (encode(LAB, "TIFF"), "LAB, cannot be converted to grey"),
}


@pytest.mark.parametrize(("data", "remark"), REFUSED.values(), ids=REFUSED)
def test_refused_with_a_reason(data, remark):
    assert decode(data) == (None, remark)


def test_smallest_size_is_accepted():
    assert decode(encode(GREY[:SMALLEST_PX, :SMALLEST_PX], "PNG")).image.shape == (8, 8)


def holds(data):
    """An image that can be used, or a reason."""
    image, remark = decode(data)
    if image is None:
        assert remark
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 2
        assert min(image.shape) >= SMALLEST_PX


@given(st.binary(max_size=200))
def test_any_bytes_are_an_image_or_refused(data):
    holds(data)


WHOLE = [encode(GREY, kind) for kind in ("PNG", "JPEG", "TIFF", "WEBP")]
WHOLE += [encode(GREY.astype(dtype), "TIFF") for dtype in (np.uint16, np.float32)]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_fault_in_a_whole_file_is_an_image_or_refused(data):
    # Random bytes rarely pass a format's signature; a few wrong bytes behind it do.
    file = bytearray(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    holds(bytes(file[: data.draw(st.integers(0, len(file)))]))
    holds(bytes(file))

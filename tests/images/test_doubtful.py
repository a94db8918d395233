"""Files whose mask, pixels or tables are not what they say: by value, and with a remark."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cbir_lib.images.decoding import decode
from tests.images.test_pictures import (
    COLOUR,
    HEIGHT,
    LUMINANCE,
    PICTURE,
    ROUNDED,
    WIDTH,
    interlace,
    pack,
    png,
    quantised,
    saved,
    spread,
    tiff,
)

# A mask that hides everything

CLEAR = np.zeros_like(PICTURE)
RGBA = np.dstack([COLOUR, CLEAR])
GREYS = np.arange(256, dtype=np.uint8).repeat(3)
LA = np.dstack([PICTURE, CLEAR])


def bitmap(colours):
    """A BMP of version 4, whose header has a mask of opacity."""
    head = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 32, 3, 0, 0, 0, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    data = colours[::-1, :, [2, 1, 0, 3]].tobytes()
    return b"BM" + struct.pack("<IHHI", 122 + len(data), 0, 0, 122) + head + data


HIDDEN = {
    "PNG, grey of 8 bits": (png(LA.reshape(HEIGHT, -1), 8, 4), PICTURE),
    "PNG, grey of 16 bits": (png((LA * 257.0).astype(">u2").reshape(HEIGHT, -1), 16, 4), PICTURE),
    "PNG, colour of 8 bits": (png(RGBA.reshape(HEIGHT, -1), 8, 6), LUMINANCE),
    "PNG, colour of 16 bits": (
        png((RGBA * 257.0).astype(">u2").reshape(HEIGHT, -1), 16, 6),
        spread(LUMINANCE),
    ),
    "PNG, palette": (
        png(PICTURE, 8, 3, (b"PLTE", GREYS.tobytes()), (b"tRNS", bytes(256))),
        PICTURE,
    ),
    "TIFF, colour": (tiff(RGBA, 8, 2, extra=2), LUMINANCE),
    "TIFF, colour said to be multiplied": (tiff(RGBA, 8, 2, extra=1), LUMINANCE),
    "TIFF, grey said to be multiplied": (tiff(LA, 8, 1, extra=1), PICTURE),
    "TIFF, grey of 16 bits": (tiff((LA * 257.0).astype(np.uint16), 16, 1, extra=2), PICTURE),
    "BMP": (bitmap(RGBA), LUMINANCE),
    "WebP": (saved(RGBA, "WEBP", lossless=True, exact=True), LUMINANCE),
    "JPEG 2000": (saved(RGBA, "JPEG2000", irreversible=False), LUMINANCE),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_mask_that_hides_everything_is_set_aside(name):
    data, look = HIDDEN[name]
    image, remark = decode(data)
    assert np.abs(image - look.astype(float)).max() <= ROUNDED
    assert remark.endswith("transparent everywhere, shown as if it were opaque")


# Pixels that are not there


DEEP = (PICTURE * 257.0).astype(">u2")
DEEP_COLOUR = (COLOUR * 257.0).astype(">u2")
LINES = {
    "1 bit": (pack(quantised(1)[0], 1), 1, 0),
    "4 bits": (pack(quantised(4)[0], 4), 4, 0),
    "8 bits": (PICTURE, 8, 0),
    "16 bits": (DEEP, 16, 0),
    "colour": (COLOUR.reshape(HEIGHT, -1), 8, 2),
    "colour of 16 bits": (DEEP_COLOUR.reshape(HEIGHT, -1), 16, 2),
    "colour and alpha": (RGBA.reshape(HEIGHT, -1), 8, 6),
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("missing", [1, HEIGHT // 3])
def test_a_png_of_too_few_rows_is_refused_in_silence(name, missing, capfd):
    rows, bits, colour_type = LINES[name]
    assert decode(png(rows, bits, colour_type)).image is not None
    assert decode(png(rows[:-missing], bits, colour_type)) == (None, "damaged")
    black = np.zeros_like(rows)
    assert not decode(png(black, bits, colour_type)).image.any()  # no row is missing
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("height", [HEIGHT, HEIGHT - 1])
@pytest.mark.parametrize("values", [PICTURE, DEEP_COLOUR], ids=["grey", "deep colour"])
def test_an_interlaced_png_of_too_few_rows_is_refused(height, values):
    bits, colour_type = (8, 0) if values.ndim == 2 else (16, 2)
    lines = list(interlace(values[:height]))
    size = (WIDTH, height)
    whole = png(lines, bits, colour_type, size=size, interlaced=1)
    assert decode(whole).image is not None
    for missing in (1, len(lines) // 3):
        data = png(lines[:-missing], bits, colour_type, size=size, interlaced=1)
        assert decode(data) == (None, "damaged")


def test_a_png_of_deep_colour_is_read_without_what_is_amiss_beside_its_pixels(capfd):
    chunks = [(b"iCCP", b"sRGB\0\0" + zlib.compress(bytes(3144))), (b"sBIT", b"\x20\x20\x20")]
    data = png(DEEP_COLOUR.reshape(HEIGHT, -1), 16, 2, *chunks)
    assert np.abs(decode(data).image - spread(LUMINANCE)).max() <= ROUNDED
    assert capfd.readouterr() == ("", "")


def test_deep_colour_that_cannot_be_read_is_not_cut_to_8_bits(monkeypatch):
    monkeypatch.setattr("cbir_lib.images.tiff.read_opencv", lambda data: None)
    data = png(DEEP_COLOUR.reshape(HEIGHT, -1), 16, 2)
    assert decode(data) == (None, "RGB of more than 8 bits, which is not read")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_a_jpeg_whose_end_was_overwritten_is_refused(progressive, share):
    whole = saved(PICTURE, "JPEG", progressive=progressive, restart_marker_rows=2)
    assert decode(whole + b"\xff\xda" + bytes(90)).image is not None  # something behind it
    kept = int(len(whole) * share)
    for filler in (b"\0", b"\xff"):
        assert decode(whole[:kept] + filler * (len(whole) - kept)) == (None, "damaged")
    assert decode(whole[:-2] + bytes(2)) == (None, "damaged")


def test_a_jpeg_with_a_thumbnail_ends_where_the_picture_does():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = saved(PICTURE, "JPEG")  # with a marker of the end
    whole = saved(PICTURE, "JPEG", exif=exif)
    assert whole.count(b"\xff\xd9") == 2
    assert decode(whole).image is not None
    assert decode(whole[:-90] + bytes(90)) == (None, "damaged")


# JPEG 2000 of other depths


def jpeg2000(numbers, depth):
    """A stream of samples of ``depth`` bits, from one of 8: its middle becomes theirs."""
    middle = 2 ** (depth - 1)
    values = (numbers.astype(int) - middle + 128).astype(np.uint8)
    picture = Image.fromarray(values)
    data = bytearray(saved(picture, "JPEG2000", no_jp2=True, irreversible=False))
    for place in range(42, 42 + 3 * len(picture.getbands()), 3):
        assert data[place] == 7
        data[place] = depth - 1
    return bytes(data)


@pytest.mark.parametrize("depth", range(1, 8))
def test_white_of_a_jpeg_2000_of_few_bits_is_white(depth):
    numbers, look = quantised(depth)
    assert np.abs(decode(jpeg2000(numbers, depth)).image - look).max() <= ROUNDED
    colour = np.stack([numbers] * 3, axis=-1)
    assert np.abs(decode(jpeg2000(colour, depth)).image - look).max() <= 255 / 2**depth


def test_grey_with_alpha_of_12_bits_in_jpeg_2000_is_refused():
    values = np.dstack([PICTURE, PICTURE]).astype(int) + 2048 - 128
    assert decode(jpeg2000(values, 12)) == (None, "LA of more than 8 bits, which is not read")

"""A picture is what its file says it is: every layout in every format, by value."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from cbir_lib.datasets.decoding import decode

HEIGHT, WIDTH = 96, 64
Y, X = np.mgrid[:HEIGHT, :WIDTH]
# Smooth, for the lossy formats; no symmetry; from 0 to 255, so that a stretch changes nothing.
PICTURE = np.rint(90 * Y / (HEIGHT - 1) + 70 * X / (WIDTH - 1)).astype(np.uint8)
PICTURE = PICTURE + np.uint8(95) * ((Y > 70) & (X > 40)).astype(np.uint8)
assert (PICTURE.min(), PICTURE.max()) == (0, 255)
COLOUR = np.stack([PICTURE, 255 - PICTURE, np.roll(PICTURE, 20, axis=0)], axis=-1)
# As many numbers between black and white as a stretch has to come out at 0..255.
LUMINANCE = COLOUR @ [0.299, 0.587, 0.114]
HALF = np.where(X < WIDTH // 2, 0, 255).astype(np.uint8)  # left half transparent
HIDDEN = HALF == 0

ROUNDED = 1.0  # of rounding to 8 bits, and of luminance in whole numbers
JPEG_LOSS = 8.0
WEBP_LOSS = 12.0


def spread(values, seen=None):
    """Stretched between the extremes of what is seen, 0..255."""
    seen = values if seen is None else values[seen]
    return np.clip((values - seen.min()) * 255.0 / (seen.max() - seen.min()), 0, 255)


def deepen(picture, dtype):
    """The picture in the whole range of another type, black and white included."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (picture / np.float64(64) - 2).astype(dtype)
    if dtype.itemsize == 1:
        return (picture.astype(np.int16) - 128).astype(dtype) if dtype.kind == "i" else picture
    bits = 8 * dtype.itemsize
    values = picture.astype(object) * ((2**bits - 1) // 255)
    if dtype.kind == "i":
        values = values - 2 ** (bits - 1)
    return values.astype(dtype)


def quantised(bits):
    """The picture in 2**bits grey values: their numbers, and how they look."""
    numbers = (PICTURE.astype(int) * 2**bits // 256).astype(np.uint8)
    return numbers, numbers * (255 / (2**bits - 1))


def pack(numbers, bits):
    """Rows of numbers of 1, 2, 4 or 8 bits, padded to whole bytes."""
    lines = np.unpackbits(numbers[..., None], axis=-1)[..., 8 - bits :]
    return np.packbits(lines.reshape(len(numbers), -1), axis=1)


def saved(picture, kind, **options):
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(rows, bits, colour_type, *more, size=(WIDTH, HEIGHT)):
    """A PNG from the bytes of its rows."""
    head = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + b"".join(chunk(*one) for one in more)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def tiff(pixels, bits, photometric, *, order="<", kind=1, extra=None, more=(), pages=1):
    """An uncompressed TIFF of (H, W) or (H, W, S) numbers, or of packed rows below 8 bits."""
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes() if bits > 7 else bytes(pixels)
    entries = {
        256: (4, [WIDTH]),
        257: (4, [HEIGHT]),
        258: (3, [bits] * samples),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, [8]),
        277: (3, [samples]),
        278: (4, [HEIGHT]),
        279: (4, [len(data)]),
        339: (3, [kind] * samples),
        **dict(more),
    }
    if extra is not None:
        entries[338] = (3, [extra])
    file = bytearray((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 0) + data)
    link = 4
    for _ in range(pages):
        file += bytes(len(file) % 2)
        fields = b""
        for tag, (type_, values) in sorted(entries.items()):
            value = struct.pack(order + {3: "H", 4: "I"}[type_] * len(values), *values)
            if len(value) > 4:
                place = len(file)
                file += value + bytes(len(value) % 2)
                value = struct.pack(order + "I", place)
            fields += struct.pack(order + "HHI", tag, type_, len(values)) + value.ljust(4, b"\0")
        struct.pack_into(order + "I", file, link, len(file))
        link = len(file) + 2 + len(fields)
        file += struct.pack(order + "H", len(entries)) + fields + bytes(4)
    return bytes(file)


MATRIX = {}  # name: file, expected grey, tolerance


def add(name, data, expected, tolerance=ROUNDED):
    assert name not in MATRIX
    MATRIX[name] = data, expected, tolerance


def add_png():
    for bits in (1, 2, 4, 8):
        numbers, look = quantised(bits)
        add(f"png grey {bits}", png(pack(numbers, bits), bits, 0), look)
        # A palette that runs the other way.
        palette = np.repeat(np.rint(np.linspace(255, 0, 2**bits)).astype(np.uint8), 3).tobytes()
        rows = pack(2**bits - 1 - numbers, bits)
        add(f"png palette {bits}", png(rows, bits, 3, (b"PLTE", palette)), look)
    deep = (PICTURE.astype(int) * 200 + 300).astype(">u2")
    add("png grey 16", png(deep, 16, 0), PICTURE)
    key = struct.pack(">H", int(deep[0, 5]))
    gone = deep != deep[0, 5]
    add("png grey 16 tRNS", png(deep, 16, 0, (b"tRNS", key)), PICTURE * gone)
    gone = PICTURE[50, 30] != PICTURE
    key = struct.pack(">H", int(PICTURE[50, 30]))
    add("png grey 8 tRNS", png(PICTURE, 8, 0, (b"tRNS", key)), PICTURE * gone)
    palette = np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()
    opacity = np.where(np.arange(256) < 100, 0, 255).astype(np.uint8).tobytes()
    rows = png(PICTURE, 8, 3, (b"PLTE", palette), (b"tRNS", opacity))
    add("png palette 8 tRNS", rows, PICTURE * (PICTURE >= 100))
    grey_alpha = np.stack([PICTURE, HALF], -1)
    add("png grey+alpha 8", png(grey_alpha.reshape(HEIGHT, -1), 8, 4), PICTURE * ~HIDDEN)
    deep_alpha = (grey_alpha * 257.0).astype(">u2")
    add(
        "png grey+alpha 16",
        png(deep_alpha.reshape(HEIGHT, -1), 16, 4),
        spread(PICTURE.astype(float), ~HIDDEN) * ~HIDDEN,
    )
    add("png colour 8", png(COLOUR.reshape(HEIGHT, -1), 8, 2), LUMINANCE)
    add(
        "png colour 16",
        png((COLOUR * 100.0 + 7).astype(">u2").reshape(HEIGHT, -1), 16, 2),
        spread(LUMINANCE),
    )
    colour_alpha = np.concatenate([COLOUR, HALF[..., None]], -1)
    add("png colour+alpha 8", png(colour_alpha.reshape(HEIGHT, -1), 8, 6), LUMINANCE * ~HIDDEN)
    add(
        "png colour+alpha 16",
        png((colour_alpha * 257.0).astype(">u2").reshape(HEIGHT, -1), 16, 6),
        spread(LUMINANCE, ~HIDDEN) * ~HIDDEN,
    )


def add_tiff():
    for bits in (1, 2, 4):
        numbers, look = quantised(bits)
        for order in "<>":
            add(f"tiff grey {bits} {order}", tiff(pack(numbers, bits), bits, 1, order=order), look)
            add(
                f"tiff grey {bits} {order} white is zero",
                tiff(pack(2**bits - 1 - numbers, bits), bits, 0, order=order),
                look,
            )
    types = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
    for name in types:
        kind = {"u": 1, "i": 2, "f": 3}[name[0]]
        bits = 8 * int(name[1])
        grey, colour = deepen(PICTURE, name), deepen(COLOUR, name)
        opaque = np.ones_like(grey) * (1 if kind == 3 else np.iinfo(name).max)
        clear = np.where(HIDDEN, 0, opaque).astype(name)
        look = {
            "grey": PICTURE,
            "grey+alpha": (PICTURE if name == "u1" else spread(PICTURE * 1.0, ~HIDDEN)) * ~HIDDEN,
            "colour": LUMINANCE if name == "u1" else spread(LUMINANCE),
        }
        look["colour+alpha"] = look["colour"]
        if name != "u1":
            look["colour+alpha"] = spread(LUMINANCE, ~HIDDEN)
        look["colour+alpha"] = look["colour+alpha"] * ~HIDDEN
        pixels = {
            "grey": grey,
            "grey+alpha": np.stack([grey, clear], -1),
            "colour": colour,
            "colour+alpha": np.concatenate([colour, clear[..., None]], -1),
        }
        for layout, values in pixels.items():
            extra = 2 if "alpha" in layout else None
            photometric = 2 if "colour" in layout else 1
            for order in "<>":
                add(
                    f"tiff {layout} {name} {order}",
                    tiff(values, bits, photometric, order=order, kind=kind, extra=extra),
                    look[layout],
                    ROUNDED,
                )
        for order in "<>":
            add(
                f"tiff grey {name} {order} white is zero",
                tiff(grey, bits, 0, order=order, kind=kind),
                255 - PICTURE.astype(float),
            )
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        add(f"tiff {compression} 8", saved(PICTURE, "TIFF", compression=compression), PICTURE)
        deep = saved(PICTURE.astype(np.uint16) * 16, "TIFF", compression=compression)
        add(f"tiff {compression} 16", deep, PICTURE)
    numbers, look = quantised(1)
    for compression in ("group3", "group4"):
        bits = Image.fromarray(numbers.astype(bool))
        add(f"tiff {compression}", saved(bits, "TIFF", compression=compression), look)
    add("tiff jpeg", saved(PICTURE, "TIFF", compression="jpeg", quality=95), PICTURE, JPEG_LOSS)
    for number, name in ((5, "lzw"), (8, "deflate")):
        options = [cv2.IMWRITE_TIFF_COMPRESSION, number]
        deep = cv2.imencode(".tif", COLOUR[..., ::-1].astype(np.uint16) * 99, options)[1].tobytes()
        add(f"tiff colour 16 {name}", deep, spread(LUMINANCE))
    add("tiff palette", saved(Image.fromarray(PICTURE).convert("P"), "TIFF"), PICTURE)
    add("tiff CMYK", saved(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"), LUMINANCE)
    # Already multiplied by its opacity, which is a half.
    half = np.stack([PICTURE // 2, np.full_like(PICTURE, 128)], -1)
    add("tiff grey+premultiplied", tiff(half, 8, 1, extra=1), PICTURE / 2, 2.0)


def add_others():
    for name, picture, look in (("grey", PICTURE, PICTURE), ("colour", COLOUR, LUMINANCE)):
        for progressive in (False, True):
            data = saved(picture, "JPEG", quality=95, progressive=progressive)
            add(f"jpeg {name} {'progressive' * progressive}", data, look, JPEG_LOSS)
        add(f"webp {name}", saved(picture, "WEBP", quality=95), look, WEBP_LOSS)
        add(f"webp {name} lossless", saved(picture, "WEBP", lossless=True), look)
        add(f"bmp {name} 8", saved(picture, "BMP"), look)
    add("jpeg CMYK", saved(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"), LUMINANCE, 16.0)
    colour_alpha = np.concatenate([COLOUR, HALF[..., None]], -1)
    data = saved(colour_alpha, "WEBP", lossless=True, exact=True)
    add("webp colour+alpha", data, LUMINANCE * ~HIDDEN)
    numbers, look = quantised(1)
    add("bmp 1", saved(Image.fromarray(numbers.astype(bool)), "BMP"), look)
    add("bmp palette 8", saved(Image.fromarray(PICTURE).convert("P"), "BMP"), PICTURE)
    stored = cv2.imencode(".bmp", colour_alpha[..., [2, 1, 0, 3]])[1].tobytes()
    add("bmp colour+alpha", stored, LUMINANCE * ~HIDDEN)
    size = f"{WIDTH} {HEIGHT}\n"
    for most in (1, 100, 255, 256, 4095, 65535):
        grey = np.rint(PICTURE * (most / 255)).astype(int)
        colour = np.rint(COLOUR * (most / 255)).astype(int)
        light = colour @ [0.299, 0.587, 0.114] * (255 / most)
        light = spread(light) if most > 255 else light
        type_ = "u1" if most < 256 else ">u2"
        head = f"{size}{most}\n".encode()
        look = grey * (255 / most)
        add(f"pgm {most}", b"P5\n" + head + grey.astype(type_).tobytes(), look)
        add(f"ppm {most}", b"P6\n# so\n" + head + colour.astype(type_).tobytes(), light, 1.5)
        text = " ".join(map(str, grey.ravel())).encode()
        add(f"pgm text {most}", b"P2\n" + head + text, look)
    ink = numbers == 0
    add("pbm", b"P4\n" + size.encode() + pack(ink.astype(np.uint8), 1).tobytes(), look_of(1))
    text = " ".join(map(str, ink.astype(int).ravel())).encode()
    add("pbm text", b"P1\n" + size.encode() + text, look_of(1))
    floats = (PICTURE[::-1] / 100).astype("<f4").tobytes()  # from the bottom up
    add("pfm", f"Pf\n{size}-1.0\n".encode() + floats, PICTURE)
    for name, picture, look in (
        ("grey 8", PICTURE, PICTURE),
        ("grey 16", PICTURE.astype(np.uint16) * 16, PICTURE),
        ("colour 8", COLOUR, LUMINANCE),
        ("colour+alpha 8", colour_alpha, LUMINANCE * ~HIDDEN),
    ):
        options = {"irreversible": False}
        add(f"jp2 {name}", saved(picture, "JPEG2000", **options), look)
        add(f"j2k {name}", saved(picture, "JPEG2000", no_jp2=True, **options), look)
    grey_alpha = Image.merge("LA", [Image.fromarray(PICTURE), Image.fromarray(HALF)])
    add("jp2 grey+alpha 8", saved(grey_alpha, "JPEG2000"), PICTURE * ~HIDDEN)
    add("jp2 grey 8 signed", saved(PICTURE ^ 0x80, "JPEG2000", signed=True), PICTURE)
    lossy = saved(PICTURE, "JPEG2000", irreversible=True, quality_layers=[10])
    add("jp2 grey lossy", lossy, PICTURE, WEBP_LOSS)
    options = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    deep = COLOUR[..., ::-1].astype(np.uint16) * 16
    add("jp2 colour 16", cv2.imencode(".jp2", deep, options)[1].tobytes(), spread(LUMINANCE))
    data = cv2.imencode(".jp2", np.dstack([deep, HALF.astype(np.uint16) * 257]), options)[1]
    add("jp2 colour+alpha 16", data.tobytes(), spread(LUMINANCE, ~HIDDEN) * ~HIDDEN)


def look_of(bits):
    return quantised(bits)[1]


add_png()
add_tiff()
add_others()


@pytest.mark.parametrize("name", MATRIX)
def test_every_layout_in_every_format(name):
    data, expected, tolerance = MATRIX[name]
    image, remark = decode(data)
    assert image is not None, remark
    assert image.dtype == np.uint8
    assert image.shape == PICTURE.shape
    assert np.abs(image - np.asarray(expected, float)).max() <= tolerance

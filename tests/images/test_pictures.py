"""A picture is what its file says it is: every layout in every format, by value."""

import hashlib
import io
import struct
import subprocess
import sys
import time
import zlib
from itertools import product

import cv2
import numpy as np
import pytest
from PIL import Image, ImageChops

from cbir_lib.images.decoding import RULES, decode, fit_to_square

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


def png(rows, bits, colour_type, *more, size=(WIDTH, HEIGHT), interlaced=0):
    """A PNG from the bytes of its rows."""
    head = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, interlaced)
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
    for bits in (3, 5, 6, 7, 10, 12, 14, 24, 40):
        numbers = PICTURE.astype(np.uint64) * np.uint64((2**bits - 1) // 255 or 1)
        numbers = numbers >> np.uint64(max(0, 8 - bits)) if bits < 8 else numbers
        places = np.arange(bits - 1, -1, -1, dtype=np.uint64)
        stream = (numbers[..., None] >> places & np.uint64(1)).astype(np.uint8)
        for order in "<>":
            if order == "<" and bits % 8 == 0:  # the lowest byte first
                whole = stream.reshape(HEIGHT, WIDTH, -1, 8)[:, :, ::-1].reshape(HEIGHT, WIDTH, -1)
            else:
                whole = stream
            rows = np.packbits(whole.reshape(HEIGHT, -1), axis=1)
            more = {258: (3, [bits]), 279: (4, [rows.size]), 339: (3, [1])}
            look = numbers.astype(float) * (255 / float(numbers.max()))
            for photometric in (0, 1):
                data = tiff(rows, 1, photometric, order=order, more=more)
                name = f"tiff grey {bits} {order} {photometric}"
                add(name, data, look if photometric else 255 - look)
    for name in ("u1", "u2", "f2", "f4"):
        kind, bits = 3 if name[0] == "f" else 1, 8 * int(name[1])
        planes = np.moveaxis(deepen(COLOUR, name), 2, 0)
        length = planes[0].nbytes
        more = {
            273: (4, [8, 8 + length, 8 + 2 * length]),
            279: (4, [length] * 3),
            284: (3, [2]),
        }
        # Written as if they were pixels; the tags above say that they are planes.
        data = tiff(planes.reshape(HEIGHT, WIDTH, 3), bits, 2, kind=kind, more=more)
        add(f"tiff planes {name}", data, LUMINANCE if name == "u1" else spread(LUMINANCE))
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
    ink = Image.fromarray(COLOUR).convert("CMYK")
    data = saved(ink, "JPEG")
    add("jpeg CMYK", data, LUMINANCE, 16.0)
    data = saved(ImageChops.invert(ink), "JPEG")  # which Pillow inverts once more
    start = data.index(b"\xff\xee")
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    add("jpeg CMYK without Adobe's marker", data[:start] + data[end:], LUMINANCE, 16.0)
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
        text = " ".join(map(str, colour.ravel())).encode()
        add(f"ppm text {most}", b"P3\n" + head + text, light, 1.5)
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
    grey_alpha = np.dstack([PICTURE, PICTURE, PICTURE, HALF])
    data = saved(grey_alpha, "WEBP", lossless=True, exact=True)
    add("webp grey+alpha", data, PICTURE * ~HIDDEN)
    data = cv2.imencode(".jp2", np.dstack([deep, HALF.astype(np.uint16) * 257]), options)[1]
    add("jp2 colour+alpha 16", data.tobytes(), spread(LUMINANCE, ~HIDDEN) * ~HIDDEN)


def bmp(rows, bits, *, compression=0, masks=b"", palette=b"", from_the_top=False):
    """A BMP from the rows of its pixels, or from one run of compressed bytes."""
    rows = [bytes(row) for row in (rows if from_the_top else rows[::-1])]
    data = b"".join(row + bytes(-len(row) % 4) for row in rows)
    height = -HEIGHT if from_the_top else HEIGHT
    size = struct.pack("<IiiHHI", 40, WIDTH, height, 1, bits, compression)
    head = size + struct.pack("<IiiII", len(data), 0, 0, len(palette) // 4, 0) + masks + palette
    start = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + data


def add_bmp():
    for green, masks in ((5, ()), (6, (0xF800, 0x07E0, 0x001F))):
        bits = np.array([5, green, 5])
        numbers = (COLOUR.astype(int) * (2**bits - 1) + 127) // 255
        words = (numbers @ [1 << (5 + green), 1 << 5, 1]).astype("<u2")
        look = numbers * (255 / (2.0**bits - 1)) @ [0.299, 0.587, 0.114]
        fields = {"compression": 3 if masks else 0, "masks": struct.pack(f"<{len(masks)}I", *masks)}
        for top in (False, True):
            data = bmp(words, 16, from_the_top=top, **fields)
            add(f"bmp colour 5{green}5 {'from the top' * top}", data, look, 1.5)
    for bits in (1, 4, 8):
        numbers, look = quantised(bits)
        greys = np.rint(np.linspace(255, 0, 2**bits)).astype(np.uint8)
        palette = b"".join(bytes([grey] * 3 + [0]) for grey in greys)
        data = bmp(pack(2**bits - 1 - numbers, bits), bits, palette=palette)
        add(f"bmp palette {bits} reversed", data, look)
    palette = b"".join(bytes([grey] * 3 + [0]) for grey in range(256))
    runs = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in PICTURE[::-1])
    add("bmp palette 8 RLE", bmp([runs + b"\0\1"], 8, compression=1, palette=palette), PICTURE)


def interlace(values):
    """The rows of the seven passes of Adam7 (PNG, 8.2)."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    for top, left, down, right in [*passes, (1, 0, 2, 1)]:
        yield from values[top::down, left::right]


def add_png_of_other_kinds():
    for bits in (1, 2, 4):
        numbers, look = quantised(bits)
        most = 2**bits - 1
        seen = look * (numbers < most)  # the brightest is transparent
        key = struct.pack(">H", most)
        add(f"png grey {bits} tRNS", png(pack(numbers, bits), bits, 0, (b"tRNS", key)), seen)
        palette = np.repeat(np.rint(np.linspace(255, 0, 2**bits)).astype(np.uint8), 3).tobytes()
        chunks = (b"PLTE", palette), (b"tRNS", bytes([0] + [255] * most))
        add(f"png palette {bits} tRNS", png(pack(most - numbers, bits), bits, 3, *chunks), seen)
    for bits, values in ((8, COLOUR), (16, (COLOUR * 100.0 + 7).astype(">u2"))):
        seen = (values != values[50, 30]).any(axis=-1)
        chunks = [(b"tRNS", struct.pack(">HHH", *map(int, values[50, 30])))]
        data = png(values.reshape(HEIGHT, -1), bits, 2, *chunks)
        look = LUMINANCE if bits == 8 else spread(LUMINANCE, seen)
        add(f"png colour {bits} tRNS", data, look * seen)
    deep = (PICTURE * 200.0 + 300).astype(">u2")
    colour = (COLOUR * 100.0 + 7).astype(">u2")
    for name, values, bits, colour_type, look in (
        ("grey 8", PICTURE, 8, 0, PICTURE),
        ("grey 16", deep, 16, 0, PICTURE),
        ("colour 8", COLOUR, 8, 2, LUMINANCE),
        ("colour 16", colour, 16, 2, spread(LUMINANCE)),
    ):
        data = png(interlace(values), bits, colour_type, interlaced=1)
        add(f"png {name} interlaced", data, look)


def add_tiff_of_other_kinds():
    import tifffile

    def written(pixels, **options):
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, metadata=None, **options)
        return file.getvalue()

    tile = {"tile": (32, 48)}
    for name in ("u1", "u2", "u4", "f4", "f8"):
        grey, colour = deepen(PICTURE, name), deepen(COLOUR, name)
        look = LUMINANCE if name == "u1" else spread(LUMINANCE)
        planes = np.moveaxis(colour, 2, 0).copy()
        for order in "<>":
            add(f"tiff tiles grey {name} {order}", written(grey, byteorder=order, **tile), PICTURE)
        add(f"tiff tiles colour {name}", written(colour, photometric="rgb", **tile), look)
        data = written(planes, photometric="rgb", planarconfig="separate", **tile)
        add(f"tiff tiles planes {name}", data, look)
        if name[0] == "u":
            data = written(grey, compression="zlib", predictor=True, **tile)
            add(f"tiff tiles predictor {name}", data, PICTURE)
    for name in ("u2", "i2", "i4", "f4"):
        for compression, where in product(("zlib", "lzma"), ({}, {"rowsperstrip": 7}, tile)):
            options = {"byteorder": ">", "compression": compression, **where}
            kind = f"tiff big-endian {compression} {name} {'-'.join(where)}"
            add(kind, written(deepen(PICTURE, name), **options), PICTURE)
            if name[0] != "f":
                data = written(deepen(PICTURE, name), predictor=True, **options)
                add(f"{kind} predictor", data, PICTURE)
    deep = deepen(PICTURE, "u2")
    add("tiff strips", written(deep, rowsperstrip=7), PICTURE)
    add("tiff big", written(deep, bigtiff=True), PICTURE)


def look_of(bits):
    return quantised(bits)[1]


add_png()
add_tiff()
add_others()
add_bmp()
add_png_of_other_kinds()
add_tiff_of_other_kinds()


@pytest.mark.parametrize("name", MATRIX)
def test_every_layout_in_every_format(name):
    data, expected, tolerance = MATRIX[name]
    image, remark = decode(data)
    assert image is not None, remark
    assert image.dtype == np.uint8
    assert image.shape == PICTURE.shape
    assert np.abs(image - np.asarray(expected, float)).max() <= tolerance


def test_the_number_of_the_rules_is_raised_when_pixels_change():
    """If it fails, raise ``RULES`` and note the digest: caches and archives compare the number."""
    rng, digest = np.random.default_rng(0), hashlib.sha256()
    framed = np.pad(rng.normal(3000, 300, (40, 30)), 6, constant_values=100)
    framed[20, 20] = 60_000
    for name in sorted(MATRIX):
        exact = name.startswith(("png", "tiff", "bmp", "pgm")) and "jpeg" not in name
        if exact and "colour" not in name:  # luminance may be rounded elsewhere in another way
            digest.update(decode(MATRIX[name][0]).image.tobytes())
    digest.update(decode(saved(framed.astype(np.uint16), "PNG")).image.tobytes())
    assert (RULES, digest.hexdigest()[:16]) == (9, "5cc401253b18c937")


def test_the_matrix_is_not_empty():
    assert len(MATRIX) == 338
    assert {name.split()[0] for name in MATRIX} >= {"png", "tiff", "jpeg", "webp", "bmp", "jp2"}


def test_a_png_of_which_a_checksum_is_wrong_is_refused():
    whole = saved(PICTURE, "PNG")
    assert decode(whole).image is not None
    for kind in (b"IHDR", b"IDAT"):
        start = whole.index(kind)
        end = start + 4 + int.from_bytes(whole[start - 4 : start], "big")
        damaged = whole[:end] + bytes(4) + whole[end + 4 :]
        assert decode(damaged) == (None, "damaged"), kind


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_truncated_file_of_any_layout_is_refused(share):
    for name, (data, _, _) in MATRIX.items():
        image, remark = decode(data[: int(len(data) * share)])
        assert image is None, name
        assert remark, name


# Orientation


def as_stored(upright, orientation):
    """The rows that a file holds, pixel by pixel, by the table of EXIF 2.3 (tag 274)."""
    height, width = upright.shape[:2]
    turned = orientation > 4
    stored = np.empty((width, height, *upright.shape[2:]), upright.dtype)
    stored = stored if turned else np.empty_like(upright)
    for y, x in np.ndindex(height, width):
        row, column = {
            1: (y, x),  # row 0 is the top, column 0 is the left
            2: (y, width - 1 - x),  # top, right
            3: (height - 1 - y, width - 1 - x),  # bottom, right
            4: (height - 1 - y, x),  # bottom, left
            5: (x, y),  # left, top
            6: (width - 1 - x, y),  # right, top
            7: (width - 1 - x, height - 1 - y),  # right, bottom
            8: (x, height - 1 - y),  # left, bottom
        }[orientation]
        stored[row, column] = upright[y, x]
    return stored


def turned_files(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    grey, colour = as_stored(PICTURE, orientation), as_stored(COLOUR, orientation)
    tag = {"tiffinfo": {274: orientation}}
    deep = as_stored(PICTURE.astype(np.uint16) * 16, orientation)
    yield "png", saved(grey, "PNG", exif=exif), PICTURE, ROUNDED
    yield (
        "png palette",
        saved(Image.fromarray(grey).convert("P"), "PNG", exif=exif),
        PICTURE,
        ROUNDED,
    )
    yield "png 16", saved(deep, "PNG", exif=exif), PICTURE, ROUNDED
    rows = (colour * 257.0).astype(">u2").reshape(len(colour), -1)
    size = colour.shape[1::-1]
    data = png(rows, 16, 2, (b"eXIf", exif.tobytes()[6:]), size=size)
    yield "png colour 16", data, spread(LUMINANCE), ROUNDED
    yield "jpeg", saved(grey, "JPEG", quality=95, exif=exif), PICTURE, JPEG_LOSS
    yield "jpeg colour", saved(colour, "JPEG", quality=95, exif=exif), LUMINANCE, JPEG_LOSS
    yield "webp", saved(colour, "WEBP", lossless=True, exif=exif), LUMINANCE, ROUNDED
    yield "tiff", saved(grey, "TIFF", **tag), PICTURE, ROUNDED
    yield "tiff 16", saved(deep, "TIFF", **tag), PICTURE, ROUNDED
    yield "tiff lzw", saved(deep, "TIFF", compression="tiff_lzw", **tag), PICTURE, ROUNDED
    for name in ("u1", "u2", "f2", "f4"):
        kind, bits = 3 if name[0] == "f" else 1, 8 * int(name[1])
        sides = {256: (4, [size[0]]), 257: (4, [size[1]]), 278: (4, [size[1]])}
        more = {**sides, 274: (3, [orientation])}
        data = tiff(deepen(colour, name), bits, 2, kind=kind, more=more)
        look = LUMINANCE if name == "u1" else spread(LUMINANCE)
        yield f"tiff colour {name}", data, look, ROUNDED


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_in_every_format(orientation):
    for name, data, expected, tolerance in turned_files(orientation):
        image, remark = decode(data)
        assert image is not None, (name, remark)
        assert image.shape == PICTURE.shape, name
        assert np.abs(image - np.asarray(expected, float)).max() <= tolerance, name


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"Exif\0\0nothing"]
)
def test_broken_exif_is_passed_over(exif):
    image, _ = decode(saved(PICTURE, "JPEG", quality=95, exif=exif))
    assert np.abs(image - PICTURE.astype(float)).max() <= JPEG_LOSS


# More than one picture


def series(kind, **options):
    pages = [Image.fromarray(page).convert("RGB") for page in (PICTURE, PICTURE // 2, PICTURE // 3)]
    file = io.BytesIO()
    pages[0].save(file, kind, save_all=True, append_images=pages[1:], **options)
    return file.getvalue()


PGM = f"P5\n{WIDTH} {HEIGHT}\n255\n".encode()
PGM_TEXT = PGM.replace(b"P5", b"P2") + " ".join(map(str, PICTURE.ravel())).encode() + b"\n"
SERIES = {
    "TIFF": (series("TIFF"), "RGB, converted to grey, first of 3 pages"),
    "PNG": (series("PNG"), "RGB, converted to grey, first of 3 frames"),
    "WebP": (series("WEBP", lossless=True), "RGB, converted to grey, first of 3 frames"),
    "MPO": (series("MPO", quality=95), "RGB, converted to grey, first of 3 frames"),
    "deep TIFF": (
        tiff(PICTURE.astype(np.uint16) * 257, 16, 1, pages=3),
        "more than 8 bits, stretched to 8, first of 3 pages",
    ),
    "TIFF of 64 bits": (
        tiff(deepen(PICTURE, "u8"), 64, 1, pages=1001),
        "more than 8 bits, stretched to 8, first of more than 1,000 pages",
    ),
    "slices in one page": (tiff(PICTURE, 8, 1, more={32997: (4, [7])}), "first of 7 slices"),
    "PGM": (2 * (PGM + PICTURE.tobytes()), "first of several pictures"),
    "PGM of 16 bits": (
        2 * (PGM.replace(b"255", b"65535") + PICTURE.astype(">u2").tobytes()),
        "more than 8 bits, stretched to 8, first of several pictures",
    ),
    "PGM of 9 bits": (
        2 * (PGM.replace(b"255", b"511") + PICTURE.astype(">u2").tobytes()),
        "more than 8 bits, stretched to 8, first of several pictures",
    ),
    "PGM in text": (2 * PGM_TEXT, "first of several pictures"),
    "one PGM": (PGM + PICTURE.tobytes() + b"\n", ""),
}


@pytest.mark.parametrize("name", SERIES)
def test_the_first_of_several_is_read_and_the_others_are_named(name):
    data, said = SERIES[name]
    image, remark = decode(data)
    assert np.abs(image - PICTURE.astype(float)).max() <= (JPEG_LOSS if name == "MPO" else ROUNDED)
    assert remark.replace("RGBA,", "RGB,") == said


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint64])
def test_a_thumbnail_before_the_picture_is_passed_over(dtype):
    import tifffile

    thumbnail, picture = deepen(PICTURE[::4, ::4], dtype), deepen(PICTURE, dtype)
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=dtype == np.uint16) as writer:
        writer.write(thumbnail, subfiletype=1, metadata=None)
        writer.write(picture, metadata=None)
    image, remark = decode(file.getvalue())
    assert np.abs(image - PICTURE.astype(float)).max() <= ROUNDED
    assert remark.endswith("first of 2 pages")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_within_the_page_of_its_thumbnail(dtype):
    """In a SubIFD, as raw converters write it; smaller versions there are passed over."""
    import tifffile

    thumbnail, picture = deepen(PICTURE[::4, ::4], dtype), deepen(PICTURE, dtype)
    for first, inner, subfile in ((thumbnail, picture, (1, 0)), (picture, thumbnail, (0, 1))):
        file = io.BytesIO()
        with tifffile.TiffWriter(file) as writer:
            writer.write(first, subifds=1, subfiletype=subfile[0], metadata=None)
            writer.write(inner, subfiletype=subfile[1], metadata=None)
        assert np.abs(decode(file.getvalue()).image - PICTURE.astype(float)).max() <= ROUNDED


def test_slices_behind_one_page_are_named():
    """As ImageJ writes stacks beyond 4 GB."""
    import tifffile

    file = io.BytesIO()
    described = "ImageJ=1.53\nimages=12\nslices=12\n"
    tifffile.imwrite(file, PICTURE, description=described, metadata=None)
    assert decode(file.getvalue()).remark == "first of 12 slices"


FLAT = "pixels are not square, shown as if they were"
DENSITY = {
    "PNG": png(PICTURE, 8, 0, (b"pHYs", struct.pack(">IIB", 204, 98, 0))),
    "JPEG": saved(PICTURE, "JPEG", quality=95, dpi=(204, 98)),
    "TIFF": saved(PICTURE, "TIFF", dpi=(204, 98)),
    "deep TIFF": saved(PICTURE.astype(np.uint16), "TIFF", dpi=(204, 98)),
    "BMP": saved(PICTURE, "BMP", dpi=(204, 98)),
}


@pytest.mark.parametrize("name", DENSITY)
def test_pixels_that_are_not_square_are_named(name):
    assert decode(DENSITY[name]).remark.endswith(FLAT)


@pytest.mark.parametrize("dpi", [(300, 300), (300, 299), (0, 0)])
def test_square_pixels_have_no_remark(dpi):
    for kind in ("PNG", "JPEG", "TIFF", "BMP"):
        assert decode(saved(PICTURE, kind, dpi=dpi)).remark == ""


# Dead pixels, borders


@pytest.mark.parametrize("value", [0, 65535])
def test_borders_and_dead_pixels_in_a_deep_picture(value):
    deep = PICTURE.astype(np.uint16) * 10 + 4000
    damaged = np.pad(deep, 5, constant_values=value)
    damaged[[20, 50, 61], [30, 11, 44]] = 65535 - value
    dead = damaged[5:-5, 5:-5] != deep
    for data in (saved(damaged, "PNG"), saved(damaged, "TIFF"), saved(damaged, "JPEG2000")):
        image = decode(data).image
        assert np.abs(image[5:-5, 5:-5] - PICTURE.astype(float))[~dead].max() <= ROUNDED


@pytest.mark.parametrize("level", [300, 9000])
@pytest.mark.parametrize("noise", [2, 15])
@pytest.mark.parametrize("sides", [((6, 6), (6, 6)), ((0, 9), (0, 0))])
def test_a_noisy_border_in_a_deep_picture(level, noise, sides):
    deep = PICTURE.astype(np.uint16) * 10 + 4000
    framed = np.pad(deep, sides, constant_values=0)
    border = framed == 0
    framed[border] = np.random.default_rng(0).normal(level, noise, border.sum()).round()
    for data in (saved(framed, "PNG"), saved(framed.astype(np.float32), "TIFF")):
        image = decode(data).image
        assert np.abs(image[~border] - PICTURE.astype(float).ravel()).max() <= ROUNDED
        assert set(image[border]) == {0 if level < 4000 else 255}


def test_noisy_air_that_a_picture_fades_into_keeps_its_place():
    y, x = np.mgrid[:120, :100]
    object_ = 2500 / (1 + np.exp((np.hypot(x - 50, y - 60) - 30) / 4))
    air = np.random.default_rng(0).normal(3900, 12, object_.shape)
    deep = (air - object_).round().astype(np.uint16)
    expected = 255 * (deep.astype(float) - deep.min()) / (int(deep.max()) - deep.min())
    assert np.abs(decode(saved(deep, "PNG")).image - expected).max() <= 2


def test_a_border_in_floats_that_is_no_number():
    deep = np.pad(PICTURE.astype(np.float32), 5, constant_values=np.nan)
    deep[0, 0] = np.inf
    image, remark = decode(saved(deep, "TIFF"))
    assert np.abs(image[5:-5, 5:-5] - PICTURE.astype(float)).max() <= ROUNDED
    assert not image[:5].ravel()[1:].any()
    assert "grey values are no finite numbers" in remark


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_whole_range_of_floats(dtype):
    largest, smallest = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    for values in (
        (PICTURE / 255.0 - 0.5) * 2 * float(largest),
        PICTURE * float(smallest),
    ):
        data = tiff(values.astype(dtype), 8 * np.dtype(dtype).itemsize, 1, kind=3)
        assert np.abs(decode(data).image - PICTURE.astype(float)).max() <= ROUNDED


# What is refused, and why

JPEG = saved(PICTURE, "JPEG")
DEPTH = JPEG.index(b"\xff\xc0") + 4
NAMED = {
    "GIF": (saved(PICTURE, "GIF"), "a GIF, which is not read"),
    "AVIF": (b"\0\0\0\x20ftypavif" + bytes(50), "a HEIF, AVIF or video, which is not read"),
    "JPEG of 12 bits": (
        JPEG[:DEPTH] + b"\x0c" + JPEG[DEPTH + 1 :],
        "JPEG of 12 bits, which is not read",
    ),
    "JPEG-LS": (b"\xff\xd8\xff\xf7\0\x0b\x0c" + bytes(20), "JPEG-LS, which is not read"),
    "JPEG-LS with a SPIFF header": (
        b"\xff\xd8\xff\xe8\0\x20SPIFF\0" + bytes(24) + b"\xff\xf7\0\x0b\x0c" + bytes(20),
        "JPEG-LS, which is not read",
    ),
    "TIFF of floats of 24 bits": (
        tiff(np.zeros((HEIGHT, WIDTH), np.uint32), 24, 1, kind=3),
        "TIFF with 1 sample of 24 bits, float, photometric 1, which is not read",
    ),
    "complex TIFF": (
        tiff(PICTURE.astype(np.uint32), 32, 1, kind=6),
        "TIFF with 1 sample of 32 bits, of another format, photometric 1, which is not read",
    ),
    "scans": (
        JPEG[:-2] + b"\xff\xda\0\2" * 300 + JPEG[-2:],
        "a JPEG of 301 scans, which is not read",
    ),
    "colour masks": (
        struct.pack(
            "<2sIIIIiiHHIIiiII", b"BM", 66 + 256, 0, 66, 40, 8, 8, 1, 32, 3, 256, 0, 0, 0, 0
        )
        + struct.pack("<III", 0x3FF, 0xFFC00, 0x3FF00000)
        + bytes(256),
        "a BMP of unusual colour masks or compression, which is not read",
    ),
    "PAM": (b"P7\nWIDTH 8\n", "a PAM file, which is not read"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "a MATLAB or HDF5 file, which is not read"),
    "Git LFS": (b"version https://git-lfs.github.com/", "a Git LFS pointer, which is not read"),
    "tar": (bytes(257) + b"ustar", "a tar file, which is not read"),
    "start of a PNG": (saved(PICTURE, "PNG")[:30], "damaged"),
    "start of a JPEG": (JPEG[:18], "damaged"),
    "text": (b"no picture at all", "not an image"),
    "text PGM": (b"P2\n9000 9000\n255\n" + b"1 " * 99, "9000 x 9000 pixels in text, too large"),
}


@pytest.mark.parametrize("name", NAMED)
def test_the_true_reason(name):
    data, reason = NAMED[name]
    assert decode(data) == (None, reason)


def test_a_damaged_fax_is_refused_in_silence(capfd):
    bits = np.random.default_rng(0).integers(0, 2, (200, 160)).astype(bool)
    whole = saved(Image.fromarray(bits), "TIFF", compression="group4")
    assert np.array_equal(decode(whole).image, bits * np.uint8(255))
    for place in range(100, 2000, 400):
        damaged = bytearray(whole)
        damaged[place : place + 3] = b"\0\0\0"
        image, remark = decode(bytes(damaged))
        assert image is None, place
        assert remark == "damaged"
    assert decode(whole).image is not None  # what was heard before does not count
    assert capfd.readouterr() == ("", "")


def test_too_little_memory_is_said(monkeypatch):
    def load(self):
        raise MemoryError

    data = saved(PICTURE, "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert decode(data) == (None, "too little memory to read it")


# Memory: the header decides, before a pixel is decoded

LARGE = {
    "png colour 16": png([b""], 16, 2, size=(8000, 8000)),
    "png float-like grey": png([b""], 16, 0, size=(10_001, 10_000)),
    "tiff f8": tiff(np.zeros((2, 2)), 64, 1, kind=3, more={256: (4, [9000]), 257: (4, [9000])}),
    "tiff u2 colour": tiff(
        np.zeros((2, 2, 4), np.uint16), 16, 2, extra=2, more={256: (4, [9000]), 257: (4, [9000])}
    ),
    "ppm": b"P6\n9999 9999\n4095\n",
    "bmp": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_header_that_asks_for_too_much(name, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    monkeypatch.setattr("cv2.imdecode", None)
    image, remark = decode(LARGE[name])
    assert image is None
    assert "too large" in remark or "would take more than 1 GB" in remark or "100,000,000" in remark


@pytest.mark.parametrize(
    ("kind", "allowed"), [("I;16", "BYTES_PER_PIXEL['I;16']"), ("RGB", "DEEP_COLOUR_BYTES")]
)
def test_memory_stays_within_what_is_counted(tmp_path, kind, allowed):
    side = 2500
    grey = np.tile(np.arange(250, dtype=np.uint16) * 200, (side, side // 250))
    file = tmp_path / "large.png"
    file.write_bytes(
        cv2.imencode(".png", grey if kind == "I;16" else np.dstack([grey] * 3))[1].tobytes()
    )
    code = (
        "import resource, sys, cv2; from cbir_lib.images import decoding;"
        "data = open(sys.argv[1], 'rb').read();"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024;"
        "before = used(); image = decoding.decode(data).image; assert image.shape == (2500, 2500);"
        # Once, whatever the size: the bands that are computed at a time.
        f"assert used() - before < image.size * decoding.{allowed} + 60_000_000, used() - before"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# Any bytes


def mutated(data, rng):
    """A copy with one of the usual faults: cut, flipped, overwritten at its head, moved."""
    file = bytearray(data)
    kind = rng.integers(4)
    if kind == 0:
        del file[rng.integers(len(file)) :]
    elif kind == 1:
        for place in rng.integers(len(file), size=rng.integers(1, 6)):
            file[place] = rng.integers(256)
    elif kind == 2:
        for place in rng.integers(min(200, len(file)), size=rng.integers(1, 6)):
            file[place] = rng.choice([0, 1, 127, 128, 255])
    else:
        place = rng.integers(len(file))
        file[place : place + rng.integers(20)] = rng.bytes(rng.integers(20))
    return bytes(file)


def test_500_mutated_files_of_every_kind_are_an_image_or_refused(capfd):
    rng = np.random.default_rng(15)
    for round_ in range(500 // len(MATRIX) + 1):
        for name, (data, _, _) in MATRIX.items():
            started = time.process_time()
            image, remark = decode(mutated(data, rng))
            assert time.process_time() - started < 5, (round_, name)
            if image is None:
                assert remark, (round_, name)
            else:
                assert image.dtype == np.uint8
                assert image.ndim == 2
    assert capfd.readouterr() == ("", "")


# By retrieval: a changed copy finds its original first


def radiograph(number):
    """A smooth picture of its own, of 80 x 80 pixels, from 0 to 255."""
    rng = np.random.default_rng(number)
    field = cv2.resize(rng.random((6, 6)), (80, 80), interpolation=cv2.INTER_CUBIC)
    return np.rint((field - field.min()) / (field.max() - field.min()) * 255).astype(np.uint8)


def copies(picture):
    """The same picture as files that say in another way how it is to be shown."""
    exif = Image.Exif()
    exif[274] = 6
    turned = as_stored(picture, 6)
    deep = picture.astype(np.uint16) * 16
    dead = deep.copy()
    dead[40, 40] = 65535
    yield saved(turned, "JPEG", exif=exif)
    yield saved(turned, "PNG", exif=exif)
    yield saved(Image.fromarray(turned).convert("RGB"), "WEBP", exif=exif)
    yield saved(dead, "PNG")
    yield saved(np.pad(deep, 3, constant_values=65535), "TIFF")
    yield saved(np.pad(picture.astype(np.float32), 3, constant_values=np.nan), "TIFF")
    yield cv2.imencode(".png", np.dstack([deep] * 3))[1].tobytes()


def test_a_changed_copy_finds_its_original_first():
    originals = [radiograph(number) for number in range(20)]
    gallery = np.stack([fit_to_square(original, 32).ravel() for original in originals]).astype(
        float
    )
    for number, original in enumerate(originals):
        for way, data in enumerate(copies(original)):
            query = fit_to_square(decode(data).image, 32).ravel()
            distances = ((gallery - query) ** 2).sum(axis=1)
            assert distances.argmin() == number, way


def test_what_follows_a_jpeg_is_not_counted_as_its_scans():
    """Phones append a video, in which any two bytes occur."""
    image, remark = decode(JPEG + b"\xff\xda" * 1000)
    np.testing.assert_array_equal(image, decode(JPEG).image)
    assert remark == decode(JPEG).remark

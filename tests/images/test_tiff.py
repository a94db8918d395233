"""TIFF files that ask for more than their pictures take, or say too little about them."""

import io
import lzma
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from cbir_lib.images.decoding import decode

SIDE = 64
GREY = np.add.outer(np.arange(SIDE) * 2, np.arange(SIDE) * 2).astype(np.uint8)
RNG = np.random.default_rng(0)
LETTERS = {"B": 1, "H": 3, "I": 4}


def tiff(parts, bits=8, *, samples=1, kind=1, order="<", **tags):
    """A TIFF of strips or tiles that are compressed already; more tags as ``t322=("I", [64])``."""
    parts = list(parts)
    entries = {
        256: ("I", [SIDE]),
        257: ("I", [SIDE]),
        258: ("H", [bits] * samples),
        259: ("H", [8]),
        262: ("H", [2 if samples == 3 else 1]),
        277: ("H", [samples]),
        278: ("I", [SIDE]),
        339: ("H", [kind] * samples),
    }
    entries |= {int(name[1:]): value for name, value in tags.items()}
    starts = [8 + sum(map(len, parts[:number])) for number in range(len(parts))]
    tiled = 322 in entries
    entries[324 if tiled else 273] = "I", starts
    entries[325 if tiled else 279] = "I", list(map(len, parts))
    entries = {tag: value for tag, value in entries.items() if value is not None}
    body = b"".join(parts)
    body += bytes(len(body) % 2)
    place = 8 + len(body)
    more, fields = b"", b""
    for tag, (letter, values) in sorted(entries.items()):
        value = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(value) > 4:
            at = place + 2 + 12 * len(entries) + 4 + len(more)
            more += value + bytes(len(value) % 2)
            value = struct.pack(order + "I", at)
        head = struct.pack(order + "HHI", tag, LETTERS[letter], len(values))
        fields += head + value.ljust(4, b"\0")
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place)
    return start + body + struct.pack(order + "H", len(entries)) + fields + bytes(4) + more


def run_lengths(data):
    """PackBits, of runs alone."""
    return b"".join(bytes([0, value]) for value in data)


# What is decompressed


@pytest.mark.parametrize(
    ("bits", "samples", "kind"), [(1, 1, 1), (8, 3, 1), (16, 1, 1), (32, 1, 3)]
)
def test_a_tile_far_larger_than_its_picture_is_refused(bits, samples, kind, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    monkeypatch.setattr("cv2.imdecode", None)
    tile = zlib.compress(bytes(1000))
    data = tiff(
        [tile], bits, samples=samples, kind=kind, t322=("I", [46_000]), t323=("I", [46_000])
    )
    assert decode(data) == (None, "tiles of 46000 x 46000 pixels, too large")
    data = tiff([tile], bits, samples=samples, kind=kind, t322=("I", [9000]), t323=("I", [9000]))
    if bits == 32:
        assert "would take more than 1 GB" in decode(data).remark


def test_a_tile_that_is_larger_than_its_picture_is_read():
    padded = np.pad(GREY, ((0, 64), (0, 192)))
    data = tiff([zlib.compress(padded.tobytes())], t322=("I", [256]), t323=("I", [128]))
    assert np.array_equal(decode(data).image, GREY)


HALF = GREY.astype("<f2")
SIGNED = GREY.astype(np.int16) - 128
COLOUR = np.stack([GREY] * 3).astype("<u2") * 257
# The parts of the picture, and what the tags say of them.
INFLATED = {
    "half floats": ([HALF], {"bits": 16, "kind": 3}),
    "signed bytes": ([SIGNED.astype(np.int8)], {"kind": 2}),
    "planes": (list(COLOUR), {"bits": 16, "samples": 3, "t284": ("H", [2])}),
    "strips": ([HALF[:40], HALF[40:]], {"bits": 16, "kind": 3, "t278": ("I", [40])}),
    "tiles": (
        [HALF[:, :32], HALF[:, 32:]],
        {"bits": 16, "kind": 3, "t322": ("I", [32]), "t323": ("I", [64])},
    ),
}


@pytest.mark.parametrize("name", INFLATED)
def test_no_more_is_inflated_than_strips_and_tiles_can_hold(name):
    parts, tags = INFLATED[name]
    parts = [np.ascontiguousarray(part).tobytes() for part in parts]
    for number, compress in ((8, zlib.compress), (34925, lzma.compress), (32773, run_lengths)):
        image, _ = decode(tiff(map(compress, parts), t259=("H", [number]), **tags))
        assert np.abs(image - GREY * (255 / int(GREY.max()))).max() <= 1
    bomb = zlib.compress(parts[-1] + bytes(100_000_000))
    data = tiff([*map(zlib.compress, parts[:-1]), bomb], **tags)
    tracemalloc.start()
    assert decode(data) == (None, "damaged")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10_000_000
    packed = run_lengths(parts[-1]) + b"\x81\0" * 1_000_000
    data = tiff([*map(run_lengths, parts[:-1]), packed], t259=("H", [32773]), **tags)
    assert decode(data) == (None, "damaged")


# What the tags say wrongly, or do not say


@pytest.mark.parametrize("used", [8, 12, 16])
def test_a_palette_takes_the_bits_that_its_values_take(used):
    greys = np.rint(np.arange(256)[::-1] * ((2**used - 1) / 255)).astype(int).tolist()
    tags = {"t262": ("H", [3]), "t320": ("H", greys * 3)}
    for compression, data in ((1, GREY.tobytes()), (8, zlib.compress(GREY.tobytes()))):
        image, remark = decode(tiff([data], t259=("H", [compression]), **tags))
        assert np.abs(image - (255.0 - GREY)).max() <= 1
        doubt = f", palette of 16 bits taken as {used}, as its values are" * (used < 16)
        assert remark == f"P, converted to grey{doubt}"


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16, 32])
@pytest.mark.parametrize("order", "<>")
def test_black_is_zero_where_the_tags_do_not_say(bits, order):
    numbers = GREY.astype(np.uint64) * (2**bits - 1) // 255
    most = int(numbers.max())
    places = np.arange(bits - 1, -1, -1, dtype=np.uint64)
    rows = np.packbits(
        (numbers[..., None] >> places & np.uint64(1)).astype(np.uint8).reshape(SIDE, -1), axis=1
    )
    data = numbers.astype(f"{order}u{bits // 8}") if bits in (16, 32) else rows
    look = numbers.astype(float) * (255 / (most if bits > 8 else 2**bits - 1))
    for compression, compress in ((1, bytes), (8, zlib.compress))[: 1 if bits == 12 else 2]:
        part = compress(data.tobytes())
        image, remark = decode(
            tiff([part], bits, order=order, t262=None, t259=("H", [compression]))
        )
        assert np.abs(image - look).max() <= 1
        assert remark.endswith("PhotometricInterpretation missing, taken as black is zero")


def test_white_is_zero_in_a_fax_whose_tags_do_not_say():
    bits = np.random.default_rng(0).integers(0, 2, (SIDE, SIDE)).astype(bool)
    file = io.BytesIO()
    Image.fromarray(bits).save(file, "TIFF", compression="group4", tiffinfo={262: 0})
    whole = file.getvalue()
    tag = struct.pack("<HHI", 262, 3, 1)
    assert whole.count(tag) == 1
    without = whole.replace(tag, struct.pack("<HHI", 261, 3, 1))
    assert np.array_equal(decode(without).image, decode(whole).image)
    assert decode(without).remark.endswith("missing, taken as white is zero")


def test_many_pages_that_share_a_long_directory_are_searched_in_no_time():
    """16 thumbnails, each with 16 SubIFDs that are all the same page of 30,000 tags."""
    entries = [(254, 1), (256, SIDE), (257, SIDE), (258, 8), (262, 1), (273, 8), (279, SIDE**2)]
    long_page = entries + [(tag, 7) for tag in range(33_000, 63_000)]
    place = 8 + SIDE**2

    def directory(numbers, more=(), following=0):
        fields = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in numbers] + list(more)
        return struct.pack("<H", len(fields)) + b"".join(fields) + struct.pack("<I", following)

    body = directory(long_page)
    links = place + len(body)
    body += struct.pack("<16I", *[place] * 16)
    first = place + len(body)
    for page in range(16):
        link = struct.pack("<HHII", 330, 4, 16, links)
        length = len(directory(entries, [link]))
        body += directory(entries, [link], place + len(body) + length if page < 15 else 0)
    started = time.process_time()
    image, remark = decode(b"II*\0" + struct.pack("<I", first) + GREY.tobytes() + body)
    assert time.process_time() - started < 5
    assert np.array_equal(image, GREY)
    assert remark == "first of 16 pages"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (34712, "compressed as JPEG 2000"),
        (50002, "compressed as JPEG XL"),
        (34887, "compressed as LERC"),
        (50001, "compressed as WebP"),
        (65111, "of compression 65111"),
    ],
)
@pytest.mark.parametrize(("bits", "kind"), [(8, 1), (16, 2), (32, 3)])
def test_a_compression_that_is_not_read_is_named(number, said, bits, kind):
    data = tiff([b"compressed"], bits, kind=kind, t259=("H", [number]))
    assert decode(data) == (None, f"TIFF {said}, which is not read")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize(
    ("bits", "kind", "more", "alpha"),
    [
        (16, 1, (0, 0), None),
        (16, 2, (0, 0), None),
        (16, 1, (0, 2), 2),
        (16, 1, None, None),
        (32, 1, (0, 0, 0), None),
        (32, 3, (2, 0), 1),
    ],
)
def test_the_first_of_several_samples_is_the_grey_value(
    bits, kind, more, alpha, photometric, order
):
    """As GDAL writes bands; they are not colours."""
    count = 3 if more is None else 1 + len(more)
    dtype = np.dtype(f"{order}{'?uif'[kind]}{bits // 8}")
    samples = np.zeros((SIDE, SIDE, count), dtype)
    samples[..., 0] = GREY.astype(float) * 100
    samples[..., 1:] = RNG.integers(0, 100, (SIDE, SIDE, count - 1))
    if alpha:
        samples[..., alpha] = np.iinfo(dtype).max if kind == 1 else 1
    tags = {"t262": ("H", [photometric]), "t338": more and ("H", list(more))}
    data = tiff(
        [zlib.compress(samples.tobytes())], bits, samples=count, kind=kind, order=order, **tags
    )
    image, remark = decode(data)
    expected = GREY * (255 / GREY.max())
    assert np.abs(image - (255 - expected if photometric == 0 else expected)).max() < 1
    assert remark.endswith(f"stretched to 8, first of {count} samples")


def test_uncompressed_ycbcr_of_fewer_colours_is_refused():
    """Pillow reads on into what follows."""
    subsampled = np.full(SIDE * SIDE * 3 // 2, 128, np.uint8).tobytes()
    tags = {"t262": ("H", [6]), "t259": ("H", [1]), "t530": ("H", [2, 2])}
    for rest in (b"", bytes(2 * len(subsampled))):
        data = tiff([subsampled], samples=3, **tags) + rest
        image, remark = decode(data)
        assert image is None
        assert remark == (
            "TIFF with uncompressed YCbCr of fewer colours than pixels, which is not read"
        )
    whole = np.dstack([GREY, np.full((SIDE, SIDE, 2), 128, np.uint8)]).tobytes()
    tags["t530"] = "H", [1, 1]
    image, remark = decode(tiff([whole], samples=3, **tags))
    assert np.array_equal(image, GREY)


def test_a_big_endian_bigtiff_is_named():
    file = io.BytesIO()
    tifffile.imwrite(file, GREY, bigtiff=True, byteorder=">", metadata=None)
    assert decode(file.getvalue()) == (None, "big-endian BigTIFF, which is not read")

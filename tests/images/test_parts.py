"""Files of a great many parts, each of them empty: what reads them makes an object of each."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from cbir_lib.images import dicom, jpeg, parts, tiff
from cbir_lib.images.decoding import decode
from tests.images.test_dicom import header, write

FEW = 3000  # parts, in place of MOST_PARTS
PICTURE = np.random.default_rng(0).integers(0, 256, (24, 32), dtype=np.uint8)
UNDEFINED = 0xFFFFFFFF


@pytest.fixture
def few(monkeypatch):
    for module in (dicom, jpeg, parts, tiff):
        monkeypatch.setattr(module, "MOST_PARTS", FEW)


def save(kind, **options):
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, kind, **options)
    return file.getvalue()


def make_dicom(between=b"", bits=8):
    """A DICOM file with implicit VRs, and ``between`` its header and its pixels."""
    pixels = PICTURE.astype(f"<u{bits // 8}")
    whole = write(header(pixels, PixelData=None), ImplicitVRLittleEndian)
    return whole + between + tag(0x7FE0, 0x10, pixels.nbytes) + pixels.tobytes()


def tag(group, element, length=0):
    return struct.pack("<HHI", group, element, length)


def in_png(count):
    kind = b"prVt"
    chunk = struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))
    data = save("PNG")
    return data[:33] + chunk * count + data[33:]


def in_jpeg(part):
    def make(count):
        data = save("JPEG", quality=95)
        return data[:2] + part * count + data[2:]

    return make


def in_jpeg_scan(count):
    data = save("JPEG", quality=95)
    start = data.index(b"\xff\xda") + 20
    return data[:start] + b"\xff\xe0\0\2" * count + data[start:]


def in_jpeg_2000(count):
    data = save("JPEG2000")
    after = 12 + int.from_bytes(data[12:16], "big")
    return data[:after] + (struct.pack(">I", 8) + b"free") * count + data[after:]


def in_jpeg_2000_header(count):
    data = save("JPEG2000")
    start = data.index(b"jp2h") - 4
    size = int.from_bytes(data[start : start + 4], "big")
    count *= 200  # it is refused by its length
    longer = struct.pack(">I", size + 8 * count) + data[start + 4 : start + size]
    free = (struct.pack(">I", 8) + b"free") * count
    return data[:start] + longer + free + data[start + size :]


def in_pgm(count):
    return b"P5\n" + b"#\n" * count + b"32 24\n255\n" + PICTURE.tobytes()


def in_tiff(count):
    """As many strips as numbers in a tag, though the picture has one."""
    at = 8 + PICTURE.size
    tags = [(256, 4, 1, 32), (257, 4, 1, 24), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, count, at), (278, 4, 1, 24), (279, 4, count, at + 4 * count)]
    offsets, sizes = np.full(count, 8, "<u4"), np.full(count, PICTURE.size, "<u4")
    entries = b"".join(struct.pack("<HHII", *entry) for entry in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    start = struct.pack("<I", at + 8 * count)
    return b"II*\0" + start + PICTURE.tobytes() + offsets.tobytes() + sizes.tobytes() + directory


def in_exif(count):
    numbers = np.full(count, 6, "<u2").tobytes()
    exif = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x112, 3, count, 26) + bytes(4) + numbers
    return save("PNG", exif=exif)


def in_dicom(count):
    places = [divmod(number, 65536) for number in range(count)]
    return make_dicom(b"".join(tag(0x1001 + 2 * group, element) for group, element in places))


def in_dicom_meta(count):
    """Elements of the group that says how the file is encoded."""
    data = save_dicom_jpeg()
    elements = b"".join(struct.pack("<HH2sH", 2, 0x200 + n, b"LO", 0) for n in range(count))
    return data[:132] + data[132 : 132 + 12] + elements + data[144:]


def in_dicom_sequence(count):
    items = tag(0xFFFE, 0xE000) * count + tag(0xFFFE, 0xE0DD)
    return make_dicom(tag(0x1001, 0x10, UNDEFINED) + items)


def in_dicom_groups(count):
    items = tag(0xFFFE, 0xE000) * count
    return make_dicom(tag(0x5200, 0x9230, len(items)) + items)


def in_dicom_lut(count):
    items = tag(0xFFFE, 0xE000) * count
    return make_dicom(tag(0x0028, 0x3010, len(items)) + items)


def save_dicom_jpeg(table=0, fragments=0):
    """A DICOM file with a JPEG: a table of so many offsets before, empty fragments behind it."""
    ds = header(PICTURE)
    whole = encapsulate([save("JPEG", quality=95)], has_bot=False)
    offsets = tag(0xFFFE, 0xE000, 4 * table) + bytes(4 * table)
    ds.PixelData = offsets + whole[8:] + tag(0xFFFE, 0xE000) * fragments
    ds["PixelData"].is_undefined_length = True
    return write(ds, JPEGBaseline8Bit)


# How each is made, and with how many parts it is read.
MADE = {
    "PNG": (in_png, 100),
    "JPEG": (in_jpeg(b"\xff\xe5\0\2"), 100),
    "JPEG, filled": (in_jpeg(b"\xff"), 100),
    "JPEG, in the scan": (in_jpeg_scan, 0),
    "JPEG 2000": (in_jpeg_2000, 100),
    "JPEG 2000, header": (in_jpeg_2000_header, 1),
    "PGM": (in_pgm, 100),
    "TIFF": (in_tiff, 2),
    "EXIF": (in_exif, 3),
    "DICOM": (in_dicom, 100),
    "DICOM, meta": (in_dicom_meta, 100),
    "DICOM, sequence": (in_dicom_sequence, 100),
    "DICOM, groups": (in_dicom_groups, 100),
    "DICOM, LUT": (in_dicom_lut, 0),
    "DICOM, offsets": (lambda count: save_dicom_jpeg(table=count), 1),
    "DICOM, fragments": (lambda count: save_dicom_jpeg(fragments=count), 0),
}


@pytest.mark.parametrize("name", MADE)
def test_more_parts_than_any_radiograph_has_are_refused(name, few):
    make, several = MADE[name]
    assert decode(make(FEW + 1)) == (None, parts.TOO_MANY_PARTS)
    image, _ = decode(make(several))
    upright = np.rot90(PICTURE, -1) if name == "EXIF" else PICTURE
    lossy = "JPEG" in name or name in ("DICOM, meta", "DICOM, offsets", "DICOM, fragments")
    np.testing.assert_allclose(image, upright, atol=25 if lossy else 0)


def test_elements_longer_than_a_lut_are_not_read_unless_they_are_pixels(few):
    numbers = b"1\\" * 70_000
    window = b"".join(tag(0x0028, n, len(numbers)) + numbers for n in (0x1050, 0x1051))
    image, remark = decode(make_dicom(window))
    np.testing.assert_array_equal(image, PICTURE)
    assert "window" not in remark
    private = tag(0x0029, 0x1010, 2**18) + bytes(2**18)
    np.testing.assert_array_equal(decode(make_dicom(private)).image, PICTURE)


def test_a_tag_of_more_numbers_than_the_file_can_hold_is_passed_over():
    data = save("TIFF")
    start = int.from_bytes(data[4:8], "little")
    (entries,) = struct.unpack_from("<H", data, start)
    kept = data[start + 2 : start + 2 + 12 * entries]
    broken = struct.pack("<HHII", 40_000, 4, 2**31, 8)
    directory = struct.pack("<H", entries + 1) + kept + broken + bytes(4)
    moved = data[:4] + struct.pack("<I", len(data)) + data[8:] + directory
    np.testing.assert_array_equal(decode(moved).image, PICTURE)


@pytest.mark.parametrize(
    "rest", [b"", b"\0", b"\0\0", b"\1\0", b"\1\0\x12\1\3\0\1\0\0\0\6"], ids=bytes.hex
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_that_is_cut_off_hides_no_picture(kind, rest):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = save(kind, exif=b"II*\0\x08\0\0\0" + rest, **options)
    np.testing.assert_array_equal(decode(data).image, PICTURE)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("outer", ["VOILUTSequence", "ModalityLUTSequence"])
def test_the_longest_lut_is_applied(syntax, outer):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [0, 0, 16])  # 0 says 65,536 entries
    item.add_new("LUTData", "OW", np.arange(65536, dtype="<u2")[::-1].tobytes())  # inverts
    values = np.linspace(0, 65535, PICTURE.size).astype("<u2").reshape(PICTURE.shape)
    image, remark = decode(write(header(values, **{outer: [item, item]}), syntax))
    expected = 255 - np.linspace(0, 255, PICTURE.size).reshape(PICTURE.shape)
    assert "faulty" not in remark
    if outer == "ModalityLUTSequence":  # then it is stretched between its limits
        assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.999
    else:
        np.testing.assert_allclose(image, expected, atol=1)


@given(st.binary(max_size=40).map(lambda tail: b"\xff\xd8" + tail.replace(b"\x55", b"\xff")))
def test_the_end_of_a_jpeg_is_where_the_markers_lead(data):
    place, end = 2, -1
    while place + 1 < len(data) and end < 0:
        code = data[place + 1]
        if data[place] != 0xFF or code in (0, 0xFF):
            place += 1
        elif code in (1, *range(0xD0, 0xD9)):
            place += 2
        else:
            end = place + 2 if code == 0xD9 else -1
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    assert jpeg.find_end(data) == end


MEASURE = """
import struct, sys
from PIL import Image
from cbir_lib.images.decoding import decode
from tests.images import test_parts as made
decode(made.in_png(1)), decode(made.in_dicom(1))  # loads what they need
for name, count in (("JPEG", 12_000_000), ("PNG", 4_000_000), ("TIFF", 6_000_000),
                    ("EXIF", 40_000_000), ("DICOM, offsets", 30_000_000)):
    data = made.MADE[name][0](count)
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts again
    before = int(open("/proc/self/statm").read().split()[1]) * 4096
    assert decode(data).image is None, name
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(f"{name}: {(int(peak.split()[1]) * 1024 - before) / 1e6:.0f}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_millions_of_parts_take_less_than_1_gb():
    measured = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert measured.returncode == 0, measured.stderr
    peak_mb = dict(line.split(": ") for line in measured.stdout.splitlines())
    assert len(peak_mb) == 5 and max(map(float, peak_mb.values())) < 900, peak_mb

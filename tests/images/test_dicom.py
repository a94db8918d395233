import base64
import io
import struct
import subprocess
import sys
import time

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders import JPEGLSLosslessDecoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from cbir_lib.images import dicom
from cbir_lib.images.decoding import decode

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 10), dtype=np.uint8)
DEEP = RNG.integers(0, 4096, (12, 10), dtype=np.uint16)
COLOUR = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)
MPEG2 = UID("1.2.840.10008.1.2.4.100")


def header(pixels, stored=None, **elements):
    """A data set with these pixels; None among the elements removes one."""
    ds = Dataset()
    ds.Modality = "DX"
    ds.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = stored or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.add_new("PixelData", "OB" if pixels.dtype.itemsize == 1 else "OW", pixels.tobytes())
    for name, value in elements.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    return ds


def write(ds, syntax=ExplicitVRLittleEndian):
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3.4"
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def make(pixels, stored=None, syntax=ExplicitVRLittleEndian, **elements):
    return write(header(pixels, stored, **elements), syntax)


def lut(entries, first, bits, values):
    item = Dataset()
    item.LUTDescriptor = [entries, first, bits]
    item.add_new("LUTData", "OW", np.asarray(values, "<u2").tobytes())
    return [item]


def close(image, exact):
    assert image.dtype == np.uint8
    assert np.abs(image - np.clip(exact, 0, 255)).max() <= 0.5 + 1e-6


def stretched(values):
    values = values.astype(float)
    return (values - values.min()) * 255 / np.ptp(values)


# Grey values


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless]
)
def test_eight_bits_come_back_as_they_were(syntax):
    ds = header(GREY)
    if syntax == RLELossless:
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    elif syntax == JPEG2000Lossless:
        file = io.BytesIO()
        Image.fromarray(GREY).save(file, "JPEG2000", irreversible=False, no_jp2=True)
        ds.PixelData = encapsulate([file.getvalue()])
    image, remark = decode(write(ds, syntax))
    assert np.array_equal(image, GREY)
    assert remark == ""


def test_big_endian_and_odd_sizes():
    deep = DEEP[:11, :9]
    ds = header(deep)
    ds.PixelData = deep.astype(">u2").tobytes()
    image, _ = decode(write(ds, ExplicitVRBigEndian))
    close(image, stretched(deep))


@pytest.mark.parametrize(
    ("pixels", "stored"),
    [(DEEP, 12), (DEEP * 16, 16), (DEEP.astype(np.int16) - 2000, 16), (DEEP.astype(np.uint32), 32)],
    ids=["12 bit", "16 bit", "signed", "32 bit"],
)
def test_without_a_window_stretched_between_the_extremes(pixels, stored):
    image, remark = decode(make(pixels, stored))
    close(image, stretched(pixels))
    assert (image.min(), image.max()) == (0, 255)
    assert remark == "stretched to 8 bits"


def test_overlay_in_the_unused_bits_is_not_seen():
    assert np.array_equal(decode(make(DEEP | 0x8000, 12)).image, decode(make(DEEP, 12)).image)
    signed = (DEEP.astype(np.int16) - 2048) & 0x0FFF  # 12 bits, two's complement, nothing above
    image, _ = decode(make(signed, 12))
    close(image, stretched(DEEP))


def window(values, center, width):
    """PS3.3, C.11.2.1.2.1, pixel by pixel, with the output 0..255."""
    result = np.empty(values.shape)
    for place, x in np.ndenumerate(values):
        if x <= center - 0.5 - (width - 1) / 2:
            result[place] = 0
        elif x > center - 0.5 + (width - 1) / 2:
            result[place] = 255
        else:
            result[place] = ((x - (center - 0.5)) / (width - 1) + 0.5) * 255
    return result


@pytest.mark.parametrize("rescale", [(1, 0), (2.5, -1000), (-1, 4095)])
@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (1000, 500), (300, 2)])
def test_window(rescale, center, width):
    slope, intercept = rescale
    image, remark = decode(
        make(
            DEEP,
            12,
            RescaleSlope=slope,
            RescaleIntercept=intercept,
            WindowCenter=[center, 7],
            WindowWidth=[width, 9],
        )
    )
    close(image, window(DEEP * float(slope) + intercept, center, width))
    assert remark == "window applied, to 8 bits"


def test_other_window_functions():
    given_window = {"WindowCenter": 2000, "WindowWidth": 1000}
    image, _ = decode(make(DEEP, 12, VOILUTFunction="SIGMOID", **given_window))
    close(image, 255 / (1 + np.exp(-4 * (DEEP - 2000.0) / 1000)))
    image, _ = decode(make(DEEP, 12, VOILUTFunction="LINEAR_EXACT", **given_window))
    close(image, ((DEEP - 2000.0) / 1000 + 0.5) * 255)


@pytest.mark.parametrize(
    ("function", "said"), [("CUBIC", ", its function CUBIC is unknown, taken as LINEAR"), ("", "")]
)
def test_a_window_of_an_unknown_function_is_linear(function, said):
    elements = {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": function}
    image, remark = decode(make(DEEP, 12, **elements))
    close(image, window(DEEP, 2000, 1000))
    assert remark == f"window applied, to 8 bits{said}"


@pytest.mark.parametrize(
    ("element", "value", "slope", "intercept", "said"),
    [
        ("RescaleSlope", 2, 2, 0, "RescaleIntercept missing, taken as 0"),
        ("RescaleIntercept", -1024, 1, -1024, "RescaleSlope missing, taken as 1"),
    ],
)
def test_a_rescale_of_which_one_half_is_missing(element, value, slope, intercept, said):
    elements = {element: value, "WindowCenter": 1000, "WindowWidth": 2000}
    image, remark = decode(make(DEEP, 12, **elements))
    close(image, window(DEEP * float(slope) + intercept, 1000, 2000))
    assert remark == f"window applied, to 8 bits, {said}"


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_voi_lut_comes_before_the_window(bits):
    values = RNG.integers(0, 2**bits, 3000)
    image, remark = decode(
        make(DEEP, 12, VOILUTSequence=lut(3000, 500, bits, values), WindowCenter=1, WindowWidth=1)
    )
    close(image, values[np.clip(DEEP.astype(int) - 500, 0, 2999)] * 255 / (2**bits - 1))
    assert remark == "VOI LUT applied, to 8 bits"


@pytest.mark.parametrize(("used", "declared"), [(12, 16), (8, 16), (8, 12)])
def test_a_voi_lut_takes_the_bits_that_its_values_take(used, declared):
    values = np.arange(4096)[::-1] >> (12 - used)
    image, remark = decode(make(DEEP, 12, VOILUTSequence=lut(4096, 0, declared, values)))
    close(image, values[DEEP] * 255 / (2**used - 1))
    doubt = f"VOI LUT of {declared} bits taken as {used}, as its values are"
    assert remark == f"VOI LUT applied, to 8 bits, {doubt}"


@pytest.mark.parametrize("kind", ["signed", "rescaled", "signed, modality LUT"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_the_first_value_of_a_lut_has_the_sign_of_its_input(kind, syntax):
    """63488 in 16 bits is -2048 where the input is negative."""
    values = RNG.integers(0, 4096, 4096)
    values[0] = 4095
    table = lut(4096, 0, 12, values)
    table[0].add_new("LUTDescriptor", "US", [4096, 63488, 12])
    pixels, elements = DEEP.astype(np.int16) - 2048, {"VOILUTSequence": table}
    exact = values[DEEP] * 255 / 4095
    if kind == "rescaled":
        pixels, elements = DEEP, {"RescaleSlope": 1, "RescaleIntercept": -2048, **elements}
    elif "modality" in kind:
        elements, exact = {"ModalityLUTSequence": table}, stretched(values[DEEP])
    close(decode(make(pixels, 16, syntax, **elements)).image, exact)


def test_the_first_value_of_a_lut_stays_where_its_input_is_not_negative():
    values = np.arange(4096)[::-1]
    for kind, first in (("US", 61440), ("SS", -4096)):  # the same bits
        item = lut(4096, 0, 12, values)
        item[0].add_new("LUTDescriptor", kind, [4096, first, 12])
        image, _ = decode(make(DEEP + np.uint16(61440), VOILUTSequence=item))
        close(image, values[DEEP] * 255 / 4095)


def test_lut_of_bytes():
    values = RNG.integers(0, 256, 4096).astype(np.uint8)
    item = lut(4096, 0, 8, [])
    item[0].add_new("LUTData", "OW", values.tobytes())
    close(decode(make(DEEP, 12, VOILUTSequence=item)).image, values[DEEP])


def test_modality_lut_comes_before_the_window():
    values = RNG.integers(0, 65536, 4096)
    modality = {"ModalityLUTSequence": lut(4096, 0, 16, values)}
    image, _ = decode(make(DEEP, 12, WindowCenter=30_000, WindowWidth=20_000, **modality))
    close(image, window(values[DEEP], 30_000, 20_000))
    close(decode(make(DEEP, 12, **modality)).image, stretched(values[DEEP]))


FAULTY = {
    "narrow window": {"WindowCenter": 100, "WindowWidth": 0},
    "no rescale": {"RescaleSlope": 0, "RescaleIntercept": 5, "WindowCenter": 1, "WindowWidth": 9},
    "empty LUT": {"VOILUTSequence": lut(0, 0, 16, [])},
    "LUT without data": {"VOILUTSequence": [Dataset()]},
}


@pytest.mark.parametrize("elements", FAULTY.values(), ids=FAULTY)
def test_faulty_display_elements_are_set_aside(elements):
    image, remark = decode(make(DEEP, 12, **elements))
    close(image, stretched(DEEP))
    assert remark == "faulty window or LUT, stretched to 8 bits instead"


@pytest.mark.parametrize(
    "elements", [{}, {"WindowCenter": 2000, "WindowWidth": 900}], ids=["stretched", "window"]
)
def test_white_is_zero_is_inverted(elements):
    dark, _ = decode(make(DEEP, 12, **elements))
    bright, remark = decode(make(DEEP, 12, PhotometricInterpretation="MONOCHROME1", **elements))
    assert np.array_equal(bright, 255 - dark)
    assert remark.endswith("white is zero, inverted")
    image, remark = decode(make(GREY, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(image, 255 - GREY)
    assert remark == "white is zero, inverted"


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
def test_colour_becomes_luminance(kind):
    image, remark = decode(make(COLOUR, PhotometricInterpretation=kind))
    if kind == "RGB":
        close(image, COLOUR @ [0.299, 0.587, 0.114])
    else:  # the first plane is the luminance already, but for a rounding on the way
        inside = ((COLOUR > 110) & (COLOUR < 145)).all(axis=2)  # no colour is cut off
        calm = np.where(inside[..., None], COLOUR, 128).astype(np.uint8)
        image, _ = decode(make(calm, PhotometricInterpretation=kind))
        assert np.abs(image.astype(int) - calm[..., 0]).max() <= 1
    assert remark == f"{kind}, converted to grey"


def test_jpeg_in_dicom():
    smooth = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8) * 8
    file = io.BytesIO()
    Image.fromarray(smooth).save(file, "JPEG", quality=95)
    ds = header(smooth)
    ds.PixelData = encapsulate([file.getvalue()])
    image, _ = decode(write(ds, JPEGBaseline8Bit))
    assert np.abs(image.astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless])
def test_a_stream_of_more_bits_than_are_allocated_is_refused(syntax, monkeypatch):
    if syntax == JPEG2000Lossless:
        file = io.BytesIO()
        Image.fromarray(DEEP[:8, :8]).save(file, "JPEG2000", irreversible=False, no_jp2=True)
        stream = file.getvalue()
    else:
        stream = base64.b64decode(LOSSLESS[syntax])
        monkeypatch.setattr("cbir_lib.images.dicom._find_codec_fault", lambda syntax: "")
    data = make(GREY[:8, :8], PixelData=encapsulate([stream]), syntax=syntax)
    assert decode(data) == (None, "its compressed picture has 16 bits, not 8 as it says")


def test_a_jpeg_whose_end_was_overwritten_is_refused():
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "JPEG")
    stream = file.getvalue()
    whole = encapsulate([stream + b"\0"])
    assert decode(make(GREY, PixelData=whole, syntax=JPEGBaseline8Bit)).image is not None
    damaged = encapsulate([stream[:-60] + bytes(60)])
    assert decode(make(GREY, PixelData=damaged, syntax=JPEGBaseline8Bit)) == (
        None,
        "compressed as JPEG Baseline (Process 1), but cut off",
    )


# np.arange(64).reshape(8, 8) * 65 with 12 bits, packed by GDCM's encoders.
LOSSLESS = {
    JPEGLosslessSV1: "/9j/wwALEAAIAAgBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAABwoQ/9oACAEBAAEAAMgoKCgoKCg0"
    "EIKCgoKCgoNBCCgoKCgoKDQQgoKCgoKCg0EIKCgoKCgoNBCCgoKCgoKDQQgoKCgoKCg0EIKCgoKCgoP/2Q==",
    JPEGLSLossless: "/9j/9wALEAAIAAgBAREA//gADQH//wASAEMBFABA/9oACAEBAAAAAKQMgZAx/n2QMf0EJBSAn6fL1e"
    "JBIIXa6XK4W62SAQOtXRzcnFwT8gZvbm1sa2pPiBWloZ2ZlZF6QIxsTCwL68vCA11cW1taWV2A/9k=",
}


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_with_the_optional_codecs(syntax):
    pytest.importorskip("gdcm")
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65
    ds = header(values, 12)
    ds.PixelData = encapsulate([base64.b64decode(LOSSLESS[syntax])])
    close(decode(write(ds, syntax)).image, stretched(values))


# What gives no image


@pytest.mark.parametrize("modality", ["CT", "MR", "US", "NM", "PT", "OT"])
def test_other_modalities_are_named(modality):
    assert decode(make(GREY, Modality=modality)) == (
        None,
        f"modality {modality}, no projection X-ray",
    )


@pytest.mark.parametrize("modality", [None, "", *dicom.MODALITIES])
def test_projection_radiography_and_no_modality_are_read(modality):
    assert np.array_equal(decode(make(GREY, Modality=modality)).image, GREY)


NATIVE = make(DEEP, 12)
REFUSED = {
    "no size": (make(GREY, Rows=None), "no Rows or no Columns for its pixels"),
    "no pixels": (make(GREY, Rows=None, PixelData=None), "no pixels"),
    "no pixel data": (make(GREY, PixelData=None), "truncated, or without pixels"),
    "fewer frames than said": (make(GREY, NumberOfFrames=12), "truncated pixels"),
    "small": (make(GREY[:7]), "10 x 7 pixels, too small"),
    # 1,000 bytes of pixels: were they allocated first, the reason would be another.
    "large": (make(GREY, Rows=30_000, Columns=30_000), "30000 x 30000 pixels, too large"),
    "less pixels than said": (make(DEEP, 12, Rows=40), "truncated pixels"),
    "cut off in the pixels": (NATIVE[:-40], "truncated pixels"),
    "cut off before the pixels": (NATIVE[: -2 * DEEP.size - 4], "damaged"),
    "palette": (
        make(GREY, PhotometricInterpretation="PALETTE COLOR"),
        "PALETTE COLOR, but without a palette",
    ),
    "odd depth": (make(GREY, BitsAllocated=12), "12 bits allocated, which is not read"),
    "escape sequence": (
        make(GREY, Modality="ABCD").replace(b"ABCD", b"\x1b[2J"),
        "modality ?[2J, no projection X-ray",
    ),
    "other colours": (
        make(COLOUR, PhotometricInterpretation="HSV"),
        "HSV, cannot be converted to grey",
    ),
    "three grey samples": (
        make(COLOUR, PhotometricInterpretation="MONOCHROME2"),
        "MONOCHROME2 with 3 samples, cannot be converted to grey",
    ),
    "only a preamble": (bytes(128) + b"DICM", "no pixels"),
    "zeros": (bytes(128) + b"DICM" + bytes(200), "no pixels"),
    "pixels of length 0": (make(GREY, PixelData=b""), "truncated, or without pixels"),
    "unknown encoding": (
        NATIVE.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0"),
        "transfer syntax 1.2.840.99999.1.2.1, which is not read",
    ),
}


@pytest.mark.parametrize(("data", "remark"), REFUSED.values(), ids=REFUSED)
def test_refused_with_a_reason(data, remark):
    assert decode(data) == (None, remark)


def test_without_its_codec_the_compression_and_the_remedy_are_named(monkeypatch):
    monkeypatch.setattr(JPEGLSLosslessDecoder, "_available", {})
    monkeypatch.setattr(JPEGLSLosslessDecoder, "_unavailable", {"gdcm": ("gdcm>=3.0.10",)})
    ds = header(DEEP)
    ds.PixelData = encapsulate([b"compressed"])
    assert decode(write(ds, JPEGLSLossless)).remark == (
        "compressed as JPEG-LS Lossless Image Compression, which needs codecs: "
        'pip install "cbir_lib[dicom]"'
    )


@pytest.mark.parametrize("syntax", [HTJ2KLossless, MPEG2])
def test_compression_that_nothing_here_reads(monkeypatch, syntax):
    ds = header(DEEP)
    ds.PixelData = encapsulate([b"compressed"])
    assert decode(write(ds, syntax)) == (None, f"compressed as {syntax.name}, which is not read")


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit, JPEG2000Lossless])
def test_damaged_compressed_pixels(syntax):
    ds = header(DEEP, 12)
    ds.PixelData = encapsulate([b"no stream of this kind"])
    image, remark = decode(write(ds, syntax))
    assert image is None
    assert remark.startswith(f"compressed as {syntax.name}, damaged or")


def test_deflated_is_refused_before_it_is_inflated(monkeypatch):
    file = make(GREY, syntax=DeflatedExplicitVRLittleEndian)
    monkeypatch.setattr("zlib.decompress", None)
    assert decode(file) == (
        None,
        "compressed as Deflated Explicit VR Little Endian, which is not read",
    )


def test_every_cut_gives_no_image_and_a_reason():
    for end in range(132, len(NATIVE) - 1):
        image, remark = decode(NATIVE[:end])
        assert image is None
        assert remark


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_fault_is_an_image_or_refused(data):
    whole = [NATIVE, make(COLOUR), make(DEEP, 12, VOILUTSequence=lut(64, 9, 12, np.arange(64)))]
    file = bytearray(data.draw(st.sampled_from(whole)))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(132, len(file) - 1))] = data.draw(st.integers(0, 255))
    image, remark = decode(bytes(file))
    assert remark if image is None else image.dtype == np.uint8 and image.ndim == 2


def test_reading_is_quiet_and_pydicom_comes_only_with_a_dicom_file(tmp_path):
    bent = make(DEEP, 12, WindowCenter=100, WindowWidth=0, PatientBirthDate="20000101")
    assert bent.count(b"20000101") == 1
    (tmp_path / "bent.dcm").write_bytes(bent.replace(b"20000101", b"tomorrow"))
    code = (
        "import sys; from cbir_lib.images.decoding import decode;"
        "decode(b'no picture'); assert 'pydicom' not in sys.modules;"
        "decode(open(sys.argv[1], 'rb').read()); assert 'pydicom' in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bent.dcm")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Every depth, place and sign of the bits, in every encoding


Y, X = np.mgrid[:24, :20]
RAMP = np.rint(255 * (Y * 20 + X) / 479).astype(np.uint8)  # 0..255, no symmetry
ENCODINGS = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless]
DEPTHS = [(8, bits) for bits in (1, 2, 4, 6, 7, 8)] + [(16, bits) for bits in (8, 10, 12, 14, 16)]
DEPTHS += [(32, bits) for bits in (8, 16, 24, 32)]
# allocated, stored, high bit, signed, encoding, white is zero
BITS = [
    (allocated, stored, high, signed, syntax, inverse)
    for allocated, stored in DEPTHS
    for high in sorted({stored - 1, allocated - 1})
    for signed in (False, True)
    for syntax in ENCODINGS
    for inverse in (False, True)
]


def run_lengths(pixels):
    """An RLE frame of literal runs (PS3.5, annex G)."""
    planes = pixels.astype(pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(pixels.size, -1)
    places, data = [], b""
    for plane in planes.T:
        places.append(64 + len(data))
        for start in range(0, len(plane), 128):
            run = plane[start : start + 128].tobytes()
            data += bytes([len(run) - 1]) + run
        data += bytes([128] * (len(data) % 2))
    return struct.pack("<16I", len(places), *places, *[0] * (15 - len(places))) + data


@pytest.mark.parametrize("syntax", ENCODINGS, ids=lambda uid: uid.keyword)
def test_every_layout_of_the_bits(syntax):
    """RAMP in each layout is RAMP again, to its depth."""
    tried = 0
    for layout in BITS:
        allocated, stored, high, signed, encoding, inverse = layout
        if encoding != syntax:
            continue
        numbers = RAMP.astype(np.int64) * 2**stored // 256
        values = (numbers - 2 ** (stored - 1) * signed) % 2**stored  # as bits
        values <<= high + 1 - stored
        if stored > 1 and stored < allocated:
            values |= ((1 << allocated) - (2 << high)) * (stored % 4 > 0)  # something above
        pixels = values.astype(f"{'>' if syntax == ExplicitVRBigEndian else '<'}u{allocated // 8}")
        ds = header(
            pixels,
            stored,
            HighBit=high,
            PixelRepresentation=int(signed),
            PhotometricInterpretation="MONOCHROME1" if inverse else "MONOCHROME2",
        )
        if syntax == RLELossless:
            ds.PixelData = encapsulate([run_lengths(pixels)])
        image, remark = decode(write(ds, syntax))
        assert image is not None, (layout, remark)
        look = numbers * (255 / numbers.max())
        assert np.abs(image - (255 - look if inverse else look)).max() <= 0.51, layout
        assert (stored != 8 or signed) == ("to 8" in remark), layout
        tried += 1
    assert tried == len(BITS) // len(ENCODINGS)


def test_a_high_bit_that_does_not_fit_the_values():
    image, remark = decode(make(DEEP, 12, HighBit=15))  # they lie in the lower bits
    assert np.array_equal(image, decode(make(DEEP, 12)).image)
    assert remark == "stretched to 8 bits, HighBit 15 does not fit the values, taken as 11"


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_by_plane_and_depth(planar, dtype):
    deep = COLOUR.astype(dtype) * (257 if dtype == np.uint16 else 1)
    ds = header(deep, PlanarConfiguration=planar)
    if planar:
        ds.PixelData = np.moveaxis(deep, 2, 0).tobytes()
    close(decode(write(ds)).image, COLOUR @ [0.299, 0.587, 0.114])


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_colour(bits):
    tables = RNG.integers(0, 2**bits, (3, 256)).astype(f"<u{bits // 8}")
    names = ("Red", "Green", "Blue")
    palette = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, bits] for name in names}
    palette |= {
        f"{name}PaletteColorLookupTableData": table.tobytes()
        for name, table in zip(names, tables, strict=True)
    }
    image, remark = decode(make(GREY, PhotometricInterpretation="PALETTE COLOR", **palette))
    close(image, np.moveaxis(tables[:, GREY], 0, 2) @ [0.299, 0.587, 0.114] * 255 / (2**bits - 1))
    assert remark == "PALETTE COLOR, converted to grey"


@pytest.mark.parametrize("first", [0, 1000, -500])
def test_a_palette_of_8_bits_for_more_values_than_256(first):
    """pydicom's own look-up takes the values modulo 256."""
    table = np.linspace(255, 0, 2000).astype(np.uint8)
    values = DEEP.astype(np.int16) - 1000 if first < 0 else DEEP
    ds = header(values, None if first < 0 else 12, PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        vr = "SS" if first < 0 else "US"
        ds.add_new(f"{name}PaletteColorLookupTableDescriptor", vr, [2000, first, 8])
        ds.add_new(f"{name}PaletteColorLookupTableData", "OW", table.tobytes())
    image, remark = decode(write(ds))
    close(image, table[np.clip(values.astype(int) - first, 0, 1999)].astype(float))
    assert remark == "PALETTE COLOR, converted to grey"


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless])
def test_a_compressed_picture_decides_on_its_planes(syntax):
    """PlanarConfiguration may be left over from before the compression."""
    smooth = np.add.outer(np.arange(16), np.arange(24)) * 6
    colour = np.stack([smooth, 255 - smooth, smooth // 2], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    if syntax == JPEGBaseline8Bit:
        Image.fromarray(colour).save(file, "JPEG", quality=100, subsampling=0)
    else:
        Image.fromarray(colour).save(file, "JPEG2000", irreversible=False, no_jp2=True, mct=0)
    ds = header(colour, PlanarConfiguration=1)
    ds.PixelData = encapsulate([file.getvalue()])
    image, remark = decode(write(ds, syntax))
    assert np.abs(image - colour @ [0.299, 0.587, 0.114]).max() < 3
    assert remark == "RGB, converted to grey"


@pytest.mark.parametrize("offsets", [[8], [999], [0, 20], [0]])
def test_one_frame_does_not_need_its_table_of_offsets(offsets):
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    whole = encapsulate([file.getvalue()], has_bot=False)
    table = struct.pack(f"<{len(offsets)}I", *offsets)
    ds = header(GREY)
    ds.PixelData = whole[:4] + struct.pack("<I", len(table)) + table + whole[8:]
    image, remark = decode(write(ds, JPEG2000Lossless))
    assert np.array_equal(image, GREY)
    assert remark == ""


@pytest.mark.parametrize("used", [8, 12])
def test_a_palette_takes_the_bits_that_its_values_take(used):
    table = np.rint(np.arange(256)[::-1] * ((2**used - 1) / 255)).astype("<u2")
    palette = {}
    for name in ("Red", "Green", "Blue"):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{name}PaletteColorLookupTableData"] = table.tobytes()
    image, remark = decode(make(GREY, PhotometricInterpretation="PALETTE COLOR", **palette))
    close(image, 255.0 - GREY if used == 8 else table[GREY] * (255 / 4095))
    doubt = f"palette of 16 bits taken as {used}, as its values are"
    assert remark == f"PALETTE COLOR, converted to grey, {doubt}"


@pytest.mark.parametrize("name", ["FloatPixelData", "DoubleFloatPixelData"])
def test_float_pixels(name):
    dtype = np.float32 if name.startswith("Float") else np.float64
    values = DEEP.astype(dtype)
    values[0, :3] = np.nan, np.inf, -np.inf
    ds = header(DEEP, PixelData=None, BitsAllocated=8 * values.itemsize, **{name: values.tobytes()})
    del ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    image, remark = decode(write(ds))
    seen = DEEP.reshape(-1)[3:]
    exact = (DEEP - float(seen.min())) * 255 / np.ptp(seen)
    exact[0, :3] = 0
    close(image, exact)
    assert remark == "stretched to 8 bits, 3 grey values are no finite numbers"


# Values that are no picture


def levels(image):
    return len(np.unique(image))


BORDER = np.s_[4:-4, 4:-4]
STORED = (np.add.outer(np.arange(40) * 40, np.arange(36) * 20)).astype(np.uint16)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(
    ("value", "limit", "dtype", "elements"),
    [
        (65535, None, "u2", {"PixelPaddingValue": 65535}),
        (-32768, None, "i2", {"PixelPaddingValue": -32768}),
        (32768, None, "i2", {"PixelPaddingValue": -32768}),
        (0, None, "u2", {"PixelPaddingValue": 0}),
        (64000, 65535, "u2", {"PixelPaddingValue": 64000, "PixelPaddingRangeLimit": 65535}),
        (64000, 65535, "u2", {"PixelPaddingValue": 65535, "PixelPaddingRangeLimit": 64000}),
    ],
)
def test_padding_is_black_and_moves_no_limit(value, limit, dtype, elements, inverse):
    ends = {"low": value, "high": (limit or value) + 1}
    pixels = RNG.integers(size=(48, 44), **ends).astype("u2")
    pixels[BORDER] = STORED + 100
    kind = "MONOCHROME1" if inverse else "MONOCHROME2"
    image, remark = decode(make(pixels.view(dtype), PhotometricInterpretation=kind, **elements))
    inner = stretched(STORED)
    close(image[BORDER], 255 - inner if inverse else inner)
    outside = np.ones(image.shape, bool)
    outside[BORDER] = False
    assert not image[outside].any()
    assert "pixel padding black" in remark


def test_padding_is_black_with_a_window_as_well():
    pixels = np.pad(STORED, 4, constant_values=1000)
    elements = {"WindowCenter": 1000, "WindowWidth": 1500, "PixelPaddingValue": 1000}
    image, _ = decode(make(pixels, **elements))
    exact = window(pixels.astype(float), 1000, 1500)
    close(image, np.where(pixels == 1000, 0, exact))


def test_padding_beyond_the_bits_stored():
    pixels = np.pad(STORED, 4, constant_values=63536)
    image, _ = decode(make(pixels, 12, PixelPaddingValue=63536))
    close(image[BORDER], stretched(STORED))
    assert not image[:4].any()


FRAMED = {
    "white border": (65535, 255),
    "black border": (0, 0),
    "other border": (30_000, 255),
}


@pytest.mark.parametrize(("value", "look"), FRAMED.values(), ids=FRAMED)
@pytest.mark.parametrize("dead", [None, 0, 65535])
def test_without_a_window_neither_borders_nor_dead_pixels_move_the_limits(value, look, dead):
    picture = STORED + np.uint16(5000)
    damaged = picture.copy()
    if dead is not None:
        damaged[[5, 20, 33], [7, 30, 11]] = dead
        damaged[:, 17] = dead  # a line
        damaged[10:13, 2:5] = dead  # and a cluster
    image, _ = decode(make(np.pad(damaged, 4, constant_values=value)))
    alive = damaged == picture
    close(image[BORDER][alive], stretched(picture)[alive])
    assert (image[0] == look).all()
    assert levels(image) >= levels(stretched(picture).round())


def test_without_borders_and_dead_pixels_the_extremes_stay():
    # Bright on dark, down to single pixels' edges, and a background that touches the edge.
    blob = np.rint(60_000 * np.exp(-((Y - 12) ** 2 + (X - 9) ** 2) / 6)).astype(np.uint16)
    for picture in (blob, DEEP, STORED, 60_000 - blob):
        close(decode(make(picture)).image, stretched(picture))


def test_a_window_beside_the_picture_is_set_aside():
    image, remark = decode(make(DEEP, 12, WindowCenter=30_000, WindowWidth=100))
    close(image, stretched(DEEP))
    assert remark == "window leaves nothing to see, stretched to 8 bits instead"


def test_presentation_lut_shape():
    inverse, remark = decode(make(GREY, PresentationLUTShape="INVERSE"))
    assert np.array_equal(inverse, 255 - GREY)
    assert remark == "white is zero, inverted"
    assert np.array_equal(decode(make(GREY, PresentationLUTShape="IDENTITY")).image, GREY)
    both = make(GREY, PresentationLUTShape="INVERSE", PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(decode(both).image, 255 - GREY)  # once, not twice


def test_window_of_an_enhanced_file():
    frame, shared = Dataset(), Dataset()
    voi, values = Dataset(), Dataset()
    voi.WindowCenter, voi.WindowWidth = 1000, 500
    values.RescaleSlope, values.RescaleIntercept = 2, -100
    frame.FrameVOILUTSequence, shared.PixelValueTransformationSequence = [voi], [values]
    image, remark = decode(
        make(
            DEEP,
            12,
            PerFrameFunctionalGroupsSequence=[frame],
            SharedFunctionalGroupsSequence=[shared],
        )
    )
    close(image, window(DEEP * 2.0 - 100, 1000, 500))
    assert remark == "window applied, to 8 bits"


def test_letters_written_into_a_picture_move_no_limit():
    picture = np.kron(STORED, np.ones((6, 6), np.uint16)) + np.uint16(30_000)
    for value in (0, 65535):
        marked = picture.copy()
        marked[20:40, 20:24] = marked[36:40, 20:34] = value  # an L
        image, _ = decode(make(marked))
        alive = marked == picture
        close(image[alive], stretched(picture)[alive])
        assert (image[~alive] == (255 if value else 0)).all()


def test_a_rescale_that_leaves_one_value_is_set_aside():
    image, remark = decode(make(DEEP, 12, RescaleSlope=0, RescaleIntercept=7))
    close(image, stretched(DEEP))
    assert remark == "faulty window or LUT, stretched to 8 bits instead"


# What is not read is named


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"PixelAspectRatio": [2, 1]}, "pixels are not square, shown as if they were"),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, "pixels are not square, shown as if they were"),
        ({"PixelSpacing": [0.1, 0.1]}, ""),
        ({"PixelSpacing": []}, ""),
        ({"ShutterShape": "RECTANGULAR"}, "display shutter not applied"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "for processing, not for presentation"),
        ({"PresentationIntentType": "FOR PRESENTATION"}, ""),
        (
            {"PixelData": 3 * GREY.tobytes()},
            "first of 3 frames, of which NumberOfFrames says nothing",
        ),
    ],
)
def test_what_a_viewer_would_do_and_is_not_done_is_named(elements, said):
    image, remark = decode(make(GREY, **elements))
    assert np.array_equal(image, GREY)
    assert remark == said


@pytest.mark.parametrize("modality", ["cr", "Dx", "DX\\CR"])
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_projection_radiography_however_it_is_written(modality):
    assert np.array_equal(decode(make(GREY, Modality=modality)).image, GREY)


def test_of_several_frames_the_first():
    ds = header(GREY, NumberOfFrames=3)
    ds.PixelData = np.stack([GREY, GREY // 2, GREY // 3]).tobytes()
    image, remark = decode(write(ds))
    assert np.array_equal(image, GREY)
    assert remark == "first of 3 frames"


def test_overlays_are_named():
    ds = header(DEEP, 12)
    for group in (0x6000, 0x6002):
        ds.add_new((group, 0x0010), "US", 12)
        ds.add_new((group, 0x3000), "OW", bytes(16))
    image, remark = decode(write(ds))
    close(image, stretched(DEEP))
    assert remark == "stretched to 8 bits, 2 overlays not shown"


# What real files lack


def without_preamble(pixels, stored, syntax, **elements):
    """A data set and nothing else."""
    data = make(pixels, stored, syntax, **elements)
    first = b"\x00\x08\x00\x16" if syntax == ExplicitVRBigEndian else b"\x08\x00\x16\x00"
    assert data.count(first) == 1
    return data[data.index(first) :]


@pytest.mark.parametrize("start", [b"", bytes(128) + b"DICM"], ids=["bare", "with preamble"])
@pytest.mark.parametrize("syntax", ENCODINGS[:3], ids=lambda uid: uid.keyword)
def test_without_meta_information(syntax, start):
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = start + without_preamble(DEEP.astype(order + "u2"), 12, syntax)
    assert dicom.is_dicom(data[:4096])
    image, remark = decode(data)
    close(image, stretched(DEEP))
    assert remark == (
        f"stretched to 8 bits, its transfer syntax is not named, taken as {syntax.name}"
    )


def test_without_preamble_but_with_meta_information():
    data = make(DEEP, 12)[132:]
    assert dicom.is_dicom(data)
    image, remark = decode(data)
    close(image, stretched(DEEP))
    assert remark == "stretched to 8 bits"


def test_with_half_a_preamble():
    data = make(DEEP, 12)[128:]
    assert data[:4] == b"DICM"
    assert dicom.is_dicom(data)
    close(decode(data).image, stretched(DEEP))


def test_compressed_without_a_transfer_syntax():
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    data = make(GREY, PixelData=encapsulate([file.getvalue()]), syntax=JPEG2000Lossless)
    assert data.count(JPEG2000Lossless.encode()) == 1
    where = data.index(JPEG2000Lossless.encode())
    # The element (0002,0010) becomes one that says nothing.
    image, remark = decode(data[: where - 8] + b"\x02\x00\x16\x00AE" + data[where - 2 :])
    assert np.array_equal(image, GREY)
    assert remark == "its transfer syntax is not named, taken as JPEG 2000 Image Compression"


def test_a_transfer_syntax_that_is_wrong():
    ds = header(GREY)
    native = write(ds).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")  # RLE
    image, remark = decode(native)
    assert np.array_equal(image, GREY)
    assert remark == "its transfer syntax is wrong, taken as Explicit VR Little Endian"


LACKING = {
    "PhotometricInterpretation": "PhotometricInterpretation missing, taken as MONOCHROME2",
    "SamplesPerPixel": "SamplesPerPixel missing, taken as 1",
    "BitsAllocated": "BitsAllocated missing, taken as 16",
    "PixelRepresentation": "PixelRepresentation missing, taken as 0",
    "BitsStored": "BitsStored missing, taken as 12",
    "HighBit": "",
}


@pytest.mark.parametrize("name", LACKING)
@pytest.mark.parametrize("syntax", ENCODINGS[:3], ids=lambda uid: uid.keyword)
def test_a_missing_element_is_told_from_the_rest(name, syntax):
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    image, remark = decode(make(DEEP.astype(order + "u2"), 12, syntax, **{name: None}))
    close(image, stretched(DEEP))
    assert remark == ", ".join(filter(None, ["stretched to 8 bits", LACKING[name]]))


def test_all_elements_missing_that_can_be():
    image, _ = decode(make(COLOUR, **dict.fromkeys([*LACKING, "PlanarConfiguration"])))
    close(image, COLOUR @ [0.299, 0.587, 0.114])


def test_bits_that_contradict_each_other():
    image, remark = decode(make(DEEP, 12, BitsStored=20))
    close(image, stretched(DEEP))
    assert "BitsStored 20 of 16 allocated, taken as 16" in remark
    image, remark = decode(make(DEEP, 12, HighBit=3))
    close(image, stretched(DEEP))
    assert "HighBit 3 with 12 bits stored, taken as 11" in remark


# Memory


def test_the_size_in_a_compressed_stream_is_looked_at_before_it_is_decoded(monkeypatch):
    file = io.BytesIO()
    Image.new("L", (400, 300)).save(file, "JPEG")
    ds = header(GREY)
    ds.PixelData = encapsulate([file.getvalue()])
    monkeypatch.setattr("pydicom.pixels.pixel_array", None)
    assert decode(write(ds, JPEGBaseline8Bit)).remark == (
        "its compressed picture is 400 x 300 pixels, not 10 x 12 as it says"
    )


def test_run_lengths_are_counted_before_they_are_unpacked(monkeypatch):
    frame = bytes([1, 0, 0, 0, 64]) + bytes(59) + bytes([129, 7]) * 3_000_000
    ds = header(GREY)
    ds.PixelData = encapsulate([frame])
    monkeypatch.setattr("pydicom.pixels.pixel_array", None)
    assert decode(write(ds, RLELossless)).remark == "more pixels than Rows and Columns say"


def test_large_colour_is_refused_before_it_is_decoded():
    ds = header(COLOUR, Rows=9000, Columns=9000, PhotometricInterpretation="YBR_FULL")
    assert decode(write(ds)).remark == "9000 x 9000 pixels, would take more than 1 GB to read"


# Any bytes


def faulty(rng):
    """250 DICOM files with a fault each."""
    bare = without_preamble(DEEP, 12, ImplicitVRLittleEndian)
    rle = header(DEEP)
    rle.PixelData = encapsulate([run_lengths(DEEP)])
    jpeg = io.BytesIO()
    Image.fromarray(RAMP).save(jpeg, "JPEG")
    lossy = header(RAMP)
    lossy.PixelData = encapsulate([jpeg.getvalue()])
    whole = [
        NATIVE,
        bare,
        without_preamble(DEEP, 12, ExplicitVRLittleEndian),
        make(COLOUR, PlanarConfiguration=1),
        make(DEEP, 12, VOILUTSequence=lut(64, 9, 12, np.arange(64)), PixelPaddingValue=0),
        make(DEEP, 12, WindowCenter=9, WindowWidth=90, NumberOfFrames=1),
        make(DEEP.astype(">u2"), 12, syntax=ExplicitVRBigEndian),
        write(rle, RLELossless),
        write(lossy, JPEGBaseline8Bit),
    ]
    for number in range(250):
        file = bytearray(whole[number % len(whole)])
        if number % 4 == 0:
            del file[rng.integers(len(file)) :]
        elif number % 4 == 1:
            place = rng.integers(len(file))
            file[place : place + rng.integers(9)] = rng.bytes(rng.integers(9))
        else:
            for place in rng.integers(len(file), size=rng.integers(1, 6)):
                file[place] = rng.choice([0, 1, 2, 127, 128, 255])
        yield bytes(file)


def test_250_mutated_files_are_an_image_or_refused(capfd):
    for number, data in enumerate(faulty(np.random.default_rng(15))):
        started = time.process_time()
        image, remark = decode(data)
        assert time.process_time() - started < 5, number
        assert remark if image is None else image.dtype == np.uint8 and image.ndim == 2, number
    assert capfd.readouterr() == ("", "")

import base64
import io
import subprocess
import sys

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

from cbir_lib.datasets import dicom
from cbir_lib.datasets.decoding import decode

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
    ds.PixelData = pixels.tobytes()
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


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_voi_lut_comes_before_the_window(bits):
    values = RNG.integers(0, 2**bits, 3000)
    image, remark = decode(
        make(DEEP, 12, VOILUTSequence=lut(3000, 500, bits, values), WindowCenter=1, WindowWidth=1)
    )
    close(image, values[np.clip(DEEP.astype(int) - 500, 0, 2999)] * 255 / (2**bits - 1))
    assert remark == "VOI LUT applied, to 8 bits"


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
    "unknown function": {"WindowCenter": 9, "WindowWidth": 9, "VOILUTFunction": "CUBIC"},
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
    "no pixels": (make(GREY, Rows=None), "no pixels"),
    "no pixel data": (make(GREY, PixelData=None), "truncated, or without pixels"),
    "frames": (make(GREY, NumberOfFrames=12), "12 frames, only single images are read"),
    "small": (make(GREY[:7]), "10 x 7 pixels, too small"),
    # 1,000 bytes of pixels: were they allocated first, the reason would be another.
    "large": (make(GREY, Rows=30_000, Columns=30_000), "30000 x 30000 pixels, too large"),
    "less pixels than said": (make(DEEP, 12, Rows=40), "truncated pixels"),
    "cut off in the pixels": (NATIVE[:-40], "truncated pixels"),
    "cut off before the pixels": (NATIVE[: -2 * DEEP.size - 4], "damaged"),
    "palette": (
        make(GREY, PhotometricInterpretation="PALETTE COLOR"),
        "PALETTE COLOR, cannot be converted to grey",
    ),
    "only a preamble": (bytes(128) + b"DICM", "damaged"),
    "no meta": (bytes(128) + b"DICM" + bytes(200), "damaged"),
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
        "import sys; from cbir_lib.datasets.decoding import decode;"
        "decode(b'no picture'); assert 'pydicom' not in sys.modules;"
        "decode(open(sys.argv[1], 'rb').read()); assert 'pydicom' in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bent.dcm")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

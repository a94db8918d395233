import os

import numpy as np
import pytest
from PIL import Image

from cbir_lib.errors import CbirError
from cbir_lib.images.decoding import FORMATS, READABLE_FORMATS, read_image

GREY = np.arange(120, dtype=np.uint8).reshape(12, 10)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(GREY).save(path)
    return path


def test_a_file_and_a_pipe_are_read(picture):
    assert np.array_equal(read_image(picture), GREY)
    reading, writing = os.pipe()
    os.write(writing, picture.read_bytes())
    os.close(writing)
    assert np.array_equal(read_image(type(picture)(f"/dev/fd/{reading}")), GREY)
    os.close(reading)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.png", "No such file"),
        (".", "Is a directory"),
        ("a\0b.png", "null"),
        ("x" * 300, "File name too long"),
    ],
)
def test_what_cannot_be_opened_is_an_error_with_its_reason(tmp_path, name, reason):
    with pytest.raises(CbirError, match=reason):
        read_image(tmp_path / name)


def test_what_is_no_picture_is_an_error_that_names_the_formats(tmp_path):
    path = tmp_path / "text.png"
    path.write_text("no picture")
    with pytest.raises(CbirError, match="not an image") as caught:
        read_image(path)
    assert caught.value.hint == f"give a {READABLE_FORMATS} image"
    spoken = (
        READABLE_FORMATS.replace(" ", "")
        .upper()
        .replace("PGM", "PPM")
        .replace("JPEG2000", "JPEG2000")
    )
    assert all(name in spoken for name in FORMATS if name != "DIB")


def test_of_a_file_that_is_too_large_no_more_than_the_limit_is_read(picture, monkeypatch):
    monkeypatch.setattr("cbir_lib.images.decoding.LARGEST_FILE", 50)
    with pytest.raises(CbirError, match="more than 50 bytes, too large"):
        read_image(picture)


def test_too_little_memory_is_an_error(picture, monkeypatch):
    def refuse(path, mode):
        raise MemoryError

    monkeypatch.setattr(type(picture), "open", refuse)
    with pytest.raises(CbirError, match="too little memory"):
        read_image(picture)

"""Reading the images of a list in threads: as one by one, and never far ahead."""

import io
import os
import threading
import time
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image

from cbir_lib.datasets.listing import Entry, map_ahead, open_pool, read_images
from cbir_lib.datasets.splits import hash_pixels
from cbir_lib.errors import CbirError
from cbir_lib.images.decoding import decode, fit_to_square

RNG = np.random.default_rng(0)
CLASSES = ("hand", "foot")


@pytest.fixture
def cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def encode(image, suffix):
    file = io.BytesIO()
    Image.fromarray(image).save(file, suffix)
    return file.getvalue()


def make_list(count):
    """Entries of images of all sizes, some faulty or with a remark, and their bytes by name."""
    entries, files = [], {}
    for number in range(count):
        name = PurePosixPath(f"{number}.png")
        entries.append(Entry(f"{number}", name, CLASSES[number % 2], "", f"p{number // 3}"))
        shape = RNG.integers(9, 90, 2)
        files[name] = encode(RNG.integers(0, 256, shape, np.uint8), "PNG")
        if number % 5 == 1:
            files[name] = files[name][:50]
        if number % 5 == 2:
            files[name] = encode(RNG.integers(0, 256, (*shape, 3), np.uint8), "PNG")
        if number % 5 == 3:
            files[name] = None
    return entries, files


def read_slowly(files):
    """A reader of these files that takes longest for the first of any that follow one another."""

    def read(name):
        time.sleep(0.002 * (3 - int(name.stem) % 4))
        return files[name], "no such file" if files[name] is None else ""

    return read


def test_images_come_in_the_order_of_the_list(cores):
    entries, files = make_list(60)
    images, records, contents, remarks = read_images(entries, CLASSES, read_slowly(files), 16)
    decoded = {
        entry: decode(files[entry.file]).image for entry in entries if files[entry.file] is not None
    }
    whole = [entry for entry in entries if decoded.get(entry) is not None]
    assert records["image_id"].tolist() == [entry.image_id for entry in whole]
    assert records["label"].tolist() == [CLASSES.index(entry.class_name) for entry in whole]
    assert records["subject_id"].tolist() == [entry.subject_id for entry in whole]
    sizes = [decoded[entry].shape for entry in whole]
    assert list(zip(records["height_px"], records["width_px"], strict=True)) == sizes
    assert np.array_equal(images, [fit_to_square(decoded[entry], 16) for entry in whole])
    assert contents == [hash_pixels(decoded[entry]) for entry in whole]
    said = {1: ("damaged", False), 2: ("RGB, converted to grey", True), 3: ("no such file", False)}
    assert remarks == [(f"{n}.png", *said[n % 5]) for n in range(60) if n % 5 in said]


def test_several_are_decoded_at_once(cores):
    entries, files = make_list(4)
    both = threading.Barrier(2)

    def read(name):
        both.wait(60)  # for another one to be read
        return files[name], ""

    read_images(entries[:1] * 4, CLASSES, read, 16)


def test_the_first_error_of_the_list_is_raised(cores):
    entries, files = make_list(40)

    def read(name):
        if int(name.stem) in (7, 8, 30):
            time.sleep(0.1 * (name.stem == "7"))
            raise CbirError(f"no {name}", "wait")
        return files[name], ""

    with pytest.raises(CbirError, match="no 7.png"):
        read_images([entry for entry in entries if files[entry.file]], CLASSES, read, 16)


def test_what_is_not_asked_for_yet_is_not_far_ahead(cores):
    begun = []
    with open_pool() as pool:
        for number, result in enumerate(map_ahead(pool, lambda n: begun.append(n) or n, range(99))):
            assert result == number
            assert len(begun) <= number + 4 * os.cpu_count()

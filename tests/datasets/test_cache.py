"""The cache of decoded data: checked, made again, and never in the way."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cbir_lib.datasets import cache, folder
from cbir_lib.datasets.cache import compute_fingerprint, load_cached
from tests.fixtures import assert_same_set

RNG = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path):
    for class_name in ("hand", "foot"):
        for number in range(4):
            file = tmp_path / "images" / class_name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 256, (9, 9), dtype=np.uint8)).save(file)
    return tmp_path / "images"


def load(root):
    """A set, and whether it was read from the images."""
    reads = []
    data = load_cached("toy", root, lambda place: reads.append(1) or folder.read(place, 16))
    return data, bool(reads)


def own(root):
    (folder,) = Path(os.environ["CBIR_CACHE"]).glob("toy-*")
    return folder


@pytest.mark.parametrize("name", [cache.IMAGES, cache.RECORDS, cache.DESCRIPTION])
def test_a_flipped_bit_is_seen_and_the_cache_made_again(root, name):
    expected = load(root)[0].take(np.arange(8))  # in memory: the file is damaged in place
    file = own(root) / name
    whole = file.read_bytes()
    for place in RNG.integers(0, len(whole), 25):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << RNG.integers(8)
        file.write_bytes(damaged)
        loaded, again = load(root)
        assert_same_set(loaded, expected)
        assert again or (name == cache.IMAGES and place < 128)  # white space of NumPy's head
        file.write_bytes(whole)
    assert not load(root)[1]


def test_what_is_only_a_cache_stops_nothing(root, monkeypatch, tmp_path):
    expected, _ = load(root)
    (tmp_path / "a file").write_text("")
    for place in (tmp_path / "a file", tmp_path / "a file" / "below", Path("/proc/nowhere")):
        monkeypatch.setenv("CBIR_CACHE", str(place))
        assert_same_set(load(root)[0], expected)
    monkeypatch.setenv("CBIR_CACHE", str(tmp_path / "full"))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert_same_set(load(root)[0], expected)


def test_another_process_may_remove_it_at_any_moment(root, monkeypatch):
    expected, _ = load(root)
    shutil.rmtree(own(root))
    write = cache._write
    monkeypatch.setattr(
        cache, "_write", lambda place, data: write(place, data) or shutil.rmtree(place)
    )
    assert_same_set(load(root)[0], expected)


def test_one_that_is_being_written_is_not_removed(root):
    place = Path(os.environ["CBIR_CACHE"])
    old, new = place / f"toy-v1.1-{'0' * 16}", place / f"toy-v4.1-{'1' * 16}"
    old.mkdir(parents=True)
    (old / cache.IMAGES).touch()
    (old / f".{cache.IMAGES}.0a0a0a0a.7.part").touch()  # of a killed process
    new.mkdir()
    (new / cache.RECORDS).touch()
    load(root)
    assert not old.exists()
    assert (new / cache.RECORDS).exists()


@pytest.mark.parametrize("link", [False, True])
def test_none_lies_inside_the_set_where_it_would_be_a_class(root, monkeypatch, tmp_path, link):
    place = root / "cache"
    if link:
        place = tmp_path / "elsewhere"
        place.symlink_to(root)
    monkeypatch.setenv("CBIR_CACHE", str(place))
    first, second = load(root), load(root)
    assert first[1] and second[1]
    assert_same_set(first[0], second[0])
    assert sorted(inside.name for inside in root.iterdir()) == ["foot", "hand"]


def test_folders_of_others_beside_the_caches_are_left(root):
    """As where CBIR_CACHE names a folder in which somebody keeps data sets, too."""
    place = Path(os.environ["CBIR_CACHE"])
    others = [place / "toy-v2", place / "toy-v1-cleaned", place / f"toy-v1.1-{'0' * 16}"]
    for other in others:
        other.mkdir(parents=True)
        (other / cache.IMAGES).touch()
        (other / "annotations.csv").write_text("mine")
    load(root)
    assert [(other / "annotations.csv").read_text() for other in others] == ["mine"] * 3
    assert [(other / cache.IMAGES).exists() for other in others] == [True, True, False]


def test_two_versions_of_a_set_with_equal_names_sizes_and_times_are_two(root, tmp_path):
    """As archives unpack that were made with fixed times."""
    other = shutil.copytree(root, tmp_path / "other")
    for place, text in (
        (root, "file,class\nhand/0.png,a\nhand/1.png,b\n"),
        (other, "file,class\nhand/0.png,b\nhand/1.png,a\n"),
    ):
        (place / "labels.csv").write_text(text)
        for file in place.rglob("*"):
            os.utime(file, (10**9, 10**9))
    first, second = load(root)[0], load(other)[0]
    assert first.labels.tolist() == [0, 1] and second.labels.tolist() == [1, 0]
    assert not load(root)[1] and not load(other)[1]


@pytest.mark.parametrize("trouble", [PermissionError(13, "Permission denied"), MemoryError()])
def test_what_could_not_be_read_just_now_is_read_the_next_time(root, monkeypatch, trouble):
    read_bytes = Path.read_bytes

    def refuse(path):
        if path.name == "2.png":
            raise trouble
        return read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        assert len(load(root)[0]) == 6
    assert len(load(root)[0]) == 8
    assert not load(root)[1]


def test_the_newest_copies_of_a_set_are_kept_and_other_versions_are_not(root, tmp_path):
    place = Path(os.environ["CBIR_CACHE"])
    versions = (f"{cache.FORMAT}.{cache.RULES - 1}", "3.1", "3")
    old = [place / f"toy-v{number}-{'a' * 16}" for number in versions]
    for folder_of_another in old:
        folder_of_another.mkdir(parents=True)
        (folder_of_another / cache.IMAGES).touch()
    copies = [root]
    for number in range(cache.KEPT):
        copies.append(shutil.copytree(root, tmp_path / f"copy {number}"))
        (copies[-1] / "hand" / f"{number}.png").unlink()  # other names, other fingerprints
    assert [load(copy)[1] for copy in copies[:-1]] == [True] * cache.KEPT
    assert [load(copy)[1] for copy in copies[:-1]] == [False] * cache.KEPT
    assert not any(folder_of_another.exists() for folder_of_another in old)
    assert load(copies[-1])[1]
    assert [load(copy)[1] for copy in copies[1:]] == [False] * cache.KEPT
    assert load(root)[1]  # the oldest made room


def test_two_processes_with_two_folders_at_once(root, tmp_path):
    other = shutil.copytree(root, tmp_path / "other")
    (other / "hand" / "0.png").unlink()
    code = (
        "import os, shutil, sys\n"
        "from pathlib import Path\n"
        "from cbir_lib.datasets import folder\n"
        "for size in range(16, 36):\n"
        "    where = folder.locate(sys.argv[1])\n"
        "    folder.load_cached('toy', where, lambda p: folder.read(p, size))\n"
        "    for place in Path(os.environ['CBIR_CACHE']).glob('*'):\n"
        "        shutil.rmtree(place, ignore_errors=True)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, place], stderr=subprocess.PIPE, text=True)
        for place in (root, other)
    ]
    for process in running:
        assert process.communicate()[1] == "" and process.returncode == 0


def test_a_fingerprint_sees_images_and_no_litter(root):
    before = compute_fingerprint(root)
    (root / "@eaDir").mkdir()
    (root / "@eaDir" / "x.png").write_bytes(b"x")
    (root / ".git").mkdir()
    (root / ".git" / "gone").symlink_to("/nowhere")
    os.mkfifo(os.fsencode(root / ".git") + b"/\xe9")
    assert compute_fingerprint(root) == before
    (root / "hand" / "\udce9.png").write_bytes(b"x")
    assert compute_fingerprint(root) != before

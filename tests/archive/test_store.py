"""Archives: against a brute-force search, through every change of a folder, and what kills them."""

import base64
import hashlib
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import weakref
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file

import cbir_lib
from cbir_lib import paths
from cbir_lib.archive import page as result_page
from cbir_lib.archive import scan, store, update
from cbir_lib.archive.store import Archive
from cbir_lib.archive.update import build
from cbir_lib.descriptors import DESCRIPTORS, build_descriptor
from cbir_lib.descriptors.fitted import load_descriptor
from cbir_lib.errors import CbirError
from cbir_lib.images.decoding import RULES, Decoded, decode, fit_to_square
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.retrieval.index import Index
from cbir_lib.schema import compute_json_checksum
from tests.cli.test_commands import assert_two_lines
from tests.fixtures import drawing, heed_ctrl_c, shipped_network, write_drawings
from tests.images.test_dicom import header, write

RNG = np.random.default_rng(99)  # not the seed of `draw`
NETWORK = shipped_network("G")
NAME = "grey-histogram"  # described at once, and good enough to tell the drawings apart
STRANGE = "<b>&\"q' ü  日本/a<script>alert(1)<i>.png"


def draw(place, count=1, seed=0):
    """Write so many drawings below a folder: in three sub-folders, with the same names in each."""
    return write_drawings(place, count, folders=3, seed=seed)


@pytest.fixture
def images(tmp_path):
    return draw(tmp_path / "images", 20)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(update, "SHARD", 8)


def pixels(file):
    return decode(file.read_bytes()).image


def described(folder, name=NAME):
    """Every readable image of a folder described in one go, by path; nothing of the archive's."""
    image_of = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and (image := pixels(file)) is not None:
            image_of[file.relative_to(folder).as_posix()] = image
    descriptor = build_descriptor(name) if name in DESCRIPTORS else cbir_lib.load_network(name)
    vectors = descriptor.transform(
        np.stack([fit_to_square(image, 128) for image in image_of.values()])
    )
    return image_of, dict(zip(image_of, vectors, strict=True)), descriptor.distance


def assert_holds(place, folder, name=NAME):
    """The archive has the images of the folder, each once, with its own vector."""
    _, expected, _ = described(folder, name)
    rows, vectors = Archive(place).read_vectors()
    assert [row.path for row in rows] == sorted(expected)
    left = Archive(place).description
    assert (left.images, left.rows) == (len(rows), store.compute_rows_digest(rows))
    np.testing.assert_allclose(vectors, [expected[path] for path in sorted(expected)], atol=1e-5)


def naive(folder, query, k, name=NAME):
    """The k nearest paths and their distances, by a loop over the folder."""
    image_of, vectors, distance = described(folder, name)
    own = image_of[query]
    pairs = sorted(
        (float(pairwise(distance, vectors[query][None], vector[None])[0, 0]), path)
        for path, vector in vectors.items()
        if not (image_of[path].shape == own.shape and (image_of[path] == own).all())
    )
    return pairs[:k]


# Building and searching


@pytest.mark.parametrize("name", [NAME, "hog", NETWORK])
def test_search_is_a_search_by_brute_force(tmp_path, images, name):
    shutil.copy(images / "1" / "002.png", images / "copy.png")
    report = build(images, tmp_path / "archive", name)
    assert (report.added, report.faults) == (21, {})
    queries = [images / "0" / "000.png", images / "1" / "002.png"]
    table = Archive(tmp_path / "archive").search(queries, 7)
    assert list(table.columns) == ["query", "rank", "path", "distance"]
    for query in queries:
        answers = table[table["query"] == str(query)]
        expected = naive(images, query.relative_to(images).as_posix(), 7, name)
        assert answers["rank"].tolist() == [1, 2, 3, 4, 5, 6, 7]
        np.testing.assert_allclose(answers["distance"], [d for d, _ in expected], atol=1e-5)
        assert answers["path"].tolist() == [path for _, path in expected]


def test_an_array_is_searched_as_its_file_is(tmp_path, images):
    there = build(images, tmp_path / "archive", NAME).archive
    files = [images / "0" / "000.png", images / "2" / "001.png"]
    by_file = there.search(files, 5)
    by_array = there.search([pixels(file) for file in files], 5)
    assert by_array["query"].unique().tolist() == ["image 1", "image 2"]
    assert by_array.drop(columns="query").equals(by_file.drop(columns="query"))


def test_every_format_and_depth(tmp_path, images):
    picture = Image.fromarray(drawing(0, RNG))
    (images / "deep" / "er").mkdir(parents=True)
    for name in ("a.JPEG", "b.tif", "deep/c.webp", "deep/er/a.png", STRANGE):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(images / name)
    grey = RNG.integers(0, 256, (40, 30), dtype=np.uint8)
    (images / "IM0001").write_bytes(
        write(header(grey, PatientName="Mustermann^Johanna", PatientID="Patient-4711"))
    )
    (images / "notes.txt").write_text("no image")
    (images / ".hidden.png").write_bytes(b"")
    (images / "labels.csv").write_text("file;class\n")
    report = build(images, tmp_path / "archive", NAME)
    assert report.added == 26 and not report.faults
    assert dict(report.skipped) == {"files that are no images": 1, "hidden files": 1}
    (images / "notes.txt").unlink()
    assert_holds(tmp_path / "archive", images)
    for file in (tmp_path / "archive").rglob("*"):
        if file.is_file():
            held = file.read_bytes()  # times and checksums have short numbers by chance
            for private in (b"Mustermann", b"Johanna", b"Patient-4711"):
                assert private not in held


def test_the_second_build_describes_nothing(tmp_path, images, monkeypatch):
    build(images, tmp_path / "archive", NAME)
    before = {file: file.read_bytes() for file in tmp_path.glob("archive/**/*") if file.is_file()}
    monkeypatch.setattr(Archive, "descriptor", property(lambda self: 1 / 0))
    monkeypatch.setattr(update, "decode", lambda data: 1 / 0)
    report = build(images, tmp_path / "archive")
    assert (report.added, report.changed, report.removed, report.unchanged) == (0, 0, 0, 20)
    assert before == {file: file.read_bytes() for file in before}


def test_a_version_that_reads_files_differently_reads_all_again(
    cbir, tmp_path, images, monkeypatch, small_shards
):
    place = tmp_path / "archive"
    darker = (images / "1" / "003.png").read_bytes()

    def decode_as_before(data):
        if data == b"bad":
            return Decoded(None, "damaged")
        decoded = decode(data)
        return decoded._replace(image=decoded.image // 2) if data == darker else decoded

    (images / "bad.png").write_bytes(b"bad")
    for module in (update, store):
        monkeypatch.setattr(module, "RULES", RULES - 1)
    monkeypatch.setattr(update, "decode", decode_as_before)
    build(images, place, NAME)
    monkeypatch.undo()
    assert Archive(place).is_outdated
    query = images / "0" / "000.png"
    _, _, err = cbir("index", "search", place, query)
    again = f"build again: cbir index build {images} --out {place}"
    assert len(err) == 1 and err[0].endswith(again)
    assert f"files       this version may read some differently; {again}" in "".join(
        cbir("index", "info", place)[1]
    )

    def fail(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # in the middle
        patch.setattr(update, "write_faults", fail)
        build(images, place)
    assert Archive(place).is_outdated

    report = build(images, place)
    assert (report.added, report.removed, len(report.archive)) == (0, 0, 20)
    assert report.faults == {"bad.png": "not an image"}
    assert not Archive(place).is_outdated
    assert_holds(place, images)
    assert cbir("index", "search", place, query)[2] == []
    assert build(images, place).unchanged == 20


def test_an_archive_that_does_not_record_its_rules_is_outdated(tmp_path, images):
    place = tmp_path / "archive"
    build(images, place, NAME)
    written = json.loads((place / "archive.json").read_text())
    del written["sha256"], written["decoding"]
    written["sha256"] = compute_json_checksum(written)
    (place / "archive.json").write_text(json.dumps(written))
    assert Archive(place).is_outdated
    report = build(images, place)
    assert (report.changed, report.unchanged) == (0, 20)
    assert not Archive(place).is_outdated


def test_the_second_build_needs_no_torch(tmp_path, images):
    build(images, tmp_path / "archive", NETWORK)
    code = (
        "import sys; from cbir_lib.archive.update import build;"
        f"build({str(images)!r}, {str(tmp_path / 'archive')!r}, {NETWORK!r});"
        "assert not {'torch', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_new_changed_or_gone(tmp_path, images, small_shards):
    place = tmp_path / "archive"
    build(images, place, NAME)
    (images / "0" / "001.png").unlink()
    shutil.rmtree(images / "2")  # 6
    draw(images / "new", 7, seed=1)
    Image.fromarray(drawing(5, RNG)).save(images / "1" / "000.png")
    (images / "1" / "001.png").write_bytes(b"no longer an image")
    os.utime(images / "1" / "002.png", (1, 1))  # touched, not changed
    report = build(images, place)
    assert (report.added, report.changed, report.removed) == (7, 1, 8)
    assert report.unchanged == 20 - 9
    assert report.faults == {"1/001.png": "not an image"}
    assert_holds(place, images)
    again = build(images, place)
    assert (again.added, again.changed, again.removed, again.unchanged) == (0, 0, 0, 19)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "remove", "touch", "break", "build"]),
        st.sampled_from(["a.png", "b.png", "x/a.png", "x/b.png", "x/y/a.png"]),
        st.integers(0, 3),
    ),
    max_size=25,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_any_history_ends_as_an_archive_built_at_once(tmp_path_factory, monkeypatch, steps):
    monkeypatch.setattr(update, "SHARD", 2)
    root = tmp_path_factory.mktemp("history")
    folder, place = root / "images", root / "archive"
    folder.mkdir()
    Image.new("L", (8, 8), 200).save(folder / "stays.png")
    build(folder, place, NAME)
    for time_ns, (step, name, grey) in enumerate(steps, start=10**18):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if step == "build":
            build(folder, place)
        elif step == "write":
            Image.new("L", (8, 8), grey).save(file)
        elif step == "break":
            file.write_bytes(b"x" * grey)
        elif file.exists() and step == "remove":
            file.unlink()
        if file.exists() and step != "build":
            os.utime(file, ns=(time_ns, time_ns))  # even within one tick of the clock
    report = build(folder, place)
    once = build(folder, root / "once", NAME)
    rows, vectors = Archive(place).read_vectors()
    expected_rows, expected_vectors = Archive(root / "once").read_vectors()
    assert rows == expected_rows
    assert np.array_equal(vectors, expected_vectors)
    assert report.faults == once.faults
    assert all(len(report.archive.read_rows(shard)) <= 2 for shard in report.archive.shards())


def test_what_a_descriptor_has_learnt_never_changes(tmp_path, images):
    place = tmp_path / "archive"
    build(images, place, "gabor-histogram")
    learnt = (place / "descriptor.safetensors").read_bytes()
    before = dict(zip(*Archive(place).read_vectors(), strict=True))
    draw(images / "new", 10, seed=1)
    assert build(images, place).added == 10
    assert (place / "descriptor.safetensors").read_bytes() == learnt
    after = dict(zip(*Archive(place).read_vectors(), strict=True))
    assert all(np.array_equal(after[row], vector) for row, vector in before.items())
    other = build(images, tmp_path / "other", "gabor-histogram").archive
    assert other.description.identity != Archive(place).description.identity


@pytest.mark.parametrize(("count", "most"), [(20, 7), (19, 10), (20, 20), (20, 40), (20, 1)])
def test_a_descriptor_learns_from_images_spread_over_the_paths(tmp_path, count, most):
    images = draw(tmp_path / "images", 20)
    for file in sorted(images.rglob("*.png"))[count:]:
        file.unlink()
    scanned = scan.scan_folder(images)
    paths = list(scanned.images)
    places = np.linspace(0, count - 1, min(count, most)).astype(int)
    assert len(set(places)) == min(count, most)  # to the last one, no two of them far apart
    sample = update._draw_sample(images, scanned, most)
    assert np.array_equal(sample, [fitted(images / paths[place]) for place in places])


def test_files_that_replace_faulty_ones_are_from_all_over_the_paths(tmp_path, images):
    scanned = scan.scan_folder(images)
    paths = list(scanned.images)
    for place in range(0, 20, 2):
        (images / paths[place]).write_bytes(b"")
    sample = update._draw_sample(images, scanned, 10)
    readable = [fitted(images / path) for path in paths[1::2]]
    assert len(sample) == 10
    order = [next(i for i in range(10) if np.array_equal(readable[i], image)) for image in sample]
    assert sorted(order) == list(range(10)) != order
    assert np.array_equal(sample, update._draw_sample(images, scanned, 10))


def fitted(file):
    return fit_to_square(pixels(file), 128)


def test_memory_holds_a_shard_and_not_the_folder(tmp_path, images, small_shards, monkeypatch):
    seen = []
    transform = type(build_descriptor(NAME)).transform
    monkeypatch.setattr(
        type(build_descriptor(NAME)),
        "transform",
        lambda self, batch: seen.append(len(batch)) or transform(self, batch),
    )
    build(images, tmp_path / "archive", NAME)
    assert seen == [update.FEW, 8, 8, 4]  # first, whether the distance can be had


# Files at fault


def test_files_at_fault_are_listed_and_tried_again_when_they_change(tmp_path, images, monkeypatch):
    place = tmp_path / "archive"
    whole = (images / "0" / "000.png").read_bytes()
    (images / "cut.png").write_bytes(whole[: len(whole) // 2])
    (images / "empty.tif").touch()
    (images / "text.dcm").write_text("no DICOM")
    Image.new("L", (3, 3)).save(images / "tiny.png")
    (images / "out.png").symlink_to(__file__)
    (images / "nowhere.png").symlink_to(images / "gone.png")
    (images / "=1+1.png").write_bytes(b"x")  # in a table of faults, no formula
    expected = {
        "=1+1.png": "not an image",
        "cut.png": "damaged",
        "empty.tif": "empty file",
        "text.dcm": "not an image",
        "tiny.png": "3 x 3 pixels, too small",
    }
    report = build(images, place, NAME)
    links = {name: report.faults.pop(name) for name in ("nowhere.png", "out.png")}
    assert "leads nowhere" in links["nowhere.png"] and "leads out" in links["out.png"]
    assert report.faults == expected and report.added == 20
    listed = (place / "faults.csv").read_text()
    assert all(f"{file},{reason}" in listed.replace('"', "") for file, reason in expected.items())
    assert not any(line.startswith(("=", '"=')) for line in listed.splitlines())

    tried = []
    monkeypatch.setattr(update, "decode", lambda data: tried.append(data) or decode(data))
    assert set(build(images, place).faults) == {*expected, "out.png", "nowhere.png"}
    assert tried == []
    (images / "cut.png").write_bytes(whole)
    (images / "empty.tif").unlink()
    report = build(images, place)
    assert len(tried) == 1 and report.added == 1
    assert set(report.faults) == {"=1+1.png", "text.dcm", "tiny.png", "out.png", "nowhere.png"}
    (place / "faults.csv").write_text("file,reason\ndamaged")
    assert set(build(images, place).faults) == set(report.faults)
    assert len(tried) == 4  # those three again
    for name in report.faults:
        (images / name).unlink()
    build(images, place)
    assert not (place / "faults.csv").exists()


@pytest.mark.parametrize("passing", ["rights", "memory"])
def test_a_file_that_cannot_be_read_now_is_tried_again_and_its_image_kept(
    tmp_path, images, monkeypatch, passing
):
    place, known, new = tmp_path / "archive", images / "0" / "000.png", images / "new.png"
    build(images, place, NAME)
    shutil.copy(images / "0" / "001.png", new)
    os.utime(known)  # touched, but not changed
    read_bytes = Path.read_bytes

    def refuse(path):
        if path in (known, new):
            raise PermissionError(13, "Permission denied") if passing == "rights" else MemoryError
        return read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        report = build(images, place)
    assert set(report.faults) == {"0/000.png", "new.png"}
    assert (report.added, report.removed, report.unchanged) == (0, 0, 20)
    report = build(images, place)
    assert report.faults == {}
    assert (report.added, report.removed, report.unchanged) == (1, 0, 20)
    assert_holds(place, images)


def test_an_image_that_the_distance_cannot_compare_is_a_fault(tmp_path, images):
    Image.new("L", (64, 64)).save(images / "black.png")
    report = build(images, tmp_path / "archive", "hog", distance="Jensen-Shannon")
    assert report.added == 20 and "Jensen-Shannon" in report.faults["black.png"]
    assert len(Archive(tmp_path / "archive").search([images / "0" / "000.png"], 19)) == 19


@pytest.mark.parametrize(
    ("name", "distance", "what"),
    [
        ("lbp", "image distortion", "needs square thumbnails"),
        ("fourier-mellin", "image distortion", "needs square thumbnails"),
        ("haralick", "earth mover", "needs histograms"),
        ("haralick", "Jensen-Shannon", "needs histograms"),
        ("vlad", "chi-square", "needs histograms"),
        (NETWORK, "image distortion", "needs square thumbnails"),
    ],
)
def test_a_distance_that_the_vectors_cannot_have_is_refused(
    cbir, tmp_path, images, name, distance, what
):
    place = tmp_path / "archive"
    command = ("index", "build", images, "--descriptor", name, "--out", place)
    assert_two_lines(cbir(*command, "--distance", distance), what, "L2")
    assert not (place / "archive.json").exists()
    assert cbir(*command)[0] == 0  # in the same folder, with another one


@pytest.mark.parametrize(("call", "refused"), [("scandir", "images/2"), ("stat", "images/2/")])
def test_images_in_a_folder_that_cannot_be_read_are_kept(
    tmp_path, images, monkeypatch, call, refused
):
    """Nor where its names can be listed and not looked up, as with a file's permissions, 0644."""
    place, original = tmp_path / "archive", getattr(os, call)
    build(images, place, NAME)

    def refuse(path, *arguments, **options):
        if not isinstance(path, int) and refused in os.fspath(path):
            raise PermissionError(13, "Permission denied", path)
        return original(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        report = build(images, place)
    assert (report.removed, report.unchanged) == (0, 20)
    assert report.faults == {"2": "cannot be read: Permission denied"}
    assert build(images, place).faults == {}


@pytest.mark.parametrize("call", ["stat", "open"])
def test_an_image_that_cannot_be_inspected_is_kept(tmp_path, images, monkeypatch, call):
    place, known = tmp_path / "archive", images / "0" / "000"
    known.with_suffix(".png").rename(known)  # told by its first bytes
    build(images, place, NAME)
    original = getattr(Path, call)

    def refuse(path, *arguments, **options):
        if path == known and "follow_symlinks" not in options:
            raise OSError(5, "Input/output error", str(path))
        return original(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, refuse)
        if call == "stat":
            patch.setattr("cbir_lib.datasets.folder._starts_as_image", lambda path: True)
        report = build(images, place)
    assert (report.removed, report.unchanged) == (0, 20)
    if call == "stat":
        assert report.faults == {"0/000": "cannot be read: Input/output error"}
    assert build(images, place).faults == {}


def test_a_folder_without_any_of_the_images_is_refused(cbir, tmp_path, images):
    place = tmp_path / "archive"
    build(images, place, NAME)
    images.rename(tmp_path / "moved")
    images.mkdir()  # where a drive should be
    outcome = cbir("index", "build", images, "--out", place)
    assert_two_lines(outcome, "none of the 20 images", "is its drive connected")
    assert len(Archive(place)) == 20


def test_the_folder_may_move_and_so_may_both(tmp_path, images):
    build(images, tmp_path / "archive", NAME)
    query = images / "0" / "000.png"
    expected = Archive(tmp_path / "archive").search([pixels(query)])
    (tmp_path / "there").mkdir()
    shutil.move(images, tmp_path / "there")
    shutil.move(tmp_path / "archive", tmp_path / "there")
    moved = Archive(tmp_path / "there" / "archive")
    assert moved.folder == tmp_path / "there" / "images"
    shutil.move(moved.folder, tmp_path / "elsewhere")
    moved = Archive(tmp_path / "there" / "archive", tmp_path / "elsewhere")
    assert moved.search([pixels(moved.folder / "0" / "000.png")]).equals(expected)
    report = build(tmp_path / "elsewhere", moved.place)
    assert (report.added, report.unchanged) == (0, 20)
    assert Archive(moved.place).folder == tmp_path / "elsewhere"


# Interruptions

SLOW = """
import sys, time
from pathlib import Path
from cbir_lib.archive import update
from cbir_lib.cli.main import main

update.SHARD = 8
decode = update.decode

def slow(data):
    if Path({place!r}, "shards", "000002.safetensors").exists():
        time.sleep(3)  # whoever waits for that shard has the time to interrupt
    return decode(data)

update.decode = slow
sys.argv = ["cbir", "index", "build", {folder!r}, "--descriptor", {name!r}, "--out", {place!r}]
main()
"""


def begin(folder, place, name=NAME):
    """Start a build that is slow after its second shard; return when that is there."""
    code = SLOW.format(folder=str(folder), place=str(place), name=name)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        preexec_fn=heed_ctrl_c,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(6000):
        if (place / "shards" / "000002.safetensors").exists():
            return process
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    raise AssertionError("no second shard in five minutes")


def contents_of(place):
    return {
        file.relative_to(place): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in place.glob("shards/*")
    }


@pytest.mark.parametrize("name", [NAME, "gabor-histogram"])
def test_killed_and_resumed_it_ends_with_the_same_bytes(cbir, tmp_path, small_shards, name):
    images = draw(tmp_path / "images", 40)
    (images / "bad.png").write_bytes(b"bad")  # the shards must not depend on it
    place = tmp_path / "killed"
    process = begin(images, place, name)
    outcome = cbir("index", "build", images, "--out", place)
    assert_two_lines(outcome, "another build of", "you can search meanwhile")
    with pytest.warns(UserWarning, match="left 0 images, now there are"):
        assert len(Archive(place).search([images / "0" / "000.png"], 5)) == 5
    process.kill()
    process.communicate()
    kept = len(Archive(place))
    assert 16 <= kept < 40 and kept % 8 == 0
    assert f"left 0 images, now there are {kept}" in Archive(place).find_gap(kept)
    report = build(images, place, name)  # the lock of a killed build holds nobody up
    assert (report.unchanged, report.added) == (kept, 40 - kept)
    build(images, tmp_path / "whole", name)
    assert contents_of(place) == contents_of(tmp_path / "whole")
    assert len(contents_of(place)) == 5
    described, whole = Archive(place).description, Archive(tmp_path / "whole").description
    assert described == whole.model_copy(update={"archive": described.archive})
    assert described.archive != whole.archive
    assert report.faults == {"bad.png": "not an image"}
    assert not list(tmp_path.rglob("*.part"))


def test_ctrl_c_is_two_lines_and_keeps_what_is_finished(tmp_path, small_shards):
    images = draw(tmp_path / "images", 40)
    process = begin(images, tmp_path / "archive")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    lines = [line for line in err.splitlines() if not line.startswith("images: ")]
    assert_two_lines((process.returncode, "", lines), "interrupted", "start again")
    kept = len(Archive(tmp_path / "archive"))
    assert kept >= 16 and kept % 8 == 0
    assert build(images, tmp_path / "archive").unchanged == kept
    assert_holds(tmp_path / "archive", images)


def test_a_search_reads_again_what_a_build_has_removed(tmp_path, images, small_shards):
    there = build(images, tmp_path / "archive", NAME).archive
    assert len(there.search([np.zeros((9, 9), np.uint8)], 20)) == 20
    shutil.rmtree(images / "1")
    build(images, tmp_path / "archive")
    table = there.search([np.zeros((9, 9), np.uint8)])
    assert not table["path"].str.startswith("1/").any()
    with pytest.raises(CbirError, match="k = 20 is out of range"):
        there.search([np.zeros((9, 9), np.uint8)], 20)


def test_what_a_build_has_just_removed_is_not_missed(tmp_path, images, small_shards, monkeypatch):
    there = build(images, tmp_path / "archive", "hog").archive
    query = images / "0" / "000.png"
    there.engine("hnsw")
    before = there.search([query])
    gone = there.place / "shards" / "000000.safetensors"
    shards = Archive.shards
    monkeypatch.setattr(Archive, "shards", lambda self: [gone, *shards(self)])
    assert len(there) == 20
    assert there.read_recalls()["hnsw"].queries == 20
    assert Archive(there.place).search([query]).equals(before)
    gone.symlink_to("nowhere")
    with pytest.raises(CbirError, match="000000.safetensors leads nowhere"):
        len(there)


def test_a_full_disk_leaves_what_was_there(tmp_path, images, monkeypatch, small_shards):
    def full(*_):
        raise OSError(28, "No space left on device")

    build(images, tmp_path / "archive", NAME)
    draw(images / "new", 7)
    with monkeypatch.context() as patch:
        patch.setattr(store, "save", full)
        with pytest.raises(CbirError, match="no space left"):
            build(images, tmp_path / "archive")
    assert len(Archive(tmp_path / "archive")) == 20
    assert build(images, tmp_path / "archive").added == 7


# Mistakes


def test_another_descriptor_distance_or_training_is_refused(cbir, tmp_path, images, monkeypatch):
    place = tmp_path / "archive"
    build(images, place, NETWORK)
    again = ("index", "build", images, "--out", place)
    assert_two_lines(cbir(*again, "--descriptor", "hog"), f"descriptor {NETWORK}, not hog")
    assert_two_lines(cbir(*again, "--distance", "L1"), "distance cosine, not L1", "--distance")
    assert cbir(*again, "--descriptor", NETWORK, "--distance", "cosine")[0] == 0
    (tmp_path / "models").mkdir()
    networks = paths.trained_networks()
    shutil.copy(networks[shipped_network("D")], tmp_path / "models" / f"{NETWORK}.safetensors")
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    outcome = cbir(*again, "--descriptor", NETWORK)
    assert_two_lines(outcome, f"another training of {NETWORK}", "leave out --descriptor")
    assert cbir(*again)[0] == 0  # with its own
    assert len(Archive(place)) == 20


@pytest.mark.parametrize(
    ("arguments", "what", "hint"),
    [
        (["images", "--out", "new"], "needs a descriptor", "grey-histogram"),
        (["images", "--out", "new", "--descriptor", "hogg"], "descriptor 'hogg'", "'hog'"),
        (["images", "--out", "new", "--descriptor", f"{NETWORK}9"], "", f"'{NETWORK}'"),
        (
            ["images", "--out", "new", "--descriptor", "hog", "--distance", "l1"],
            "distance 'l1'",
            "'L1'",
        ),
        (["nowhere", "--out", "new", "--descriptor", NAME], "no folder nowhere", ""),
        (["empty", "--out", "new", "--descriptor", NAME], "has no image", "PNG"),
        (["broken", "--out", "new", "--descriptor", NAME], "none of the 1 files", ""),
        (
            ["images", "--out", "images", "--descriptor", NAME],
            "images is not an archive",
            "new folder",
        ),
        (["images", "--out", "images/0/000.png", "--descriptor", NAME], "is a file", "folder"),
    ],
)
def test_mistakes_in_building(cbir, tmp_path, images, monkeypatch, arguments, what, hint):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/a.png").write_bytes(b"broken")
    before = sorted(images.rglob("*"))
    assert_two_lines(cbir("index", "build", *arguments), what, hint)
    assert not Path("new/archive.json").exists()
    assert sorted(images.rglob("*")) == before


def test_a_folder_with_litter_is_a_new_folder(tmp_path, images):
    place = tmp_path / "archive"
    (place / "@eaDir").mkdir(parents=True)
    for name in (".DS_Store", ".lock.held", ".nfs0001", ".archive.json.0a0a0a0a.7.part"):
        (place / name).touch()
    assert len(build(images, place, NAME).archive) == len(list(images.rglob("*.png")))


def test_mistakes_in_searching(cbir, tmp_path, images):
    place = tmp_path / "archive"
    query = images / "0" / "000.png"
    (images / "bad.png").write_bytes(b"bad")
    assert_two_lines(cbir("index", "search", place, query), "is not an archive", "cbir index build")
    assert_two_lines(cbir("index", "info", place), "is not an archive", "cbir index build")
    build(images, place, NAME)
    for wrong in ("0", "-1", "21"):
        outcome = cbir("index", "search", place, query, "-k", wrong)
        assert_two_lines(outcome, f"k = {wrong} is out of range", "1 to 20")
    out = tmp_path / "out.html"
    for wrong, what in (("gone.png", "No such file"), ("bad.png", "not an image")):
        arguments = ("index", "search", place, query, images / wrong)
        outcome = cbir(*arguments, "--format", "html", "--out", out)
        assert_two_lines(outcome, what)
    assert_two_lines(cbir("index", "search", place, query, "--format", "pdf"), "pdf")
    assert not out.exists()
    assert len(Archive(place).search([query])) == 10  # the default
    assert len(Archive(place).search([query], 20)) == 19  # all but itself
    for wrong in (np.zeros((9, 9)), np.zeros((9, 9, 3), np.uint8)):
        with pytest.raises(CbirError, match="expected images"):
            Archive(place).search([wrong])


def test_an_archive_that_has_become_empty(cbir, tmp_path, images):
    place = tmp_path / "archive"
    build(images, place, NAME)
    for file in images.rglob("*.png"):
        file.write_bytes(b"broken")
    report = build(images, place)
    assert (report.removed, len(report.faults)) == (20, 20)
    query = draw(tmp_path / "other") / "0" / "000.png"
    assert_two_lines(cbir("index", "search", place, query), "has no image", "build again")
    assert cbir("index", "info", place)[0] == 0


def rewrite(file, **changes):
    described = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in described.items() if v is not None}))


DAMAGED = {
    "another version": (lambda f: rewrite(f, format="cbir_lib archive 7"), "has format"),
    "no version": (lambda f: rewrite(f, format=None), "has format"),
    "a key is missing": (lambda f: rewrite(f, distance=None), "distance: Field required"),
    "a key is unknown": (lambda f: rewrite(f, colour=1), "colour"),
    "a type is wrong": (lambda f: rewrite(f, size="128"), "size"),
    "truncated": (lambda f: f.write_text(f.read_text()[:-9]), "cannot read"),
    "a list": (lambda f: f.write_text("[]"), "cannot read"),
    "not text": (lambda f: f.write_bytes(b"\xff\xfe"), "cannot read"),
    "missing": (lambda f: f.unlink(), ""),
}


@pytest.mark.parametrize(("damage", "what"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_description_is_refused(cbir, tmp_path, images, damage, what):
    place = tmp_path / "archive"
    build(images, place, NAME)
    damage(place / "archive.json")
    before = contents_of(place)
    assert_two_lines(cbir("index", "search", place, images / "0" / "000.png"), what, "build")
    outcome = cbir("index", "build", images, "--descriptor", NAME, "--out", place)
    assert_two_lines(outcome, what)
    assert contents_of(place) == before


def shard_of(vectors, rows, identity="x", checksum=True):
    """Writes a shard as an archive does, sums and all, whatever is in it."""
    described = {
        "identity": identity,
        "vectors": store._compute_checksum(vectors),
        "rows": rows,
    }
    text = json.dumps(described)
    known = hashlib.sha256(text.encode()).hexdigest() if checksum else ""
    return lambda file: save_file({"vectors": vectors}, file, {"shard": known + text})


ONE = np.ones((1, 256), np.float32)
BROKEN = {
    "empty": lambda file: file.write_bytes(b""),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-50]),
    "no shard": lambda file: save_file({"vectors": ONE}, file),
    "no vectors": lambda file: save_file({}, file, {"shard": '{"identity": "x", "rows": []}'}),
    "too few rows": shard_of(ONE, []),
    "a short row": shard_of(ONE, [["a.png"]]),
    "of another archive": shard_of(ONE, [["a.png", 1, 1, "00"]]),
    "without a checksum": shard_of(ONE, [["a.png", 1, 1, "00"]], checksum=False),
    "a vector alone": shard_of(ONE[0], [["a.png", 1, 1, "00"]]),
    "a number": shard_of(np.ones((), np.float32), [["a.png", 1, 1, "00"]]),
    "of another type": shard_of(ONE.astype(np.int32), [["a.png", 1, 1, "00"]]),
    "a row of numbers": shard_of(ONE, [[1, 1, 1, 1]]),
    "rows of text": shard_of(ONE, "abcd"),
    "a list": lambda file: save_file(
        {"vectors": ONE}, file, {"shard": hashlib.sha256(b"[]").hexdigest() + "[]"}
    ),
    "a path up": shard_of(ONE, [["../../secret.png", 1, 1, "00"]]),
    "a path up inside": shard_of(ONE, [["a/../../secret.png", 1, 1, "00"]]),
    "an absolute path": shard_of(ONE, [["/etc/secret.png", 1, 1, "00"]]),
    "an empty path": shard_of(ONE, [["", 1, 1, "00"]]),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_damaged_shard_is_named_and_can_be_made_again(
    cbir, tmp_path, images, small_shards, damage
):
    place = tmp_path / "archive"
    build(images, place, NAME)
    shard = place / "shards" / "000002.safetensors"
    damage(shard)
    query = images / "0" / "000.png"
    assert_two_lines(cbir("index", "search", place, query), "000002.safetensors", "delete it")
    outcome = cbir("index", "build", images, "--out", place)
    assert_two_lines(outcome, "000002.safetensors", "delete it and build again")
    shard.unlink()
    assert build(images, place).added == 8
    assert_holds(place, images)


def test_a_lost_shard_is_said_until_it_is_there_again(cbir, tmp_path, images, small_shards):
    place, copy, lost = tmp_path / "archive", tmp_path / "copy", "left 20 images, now there are 12"
    assert build(images, place, "hog").archive.description.images == len(Archive(place)) == 20
    shutil.copytree(place, copy)
    (copy / "shards" / "000002.safetensors").unlink()  # as a copy that was broken off
    for method in ("exact", "hnsw"):
        search = ("--method", method, images / "0" / "000.png")
        code, out, err = cbir("index", "search", copy, *search)
        assert code == 0 and out and lost in " ".join(err)
        assert "left" not in " ".join(cbir("index", "search", place, *search)[2])
    assert lost in cbir("index", "info", copy)[1]
    assert "left" not in cbir("index", "info", place)[1]
    (images / "0" / "000.png").unlink()
    report = build(images, copy)
    assert (report.added, report.removed) == (8, 1)
    assert report.archive.description.images == len(Archive(copy)) == 19
    assert Archive(copy).find_gap(19) == ""


@pytest.fixture
def no_more_files():
    """A context in which the process can open no further file."""

    @contextmanager
    def limit():
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        with Path(os.devnull).open() as lowest:
            free = lowest.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    return limit


def test_what_the_system_does_not_open_is_neither_gone_nor_damaged(
    tmp_path, images, small_shards, no_more_files
):
    """safetensors calls every refusal "no such file", and a shard that is gone is passed over."""
    there = build(images, tmp_path / "archive", "hog").archive
    there.engine("hnsw")
    shards = there.shards()
    for read in (
        lambda: len(there),
        lambda: there.read_rows(shards[1]),
        lambda: load_descriptor(there.place / "descriptor.safetensors"),
        lambda: Index.load(there.place / "hnsw.safetensors"),
        lambda: Archive(there.place),
        lambda: Archive.descriptor.func(there),
    ):
        with no_more_files(), pytest.raises(CbirError) as raised:
            read()
        assert "Too many open files" in raised.value.what
        assert raised.value.hint == "the system limits the number of open files: ulimit -n"
    assert len(there) == 20


def test_a_copy_of_a_shard_beside_it_is_no_shard(tmp_path, images, small_shards):
    there = build(images, tmp_path / "archive", NAME).archive
    shard, query = there.shards()[0], images / "0" / "000.png"
    before = there.search([query])
    for name in ("000001 (1).safetensors", "000001-PC.safetensors", "._000001.safetensors"):
        shutil.copy(shard, shard.with_name(name))
    assert there.search([query]).equals(before)
    assert build(images, there.place).unchanged == 20


def test_images_that_two_shards_have_are_named_and_a_build_keeps_one(
    cbir, tmp_path, images, small_shards
):
    place = tmp_path / "archive"
    there = build(images, place, NAME).archive
    before = there.search([images / "0" / "000.png"])
    shutil.copy(there.shards()[0], place / "shards" / "000009.safetensors")
    outcome = cbir("index", "search", place, images / "0" / "000.png")
    assert_two_lines(outcome, "0/000.png twice", f"build again: cbir index build {images}")
    report = build(images, place)
    assert (report.added, report.changed, report.removed, report.unchanged) == (0, 0, 0, 20)
    assert report.archive.search([images / "0" / "000.png"]).equals(before)


def test_an_archive_that_does_not_record_its_images_is_not_called_incomplete(tmp_path, images):
    place = tmp_path / "archive"
    there = build(images, place, NAME).archive.description.model_copy(update={"images": None})
    (place / "archive.json").write_text(store.format_description(there))
    assert Archive(place).find_gap(19) == ""
    build(images, place)
    assert Archive(place).description.images == 20


def test_vectors_of_another_length_are_refused(tmp_path, images, small_shards):
    there = build(images, tmp_path / "archive", NAME).archive
    shard_of(np.ones((1, 7), np.float32), [["a", 1, 1, "00"]], there.description.identity)(
        there.place / "shards" / "000009.safetensors"
    )
    with pytest.raises(CbirError, match="vectors of several lengths"):
        there.search([images / "0" / "000.png"])


# What is stored is checked


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """An archive with a file of every kind, and what a search of it finds."""
    root = tmp_path_factory.mktemp("stored")
    images = draw(root / "images", 12)
    (images / "bad.png").write_bytes(b"bad")
    build(images, root / "archive", "gabor-histogram")  # it learns
    build(images, root / "network", NETWORK)
    results = {}
    for name in ("archive", "network"):
        there = Archive(root / name)
        results[name] = there.search([images / "0" / "000.png"], 5)
        approximate = Archive(root / "network")
        approximate.engine("hnsw")
    return root, results


STORED = (
    *("archive/archive.json", "archive/descriptor.safetensors"),
    *("archive/shards/000001.safetensors", "archive/faults.csv"),
    *("network/network.safetensors", "network/hnsw.safetensors"),
)


@pytest.mark.parametrize("name", STORED)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_is_refused_and_never_searched(stored, name, data):
    root, expected = stored
    file = root / name
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1), "byte")
    damaged = bytearray(whole)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7), "bit")
    kind = name.split("/")[0]
    query = root / "images" / "0" / "000.png"
    times = file.stat()
    try:
        file.write_bytes(damaged)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        there = Archive(root / kind)
        method = "hnsw" if "hnsw" in name else "exact"
        there.read_recalls()
        results = there.search([query], 5, there.engine(method))
    except CbirError as error:
        assert len(str(error).splitlines()) == 2
        assert name not in ("archive/faults.csv", "network/hnsw.safetensors")  # made again
    else:  # a file that is made again, or a byte without meaning, as a space between two words
        assert results.equals(expected[kind])
        faults = scan.read_faults(root / "archive" / "faults.csv")
        assert {f.reason for f in faults.values()} <= {"not an image"}
    finally:
        file.write_bytes(whole)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_vectors_with_a_flipped_bit_are_refused(cbir, tmp_path, images):
    place = tmp_path / "archive"
    build(images, place, NAME)
    shard = place / "shards" / "000001.safetensors"
    data = bytearray(shard.read_bytes())
    data[-6] ^= 1
    shard.write_bytes(data)
    outcome = cbir("index", "search", place, images / "0" / "000.png")
    assert_two_lines(outcome, "its checksum differs", "delete it and build again")
    assert cbir("index", "info", place)[0] == 0  # it looks at the names alone


def test_a_flipped_bit_anywhere_in_the_names_is_refused(tmp_path):
    there = build(draw(tmp_path / "images", 4), tmp_path / "archive", NAME).archive
    (shard,) = there.shards()
    whole = shard.read_bytes()
    rows = there.read_rows(shard)
    head = 8 + int.from_bytes(whole[:8], "little")
    for place in range(head):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 7
        shard.write_bytes(damaged)
        try:
            assert there.read_rows(shard) == rows  # white space behind the head
            assert whole[place : place + 1] == b" "
        except CbirError:
            pass


def test_a_flipped_bit_anywhere_in_the_description_is_refused(stored):
    root, _ = stored
    file = root / "archive" / "archive.json"
    whole = file.read_bytes()
    expected = Archive(root / "archive").description
    try:
        for place in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[place // 8] ^= 1 << place % 8
            file.write_bytes(damaged)
            try:
                assert Archive(root / "archive").description == expected  # white space
            except CbirError as error:
                assert len(str(error).splitlines()) == 2
    finally:
        file.write_bytes(whole)


def test_the_descriptor_of_another_archive_is_refused(cbir, tmp_path, images):
    build(images, tmp_path / "one", "gabor-histogram")
    draw(images / "new", 10, seed=1)
    build(images, tmp_path / "other", "gabor-histogram")
    build(images, tmp_path / "third", "hog")
    query = images / "0" / "000.png"
    for name in ("other", "third"):
        shutil.copy(tmp_path / name / "descriptor.safetensors", tmp_path / "one")
        outcome = cbir("index", "search", tmp_path / "one", query)
        assert_two_lines(outcome, "descriptor.safetensors", "build it again")
    build(images, tmp_path / "net", NETWORK)
    networks = paths.trained_networks()
    other = next(file for name, file in networks.items() if name != NETWORK)
    shutil.copy(other, tmp_path / "net" / "network.safetensors")
    assert_two_lines(cbir("index", "search", tmp_path / "net", query), "network.safetensors")
    (tmp_path / "net" / "network.safetensors").unlink()
    assert_two_lines(cbir("index", "search", tmp_path / "net", query), "network.safetensors")


FOREIGN = {
    "a method": ({"transform": ONE}, {}),
    "hidden": ({"__class__": ONE}, {}),
    "a setting": ({}, {"parameters": '{"bins": "many"}'}),
    "no settings": ({}, {"parameters": "[1]"}),
    "deep settings": ({}, {"parameters": "[" * 100_000}),
    "another": ({}, {"descriptor": "lbp"}),
    "unknown": ({}, {"descriptor": "os.system"}),
}


@pytest.mark.parametrize(("arrays", "settings"), FOREIGN.values(), ids=FOREIGN)
def test_names_and_types_of_a_foreign_descriptor_decide_nothing(
    cbir, tmp_path, images, arrays, settings
):
    place = tmp_path / "archive"
    build(images, place, NAME)
    file = place / "descriptor.safetensors"
    save_file(arrays, file, {"descriptor": NAME, "parameters": "{}"} | settings)
    outcome = cbir("index", "search", place, images / "0" / "000.png")
    assert_two_lines(outcome, "")


@pytest.mark.parametrize("link", ["homes/archives", "homes/archives/a"])
def test_an_archive_that_is_reached_through_a_link_knows_its_images(tmp_path, images, link):
    (tmp_path / "disk" / "far" / "deep" / "a").mkdir(parents=True)
    (tmp_path / link).parent.mkdir(parents=True)
    (tmp_path / link).symlink_to(
        tmp_path / "disk" / "far" / "deep" / ("a" if link[-1] == "a" else "")
    )
    place = tmp_path / "homes" / "archives" / "a"
    build(images, place, NAME)
    for reached in (place, place.resolve()):
        assert Archive(reached).folder.resolve() == images.resolve()


def test_a_query_is_not_overwritten(cbir, tmp_path, images):
    build(images, tmp_path / "archive", NAME)
    query = images / "0" / "000.png"
    before = query.read_bytes()
    outcome = cbir("index", "search", tmp_path / "archive", query, "--out", query)
    assert_two_lines(outcome, "is one of the images to search with", "name another file")
    assert query.read_bytes() == before


def test_no_image_and_nothing_of_the_archive_is_overwritten(cbir, tmp_path, images):
    """As ``--out *.png`` would, which makes the first of them the file to write."""
    place = tmp_path / "archive"
    build(images, place, NAME)
    queries = sorted(images.glob("0/*.png"))
    contents = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    outcome = cbir("index", "search", place, *queries[1:], "--out", queries[0])
    assert_two_lines(outcome, "has the name of an image, and the results are text", "similar.html")
    for name in ("archive.json", "new.json", "shards/000001.safetensors"):
        outcome = cbir("index", "search", place, queries[0], "--out", place / name)
        assert_two_lines(outcome, f"lies in {place}", "in another folder")
    assert contents == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


def test_a_home_is_expanded_where_the_shell_does_not(cbir, tmp_path, images, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "images")
    build("~/images", "~/archive", NAME)
    assert len(Archive("~/archive", "~/images").search(["~/images/0/000.png"], 3)) == 3
    search = ("index", "search", tmp_path / "archive", "0/000.png")
    assert cbir(*search, "--folder=~/images", "--format=json", "--out=~/a.json")[0] == 0
    assert (tmp_path / "a.json").is_file() and not Path("~").exists()


def test_a_folder_of_images_that_is_not_there_is_said(cbir, tmp_path, images):
    place = tmp_path / "archive"
    build(images, place, NAME)
    query = tmp_path / "query.png"
    shutil.copy(images / "0" / "000.png", query)
    outcome = cbir("index", "search", place, query, "--folder", tmp_path / "nowhere")
    assert_two_lines(outcome, f"no folder {tmp_path / 'nowhere'}", "holds the images")
    images.rename(tmp_path / "moved")
    code, out, err = cbir("index", "search", place, query)
    assert code == 0 and out
    assert err == [f"{place}: {images}, which is no folder here; name it: --folder"]
    assert cbir("index", "search", place, query, "--folder", tmp_path / "moved")[2] == []
    assert f"{images}, which is no folder here" in cbir("index", "info", place)[1]


def test_a_single_image_is_no_list_of_images(tmp_path, images):
    there = build(images, tmp_path / "archive", NAME).archive
    file = images / "0" / "000.png"
    for single in (file, str(file), pixels(file)):
        with pytest.raises(CbirError, match=r"no list of images[^$]*give a list: \[image\]"):
            there.search(single)
    stack = np.stack([fit_to_square(pixels(file), 99)] * 2)
    assert there.search(stack, 3)["query"].tolist() == ["image 1"] * 3 + ["image 2"] * 3


def test_many_queries_are_not_held_at_once(tmp_path, images, monkeypatch):
    """Of a thousand photographs only what is compared and shown is kept."""
    there = build(images, tmp_path / "archive", NAME).archive
    alive, most = [], 0

    def large():
        nonlocal most
        for _ in range(6):
            image = np.zeros((500, 400), np.uint8)
            alive.append(weakref.ref(image))
            most = max(most, sum(one() is not None for one in alive))
            yield image

    assert len(there.search(large(), 2)) == 12
    assert most <= 2


def test_a_link_out_of_the_folder_is_never_shown(cbir, tmp_path, images):
    place, out = tmp_path / "archive", tmp_path / "similar.html"
    build(images, place, NAME)
    secret = tmp_path / "secret.png"
    Image.new("L", (20, 20), 77).save(secret)
    target = images / Archive(place).search([images / "0" / "000.png"], 1)["path"][0]
    target.unlink()
    target.symlink_to(secret)
    search = ("index", "search", place, images / "0" / "000.png")
    outcome = cbir(*search, "--format", "html", "--out", out)
    assert_two_lines(outcome, "leads out of the folder", "build again")
    assert not out.exists()
    assert cbir("index", "build", images, "--out", place)[0] == 0
    assert cbir(*search, "--format", "html", "--out", out)[0] == 0


def test_paths_that_an_engine_answers_stay_inside(tmp_path, images):
    there = build(images, tmp_path / "archive", NAME).archive
    engine = there.engine()
    engine.index.ids = engine.index.ids.astype("<U40")
    engine.index.ids[:] = [f"../{number}.png" for number in range(20)]
    with pytest.raises(CbirError, match="leaves the folder"):
        there.search([images / "0" / "000.png"], 3, engine)


# Approximate methods


def test_copies_hurt_nobody_and_there_are_k_rows(cbir, tmp_path):
    images = draw(tmp_path / "images", 60)
    for number in range(80):
        Image.new("L", (64, 64), 3).save(images / f"blank {number}.png")
    place, query = tmp_path / "archive", images / "0" / "000.png"
    build(images, place, "hog", distance="L2")
    search = ("index", "search", place, query, "--format", "json")
    exact = json.loads(cbir(*search)[1])
    code, out, err = cbir(*search, "--method", "hnsw")
    assert code == 0 and json.loads(out) == exact and len(exact) == 10
    assert err == [
        "hnsw finds 100.0 % of the 10 nearest (measured with 61 of its own images); exact finds all"
    ]
    out = cbir("index", "info", place)[1]
    assert re.search(r"\nhnsw +finds 100\.0 % of the 10 nearest \(measured with 61", out)
    # A copy finds its original first, and the blank ones are found as a blank one is asked for.
    copy = tmp_path / "copy.png"
    Image.fromarray(np.pad(pixels(query), ((0, 64), (0, 64)))).save(copy)
    blank = tmp_path / "blank.png"
    Image.new("L", (32, 32), 3).save(blank)  # other pixels, the same vector
    there = Archive(place)
    for file in (copy, blank):
        one, other = (there.search([file], 90, there.engine(m)) for m in ("exact", "hnsw"))
        assert one.equals(other) and len(one) == 90
    draw(images / "new", 1)
    build(images, place)
    assert "hnsw" not in cbir("index", "info", place)[1]  # of what the archive was


@pytest.mark.parametrize("number", [13, 28, 30])  # EACCES, ENOSPC, EROFS
def test_an_archive_that_cannot_be_written_is_searched(cbir, tmp_path, images, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    place = tmp_path / "archive"
    build(images, place, "hog")
    monkeypatch.setattr("cbir_lib.retrieval.index.replacing", refuse)
    code, out, _ = cbir("index", "search", place, images / "0" / "000.png", "--method", "hnsw")
    assert code == 0 and len(out.splitlines()) == 11
    assert not (place / "hnsw.safetensors").exists()


@pytest.mark.parametrize(("method", "count"), [("hnsw", 20), ("ivf-pq", 280)])
def test_what_a_method_has_made_is_kept_until_the_archive_changes(
    cbir, tmp_path, monkeypatch, method, count
):
    images = draw(tmp_path / "images", count)
    place, query = tmp_path / "archive", images / "0" / "000.png"
    build(images, place, "hog")

    def found():
        there = Archive(place)
        return there.search([query], 5, there.engine(method))

    def assert_near_exact(answers):
        exact = Archive(place).search([query], 5)
        assert set(answers["path"]) & set(exact["path"]) and len(answers) == 5
        if method == "hnsw":  # of 20 images nothing is missed
            assert answers.equals(exact)

    expected = found()
    assert_near_exact(expected)
    kept = place / f"{method}.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(Archive, "read_vectors", lambda self: 1 / 0)
        assert found().equals(expected)
    kept.write_bytes(kept.read_bytes()[:-9])
    assert found().equals(expected)
    shutil.copy(images / "0" / "001.png", images / "copy.png")
    (images / expected["path"][0]).unlink()
    build(images, place)
    assert_near_exact(found())
    assert not found().equals(expected)
    search = ("index", "search", place, query, "-k", "5", "--format", "json")
    assert json.loads(cbir(*search, "--method", method)[1]) == found().to_dict("records")
    assert_two_lines(cbir(*search, "--method", "hnws"), "method 'hnws'", "'hnsw'")
    few = draw(tmp_path / "few", 3)
    build(few, tmp_path / "histograms", NAME)
    search = ("index", "search", tmp_path / "histograms", query, "--method", method)
    assert_two_lines(cbir(*search), "Jensen-Shannon", "exact")


# What is shown


def test_the_table_the_json_and_the_page_say_the_same(cbir, tmp_path, images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (images / STRANGE).parent.mkdir()
    shutil.copy(images / "0" / "000.png", images / STRANGE)
    Image.fromarray(drawing(0, RNG)).save(images / "query.png")
    code, out, _ = cbir("index", "build", images, "--descriptor", NAME, "--out", "archive")
    assert code == 0 and "22 added, 0 changed, 0 removed, 0 unchanged: 22 images" in out
    queries = ("images/query.png", "images/1/000.png", "images/query.png")
    expected = Archive("archive").search(queries[:2], 21)

    search = ("index", "search", "archive", *queries, "-k", "21")
    code, out, _ = cbir(*search)
    assert code == 0 and len(out.splitlines()) == 1 + len(expected) == 43
    assert out.splitlines()[1].split()[:2] == ["images/query.png", "1"]

    code, out, _ = cbir(*search, "--format", "json")
    assert code == 0 and json.loads(out) == expected.to_dict("records")
    cbir(*search, "--format", "json", "--out", "found.json")
    assert json.loads(Path("found.json").read_text()) == json.loads(out)

    gone = expected["path"][1]
    (images / gone).unlink()
    code, out, _ = cbir(*search, "--format", "html")
    assert code == 0 and "similar.html" in out
    page = Path("similar.html").read_text()
    soup = BeautifulSoup(page, "html.parser")
    assert not soup.find(["script", "link", "iframe"])
    assert re.findall(r"https?:|//|@import|url\(", re.sub('src="data:[^"]*"', "", page)) == []
    shown = [
        (
            section.figure.figcaption.get_text("", strip=True).removeprefix("Query"),
            int(item.b.text),
            item.figcaption.get_text("", strip=False).split(item.span.text, 1)[1],
        )
        for section in soup.find_all("section")
        for item in section.find_all("li")
    ]
    wanted = expected[["query", "rank", "path"]]
    assert shown == [tuple(row) for row in wanted.itertuples(index=False)]
    assert STRANGE in [path for _, _, path in shown]
    missing = soup.find_all(class_="none")
    assert len(missing) == (expected["path"] == gone).sum() > 0
    assert all(place.text == "no such file" for place in missing)
    sources = [image["src"] for image in soup.find_all("img")]
    assert len(sources) == 2 + len(expected) - len(missing)
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)


@pytest.mark.parametrize("form", ["table", "json", "html"])
def test_a_query_from_a_pipe_is_read_once(cbir, tmp_path, images, form):
    build(images, tmp_path / "archive", NAME)
    out, (read_end, write_end) = tmp_path / "out", os.pipe()
    with os.fdopen(read_end), os.fdopen(write_end, "wb") as pipe:
        pipe.write((images / "0" / "000.png").read_bytes())
        pipe.close()
        query = f"/dev/fd/{read_end}"
        search = ("index", "search", tmp_path / "archive", query, "--format", form)
        assert cbir(*search, "--out", out)[::2] == (0, [])
    assert query in out.read_text().replace("<wbr>", "")


def test_a_query_from_standard_input(tmp_path, images):
    build(images, tmp_path / "archive", NAME)
    command = [sys.executable, "-m", "cbir_lib.cli", "index", "search", tmp_path / "archive", "-"]
    with (images / "0" / "000.png").open("rb") as query:
        done = subprocess.run(
            [*command, "--format", "json"], stdin=query, capture_output=True, check=True
        )
    assert done.stderr == b""
    table = Archive(tmp_path / "archive").search([images / "0" / "000.png"])
    answers = json.loads(done.stdout)
    assert [answer["path"] for answer in answers] == table["path"].tolist()
    assert {answer["query"] for answer in answers} == {"-"}


def test_an_image_on_the_page_is_the_image_made_small():
    ramp = np.tile(np.linspace(0, 255, 768), (400, 1))
    element = result_page._embed_image(ramp.astype(np.uint8), 'a "name"')
    image = BeautifulSoup(element, "html.parser").img
    assert image["alt"] == 'a "name"'
    small = Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1])))
    assert small.size == (result_page.THUMBNAIL_PX, 100) and small.mode == "L"
    mean = ramp.reshape(100, 4, 192, 4).mean(axis=(1, 3))
    assert np.abs(np.asarray(small) - mean).max() < 4  # JPEG


def test_info(cbir, tmp_path, images):
    (images / "bad.png").write_bytes(b"bad")
    build(images, tmp_path / "archive", NETWORK)
    code, out, _ = cbir("index", "info", tmp_path / "archive")
    assert code == 0
    assert re.search(rf"descriptor +{NETWORK}\n", out) and re.search(r"distance +cosine\n", out)
    assert re.search(rf"images +20 of {images}\n", out) and "1 files, in" in out
    listed = tmp_path / "archive" / "faults.csv"
    saved = listed.read_text().replace(",", ";")  # as a spreadsheet saves it
    listed.write_text(saved)
    assert "another program has changed" in cbir("index", "info", tmp_path / "archive")[1]
    build(images, tmp_path / "archive")
    assert "1 files, in" in cbir("index", "info", tmp_path / "archive")[1]


def test_progress_is_a_line_where_there_is_no_terminal(cbir, tmp_path, images):
    _, _, err = cbir("index", "build", images, "--descriptor", NAME, "--out", tmp_path / "a")
    assert err == ["images: 20 of 20"]
    assert cbir("index", "build", images, "--out", tmp_path / "a")[2] == []


def test_progress_counts_the_files_that_are_read_again(tmp_path, images, small_shards):
    build(images, tmp_path / "archive", NAME)
    for number, file in enumerate(sorted(images.rglob("*.png"))[:12]):
        os.utime(file, (number, number))
    draw(images / "new", 3, seed=1)
    seen = []
    build(images, tmp_path / "archive", progress=lambda *both: seen.append(both))
    assert seen == [(done, 15) for done in range(1, 16)]


@pytest.mark.parametrize("command", ["build", "search", "info", "push"])
def test_every_help_has_an_example(cbir, command):
    code, out, _ = cbir("index", command, "--help")
    assert code == 0 and f"cbir index {command}" in out.split("Usage")[1].split("\n", 1)[1]


# In a notebook


def shown_by(widget):
    soup = BeautifulSoup(widget.children[1].value, "html.parser")
    texts = [item.figcaption.get_text("|", strip=True).split("|") for item in soup.find_all("li")]
    return [(int(rank), "".join(path)) for rank, _, *path in texts]


def test_the_widget_finds_what_a_search_finds(tmp_path, images):
    there = build(images, tmp_path / "archive", NAME).archive
    query = images / "1" / "003.png"
    widget = cbir_lib.search_widget(there.place)
    upload, path, number = widget.children[0].children
    assert (number.min, number.value, number.max) == (1, 10, 20)

    def expected(file, k):
        results = there.search([file], k)
        return list(zip(results["rank"], results["path"], strict=True))

    path.value = str(query)
    assert shown_by(widget) == expected(query, 10)
    number.value = 4
    assert shown_by(widget) == expected(query, 4)
    other = images / "2" / "000.png"
    upload.set_trait("value", (file_of(other),))
    assert shown_by(widget) == expected(other, 4)
    path.value = str(images / "gone.png")
    assert "No such file" in widget.children[1].value and not shown_by(widget)
    (tmp_path / "bad.png").write_bytes(b"bad")
    upload.set_trait("value", (file_of(tmp_path / "bad.png"),))
    assert "not an image" in widget.children[1].value


def file_of(path):
    from ipywidgets.widgets.widget_upload import _deserialize_single_file

    data = path.read_bytes()
    sent = {"name": path.name, "type": "image/png", "size": len(data), "last_modified": 0}
    return _deserialize_single_file(sent | {"content": memoryview(data)})


def test_the_widget_says_that_images_are_missing(tmp_path, images, small_shards):
    there = build(images, tmp_path / "archive", "hog").archive
    there.shards()[1].unlink()
    widget = cbir_lib.search_widget(there)
    _, path, _ = widget.children[0].children
    path.value = str(images / "0" / "000.png")
    said = BeautifulSoup(widget.children[1].value, "html.parser").p.text
    assert said == f"{there.place}: {there.find_gap(12)}" and "now there are 12" in said


def test_the_widget_refuses_an_empty_archive(tmp_path, images):
    place = tmp_path / "archive"
    build(images, place, NAME)
    for file in place.glob("shards/*"):
        file.unlink()
    with pytest.raises(CbirError, match="has no image"):
        cbir_lib.search_widget(place)


# The page of the book that tells of it

PAGE = (paths.project_root() / "book" / "archive.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_commands_of_the_page_do_what_it_says(cbir, tmp_path, phantom_set, monkeypatch):
    pytest.importorskip("milvus_lite")
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate(phantom_set.images[:14]):
        file = Path("radiographs") / ("knee", "hand")[number % 2] / f"{number // 2 + 1:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    text = "".join(blocks("bash")).replace("\\\n", "")  # a long command takes two lines
    commands = text.splitlines()
    run = [line.split()[1:] for line in commands if line.startswith(".venv/bin/cbir ")]
    assert len(run) == len(commands) - 1 == 8  # the other one is pip's
    for arguments in run:
        assert cbir(*arguments)[0] == 0, arguments
    assert {"archive", "similar.html", "vectors.db"} <= {path.name for path in tmp_path.iterdir()}
    (block,) = blocks("python")
    exec(block, {})


def test_the_numbers_of_the_page_are_those_of_the_code():
    assert f"less than {store.SHARD} images" in PAGE
    assert f"described {store.SHARD} at a time" in PAGE
    assert f"at most {update.SAMPLE} images" in PAGE
    assert f"a square of {store.SIZE_PX} pixels" in PAGE
    vector = cbir_lib.load_network("phantom-F-augment-s0").transform(np.ones((1, 9, 9), np.uint8))
    assert f"its {vector.shape[1]} values" in PAGE and vector.itemsize == 4
    for name in ("archive.json", "descriptor.safetensors", "network.safetensors", "faults.csv"):
        assert f"`{name}`" in PAGE

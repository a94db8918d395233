"""Mutated files of every kind that is read: each is refused in two lines or read, and never more.

``CBIR_FUZZ`` says how many mutated inputs of each kind are tried (few in the suite; 500 are all).
What has a checksum is refused, made again, or gives the answer of the whole file; pictures, tables
and study files, which have none, are read or refused with a reason.
"""

import json
import os
import resource
import shutil
import signal
import zlib

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from cbir_lib.archive import scan, update
from cbir_lib.archive.store import Archive
from cbir_lib.datasets import cache, folder, phantom
from cbir_lib.descriptors.fitted import load_descriptor, save_descriptor
from cbir_lib.descriptors.gabor import GaborHistogram
from cbir_lib.errors import CbirError
from cbir_lib.files import compute_file_checksum
from cbir_lib.images.decoding import decode
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks.modules import TrainedNetwork, build_network, read_network, save_network
from cbir_lib.networks.training import _described
from cbir_lib.retrieval.index import Index
from cbir_lib.study import results
from cbir_lib.study.config import read_study
from cbir_lib.tensors import read_tensors, write_tensors
from tests.fixtures import drawing, write_drawings
from tests.images.test_dicom import make
from tests.study.test_results import changed

COUNT = int(os.environ.get("CBIR_FUZZ", "12"))
LONGEST_S = 20  # processor time; a hang takes more
MOST_BYTES = 1_000_000_000
PICTURE = drawing(1, np.random.default_rng(0))


def mutate(data, rng):
    """Change a file as transfers, faulty drives and ill will do."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at = (
            int(rng.integers(len(data)))
            if rng.random() < 0.5
            else int(rng.integers(min(len(data), 400)))
        )
        way = int(rng.integers(8))
        if way < 3:
            data[at] ^= 1 << int(rng.integers(8))
        elif way == 3:
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff"])
        elif way == 4 and len(data) > 20:
            del data[max(at, 1) :]
        elif way == 5:
            data[at:at] = rng.bytes(int(rng.integers(1, 9)))
        elif way == 6:
            data[at : at + 1] = bytes([int(rng.integers(256))])
        else:
            data[at:at] = data[at : at + int(rng.integers(1, 200))]
        if not data:
            break
    return bytes(data)


def encoded(kind, image):
    return lambda: cv2.imencode(kind, image)[1].tobytes()


def saved(kind, **options):
    def write():
        import io

        file = io.BytesIO()
        Image.fromarray(PICTURE).save(file, kind, **options)
        return file.getvalue()

    return write


DEEP = PICTURE.astype(np.uint16) * 257
PICTURES = {
    "png": saved("PNG"),
    "png of 16 bits": encoded(".png", DEEP),
    "jpeg": saved("JPEG"),
    "progressive jpeg": saved("JPEG", progressive=True),
    "tiff": saved("TIFF", compression="tiff_lzw"),
    "tiff of 16 bits": encoded(".tiff", DEEP),
    "float tiff": encoded(".tiff", PICTURE.astype(np.float32)),
    "webp": saved("WEBP"),
    "bmp": saved("BMP"),
    "pgm": encoded(".pgm", PICTURE),
    "jpeg 2000": saved("JPEG2000"),
    "dicom": lambda: make(DEEP),
}


def guarded(read, *arguments):
    """Read; a hang becomes an error, and so does more memory than is allowed."""

    def stop(number, frame):
        raise AssertionError("a hang")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    old = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
    try:
        return read(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        assert grown < MOST_BYTES, f"{grown:,} bytes"


def assert_refusal(error):
    assert len(str(error).splitlines()) == 2, str(error)
    assert len(str(error)) < 3000


def seeded(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures(kind, capfd):
    whole, rng = PICTURES[kind](), seeded(kind)
    refused = 0
    for _ in range(COUNT):
        image, remark = guarded(decode, mutate(whole, rng))
        assert (image is None) <= bool(remark)
        assert image is None or (image.dtype == np.uint8 and image.ndim == 2)
        refused += image is None
    assert capfd.readouterr() == ("", "")
    print(f"{kind}: {refused} refused, {COUNT - refused} read")


# Files without a checksum


TABLE = "file;class;split\n" + "".join(f"{i:03}.png;{'ab'[i % 2]};\n" for i in range(12))
STUDY = """
profiles:
  quick: &q {dataset: phantom, images: {train: 4, validation: 5, test: 1}, size: 64, seeds: [0]}
  other: {<<: *q, size: 32}
grid:
  networks: {plain: {network: [A, B], dropout: [0.5]}}
  descriptors: {hog: {cell_px: [8, 16]}}
"""


@pytest.fixture
def images(tmp_path):
    return write_drawings(tmp_path / "images", 12, kinds=2)


def test_tables(images, tmp_path):
    rng, refused = seeded("table"), 0
    (images / "labels.csv").write_text(TABLE)
    assert len(folder.read(images, 16).images) == 12
    for _ in range(COUNT):
        (images / "labels.csv").write_bytes(mutate(TABLE.encode(), rng))
        try:
            data = guarded(folder.read, images, 16)
            assert len(data.images) <= 12
        except CbirError as error:
            assert_refusal(error)
            refused += 1
    print(f"table: {refused} refused, {COUNT - refused} read")


def test_study_files(tmp_path):
    rng, refused, path = seeded("study"), 0, tmp_path / "study.yml"
    path.write_text(STUDY)
    assert len(read_study(path).runs("quick")) == 3
    for _ in range(COUNT):
        path.write_bytes(mutate(STUDY.encode(), rng))
        try:
            study = guarded(read_study, path)
            for name in study.profiles:
                study.runs(name)
        except CbirError as error:
            assert_refusal(error)
            refused += 1
    print(f"study: {refused} refused, {COUNT - refused} read")


# Files with a checksum: a name, how the file is written, and how it is read to something comparable


def write_network(path):
    module = build_network("G", np.zeros((16, 16), np.float32), classes=3, reading="pooled")
    names = ("a", "b", "c")
    save_network(path, TrainedNetwork("G", {"reading": "pooled"}, names, Preprocessing(16), module))


def describe_network(path):
    trained = read_network(path)
    weights = {key: value.numpy().tobytes() for key, value in trained.module.state_dict().items()}
    return trained.name, trained.options, trained.class_names, trained.preprocessing, weights


def write_descriptor(path):
    fitted = GaborHistogram(scales=2, orientations=2, bins=8)
    fitted.edges_ = np.sort(np.random.default_rng(0).random((4, 7), np.float32))
    save_descriptor(path, "gabor-histogram", fitted)


def describe_descriptor(path):
    fitted = load_descriptor(path)
    return fitted.get_params(), fitted.edges_.tobytes()


def write_index(path):
    vectors = np.random.default_rng(0).random((200, 8), np.float32)
    Index("L2", "hnsw", "x").add(vectors, [str(i) for i in range(200)]).build().save(path)


def describe_index(path):
    index = Index.load(path, "x")
    ranking = index.search(index.vectors[:5], 5)
    return index.vectors.tobytes(), index.ids.tolist(), ranking.rows.tolist()


def write_vectors(path):
    write_tensors(path, {"test": np.arange(60, dtype=np.float32).reshape(6, 10)}, {"run": "x"})


def describe_vectors(path):
    arrays, described = read_tensors(path, "table of vectors", "make it again")
    return {name: array.tobytes() for name, array in arrays.items()}, described


def write_checkpoint(path):
    state = {"callbacks": {"Checkpoints": {"purpose": "x"}}, "epoch": 3, "w": torch.arange(500.0)}
    torch.save(state, path)


def describe_checkpoint(path):
    return _described(path), torch.load(path, weights_only=True)["w"].numpy().tobytes()


SUMMED = {
    "network": (write_network, describe_network),
    "descriptor": (write_descriptor, describe_descriptor),
    "index": (write_index, describe_index),
    "vectors": (write_vectors, describe_vectors),
    "checkpoint": (write_checkpoint, describe_checkpoint),
    "result": (lambda path: results.write(path, results.Result(**changed())), results.read),
}


def try_all(name, path, describe, restore=lambda: None):
    """Mutate one file again and again; count the refusals."""
    whole, rng, refused = path.read_bytes(), seeded(name), 0
    expected = describe()
    for _ in range(COUNT):
        path.write_bytes(mutate(whole, rng))
        try:
            assert guarded(describe) == expected, "silently accepted"
        except CbirError as error:
            assert_refusal(error)
            refused += 1
        restore()
    path.write_bytes(whole)
    print(f"{name}: {refused} refused, {COUNT - refused} the same")


@pytest.mark.parametrize("name", SUMMED)
def test_what_has_a_checksum(name, tmp_path):
    write, describe = SUMMED[name]
    path = tmp_path / "file"
    write(path)
    try_all(name, path, lambda: describe(path))


ARCHIVED = ("archive.json", "descriptor.safetensors", "shards/000001.safetensors")
REMADE = ("hnsw.safetensors", "faults.csv")


@pytest.mark.parametrize("name", [*ARCHIVED, *REMADE])
def test_archives(name, images, tmp_path):
    place = tmp_path / "archive"
    (images / "bad.png").write_bytes(b"bad")
    update.build(images, place, "hog")
    query = drawing(0, np.random.default_rng(3))
    Archive(place).engine("hnsw")

    def search():
        archive = Archive(place)
        scan.read_faults(place / "faults.csv")
        archive.read_recalls()
        results_table = archive.search([query], 5, archive.engine("hnsw"))
        return results_table.to_dict("list")

    def restore():
        shutil.rmtree(place)
        shutil.copytree(tmp_path / "whole", place)

    shutil.copytree(place, tmp_path / "whole")
    try_all(name, place / name, search, restore)


@pytest.mark.parametrize("name", ["images.npy", "records.parquet", "set.json"])
def test_caches(name, images, monkeypatch):
    for label in ("a", "b"):
        (images / label).mkdir()
    for file in images.glob("*.png"):
        file.rename(images / ("a" if int(file.stem) % 2 else "b") / file.name)
    monkeypatch.setattr(cache, "_write", cache._write)

    def load():
        data = folder.load(images, 16)
        return data.checksum, data.images.tobytes(), data.records.to_dict("list")

    load()
    [path] = cache.paths.cache_folder().glob(f"*/{name}")
    try_all(name, path, load)


@pytest.mark.parametrize("name", ["train-0.parquet", "labels.csv"])
def test_phantom_images(name, tmp_path):
    """The checksum is written anew, as anyone may who changes a file."""
    place = tmp_path / "phantom"
    place.mkdir()
    classes, rng = list(phantom.CLASSES), seeded(name)
    jpegs = [cv2.imencode(".jpg", drawing(i % 5, rng))[1].tobytes() for i in range(30)]
    ids = [f"p{i:05}" for i in range(30)]
    shard = pa.table({"image_id": ids, "image": [{"bytes": j, "path": "x"} for j in jpegs]})
    pq.write_table(shard, place / "train-0.parquet", compression="none")
    rows = [
        f"{ids[i]},{phantom.SPLITS[i // 5 % 3]},{classes[i % 5]},1121-120-200-700,s{i},v,64,64"
        for i in range(30)
    ]
    (place / "labels.csv").write_text("\n".join([",".join(phantom.COLUMNS), *rows]) + "\n")
    whole, files, refused = (place / name).read_bytes(), ("train-0.parquet", "labels.csv"), 0
    for _ in range(COUNT):
        (place / name).write_bytes(mutate(whole, rng))
        sums = [f"{compute_file_checksum(place / file)}  {file}\n" for file in files]
        (place / "SHA256SUMS").write_text("".join(sums))
        try:
            guarded(phantom.read, place)
        except CbirError as error:
            assert_refusal(error)
            refused += 1
    print(f"phantom {name}: {refused} refused, {COUNT - refused} read")


def test_json_that_is_not_a_result(tmp_path):
    path = tmp_path / "result.json"
    for text in ("[" * 100_000, "9" * 5000, "{}", "null", '{"sha256": 1}', json.dumps([1] * 10)):
        path.write_text(text)
        with pytest.raises(CbirError) as caught:
            results.read(path)
        assert_refusal(caught.value)

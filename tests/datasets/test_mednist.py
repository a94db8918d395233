import hashlib
import io
import os
import shutil
import socket
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cbir_lib
from cbir_lib import paths
from cbir_lib.datasets import mednist
from cbir_lib.datasets.cache import KEPT
from cbir_lib.datasets.mednist import ARCHIVE, CLASSES, fetch, locate, read, split_by_content
from cbir_lib.errors import CbirError
from tests.fixtures import assert_same_set, pack, write_mednist


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CBIR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CBIR_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    return write_mednist(tmp_path / "drawings", 3)


@pytest.fixture
def archive(folder, tmp_path):
    return pack(folder, tmp_path / ARCHIVE)


def checksum(path):
    return ("sha256:" + hashlib.sha256(path.read_bytes()).hexdigest(),)


# Reading


def test_images_labels_and_records_are_those_of_the_files(folder):
    data = read(folder)
    assert data.class_names == tuple(CLASSES)
    assert data.image_ids.tolist() == [f"{name}/{i:06}" for name in CLASSES for i in range(3)]
    assert data.labels.tolist() == [label for label in range(6) for _ in range(3)]
    for image, image_id in zip(data.images, data.image_ids, strict=True):
        assert np.array_equal(image, np.asarray(Image.open(folder / f"{image_id}.png")))
    assert data.remarks.to_numpy().tolist() == [
        [f"the class {name}", f"3 images, where the published set has {count:,}", True]
        for name, count in CLASSES.items()
    ]


def test_two_files_of_one_name_are_refused(folder):
    picture = folder / "Hand" / "000001.png"
    Image.open(picture).save(picture.with_suffix(".jpeg"))
    with pytest.raises(CbirError, match="mednist has two images called Hand/000001"):
        read(folder)


def test_a_class_that_is_a_link_is_refused(folder):
    """What changes behind it would not be noticed."""
    (folder / "Hand").rename(folder.parent / "elsewhere")
    (folder / "Hand").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(CbirError, match="Hand is a link, and changes behind it"):
        read(folder)


def test_folder_and_archive_are_the_same_set(folder, archive):
    assert_same_set(read(folder), read(archive, checksum(archive)))


def test_litter_and_links_out_of_the_folder_are_no_images(folder):
    plain = read(folder)
    (folder / "Hand" / "._0.jpeg").write_bytes(b"x")
    (folder / "Hand" / "@eaDir").mkdir()
    shutil.copy(next((folder / "CXR").iterdir()), folder / "Hand" / "@eaDir" / "x.png")
    assert_same_set(read(folder), plain)
    (folder / "Hand" / "x.jpeg").symlink_to("/nowhere")
    with pytest.raises(CbirError, match="leads nowhere"):
        read(folder)


def test_checksum_follows_names_labels_and_pixels(folder, tmp_path):
    def changed(change):
        copy = shutil.copytree(folder, tmp_path / change.__name__)
        change(copy)
        return read(copy).checksum

    def nothing(copy):
        pass

    def another_name(copy):
        (copy / "Hand" / "000002.png").rename(copy / "Hand" / "000003.png")

    def another_class(copy):
        (copy / "Hand" / "000002.png").rename(copy / "HeadCT" / "000003.png")

    def another_pixel(copy):
        path = copy / "Hand" / "000001.png"
        image = np.array(Image.open(path))
        image[5, 5] ^= 1
        Image.fromarray(image).save(path)

    assert changed(nothing) == read(folder).checksum
    sums = {changed(change) for change in (another_name, another_class, another_pixel)}
    assert len(sums - {read(folder).checksum}) == 3


def test_faulty_images_are_counted_and_the_others_kept(folder):
    whole = read(folder)
    hand = folder / "Hand"
    grey = np.asarray(Image.open(hand / "000000.png"))
    (hand / "empty.jpeg").write_bytes(b"")
    (hand / "broken.jpeg").write_bytes((hand / "000000.png").read_bytes()[:200])
    (hand / "foreign.JPG").write_text("no picture")
    (hand / "notes.txt").write_text("not looked at")
    Image.fromarray(grey[:1, :1]).save(hand / "dot.png")
    Image.fromarray(grey).convert("RGB").save(hand / "colour.png")
    Image.fromarray(grey.astype(np.uint16) * 256).save(hand / "deep.png")
    Image.fromarray(np.stack([grey, 255 - grey // 2], axis=2).reshape(64, 128)).save(
        hand / "wide.png"
    )

    data = read(folder)
    remarks = {file: (remark, kept) for file, remark, kept in data.remarks.to_numpy()}
    assert {file: said for file, said in remarks.items() if "the class" not in file} == {
        "Hand/broken.jpeg": ("damaged", False),
        "Hand/colour.png": ("RGB, converted to grey", True),
        "Hand/deep.png": ("more than 8 bits, stretched to 8", True),
        "Hand/dot.png": ("1 x 1 pixels, too small", False),
        "Hand/empty.jpeg": ("empty file", False),
        "Hand/foreign.JPG": ("not an image", False),
        "Hand/wide.png": ("128 x 64 pixels, resized", True),
    }
    new = ~np.isin(data.image_ids, whole.image_ids)
    assert np.array_equal(data.images[~new], whole.images)
    assert data.image_ids[new].tolist() == ["Hand/colour", "Hand/deep", "Hand/wide"]
    colour, _, wide = data.images[new]
    assert np.array_equal(colour, grey)
    assert np.abs(wide - (grey + (255.0 - grey // 2)) / 2).max() <= 0.5  # mean of two columns


@pytest.mark.parametrize("fault", ["no folder", "no file", "no image"])
def test_class_without_images_is_named(folder, fault):
    shutil.rmtree(folder / "CXR")
    if fault != "no folder":
        (folder / "CXR").mkdir()
    if fault == "no image":
        (folder / "CXR" / "0.png").write_bytes(b"")
    with pytest.raises(CbirError, match="class 'CXR' of mednist has no readable image"):
        read(folder)


# Archives that must not be trusted


def test_archive_with_another_checksum_is_refused(archive):
    with pytest.raises(CbirError, match="not the published archive: wrong checksum"):
        mednist.load(archive)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_truncated_archive_is_refused(archive, share):
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CbirError, match="is damaged"):
        read(archive, checksum(archive))


def test_a_fault_anywhere_in_an_archive_is_refused(archive):
    whole = archive.read_bytes()
    for start in range(0, len(whole), len(whole) // 40):
        archive.write_bytes(whole[:start] + b"\xff" * 64 + whole[start + 64 :])
        with pytest.raises(CbirError, match="is damaged"):
            read(archive, checksum(archive))


MEMBERS = {
    "outside by ..": ("MedNIST/../../Hand/0.png", tarfile.REGTYPE, "leaves its folder"),
    "absolute": ("/MedNIST/Hand/0.png", tarfile.REGTYPE, "leaves its folder"),
    "symbolic link": ("MedNIST/Hand/0.png", tarfile.SYMTYPE, "is a link"),
    "hard link": ("MedNIST/Hand/0.png", tarfile.LNKTYPE, "is a link"),
    "device": ("MedNIST/Hand/0.png", tarfile.CHRTYPE, "is a link"),
}


@pytest.mark.parametrize(("name", "kind", "reason"), MEMBERS.values(), ids=MEMBERS)
def test_member_that_reaches_out_is_refused(folder, archive, name, kind, reason):
    with tarfile.open(archive, "w:gz") as members:
        members.add(folder, "MedNIST")
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "/etc/passwd"
        members.addfile(member, io.BytesIO())
    with pytest.raises(CbirError) as caught:
        read(archive, checksum(archive))
    assert repr(name) in caught.value.what
    assert reason in caught.value.what


# A drawing has some 4 kB.
@pytest.mark.parametrize(("limit", "size"), [("LARGEST_MEMBER", 100), ("LARGEST_ARCHIVE", 20_000)])
def test_absurd_sizes_are_refused(archive, monkeypatch, limit, size):
    monkeypatch.setattr(mednist, limit, size)
    with pytest.raises(CbirError, match="is too large"):
        read(archive, checksum(archive))


# Splits


def test_split_depends_on_the_pixels_alone(folder, tmp_path):
    # Half of the images, under other names, with one image twice more and once in another class.
    other = tmp_path / "other"
    for name in CLASSES:
        (other / name).mkdir(parents=True)
        for i, new in ((2, "a"), (0, "b")):
            shutil.copy(folder / name / f"{i:06}.png", other / name / f"{new}.png")
    shutil.copy(other / "Hand" / "a.png", other / "Hand" / "copy.png")
    shutil.copy(other / "Hand" / "a.png", other / "CXR" / "copy.png")
    first, second = (
        dict(zip((image.tobytes() for image in data.images), data.records["split"], strict=True))
        for data in (read(folder), read(other))
    )
    assert len(second) == 12
    assert all(first[pixels] == split for pixels, split in second.items())
    again = read(other)
    copies = np.isin(again.image_ids, ["Hand/a", "Hand/copy", "CXR/copy"])
    assert again.records["split"][copies].nunique() == 1


def test_split_of_a_copy_in_another_memory_order_is_the_same():
    images = np.random.default_rng(0).integers(0, 256, (200, 64, 64), dtype=np.uint8)
    splits = [split_by_content(image) for image in images]
    assert [split_by_content(np.asfortranarray(image)) for image in images] == splits
    assert set(splits) == {"train", "validation", "test"}


def test_shares_of_the_splits():
    images = np.random.default_rng(0).integers(0, 256, (20_000, 8, 8), dtype=np.uint8)
    shares = pd.Series([split_by_content(image) for image in images]).value_counts(normalize=True)
    for split, share in {"train": 0.72, "validation": 0.08, "test": 0.20}.items():
        deviation = np.sqrt(share * (1 - share) / len(images))  # of a binomial share
        assert abs(shares[split] - share) < 4 * deviation


# Where it lies


def test_given_places_are_looked_at_first_and_alone(folder, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path / "project")
    usual = write_mednist(tmp_path / "project" / "data" / "mednist" / "MedNIST", 1)
    inside = tmp_path / "inside" / "mednist" / "MedNIST"
    shutil.copytree(folder, inside)
    assert locate() == usual
    monkeypatch.setenv("CBIR_DATA", str(tmp_path / "inside"))
    assert locate() == inside
    assert locate(folder) == folder
    assert locate(archive) == archive
    assert locate(str(tmp_path)) == archive  # the folder it lies in
    deeper = tmp_path / "by" / "us"
    shutil.copytree(folder, deeper / "data" / "set")
    assert locate(tmp_path / "by") == deeper / "data" / "set"
    monkeypatch.setenv("CBIR_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(CbirError, match="no MedNIST data at .*nowhere"):
        locate()


def test_usual_places_in_their_order(folder, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path / "project")
    beside = tmp_path / "shared" / "data"
    own = tmp_path / "project" / "data" / "mednist"
    with pytest.raises(CbirError) as caught:
        locate()
    assert str(beside) in caught.value.what
    assert str(own) in caught.value.what
    assert "cbir data fetch mednist" in caught.value.hint
    for place in (beside, own):
        place.mkdir(parents=True)
        shutil.copy(archive, place)
        assert locate() == place / ARCHIVE


def test_load_by_name(folder):
    assert_same_set(cbir_lib.load("mednist", folder), read(folder))
    with pytest.raises(CbirError, match="unknown data set 'MedNist'") as caught:
        cbir_lib.load("MedNist", folder)
    assert "did you mean 'mednist'?" in caught.value.hint


# The cache


@pytest.fixture
def reads(monkeypatch):
    """The sources that were read and not taken from the cache."""
    sources = []

    def spy(source):
        sources.append(source)
        return read(source)

    monkeypatch.setattr(mednist, "read", spy)
    return sources


def test_second_load_reads_the_cache(folder, reads):
    (folder / "Hand" / "empty.png").write_bytes(b"")  # so that there is a remark
    first, second = mednist.load(folder), mednist.load(folder)
    assert len(reads) == 1
    assert_same_set(first, read(folder))
    assert_same_set(second, read(folder))
    assert isinstance(second.images, np.memmap)
    assert not second.images.flags.writeable


DAMAGES = {
    "emptied": lambda path: path.write_bytes(b""),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "foreign": lambda path: path.write_bytes(b"something else " * 100),
    "a list": lambda path: path.write_text("[1, 2]"),
    "an archive": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
    "removed": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("file", ["images.npy", "records.parquet", "set.json"])
def test_damaged_cache_is_made_again(folder, cache, reads, file, damage):
    mednist.load(folder)
    (made,) = cache.iterdir()
    damage(made / file)
    assert_same_set(mednist.load(folder), read(folder))
    assert len(reads) == 2
    mednist.load(folder)
    assert len(reads) == 2


def test_cache_of_another_set_does_not_fit(folder, cache, tmp_path, reads):
    # A cache whose files are whole but not of one set: an interrupted update of an older layout.
    mednist.load(folder)
    (made,) = cache.iterdir()
    pd.read_parquet(made / "records.parquet").iloc[:-1].to_parquet(made / "records.parquet")
    assert_same_set(mednist.load(folder), read(folder))
    assert len(reads) == 2


def test_changed_source_is_noticed_and_the_oldest_cache_removed(folder, cache, reads):
    before = mednist.load(folder)
    Image.fromarray(before.images[0]).save(folder / "HeadCT" / "000009.png")
    after = mednist.load(folder)
    assert len(reads) == 2
    assert len(after) == len(before) + 1
    for number in range(10, 10 + KEPT):
        Image.fromarray(before.images[0]).save(folder / "HeadCT" / f"{number:06}.png")
        mednist.load(folder)
    assert len(list(cache.iterdir())) == KEPT


# Fetching


@pytest.fixture
def server(monkeypatch):
    """A server on this machine; ``answer`` is (status, promised length, bytes that are sent)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked += 1
            status, length, body = self.server.answer
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = 0
        running.url = f"http://127.0.0.1:{running.server_port}/{ARCHIVE}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


GOOD = bytes(range(256)) * 1000
GOOD_HASH = "md5:" + hashlib.md5(GOOD).hexdigest()


@pytest.mark.parametrize("before", [None, b"an older or damaged archive"])
def test_fetch_brings_the_file_once(server, tmp_path, before):
    folder = tmp_path / "data" / "mednist"
    if before:
        folder.mkdir(parents=True)
        (folder / ARCHIVE).write_bytes(before)
    server.answer = (200, len(GOOD), GOOD)
    for _ in range(2):
        assert fetch(folder, server.url, GOOD_HASH) == folder / ARCHIVE
    assert (folder / ARCHIVE).read_bytes() == GOOD
    assert [path.name for path in folder.iterdir()] == [ARCHIVE]
    assert server.asked == 1


FAULTS = {
    "wrong bytes": ((200, len(GOOD), GOOD[::-1]), "wrong checksum"),
    "nothing": ((200, 0, b""), "wrong checksum"),
    "broken off": ((200, len(GOOD), GOOD[: len(GOOD) // 2]), "cannot download"),
    "not found": ((404, 9, b"not found"), "cannot download"),
}


@pytest.mark.parametrize(("answer", "reason"), FAULTS.values(), ids=FAULTS)
def test_faulty_download_leaves_nothing_and_can_be_repeated(server, tmp_path, answer, reason):
    server.answer = answer
    with pytest.raises(CbirError, match=reason):
        fetch(tmp_path / "data", server.url, GOOD_HASH)
    assert list((tmp_path / "data").iterdir()) == []
    server.answer = (200, len(GOOD), GOOD)
    assert fetch(tmp_path / "data", server.url, GOOD_HASH).read_bytes() == GOOD


def test_no_server_there(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(CbirError, match="cannot download .*: ConnectionError") as caught:
        fetch(tmp_path / "data", f"http://127.0.0.1:{port}/{ARCHIVE}", GOOD_HASH)
    assert "check the address, the proxy and the connection" in caught.value.hint


@pytest.mark.parametrize(
    "url", ["http://", "http://127.0.0.1:99999/a", "http://[::1/a", "https://a b/c"]
)
def test_an_address_that_is_none_is_not_called_a_wrong_checksum(tmp_path, url):
    with pytest.raises(CbirError, match="cannot download") as caught:
        fetch(tmp_path / "data", url, GOOD_HASH)
    assert "check the address" in caught.value.hint


def test_a_proxy_that_is_none_is_not_called_a_wrong_checksum(server, tmp_path, monkeypatch):
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", "http://[::1")
    with pytest.raises(CbirError, match="cannot download"):
        fetch(tmp_path / "data", server.url, GOOD_HASH)


def test_credentials_of_a_mirror_are_not_shown(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(CbirError) as caught:
        fetch(tmp_path, f"http://me:s3cret@127.0.0.1:{port}/{ARCHIVE}?sig=t0ken", GOOD_HASH)
    said = str(caught.value) + "".join(capfd.readouterr())
    assert f"downloading http://127.0.0.1:{port}/{ARCHIVE}?***" in said
    assert "s3cret" not in said and "t0ken" not in said


@pytest.mark.parametrize("url", ["ftp://me:s3cret@host/x", "file:///etc/passwd", "x.tar.gz", ""])
def test_what_is_no_address_of_the_web_is_refused(tmp_path, url):
    with pytest.raises(CbirError, match="is not an address of the web") as caught:
        fetch(tmp_path, url, GOOD_HASH)
    assert "s3cret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


# The real thing

REAL = Path(
    os.environ.get("CBIR_TEST_MEDNIST") or paths.project_root().parent / "shared" / "data" / ARCHIVE
)


@pytest.mark.skipif(not REAL.is_file(), reason="no MedNIST archive; CBIR_TEST_MEDNIST names one")
def test_published_archive():
    data = mednist.load(REAL)
    assert data.images.shape == (58_954, 64, 64)
    assert data.counts().sum(axis=1).to_dict() == CLASSES
    assert data.remarks.empty
    assert len(set(map(bytes, data.images))) < len(data) - 100
    splits = ("train", "validation", "test")
    contents = [set(map(bytes, data.split(split).images)) for split in splits]
    assert sum(map(len, contents)) == len(set().union(*contents))  # no copy across splits
    shares = data.counts().sum() / len(data)
    assert shares.to_dict() == pytest.approx(
        {"train": 0.72, "validation": 0.08, "test": 0.2}, abs=0.005
    )

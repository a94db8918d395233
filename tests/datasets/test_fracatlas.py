import hashlib
import http.server
import io
import re
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from cbir_lib import paths
from cbir_lib.datasets import fracatlas
from cbir_lib.datasets.fracatlas import ARCHIVE, CLASSES, fetch, load, locate, read
from cbir_lib.datasets.splits import split_by_content
from cbir_lib.errors import CbirError
from cbir_lib.images.decoding import fit_to_square
from tests.fixtures import assert_same_set

HEAD = (
    "image_id,hand,leg,hip,shoulder,mixed,hardware,multiscan,fractured,fracture_count,"
    "frontal,lateral,oblique"
)
# Number: the columns after image_id.
ROWS = {
    0: "1,0,0,0,0,0,1,0,0,1,1,0",
    1: "0,1,0,0,0,1,0,1,2,1,0,0",
    2: "0,0,1,0,0,0,0,0,0,0,0,1",
    3: "0,0,0,1,0,0,0,1,1,1,0,0",
    4: "1,1,0,0,0,0,0,0,0,1,0,0",  # two regions
    5: "1,0,0,0,1,0,0,1,1,1,0,0",  # mixed
    6: "0,0,0,0,0,0,0,0,0,1,0,0",  # none
    7: "0,1,0,0,0,0,0,1,1,1,0,0",  # in both folders
    8: "1,0,0,0,0,0,0,0,0,1,0,0",  # truncated
    9: "0,0,1,0,0,0,0,0,0,1,0,0",  # not there
}
READ = {0: "hand", 1: "leg", 2: "hip", 3: "shoulder", 7: "leg"}


def name(number):
    return f"IMG{number:07}.jpg"


def place(number):
    return "Fractured" if ROWS[number].split(",")[7] == "1" else "Non_fractured"


def jpeg(number):
    image = np.add.outer(np.arange(40) * (number % 5), np.arange(30) * 3).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A folder as the archive unpacks."""
    root = tmp_path / "FracAtlas"
    for kind in ("Fractured", "Non_fractured"):
        (root / "images" / kind).mkdir(parents=True)
    for number in range(9):
        (root / "images" / place(number) / name(number)).write_bytes(jpeg(number))
    (root / "images" / "Non_fractured" / name(7)).write_bytes(jpeg(2))
    truncated = root / "images" / place(8) / name(8)
    truncated.write_bytes(truncated.read_bytes()[:-200])
    (root / "Annotations").mkdir()
    (root / "Annotations" / "boxes.txt").write_text("not looked at")
    table(root, "".join(f"{name(number)},{row}\n" for number, row in ROWS.items()))
    return root


def table(root, rows, head=HEAD):
    (root / "dataset.csv").write_text(f"{head}\n{rows}", encoding="utf-8")


@pytest.fixture
def archive(folder, tmp_path):
    return pack(folder, tmp_path / "packed" / ARCHIVE)


def pack(folder, archive, compression=zipfile.ZIP_DEFLATED):
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", compression) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder.parent))
    return archive


def test_images_and_classes_are_those_of_the_table(folder):
    data = read(folder, size=32)
    assert data.class_names == CLASSES == ("hand", "leg", "hip", "shoulder")
    assert data.image_ids.tolist() == [f"IMG{number:07}" for number in READ]
    assert [CLASSES[label] for label in data.labels] == list(READ.values())
    for number, image, split in zip(READ, data.images, data.records["split"], strict=True):
        whole = np.asarray(Image.open(folder / "images" / place(number) / name(number)))
        assert np.array_equal(image, fit_to_square(whole, 32))
        assert split == split_by_content(whole)
    assert set(data.records["width_px"]) == {30}
    assert set(data.records["height_px"]) == {40}
    assert data.dropped == {"several regions, or none": 3}
    assert data.remarks.to_numpy().tolist() == [
        [f"images/Non_fractured/{name(8)}", "damaged", False],
        [f"images/Non_fractured/{name(9)}", "no such file", False],
    ]


def test_folder_and_archive_are_the_same_set(folder, archive):
    one, other = load(folder), load(archive)
    assert one.checksum == other.checksum
    assert one.remarks.equals(other.remarks)
    assert one.dropped == other.dropped
    assert isinstance(one.images, np.memmap)


def test_where_it_lies(folder, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path / "project")
    with pytest.raises(CbirError) as caught:
        locate()
    assert str(tmp_path / "project" / "data" / "fracatlas") in caught.value.what
    assert "cbir data fetch fracatlas" in caught.value.hint
    usual = pack(folder, tmp_path / "project" / "data" / "fracatlas" / ARCHIVE)
    assert locate() == usual
    monkeypatch.setenv("CBIR_DATA", str(archive.parent))
    assert locate() == archive
    assert locate(tmp_path) == folder  # the folder it lies in
    assert locate(str(archive)) == archive
    with pytest.raises(CbirError, match="no FracAtlas data at .*nowhere"):
        locate(tmp_path / "nowhere")


def test_it_is_found_at_any_depth(folder, archive, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c" / "d").mkdir(parents=True)
    deep = folder.rename(tmp_path / "a" / "b" / "data")
    packed = archive.rename(tmp_path / "c" / "d" / ARCHIVE)
    assert locate(tmp_path / "a") == deep
    assert locate(tmp_path / "c") == packed
    assert load(tmp_path / "a").checksum == load(tmp_path / "c").checksum


@pytest.mark.parametrize("change", ["floats", "semicolons", "UTF-16"])
def test_a_table_that_went_through_a_spreadsheet(folder, change):
    expected = read(folder, 16)
    file = folder / "dataset.csv"
    text = file.read_text()
    if change == "floats":
        text = re.sub(r"(?<=,)([01])(?=[,\n])", r"\1.0", text)
    elif change == "semicolons":
        text = text.replace(",", ";")
    file.write_text(text, "utf-16" if change == "UTF-16" else "utf-8")
    loaded = read(folder, 16)
    assert loaded.checksum == expected.checksum and loaded.dropped == expected.dropped


@pytest.mark.parametrize("region", CLASSES)
def test_class_without_images_is_named(folder, region):
    gone = name(list(CLASSES).index(region))
    (folder / "images" / place(int(gone[3:10])) / gone).unlink()
    if region == "leg":
        (folder / "images" / "Fractured" / name(7)).unlink()
    with pytest.raises(CbirError, match=f"class '{region}' of fracatlas has no readable image"):
        read(folder)


GOOD = f"{name(0)},{ROWS[0]}\n"
FAULTY = {
    "twice": (GOOD + GOOD, "row 3: 'IMG0000000.jpg' is no name, or there twice"),
    "path": (f"../{name(0)},{ROWS[0]}\n", "row 2: '../IMG0000000.jpg' is no name"),
    "up": (f"..,{ROWS[0]}\n", "row 2: '..' is no name"),
    "no name": (f",{ROWS[0]}\n", "row 2: '' is no name"),
    "flag": (GOOD.replace(",1,", ",yes,", 1), "row 2: a flag is neither 0 nor 1"),
    "short": (GOOD[:-3] + "\n", "row 2: 12 cells, not 13"),
    "empty": ("", "has no rows"),
}


@pytest.mark.parametrize(("rows", "reason"), FAULTY.values(), ids=FAULTY)
def test_faulty_table_names_the_row(folder, rows, reason):
    table(folder, rows)
    with pytest.raises(CbirError) as caught:
        read(folder)
    assert "dataset.csv" in caught.value.what
    assert reason in caught.value.what


def test_table_without_its_columns_or_not_there(folder, archive, tmp_path):
    table(folder, GOOD, HEAD.replace("hip", "hips"))
    with pytest.raises(CbirError, match="has 0 columns 'hip'"):
        read(folder)
    (folder / "dataset.csv").unlink()
    with pytest.raises(CbirError, match=r"dataset\.csv: no such file"):
        read(pack(folder, archive))


def test_links_out_of_the_folder_are_refused(folder, tmp_path):
    (tmp_path / "outside.jpg").write_bytes(jpeg(0))
    link = folder / "images" / "Non_fractured" / name(9)
    link.symlink_to(tmp_path / "outside.jpg")
    with pytest.raises(CbirError, match="leads out of the folder"):
        load(folder)


# Archives that must not be trusted


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_truncated_archive_is_refused(archive, share):
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CbirError, match="is damaged, or not a zip archive"):
        load(archive)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_fault_inside_an_archive_changes_no_image(folder, archive, compression):
    known = {image.tobytes() for image in read(folder).images}
    whole = pack(folder, archive, compression).read_bytes()
    refused = 0
    for start in range(0, len(whole), len(whole) // 60):
        archive.write_bytes(whole[:start] + b"\xff" * 16 + whole[start + 16 :])
        try:
            images = read(archive).images
        except CbirError:
            refused += 1
        else:
            assert known >= {image.tobytes() for image in images}
    assert refused


@pytest.mark.parametrize("inside", ["", "re-packed/FracAtlas/"])
def test_an_archive_that_was_packed_again_is_read(folder, tmp_path, inside):
    again = tmp_path / "again.zip"
    with zipfile.ZipFile(again, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, inside + path.relative_to(folder).as_posix())
    assert_same_set(read(again), read(folder))


def test_links_in_an_archive_lead_nowhere(folder, archive):
    with zipfile.ZipFile(archive, "a") as file:
        link = zipfile.ZipInfo(f"FracAtlas/images/{place(9)}/{name(9)}")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("../outside.jpg", jpeg(0))
    remarks = read(archive).remarks.set_index("file")["remark"]
    assert remarks[f"images/{place(9)}/{name(9)}"] == "not an image"
    assert not (archive.parent.parent / "outside.jpg").exists()
    assert [path.name for path in archive.parent.iterdir()] == [ARCHIVE]


def test_absurd_sizes_are_refused_before_they_are_unpacked(folder, archive, monkeypatch):
    bomb = folder / "images" / place(9) / name(9)
    bomb.write_bytes(bytes(200_000))
    pack(folder, archive)
    assert archive.stat().st_size < 100_000
    monkeypatch.setattr(fracatlas, "LARGEST_FILE", 100_000)
    monkeypatch.setattr(
        zipfile.ZipFile, "read", refuse_large(zipfile.ZipFile.read, 100_000), raising=True
    )
    remarks = read(archive).remarks.set_index("file")["remark"]
    assert remarks[f"images/{place(9)}/{name(9)}"] == "200,000 bytes, too large"


def refuse_large(read_member, limit):
    def checked(archive, member):
        assert member.file_size <= limit
        return read_member(archive, member)

    return checked


# Fetching


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of the files in ``served``."""
    served = tmp_path / "served"
    served.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def log_message(self, *args):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served, f"http://127.0.0.1:{running.server_port}/65518038"
        running.shutdown()
        thread.join()


def test_what_is_fetched_can_be_loaded(server, folder, archive, tmp_path):
    served, url = server
    (served / "65518038").write_bytes(archive.read_bytes())
    known = "md5:" + hashlib.md5(archive.read_bytes()).hexdigest()
    fetched = fetch(tmp_path / "data", url, known)
    assert fetched == tmp_path / "data" / ARCHIVE
    assert load(tmp_path / "data").checksum == load(folder).checksum


def test_another_archive_than_the_published_one_is_refused(server, archive, tmp_path):
    served, url = server
    (served / "65518038").write_bytes(archive.read_bytes())
    with pytest.raises(CbirError, match="not the published archive: wrong checksum"):
        fetch(tmp_path / "data", url)
    assert list((tmp_path / "data").iterdir()) == []


def test_archive_that_is_not_there(server, tmp_path):
    _, url = server
    with pytest.raises(CbirError, match="cannot download"):
        fetch(tmp_path / "data", url)

import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cbir_lib import paths
from cbir_lib.datasets import irma
from cbir_lib.datasets.irma import CLASSES, TABLES, fetch, load, locate, read
from cbir_lib.datasets.phantom.contents import TEST
from cbir_lib.errors import CbirError
from cbir_lib.images.decoding import fit_to_square
from cbir_lib.irma_code import CLASSES as CLASS_OF
from cbir_lib.reproduction import paper
from tests.fixtures import assert_same_set

# Images a split and anatomy.
COUNTS = {
    "train": {"200": 10, "310": 20, "463": 10, "500": 31, "942": 11, "100": 1, "620": 2, "700": 3},
    "test": {"230": 2, "330": 1, "411": 2, "500": 3, "911": 1, "800": 2, "000": 1},
}
FIRST_ID = {"train": 1877, "test": 50001}
FOLDERS = {"train": "ImageCLEFmed2009_train.02", "test": "ImageCLEFmed2009_test.03"}


def contents(split):
    """What the split consists of: identifier, code and drawing, each of another size."""
    rng = np.random.default_rng(FIRST_ID[split])
    anatomies = [anatomy for anatomy, count in COUNTS[split].items() for _ in range(count)]
    for i, anatomy in enumerate(anatomies):
        height, width = rng.integers(9, 40, 2)
        grey = np.linspace(0, 200, width) + rng.integers(0, 55, (height, 1))
        yield str(FIRST_ID[split] + i), f"1121-12d-{anatomy}-700", grey.astype(np.uint8)


def write_table(path, rows, delimiter=";", end="\n", start="", upper=False, suffix="", code=str):
    """A table of codes as the benchmark's, or in one of the spellings that are about."""
    header = ["image_id", "irma_code", "05_class", "06_class", "07_irma_code", "08_irma_code"]
    lines = [[name.upper() if upper else name for name in header]]
    lines += [[image_id + suffix, code(text), "12", r"\N", r"\N", text] for image_id, text in rows]
    text = end.join(delimiter.join(line) for line in lines) + end
    path.write_bytes((start + text).encode())


def write_irma(root, place="{folder}/{folder}/{name}.png", **spelling):
    for split, table in TABLES.items():
        rows = []
        for name, code, grey in contents(split):
            path = root / place.format(
                folder=FOLDERS[split], upper=FOLDERS[split].upper(), name=name
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey).save(path, format="PNG")
            rows.append((name, code))
        write_table(root / table, rows, **spelling)
    return root


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_irma(tmp_path_factory.mktemp("irma"))


@pytest.fixture
def root(written, tmp_path):
    """A copy to be changed."""
    return shutil.copytree(written, tmp_path / "irma", symlinks=True)


def train_image(root, name="1877"):
    return root / FOLDERS["train"] / FOLDERS["train"] / f"{name}.png"


def lines_of(root, split="train"):
    return (root / TABLES[split]).read_text().splitlines()


def change_table(root, change, split="train"):
    lines = lines_of(root, split)
    change(lines)
    (root / TABLES[split]).write_text("\n".join(lines) + "\n")


# Reading


def test_images_labels_and_records_are_those_of_the_files(written):
    data = read(written, size=32)
    assert data.name == "irma"
    assert data.class_names == tuple(CLASS_OF.values())
    assert data.images.shape == (82 + 9, 32, 32)
    expected = [
        (split, name, code, grey)
        for split in TABLES
        for name, code, grey in contents(split)
        if code[9] in CLASS_OF
    ]
    assert data.image_ids.tolist() == [name for _, name, _, _ in expected]
    for row, (split, name, code, grey) in enumerate(expected):
        record = data.records.iloc[row]
        assert record["irma_code"] == code
        assert data.class_names[data.labels[row]] == CLASS_OF[code[9]]
        assert (record["height_px"], record["width_px"]) == grey.shape
        assert (record["split"] == "test") == (split == "test")
        assert (record["subject_id"], record["source"]) == ("", "irma")
        assert np.array_equal(data.images[row], fit_to_square(grey, 32)), name
    assert data.remarks.empty
    assert data.dropped == {
        "anatomy 0, unspecified": 1,
        "anatomy 1, whole body": 1,
        "anatomy 6, breast": 2,
        "anatomy 7, abdomen": 3,
        "anatomy 8, pelvis": 2,
    }


LAYOUTS = {
    "one folder each": {"place": "{folder}/{name}.png"},
    "all flat": {"place": "{name}.png"},
    "all in one folder": {"place": "images/{name}.png"},
    "upper-case suffix": {"place": "{folder}/{name}.PNG"},
    "upper-case folders": {"place": "{upper}/{name}.png"},
    "commas": {"delimiter": ","},
    "byte order mark": {"start": "\ufeff"},
    "Windows": {"start": "\ufeff", "end": "\r\n"},
    "upper-case header": {"upper": True},
    "upper-case codes": {"code": str.upper},
    "no hyphens": {"code": lambda code: code.replace("-", "")},
    "quotes": {"code": lambda code: f'"{code}"', "delimiter": ","},
    "white space": {"code": lambda code: f" {code} "},
    "names with suffix": {"suffix": ".png"},
    "names with upper-case suffix": {"suffix": ".PNG"},
    "blank lines": {"end": "\n\n"},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_the_same_set(written, tmp_path, layout):
    assert_same_set(read(write_irma(tmp_path / "other", **layout), 16), read(written, 16))


def test_columns_may_be_fewer_and_in_another_order(written, root):
    def reorder(lines):
        cells = [line.split(";") for line in lines]
        lines[:] = [";".join([row[5], row[1], row[0]]) for row in cells]

    change_table(root, reorder)
    assert_same_set(read(root, 16), read(written, 16))


def test_order_of_the_table_and_of_the_files_does_not_matter(written, root):
    def shuffle(lines):
        lines[1:] = np.random.default_rng(0).permutation(lines[1:]).tolist()

    change_table(root, shuffle)
    change_table(root, shuffle, "test")
    folder = root / FOLDERS["train"]
    for path in sorted(folder.rglob("*.png"))[::3]:
        path.rename(folder / path.name)  # another depth is another place in every listing
    assert_same_set(read(root, 16), read(written, 16))


def test_same_name_in_train_and_test_folders_are_two_images(root):
    # A file called as one of train's, in test's folder, is not that image.
    path = train_image(root)
    path.rename(root / FOLDERS["test"] / path.name)
    data = read(root, 16)
    assert "1877" not in data.image_ids
    assert data.remarks.to_numpy().tolist() == [
        ["1877.png", f"missing, listed in {TABLES['train']}", False],
        [f"{FOLDERS['test']}/1877.png", "no code in the tables", False],
    ]


def test_spaces_and_letters_beyond_ascii(written, root):
    path = train_image(root)
    name = "Röntgen Bild 1"
    # As macOS writes it: o and two dots, where the table has one letter.
    folder = root / FOLDERS["train"] / "Aufnahmen für alle"
    folder.mkdir()
    path.rename(folder / "Ro\u0308ntgen Bild 1.png")
    change_table(root, lambda lines: lines.__setitem__(1, lines[1].replace("1877", name, 1)))
    moved = shutil.move(root, root.parent / "mit Leerzeichen und Ä")
    data = read(Path(moved), 16)
    assert data.remarks.empty
    row = data.image_ids.tolist().index(name)
    assert np.array_equal(data.images[row], read(written, 16).images[0])


# What is at fault and does not stop the load


def test_faulty_files_are_counted_and_the_others_kept(written, root):
    whole = read(written, 16)
    train_image(root, "1877").write_bytes(b"")
    train_image(root, "1878").write_bytes(train_image(root, "1878").read_bytes()[:60])
    train_image(root, "1879").write_text("no picture")
    train_image(root, "1880").unlink()
    train_image(root, "1881").unlink()
    train_image(root, "1881").mkdir()
    grey = np.asarray(Image.open(train_image(root, "1882")))
    Image.fromarray(grey).convert("RGB").save(train_image(root, "1882"))
    shutil.copy(train_image(root, "1882"), train_image(root, "unknown"))
    change_table(root, lambda lines: lines.__setitem__(7, lines[7].replace("1121-12d-200-700", "")))
    (root / "notes.txt").write_text("not looked at")
    data = read(root, 16)
    inner = f"{FOLDERS['train']}/{FOLDERS['train']}"
    assert data.remarks.to_numpy().tolist() == [
        [f"{inner}/1877.png", "empty file", False],
        [f"{inner}/1878.png", "damaged", False],
        [f"{inner}/1879.png", "not an image", False],
        ["1880.png", f"missing, listed in {TABLES['train']}", False],
        ["1881.png", f"missing, listed in {TABLES['train']}", False],
        [f"{inner}/1882.png", "RGB, converted to grey", True],
        [f"{inner}/1883.png", "no code in the tables", False],
        [f"{inner}/unknown.png", "no code in the tables", False],
    ]
    kept = np.isin(whole.image_ids, data.image_ids)
    assert kept.sum() == len(data) == len(whole) - 6
    assert np.array_equal(data.images, whole.images[kept])


def test_file_that_may_not_be_opened(root, monkeypatch):
    read_bytes = Path.read_bytes

    def refuse_one(path):
        if path.name == "1877.png":
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse_one)
    (row,) = read(root, 16).remarks.to_numpy().tolist()
    assert row[0].endswith("1877.png")
    assert row[1:] == ["cannot be read: Permission denied", False]
    train_image(root).rename(root / TABLES["train"])
    monkeypatch.setattr(Path, "read_bytes", lambda path: refuse_one(path.with_name("1877.png")))
    with pytest.raises(CbirError, match=f"{TABLES['train']}: cannot be read: Permission denied"):
        read(root, 16)


def test_no_class_that_year_is_counted(written, root):
    def forget(lines):
        lines[1:4] = [line.replace(line.split(";")[1], r"\N") for line in lines[1:4]]

    change_table(root, forget)
    train_image(root, "1879").unlink()  # only sound images count as left out
    data = read(root, 16)
    assert data.dropped[r"no code that year (\N)"] == 2
    assert len(data) == len(read(written, 16)) - 3
    assert data.remarks["file"].tolist() == ["1879.png"]


def test_damaged_image_of_another_region_is_remarked(root):
    train_image(root, "1959").write_bytes(b"")  # of the whole body
    data = read(root, 16)
    assert "anatomy 1, whole body" not in data.dropped
    assert data.remarks["remark"].tolist() == ["empty file"]


# What stops it


def replace(old, new, row=1):
    def change(lines):
        assert old in lines[row]
        lines[row] = lines[row].replace(old, new, 1)

    return change


BAD_TABLES = {
    "no image_id": (replace("image_id", "image", 0), "has 0 columns 'image_id'"),
    "no irma_code": (replace("irma_code", "code", 0), "has 0 columns 'irma_code'"),
    "neither": (replace(";", " ", 0), "has 0 columns 'image_id'"),
    "empty": (list.clear, "has no rows"),
    "header alone": (lambda lines: lines.__delitem__(slice(1, None)), "has no rows"),
    "short code": (replace("200-700", "200-70"), "row 2: IRMA code '1121-12d-200-70': biosystem"),
    "strange character": (replace("12d", "1?d", 5), "row 6: IRMA code .*character 2 of direction"),
    "don't know": (replace("200", "2**", 3), r"row 4: .*anatomy has a '\*'"),
    "short row": (lambda lines: lines.__setitem__(4, "1880"), "row 5: 1 cells, not 6"),
    "no name": (replace("1880", "", 4), "row 5 has no image_id"),
    "two codes": (replace("1880;1121-12d", "1879;1121-120", 4), "row 5: another code for image"),
    "open quote": (replace("1880;", '1880;"', 4), "row .*: unexpected end of data"),
}


@pytest.mark.parametrize(("change", "reason"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_wrong_table_names_file_and_row(root, change, reason):
    change_table(root, change)
    with pytest.raises(CbirError, match=reason) as caught:
        read(root, 16)
    assert str(root / TABLES["train"]) in caught.value.what


def test_repeated_row_is_no_fault(written, root):
    change_table(root, lambda lines: lines.insert(9, lines[4]))
    assert_same_set(read(root, 16), read(written, 16))


def test_image_in_both_tables(root):
    change_table(root, lambda lines: lines.append(lines_of(root, "test")[1]))
    with pytest.raises(CbirError, match="image 50001 is in the table of train and in that of test"):
        read(root, 16)


def test_two_tables_that_differ_are_refused(root):
    """A backup must not decide labels because its name comes first."""
    table = next(root.rglob(TABLES["train"]))
    (root / "a").mkdir()
    copy = shutil.copy(table, root / "a" / TABLES["train"].upper())
    expected = read(root, 16)
    Path(copy).write_bytes(table.read_bytes() + b"\n")
    with pytest.raises(CbirError, match="two tables that differ") as caught:
        read(root, 16)
    assert "out of the folder" in caught.value.hint
    Path(copy).unlink()
    assert_same_set(read(root, 16), expected)


@pytest.mark.parametrize("split", TABLES)
def test_missing_table_is_named(root, split):
    (root / TABLES[split]).unlink()
    with pytest.raises(CbirError, match=f"no {TABLES[split]} in .*irma") as caught:
        load(root)
    assert "10.18154/RWTH-2016-06143" in caught.value.hint


def test_two_files_of_one_name(root):
    path = train_image(root)
    shutil.copy(path, path.parents[1] / path.name)
    with pytest.raises(CbirError, match=r"1877\.png and .*1877\.png have the same name"):
        read(root, 16)


@pytest.mark.parametrize(("lost", "name"), [("500", "chest"), ("...", "cranium")])
def test_class_without_images_is_named(root, lost, name):
    def forget(lines):
        lines[1:] = [re.sub(f"-{lost}-700", "-700-700", line) for line in lines[1:]]

    for split in TABLES:
        change_table(root, forget, split)
    with pytest.raises(CbirError, match=f"class '{name}' of irma has no readable image"):
        read(root, 16)


LINKS = {
    "file": lambda root, out: (root / "5.png").symlink_to(out / "5.png"),
    "folder": lambda root, out: (root / FOLDERS["test"] / "more").symlink_to(out),
    "table": lambda root, out: (root / "codes.csv").symlink_to(out / "codes.csv"),
    "nowhere": lambda root, out: (root / "5.png").symlink_to(out / "6.png"),
    "by ..": lambda root, out: (root / "5.png").symlink_to("../out/5.png"),
}


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_link_that_leads_out_is_refused(root, tmp_path, link):
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(train_image(root), out / "5.png")
    (out / "codes.csv").write_text("image_id;irma_code\n")
    link(root, out)
    with pytest.raises(CbirError, match="the link .* leads (out of the folder|nowhere)"):
        load(root)


def test_link_inside_and_link_to_the_folder_are_followed(written, root, tmp_path):
    path = train_image(root)
    path.rename(root / "kept")
    path.symlink_to(root / "kept")
    link = tmp_path / "link"
    link.symlink_to(root, target_is_directory=True)
    assert_same_set(load(link, 16), read(written, 16))


# The validation split


def test_a_tenth_of_each_class_of_train_is_for_validation(written):
    counts = read(written, 16).counts()
    assert counts["validation"].tolist() == [1, 2, 1, 3, 1]  # of 10, 20, 10, 31 and 11
    assert counts["train"].tolist() == [9, 18, 9, 28, 10]
    assert counts["test"].tolist() == [2, 1, 2, 3, 1]


def validation_of(data):
    """Class and size of each image: here they tell the images apart."""
    records = data.split("validation").records.assign(label=data.split("validation").labels)
    return set(records[["label", "width_px", "height_px"]].itertuples(index=False, name=None))


def test_validation_does_not_depend_on_size_names_order_or_test(written, root):
    chosen = validation_of(read(written, 16))
    assert len(chosen) == 8
    assert validation_of(read(written, 24)) == chosen

    def rename_and_reverse(lines):
        lines[1:] = [str(i) + line for i, line in enumerate(lines[1:])][::-1]

    for split in TABLES:
        names = [line.split(";")[0] for line in lines_of(root, split)[1:]]
        for i, name in enumerate(names):
            (path,) = root.rglob(f"{name}.png")
            path.rename(path.with_name(f"{i}{name}.png"))
        change_table(root, rename_and_reverse, split)
    change_table(root, lambda lines: lines.pop(), "test")
    assert validation_of(read(root, 16)) == chosen


def test_small_classes_keep_an_image_for_training():
    labels = [0] + [1] * 2 + [2] * 14 + [3] * 16
    records = pd.DataFrame({"label": labels, "split": "train"})
    records["image_id"] = [str(i) for i in range(len(labels))]
    content = [f"{-i % 97:02}" for i in range(len(labels))]
    rows = irma.choose_validation_rows(records, content)
    assert np.bincount(records["label"][rows], minlength=4).tolist() == [0, 1, 1, 2]
    assert set(rows) == {2, 16, 31, 32}  # the least hash is that of the last row


def test_copies_stay_on_one_side():
    rng = np.random.default_rng(0)
    content = [f"{value:03}" for value in rng.integers(0, 300, 1000)]  # some three copies each
    records = pd.DataFrame({"label": 0, "split": "train"}, index=range(1000))
    records["image_id"] = [str(i) for i in range(1000)]
    chosen = np.isin(np.arange(1000), irma.choose_validation_rows(records, content))
    sides = pd.Series(chosen).groupby(content).nunique()
    assert chosen.sum() == 100
    assert (sides > 1).sum() <= 1


# Where it lies, the cache, and fetching


def test_given_places_are_looked_at_first_and_alone(root, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path / "project")
    with pytest.raises(CbirError) as caught:
        locate()
    assert str(tmp_path / "project" / "data" / "irma") in caught.value.what
    assert TABLES["train"] in caught.value.what
    assert "10.18154/RWTH-2016-06143" in caught.value.hint
    usual = shutil.copytree(root, tmp_path / "project" / "data" / "irma")
    assert locate() == usual
    monkeypatch.setenv("CBIR_DATA", str(root))
    assert locate() == root
    monkeypatch.setenv("CBIR_DATA", str(root.parent))
    assert locate() == root  # the folder it lies in
    assert locate(str(usual)) == usual
    (tmp_path / "empty").mkdir()
    for place in ("nowhere", "empty"):
        with pytest.raises(CbirError, match=f"no IRMA data.* at .*{place} or .*{place}.irma"):
            locate(tmp_path / place)


def as_some_keep_it(root, place):
    """Tables and images each some folders deeper, those of the test in one of another name."""
    deep = place / "2009"
    for split, name in (("train", "Training Data"), ("test", "Testing Data")):
        table = deep / f"IRMA Code {name}" / "codes" / TABLES[split]
        table.parent.mkdir(parents=True)
        shutil.copy(root / TABLES[split], table)
        shutil.copytree(root / FOLDERS[split] / FOLDERS[split], deep / name / "png")
    return deep


def test_it_is_found_at_any_depth(root, written, tmp_path):
    deep = as_some_keep_it(root, tmp_path / "a" / "b")
    for place in (tmp_path / "a", tmp_path / "a" / "b", deep):
        assert locate(place) == place
        assert_same_set(load(place, 16), read(written, 16))


def test_a_table_that_is_a_spreadsheet_is_named(root, tmp_path):
    deep = as_some_keep_it(root, tmp_path / "a")
    (table,) = deep.rglob(TABLES["test"])
    table.rename(table.with_suffix(".xls"))
    with pytest.raises(CbirError, match=r"but .*test_codes\.03\.xls, which is not read") as caught:
        load(deep)
    assert "save it as" in caught.value.hint


def test_where_nothing_is_found_it_says_what_is_there(tmp_path):
    (tmp_path / "other data").mkdir()
    with pytest.raises(CbirError, match="or below; there are other data and so on"):
        locate(tmp_path)


def test_litter_is_no_image(root, written):
    inner = train_image(root).parent
    for place in ("@eaDir/1877.png", "__MACOSX", "#recycle", "$RECYCLE.BIN", ".AppleDouble"):
        (inner / place).mkdir(parents=True)
        shutil.copy(train_image(root), inner / place / "1877.png")
    (inner / "._1877.png").write_bytes(b"\0\5\x16\7")
    (root / "lost+found").symlink_to("/nowhere")
    assert_same_set(read(root, 16), read(written, 16))


SHEETS = {
    "numbers as floats": {"suffix": ".0"},
    "numbers with a comma": {"suffix": ",0"},
    "tabs": {"delimiter": "\t"},
    "said with sep=": {"start": "sep=;\n"},
    "empty lines before": {"start": "\n;;\n"},
    "empty cells behind": {"end": ";;\n"},
    "empty rows": {"end": "\n;;;;;\n"},
    "old line ends": {"end": "\r"},
}


@pytest.mark.parametrize("layout", SHEETS.values(), ids=SHEETS)
def test_a_table_that_went_through_a_spreadsheet(written, tmp_path, layout):
    assert_same_set(read(write_irma(tmp_path / "other", **layout), 16), read(written, 16))


def test_load_reads_the_cache_one_for_each_size(root, monkeypatch):
    reads = []
    whole = read
    monkeypatch.setattr(
        irma, "read", lambda folder, size: reads.append(size) or whole(folder, size)
    )
    first = load(root, 16)
    assert_same_set(load(root, 16), first)
    assert load(root, 24).images.shape[1:] == (24, 24)
    assert_same_set(load(root, 16), first)
    assert reads == [16, 24]
    assert_same_set(first, whole(root, 16))
    train_image(root).unlink()
    assert len(load(root, 16)) == len(first) - 1
    assert load(root).images.shape[1:] == (128, 128)


def test_fetch_says_how_to_get_it(tmp_path):
    with pytest.raises(CbirError) as caught:
        fetch(tmp_path / "data", irma.URL)
    first, second = str(caught.value).splitlines()
    assert "registered users" in first
    assert "https://doi.org/10.18154/RWTH-2016-06143" in second
    assert str(tmp_path / "data") in second
    assert not (tmp_path / "data").exists()


def test_published_counts_name_the_classes_in_their_order():
    assert tuple(CLASSES) == tuple(CLASS_OF.values())
    assert all(one < other for one, other in pairwise(CLASS_OF))
    assert sum(CLASSES.values()) == 12_671 - (3 + 338 + 307 + 284)  # without 1, 6, 7 and 8


def test_published_counts_are_the_same_wherever_they_stand():
    # The phantom draws its classes by them, and a verdict computes its random ranking from them.
    assert paper.IRMA_2009 == {"train": CLASSES, "test": TEST}
    assert all([*counts] == [*CLASSES] for counts in (*paper.IRMA_2009.values(), TEST))

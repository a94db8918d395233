import csv
import io
import os
import re
import shutil
import subprocess
import sys
from itertools import product
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cbir_lib.datasets import folder, listing, load
from cbir_lib.datasets.listing import walk_files
from cbir_lib.datasets.radiographs import SPLITS
from cbir_lib.datasets.splits import split_by_class
from cbir_lib.datasets.tables import read_table
from cbir_lib.errors import CbirError
from cbir_lib.images.decoding import fit_to_square
from tests.images.test_dicom import make

RNG = np.random.default_rng(0)


def picture():
    return RNG.integers(0, 256, (20, 16), dtype=np.uint8)


def write(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture() if image is None else image).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    """Two classes of six images."""
    place = tmp_path / "images"
    for i in range(6):
        write(place / "hand" / f"{i}.png")
        write(place / "foot" / "left" / f"{i}.tif")
    return place


def remarks_of(data):
    """The remarks on files and tables; in so small a set, classes and subjects have some, too."""
    rows = data.remarks.to_numpy().tolist()
    known = re.compile("no image in the split|.* images, all in one split$")
    return [row for row in rows if not known.match(row[1])]


def split_of(data):
    return dict(zip(data.image_ids, data.records["split"], strict=True))


# Folders


def test_classes_are_the_sub_folders_and_images_are_fitted(root):
    data = folder.load(root, size=32)
    assert data.name == "folder"
    assert data.class_names == ("foot", "hand")
    assert data.image_ids.tolist() == [
        *(f"foot/left/{i}.tif" for i in range(6)),
        *(f"hand/{i}.png" for i in range(6)),
    ]
    assert data.labels.tolist() == [0] * 6 + [1] * 6
    for image, image_id in zip(data.images, data.image_ids, strict=True):
        assert np.array_equal(image, fit_to_square(np.asarray(Image.open(root / image_id)), 32))
    assert set(data.records["width_px"]) == {16}
    assert set(data.records["height_px"]) == {20}
    assert data.remarks.empty
    assert data.dropped == {}


def test_every_kind_of_file(root):
    grey = picture()
    (root / "hand" / "IM000001").write_bytes(make(grey))
    (root / "hand" / "1.2.840.113").write_bytes(make(grey))
    (root / "hand" / "scan.DCM").write_bytes(make(grey))
    Image.fromarray(grey).save(root / "hand" / "loose.webp", lossless=True)
    for name in ("a.jpg", "b.JPEG", "c.tiff"):
        write(root / "hand" / name)
    data = folder.load(root, size=20)
    names = {"IM000001", "1.2.840.113", "scan.DCM", "loose.webp", "a.jpg", "b.JPEG", "c.tiff"}
    assert names <= {image_id.removeprefix("hand/") for image_id in data.image_ids}
    rows = np.isin(
        data.image_ids, [f"hand/{name}" for name in ("IM000001", "1.2.840.113", "scan.DCM")]
    )
    assert (data.images[rows] == fit_to_square(grey, 20)).all()
    assert rows.sum() == 3


def test_what_is_no_image_is_counted_and_what_cannot_be_read_remarked(root):
    (root / "hand" / "empty.png").write_bytes(b"")
    (root / "hand" / "scan.dcm").write_bytes(make(picture(), Modality="CT"))
    (root / "hand" / ".hidden.png").write_bytes(b"")
    (root / ".git" / "objects").mkdir(parents=True)
    write(root / ".git" / "objects" / "x.png")
    for name in ("Thumbs.db", "notes.txt", "more.csv", "DICOMDIR", "short"):
        (root / "hand" / name).write_bytes(b"x")
    (root / "hand" / "DICOMDIR").write_bytes(make(picture()))
    os.mkfifo(root / "hand" / "pipe")
    write(root / "cover.png")
    data = folder.load(root)
    assert data.dropped == {
        "hidden files": 2,
        "files that are no images": 6,
        "images outside the class folders": 1,
    }
    assert sorted(data.remarks.itertuples(index=False, name=None)) == [
        ("hand/empty.png", "empty file", False),
        ("hand/scan.dcm", "modality CT, no projection X-ray", False),
    ]
    assert len(data) == 12


@pytest.mark.parametrize("name", ["main gauche", "épaule", "肩", "a;b", "100 %"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_any_name_will_do(root, name, form):
    place = root / normalize(form, name)
    (root / "hand").rename(place)
    (place / "0.png").rename(place / normalize(form, "é à.png"))
    (root / "labels.csv").unlink(missing_ok=True)
    data = folder.load(root)
    assert set(data.class_names) == {"foot", name}
    assert f"{name}/é à.png" in data.image_ids


def test_names_that_differ_in_their_accents_form_only_are_refused(root):
    for form in ("NFC", "NFD"):
        write(root / "hand" / normalize(form, "é.png"))
    with pytest.raises(CbirError, match="2 files named hand/é.png"):
        folder.load(root)


THREE_NAMES = [
    *[("train", "validation", "test"), ("Train", "val", "TEST"), ("training", "valid", "testing")],
    *[("Training Set", "dev-set", "hold-out"), ("01_train", "02_val", "03_test")],
    *[("train_images", "validation_images", "test_images"), ("trainset", "valset", "testset")],
    *[("trn", "devel", "held out"), ("train2017", "Val2017", "Test2017")],
]


@pytest.mark.parametrize("names", THREE_NAMES)
def test_folders_named_as_splits_are_the_splits(tmp_path, names):
    for name in names:
        for class_name in ("hand", "foot"):
            write(tmp_path / name / class_name / "deep" / "0.png")
        write(tmp_path / name / "stray.png")
    data = folder.load(tmp_path)
    assert data.class_names == ("foot", "hand")
    assert split_of(data) == {
        f"{name}/{class_name}/deep/0.png": split
        for name, split in zip(names, SPLITS, strict=True)
        for class_name in ("hand", "foot")
    }
    assert data.dropped == {"images outside the class folders": 3}


@pytest.mark.parametrize("names", [("train", "hand"), ("train", "val", "test", "masks")])
def test_splits_and_classes_side_by_side_are_refused(tmp_path, names):
    for name in names:
        write(tmp_path / name / "hand" / "0.png")
    with pytest.raises(CbirError, match="folders named as splits and others"):
        folder.load(tmp_path)


def test_two_splits_are_taken_as_they_are(tmp_path):
    for name in ("train", "valid"):  # as MURA has them
        for class_name in ("XR_HAND", "XR_ELBOW"):
            for number in range(5):
                patient = f"patient{number:05}/study1_positive"
                write(tmp_path / name / class_name / patient / "image1.png")
    data = folder.load(tmp_path)
    assert data.class_names == ("XR_ELBOW", "XR_HAND")
    assert {i.split("/")[0]: s for i, s in split_of(data).items()} == {
        "train": "train",
        "valid": "validation",
    }
    assert len(data) == 20 and data.remarks.empty and not data.dropped


def test_without_validation_a_tenth_of_train_becomes_it(tmp_path):
    same = picture()
    for class_name in ("hand", "foot"):
        for number in range(20):
            of_train = same if class_name == "hand" and number < 5 else None
            write(tmp_path / "Training" / class_name / f"{number}.png", of_train)
            write(tmp_path / "Testing" / class_name / f"{number}.png")
    data = folder.load(tmp_path)
    assert data.counts().loc["foot"].tolist() == [18, 2, 20]
    assert data.counts().loc["hand", "test"] == 20
    split_by_id = split_of(data)
    assert all((split_by_id[i] == "test") == i.startswith("Testing") for i in split_by_id)
    assert len({split_by_id[f"Training/hand/{number}.png"] for number in range(5)}) == 1
    assert data.remarks.to_numpy().tolist() == [
        ["the split train", "no validation beside it: a tenth of its images became that", True]
    ]


ONLY = "the only one with images: they were divided into three"


@pytest.mark.parametrize("name", ["train", "Training", "dev", "test"])
def test_a_single_split_divides_nothing(root, tmp_path, name):
    plain = folder.load(root)
    (tmp_path / "other").mkdir()
    shutil.copytree(root, tmp_path / "other" / name)
    data = folder.load(tmp_path / "other")
    assert data.class_names == ("foot", "hand")
    assert data.image_ids.tolist() == [f"{name}/{image_id}" for image_id in plain.image_ids]
    assert data.records["split"].tolist() == plain.records["split"].tolist()
    split = folder.parse_split_name(name)
    assert data.remarks.to_numpy().tolist() == [[f"the split {split}", ONLY, True]]


def write_splits(root, name_split):
    """A table of the images of ``root`` with the split that the function gives to each path."""
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.*"))
    lines = [f"{file},{file.split('/')[0]},{name_split(file)}\n" for file in files]
    (root / "labels.csv").write_text("file,class,split\n" + "".join(lines))


@pytest.mark.parametrize("name", ["train", "Test", "val"])
def test_a_single_split_in_a_table_divides_nothing(root, name):
    plain = folder.load(root, size=16).records["split"].tolist()
    write_splits(root, lambda file: name)
    data = folder.load(root, size=16)
    assert data.records["split"].tolist() == plain
    split = folder.parse_split_name(name)
    assert data.remarks.to_numpy().tolist() == [[f"the split {split}", ONLY, True]]


def test_a_table_without_validation_images_gets_some_of_train(root):
    write_splits(root, lambda file: "test" if "0." in file else "train")
    data = folder.load(root, size=16)
    split = data.records["split"]
    assert ((split == "test") == ["0." in i for i in data.image_ids]).all()
    assert 0 < (split == "validation").sum() < (split == "train").sum()
    assert "no validation beside it" in " ".join(data.remarks["remark"])


def test_splits_inside_of_the_classes(tmp_path):
    for class_name in ("hand", "foot"):
        for name in ("Train", "valid", "test"):
            write(tmp_path / class_name / name / "deep" / "0.png")
    data = folder.load(tmp_path)
    assert data.class_names == ("foot", "hand")
    assert split_of(data) == {
        f"{class_name}/{name}/deep/0.png": split
        for class_name in ("hand", "foot")
        for name, split in (("Train", "train"), ("valid", "validation"), ("test", "test"))
    }


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ("{hand,foot}/{train,test} hand/masks", "hand has folders named as splits and others"),
        ("{hand,foot}/{train,test} spine", "spine has no folder named as a split, which other"),
        ("{hand,foot}/{train,test} spine/p1", "spine has no folder named as a split"),
        ("{hand,foot}/{train,test,trn}", "two folders for the split train"),
        ("{train,val,test}/{covid,normal}/{images,masks}", "the folders masks inside"),
        ("{covid,normal}/{train,test}/{images,masks}", "the folders masks inside"),
        ("covid/{images,masks} normal/{images,masks,other}", "the folders masks inside"),
        ("covid/{images,lung_masks} normal", "the folders lung_masks inside"),
        ("covid/p1/{images,masks} normal", "the folders masks inside"),
        ("{CXR_png,masks}/x", "which are not classes"),
        ("{images,heatmaps,masks}/x", "which are not classes"),
        ("images_{001,002,003}/images", "which are not classes"),
        ("{train,valid}/patient{00001,00002}/study1", "which are not classes"),
        ("{development,validation}/{hand,foot}", "splits and others: validation, development"),
        ("{valid,test}/{hand,foot}", "has images of test and validation but none of train"),
        ("seg_{train,test}/{hand,foot}", "named as a split and something else"),
    ],
)
def test_what_is_neither_classes_nor_splits_of_classes_is_refused(places, reason, tmp_path):
    for place in expand(places):
        write(tmp_path / place / "0.png")
    with pytest.raises(CbirError, match=reason) as caught:
        folder.load(tmp_path)
    assert caught.value.hint


def expand(places):
    """List the folders of a pattern with braces, as a shell does."""
    for place in places.split():
        parts = re.split(r"\{(.*?)\}", place)
        choices = [part.split(",") if at % 2 else [part] for at, part in enumerate(parts)]
        yield from map("".join, product(*choices))


def test_images_beside_the_splits_of_a_class_are_counted(tmp_path):
    for place in expand("{hand,foot}/{train,test}"):
        write(tmp_path / place / "0.png")
    write(tmp_path / "hand" / "cover.png")
    data = folder.load(tmp_path)
    assert split_of(data)["hand/test/0.png"] == split_of(data)["foot/test/0.png"] == "test"
    assert data.dropped == {"images outside the class folders": 1}


@pytest.mark.parametrize("fault", ["no images", "no classes", "unreadable"])
def test_a_split_without_images_of_a_class_is_no_split(root, fault):
    plain = folder.load(root)
    shutil.copytree(root, root.parent / "all" / "train")
    test = root.parent / "all" / "test"
    if fault == "unreadable":
        for name in ("hand", "foot"):
            (test / name).mkdir(parents=True)
            (test / name / "0.png").write_bytes(b"x")
    else:
        test.mkdir()
        if fault == "no classes":  # as Kaggle has them
            write(test / "0.png")
    data = folder.load(root.parent / "all")
    assert data.records["split"].tolist() == plain.records["split"].tolist()
    assert ["the split train", ONLY, True] in data.remarks.to_numpy().tolist()


def test_a_class_that_lacks_a_split_is_named(tmp_path):
    for place in expand("Training/{glioma_tumor,pituitary} Testing/{glioma,pituitary}"):
        for number in range(4):
            write(tmp_path / place / f"{number}.png")
    remarks = folder.load(tmp_path).remarks.to_numpy().tolist()
    assert ["the class glioma", "no image in the split train", True] in remarks
    assert ["the class glioma_tumor", "no image in the split test", True] in remarks


def test_classes_inside_of_splits_inside_of_sites_are_named(tmp_path):
    for place in expand("{siteA,siteB}/{train,test}/{hand,foot}"):
        write(tmp_path / place / "0.png")
    remarks = folder.load(tmp_path).remarks.to_numpy().tolist()
    said = "their splits have the folders foot, hand; not taken as classes"
    assert ["siteA, siteB", said, True] in remarks


def test_a_folder_around_the_splits(tmp_path):
    for name in ("train", "valid", "test"):
        for class_name in ("hand", "foot"):
            write(tmp_path / "MURA-v1.1" / name / class_name / "0.png")
    write(tmp_path / "stray.png")
    data = folder.load(tmp_path)
    assert split_of(data)["MURA-v1.1/valid/hand/0.png"] == "validation"
    assert data.class_names == ("foot", "hand") and len(data) == 6
    assert data.dropped == {"images outside the class folders": 1}


def test_several_folders_around_the_splits(tmp_path):
    for name in ("train", "valid", "test"):
        for class_name in ("hand", "foot"):
            write(tmp_path / "data" / "Röntgen" / name / class_name / "0.png")
    write(tmp_path / "data" / "stray.png")
    data = folder.load(tmp_path)
    assert split_of(data)["data/Röntgen/valid/hand/0.png"] == "validation"
    assert data.class_names == ("foot", "hand") and len(data) == 6
    assert data.dropped == {"images outside the class folders": 1}


def test_folders_that_may_be_splits_are_named(tmp_path):
    """In any language; but classes may well have the same folders inside."""
    for name in ("Entrenamiento", "Prueba"):
        for class_name in ("hand", "foot"):
            write(tmp_path / name / class_name / "0.png")
    [remark] = remarks_of(folder.read(tmp_path))
    assert remark == [
        "Entrenamiento, Prueba",
        "each has the folders foot, hand; taken as classes, not as splits",
        True,
    ]
    write(tmp_path / "Prueba" / "0.png")
    assert remarks_of(folder.read(tmp_path)) == []


def test_masks_inside_the_classes_are_no_images_of_them(tmp_path):
    for class_name in ("COVID", "Normal"):
        for part in ("images", "Masks"):
            write(tmp_path / class_name / part / "0.png")
    with pytest.raises(CbirError, match="the folders Masks inside, beside other images") as caught:
        folder.read(tmp_path)
    assert "labels" in caught.value.hint
    for class_name in ("COVID", "Normal"):
        shutil.rmtree(tmp_path / class_name / "Masks")
    assert remarks_of(folder.read(tmp_path)) == []


@pytest.mark.parametrize(
    "names", [("Hand", "hand"), ("left hand", "left\u00a0hand"), ("a  b", "a b")]
)
def test_classes_that_differ_in_case_or_spaces_are_refused(root, names):
    table(root, f"file,class\nhand/0.png,{names[0]}\nhand/1.png,{names[1]}\nhand/2.png,x\n")
    with pytest.raises(CbirError, match="differ in case or spaces"):
        folder.read(root)
    (root / "labels.csv").unlink()
    for name in names:
        write(root / name / "0.png")
    with pytest.raises(CbirError, match="differ in case or spaces"):
        folder.read(root)


def test_a_class_without_images_says_what_became_of_its_files(root):
    table(root, "file,class\nD:\\x\\0.png,a\nD:\\x\\1.png,b\n")
    with pytest.raises(CbirError, match="2 files cannot be used, first D:/x/0.png: no such file"):
        folder.read(root)


def test_what_stands_beside_the_splits_without_images_does_not_matter(tmp_path):
    for name in ("train", "val", "test"):
        for class_name in ("hand", "foot"):
            write(tmp_path / name / class_name / "0.png")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.txt").write_text("x")
    data = folder.load(tmp_path)
    assert data.class_names == ("foot", "hand") and set(data.records["split"]) == set(SPLITS)
    assert data.dropped == {"files that are no images": 1}


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("val", "valid", "train"), "two folders for the split validation: val and valid"),
        (("images", "masks"), "which are not classes"),
        (("Images", "Ground Truth"), "which are not classes"),
        (("fold1", "fold_2", "Fold 3"), "which are not classes"),
        (("train_hand", "test hand", "val-hand"), "named as a split and something else"),
        (("train", "extra"), "folders named as splits and others: train, extra"),
    ],
)
def test_folders_that_are_no_classes_are_refused(tmp_path, names, reason):
    for name in names:
        write(tmp_path / name / "hand" / "0.png")
        write(tmp_path / name / "foot" / "0.png")
    with pytest.raises(CbirError, match=reason) as caught:
        folder.load(tmp_path)
    assert caught.value.hint


def test_a_folder_around_the_classes_is_named(root):
    with pytest.raises(CbirError, match="1 classes") as caught:
        folder.load(around(root))
    assert "if foot, hand are the classes" in caught.value.hint
    with pytest.raises(CbirError, match="1 classes") as caught:
        folder.load(root.parent)
    assert "name " + str(root.parent / "around" / "images") in caught.value.hint


def around(root):
    (root.parent / "around").mkdir()
    shutil.move(root, root.parent / "around")
    return root.parent / "around"


LITTER = (
    *("hand/@eaDir/0.png/SYNOPHOTO_THUMB_M.png", "#recycle/hand/9.png", "@eaDir/x.jpg"),
    *("__MACOSX/hand/._0.png", "__MACOSX/hand/0.png", "$RECYCLE.BIN/S-1-5-21/$R1.png"),
    *("System Volume Information/x.png", "hand/0.png~", "@Recycle/0.png", "lost+found/1.png"),
    *("hand/#0.png#", "hand/~$0.png", "foot/@tmp/0.tif", "old~/0.png", "hand/#1#/2.png"),
)


def test_litter_is_passed_over_and_counted(root):
    plain = folder.load(root)
    whole = (root / "hand" / "0.png").read_bytes()
    for name in (*LITTER, "hand/.DS_Store", "hand/._0.png", ".Trash-1000/files/0.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(whole)
    for name in ("Thumbs.db", "desktop.ini"):
        (root / "hand" / name).write_bytes(b"x")
    (root / "hand" / "IM1~").write_bytes(make(picture()))  # an editor's copy of DICOM
    # Nobody looks into it: neither links nor names nor rights there stop anything.
    (root / "#recycle" / "link").symlink_to("/nowhere")
    os.mkfifo(os.fsencode(root / "#recycle") + b"/\xe9.png")
    data = folder.load(root)
    assert data.image_ids.tolist() == plain.image_ids.tolist()
    assert data.class_names == plain.class_names
    assert np.array_equal(data.images, plain.images)
    assert data.dropped == {
        "files that systems and programs left": len(LITTER) + 2,
        "hidden files": 4,
        "files that are no images": 2,
    }


def test_litter_that_cannot_be_read_stops_nothing(root, monkeypatch):
    (root / "System Volume Information").mkdir()
    (root / ".Trashes").mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith(("Information", ".Trashes")):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert len(list(walk_files(root))) == 12


@pytest.mark.parametrize("suffix", [".bmp", ".pgm", ".jp2"])
def test_further_kinds_are_taken_up_where_they_can_be_read(root, suffix):
    grey = picture()
    how = {"irreversible": False} if suffix == ".jp2" else {}
    Image.fromarray(grey).save(root / "hand" / f"more{suffix}", **how)
    data = folder.load(root, size=20)
    if suffix in folder.IMAGE_SUFFIXES:
        row = data.image_ids.tolist().index(f"hand/more{suffix}")
        assert np.array_equal(data.images[row], fit_to_square(grey, 20))
    else:
        assert data.dropped == {"files that are no images": 1}


@pytest.mark.parametrize("fault", ["one class", "no image", "empty class", "unreadable class"])
def test_too_few_images_are_refused(root, fault):
    if fault == "unreadable class":
        for path in (root / "hand").iterdir():
            path.write_bytes(b"")
    else:
        shutil.rmtree(root / "hand")
    if fault == "no image":
        shutil.rmtree(root / "foot")
    if fault == "empty class":
        (root / "hand").mkdir()
    few = fault in ("one class", "no image")
    text = "not two or more" if few else "class 'hand' of folder has no readable image"
    with pytest.raises(CbirError, match=text):
        folder.load(root)


def test_no_image_at_all_is_refused(tmp_path):
    (tmp_path / "hand").mkdir()
    (tmp_path / "foot").mkdir()
    with pytest.raises(CbirError, match="class 'foot' of folder has no readable image"):
        folder.load(tmp_path)


def test_where_it_lies(root, monkeypatch):
    with pytest.raises(CbirError, match="no folder of images is given"):
        folder.locate()
    monkeypatch.setenv("CBIR_DATA", str(root))
    assert folder.locate() == root
    assert folder.locate(str(root / "hand")) == root / "hand"
    for wrong in (root / "nowhere", root / "hand" / "0.png"):
        with pytest.raises(CbirError, match="no folder "):
            folder.locate(wrong)
    with pytest.raises(CbirError, match="not downloaded"):
        folder.fetch(root)


@pytest.mark.parametrize("size", [0, 7, 2049, -1, 64.0, "64", True])
def test_a_size_out_of_range_is_refused(root, size):
    with pytest.raises(CbirError, match=r"size .* is out of range[^$]*8 to 2048"):
        load("folder", root, size=size)
    assert load("folder", root, size=8).images.shape == (12, 8, 8)


def test_second_load_comes_from_the_cache_until_a_file_changes(root, monkeypatch):
    read, calls = folder.read, []
    monkeypatch.setattr(folder, "read", lambda *args: calls.append(args) or read(*args))
    first = folder.load(root)
    second = folder.load(root)
    assert len(calls) == 1
    assert np.array_equal(first.images, second.images)
    folder.load(root, size=32)
    write(root / "hand" / "new.png")
    assert len(folder.load(root)) == len(first) + 1
    assert len(calls) == 3


def test_a_codec_that_was_installed_since_is_used(root, monkeypatch):
    read, calls = folder.read, []
    monkeypatch.setattr(folder, "read", lambda *args: calls.append(args) or read(*args))
    for codec in (None, "here", None):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, codec=codec: codec)
        folder.load(root)
    assert len(calls) == 2


# Links and other dangers


def links(root):
    outside = root.parent / "outside"
    write(outside / "0.png")
    return {
        "file outside": (root / "hand" / "x.png", outside / "0.png", "leads out of the folder"),
        "folder outside": (root / "more", outside, "leads out of the folder"),
        "nowhere": (root / "hand" / "x.png", root / "gone", "leads nowhere"),
        "itself": (root / "hand" / "x.png", root / "hand" / "x.png", "leads nowhere"),
        "folder above": (root / "hand" / "again", root, "leads to the folder"),
    }


@pytest.mark.parametrize(
    "kind", ["file outside", "folder outside", "nowhere", "itself", "folder above"]
)
def test_links_that_lead_out_are_refused(root, kind):
    link, target, reason = links(root)[kind]
    link.symlink_to(target)
    with pytest.raises(CbirError) as caught:
        folder.load(root)
    assert f"the link {link} {reason}" in caught.value.what
    assert "copy the files" in caught.value.hint


def test_links_inside_and_a_link_to_the_folder_itself_are_followed(root, tmp_path):
    (root / "hand" / "x.png").symlink_to(root / "hand" / "0.png")
    (tmp_path / "link").symlink_to(root)
    data = folder.load(tmp_path / "link")
    assert "hand/x.png" in data.image_ids
    assert split_of(data)["hand/x.png"] == split_of(data)["hand/0.png"]


def test_name_that_is_not_utf8_is_refused(root):
    os.mkfifo(os.fsencode(root / "hand") + b"/\xe9.png")
    with pytest.raises(CbirError, match="the name is not UTF-8"):
        folder.load(root)


def test_folder_that_cannot_be_read_is_refused(root, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("left"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CbirError, match="cannot read .*left: Permission denied"):
        list(walk_files(root))


def test_files_that_cannot_be_read_are_remarked(root, monkeypatch):
    monkeypatch.setattr(listing, "LARGEST_FILE", 1000)
    (root / "hand" / "large.png").write_bytes(bytes(1001))
    data = folder.read(root)
    assert data.remarks.to_numpy().tolist() == [["hand/large.png", "1,001 bytes, too large", False]]


# labels.csv


def table(root, text, encoding="utf-8"):
    (root / "labels.csv").write_bytes(text.encode(encoding))


WRITINGS = {
    "comma": ("file,class\n{rows}", ",", "\n", "utf-8"),
    "semicolon": ("file;class\n{rows}", ";", "\n", "utf-8"),
    "Excel": ("File;Class\r\n{rows}", ";", "\r\n", "utf-8-sig"),
    "quoted, more columns": ('"note","file","class"\n{rows}', ",", "\n", "utf-8"),
}


@pytest.mark.parametrize(("text", "comma", "end", "encoding"), WRITINGS.values(), ids=WRITINGS)
def test_table_in_every_writing(root, text, comma, end, encoding):
    files = {
        "hand/0.png": "A",
        "hand\\1.png": "B; c" if comma == "," else "B, c",
        "foot/left/2.tif": "A",
    }
    note = "x," if "note" in text else ""
    rows = end.join(f"{note}{file}{comma} {name} " for file, name in files.items())
    table(root, text.format(rows=rows) + end + end, encoding)
    data = folder.load(root)
    assert data.class_names == ("A", files["hand\\1.png"])
    assert data.image_ids.tolist() == ["foot/left/2.tif", "hand/0.png", "hand/1.png"]
    assert data.labels.tolist() == [0, 0, 1]
    assert data.dropped == {"images not in labels.csv": 9}


def test_columns_of_the_table_are_taken_over(root):
    table(
        root,
        "irma_code,file,split,class,subject_id\n"
        "1121-120-463-700,hand/0.png,train,hand,p1\n"
        ",hand/1.png,VAL,hand,p1\n"
        ",foot/left/0.tif,validation,foot,\n"
        ",foot/left/1.tif,test,foot,p2\n",
    )
    data = folder.load(root)
    assert data.records.drop(columns=["width_px", "height_px", "source"]).to_numpy().tolist() == [
        ["foot/left/0.tif", "validation", "", ""],
        ["foot/left/1.tif", "test", "p2", ""],
        ["hand/0.png", "train", "p1", "1121-120-463-700"],
        ["hand/1.png", "validation", "p1", ""],
    ]


def test_table_and_files_may_spell_accents_differently(root):
    write(root / normalize("NFD", "é.png"))
    names = [normalize(form, "é") for form in ("NFC", "NFD")]
    table(root, f"file,class,subject_id\n{names[0]}.png,a,{names[0]}\nhand/0.png,b,{names[1]}\n")
    data = folder.load(root)
    assert data.image_ids.tolist() == ["hand/0.png", "é.png"]
    assert data.records["subject_id"].tolist() == [names[0], names[0]]


@pytest.mark.parametrize("nothing", ["", "NA", "n/a", "nan", "None", "<NA>", "NULL", "\\N"])
def test_what_programs_write_for_nothing_is_empty(root, nothing):
    lines = [f"hand/{i}.png,{'ab'[i % 2]},{nothing},{nothing},{nothing}\n" for i in range(6)]
    table(root, "file,class,split,subject_id,irma_code\n" + "".join(lines))
    records = folder.load(root).records
    assert set(records["split"]) > {"train"}
    assert not records["subject_id"].any() and not records["irma_code"].any()


def test_a_path_may_go_up_and_down_again_inside(root):
    table(root, "file,class\nfoot/../hand/0.png,a\n./hand//1.png,b\n")
    assert folder.load(root).image_ids.tolist() == ["hand/0.png", "hand/1.png"]


def test_a_table_in_the_only_folder_inside_is_not_passed_over(root):
    table(root, "file,class\nhand/0.png,a\nhand/1.png,b\n")
    with pytest.raises(CbirError, match="labels.csv lies in") as caught:
        folder.load(root.parent)
    assert caught.value.hint == f"name {root} as the folder"


def test_files_without_suffix_are_what_they_start_as(root):
    for number, suffix in enumerate((".png", ".jpg", ".jp2")):
        file = write(root / "hand" / f"IM{number}{suffix}")
        file.rename(file.with_suffix(""))
    Image.fromarray(picture()).save(root / "hand" / "more.gif")
    (root / "hand" / "notes").write_text("x")
    table(root, "file,class\nhand/scan,a\nhand/0.png,b\n")
    (root / "hand" / "scan.dicom").write_bytes(make(picture()))
    assert folder.load(root).image_ids.tolist() == ["hand/0.png", "hand/scan.dicom"]
    (root / "labels.csv").unlink()
    data = folder.load(root)
    assert {"hand/IM0", "hand/IM1", "hand/IM2", "hand/scan.dicom"} < {*data.image_ids}
    assert data.dropped == {
        ".gif files, which are not read": 1,
        "files that are no images": 1,
    }


def test_listed_file_that_is_not_there_is_remarked(root):
    table(root, "file,class\nhand/0.png,a\nhand/1.png,b\nhand/gone.png,b\nhand,b\nC:\\x.png,b\n")
    data = folder.load(root)
    assert remarks_of(data) == [
        ["C:/x.png", "no such file", False],
        ["hand", "not a plain file", False],
        ["hand/gone.png", "no such file", False],
    ]


HEAD = "file,class,split\n"
GOOD = "hand/0.png,hand,train\n"
FAULTY = {
    "no class column": ("file,kind\nhand/0.png,x\n", "has 0 columns 'class'"),
    "two file columns": ("file,class,file\na,b,c\n", "has 2 columns 'file'"),
    "two split columns": ("file,class,split,split\na,b,c,c\n", "has 2 columns 'split'"),
    "nothing": ("", "has no rows"),
    "head alone": (HEAD, "has no rows"),
    "unknown split": (HEAD + GOOD + "hand/1.png,hand,later\n", "row 3: split 'later' is none of"),
    "of clinical studies": (HEAD + "hand/0.png,hand,development\n", "split 'development' is none"),
    "no value": (HEAD + "hand/0.png,NaN,train\n", "row 2: no class"),
    "no code": ("file,class,irma_code\nhand/0.png,a,hand\n", "row 2: IRMA code 'hand' has 4"),
    "split missing": (HEAD + GOOD + "hand/1.png,hand,\n", "row 3: split '' is none of"),
    "no class": (HEAD + GOOD + "hand/1.png,,train\n", "row 3: no class"),
    "no file": (HEAD + ",hand,train\n", "row 2: no file"),
    "twice": (HEAD + GOOD + "./hand/0.png,foot,train\n", "row 3: hand/0.png is already in row 2"),
    "up": (HEAD + "../x.png,hand,train\n", "row 2: ../x.png leaves the folder"),
    "up inside": (HEAD + "hand/../../x.png,hand,train\n", "leaves the folder"),
    "up, Windows": (HEAD + "..\\x.png,hand,train\n", "leaves the folder"),
    "absolute": (HEAD + "/etc/passwd,hand,train\n", "row 2: /etc/passwd leaves the folder"),
    "short row": (HEAD + GOOD + "\nhand/1.png,hand\n", "row 4: 2 cells, not 3"),
    "too many cells": (HEAD + "hand/0,5.png,hand,train\n", "row 2: 4 cells, not 3"),
    "shortened": ("file,class,subject_id\nhand/0.png,a,1.23457E+11\n", "row 2: subject_id '1.23"),
    "an error": ("file,class\nhand/0.png,#N/A\n", "row 2: class '#N/A' is an error of a"),
    "one column": ("file\nhand/0.png\n", "has 0 columns 'class'"),
    "open quote": (HEAD + '"hand/0.png,hand,train\n', "row 2: unexpected end of data"),
}


@pytest.mark.parametrize(("text", "reason"), FAULTY.values(), ids=FAULTY)
def test_faulty_table_names_the_row(root, text, reason):
    table(root, text)
    with pytest.raises(CbirError) as caught:
        folder.load(root)
    assert "labels.csv" in caught.value.what
    assert reason in caught.value.what
    assert caught.value.hint


PLAIN = "file;class;subject_id\nhand/0.png;A;1\nhand/1.png;B;12\nfoot/left/2.tif;A;12\n"
SPREADSHEETS = {
    "plain": PLAIN,
    "byte-order mark": "\ufeff" + PLAIN,
    "tabs": PLAIN.replace(";", "\t"),
    "bars": PLAIN.replace(";", "|"),
    "all quoted": "\n".join(
        ",".join(f'"{cell}"' for cell in line.split(";")) for line in PLAIN.splitlines()
    ),
    "sep=": "sep=;\r\n" + PLAIN.replace("\n", "\r\n"),
    "sep= and a mark": "\ufeffsep=;\n" + PLAIN,
    "sep= for colons": "sep=:\n" + PLAIN.replace(";", ":"),
    "sep= for tabs": "sep=\t\n" + PLAIN.replace(";", "\t"),
    "empty lines": "\n\n" + PLAIN.replace("\n", "\n\n;;\n"),
    "old line ends": PLAIN.replace("\n", "\r"),
    "empty columns": PLAIN.replace("\n", ";;;\n"),
    "empty columns in the head": PLAIN.replace("\n", ";;;\n", 1),
    "an empty column inside": PLAIN.replace(";", ";;", 1)
    .replace("png;", "png;;")
    .replace("tif;", "tif;;"),
    "decimal commas beside": PLAIN.replace("\n", ";dose\n", 1)
    .replace("A;1\n", "A;1;0,5\n")
    .replace(";12\n", ";12;1,75\n"),
    "more commas than semicolons": PLAIN.replace("\n", ";a, b, c, d, e\n", 1)
    .replace("A;1\n", "A;1;x\n")
    .replace(";12\n", ";12;x\n"),
    "headings": PLAIN.replace("file;class;subject_id", " File ;CLASS;Subject ID"),
    "hyphens": PLAIN.replace("subject_id", "subject-id"),
    "floats": PLAIN.replace(";1\n", ";1.0\n").replace(";12\n", ";12.0\n"),
    "some floats": PLAIN.replace(";12\n", ";12,0\n", 1),
    "backslashes": PLAIN.replace("/", "\\"),
    "no suffix": PLAIN.replace(".png", "").replace(".tif", ""),
    "another case": PLAIN.replace("hand", "Hand").replace(".tif", ".TIF"),
    "a dot": PLAIN.replace("hand/", "./hand/"),
    "no-break spaces": PLAIN.replace(";A", ";\u00a0A\u00a0"),
    "absolute": PLAIN.replace("hand/", "{root}/hand/").replace("foot", "{root}/foot"),
}


def assert_is_plain(data):
    assert data.image_ids.tolist() == ["foot/left/2.tif", "hand/0.png", "hand/1.png"]
    assert [data.class_names[label] for label in data.labels] == ["A", "A", "B"]
    assert data.records["subject_id"].tolist() == ["12", "1", "12"]
    assert data.dropped == {"images not in labels.csv": 9}


@pytest.mark.parametrize("text", SPREADSHEETS.values(), ids=SPREADSHEETS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_tables_as_spreadsheets_write_them(root, text, encoding):
    table(root, text.replace("{root}", str(root)), encoding)
    data = folder.read(root, size=16)
    assert_is_plain(data)
    said = {"utf-8": [], "utf-32": ["read as UTF-32"]}.get(encoding, ["read as UTF-16"])
    remarks = [remark for _, remark, _ in remarks_of(data) if "columns that are" not in remark]
    assert remarks == said


def test_letters_of_windows(root):
    (root / "hand" / "0.png").rename(root / "hand" / "Ärztin.png")
    (root / "labels.csv").write_bytes(
        "file;class\r\nhand\\Ärztin.png;Fuß œ\r\nhand/1.png;10 €\r\n".encode("cp1252")
    )
    data = folder.load(root)
    assert data.class_names == ("10 €", "Fuß œ")
    assert data.image_ids.tolist() == ["hand/1.png", "hand/Ärztin.png"]
    assert remarks_of(data) == [["labels.csv", "read as Windows-1252", True]]


@pytest.mark.parametrize("data", [b"file,class\n\x81\x8d,a\n", b"\xff\xfe\0", b"PK\3\4\x14\0\xff"])
def test_what_is_no_text_is_refused(root, data):
    (root / "labels.csv").write_bytes(data)
    with pytest.raises(CbirError, match=r"labels\.csv is not text in UTF-8"):
        folder.load(root)


def test_files_by_what_a_spreadsheet_left_of_their_names(tmp_path):
    for name in ("a/0001.png", "a/0010.png", "b/0002.png", "b/scan 3.jpg"):
        write(tmp_path / name)
    write(tmp_path / "a" / "0002.png")
    table(tmp_path, "file;class\na/1;x\n10;x\nb/2;y\nSCAN 3;y\na/2;x\n")
    data = folder.load(tmp_path)
    names = ["a/0001.png", "a/0002.png", "a/0010.png", "b/0002.png", "b/scan 3.jpg"]
    assert data.image_ids.tolist() == names and remarks_of(data) == []
    table(tmp_path, "file;class\n1.0;x\n10,0;y\n")
    assert folder.load(tmp_path).image_ids.tolist() == ["a/0001.png", "a/0010.png"]
    table(tmp_path, "file;class\n1;x\n2;y\n")
    with pytest.raises(CbirError, match=r"row 3: 2 may be a/0002\.png or b/0002\.png") as caught:
        folder.load(tmp_path)
    assert "its folders and its suffix" in caught.value.hint
    # What says more than the file's name is not that file.
    table(tmp_path, "file;class\na/1;x\nb/2;y\n00001;x\n0001.jpg;x\nb/0001.png;y\n")
    names = ["00001", "0001.jpg", "b/0001.png"]
    assert remarks_of(folder.load(tmp_path)) == [[name, "no such file", False] for name in names]


@pytest.mark.parametrize("name", ["labels.tsv", "Labels.CSV"])
def test_other_names_of_the_table(root, name):
    (root / name).write_text(PLAIN.replace(";", "\t"))
    data = folder.load(root)
    assert data.image_ids.tolist() == ["foot/left/2.tif", "hand/0.png", "hand/1.png"]
    assert data.dropped == {f"images not in {name}": 9}


def test_a_spreadsheet_alone_and_two_tables_are_refused(root):
    (root / "labels.xlsx").write_bytes(b"PK")
    with pytest.raises(CbirError, match=r"labels\.xlsx is a spreadsheet") as caught:
        folder.load(root)
    assert "save it as labels.csv" in caught.value.hint
    (root / "labels.tsv").write_text(PLAIN.replace(";", "\t"))
    (root / "Labels.csv").write_text(PLAIN)
    with pytest.raises(CbirError, match="has the tables"):
        folder.load(root)
    table(root, PLAIN)
    assert len(folder.load(root)) == 3


cells = st.text(st.sampled_from("aä ,;\t\"'|\\|0.é€"), max_size=6)


@given(
    st.lists(st.tuples(cells, cells), min_size=1, max_size=6),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_whatever_is_written_is_read(rows, delimiter, encoding, end, said):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerow(["note", "File", "Class"])
    writer.writerows([f"x{i}", *row] for i, row in enumerate(rows))
    text = (f"sep={delimiter}{end}" if said else "") + out.getvalue()
    table = read_table(text.encode(encoding), "t", ("file", "class")).rows
    expected = [{"file": file.strip(), "class": name.strip()} for file, name in rows]
    whole = [[row[column] for row in expected] for column in ("file", "class")]
    if not any(re.fullmatch(r"0+[.,]00?", cell) for column in whole for cell in column):
        assert [row.cells for row in table] == expected


def test_a_pair_of_stray_quotation_marks_swallows_no_row(root):
    rows = [f"hand/{number}.png,hand,note {number}" for number in range(6)]
    for column, name in enumerate(("file", "class", "note")):
        for first, last in ((0, 1), (1, 4)):
            broken = [row.split(",") for row in rows]
            broken[first][column] = f'"{broken[first][column]}'
            broken[last][column] += '"'
            # As a whole it may still be a row of the table, or the quotation ends inside a cell.
            table(root, "file,class,note\n" + "\n".join(map(",".join, broken)) + "\n")
            with pytest.raises(CbirError) as caught:
                folder.load(root)
            said = "goes over several lines|cells, not 3|expected after"
            assert re.search(said, caught.value.what), (name, first, last)
    rows = 'hand/0.png,a,"x\nhand/1.png,b,1,2\nhand/2.png,a,y",z\n'
    table(root, f"file,class,note,note\n{rows}")  # columns of one name are two
    with pytest.raises(CbirError, match="goes over several lines"):
        folder.load(root)
    table(root, 'file,class,note\nhand/0.png,a,"two\nlines, of a remark"\nhand/1.png,b,\n')
    assert folder.load(root).image_ids.tolist() == ["hand/0.png", "hand/1.png"]


def test_columns_that_are_not_read_are_named(root):
    table(root, "file,class,Patient ID,,age\nhand/0.png,a,p1,,7\nhand/1.png,b,p1,,8\n")
    [remark] = remarks_of(folder.load(root))
    assert remark == ["labels.csv", "columns that are not read: Patient ID, age", True]


@given(st.binary(max_size=60))
def test_any_bytes_are_a_table_or_refused(data):
    try:
        rows = read_table(b"file,class\n" + data, "labels.csv", ("file", "class")).rows
    except CbirError:
        return
    assert all(set(row.cells) == {"file", "class"} for row in rows)


# Splits


@pytest.mark.parametrize("name", [".hidden", "@eaDir"])
def test_a_table_names_nothing_in_folders_that_are_passed_over(root, tmp_path, name):
    """A hidden link might lead anywhere, and a change there would not be noticed."""
    write(tmp_path / "private" / "patient.png")
    (root / name).symlink_to(tmp_path / "private")
    table(root, f"file,class\nhand/0.png,a\nhand/1.png,b\n{name}/patient.png,a\n")
    with pytest.raises(CbirError, match=f"row 4: {name}/patient.png is among .* passed over"):
        folder.load(root)


def test_a_heading_of_nothing_but_marks_is_no_heading(root):
    table(root, "file,class,\ufeff \u200b\nhand/0.png,a,\nhand/1.png,b,\n")
    assert folder.load(root).image_ids.tolist() == ["hand/0.png", "hand/1.png"]


def test_a_split_that_gets_no_image_of_a_class_is_named(root):
    """Two images are too few for three splits, and one subject for any two."""
    shutil.rmtree(root / "hand")
    for number in range(2):
        write(root / "hand" / f"{number}.png")
    assert ["the class hand", "no image in the split validation", True] in (
        folder.load(root).remarks.to_numpy().tolist()
    )
    assert folder.load(root).counts().to_numpy().tolist() == [[4, 1, 1], [1, 0, 1]]
    files = [
        *(f"hand/{i}.png,hand,p1" for i in range(2)),
        *(f"foot/left/{i}.tif,foot,p1" for i in range(6)),
    ]
    table(root, "file,class,subject_id\n" + "\n".join(files))
    assert folder.load(root).remarks.to_numpy().tolist() == [
        ["the subject p1", "8 of 8 images, all in one split", True],
        *(
            [f"the class {name}", f"no image in the split {split}", True]
            for name in ("foot", "hand")
            for split in ("validation", "test")
        ),
    ]


@pytest.mark.parametrize("nobody", ["unknown", "-", "Anonymous", "?"])
def test_a_name_for_whoever_is_not_known_is_no_subject(root, nobody):
    rows = [f"hand/{i}.png,hand,{nobody}" for i in range(6)]
    rows += [f"foot/left/{i}.tif,foot,{nobody}" for i in range(6)]
    table(root, "file,class,subject_id\n" + "\n".join(rows))
    data = folder.load(root)
    assert data.counts().to_numpy().tolist() == [[4, 1, 1], [4, 1, 1]]
    assert data.remarks.empty and not data.records["subject_id"].any()


def test_a_subject_is_in_one_split_only(root):
    rows = [f"hand/{i}.png,hand,p{i // 2}" for i in range(6)]
    rows += [f"foot/left/{i}.tif,foot,p{i // 2}" for i in range(6)]
    table(root, "file,class,subject_id\n" + "\n".join(rows))
    data = folder.load(root)
    assert data.records.groupby("subject_id")["split"].nunique().tolist() == [1, 1, 1]
    assert (data.counts() == 2).all(axis=None)


def test_splits_follow_the_pixels_whatever_the_names(root, tmp_path):
    other = tmp_path / "other"
    for i, path in enumerate(sorted(root.rglob("*.*"), reverse=True)):
        class_name = path.relative_to(root).parts[0]
        (other / class_name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other / class_name / f"{i}{path.suffix}")
    splits = [
        {image.tobytes(): split for image, split in zip(d.images, d.records["split"], strict=True)}
        for d in (folder.load(root), folder.load(other))
    ]
    assert splits[0] == splits[1]
    # At another size, too.
    assert folder.load(root, size=16).records["split"].tolist() == (
        folder.load(root, size=64).records["split"].tolist()
    )


images = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 25), st.sampled_from(["", "", "p", "q", "r", "s"])),
    min_size=1,
    max_size=60,
)


@given(images, st.randoms())
def test_groups_stay_together_and_the_order_means_nothing(drawn, random):
    def splits(triples):
        labels, contents, subjects = zip(*triples, strict=True)
        return split_by_class(labels, [bytes([c]) for c in contents], subjects)

    assigned = splits(drawn)
    assert set(assigned) <= set(SPLITS)
    for column in (1, 2):
        split_of_group = {}
        for image, split in zip(drawn, assigned, strict=True):
            if image[column] != "":
                assert split_of_group.setdefault(image[column], split) == split
    order = list(range(len(drawn)))
    random.shuffle(order)
    assert splits([drawn[i] for i in order]) == [assigned[i] for i in order]


@given(st.lists(st.integers(1, 120), min_size=1, max_size=4))
def test_each_class_has_its_shares(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    contents = [i.to_bytes(2, "big") for i in range(len(labels))]
    assigned = np.array(split_by_class(labels, contents, [""] * len(labels)))
    for label, count in enumerate(counts):
        train, validation, test = ((assigned[labels == label] == split).sum() for split in SPLITS)
        assert train + validation + test == count
        if count == 1:
            assert train == 1
        elif count == 2:
            assert (train, test) == (1, 1)
        else:
            assert test == max(1, round(0.2 * count))
            assert validation == max(1, round(0.08 * count))


def test_groups_that_a_rarer_class_has_placed_count():
    # Three subjects with an image of each class, and seven with one of the common class alone.
    labels = [0] * 10 + [1] * 3
    subjects = [f"p{i}" for i in [*range(10), *range(3)]]
    for seed in range(20):
        contents = [f"{seed} {i}".encode() for i in range(13)]
        assigned = split_by_class(labels, contents, subjects)
        assert sorted(assigned[10:]) == ["test", "train", "validation"]
        assert [assigned[:10].count(split) for split in SPLITS] == [7, 1, 2]


def test_the_order_is_that_of_no_name():
    # Contents in ascending order: were they not hashed, the first would all be test.
    assigned = split_by_class([0] * 1000, [i.to_bytes(2, "big") for i in range(1000)], [""] * 1000)
    halves = [assigned[:500].count("test"), assigned[500:].count("test")]
    assert sum(halves) == 200
    assert abs(halves[0] - 100) < 4 * np.sqrt(200 * 0.25)


def test_importing_the_module_is_light():
    code = "import sys, cbir_lib.datasets.folder; print('pydicom' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

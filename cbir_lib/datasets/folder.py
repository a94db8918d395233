"""A folder of one's own: PNG, JPEG (2000), TIFF, WebP, BMP, PGM, DICOM; with or without a table.

Without a table the name of a sub-folder is the class, and whatever lies below belongs to it::

    root/hand/0001.png                    class hand
    root/hand/subject 7/0002.dcm          class hand
    root/train/hand/0001.png              class hand, split train; so with validation (or val), test
    root/hand/train/0001.png              the same, where every class is so divided

Splits have any of their usual names: see :func:`split_named`. Two or three of them are taken as
they are; where train and test are there alone, a tenth of train becomes validation. A single one
divides nothing.

With ``labels.csv`` in the root the table alone counts, and the folders mean nothing::

    file;class;split;subject_id;irma_code
    scans/0001.png;hand;train;p17;1121-120-463-700

``file`` is relative to the root, with ``/`` or ``\\``; it and ``class`` are required. ``split`` is
train, validation or test by any of their names, for all rows or for none. The table is read as
spreadsheets write it: :func:`cbir_lib.datasets.listing.read_table`. A file may be named without
its suffix, and without its folder, where only one fits.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from cbir_lib.datasets.cache import cached
from cbir_lib.datasets.listing import (
    Entry,
    decode_text,
    litter,
    read_file,
    read_images,
    read_table,
    walk,
)
from cbir_lib.datasets.radiographs import RadiographSet, gather
from cbir_lib.datasets.splits import split_by_class, validation_of_train
from cbir_lib.errors import CbirError
from cbir_lib.images import decoding
from cbir_lib.images.dicom import is_dicom

TITLE = "A folder of your own: one sub-folder a class, or labels.csv"
CREDIT = "yours"
CAPTION = "a folder"
CAVEAT = "Nothing is known of these images but what their folder says."
URL = None
LABELS = "labels.csv"
TABLES = (LABELS, "labels.tsv")  # in any case
SHEETS = (".ods", ".xls", ".xlsb", ".xlsx")
SUFFIXES = {  # of what decoding reads
    "PNG": (".png",),
    "JPEG": (".jpeg", ".jpg", ".jpe", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "PPM": (".pgm", ".ppm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf"),
}
IMAGE_SUFFIXES = (
    ".dcm",
    *(one for kind in SUFFIXES if kind in decoding.FORMATS for one in SUFFIXES[kind]),
)
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "validating"), "validation"),
    **dict.fromkeys(("dev", "devel", "development", "tune", "tuning"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
}
# What such a name may have beside it, as in "01_training set".
BESIDE = {"set", "data", "dataset", "split", "images", "image", "img", "imgs", "samples", "fold"}
# Folders that are parts of a data set and no classes: images beside their masks, parts of a
# cross-validation.
PARTS = {
    *("image", "images", "img", "imgs", "pictures", "scans", "xrays", "radiographs"),
    *("mask", "masks", "label", "labels", "annotation", "annotations", "segmentation"),
    *("segmentations", "ground_truth", "groundtruth", "gt", "bbox", "bboxes", "boxes", "json"),
}
FOLD = re.compile(r"(fold|cv|split|part|batch)[\s_-]*\d+")


def locate(root: Path | str | None = None) -> Path:
    """The folder: ``root``, else ``CBIR_DATA``.

    Raises
    ------
    CbirError
        When none is given, or it is not there.
    """
    given = root or os.environ.get("CBIR_DATA")
    if not given:
        raise CbirError("no folder of images is given", "name it: --data-root PATH, or CBIR_DATA")
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise CbirError(f"no folder {folder}", "name the folder that holds one sub-folder a class")
    return folder.resolve()


def load(root: Path | str | None = None, size: int = 128) -> RadiographSet:
    """The images of a folder, each fitted on a square of ``size`` pixels; decoded once.

    ``image_id`` is the path in the folder, with its suffix. Where neither the folders nor the table
    say so, the splits are made by :func:`cbir_lib.datasets.splits.split_by_class`: a subject and
    exact copies in one split only. Subjects are known from ``labels.csv`` alone.

    Raises
    ------
    CbirError
        When there are fewer than two classes, a class has no readable image, the table is faulty,
        or a link leads out of the folder.
    """
    folder = locate(root)
    for _ in walk(folder):  # links and names, before the cache looks at the files
        pass
    # Images without their codec are left out; with it they are to be read after all.
    codecs = "-gdcm" if importlib.util.find_spec("gdcm") else ""
    return cached(f"folder-{size}{codecs}", folder, lambda place: read(place, size))


def read(folder: Path, size: int = 128) -> RadiographSet:
    """Read a folder, image by image."""
    dropped: Counter[str] = Counter()
    files = _differently_named(folder, dropped)
    said: list[tuple[str, str, bool]] = []
    if table := find_table(folder):
        class_names, entries = _from_table(folder, table, files, dropped, said)
    else:
        class_names, entries = _from_folders(folder, files, dropped, said)
    if len(class_names) < 2:
        inner = folder / "".join(class_names)
        below = [] if table or not inner.is_dir() else [place.name for place in _folders(inner)]
        hint = f"put each class into a sub-folder of its own, or name them in {LABELS}"
        if len(below) > 1:
            hint = f"if {', '.join(below[:3])} are the classes, name {inner} as the folder"
        raise CbirError(f"{folder} has {len(class_names)} classes, not two or more", hint)
    # Sorted by identifier: the order then is the same on every file system.
    images, records, contents, remarks = read_images(
        sorted(entries), class_names, lambda file: read_file(folder / file), size
    )
    if len(records) and not records["split"].all():
        records["split"] = split_by_class(records["label"], contents, records["subject_id"])
    elif not table and set(records["split"]) == {"train", "test"}:
        train = (records["split"] == "train").to_numpy()
        remark = "no validation beside it: a tenth of its images became that"
        said.append(("the split train", remark, True))
        records.loc[train, "split"] = validation_of_train(
            records["label"][train],
            [content for content, own in zip(contents, train, strict=True) if own],
            records["subject_id"][train],
        )
    mend = (
        f"put readable images of it into {folder}, or take the class away; cbir data check folder"
    )
    return gather("folder", class_names, images, records, [*said, *remarks], dropped, mend=mend)


def image_files(
    folder: Path,
    dropped: Counter[str],
    report: Callable[[Path, str], None] | None = None,
) -> Iterator[PurePosixPath]:
    """The image files of a folder: by suffix, or by what a DICOM file starts with.

    What is passed over is counted in ``dropped``; ``report`` is that of
    :func:`cbir_lib.datasets.listing.walk`.
    """
    for file in walk(folder, report, dropped):
        if len(file.parts) == 1 and file.name.lower() in TABLES:
            pass
        elif file.suffix.lower() in IMAGE_SUFFIXES or _has_preamble(folder / file):
            yield file
        else:
            dropped["files that are no images"] += 1


def _differently_named(folder: Path, dropped: Counter[str]) -> list[PurePosixPath]:
    """The image files, no two of whose names differ in the form of their accents only."""
    files = list(image_files(folder, dropped))
    names = Counter(normalize("NFC", str(file)) for file in files)
    if names and (twice := names.most_common(1)[0])[1] > 1:
        raise CbirError(f"{folder} has {twice[1]} files named {twice[0]}", "rename one of them")
    return files


def _has_preamble(path: Path) -> bool:
    # DICOM files have any suffix or none; but the directory of a disc holds no image.
    if path.name == "DICOMDIR" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(4096))
    except OSError:
        return False


def split_named(name: str) -> str:
    """The split of a usual name: train, validation or test; empty for any other.

    In any case, and with a number, or a word as "set" or "images" beside it.

    >>> [split_named(name) for name in ("Training", "01_val", "test set", "Hold-out", "hand")]
    ['train', 'validation', 'test', 'test', '']
    """
    words = re.findall(r"[a-z]+", name.lower())
    if not words or re.search(r"[^\W\d_a-z]", name.lower()):
        return ""
    for ending in ("", "set", "data", "images"):
        joined = "".join(words)
        if joined.endswith(ending) and (found := SPLIT_NAMES.get(joined.removesuffix(ending))):
            return found
    kept = [word for word in words if word not in BESIDE]
    return SPLIT_NAMES.get(kept[0], "") if len(kept) == 1 else ""


def _folders(place: Path) -> list[Path]:
    """The folders in a folder, but litter, sorted."""
    return sorted(
        child
        for child in place.iterdir()
        if child.is_dir() and not litter(PurePosixPath(child.name))
    )


def _from_folders(
    folder: Path,
    files: list[PurePosixPath],
    dropped: Counter[str],
    said: list[tuple[str, str, bool]],
) -> tuple[list[str], list[Entry]]:
    """Class, and the split where the folders name them, from the first folders of each path."""
    top = _folders(folder)
    if len(top) == 1 and not split_named(top[0].name):
        # One folder around the splits, as archives are unpacked.
        inner = _folders(top[0])
        if inner and all(split_named(place.name) for place in inner):
            below = [PurePosixPath(*file.parts[1:]) for file in files if len(file.parts) > 1]
            dropped.update({OUTSIDE: len(files) - len(below)} if len(files) > len(below) else {})
            names, entries = _from_folders(top[0], below, dropped, said)
            above = normalize("NFC", top[0].name)
            return names, [
                entry._replace(image_id=f"{above}/{entry.image_id}", file=top[0].name / entry.file)
                for entry in entries
            ]
    split_at, class_at = _levels(folder, top, files)
    entries, names = [], set()
    for file in files:
        if len(file.parts) < max(split_at or 0, class_at) + 2:
            dropped[OUTSIDE] += 1
            continue
        class_name = normalize("NFC", file.parts[class_at])
        split = "" if split_at is None else split_named(file.parts[split_at])
        entries.append(Entry(normalize("NFC", str(file)), file, class_name, split))
    places = top
    if class_at == 1:
        places = [place for one in top if split_named(one.name) for place in _folders(one)]
    names = sorted({normalize("NFC", place.name) for place in places})
    if class_at == 1 and len(top) == 1:  # a single one divides nothing
        entries = [entry._replace(split="") for entry in entries]
        said.append((top[0].name, "the only split: its images were divided into three", True))
    _check_classes(folder, names)
    return names, entries


OUTSIDE = "images outside the class folders"


def _levels(folder: Path, top: list[Path], files: list[PurePosixPath]) -> tuple[int | None, int]:
    """At which level of a path the split stands, if at any; and at which the class.

    Raises
    ------
    CbirError
        When some folders are named as splits and others, with images, are not, or two as one split.
    """
    named = {place.name: split_named(place.name) for place in top}
    with_images = {file.parts[0] for file in files if len(file.parts) > 1}
    others = [name for name, split in named.items() if not split and name in with_images]
    splits = [name for name, split in named.items() if split]
    if splits and others:
        raise CbirError(
            f"{folder} has folders named as splits and others: {', '.join([*splits, *others])}",
            "have train, validation and test with the classes inside, or only classes",
        )
    if splits:
        _check_twice(folder, splits)
        return 0, 1
    # The other way round: each class with its splits inside, and nothing else.
    inside = {file.parts[1] for file in files if len(file.parts) > 2}
    if inside and all(len(file.parts) > 2 for file in files if len(file.parts) > 1):
        found = {split_named(name) for name in inside}
        if "" not in found and len(found) > 1:
            for place in top:
                below = [child.name for child in _folders(place)]
                _check_twice(place, [name for name in below if split_named(name)])
            return 1, 0
    return None, 0


def _check_twice(folder: Path, names: Iterable[str]) -> None:
    """Refuse two folders of one split, as val and valid."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(split_named(name), name)) != name:
            raise CbirError(
                f"{folder} has two folders for the split {split_named(name)}: {other} and {name}",
                "join the two, or take one out of the folder",
            )


def _check_classes(folder: Path, names: list[str]) -> None:
    """Refuse folders that are parts of a data set and no classes."""
    lower = [re.sub(r"[\s-]+", "_", name.lower()) for name in names]
    # As train_hand and test_hand.
    words = [
        [SPLIT_NAMES[word] for word in name.split("_") if word in SPLIT_NAMES] for name in lower
    ]
    both = all(len(found) == 1 for found in words) and len({found[0] for found in words}) > 1
    if both:
        raise CbirError(
            f"{folder} has folders that name a split and a class at once: {', '.join(names[:3])}",
            "have train, validation and test with the classes inside, or only classes",
        )
    if len(names) > 1 and (set(lower) <= PARTS or all(map(FOLD.fullmatch, lower))):
        raise CbirError(
            f"{folder} has the folders {', '.join(names[:3])}, which are no classes",
            f"put each class into a sub-folder of its own, or name them in {LABELS}",
        )


def find_table(folder: Path) -> str:
    """The name of the table in a folder; empty where there is none.

    Raises
    ------
    CbirError
        When there are two, or a spreadsheet that is none.
    """
    names = sorted(place.name for place in folder.iterdir() if place.is_file())
    tables = [name for name in names if name.lower() in TABLES]
    if LABELS in tables:
        return LABELS
    if len(tables) > 1:
        raise CbirError(
            f"{folder} has the tables {' and '.join(tables)}", "take one of them out of the folder"
        )
    if tables:
        return tables[0]
    stem = LABELS.removesuffix(".csv")
    for name in names:
        if name.lower() in [stem + suffix for suffix in SHEETS]:
            raise CbirError(
                f"{folder / name} is a spreadsheet, which is not read",
                f"save it as {LABELS} (CSV UTF-8) beside it, or take it out of the folder",
            )
    return ""


def _from_table(
    folder: Path,
    table: str,
    files: list[PurePosixPath],
    dropped: Counter[str],
    said: list[tuple[str, str, bool]],
) -> tuple[list[str], list[Entry]]:
    """Class, split, subject and IRMA code from the table; what is to remark of it, into ``said``.

    Raises
    ------
    CbirError
        With the row that has no class, an unknown split, a path that leaves the folder or that
        another row has too.
    """
    data, reason = read_file(folder / table)
    if data is None:
        raise CbirError(f"{folder / table}: {reason}", "mend its permissions")
    if remark := decode_text(data, table)[1]:
        said.append((table, remark, True))
    rows = read_table(data, table, ("file", "class"), ("split", "subject_id", "irma_code"))
    hint = f"mend row {{}} of {folder / table}"
    known_files = Names(files)
    row_of: dict[str, int] = {}
    entries = []
    some_split = any(row.cells["split"] for row in rows)
    for number, cells in rows:
        where, mend = f"{table}, row {number}", hint.format(number)
        file = _inside(folder, PurePosixPath(cells["file"].replace("\\", "/")))
        if file.is_absolute() or ".." in file.parts:
            raise CbirError(f"{where}: {cells['file']} leaves the folder", mend)
        if not file.name or not cells["class"]:
            raise CbirError(f"{where}: no {'class' if file.name else 'file'}", mend)
        split = split_named(cells["split"])
        if some_split and not split:
            raise CbirError(
                f"{where}: split {cells['split']!r} is none of train, validation, test", mend
            )
        fitting = known_files.find(file)
        if len(fitting) > 1:
            raise CbirError(
                f"{where}: {file} may be {fitting[0]} or {fitting[1]}",
                f"{mend}: give the file with its folders and its suffix",
            )
        found = fitting[0] if fitting else file
        key = normalize("NFC", str(found))
        if key in row_of:
            raise CbirError(f"{where}: {key} is in row {row_of[key]} already", mend)
        row_of[key] = number
        class_name = normalize("NFC", cells["class"])
        known = cells["subject_id"], cells["irma_code"]
        entries.append(Entry(key, found, class_name, split, *known))
    if unlisted := sum(normalize("NFC", str(file)) not in row_of for file in files):
        dropped[f"images not in {table}"] = unlisted
    return sorted({entry.class_name for entry in entries}), entries


def _inside(folder: Path, file: PurePosixPath) -> PurePosixPath:
    """A file relative to the folder where its path is absolute and inside, else as it is."""
    if not file.is_absolute() or ".." in file.parts:
        return file
    for path in (Path(file), Path(os.path.realpath(Path(file).parent), file.name)):
        if path.is_relative_to(folder):
            return PurePosixPath(path.relative_to(folder).as_posix())
    return file


class Names:
    """The files of a folder, to be found by what a table calls them."""

    def __init__(self, files: Iterable[PurePosixPath]):
        self._files: dict[tuple, list[PurePosixPath]] = {}
        for file in files:
            for key in self._keys(file):
                self._files.setdefault(key, []).append(file)

    @staticmethod
    def _keys(file: PurePosixPath) -> list[tuple]:
        """What a file may be called, from what tells most to what tells least."""
        whole = normalize("NFC", str(file))
        plain = PurePosixPath(whole.casefold())
        stem = _stem(plain)
        counted = (stem.lstrip("0") or "0") if stem.isdecimal() else stem
        above = str(plain.parent)
        return [
            ("as it is", whole),
            ("in any case", str(plain)),
            ("without suffix", above, stem),
            ("without zeros", above, counted),
            ("without folder", plain.name),
            ("without folder and suffix", stem),
            ("without folder and zeros", counted),
        ]

    def find(self, file: PurePosixPath) -> list[PurePosixPath]:
        """The files that fit best: none, one, or several where the name does not tell.

        A name without a suffix, a folder, or zeros before a number may be that of a file with
        them, but not the other way round.
        """
        suffix = _stem(PurePosixPath(file.name.casefold())) != file.name.casefold()
        zeros = file.name.startswith("0") and file.name != "0"
        for key in self._keys(file):
            if ("suffix" in key[0] and suffix) or ("zeros" in key[0] and (suffix or zeros)):
                continue
            if "folder" in key[0] and len(file.parts) > 1:
                continue
            if found := self._files.get(key):
                return found
        return []


def _stem(file: PurePosixPath) -> str:
    return file.stem if file.suffix in IMAGE_SUFFIXES else file.name


def fetch(folder: Path, url: str | None = URL) -> Path:
    """Say that there is nothing to fetch.

    Raises
    ------
    CbirError
        Always.
    """
    raise CbirError("a folder of your own is not downloaded", "name it: --data-root, CBIR_DATA")

"""A folder of your own: PNG, JPEG (2000), TIFF, WebP, BMP, PGM, DICOM; with or without a table.

Without a table the name of a sub-folder is the class, and everything below belongs to it::

    root/hand/0001.png                    class hand
    root/hand/subject 7/0002.dcm          class hand
    root/train/hand/0001.png              class hand, split train; also validation (or val), test
    root/hand/train/0001.png              the same, if every class is divided like this

Splits may have any of their usual names: see :func:`parse_split_name`. Train with one or two others
is used as it is; if there are only train and test, a tenth of train becomes validation. A single
split with images is ignored.

If there is a ``labels.csv`` in the root, only the table counts, and the folders mean nothing::

    file;class;split;subject_id;irma_code
    scans/0001.png;hand;train;p17;1121-120-463-700

``file`` is relative to the root, with ``/`` or ``\\``; it and ``class`` are required. ``split`` is
train, validation or test by any of their names, for all rows or for none; two of them, or one, are
taken as those of folders are. In ``class`` NA, nan and null are no names; elsewhere they and none
are empty, and a subject may also be unknown or anonymous. The table is read as
spreadsheets write it: :func:`cbir_lib.datasets.tables.read_table`. A file may be named without
its suffix, and without its folder, where only one fits.
"""

from __future__ import annotations

import importlib.util
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from unicodedata import normalize

import pandas as pd

from cbir_lib.datasets.cache import load_cached
from cbir_lib.datasets.listing import Entry, classify_litter, read_file, read_images, walk_files
from cbir_lib.datasets.radiographs import SPLITS, RadiographSet, build_set
from cbir_lib.datasets.splits import SHARES, split_by_class, split_off_validation
from cbir_lib.datasets.tables import decode_text, read_table
from cbir_lib.errors import CbirError
from cbir_lib.files import expand, resolve
from cbir_lib.images import decoding
from cbir_lib.images.dicom import is_dicom
from cbir_lib.irma_code import parse_code

TITLE = "A folder of your own: one sub-folder a class, or labels.csv"
CREDIT = "yours"
CAPTION = "a folder"
CAVEAT = "Nothing is known of these images but what their folder says."
URL = None
LABELS = "labels.csv"
TABLES = (LABELS, "labels.tsv")  # in any case
SHEETS = (".fods", ".numbers", ".ods", ".xls", ".xlsb", ".xlsm", ".xlsx")
NO_CLASS = {"na", "n/a", "<na>", "nan", "null", r"\n"}  # what R, pandas and SQL write for nothing
NO_VALUE = NO_CLASS | {"none"}
NO_SUBJECT = {"-", "--", "?", ".", "unknown", "anonymous", "anonymised", "anonymized", "anon"}
SUFFIXES = {  # by format of ``decoding.FORMATS``
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
    *(suffix for kind in SUFFIXES if kind in decoding.FORMATS for suffix in SUFFIXES[kind]),
)
DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")  # usual ones; a DICOM file may have any
OTHER_IMAGES = {
    *(".avif", ".gif", ".heic", ".heif", ".jxl", ".mha", ".mhd", ".nii", ".nrrd", ".psd", ".svg")
}
# Not "development", which is training in clinical studies and validation elsewhere.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "validating"), "validation"),
    **dict.fromkeys(("dev", "devel", "tune", "tuning"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
}
# Words that may accompany such a name, as in "01_training set".
FILLER_WORDS = {
    "set",
    "data",
    "dataset",
    "split",
    "images",
    "image",
    "img",
    "imgs",
    "samples",
    "fold",
}
# Folders that are parts of a data set and not classes: images beside their masks; folds of a
# cross-validation, packages, patients.
IMAGE_FOLDERS = {"image", "images", "img", "imgs", "pictures", "scans", "xrays", "radiographs"}
MASK_PATTERN = re.compile(
    r"(.+_)?masks?|labels?|annotations?|segmentations?|ground_?truth|gt|heatmaps?|bbox(es)?|boxes"
)
PART_PATTERN = re.compile(
    r"(fold|cv|split|part|batch|images?|patient|pat|subject|sub|case|study)[\s_-]*\d+"
)


def locate(root: Path | str | None = None) -> Path:
    """Return the folder: ``root``, else ``CBIR_DATA``.

    Raises
    ------
    CbirError
        When none is given, or it does not exist.
    """
    path = root or os.environ.get("CBIR_DATA")
    if not path:
        raise CbirError("no folder of images is given", "name it: --data-root PATH, or CBIR_DATA")
    folder = expand(path)
    if not folder.is_dir():
        raise CbirError(f"no folder {folder}", "name the folder with one sub-folder per class")
    return resolve(folder)


def load(root: Path | str | None = None, size: int = 128) -> RadiographSet:
    """Load the images of a folder, each fitted to a square of ``size`` pixels; decoded once.

    ``image_id`` is the path in the folder, with its suffix. If neither the folders nor the table
    name splits, they are made by :func:`cbir_lib.datasets.splits.split_by_class`: a subject, and
    exact copies, lie in one split only. Subjects are known only from ``labels.csv``.

    Raises
    ------
    CbirError
        When there are fewer than two classes, a class has no readable image, the table is faulty,
        or a link leads out of the folder.
    """
    folder = locate(root)
    for _ in walk_files(folder):  # checks links and names before the cache reads the files
        pass
    # Images whose codec is missing are left out; once it is installed they must be read.
    codecs = "-gdcm" if importlib.util.find_spec("gdcm") else ""
    return load_cached(f"folder-{size}{codecs}", folder, lambda place: read(place, size))


def read(folder: Path, size: int = 128) -> RadiographSet:
    """Read a folder, image by image."""
    dropped: Counter[str] = Counter()
    files = _list_image_files(folder, dropped)
    remarks: list[tuple[str, str, bool]] = []
    if table := find_table(folder):
        class_names, entries = _list_entries_in_table(folder, table, files, dropped, remarks)
    else:
        _check_inner_table(folder)
        class_names, entries = _list_entries_by_folder(folder, files, dropped, remarks)
    if len(class_names) < 2:
        inner = folder if table else _descend(folder)
        below = [] if inner == folder else [place.name for place in _list_folders(inner)]
        hint = f"put each class into a sub-folder of its own, or name them in {LABELS}"
        if len(below) > 1:
            hint = f"if {', '.join(below[:3])} are the classes, name {inner} as the folder"
        raise CbirError(f"{folder} has {len(class_names)} classes, not two or more", hint)
    _check_class_names(folder, class_names)
    # Sorted by identifier, so that the order is the same on every file system.
    images, records, contents, image_remarks = read_images(
        sorted(entries), class_names, lambda file: read_file(folder / file), size
    )
    named = set(records["split"])
    if len(named) == 1 and "" not in named:
        remark = "the only one with images: they were divided into three"
        remarks.append((f"the split {named.pop()}", remark, True))
        records["split"] = ""
    if len(records) and not records["split"].all():
        remarks += _list_large_subjects(records["subject_id"])
        records["split"] = split_by_class(records["label"], contents, records["subject_id"])
        named = set(SPLITS)
    elif named and "train" not in named:
        raise CbirError(
            f"{folder} has images of {' and '.join(sorted(named))} but none of train",
            "name the images to learn from and to search in: train",
        )
    elif named == {"train", "test"}:
        train = (records["split"] == "train").to_numpy()
        remark = "no validation beside it: a tenth of its images became that"
        remarks.append(("the split train", remark, True))
        records.loc[train, "split"] = split_off_validation(
            records["label"][train],
            [content for content, own in zip(contents, train, strict=True) if own],
            records["subject_id"][train],
        )
        named = set(SPLITS)
    remarks += _list_missing(class_names, records, [split for split in SPLITS if split in named])
    hint = (
        f"put readable images of it into {folder}, or remove the class; see cbir data check folder"
    )
    remarks += image_remarks
    return build_set("folder", class_names, images, records, remarks, dropped, hint=hint)


def _list_missing(
    class_names: list[str], records: pd.DataFrame, splits: list[str]
) -> list[tuple[str, str, bool]]:
    """List the classes that have no image in one of the splits, as remarks."""
    there = set(zip(records["label"], records["split"], strict=True))
    return [
        (f"the class {class_names[label]}", f"no image in the split {split}", True)
        for label in sorted(set(records["label"]))
        for split in splits
        if (label, split) not in there
    ]


def _list_large_subjects(subjects: pd.Series) -> list[tuple[str, str, bool]]:
    """List the subjects that have more images than the test split should, as remarks.

    They lie in one split, which they fill; a name for whoever is not known does so, too.
    """
    counts = subjects[subjects != ""].value_counts()
    large = counts[counts > SHARES[2] * len(subjects)]
    return [
        (f"the subject {name}", f"{count} of {len(subjects)} images, all in one split", True)
        for name, count in sorted(large.items())
    ]


def find_image_files(
    folder: Path,
    dropped: Counter[str],
    report: Callable[[Path, str], None] | None = None,
) -> Iterator[PurePosixPath]:
    """Yield the image files of a folder, recognised by suffix or by the start of a DICOM file.

    Ignored files are counted in ``dropped``; for ``report`` see
    :func:`cbir_lib.datasets.listing.walk_files`.
    """
    for file in walk_files(folder, report, dropped):
        if len(file.parts) == 1 and file.name.lower() in TABLES:
            pass
        elif file.suffix.lower() in IMAGE_SUFFIXES or _starts_as_image(folder / file):
            yield file
        elif file.suffix.lower() in OTHER_IMAGES:
            dropped[f"{file.suffix.lower()} files, which are not read"] += 1
        else:
            dropped["files that are no images"] += 1


def _list_image_files(folder: Path, dropped: Counter[str]) -> list[PurePosixPath]:
    """List the image files; refuse two names that differ only in how accents are encoded."""
    files = list(find_image_files(folder, dropped))
    names = Counter(normalize("NFC", str(file)) for file in files)
    if names and (twice := names.most_common(1)[0])[1] > 1:
        raise CbirError(f"{folder} has {twice[1]} files named {twice[0]}", "rename one of them")
    return files


def _starts_as_image(path: Path) -> bool:
    # DICOM files have any suffix or none; but the directory file of a disc is not an image.
    if path.name == "DICOMDIR" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except FileNotFoundError:
        return False
    except OSError:  # it may be one: whoever reads it will say why it cannot be read
        return True
    return is_dicom(start) or (not path.suffix and start.startswith(decoding.READABLE_STARTS))


def parse_split_name(name: str) -> str:
    """Return the split that a name stands for: train, validation or test; empty for any other name.

    Case, numbers, and words such as "set" or "images" are ignored.

    >>> names = ("Training", "01_val", "test set", "Hold-out", "hand")
    >>> [parse_split_name(name) for name in names]
    ['train', 'validation', 'test', 'test', '']
    """
    words = re.findall(r"[a-z]+", name.lower())
    if not words or re.search(r"[^\W\d_a-z]", name.lower()):
        return ""
    for ending in ("", "set", "data", "images"):
        joined = "".join(words)
        if joined.endswith(ending) and (split := SPLIT_NAMES.get(joined.removesuffix(ending))):
            return split
    kept = [word for word in words if word not in FILLER_WORDS]
    return SPLIT_NAMES.get(kept[0], "") if len(kept) == 1 else ""


def _list_folders(place: Path) -> list[Path]:
    """List the folders in a folder, sorted, without litter."""
    return sorted(
        child
        for child in place.iterdir()
        if child.is_dir() and not classify_litter(PurePosixPath(child.name))
    )


def _descend(folder: Path) -> Path:
    """Return the folder itself, or the first below it that is not the only one and no split."""
    while len(inner := _list_folders(folder)) == 1 and not parse_split_name(inner[0].name):
        folder = inner[0]
    return folder


def _list_entries_by_folder(
    folder: Path,
    files: list[PurePosixPath],
    dropped: Counter[str],
    remarks: list[tuple[str, str, bool]],
) -> tuple[list[str], list[Entry]]:
    """List classes and entries by the first folders of each path; remarks go to ``remarks``."""
    place = _descend(folder)
    if place != folder and all(parse_split_name(inner.name) for inner in _list_folders(place)):
        # Folders around the splits, as unpacking an archive makes them.
        above = place.relative_to(folder)
        depth = len(above.parts)
        below = [PurePosixPath(*file.parts[depth:]) for file in files if file.is_relative_to(above)]
        if len(files) > len(below):
            dropped[OUTSIDE_CLASSES] += len(files) - len(below)
        names, entries = _list_entries_by_folder(place, below, dropped, remarks)
        return names, [
            entry._replace(
                image_id=normalize("NFC", f"{above.as_posix()}/{entry.image_id}"),
                file=above.as_posix() / entry.file,
            )
            for entry in entries
        ]
    top = _list_folders(folder)
    split_at, class_at = _find_levels(folder, top, files)
    entries, names = [], set()
    for file in files:
        if len(file.parts) < max(split_at or 0, class_at) + 2:
            dropped[OUTSIDE_CLASSES] += 1
            continue
        class_name = normalize("NFC", file.parts[class_at])
        split = "" if split_at is None else parse_split_name(file.parts[split_at])
        entries.append(Entry(normalize("NFC", str(file)), file, class_name, split))
    places = top
    if class_at == 1:
        splits = [place for place in top if parse_split_name(place.name)]
        places = [place for split in splits for place in _list_folders(split)]
    names = sorted({normalize("NFC", place.name) for place in places})
    _check_class_folders(folder, names)
    depth = max(split_at or 0, class_at) + 1  # of what lies in a class, or in its split
    _check_masks(folder, [entry.file for entry in entries], depth)
    if split_at != 0:
        inner = top if split_at is None else [two for one in top for two in _list_folders(one)]
        if len(inside := _list_shared_folders(inner, files, depth)) > 1:
            listed = ", ".join(inside[:3])
            remark = f"each has the folders {listed}; taken as classes, not as splits"
            if split_at:
                remark = f"their splits have the folders {listed}; not taken as classes"
            remarks.append((", ".join(names[:3]), remark, True))
    return names, entries


def _list_shared_folders(places: list[Path], files: list[PurePosixPath], depth: int) -> list[str]:
    """List the folders inside of each folder, if they are the same and hold all images.

    ``depth`` is the number of folders above the images that would lie in the folders themselves.
    """
    if len(places) < 2 or any(len(file.parts) == depth + 1 for file in files):
        return []
    inside = [[place.name for place in _list_folders(folder)] for folder in places]
    return inside[0] if all(names == inside[0] for names in inside) else []


OUTSIDE_CLASSES = "images outside the class folders"


def _find_levels(
    folder: Path, top: list[Path], files: list[PurePosixPath]
) -> tuple[int | None, int]:
    """Find the level of a path that names the split, if any, and the level that names the class.

    Raises
    ------
    CbirError
        When some folders with images are named as splits and others are not, or two folders are
        named as one split.
    """
    named = {place.name: parse_split_name(place.name) for place in top}
    with_images = {file.parts[0] for file in files if len(file.parts) > 1}
    others = [name for name, split in named.items() if not split and name in with_images]
    splits = [name for name, split in named.items() if split]
    if splits and others:
        raise CbirError(
            f"{folder} has folders named as splits and others: {', '.join([*splits, *others])}",
            "have train, validation and test with the classes inside, or only classes",
        )
    if splits:
        _check_split_folders(folder, splits)
        return 0, 1
    # The other way round: the classes with their splits inside.
    inside: dict[str, set[str]] = {}
    for file in files:
        if len(file.parts) > 2:
            inside.setdefault(file.parts[0], set()).add(file.parts[1])
    if len({parse_split_name(name) for names in inside.values() for name in names} - {""}) > 1:
        for class_name in sorted(with_images):
            names = inside.get(class_name, set())
            others = sorted(name for name in names if not parse_split_name(name))
            splits = sorted(names - {*others})
            if others or not splits:
                what = f"folders named as splits and others: {', '.join([*splits, *others])}"
                lacks = "no folder named as a split, which other classes have"
                raise CbirError(
                    f"{folder / class_name} has {what if splits else lacks}",
                    "divide every class into train, validation and test, or none",
                )
            _check_split_folders(folder / class_name, splits)
        return 1, 0
    return None, 0


def _check_split_folders(folder: Path, names: Iterable[str]) -> None:
    """Refuse two folders of one split, such as val and valid."""
    seen: dict[str, str] = {}
    for name in names:
        split = parse_split_name(name)
        if (other := seen.setdefault(split, name)) != name:
            raise CbirError(
                f"{folder} has two folders for the split {split}: {other} and {name}",
                "merge the two, or move one out of the folder",
            )


def _check_class_folders(folder: Path, names: list[str]) -> None:
    """Refuse folders that are parts of a data set and not classes."""
    lower = [_normalise(name) for name in names]
    # Such as train_hand and test_hand.
    words = [
        [SPLIT_NAMES[word] for word in name.split("_") if word in SPLIT_NAMES] for name in lower
    ]
    both = all(len(splits) == 1 for splits in words) and len({splits[0] for splits in words}) > 1
    if both:
        raise CbirError(
            f"{folder} has folders that are named as a split and something else: "
            + ", ".join(names[:3]),
            "have folders train, validation and test with the classes inside, or only classes",
        )
    masks = [name for name in lower if MASK_PATTERN.fullmatch(name)]
    parts = set(lower) <= IMAGE_FOLDERS or all(map(PART_PATTERN.fullmatch, lower))
    if len(names) > 1 and (masks or parts):
        raise CbirError(
            f"{folder} has the folders {', '.join(names[:3])}, which are not classes",
            f"put each class into a sub-folder of its own, or name them in {LABELS}",
        )


def _check_masks(folder: Path, files: list[PurePosixPath], depth: int) -> None:
    """Refuse images beside their masks inside the classes: the masks are no images of a class."""
    found = [
        [name for name in file.parts[depth:-1] if MASK_PATTERN.fullmatch(_normalise(name))]
        for file in files
    ]
    if any(found) and not all(found):
        names = sorted({name for names in found for name in names})
        raise CbirError(
            f"the classes of {folder} have the folders {', '.join(names[:3])} inside, beside "
            "other images",
            f"move what is no image of a class elsewhere, or name the images in {LABELS}",
        )


def _normalise(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.lower())


def _check_class_names(folder: Path, names: list[str]) -> None:
    """Refuse two classes that differ only in case or spaces, as typing errors do."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(" ".join(name.casefold().split()), name)) != name:
            raise CbirError(
                f"{folder} has the classes {other!r} and {name!r}, which differ in case or spaces",
                "give the two one name, or names that differ more",
            )


def _check_inner_table(folder: Path) -> None:
    """Refuse a table in the only folder inside, which would be ignored while its images are not."""
    inner = _descend(folder)
    if inner != folder and (table := find_table(inner)):
        raise CbirError(f"{table} lies in {inner}, not in {folder}", f"name {inner} as the folder")


def find_table(folder: Path) -> str:
    """Find the name of the table in a folder; empty where there is none.

    Raises
    ------
    CbirError
        When there are two tables, or only a spreadsheet in another format.
    """
    names = sorted(place.name for place in folder.iterdir() if place.is_file())
    tables = [name for name in names if name.lower() in TABLES]
    if LABELS in tables:
        return LABELS
    if len(tables) > 1:
        raise CbirError(
            f"{folder} has the tables {' and '.join(tables)}", "move one of them out of the folder"
        )
    if tables:
        return tables[0]
    stem = LABELS.removesuffix(".csv")
    for name in names:
        if name.lower() in [stem + suffix for suffix in SHEETS]:
            raise CbirError(
                f"{folder / name} is a spreadsheet, which is not read",
                f"save it as {LABELS} (CSV UTF-8) beside it, or move it out of the folder",
            )
    return ""


def _list_entries_in_table(
    folder: Path,
    table: str,
    files: list[PurePosixPath],
    dropped: Counter[str],
    remarks: list[tuple[str, str, bool]],
) -> tuple[list[str], list[Entry]]:
    """List classes and entries from the table; remarks on the table go to ``remarks``.

    Raises
    ------
    CbirError
        Naming the row that has no class, an unknown split, a path that leaves the folder, or a
        path that another row also has.
    """
    data, reason = read_file(folder / table)
    if data is None:
        raise CbirError(f"{folder / table}: {reason}", "fix its permissions")
    if remark := decode_text(data, table)[1]:
        remarks.append((table, remark, True))
    optional = ("split", "subject_id", "irma_code")
    rows, unread = read_table(data, table, ("file", "class"), optional)
    if unread:
        remarks.append((table, f"columns that are not read: {', '.join(unread)}", True))
    for _, cells in rows:
        cells |= {column: "" for column in optional if cells[column].lower() in NO_VALUE}
        if cells["subject_id"].lower() in NO_SUBJECT:
            cells["subject_id"] = ""

    known_files = FileNames(files)
    row_of: dict[str, int] = {}
    entries = []
    some_split = any(row.cells["split"] for row in rows)
    for number, cells in rows:
        where, hint = f"{table}, row {number}", f"correct row {number} of {folder / table}"
        path = cells["file"].replace("\\", "/")
        file = _make_relative(folder, PurePosixPath(posixpath.normpath(path) if path else ""))
        if file.is_absolute() or ".." in file.parts:
            raise CbirError(f"{where}: {cells['file']} leaves the folder", hint)
        if not file.name or not cells["class"] or cells["class"].lower() in NO_CLASS:
            raise CbirError(f"{where}: no {'class' if file.name else 'file'}", hint)
        if cells["irma_code"]:
            try:
                parse_code(cells["irma_code"])
            except CbirError as error:
                raise CbirError(f"{where}: {error.what}", error.hint) from error
        split = parse_split_name(cells["split"])
        if some_split and not split:
            raise CbirError(
                f"{where}: split {cells['split']!r} is none of train, validation, test", hint
            )
        fitting = known_files.find(file)
        if len(fitting) > 1:
            raise CbirError(
                f"{where}: {file} may be {fitting[0]} or {fitting[1]}",
                f"{hint}: give the file with its folders and its suffix",
            )
        image_file = fitting[0] if fitting else file
        if litter := classify_litter(image_file):
            raise CbirError(
                f"{where}: {image_file} is among {litter}, which are passed over",
                f"rename the file or its folder, or remove row {number}",
            )
        key = normalize("NFC", str(image_file))
        if key in row_of:
            raise CbirError(f"{where}: {key} is already in row {row_of[key]}", hint)
        row_of[key] = number
        class_name = normalize("NFC", cells["class"])
        known = normalize("NFC", cells["subject_id"]), cells["irma_code"]
        entries.append(Entry(key, image_file, class_name, split, *known))
    if unlisted := sum(normalize("NFC", str(file)) not in row_of for file in files):
        dropped[f"images not in {table}"] = unlisted
    return sorted({entry.class_name for entry in entries}), entries


def _make_relative(folder: Path, file: PurePosixPath) -> PurePosixPath:
    """Make an absolute path inside the folder relative to it; return other paths unchanged."""
    if not file.is_absolute() or ".." in file.parts:
        return file
    for path in (Path(file), Path(os.path.realpath(Path(file).parent), file.name)):
        if path.is_relative_to(folder):
            return PurePosixPath(path.relative_to(folder).as_posix())
    return file


class FileNames:
    """The files of a folder, which can be found by the names that a table gives them."""

    def __init__(self, files: Iterable[PurePosixPath]):
        self._files: dict[tuple, list[PurePosixPath]] = {}
        for file in files:
            for key in self._list_keys(file):
                self._files.setdefault(key, []).append(file)

    @staticmethod
    def _list_keys(file: PurePosixPath) -> list[tuple]:
        """List the names that a file may be given, from the most specific to the least."""
        whole = normalize("NFC", str(file))
        plain = PurePosixPath(whole.casefold())
        stem = _remove_suffix(plain)
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
        """Find the files that fit best: none, one, or several where the name is ambiguous.

        A name without a suffix, a folder, or leading zeros may be that of a file with them, but not
        the other way round.
        """
        suffix = _remove_suffix(PurePosixPath(file.name.casefold())) != file.name.casefold()
        zeros = file.name.startswith("0") and file.name != "0"
        for key in self._list_keys(file):
            if ("suffix" in key[0] and suffix) or ("zeros" in key[0] and (suffix or zeros)):
                continue
            if "folder" in key[0] and len(file.parts) > 1:
                continue
            if candidates := self._files.get(key):
                return candidates
        return []


def _remove_suffix(file: PurePosixPath) -> str:
    return file.stem if file.suffix in (*IMAGE_SUFFIXES, *DICOM_SUFFIXES) else file.name


def fetch(folder: Path, url: str | None = URL) -> Path:
    """Refuse: there is nothing to fetch.

    Raises
    ------
    CbirError
        Always.
    """
    raise CbirError("a folder of your own is not downloaded", "name it: --data-root, CBIR_DATA")

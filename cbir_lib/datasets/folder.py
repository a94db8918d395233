"""A folder of one's own: PNG, JPEG, TIFF, WebP and DICOM files, with or without a table.

Without a table the name of a sub-folder is the class, and whatever lies below belongs to it::

    root/hand/0001.png                    class hand
    root/hand/subject 7/0002.dcm          class hand
    root/train/hand/0001.png              class hand, split train; so with validation (or val), test

With ``labels.csv`` in the root the table alone counts, and the folders mean nothing::

    file;class;split;subject_id;irma_code
    scans/0001.png;hand;train;p17;1121-120-463-700

``file`` is relative to the root, with ``/`` or ``\\``; it and ``class`` are required. ``split`` is
train, validation (or val) or test, for all rows or for none. ``,`` or ``;`` between, UTF-8 with or
without a BOM.
"""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from cbir_lib.datasets.cache import cached
from cbir_lib.datasets.dicom import is_dicom
from cbir_lib.datasets.listing import Entry, read_file, read_images, read_table, walk
from cbir_lib.datasets.radiographs import RadiographSet, gather
from cbir_lib.datasets.splits import split_by_class
from cbir_lib.errors import CbirError

TITLE = "A folder of your own: one sub-folder a class, or labels.csv"
CREDIT = "yours"
CAPTION = "a folder"
CAVEAT = "Nothing is known of these images but what their folder says."
URL = None
LABELS = "labels.csv"
IMAGE_SUFFIXES = (".dcm", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SPLIT_NAMES = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


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
    if (folder / LABELS).is_file():
        class_names, entries = _from_table(folder, files, dropped)
    else:
        class_names, entries = _from_folders(folder, files, dropped)
    if len(class_names) < 2:
        raise CbirError(
            f"{folder} has {len(class_names)} classes, not two or more",
            f"put each class into a sub-folder of its own, or name them in {LABELS}",
        )
    # Sorted by identifier: the order then is the same on every file system.
    images, records, contents, remarks = read_images(
        sorted(entries), class_names, lambda file: read_file(folder / file), size
    )
    if len(records) and not records["split"].all():
        records["split"] = split_by_class(records["label"], contents, records["subject_id"])
    mend = (
        f"put readable images of it into {folder}, or take the class away; cbir data check folder"
    )
    return gather("folder", class_names, images, records, remarks, dropped, mend=mend)


def image_files(
    folder: Path,
    dropped: Counter[str],
    report: Callable[[Path, str], None] | None = None,
) -> Iterator[PurePosixPath]:
    """The image files of a folder: by suffix, or by what a DICOM file starts with.

    What is passed over is counted in ``dropped``; ``report`` is that of
    :func:`cbir_lib.datasets.listing.walk`.
    """
    for file in walk(folder, report):
        if any(part.startswith(".") for part in file.parts):
            dropped["hidden files"] += 1
        elif file == PurePosixPath(LABELS):
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
            return is_dicom(file.read(132))
    except OSError:
        return False


def _from_folders(
    folder: Path, files: list[PurePosixPath], dropped: Counter[str]
) -> tuple[list[str], list[Entry]]:
    """Class, and the split where the folders name them, from the first folders of each path."""
    top = [place for place in sorted(folder.iterdir()) if _is_class(place)]
    named = {SPLIT_NAMES[place.name.lower()] for place in top if place.name.lower() in SPLIT_NAMES}
    splits = len(named) == len(top) == 3
    if not splits and len(named) > 1:
        raise CbirError(
            f"{folder} has folders named as splits and others: {', '.join(p.name for p in top)}",
            "have train, validation and test with the classes inside, or only classes",
        )
    if splits:
        places = [place for split in top for place in split.iterdir() if _is_class(place)]
    else:
        places = top
    depth = 1 if splits else 0
    entries = []
    for file in files:
        if len(file.parts) < depth + 2:
            dropped["images outside the class folders"] += 1
        else:
            class_name = normalize("NFC", file.parts[depth])
            split = SPLIT_NAMES[file.parts[0].lower()] if splits else ""
            entries.append(Entry(normalize("NFC", str(file)), file, class_name, split))
    return sorted({normalize("NFC", place.name) for place in places}), entries


def _is_class(place: Path) -> bool:
    return place.is_dir() and not place.name.startswith(".")


def _from_table(
    folder: Path, files: list[PurePosixPath], dropped: Counter[str]
) -> tuple[list[str], list[Entry]]:
    """Class, split, subject and IRMA code from ``labels.csv``.

    Raises
    ------
    CbirError
        With the row that has no class, an unknown split, a path that leaves the folder or that
        another row has too.
    """
    data, reason = read_file(folder / LABELS)
    if data is None:
        raise CbirError(f"{folder / LABELS}: {reason}", "mend its permissions")
    rows = read_table(data, LABELS, ("file", "class"), ("split", "subject_id", "irma_code"))
    hint = f"mend row {{}} of {folder / LABELS}"
    # As the file system spells it, and not as the table does.
    spelling = {normalize("NFC", str(file)): file for file in files}
    row_of: dict[str, int] = {}
    entries = []
    some_split = any(row.cells["split"] for row in rows)
    for number, cells in rows:
        where, mend = f"{LABELS}, row {number}", hint.format(number)
        file = PurePosixPath(cells["file"].replace("\\", "/"))
        if file.is_absolute() or ".." in file.parts:
            raise CbirError(f"{where}: {cells['file']} leaves the folder", mend)
        if not file.name or not cells["class"]:
            raise CbirError(f"{where}: no {'class' if file.name else 'file'}", mend)
        split = SPLIT_NAMES.get(cells["split"].lower(), "")
        if some_split and not split:
            raise CbirError(
                f"{where}: split {cells['split']!r} is none of train, validation, test", mend
            )
        key = normalize("NFC", str(file))
        if key in row_of:
            raise CbirError(f"{where}: {file} is in row {row_of[key]} already", mend)
        row_of[key] = number
        class_name = normalize("NFC", cells["class"])
        known = cells["subject_id"], cells["irma_code"]
        entries.append(Entry(key, spelling.get(key, file), class_name, split, *known))
    if unlisted := sum(key not in row_of for key in spelling):
        dropped[f"images not in {LABELS}"] = unlisted
    return sorted({entry.class_name for entry in entries}), entries


def fetch(folder: Path, url: str | None = URL) -> Path:
    """Say that there is nothing to fetch.

    Raises
    ------
    CbirError
        Always.
    """
    raise CbirError("a folder of your own is not downloaded", "name it: --data-root, CBIR_DATA")

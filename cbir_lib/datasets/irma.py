r"""IRMA: 14,410 radiographs from clinical routine, in the five classes of the study.

ImageCLEFmed 2009, from RWTH Aachen on registration: doi:10.18154/RWTH-2016-06143. The images and
two tables of codes, separated by ``;`` or ``,``, as distributed::

    ImageCLEFmed2009_train.02/[ImageCLEFmed2009_train.02/]1877.png ...
    ImageCLEFmed2009_test.03/[ImageCLEFmed2009_test.03/]...
    ImageCLEFmed2009_train_codes.02.csv
    ImageCLEFmed2009_test_codes.03.csv

Of the tables, only ``image_id`` and ``irma_code`` are used. ``\N`` means "no class that year".
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from cbir_lib import paths
from cbir_lib.datasets.cache import load_cached
from cbir_lib.datasets.listing import classify_litter, read_file, walk_files
from cbir_lib.datasets.radiographs import RadiographSet, build_set
from cbir_lib.datasets.splits import hash_pixels
from cbir_lib.datasets.tables import read_table
from cbir_lib.errors import CbirError
from cbir_lib.images.decoding import decode, fit_to_square
from cbir_lib.irma_code import CLASSES as CLASS_OF
from cbir_lib.irma_code import IrmaCode, name_region, parse_code

TITLE = "IRMA: 14,410 real radiographs, five regions of the body (ImageCLEFmed 2009)"
CREDIT = (
    "courtesy of TM Deserno, Dept. of Medical Informatics, RWTH Aachen, Germany; registered use"
)
CAPTION = "IRMA"
CAVEAT = (
    "The paper's own images. Which of them it left out as too variable is not known, nor whose "
    "images they are: one person may be in training and test."
)
URL = None
REGISTRATION = "https://doi.org/10.18154/RWTH-2016-06143"
STEM = "imageclefmed2009"  # start of the names of folders and tables, in any case
TABLES = {
    "train": "ImageCLEFmed2009_train_codes.02.csv",
    "test": "ImageCLEFmed2009_test_codes.03.csv",
}
# Training images per class, by the public label lists (12,671 of 12,677 images).
CLASSES = {
    "cranium": 1246,
    "spine": 1475,
    "upper extremity": 2038,
    "chest": 4828,
    "lower extremity": 2152,
}
VALIDATION_SHARE = 0.10  # of the training images: the paper's 90:10
NO_CODE = r"\N"
COLUMNS = ("image_id", "irma_code")
RECORD = ("image_id", "label", "split", "subject_id", "irma_code", "width_px", "height_px")


def locate(root: Path | str | None = None) -> Path:
    """Find the folder that holds the tables and the images.

    If ``root`` or ``CBIR_DATA`` is given, only that place is searched, else ``data/irma/``. Tables
    and images may lie at any depth.

    Raises
    ------
    CbirError
        When it is not found.
    """
    named = root or os.environ.get("CBIR_DATA")
    places = [Path(named), Path(named) / "irma"] if named else [paths.data_folder("irma")]
    for place in places:
        if any(path.name.lower().startswith(STEM) for path in place.glob("*")):
            return place
    for place in places:
        if _has_table(place):
            return place
    there = sorted(path.name for place in places[:1] if place.is_dir() for path in place.iterdir())
    present = f"; there are {', '.join(there[:3])} and so on" if there else ""
    raise CbirError(
        f"no IRMA data, {TABLES['train']} and so on, at {' or '.join(map(str, places))}, or below"
        f"{present}",
        f"get it by registration, {REGISTRATION}, and name its place: --data-root, CBIR_DATA",
    )


def _has_table(place: Path) -> bool:
    """Tell whether a table, or a spreadsheet version of one, lies anywhere below."""
    stems = [Path(name).stem.lower() for name in TABLES.values()]
    for _, folders, files in os.walk(place):
        folders[:] = sorted(name for name in folders if not classify_litter(PurePosixPath(name)))
        folder_named = any(name.lower().startswith(STEM) for name in folders)
        if folder_named or any(Path(name).stem.lower() in stems for name in files):
            return True
    return False


def load(root: Path | str | None = None, size: int = 128) -> RadiographSet:
    """Load the images of the five classes, fitted to squares of ``size`` pixels.

    Train and test are the official splits; a tenth of train, class by class, becomes validation.
    Images of other regions are left out and counted in ``dropped``. Subjects are unknown: images of
    one person may well lie in train and test. ``records`` also has ``width_px`` and ``height_px``,
    the original size.

    Raises
    ------
    CbirError
        When no data is found, a table is missing or wrong, or a link leads out of the folder.
    """
    folder = locate(root)
    for _ in walk_files(folder):  # checks links and names before the cache reads the files
        pass
    return load_cached(f"irma-{size}", folder, partial(read, size=size))


def read(folder: Path, size: int = 128) -> RadiographSet:
    """Read the tables and the images they list; the order of neither matters."""
    files = list(walk_files(folder))
    codes = {split: read_codes(folder, find_code_table(folder, files, split)) for split in TABLES}
    for image_id in sorted(codes["train"].keys() & codes["test"].keys()):
        raise CbirError(
            f"{folder}: image {image_id} is in the table of train and in that of test",
            "remove it from one of the two",
        )
    file_of = find_images(folder, files)
    listed = set()
    images, rows, contents, remarks, dropped = [], [], [], [], Counter()
    for split, codes_of in codes.items():
        for image_id, code in sorted(codes_of.items()):
            file = file_of[split].get(image_id)
            if file is None:
                remarks.append((f"{image_id}.png", f"missing, listed in {TABLES[split]}", False))
                continue
            listed.add(file)
            data, remark = read_file(folder / file)
            image = None
            if data is not None:
                image, remark = decode(data)
            if image is not None and (rule := find_exclusion_rule(code)):
                dropped[rule] += 1
                continue
            if remark:
                remarks.append((str(file), remark, image is not None))
            if image is None:
                continue
            label = list(CLASS_OF).index(code.anatomy[0])
            height, width = image.shape
            rows.append((image_id, label, split, "", str(code), width, height))
            contents.append(hash_pixels(image))
            images.append(fit_to_square(image, size))
    for file in sorted(
        {file for by_name in file_of.values() for file in by_name.values()} - listed
    ):
        remarks.append((str(file), "no code in the tables", False))
    records = pd.DataFrame(rows, columns=list(RECORD))
    records.loc[choose_validation_rows(records, contents), "split"] = "validation"
    return build_set(
        "irma",
        tuple(CLASS_OF.values()),
        images,
        records,
        remarks,
        dict(sorted(dropped.items())),
        hint=f"complete {folder}: the images and tables are at {REGISTRATION}",
    )


def find_exclusion_rule(code: IrmaCode | None) -> str:
    """Describe the rule that excludes an image from the five classes; empty if none does."""
    if code is None:
        return rf"no code that year ({NO_CODE})"
    first = code.anatomy[0]
    return "" if first in CLASS_OF else f"anatomy {first}, {name_region(code)}"


def choose_validation_rows(records: pd.DataFrame, contents: list[bytes]) -> np.ndarray:
    """Choose the rows of train that become validation: in each class, those of smallest hash.

    ``contents`` holds a hash of each image's pixels. The choice therefore depends on no order, and
    copies of an image stay together, except for one group per class that the limit may divide.
    """
    by_content = records.assign(content=contents).sort_values(["content", "image_id"])
    train = by_content[by_content["split"] == "train"].groupby("label")
    rank, among = train.cumcount(), train["content"].transform("size")
    quota = np.rint(among * VALIDATION_SHARE).clip(lower=1)
    return rank.index[(rank < quota) & (among > 1)].to_numpy()


def find_code_table(folder: Path, files: list[PurePosixPath], split: str) -> PurePosixPath:
    """Find the table of a split in the folder or below; of equal ones, the least deep one.

    Raises
    ------
    CbirError
        When there is none, or two differ.
    """
    tables = [file for file in files if file.name.lower() == TABLES[split].lower()]
    if not tables:
        stem = Path(TABLES[split]).stem.lower()
        other = [file for file in files if PurePosixPath(file.name.lower()).stem == stem]
        if other:
            raise CbirError(
                f"no {TABLES[split]} in {folder}, but {other[0]}, which is not read",
                f"open it and save it as {TABLES[split]} (CSV); or get it from {REGISTRATION}",
            )
        raise CbirError(f"no {TABLES[split]} in {folder}", f"put it there, from {REGISTRATION}")
    tables.sort(key=lambda file: (len(file.parts), file))
    for other in tables[1:]:
        if read_file(folder / other) != read_file(folder / tables[0]):
            raise CbirError(
                f"{folder} has two tables that differ: {tables[0]} and {other}",
                "move the one that does not belong to these images out of the folder",
            )
    return tables[0]


def read_codes(folder: Path, file: PurePosixPath) -> dict[str, IrmaCode | None]:
    r"""Read the code of each image of a table, None for ``\N``; rows without a code are skipped.

    Raises
    ------
    CbirError
        When a column is missing, a code is wrong, or an image has two.
    """
    path = folder / file
    codes: dict[str, IrmaCode | None] = {}
    data, fault = read_file(path)
    if data is None:
        raise CbirError(f"{path}: {fault}", "fix its permissions, or get it again")
    for number, cells in read_table(data, str(path), COLUMNS).rows:
        name, text = (cells[column] for column in COLUMNS)
        where = f"{path}, row {number}"
        if not name:
            raise CbirError(f"{where} has no image_id", "complete or remove the row")
        if not text:
            continue
        try:
            code = None if text.upper() == NO_CODE else parse_code(text)
        except CbirError as error:
            raise CbirError(f"{where}: {error.what}", error.hint) from error
        if codes.setdefault(normalise_identifier(name), code) != code:
            raise CbirError(f"{where}: another code for image {name}", "keep one row")
    return codes


def normalise_identifier(name: str) -> str:
    """Return an image's name without ``.png``, in Unicode form NFC: folders and tables vary."""
    stem = name[:-4] if name.lower().endswith(".png") else name
    return unicodedata.normalize("NFC", stem)


def find_images(folder: Path, files: list[PurePosixPath]) -> dict[str, dict[str, PurePosixPath]]:
    """Find the PNG files of each split by identifier; a file in neither split's folder is in both.

    Raises
    ------
    CbirError
        When two files of one split have the same name.
    """
    file_of: dict[str, dict[str, PurePosixPath]] = {split: {} for split in TABLES}
    for file in files:
        if file.suffix.lower() != ".png":
            continue
        own = [
            split
            for split in TABLES
            if any(part.lower().startswith(f"{STEM}_{split}") for part in file.parts[:-1])
        ]
        for split in own or TABLES:
            other = file_of[split].setdefault(normalise_identifier(file.name), file)
            if other != file:
                raise CbirError(
                    f"{folder}: {other} and {file} have the same name", "keep one of the two"
                )
    return file_of


def fetch(folder: Path, url: str | None = URL) -> Path:
    """Refuse, and explain how to get the images: only registered users receive them.

    Raises
    ------
    CbirError
        Always.
    """
    raise CbirError(
        "the IRMA images cannot be downloaded here: RWTH Aachen gives them to registered users",
        f"register at {REGISTRATION}, and unpack what you get in {folder}",
    )

r"""IRMA: 14,410 radiographs of the clinical routine, in the five classes of the study.

ImageCLEFmed 2009, from RWTH Aachen by registration: doi:10.18154/RWTH-2016-06143. The images and
two tables of codes, ``;`` or ``,`` separated, as they come::

    ImageCLEFmed2009_train.02/[ImageCLEFmed2009_train.02/]1877.png ...
    ImageCLEFmed2009_test.03/[ImageCLEFmed2009_test.03/]...
    ImageCLEFmed2009_train_codes.02.csv
    ImageCLEFmed2009_test_codes.03.csv

Of the tables, only ``image_id`` and ``irma_code`` are looked at. ``\N`` is "no class that year".
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
from cbir_lib.datasets.cache import cached
from cbir_lib.datasets.listing import litter, read_file, read_table, walk
from cbir_lib.datasets.radiographs import RadiographSet, gather
from cbir_lib.datasets.splits import content
from cbir_lib.errors import CbirError
from cbir_lib.images.decoding import decode, fit
from cbir_lib.irma_code import CLASSES as CLASS_OF
from cbir_lib.irma_code import IrmaCode, parse, region

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
STEM = "imageclefmed2009"  # how the names of folders and tables begin, in any case
TABLES = {
    "train": "ImageCLEFmed2009_train_codes.02.csv",
    "test": "ImageCLEFmed2009_test_codes.03.csv",
}
# Training images a class, by the label lists that are public (12,671 of 12,677 images).
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
    """The folder that holds the tables and the images.

    Looked for at ``root`` or ``CBIR_DATA`` if one is given, and nowhere else then; otherwise in
    ``data/irma/``. Tables and images may lie at any depth.

    Raises
    ------
    CbirError
        When there is none.
    """
    given = root or os.environ.get("CBIR_DATA")
    places = [Path(given), Path(given) / "irma"] if given else [paths.data_folder("irma")]
    for place in places:
        if any(path.name.lower().startswith(STEM) for path in place.glob("*")):
            return place
    for place in places:
        if _has_table(place):
            return place
    there = sorted(path.name for place in places[:1] if place.is_dir() for path in place.iterdir())
    found = f"; there are {', '.join(there[:3])} and so on" if there else ""
    raise CbirError(
        f"no IRMA data, {TABLES['train']} and so on, at {' or '.join(map(str, places))}, or below"
        f"{found}",
        f"get it by registration, {REGISTRATION}, and name its place: --data-root, CBIR_DATA",
    )


def _has_table(place: Path) -> bool:
    """Whether a table, or a spreadsheet of one, lies anywhere below."""
    stems = [Path(name).stem.lower() for name in TABLES.values()]
    for _, folders, files in os.walk(place):
        folders[:] = sorted(name for name in folders if not litter(PurePosixPath(name)))
        folder_named = any(name.lower().startswith(STEM) for name in folders)
        if folder_named or any(Path(name).stem.lower() in stems for name in files):
            return True
    return False


def load(root: Path | str | None = None, size: int = 128) -> RadiographSet:
    """The images of the five classes, fitted on squares of ``size`` pixels.

    Train and test are the official ones; a tenth of train, class by class, is the validation
    split. Images of other regions are left out and counted in ``dropped``. Whose images they are
    is not known: those of one person may well lie in train and test. ``records`` has in addition
    ``width_px`` and ``height_px``, the size of the file.

    Raises
    ------
    CbirError
        When there is no data, a table is missing or wrong, or a link leads out of the folder.
    """
    folder = locate(root)
    for _ in walk(folder):  # links and names, before the cache looks at the files
        pass
    return cached(f"irma-{size}", folder, partial(read, size=size))


def read(folder: Path, size: int = 128) -> RadiographSet:
    """Read the tables and the images they list, whatever the order of either."""
    files = list(walk(folder))
    codes = {split: read_codes(folder, table(folder, files, split)) for split in TABLES}
    for image_id in sorted(codes["train"].keys() & codes["test"].keys()):
        raise CbirError(
            f"{folder}: image {image_id} is in the table of train and in that of test",
            "take it out of one of the two",
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
            if image is not None and (rule := left_out(code)):
                dropped[rule] += 1
                continue
            if remark:
                remarks.append((str(file), remark, image is not None))
            if image is None:
                continue
            label = list(CLASS_OF).index(code.anatomy[0])
            height, width = image.shape
            rows.append((image_id, label, split, "", str(code), width, height))
            contents.append(content(image))
            images.append(fit(image, size))
    for file in sorted({file for found in file_of.values() for file in found.values()} - listed):
        remarks.append((str(file), "no code in the tables", False))
    records = pd.DataFrame(rows, columns=list(RECORD))
    records.loc[validation_rows(records, contents), "split"] = "validation"
    return gather(
        "irma",
        tuple(CLASS_OF.values()),
        images,
        records,
        remarks,
        dict(sorted(dropped.items())),
        mend=f"complete {folder}: the images and tables are at {REGISTRATION}",
    )


def left_out(code: IrmaCode | None) -> str:
    """The rule that leaves an image out of the five classes, in words; empty when it is in."""
    if code is None:
        return rf"no code that year ({NO_CODE})"
    first = code.anatomy[0]
    return "" if first in CLASS_OF else f"anatomy {first}, {region(code)}"


def validation_rows(records: pd.DataFrame, contents: list[bytes]) -> np.ndarray:
    """The rows of train that become the validation split: of each class, those of least hash.

    ``contents`` has a hash of each image's pixels. So the draw depends on no order, and copies of
    an image stay on one side, but for one group a class that the border may divide.
    """
    by_content = records.assign(content=contents).sort_values(["content", "image_id"])
    train = by_content[by_content["split"] == "train"].groupby("label")
    rank, among = train.cumcount(), train["content"].transform("size")
    quota = np.rint(among * VALIDATION_SHARE).clip(lower=1)
    return rank.index[(rank < quota) & (among > 1)].to_numpy()


def table(folder: Path, files: list[PurePosixPath], split: str) -> PurePosixPath:
    """Where the table of a split lies, in the folder or below; the least deep one."""
    found = [file for file in files if file.name.lower() == TABLES[split].lower()]
    if not found:
        stem = Path(TABLES[split]).stem.lower()
        other = [file for file in files if PurePosixPath(file.name.lower()).stem == stem]
        if other:
            raise CbirError(
                f"no {TABLES[split]} in {folder}, but {other[0]}, which is not read",
                f"open it and save it as {TABLES[split]} (CSV); or get it from {REGISTRATION}",
            )
        raise CbirError(f"no {TABLES[split]} in {folder}", f"put it there, from {REGISTRATION}")
    return min(found, key=lambda file: (len(file.parts), file))


def read_codes(folder: Path, file: PurePosixPath) -> dict[str, IrmaCode | None]:
    r"""The code of each image of a table; None for ``\N``. Rows without a code are not in it.

    Raises
    ------
    CbirError
        When a column is missing, a code is wrong, or an image has two.
    """
    path = folder / file
    codes: dict[str, IrmaCode | None] = {}
    data, fault = read_file(path)
    if data is None:
        raise CbirError(f"{path}: {fault}", "mend its permissions, or get it again")
    for number, cells in read_table(data, str(path), COLUMNS):
        name, text = (cells[column] for column in COLUMNS)
        where = f"{path}, row {number}"
        if not name:
            raise CbirError(f"{where} has no image_id", "complete or remove the row")
        if not text:
            continue
        try:
            code = None if text.upper() == NO_CODE else parse(text)
        except CbirError as error:
            raise CbirError(f"{where}: {error.what}", error.hint) from error
        if codes.setdefault(identifier(name), code) != code:
            raise CbirError(f"{where}: another code for image {name}", "keep one row")
    return codes


def identifier(name: str) -> str:
    """An image's name without ``.png``, its letters composed: folders and tables may differ."""
    stem = name[:-4] if name.lower().endswith(".png") else name
    return unicodedata.normalize("NFC", stem)


def find_images(folder: Path, files: list[PurePosixPath]) -> dict[str, dict[str, PurePosixPath]]:
    """The PNG files of each split by identifier; a file in neither split's folder is in both.

    Raises
    ------
    CbirError
        When two files of one split have the same name.
    """
    found: dict[str, dict[str, PurePosixPath]] = {split: {} for split in TABLES}
    for file in files:
        if file.suffix.lower() != ".png":
            continue
        own = [
            split
            for split in TABLES
            if any(part.lower().startswith(f"{STEM}_{split}") for part in file.parts[:-1])
        ]
        for split in own or TABLES:
            other = found[split].setdefault(identifier(file.name), file)
            if other != file:
                raise CbirError(
                    f"{folder}: {other} and {file} have the same name", "keep one of the two"
                )
    return found


def fetch(folder: Path, url: str | None = URL) -> Path:
    """Say how to get the images: they are given to registered users only.

    Raises
    ------
    CbirError
        Always.
    """
    raise CbirError(
        "the IRMA images cannot be downloaded here: RWTH Aachen gives them to registered users",
        f"register at {REGISTRATION}, and unpack what you get in {folder}",
    )

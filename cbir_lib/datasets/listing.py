"""What a folder and a table list, taken with care: links, CSV, and image after image."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from unicodedata import normalize

import numpy as np
import pandas as pd

from cbir_lib.datasets.decoding import decode, fit
from cbir_lib.datasets.splits import content
from cbir_lib.errors import CbirError

LARGEST_FILE = 2**30  # bytes


Reader = Callable[[PurePosixPath], tuple[bytes | None, str]]  # bytes, or None and why


class Entry(NamedTuple):
    """One image to read, with what is known of it beforehand."""

    image_id: str
    file: PurePosixPath
    class_name: str
    split: str = ""
    subject_id: str = ""
    irma_code: str = ""


class Images(NamedTuple):
    """What was read of a list of entries."""

    images: list[np.ndarray]  # N arrays (size, size) uint8
    records: pd.DataFrame  # N rows, with label, width_px and height_px
    contents: list[bytes]  # N digests of the pixels, before they were fitted
    remarks: list[tuple[str, str, bool]]


class Row(NamedTuple):
    """One row of a table."""

    number: int  # the line of the file it ends on, as an editor counts
    cells: dict[str, str]  # column: text, without the spaces around it


def read_table(
    data: bytes, name: str, required: Sequence[str], optional: Sequence[str] = ()
) -> list[Row]:
    """Read a CSV: UTF-8 with or without a BOM, ``,`` or ``;`` between, any line ends.

    The first row names the columns, in any order and case; columns other than ``required`` and
    ``optional`` are passed over, and an optional column that is missing is empty. Empty rows are
    passed over too.

    Raises
    ------
    CbirError
        When it is not text, has no such columns, or a row has not as many cells as the first;
        ``name`` stands for the file.
    """
    hint = f"write {name} as a CSV with the columns {', '.join([*required, *optional])}"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CbirError(f"{name} is not text in UTF-8", "save it again as CSV UTF-8") from error
    head = text.partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(",;", key=head.count), strict=True
    )
    rows: list[Row] = []
    columns: list[str] = []
    try:
        for line in reader:
            cells = [cell.strip() for cell in line]
            if not any(cells):
                continue
            if not columns:
                columns = [cell.lower() for cell in cells]
                for column in (*required, *optional):
                    if (times := columns.count(column)) != 1 and (times or column in required):
                        raise CbirError(f"{name} has {times} columns {column!r}", hint)
            elif len(cells) != len(columns):
                raise CbirError(
                    f"{name}, row {reader.line_num}: {len(cells)} cells, not {len(columns)}", hint
                )
            else:
                found = dict(zip(columns, cells, strict=True))
                kept = {column: found[column] for column in required}
                kept |= {column: found.get(column, "") for column in optional}
                rows.append(Row(reader.line_num, kept))
    except csv.Error as error:
        raise CbirError(f"{name}, row {reader.line_num}: {error}", hint) from error
    if not rows:
        raise CbirError(f"{name} has no rows", hint)
    return rows


def walk(root: Path, report: Callable[[Path, str], None] | None = None) -> Iterator[PurePosixPath]:
    """Every file below ``root``, relative to it, sorted within its folder.

    Links to files inside the folder count as files.

    Parameters
    ----------
    report
        Called with the path and the reason in place of the errors below; the walk goes on.

    Raises
    ------
    CbirError
        When a link leads out of the folder, nowhere, or to a folder; a folder cannot be read; or a
        name is not UTF-8.
    """
    root = root.resolve()

    def refuse(error: OSError):
        what = f"cannot read {error.filename}: {error.strerror}"
        if report is None:
            raise CbirError(what, "mend its permissions") from error
        report(Path(error.filename), f"cannot be read: {error.strerror}")

    for folder, folders, files in os.walk(root, onerror=refuse):
        folders.sort()
        faulty = set()
        for name in folders + sorted(files):
            try:
                _check_name(Path(folder, name), root)
            except CbirError as error:
                if report is None:
                    raise
                report(Path(folder, name), error.what)
                faulty.add(name)
        folders[:] = [name for name in folders if name not in faulty]
        for name in sorted(files):
            if name not in faulty:
                yield PurePosixPath(Path(folder, name).relative_to(root).as_posix())


def _check_name(path: Path, root: Path) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise CbirError(
            f"{os.fsencode(path)!r}: the name is not UTF-8", "rename the file"
        ) from error
    if path.is_symlink():
        _check_link(path, root)


def _check_link(path: Path, root: Path) -> None:
    hint = "copy the files into the folder, or give the folder the link points to"
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: it points to itself
        raise CbirError(f"the link {path} leads nowhere", hint) from error
    if not target.is_relative_to(root):
        raise CbirError(f"the link {path} leads out of the folder, to {target}", hint)
    if target.is_dir():  # its files would count twice, or for ever
        raise CbirError(f"the link {path} leads to the folder {target}", hint)


def read_file(path: Path) -> tuple[bytes | None, str]:
    """The bytes of a file; or None, and why."""
    try:
        if not path.is_file():
            return None, "no such file"
        if (size := path.stat().st_size) > LARGEST_FILE:
            return None, f"{size:,} bytes, too large"
        return path.read_bytes(), ""
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"


def read_images(
    entries: Iterable[Entry], class_names: Sequence[str], read: Reader, size: int
) -> Images:
    """Read, decode and fit image after image, on squares of ``size`` pixels.

    In the order of the entries. What cannot be read becomes a remark.
    """
    images, rows, contents, remarks = [], [], [], []
    for entry in entries:
        data, remark = read(entry.file)
        image = None
        if data is not None:
            image, remark = decode(data)
        if remark:
            remarks.append((normalize("NFC", str(entry.file)), remark, image is not None))
        if image is not None:
            height, width = image.shape
            images.append(fit(image, size))
            contents.append(content(image))
            label = class_names.index(entry.class_name)
            rows.append((entry.image_id, label, *entry[3:], width, height))
    columns = ["image_id", "label", *Entry._fields[3:], "width_px", "height_px"]
    return Images(images, pd.DataFrame(rows, columns=columns), contents, remarks)

"""What a folder and a table list, taken with care: links, CSV, and image after image."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from unicodedata import normalize

import numpy as np
import pandas as pd

from cbir_lib.datasets.splits import content
from cbir_lib.errors import CbirError
from cbir_lib.images.decoding import LARGEST_FILE, decode, fit

# What systems and programs leave in folders, in lower case. What begins with a dot is hidden.
LITTER_FOLDERS = {
    *("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@__thumb"),
    *("$recycle.bin", "recycler", "recycled", "system volume information", "found.000"),
    *("__macosx", "network trash folder", "temporary items", "lost+found", "~snapshot"),
    *("__pycache__", "_svn", "_gsdata_", "node_modules"),
}
LITTER_FILES = re.compile(r"~\$.*|.*~|#.*#")  # editors' copies; Thumbs.db is no image anyway
HIDDEN, LITTER = "hidden files", "files that systems and programs left"

# Numbers as a spreadsheet makes them of 17 and of 123456789012.
FLOAT = re.compile(r"(-?\d+)[.,]00?")
WHOLE = re.compile(r"-?\d+")
SHORTENED = re.compile(r"-?\d+([.,]\d+)?[eE]\+\d\d+")
ERRORS = {"#N/A", "#NAME?", "#REF!", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!", "#NV", "#BEZUG!"}

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


def decode_text(data: bytes, name: str) -> tuple[str, str]:
    """The text of a table, and what it was written in if not UTF-8.

    A byte-order mark decides; without one it is UTF-8, else UTF-16 if every other byte of its
    first row is 0, else Windows-1252, which spreadsheets call ANSI.

    Raises
    ------
    CbirError
        When it is none of these; ``name`` stands for the file.
    """
    marks = (
        (b"\xef\xbb\xbf", "utf-8-sig", ""),
        (b"\xff\xfe\0\0", "utf-32", "UTF-32"),
        (b"\0\0\xfe\xff", "utf-32", "UTF-32"),
        (b"\xff\xfe", "utf-16", "UTF-16"),
        (b"\xfe\xff", "utf-16", "UTF-16"),
    )
    ways = [way[1:] for way in marks if data.startswith(way[0])][:1]
    if not ways:
        ways = [("utf-8", ""), ("cp1252", "Windows-1252")]
        if len(data) > 3 and not any(data[0:64:2]):
            ways = [("utf-16-be", "UTF-16")]
        elif len(data) > 3 and not any(data[1:64:2]):
            ways = [("utf-16-le", "UTF-16")]
    for encoding, said in ways:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text and not (said == "Windows-1252" and _is_binary(text)):
            return text.removeprefix("\ufeff"), f"read as {said}" if said else ""
    raise CbirError(
        f"{name} is not text in UTF-8, UTF-16 or Windows-1252", "save it again as CSV UTF-8"
    )


def _is_binary(text: str) -> bool:
    return any(ord(letter) < 32 and letter not in "\t\r\n\f" for letter in text)


def read_table(
    data: bytes, name: str, required: Sequence[str], optional: Sequence[str] = ()
) -> list[Row]:
    """Read a table as spreadsheets write it: see :func:`decode_text`; any line ends.

    ``,``, ``;``, tab or ``|`` is between: what finds the columns, unless a first line ``sep=;``
    says it. The first row names the columns, in any order and case, with spaces or hyphens for
    underscores; columns other than ``required`` and ``optional`` are passed over, and an optional
    column that is missing is empty. Empty rows, and empty cells at the ends of rows, are passed
    over too. A column of whole numbers, some of which were written as 17.0 or 17,0, is read as
    17; a number that was shortened, as 1.23E+11, and an error, as #N/A, are refused.

    Raises
    ------
    CbirError
        When it is not text, has no such columns, or a row has more or fewer cells than the first;
        ``name`` stands for the file.
    """
    columns = [*required, *optional]
    hint = f"write {name} as a CSV with the columns {', '.join(columns)}"
    text, _ = decode_text(data, name)
    # Lines before the first that holds anything still count.
    delimiter = _delimiter(text, required)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    heads: list[str] = []
    try:
        for line in reader:
            cells = [cell.strip().strip("\ufeff\u200b") for cell in line]
            while cells and not cells[-1]:
                cells.pop()
            if not cells or (not heads and _separator(delimiter.join(line))):
                continue
            if not heads:
                heads = [_head(cell) for cell in cells]
                for column in columns:
                    if (times := heads.count(column)) != 1 and (times or column in required):
                        raise CbirError(f"{name} has {times} columns {column!r}", hint)
                continue
            # As many as the file has, unless what is too much or too little is empty.
            least = 1 + max(place for place, head in enumerate(heads) if head)
            if len(cells) > least or len(line) < least:
                said = max(len(cells), len(line)) if len(cells) > least else len(line)
                raise CbirError(f"{name}, row {reader.line_num}: {said} cells, not {least}", hint)
            found = dict(zip(heads, cells + [""] * (least - len(cells)), strict=True))
            rows.append(Row(reader.line_num, {key: found.get(key, "") for key in columns}))
    except csv.Error as error:
        raise CbirError(f"{name}, row {reader.line_num}: {error}", hint) from error
    if not rows:
        raise CbirError(f"{name} has no rows", hint)
    return _mended(rows, columns, name)


def _separator(line: str) -> str:
    """What a first line ``sep=;`` says is between the cells; empty where it says nothing."""
    found = re.fullmatch(r'"?sep=([^"\w\s]|\t)"?[,;\t|]*', line.strip(" \ufeff"), re.IGNORECASE)
    return found[1] if found else ""


def _delimiter(text: str, required: Sequence[str]) -> str:
    first = [line for line in text.splitlines() if line.strip(' \t,;|"\ufeff')][:2]
    if first and (said := _separator(first[0])):
        return said
    head = first[0] if first else ""

    def known(delimiter: str) -> tuple[int, int]:
        cells = [_head(cell.strip(' "')) for cell in head.split(delimiter)]
        return sum(column in cells for column in required), head.count(delimiter)

    return max(",;\t|", key=known)


def _head(cell: str) -> str:
    return re.sub(r"[\s\-_]+", "_", cell.strip().lower())


def _mended(rows: list[Row], columns: Sequence[str], name: str) -> list[Row]:
    """Undo what spreadsheets do to numbers, column by column."""
    for column in columns:
        cells = [row.cells[column] for row in rows]
        for row, cell in zip(rows, cells, strict=True):
            if SHORTENED.fullmatch(cell) or cell.upper() in ERRORS:
                kind = "an error" if cell.startswith("#") else "a number cut short"
                raise CbirError(
                    f"{name}, row {row.number}: {column} {cell!r} is {kind} of a spreadsheet",
                    "make the column a column of text, enter its values again, and save it as CSV",
                )
        known = [cell for cell in cells if cell]
        if any(map(FLOAT.fullmatch, known)) and all(
            FLOAT.fullmatch(cell) or WHOLE.fullmatch(cell) for cell in known
        ):
            for row in rows:
                row.cells[column] = FLOAT.sub(r"\1", row.cells[column])
    return rows


def litter(path: PurePosixPath) -> str:
    """What kind of litter a file is, by its name or that of a folder above it; empty if none."""
    if any(part.startswith(".") for part in path.parts):
        return HIDDEN
    if any(part.lower() in LITTER_FOLDERS for part in path.parts):
        return LITTER
    return LITTER if LITTER_FILES.fullmatch(path.name.lower()) else ""


def walk(
    root: Path,
    report: Callable[[Path, str], None] | None = None,
    passed_over: Counter[str] | None = None,
) -> Iterator[PurePosixPath]:
    """Every file below ``root`` but litter, relative to it, sorted within its folder.

    Links to files inside the folder count as files. What is litter may be anything: it is not
    looked at.

    Parameters
    ----------
    report
        Called with the path and the reason in place of the errors below; the walk goes on.
    passed_over
        Files of each kind of :func:`litter` are counted here.

    Raises
    ------
    CbirError
        When a link leads out of the folder, nowhere, or to a folder; a folder cannot be read; or a
        name is not UTF-8.
    """
    root = root.resolve()
    passed_over = Counter() if passed_over is None else passed_over

    def refuse(error: OSError):
        if litter(PurePosixPath(Path(error.filename).relative_to(root).as_posix())):
            return
        what = f"cannot read {error.filename}: {error.strerror}"
        if report is None:
            raise CbirError(what, "mend its permissions") from error
        report(Path(error.filename), f"cannot be read: {error.strerror}")

    for folder, folders, files in os.walk(root, onerror=refuse):
        folders.sort()
        faulty = set()
        inside = PurePosixPath(Path(folder).relative_to(root).as_posix())
        for place, name in enumerate(folders + sorted(files)):
            if kind := litter(inside / name):
                if place >= len(folders):
                    passed_over[kind] += 1
                    faulty.add(name)
                continue
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

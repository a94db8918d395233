"""Reading CSV tables as spreadsheets write them: any encoding, delimiter and number format."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

from cbir_lib.errors import CbirError

# What a spreadsheet makes of the numbers 17 and 123456789012.
FLOAT = re.compile(r"(-?\d+)[.,]00?")
WHOLE = re.compile(r"-?\d+")
SHORTENED = re.compile(r"-?\d+([.,]\d+)?[eE]\+\d\d+")
ERRORS = {"#N/A", "#NAME?", "#REF!", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!", "#NV", "#BEZUG!"}


class Row(NamedTuple):
    """One row of a table."""

    number: int  # the line of the file on which it ends, as an editor counts
    cells: dict[str, str]  # column: text, without the spaces around it


class Table(NamedTuple):
    """The rows of a table, and what of it is not read."""

    rows: list[Row]
    unread: list[str]  # its other columns, as they are named


def decode_text(data: bytes, name: str) -> tuple[str, str]:
    """Decode the text of a table; also return a remark on its encoding if that is not UTF-8.

    A byte-order mark decides; without one it is UTF-8, else UTF-16 if every other byte of its
    first row is 0, else Windows-1252, which spreadsheets call ANSI.

    Raises
    ------
    CbirError
        When it is none of these; the message calls the file ``name``.
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
    for encoding, label in ways:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text and not (label == "Windows-1252" and _is_binary(text)):
            return text.removeprefix("\ufeff"), f"read as {label}" if label else ""
    raise CbirError(
        f"{name} is not text in UTF-8, UTF-16 or Windows-1252", "save it again as CSV UTF-8"
    )


def _is_binary(text: str) -> bool:
    return any(ord(letter) < 32 and letter not in "\t\r\n\f" for letter in text)


def read_table(
    data: bytes, name: str, required: Sequence[str], optional: Sequence[str] = ()
) -> Table:
    r"""Read a table as spreadsheets write it: any line ends, and encodings of :func:`decode_text`.

    The delimiter is the one of ``,``, ``;``, tab and ``|`` that yields the columns, unless a first
    line ``sep=;`` names it. The first row names the columns, in any order and case, with spaces or
    hyphens for underscores; columns other than ``required`` and ``optional`` are not read, and a
    missing optional column is empty. Empty rows, and empty cells at the ends of rows, are also
    ignored. In a column of whole numbers, 17.0 and 17,0 are read as 17; a shortened number, such as
    1.23E+11, and an error, such as #N/A, are refused.

    >>> read_table(b"File;Class;Age\na.png;hand;7\n", "labels.csv", ["file", "class"])
    Table(rows=[Row(number=2, cells={'file': 'a.png', 'class': 'hand'})], unread=['Age'])

    Raises
    ------
    CbirError
        When it is not text, lacks a column, a row has more or fewer cells than the first, or a
        quotation mark joins rows; the message calls the file ``name``.
    """
    columns = [*required, *optional]
    hint = f"write {name} as a CSV with the columns {', '.join(columns)}"
    text, _ = decode_text(data, name)
    # Empty lines at the start also count as lines.
    delimiter = _detect_delimiter(text, required)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    heads: list[str] = []
    unread: list[str] = []
    try:
        for line in reader:
            cells = [cell.strip().strip("\ufeff\u200b").strip() for cell in line]
            while cells and not cells[-1]:
                cells.pop()
            if not cells or (not heads and _parse_separator(delimiter.join(line))):
                continue
            if not heads:
                heads = [_normalise_heading(cell) for cell in cells]
                unread = [
                    cell
                    for cell, head in zip(cells, heads, strict=True)
                    if head not in ("", *columns)
                ]
                for column in columns:
                    if (times := heads.count(column)) != 1 and (times or column in required):
                        raise CbirError(f"{name} has {times} columns {column!r}", hint)
                continue
            # As many cells as the first row has; a difference is allowed if it is empty.
            width = 1 + max(place for place, head in enumerate(heads) if head)
            if len(cells) > width or len(line) < width:
                count = max(len(cells), len(line)) if len(cells) > width else len(line)
                raise CbirError(f"{name}, row {reader.line_num}: {count} cells, not {width}", hint)
            cell_of = dict(zip(heads, cells + [""] * (width - len(cells)), strict=True))
            for head, cell in zip(heads, cells, strict=False):  # without the empty ones at the end
                if _joins_rows(cell, head in columns, delimiter, width):
                    cell_name = head or "a cell"
                    raise CbirError(
                        f"{name}, row {reader.line_num}: {cell_name} goes over several lines",
                        "look for a quotation mark that opens it: one alone joins rows",
                    )
            rows.append(Row(reader.line_num, {key: cell_of.get(key, "") for key in columns}))
    except csv.Error as error:
        raise CbirError(f"{name}, row {reader.line_num}: {error}", hint) from error
    if not rows:
        raise CbirError(f"{name} has no rows", hint)
    return Table(_undo_spreadsheet_numbers(rows, columns, name), unread)


def _joins_rows(cell: str, is_read: bool, delimiter: str, width: int) -> bool:
    """Return whether a cell seems to be several rows, which two stray quotation marks would join.

    A remark may have several lines, but none that looks like a row.
    """
    lines = cell.splitlines()
    return len(lines) > 1 and (is_read or any(line.count(delimiter) >= width - 1 for line in lines))


def _parse_separator(line: str) -> str:
    """Return the delimiter that a first line such as ``sep=;`` names; empty for any other line."""
    match = re.fullmatch(r'"?sep=([^"\w\s]|\t)"?[,;\t|]*', line.strip(" \ufeff"), re.IGNORECASE)
    return match[1] if match else ""


def _detect_delimiter(text: str, required: Sequence[str]) -> str:
    first = [line for line in text.splitlines() if line.strip(' \t,;|"\ufeff')][:2]
    if first and (declared := _parse_separator(first[0])):
        return declared
    head = first[0] if first else ""

    def count_known(delimiter: str) -> tuple[int, int]:
        cells = [_normalise_heading(cell.strip(' "')) for cell in head.split(delimiter)]
        return sum(column in cells for column in required), head.count(delimiter)

    return max(",;\t|", key=count_known)


def _normalise_heading(cell: str) -> str:
    return re.sub(r"[\s\-_]+", "_", cell.strip().lower())


def _undo_spreadsheet_numbers(rows: list[Row], columns: Sequence[str], name: str) -> list[Row]:
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

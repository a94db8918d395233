"""The image files of a folder and their states, and those that an archive leaves out."""

from __future__ import annotations

import csv
import os
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cbir_lib.datasets.folder import find_image_files
from cbir_lib.datasets.listing import UNREADABLE
from cbir_lib.files import replacing

FAULTS = "faults.csv"
HEAD = ("file", "reason", "bytes", "modified_ns", "crc32")


class State(NamedTuple):
    """The state of a file, which shows whether it has changed since it was read."""

    bytes: int
    modified_ns: int


class Fault(NamedTuple):
    """Why a file is not in the archive, and its state when it was read."""

    reason: str
    state: State


@dataclass
class Scan:
    """The contents of a folder."""

    images: dict[str, State] = field(default_factory=dict)  # path: state, sorted
    faults: dict[str, Fault] = field(default_factory=dict)  # what could not be inspected
    skipped: Counter[str] = field(default_factory=Counter)  # hidden files, other files

    def is_hidden(self, path: str) -> bool:
        """Return whether a path, or a folder above it, could not be read: it may still exist."""
        own = self.faults.get(path)
        if own and own.reason.startswith(UNREADABLE):
            return True
        return any(above.as_posix() in self.faults for above in PurePosixPath(path).parents)


def scan_folder(folder: Path) -> Scan:
    """List the image files of a folder, and what could not be inspected."""
    scan = Scan()

    def report(path: Path, reason: str) -> None:
        name = os.fsencode(path.relative_to(folder)).decode(errors="backslashreplace")
        scan.faults[Path(name).as_posix()] = Fault(reason, State(-1, -1))

    files = sorted(map(str, find_image_files(folder, scan.skipped, report)))
    for path in files:
        try:
            scan.images[path] = read_state(folder / path)
        except FileNotFoundError:  # it was removed meanwhile
            continue
        except OSError as error:
            report(folder / path, f"{UNREADABLE}: {error.strerror}")
    return scan


def read_state(file: Path) -> State:
    """Read size and time of a file."""
    status = file.stat()
    return State(status.st_size, status.st_mtime_ns)


def read_faults(file: Path) -> dict[str, Fault]:
    """Read the list of faulty files; those with a missing or damaged row are tried again."""
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            return {
                row["file"].removeprefix("./"): Fault(
                    row["reason"], State(int(row["bytes"]), int(row["modified_ns"]))
                )
                for row in csv.DictReader(opened)
                if row["crc32"] == _compute_crc32([row[column] for column in HEAD[:-1]])
            }
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}


def write_faults(file: Path, faults: dict[str, Fault]) -> None:
    """Write the list of faulty files as a table; without any, remove it."""
    if not faults:
        file.unlink(missing_ok=True)
        return
    with replacing(file) as part, part.open("w", encoding="utf-8", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(HEAD)
        for path, fault in sorted(faults.items()):
            # A spreadsheet would take such a name for a formula.
            shown = f"./{path}" if path.startswith(("=", "+", "-", "@", "\t", "\r")) else path
            row = [shown, fault.reason, *map(str, fault.state)]
            table.writerow([*row, _compute_crc32(row)])


def _compute_crc32(cells: list[str]) -> str:
    return f"{zlib.crc32(chr(0).join(cells).encode()):08x}"

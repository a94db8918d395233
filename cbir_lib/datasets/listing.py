"""Listing the files of a folder, with care for links and litter, and reading images in threads."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar
from unicodedata import normalize

import numpy as np
import pandas as pd

from cbir_lib.datasets.splits import hash_pixels
from cbir_lib.errors import CbirError
from cbir_lib.files import resolve
from cbir_lib.images.decoding import LARGEST_FILE, TOO_LITTLE_MEMORY, decode, fit_to_square
from cbir_lib.images.memory import reserving

# What systems and programs leave in folders, in lower case. Names that start with a dot are hidden.
LITTER_FOLDERS = {
    *("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@__thumb"),
    *("$recycle.bin", "recycler", "recycled", "system volume information", "found.000"),
    *("__macosx", "network trash folder", "temporary items", "lost+found", "~snapshot"),
    *("__pycache__", "_svn", "_gsdata_", "node_modules"),
}
COPIES = re.compile(r"~\$.*|.*~|#.*#")  # of files and folders, by editors
UNREADABLE = "cannot be read"  # before the system's reason, which may pass
HIDDEN, LITTER = "hidden files", "files that systems and programs left"


def may_pass(reason: str) -> bool:
    """Return whether a file may be read another time though it stays the same.

    The system refused it, as without rights or from a drive that was away, or memory was short.
    """
    return reason == TOO_LITTLE_MEMORY or reason.startswith(UNREADABLE)


Reader = Callable[[PurePosixPath], tuple[bytes | None, str]]  # bytes, or None and why
Item, Result = TypeVar("Item"), TypeVar("Result")


class Entry(NamedTuple):
    """One image to read, with what is known about it in advance."""

    image_id: str
    file: PurePosixPath
    class_name: str
    split: str = ""
    subject_id: str = ""
    irma_code: str = ""


class ImageList(NamedTuple):
    """The images that were read from a list of entries."""

    images: list[np.ndarray]  # N arrays (size, size) uint8
    records: pd.DataFrame  # N rows, with label, width_px and height_px
    contents: list[bytes]  # N digests of the pixels, before they were fitted
    remarks: list[tuple[str, str, bool]]


def classify_litter(path: PurePosixPath) -> str:
    """Classify litter by the name of a file or of a folder above it; empty for other files.

    >>> classify_litter(PurePosixPath("hand/~$labels.xlsx"))
    'files that systems and programs left'
    """
    if any(part.startswith(".") for part in path.parts):
        return HIDDEN
    names = [part.lower() for part in path.parts]
    litter = any(name in LITTER_FOLDERS or COPIES.fullmatch(name) for name in names)
    return LITTER if litter else ""


def walk_files(
    root: Path,
    report: Callable[[Path, str], None] | None = None,
    ignored: Counter[str] | None = None,
) -> Iterator[PurePosixPath]:
    """Yield every file below ``root`` except litter, relative to it, sorted within its folder.

    Links to files inside the folder count as files. Litter is not checked.

    Parameters
    ----------
    report
        Called with the path and the reason instead of raising the errors below; the walk continues.
    ignored
        Counts the ignored files by kind of :func:`classify_litter`.

    Raises
    ------
    CbirError
        When a link leads out of the folder, nowhere, or to a folder; a folder cannot be read, or
        what is in it cannot be looked up; or a name is not UTF-8.
    """
    root = resolve(root)
    ignored = Counter() if ignored is None else ignored

    def refuse(error: OSError):
        if classify_litter(PurePosixPath(Path(error.filename).relative_to(root).as_posix())):
            return
        what = f"cannot read {error.filename}: {error.strerror}"
        if report is None:
            raise CbirError(what, "fix its permissions") from error
        report(Path(error.filename), f"{UNREADABLE}: {error.strerror}")

    for folder, folders, files in os.walk(root, onerror=refuse):
        folders.sort()
        faulty = set()
        inside = PurePosixPath(Path(folder).relative_to(root).as_posix())
        for place, name in enumerate(folders + sorted(files)):
            if kind := classify_litter(inside / name):
                if place >= len(folders):
                    ignored[kind] += 1
                    faulty.add(name)
                continue
            try:
                _check_name(Path(folder, name), root)
            except PermissionError as error:  # the folder's names can be listed, but not looked up
                refuse(OSError(error.errno, error.strerror, folder))
                faulty.update(folders + files)
                break
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
    if target.is_dir():  # its files would count twice, or endlessly
        raise CbirError(f"the link {path} leads to the folder {target}", hint)


def read_file(path: Path) -> tuple[bytes | None, str]:
    """Read the bytes of a file; or return None, and why."""
    try:
        if not path.is_file():
            return None, "not a plain file" if path.exists() else "no such file"
        if (size := path.stat().st_size) > LARGEST_FILE:
            return None, f"{size:,} bytes, too large"
        return path.read_bytes(), ""
    except MemoryError:
        return None, TOO_LITTLE_MEMORY
    except OSError as error:
        return None, f"{UNREADABLE}: {error.strerror}"


@contextmanager
def open_pool() -> Iterator[ThreadPoolExecutor]:
    """Open a pool of threads for decoding, for :func:`map_ahead`; an error cancels what waits."""
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        # Each decoding thread hides warnings and then restores this state.
        warnings.simplefilter("ignore")
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yield the function of each item in order, computed in threads a few items ahead."""
    waiting = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= 4 * os.cpu_count():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def read_images(
    entries: Iterable[Entry], class_names: Sequence[str], read: Reader, size: int
) -> ImageList:
    """Read and decode images in the order of the entries; fit them to squares of ``size`` pixels.

    Images that cannot be read become remarks. ``read`` is called from several threads.
    """

    def read_entry(entry: Entry) -> tuple[Entry, str, tuple | None]:
        with reserving():
            data, remark = read(entry.file)
            image = None
            if data is not None:
                image, remark = decode(data)
            if image is None:
                return entry, remark, None
            return entry, remark, (image.shape, fit_to_square(image, size), hash_pixels(image))

    images, rows, contents, remarks = [], [], [], []
    with open_pool() as pool:
        for entry, remark, decoded in map_ahead(pool, read_entry, entries):
            if remark:
                name = normalize("NFC", str(entry.file))
                remarks.append((name, remark, decoded is not None))
            if decoded is not None:
                (height, width), image, content = decoded
                images.append(image)
                contents.append(content)
                label = class_names.index(entry.class_name)
                rows.append((entry.image_id, label, *entry[3:], width, height))
    columns = ["image_id", "label", *Entry._fields[3:], "width_px", "height_px"]
    return ImageList(images, pd.DataFrame(rows, columns=columns), contents, remarks)

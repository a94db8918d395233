"""Files: written so that none is ever half-written, beside their place first; their checksums."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cbir_lib.errors import HINTS, CbirError, find_reason

if TYPE_CHECKING:
    import filelock

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
LONGEST_NAME = 150  # bytes; file systems take 255, and a part's name has more than its file's
ABANDONED_S = 7 * 24 * 3600  # age of another machine's part that nobody will complete
PART = re.compile(r"\..+\.[0-9a-f]{8}\.\d+\.part", re.ASCII)  # as :func:`_name_part` names it
EXCHANGE = 2  # renameat2's RENAME_EXCHANGE
HERE = -100  # AT_FDCWD


def show_name(path: Path | str) -> str:
    r"""Return a path as text that can be written as UTF-8: other bytes become ``\xff``."""
    return os.fsencode(path).decode(errors="backslashreplace")


def expand(path: Path | str) -> Path:
    """Expand ``~`` and ``~user`` at the start of a path; a name of nobody stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - of pathlib it is an error


def resolve(path: Path | str) -> Path:
    """Make a path absolute and follow its links; one in a circle stays as it is."""
    return Path(os.path.realpath(path))  # of pathlib it is an error


def compute_file_checksum(path: Path | str) -> str:
    """Compute the SHA-256 of a file's bytes, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_lock(path: Path) -> filelock.BaseFileLock:
    """Return a lock on a file, to be acquired: of the system, or where a drive has none, by a file.

    Network drives may have no locks. A second file, ``<name>.held``, then exists while the lock is
    held; one that a killed process left is removed.

    Raises
    ------
    OSError
        When the file cannot be written.
    """
    import filelock

    lock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
        lock.release()
    except filelock.Timeout:
        pass
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return filelock.SoftFileLock(path.with_name(f"{path.name}.held"))
    return lock


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; move it onto ``path`` when the block succeeds.

    Whatever happens, ``path`` is either unchanged or complete. A link stays, and the file it points
    to is replaced. A pipe or a device, such as ``/dev/stdout`` or ``-``, gets the content when the
    block succeeds. Partial files that a killed process left behind are removed by the next
    writer of the same file.

    Raises
    ------
    CbirError
        When the disk is full, or ``path`` is a folder or cannot be written to.
    """
    path = Path(path)
    if is_stream(path):
        with _sending(path) as part:
            yield part
        return
    if os.path.isdir(path):  # noqa: PTH112 - a name may be too long to ask for
        raise CbirError(f"cannot write {path}: it is a folder", "name a file in it")
    target = resolve(path)
    if os.path.islink(target):  # noqa: PTH114 - links in a circle lead nowhere; names too long
        raise _explain_refusal(path, OSError(errno.ELOOP, os.strerror(errno.ELOOP)))
    part = _name_part(target)
    with _explaining(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        with suppress(FileNotFoundError):
            target.stat()  # its name may be too long, where that of the part is not
    try:
        with _explaining(path, part):
            yield part
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)


class _TriedError(Exception):
    """What ends a trial of writing."""


def check_writable(path: Path | str) -> None:
    """Refuse a file that could not be written, before hours go into its content.

    Raises
    ------
    CbirError
        As :func:`replacing` does. The file stays as it is.
    """
    if is_stream(Path(path)):
        return
    with suppress(_TriedError), replacing(path) as part:
        part.touch()
        raise _TriedError


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside ``path``; put it in its place when the block succeeds.

    Whoever looks at ``path``, at any moment and after any kill, sees the old folder or the new one:
    Linux exchanges the two in one step. (Elsewhere, between two renames, there is none; the next
    writer completes that.) The old folder is removed last.

    Raises
    ------
    CbirError
        When the disk is full, or ``path`` is no folder or cannot be written to.
    """
    path = resolve(path)
    if os.path.lexists(path) and not path.is_dir():  # a file, a pipe, a device
        raise CbirError(f"cannot write {path}: it is no folder", "name a new folder")
    part, old = _name_part(path), path.with_name(f".{path.name}.old")
    try:
        with _explaining(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(path)
            if old.exists():
                if path.exists():
                    shutil.rmtree(old)
                else:
                    old.rename(path)
            part.mkdir()
        with _explaining(path, part):
            yield part
        with _explaining(path):
            if not path.exists():
                part.rename(path)
            elif not _exchange(part, path):
                path.rename(old)
                part.rename(path)
                shutil.rmtree(old)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def is_part(name: str) -> bool:
    """Tell whether a file is what :func:`replacing` writes beside another, or a kill left."""
    return PART.fullmatch(name) is not None


def remove_own(folder: Path, is_own: Callable[[str], bool]) -> None:
    """Remove our files in a folder, by name, and then the folder, unless others put more there."""
    with suppress(OSError):
        for file in folder.iterdir():
            if is_own(file.name) or is_part(file.name):
                file.unlink()
        folder.rmdir()


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return rename(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0


def is_stream(path: Path | str) -> bool:
    """Tell whether a path is a pipe, a device or an open file of the process, and no plain file."""
    if _open_number(path) is not None:
        return True
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _open_number(path: Path | str) -> int | None:
    """Return the number of the open file that a path like ``/dev/stdout`` or ``-`` stands for."""
    if str(path) == "-":
        return 1
    absolute = os.path.abspath(path)  # noqa: PTH100 - links stay
    known = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
    if absolute in known:
        return known[absolute]
    number = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d{1,9})", absolute, re.ASCII)
    return int(number[1]) if number else None


@contextmanager
def _sending(path: Path) -> Iterator[Path]:
    """Yield a path to write to, and send its content to a pipe or a device."""
    with _explaining(path):
        folder = tempfile.TemporaryDirectory()
    with folder:
        part = Path(folder.name, "part")
        with _explaining(path, part):
            yield part
        with _explaining(path):
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            # An open file goes on where it is: opened again, it would be overwritten by what the
            # process prints next. Nothing is truncated: a device may be a file with content.
            number = _open_number(path)
            sink = os.open(path, os.O_WRONLY | os.O_APPEND) if number is None else os.dup(number)
            with part.open("rb") as source, os.fdopen(sink, "wb") as opened:
                shutil.copyfileobj(source, opened)


@contextmanager
def _explaining(path: Path, part: Path | None = None) -> Iterator[None]:
    """Turn an error of writing ``path`` into two lines.

    With ``part``, the block is also the caller's: only an error in the part or of a full disk is
    one of writing. Others, as of a file that is missing, stay as they are.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of a pipe has enough: not an error
        raise
    except OSError as error:
        places = (str(error.filename), str(error.filename2))
        own = part is None or any(place.startswith(str(part)) for place in places)
        if own or _is_full(error):
            raise _explain_refusal(path, error) from error
        raise


def _is_full(error: OSError) -> bool:
    # NumPy reports a short write without an errno, and shutil errors of several files.
    said = ("requested and", *map(os.strerror, NO_SPACE))
    return error.errno in NO_SPACE or any(text in str(error) for text in said)


def _explain_refusal(path: Path, error: OSError) -> CbirError:
    if error.errno == errno.EFBIG:
        return CbirError(f"cannot write {path}: {os.strerror(error.errno)}", HINTS[error.errno])
    if _is_full(error):
        return CbirError(
            f"no space left while writing {path}",
            "free some space and start again; what is finished is kept",
        )
    reason = find_reason(error)
    if error.errno in (errno.EEXIST, errno.ENOTDIR):  # from making the folder
        reason = f"{error.filename} is not a folder"
    too_long = error.errno == errno.ENAMETOOLONG
    hint = "give it a shorter name" if too_long else "fix its permissions, or name another place"
    return CbirError(f"cannot write {path}: {reason}", hint)


def _name_part(target: Path) -> Path:
    return target.with_name(f".{_get_stem(target)}.{_get_host()}.{os.getpid()}.part")


def _get_stem(target: Path) -> str:
    name = os.fsencode(target.name)
    return target.name if len(name) <= LONGEST_NAME else hashlib.sha256(name).hexdigest()[:32]


def _get_host() -> str:
    """Return a name for this machine: on a network drive, others write beside it."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _remove_stale(target: Path) -> None:
    """Remove the parts of a file or folder that killed processes left."""
    start, end = f".{_get_stem(target)}.", ".part"
    for stale in target.parent.iterdir():
        if not (stale.name.startswith(start) and stale.name.endswith(end)):
            continue
        host, _, pid = stale.name.removeprefix(start).removesuffix(end).partition(".")
        if not pid.isdecimal() or len(host) != 8:
            continue
        try:
            gone = (
                not _is_running(int(pid))
                if host == _get_host()
                else time.time() - stale.stat().st_mtime > ABANDONED_S
            )
            if gone and stale.is_dir():
                shutil.rmtree(stale, ignore_errors=True)
            elif gone:
                stale.unlink(missing_ok=True)
        except FileNotFoundError:  # its writer has just moved it
            continue


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True

"""The one error that users see: what is wrong, and how to fix it; and checks that raise it."""

from __future__ import annotations

import difflib
import errno
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real


class CbirError(Exception):
    """What went wrong and where, with a hint on how to fix it.

    The command line prints it as two lines and exits with 2; a notebook shows the same two lines
    instead of a traceback.
    """

    def __init__(self, what: str, hint: str):
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"error: {show_in_one_line(self.what)}\nhint: {show_in_one_line(self.hint)}"

    def _render_traceback_(self) -> list[str]:
        """Return the lines to print in place of a traceback (IPython's hook)."""
        return str(self).splitlines()


def show_in_one_line(text: str) -> str:
    """Return a text with its line ends and control characters, as a file's name may have, shown."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    text = getattr(error, "message", "") or str(error)  # what Milvus says is in its message
    return next(iter(str(text).splitlines()), "") or type(error).__name__


def find_reason(error: BaseException) -> str:
    """Return the system's words for what it refused, without number and path; else the first line.

    >>> find_reason(PermissionError(13, "Permission denied", "a.png"))
    'Permission denied'
    """
    return getattr(error, "strerror", None) or first_line(error)


MOST_SHOWN = 40  # names in a hint: a study has hundreds of runs

INTERRUPTED = CbirError("interrupted", "start again: what is finished is kept, the rest goes on")


HINTS = {  # for trouble with the operating system
    errno.ENOSPC: "free some space and start again; what is finished is kept",
    errno.EDQUOT: "free some space and start again; what is finished is kept",
    errno.EFBIG: "the system limits the size of files: ulimit -f",
    errno.EMFILE: "the system limits the number of open files: ulimit -n",
    errno.EROFS: "the drive is read-only: name another place",
    errno.EACCES: "fix its permissions, or name another place",
    errno.EPERM: "fix its permissions, or name another place",
    errno.ENOENT: "check the path",
}


def choose_hint(error: BaseException, otherwise: str) -> str:
    """Return how to mend a refusal of the system to read a file; ``otherwise`` for other errors.

    >>> choose_hint(PermissionError(13, "Permission denied"), "build it again")
    'fix its permissions, or name another place'
    >>> choose_hint(FileNotFoundError(2, "No such file or directory"), "build it again")
    'build it again'
    """
    number = getattr(error, "errno", None)
    return otherwise if number == errno.ENOENT else HINTS.get(number, otherwise)


# How libraries that have no class for it report that memory ran out: torch, OpenCV, the system.
NO_MEMORY = ("DefaultCPUAllocator", "(-4:Insufficient memory)", "start new thread")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, of the computer or of a GPU."""
    if isinstance(error, CbirError):  # explained already
        return False
    return (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or type(error).__name__ == "OutOfMemoryError"  # of torch, which is slow to import
        or any(words in str(error) for words in NO_MEMORY)
    )


def explain_trouble(error: BaseException) -> CbirError | None:
    """Return the error to show for trouble of the machine; None where the fault is in the code.

    >>> print(explain_trouble(PermissionError(13, "Permission denied", "a.png")))
    error: a.png: Permission denied
    hint: fix its permissions, or name another place
    """
    if isinstance(error, CbirError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if is_out_of_memory(error):
        return CbirError("too little memory", "close other programs, or give it fewer images")
    if isinstance(error, UnicodeEncodeError):
        return CbirError(
            f"{error.object[error.start : error.end]!r} cannot be written as {error.encoding}",
            "rename what has it, or set PYTHONIOENCODING=utf-8",
        )
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        hint = HINTS.get(error.errno, "check the path, its permissions and the drive")
        return CbirError(f"{place}{find_reason(error)}", hint)
    return None


@contextmanager
def collecting_warnings() -> Iterator[list[str]]:
    """Yield a list that has, after the block, the texts that the library warned of inside it."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
    texts += [str(warning.message) for warning in caught if warning.category is UserWarning]


class RunsFailedError(Exception):
    """Runs of a study failed; the text has a few lines for each. Exit code 1.

    ``undone`` names the jobs that were planned and are not done.
    """

    def __init__(self, what: str, undone: Iterable[str] = ()):
        super().__init__(what)
        self.undone = list(undone)


def unknown_name_error(kind: str, name: str, known: Iterable[str]) -> CbirError:
    """Return the error for a name that is not in a table; its hint suggests the closest one.

    >>> print(unknown_name_error("distance", "cosin", ["L1", "L2", "cosine"]))
    error: unknown distance 'cosin'
    hint: did you mean 'cosine'? known: L1, L2, cosine
    """
    known = list(known)
    close = difflib.get_close_matches(str(name)[:80], known, n=1, cutoff=0.4)
    # Case is wrong more often than spelling: "l1" for "L1".
    close = [other for other in known if other.lower() == str(name).lower()] or close
    suggestion = f"did you mean {close[0]!r}? " if close else ""
    shown = ", ".join(known[:MOST_SHOWN])
    more = f" and {len(known) - MOST_SHOWN} more" if len(known) > MOST_SHOWN else ""
    return CbirError(f"unknown {kind} {name!r:.80}", f"{suggestion}known: {shown}{more}")


def is_integer(value: object) -> bool:
    """Return whether a value is a whole number of Python or of NumPy; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether a value is a finite real number; True and False are none."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # larger than any float
        return False


def check_integer(name: str, value: object, low: int, high: int | None = None) -> None:
    """Refuse a parameter that is not a whole number from ``low`` to ``high``.

    Raises
    ------
    CbirError
        Naming the parameter and the range.
    """
    if not is_integer(value) or value < low or (high is not None and value > high):
        allowed = f"{low} or more" if high is None else f"{low} to {high}"
        raise CbirError(f"{name} {value!r} is out of range", f"give a whole number, {allowed}")


def check_switch(name: str, value: object) -> None:
    """Refuse a parameter that is neither True nor False: any text would count as true.

    Raises
    ------
    CbirError
        Naming the parameter.
    """
    if not isinstance(value, bool):
        raise CbirError(f"{name} {value!r} is out of range", "give True or False")

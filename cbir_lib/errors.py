"""The one error that users see: what is wrong, and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
        return f"error: {self.what}\nhint: {self.hint}"

    def _render_traceback_(self) -> list[str]:
        """Return the lines to print in place of a traceback (IPython's hook)."""
        return str(self).splitlines()


MOST_SHOWN = 40  # names in a hint: a study has hundreds of runs

INTERRUPTED = CbirError("interrupted", "start again: what is finished is kept, the rest goes on")


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
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    # Case is wrong more often than spelling: "l1" for "L1".
    close = [other for other in known if other.lower() == str(name).lower()] or close
    suggestion = f"did you mean {close[0]!r}? " if close else ""
    shown = ", ".join(known[:MOST_SHOWN])
    more = f" and {len(known) - MOST_SHOWN} more" if len(known) > MOST_SHOWN else ""
    return CbirError(f"unknown {kind} {name!r}", f"{suggestion}known: {shown}{more}")

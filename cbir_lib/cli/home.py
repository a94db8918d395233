"""A home for the caches of libraries, where the user has none they may write to.

Only what is worth keeping is written to places that the user names. Matplotlib, Jupyter, Snakemake,
numba and torch keep caches below the home, and some of them stop where there is none.
"""

from __future__ import annotations

import atexit
import getpass
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PLACES = {
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
}


def ensure_home() -> None:
    """Point to a temporary folder what cannot be written; it is removed when the process ends.

    That is the home if it is missing or read-only, or one of its folders for caches and settings if
    it belongs to somebody else. A user whom the system does not know, as in containers, gets a
    name.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user{os.getuid()}"
    home = os.environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - "~" if unknown
    has_home = Path(home).is_dir() and _can_write(Path(home))
    wanted = {} if has_home else {"HOME": ""}
    for name, place in PLACES.items():
        now = os.environ.get(name) or (has_home and Path(home, place))
        if now and not _can_write(Path(now)):
            wanted[name] = place
    if not wanted:
        return
    with suppress(OSError):  # no folder for temporary files either: the libraries say what is amiss
        folder, owner = tempfile.mkdtemp(prefix="cbir-home-"), os.getpid()
        os.environ.update({name: str(Path(folder, place)) for name, place in wanted.items()})
        atexit.register(_remove, folder, owner)


def _can_write(folder: Path) -> bool:
    """Return whether files can be made in a folder, or the folder itself, in the nearest above."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)

"""Writing files so that none is ever half-written: beside its place first, then moved."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cbir_lib.errors import CbirError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; move it onto ``path`` when the block succeeds.

    Whatever happens, ``path`` is either unchanged or complete. Partial files that a killed process
    left behind are removed by the next writer of the same file.

    Raises
    ------
    CbirError
        When the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*.part"):
        pid = stale.suffixes[-2][1:]
        if pid.isdecimal() and not _is_running(int(pid)):
            stale.unlink(missing_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        # NumPy reports a short write without an errno.
        if error.errno in NO_SPACE or "requested and" in str(error):
            raise CbirError(
                f"no space left while writing {path}",
                "free some space and start again; what is finished is kept",
            ) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

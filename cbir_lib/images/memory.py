"""Sharing the memory of the machine among the files that are read at the same time.

A reader reserves what its file will take, by its header, before anything is decoded; where others
hold too much, it waits. All readers of a process together stay below ``SHARE`` of the memory that
the process may have.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

SHARE = 0.5
CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

_changed = threading.Condition()
_reserved: dict[int, int] = {}  # bytes by thread


@cache
def find_memory_limit() -> int:
    """Return the bytes that this process may have: the machine's, or fewer by a limit."""
    limits = [2**62]
    with suppress(AttributeError, ValueError, OSError):  # not every system says
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(ImportError):  # Windows has none
        import resource

        limits += [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit > 0]
    for place in CGROUPS:
        try:
            limits.append(int(Path(place).read_text()))
        except (OSError, ValueError):  # none, or "max"
            continue
    return min(limits)


@contextmanager
def reserving() -> Iterator[None]:
    """Release at the end of the outermost block what :func:`reserve` reserved inside it."""
    own = threading.get_ident()
    inner = own in _reserved
    if not inner:
        with _changed:
            _reserved[own] = 0
    try:
        yield
    finally:
        if not inner:
            with _changed:
                del _reserved[own]
                _changed.notify_all()


def reserve(count: int) -> bool:
    """Reserve ``count`` bytes in all for this thread; wait until the others leave so much.

    Returns False where it is more than the whole share. Outside of :func:`reserving`, nothing is
    reserved and nothing is waited for.
    """
    budget = int(SHARE * find_memory_limit())
    if count > budget:
        return False
    own = threading.get_ident()
    if own not in _reserved:
        return True
    with _changed:
        count = max(count, _reserved[own])
        _reserved[own] = 0  # no two wait for each other
        _changed.notify_all()
        _changed.wait_for(lambda: sum(_reserved.values()) + count <= budget)
        _reserved[own] = count
    return True

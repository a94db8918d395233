"""Compiling loops over arrays to machine code, with a cache that never stops the work.

numba keeps what it compiled beside the module, or in the user's cache, so that the next process
starts at once. Where neither can be written (a read-only checkout of another user, no home, a full
disk) or what is there cannot be read, the loops are compiled again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from numba import njit
from numba.core.caching import FunctionCache


class _Cache(FunctionCache):
    """numba's cache of a function, which a faulty or full disk makes empty."""

    def load_overload(self, *arguments):
        try:
            return super().load_overload(*arguments)
        except Exception:  # a damaged file raises whatever its parsing raises
            with suppress(Exception):
                self.flush()
            return None

    def save_overload(self, *arguments) -> None:
        with suppress(Exception):
            super().save_overload(*arguments)


def compile_cached(function: Callable, **options) -> Callable:
    """Return ``numba.njit(cache=True)`` of a function, compiled in any case."""
    dispatcher = njit(**options)(function)
    with suppress(RuntimeError):  # there is no place for a cache
        dispatcher._cache = _Cache(function)
    return dispatcher

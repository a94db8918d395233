"""Plain loops over arrays, compiled at their first call: importing their module stays light."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

COMPILING = threading.Lock()  # else each thread would make its own


def compile_loops(function: Callable, *called: Callable, reorder: bool = False) -> Callable:
    """Compile plain loops over arrays to machine code that leaves other threads to their work.

    Made by numba at the first call and kept beside the module, or in the user's cache. ``called``
    are the functions of the same module that ``function`` calls. ``reorder`` lets sums be added up
    in another order, several terms at a time.
    """
    with COMPILING:
        return _load_compiled(function, *called, reorder=reorder)


@functools.cache
def _load_compiled(function: Callable, *called: Callable, reorder: bool) -> Callable:
    from numba.extending import register_jitable

    from cbir_lib.compiling import compile_cached

    for other in called:
        register_jitable(other)
    allowed = {"reassoc", "nsz"} if reorder else False
    return compile_cached(function, nogil=True, error_model="numpy", fastmath=allowed)

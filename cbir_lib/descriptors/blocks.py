"""What descriptors of whole batches share: device, blocks of images, threads, compiled loops."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from cbir_lib.errors import CbirError

if TYPE_CHECKING:
    import torch

PIXELS = 1 << 18  # of the images that a thread of a processor takes at once
PIXELS_GPU = 1 << 23


def device() -> torch.device:
    """Where tensors are computed: on a GPU if there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def blocks(images: np.ndarray, values: int) -> Iterator[slice]:
    """Parts of a batch (N, H, W), of one image at least and about ``values`` pixels at most."""
    step = max(1, values // images[0].size)
    for start in range(0, len(images), step):
        yield slice(start, min(start + step, len(images)))


def each_block(work: Callable[[np.ndarray, slice], None], images: np.ndarray) -> None:
    """Do ``work(block, part)`` for every part of a batch, on as many threads as torch may use.

    The block is a copy, in order of rows: compiled loops then need no version for other orders,
    nor for memory maps.
    """
    import torch

    def work_on(part: slice) -> None:
        work(np.array(images[part], order="C"), part)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(work_on, blocks(images, PIXELS)):
            pass  # errors are raised here


@functools.cache
def compiled(function: Callable, *called: Callable) -> Callable:
    """Machine code of plain loops over arrays, which leaves other threads to their work.

    Made by numba at the first call and kept beside the module, or in the user's cache. ``called``
    are the functions of the same module that ``function`` calls.
    """
    from numba import njit
    from numba.extending import register_jitable

    for other in called:
        register_jitable(other)
    return njit(cache=True, nogil=True)(function)


def check_integer(name: str, value: int, least: int, most: int) -> None:
    """Refuse a parameter that is not a whole number from ``least`` to ``most``.

    Raises
    ------
    CbirError
        Naming the parameter and the range.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        raise CbirError(
            f"{name} {value!r} is out of range", f"give a whole number, {least} to {most}"
        )

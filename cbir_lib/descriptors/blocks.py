"""What descriptors of whole batches share: device, blocks of images, threads, counts of codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from cbir_lib.loops import compile_loops

if TYPE_CHECKING:
    import torch

PIXELS = 1 << 18  # of the images that a thread takes at once


def choose_device() -> torch.device:
    """Choose where tensors are computed: on a GPU if there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def split_into_blocks(images: np.ndarray, values: int) -> Iterator[slice]:
    """Split a batch (N, H, W) into parts of at most ``values`` pixels, or of one image."""
    step = max(1, values // images[0].size)
    for start in range(0, len(images), step):
        yield slice(start, start + step)


def map_blocks(
    work: Callable[[np.ndarray, slice], None], images: np.ndarray, values: int = 0
) -> None:
    """Call ``work(block, part)`` for every part of a batch (N, H, W), in any order.

    On as many threads as torch may use. The block is a copy, row by row: compiled loops then need
    no version for other orders or memory maps.
    ``values`` are what the work has to remember of one image, where these are more than pixels.
    """
    import torch

    parts = split_into_blocks(images, PIXELS * images[0].size // max(images[0].size, values))

    def work_on(part: slice) -> None:
        work(np.array(images[part], order="C"), part)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(work_on, parts))  # raises what they raise


def count_codes(codes: np.ndarray, first: np.ndarray, length: int) -> np.ndarray:
    """Count how often each code occurs, image by image.

    Parameters
    ----------
    codes : (N, H, W) of whole numbers
    first : (H, W) int32
        What is added to the codes at each place, as cells have it that are counted apart.
    length : int
        Greater than all sums.

    Returns
    -------
    (N, length) int32
    """
    counts = np.zeros((len(codes), length), np.int32)
    compile_loops(_count)(codes, first, counts)
    return counts


def _count(codes: np.ndarray, first: np.ndarray, counts: np.ndarray) -> None:
    number, height, width = codes.shape
    for n in range(number):
        for y in range(height):
            for x in range(width):
                counts[n, first[y, x] + codes[n, y, x]] += 1

"""Exact search of the k nearest by Euclidean distance, cosine or inner product, in two passes.

All three order a gallery by x . g + b(g) of shifted vectors, largest first. This score is computed
from vectors rounded to bfloat16, which recent processors and GPUs multiply many times faster than
float32. Its error is bounded by the lengths of what rounding took away (Cauchy, Schwarz). Whatever
the bound does not rule out is measured again in float64: the answer is that of a search in float64,
ties in float32 in the gallery's order. Where the processor has no bfloat16, or rounding leaves too
many candidates, the same is done in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from cbir_lib.descriptors.blocks import compile_loops
from cbir_lib.retrieval import exact_loops
from cbir_lib.retrieval.exact_loops import Block, Candidates, Queries

KINDS = {"L2": 0, "cosine": 1, "inner product": 2}
BLOCK_QUERIES = 2048
BLOCK_GALLERY = 8192
CAPACITY = 512  # candidates kept for a query; one that has more is searched in another way
# Share of the largest possible score: room for five sums in float32, and for distances that differ
# in float64 and are equal in float32.
SLACK = 2.0**-19
SMALLEST = 1e-30  # smaller values count as 0: hardware may flush them
ROUNDED_COSINE = 2e-9  # distances.cosine rounds to 9 digits


class Prepared(NamedTuple):
    """A gallery prepared for search: G vectors of D values."""

    kind: int
    centre: np.ndarray  # (D,) float64
    scale: float
    rounded: np.ndarray  # (G, D) float32, shifted, scaled, rounded
    bias: np.ndarray  # (G,) float32
    lengths: np.ndarray  # (G,) float32, never too small
    lost: float  # largest share of a length that rounding took away
    largest: float  # length of the longest vector that scores are made of
    half: bool  # whether it was rounded to bfloat16


def has_bfloat16() -> bool:
    """Return whether this processor multiplies matrices of bfloat16 faster."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def prepare(distance: str, gallery: np.ndarray, half: bool) -> Prepared:
    """Shift and scale a gallery (G, D) float32, and round it to bfloat16 if ``half``; in blocks."""
    kind = KINDS[distance]
    blocks = [slice(s, s + BLOCK_GALLERY) for s in range(0, len(gallery), BLOCK_GALLERY)]
    sums, longest = np.zeros(gallery.shape[1]), 0.0
    for block in blocks:
        vectors = _scale_to_unit(kind, gallery[block])
        sums += vectors.sum(axis=0)
        longest = max(longest, np.linalg.norm(vectors, axis=1).max())
    centre, scale = sums / len(gallery), float(longest) or 1.0
    rounded = np.empty(gallery.shape, np.float32)
    bias, lengths = (np.empty(len(gallery), np.float32) for _ in range(2))
    lost = 0.0
    for block in blocks:
        shifted = (_scale_to_unit(kind, gallery[block]) - centre) / scale
        rounded[block] = _round(shifted, half)
        whole = np.linalg.norm(shifted, axis=1)
        away = np.linalg.norm(shifted - rounded[block], axis=1)
        lost = max(lost, float((away / np.maximum(whole, SMALLEST)).max()))
        bias[block] = -(whole**2) / 2 if kind == 0 else shifted @ (centre / scale)
        lengths[block] = np.maximum(whole, SMALLEST) * (1 + 1e-6)
    largest = float(lengths.max()) if kind == 0 else 1.0
    return Prepared(kind, centre, scale, rounded, bias, lengths, lost, largest, half)


def _scale_to_unit(kind: int, vectors: np.ndarray) -> np.ndarray:
    """Convert to float64; for the cosine, scale vectors other than zero to length 1."""
    vectors = vectors.astype(np.float64)
    if kind != KINDS["cosine"]:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _round(shifted: np.ndarray, half: bool) -> np.ndarray:
    """Round to (N, D) float32, to values that bfloat16 can hold if ``half``."""
    import torch

    values = torch.from_numpy(shifted.astype(np.float32))
    if half:
        values = values.bfloat16().float()
    return torch.where(values.abs() < SMALLEST, 0, values).numpy()


def search(
    prepared: Prepared,
    gallery: np.ndarray,
    queries: np.ndarray,
    k: int,
    own: np.ndarray,
    subjects: np.ndarray,
    codes: np.ndarray,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Find the k nearest of each query, block by block.

    Parameters
    ----------
    prepared
        Of ``gallery``.
    gallery : (G, D) float32
    queries : (Q, D) float32
    k
        At most ``CAPACITY``.
    own : (Q,) int64
        A row of the gallery that the query does not find, or -1.
    subjects, codes : (Q,) and (G,) int64
        A query does not find what has its number; -1 excludes nothing.

    Yields
    ------
    part, rows, distances, decided
        A slice of the queries, (N, k) int64, (N, k) float32, and (N,) bool: where it is False, the
        bound left too many candidates, and rows and distances mean nothing.
    """
    import torch

    threads = torch.get_num_threads()
    exclude = bool((subjects >= 0).any())
    # Threads and matrices of one size for all blocks: memory does not grow with the gallery.
    scores = torch.empty(min(BLOCK_QUERIES, len(queries)) * min(BLOCK_GALLERY, len(gallery)))
    with _allow_half_products(prepared.half), ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(queries), BLOCK_QUERIES):
            part = slice(start, min(start + BLOCK_QUERIES, len(queries)))
            count = part.stop - start
            x, reach, slack = _prepare_queries(prepared, queries[part])
            of_queries = Queries(reach, slack, own[part], subjects[part])
            candidates, nearest = _start(count, k, CAPACITY), _start_ranking(count, k)
            for first in range(0, len(gallery), BLOCK_GALLERY):
                rows = slice(first, min(first + BLOCK_GALLERY, len(gallery)))
                product = scores[: count * (rows.stop - first)].view(count, -1)
                torch.mm(x, torch.from_numpy(prepared.rounded[rows]).T, out=product)
                block = Block(prepared.bias[rows], prepared.lengths[rows], codes, exclude, first)
                work = compile_loops(exact_loops.scan)
                _share(pool, threads, work, (product.numpy(), of_queries, candidates), block)
            work = compile_loops(exact_loops.rank, exact_loops.measure)
            of_each = queries[part], *nearest, candidates
            _share(pool, threads, work, of_each, prepared.kind, gallery)
            # Too few are also left where a query is not comparable in float32.
            decided = (candidates.counts >= k) & np.isfinite(reach) & np.isfinite(slack)
            if prepared.kind == KINDS["cosine"]:
                decided &= queries[part].any(axis=1)  # zero vectors have a rule of their own
            yield part, *nearest, decided


@contextmanager
def _allow_half_products(half: bool) -> Iterator[None]:
    """Let float32 be multiplied as bfloat16, which changes nothing for rounded values."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if half else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _prepare_queries(prepared: Prepared, queries: np.ndarray) -> tuple:
    """Return rounded queries (N, D), and the reach and the slack of each.

    A score is off by at most reach * length + slack:
    |x.g - x~.g~| <= |x - x~| |g| + |x~| |g - g~|, and sums of D products in float32 by D 2^-24.
    """
    import torch

    unit = _scale_to_unit(prepared.kind, queries)
    shifted = (unit - prepared.centre) / prepared.scale
    with np.errstate(over="ignore", invalid="ignore"):  # these are left undecided
        x = _round(shifted, prepared.half)
        away = np.linalg.norm(shifted - x, axis=1)
        length = np.linalg.norm(x.astype(np.float64), axis=1)
        sums = queries.shape[1] * 2.0**-23
        reach = (away + length * (prepared.lost + sums)) * (1 + 1e-6)
        whole = np.linalg.norm(shifted if prepared.kind == 0 else unit / prepared.scale, axis=1)
        slack = SLACK * (whole + length + prepared.largest) ** 2
        if prepared.kind == KINDS["cosine"]:
            slack += ROUNDED_COSINE / prepared.scale**2
        return torch.from_numpy(x), reach.astype(np.float32), slack.astype(np.float32)


def _start(count: int, k: int, capacity: int) -> Candidates:
    """Return the candidates of a search that has not begun."""
    lower = np.full((count, k), -np.inf, np.float32)
    rows, upper = np.empty((count, capacity), np.int64), np.zeros((count, capacity), np.float32)
    return Candidates(lower, rows, upper, np.zeros(count, np.int64))


def _start_ranking(count: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and distances of an empty ranking."""
    return np.full((count, k), -1, np.int64), np.full((count, k), np.inf, np.float32)


def _share(
    pool: ThreadPoolExecutor, threads: int, work: Callable, of_each: tuple, *of_all: object
) -> None:
    """Call ``work`` on parts of the queries, one a thread.

    ``of_each`` are arrays with a row for each query, or named tuples of such arrays.
    """

    def cut(values: np.ndarray | tuple, part: slice) -> np.ndarray | tuple:
        return values._make(v[part] for v in values) if isinstance(values, tuple) else values[part]

    count = len(of_each[0])
    parts = [slice(i * count // threads, (i + 1) * count // threads) for i in range(threads)]
    list(pool.map(lambda part: work(*(cut(values, part) for values in of_each), *of_all), parts))


def measure_rows(
    distance: str, queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest of given rows (Q, C), -1 for none: (Q, k) rows and float32 distances."""
    candidates = _start(len(rows), k, rows.shape[1])
    candidates.rows[:] = -np.sort(-rows, axis=1)  # those that are none last
    candidates.counts[:] = (rows >= 0).sum(axis=1)
    nearest = _start_ranking(len(rows), k)
    work = compile_loops(exact_loops.rank, exact_loops.measure)
    work(queries, *nearest, candidates, KINDS[distance], gallery)
    return nearest

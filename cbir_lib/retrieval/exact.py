"""Exact search of the k nearest by Euclidean distance, cosine or inner product, in two passes.

All three order a gallery by x . g + b(g) of shifted vectors, largest first. This score is computed
from vectors rounded to bfloat16, which recent processors and GPUs multiply many times faster than
float32 if the matrices are of that type (oneDNN multiplies float32 "as bfloat16" with AMX only).
Its error is bounded by the lengths of what rounding took away (Cauchy, Schwarz). Whatever
the bound does not rule out is measured again in float64: the answer is that of a search in float64,
ties in float32 in the gallery's order. Where the processor has no bfloat16, or rounding leaves too
many candidates, the same is done in float32.

The product is of bfloat16 too, so it must be small where it matters. It is of longer vectors:
(x, 1, 1, 1, -t) . (g, b1, b2, b3, 1) = x . g + b(g) - t, where the b sum to b(g) and t is about
the kth best score so far. Near t, where it is decided, rounding takes almost nothing away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cbir_lib.loops import compile_loops
from cbir_lib.retrieval import exact_loops
from cbir_lib.retrieval.exact_loops import Block, Candidates, Queries

if TYPE_CHECKING:
    import torch

KINDS = {"L2": 0, "cosine": 1, "inner product": 2}
BLOCK_QUERIES = 2048
BLOCK_GALLERY = 8192
CAPACITY = 512  # candidates kept for a query; one that has more is searched in another way
# Share of the largest possible score: room for five sums in float32, and for distances that differ
# in float64 and are equal in float32.
SLACK = 2.0**-19
PARTS = 3  # of a bias: as numbers of bfloat16 they hold the digits of a float32
SUM = 2.0**-23  # error of each product of a sum in float32, twice what it can be
SMALLEST = 1e-30  # smaller values count as 0: hardware may flush them
ROUNDED_COSINE = 2e-9  # distances.cosine rounds to 9 digits


class Prepared(NamedTuple):
    """A gallery prepared for search: G vectors of D values."""

    kind: int
    centre: np.ndarray  # (D,) float64
    scale: float
    rounded: torch.Tensor  # (G, D + PARTS + 1), vectors shifted and scaled, parts of the bias, 1
    bias: float  # largest, without its sign
    lengths: np.ndarray  # (G,) float32, never too small
    lost: float  # largest share of a length that rounding took away
    largest: float  # length of the longest vector that scores are made of
    half: bool  # whether it was rounded to bfloat16, or to float32


def prepare(distance: str, gallery: np.ndarray, half: bool) -> Prepared:
    """Shift and scale a gallery (G, D) float32, and round it to bfloat16 if ``half``; in blocks."""
    import torch

    kind = KINDS[distance]
    blocks = [slice(s, s + BLOCK_GALLERY) for s in range(0, len(gallery), BLOCK_GALLERY)]
    sums, longest = np.zeros(gallery.shape[1]), 0.0
    for block in blocks:
        vectors = _scale_to_unit(kind, gallery[block])
        sums += vectors.sum(axis=0)
        longest = max(longest, np.linalg.norm(vectors, axis=1).max())
    centre, scale = sums / len(gallery), float(longest) or 1.0
    count, dimensions = gallery.shape
    rounded = torch.ones((count, dimensions + PARTS + 1), dtype=_choose_type(half))
    lengths, lost, most = np.empty(count, np.float32), 0.0, 0.0
    for block in blocks:
        shifted = (_scale_to_unit(kind, gallery[block]) - centre) / scale
        near = rounded[block, :dimensions] = _round(shifted, half)
        whole = np.linalg.norm(shifted, axis=1)
        away = np.linalg.norm(shifted - near.double().numpy(), axis=1)
        lost = max(lost, float((away / np.maximum(whole, SMALLEST)).max()))
        bias = -(whole**2) / 2 if kind == 0 else shifted @ (centre / scale)
        most = max(most, float(np.abs(bias).max()))
        for column in range(dimensions, dimensions + PARTS):
            part = rounded[block, column] = _round(bias, half)
            bias = bias - part.double().numpy()
        lengths[block] = np.maximum(whole, SMALLEST) * (1 + 1e-6)
    largest = float(lengths.max()) if kind == 0 else 1.0
    return Prepared(kind, centre, scale, rounded, most, lengths, lost, largest, half)


def _scale_to_unit(kind: int, vectors: np.ndarray) -> np.ndarray:
    """Convert to float64; for the cosine, scale vectors other than zero to length 1."""
    vectors = vectors.astype(np.float64)
    if kind != KINDS["cosine"]:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _choose_type(half: bool) -> torch.dtype:
    import torch

    return torch.bfloat16 if half else torch.float32


def _round(values: np.ndarray, half: bool) -> torch.Tensor:
    """Round to bfloat16 if ``half``, or to float32."""
    import torch

    rounded = torch.from_numpy(values.astype(np.float32)).to(_choose_type(half))
    return torch.where(rounded.abs() < SMALLEST, 0, rounded)


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
    size = min(BLOCK_QUERIES, len(queries)) * min(BLOCK_GALLERY, len(gallery))
    scores = torch.empty(size, dtype=prepared.rounded.dtype)
    bits = scores.view(torch.int16 if prepared.half else torch.int32)
    with _forbid_half_products(), ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(queries), BLOCK_QUERIES):
            part = slice(start, min(start + BLOCK_QUERIES, len(queries)))
            count = part.stop - start
            x, reach, slack = _prepare_queries(prepared, queries[part])
            candidates, nearest = _start(count, k, CAPACITY), _start_ranking(count, k)
            for first in range(0, len(gallery), BLOCK_GALLERY):
                rows = slice(first, min(first + BLOCK_GALLERY, len(gallery)))
                cells = count * (rows.stop - first)
                level = _set_level(x, candidates.lower[:, -1])
                torch.mm(x, prepared.rounded[rows].T, out=scores[:cells].view(count, -1))
                wide = slack + np.abs(level) * np.float32(x.shape[1] * SUM)
                of_queries = Queries(reach, wide, level, own[part], subjects[part])
                block = Block(prepared.lengths[rows], codes, exclude, first)
                work = compile_loops(exact_loops.scan)
                products = bits[:cells].view(count, -1).numpy()
                _share(pool, threads, work, (products, of_queries, candidates), block)
            work = compile_loops(exact_loops.rank, exact_loops.measure)
            of_each = queries[part], *nearest, candidates
            _share(pool, threads, work, of_each, prepared.kind, gallery)
            # Too few are also left where a query is not comparable in float32.
            decided = (candidates.counts >= k) & np.isfinite(reach) & np.isfinite(slack)
            if prepared.kind == KINDS["cosine"]:
                decided &= queries[part].any(axis=1)  # zero vectors have a rule of their own
            yield part, *nearest, decided


@contextmanager
def _forbid_half_products() -> Iterator[None]:
    """Let no setting of the caller's multiply float32 as bfloat16."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _prepare_queries(prepared: Prepared, queries: np.ndarray) -> tuple:
    """Return rounded queries (N, D + PARTS + 1), and the reach and the slack of each.

    A score is off by at most reach * length + slack:
    |x.g - x~.g~| <= |x - x~| |g| + |x~| |g - g~|, and sums of N products in float32 by N 2^-24 of
    the sum of their magnitudes.
    """
    import torch

    unit = _scale_to_unit(prepared.kind, queries)
    shifted = (unit - prepared.centre) / prepared.scale
    with np.errstate(over="ignore", invalid="ignore"):  # these are left undecided
        near = _round(shifted, prepared.half)
        x = torch.ones((len(near), prepared.rounded.shape[1]), dtype=near.dtype)
        x[:, : near.shape[1]] = near
        near = near.double().numpy()
        away, length = np.linalg.norm(shifted - near, axis=1), np.linalg.norm(near, axis=1)
        sums = x.shape[1] * SUM
        reach = (away + length * (prepared.lost + sums)) * (1 + 1e-6)
        whole = np.linalg.norm(shifted if prepared.kind == 0 else unit / prepared.scale, axis=1)
        slack = SLACK * (whole + length + prepared.largest) ** 2 + sums * prepared.bias
        if prepared.kind == KINDS["cosine"]:
            slack += ROUNDED_COSINE / prepared.scale**2
        return x, reach.astype(np.float32), slack.astype(np.float32)


def _set_level(x: torch.Tensor, best: np.ndarray) -> np.ndarray:
    """Let products of queries (N, D + PARTS + 1) be relative to (N,) scores; return these, rounded.

    Where there is none yet, they are relative to 0.
    """
    level = _round(np.where(np.isfinite(best), best, 0), x.dtype.itemsize == 2)
    x[:, -1] = -level
    return level.float().numpy()


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

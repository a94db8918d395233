"""The k nearest by Euclid's distance, the cosine or the inner product: looked for, then decided.

All three order a gallery by x . g + b(g) of shifted vectors, largest first. It is computed of
vectors rounded to bfloat16, which recent processors and GPUs multiply many times faster than
float32. How far such a score can be off is bounded by the lengths of what rounding took away
(Cauchy, Schwarz). Whatever the bound does not rule out is measured again in float64: the answer is
that of a search in float64, ties in float32 in the gallery's order. Where the processor has no
bfloat16, or rounding leaves too many, the same is done in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from cbir_lib.descriptors.blocks import compiled

KINDS = {"L2": 0, "cosine": 1, "inner product": 2}
BLOCK_QUERIES = 2048
BLOCK_GALLERY = 8192
CAPACITY = 512  # candidates of a query kept; one that has more is searched otherwise
# Of the largest score there can be: room for five sums in float32, and for distances that differ
# in float64 and are equal in float32.
SLACK = 2.0**-19
SMALLEST = 1e-30  # smaller values count as 0: hardware may flush them
ROUNDED_COSINE = 2e-9  # distances.cosine rounds to 9 digits


class Prepared(NamedTuple):
    """A gallery made ready; G vectors of D values."""

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
    """Whether matrices of bfloat16 are worth it here."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def prepare(distance: str, gallery: np.ndarray, half: bool) -> Prepared:
    """Shift and scale a gallery (G, D) float32, and round it to bfloat16 if ``half``; in blocks."""
    kind = KINDS[distance]
    blocks = [slice(s, s + BLOCK_GALLERY) for s in range(0, len(gallery), BLOCK_GALLERY)]
    sums, longest = np.zeros(gallery.shape[1]), 0.0
    for block in blocks:
        vectors = _unit(kind, gallery[block])
        sums += vectors.sum(axis=0)
        longest = max(longest, np.linalg.norm(vectors, axis=1).max())
    centre, scale = sums / len(gallery), float(longest) or 1.0
    rounded = np.empty(gallery.shape, np.float32)
    bias, lengths = (np.empty(len(gallery), np.float32) for _ in range(2))
    lost = 0.0
    for block in blocks:
        shifted = (_unit(kind, gallery[block]) - centre) / scale
        rounded[block] = _rounded(shifted, half)
        whole = np.linalg.norm(shifted, axis=1)
        away = np.linalg.norm(shifted - rounded[block], axis=1)
        lost = max(lost, float((away / np.maximum(whole, SMALLEST)).max()))
        bias[block] = -(whole**2) / 2 if kind == 0 else shifted @ (centre / scale)
        lengths[block] = np.maximum(whole, SMALLEST) * (1 + 1e-6)
    largest = float(lengths.max()) if kind == 0 else 1.0
    return Prepared(kind, centre, scale, rounded, bias, lengths, lost, largest, half)


def _unit(kind: int, vectors: np.ndarray) -> np.ndarray:
    """As float64; for the cosine scaled to length 1, where there is any."""
    vectors = vectors.astype(np.float64)
    if kind != KINDS["cosine"]:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _rounded(shifted: np.ndarray, half: bool) -> np.ndarray:
    """(N, D) float32; of values that bfloat16 can hold if ``half``."""
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
    """The k nearest of each query, block by block.

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
        bound left too many, and nothing is said.
    """
    import torch

    threads = torch.get_num_threads()
    exclude = bool((subjects >= 0).any())
    # Threads and matrices of one size for all blocks: memory does not grow with the gallery.
    scores = torch.empty(min(BLOCK_QUERIES, len(queries)) * min(BLOCK_GALLERY, len(gallery)))
    with _products(prepared.half), ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(queries), BLOCK_QUERIES):
            part = slice(start, min(start + BLOCK_QUERIES, len(queries)))
            count = part.stop - start
            x, reach, slack = _prepare_queries(prepared, queries[part])
            left, found = _nothing(count, k, CAPACITY), _none(count, k)
            for first in range(0, len(gallery), BLOCK_GALLERY):
                block = slice(first, min(first + BLOCK_GALLERY, len(gallery)))
                product = scores[: count * (block.stop - first)].view(count, -1)
                torch.mm(x, torch.from_numpy(prepared.rounded[block]).T, out=product)
                of_each = product.numpy(), reach, slack, own[part], subjects[part], *left
                of_all = prepared.bias[block], prepared.lengths[block], codes, exclude, first
                _each(pool, threads, compiled(_scan), of_each, of_all)
            arguments = (queries[part], *found, *left), (prepared.kind, gallery)
            _each(pool, threads, compiled(_rank, _distance), *arguments)
            # Too few are also left where a query is not comparable in float32.
            decided = (left[-1] >= k) & np.isfinite(reach) & np.isfinite(slack)
            if prepared.kind == KINDS["cosine"]:
                decided &= queries[part].any(axis=1)  # zero vectors have a rule of their own
            yield part, *found, decided


@contextmanager
def _products(half: bool) -> Iterator[None]:
    """Let float32 be multiplied as bfloat16: of rounded values, that changes nothing."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if half else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _prepare_queries(prepared: Prepared, queries: np.ndarray) -> tuple:
    """Rounded queries (N, D), and of each how far its scores reach.

    A score is off by at most reach * length + slack:
    |x.g - x~.g~| <= |x - x~| |g| + |x~| |g - g~|, and sums of D products in float32 by D 2^-24.
    """
    import torch

    unit = _unit(prepared.kind, queries)
    shifted = (unit - prepared.centre) / prepared.scale
    with np.errstate(over="ignore", invalid="ignore"):  # these are decided otherwise
        x = _rounded(shifted, prepared.half)
        away = np.linalg.norm(shifted - x, axis=1)
        length = np.linalg.norm(x.astype(np.float64), axis=1)
        sums = queries.shape[1] * 2.0**-23
        reach = (away + length * (prepared.lost + sums)) * (1 + 1e-6)
        whole = np.linalg.norm(shifted if prepared.kind == 0 else unit / prepared.scale, axis=1)
        slack = SLACK * (whole + length + prepared.largest) ** 2
        if prepared.kind == KINDS["cosine"]:
            slack += ROUNDED_COSINE / prepared.scale**2
        return torch.from_numpy(x), reach.astype(np.float32), slack.astype(np.float32)


def _nothing(count: int, k: int, capacity: int) -> tuple:
    """What is left of queries before a search: their k best lower bounds, largest first; rows of
    candidates and their upper bounds; how many these are."""
    lower = np.full((count, k), -np.inf, np.float32)
    rows, upper = np.empty((count, capacity), np.int64), np.zeros((count, capacity), np.float32)
    return lower, rows, upper, np.zeros(count, np.int64)


def _none(count: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """A ranking of nothing: rows and distances."""
    return np.full((count, k), -1, np.int64), np.full((count, k), np.inf, np.float32)


def _each(
    pool: ThreadPoolExecutor, threads: int, work: Callable, of_each: tuple, of_all: tuple
) -> None:
    """Do ``work`` for parts of the queries, one a thread."""
    count = len(of_each[0])
    parts = [slice(i * count // threads, (i + 1) * count // threads) for i in range(threads)]
    list(pool.map(lambda part: work(*(array[part] for array in of_each), *of_all), parts))


def measured(
    distance: str, queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of given rows (Q, C), -1 for none: (Q, k) rows and float32 distances."""
    lower, _, upper, counts = _nothing(len(rows), k, rows.shape[1])
    rows = -np.sort(-rows, axis=1)  # those that are none last
    counts[:] = (rows >= 0).sum(axis=1)
    found = _none(len(rows), k)
    work = compiled(_rank, _distance)
    work(queries, *found, lower, rows, upper, counts, KINDS[distance], gallery)
    return found


# Plain loops, for blocks.compiled.


def _scan(
    scores,  # (N, B) of a block of the gallery; what it is multiplied with and compared to
    reach,
    slack,
    own,
    subjects,
    lower,  # as _nothing has them
    rows,
    upper,
    counts,
    bias,  # (B,)
    lengths,
    codes,
    exclude,
    first,
):
    k, capacity, columns = lower.shape[1], rows.shape[1], scores.shape[1]
    for i in range(scores.shape[0]):
        least = lower[i, k - 1]  # the kth best score is no less
        line, far = scores[i], reach[i]
        for start in range(0, columns, 64):
            stop = min(start + 64, columns)
            if stop - start == 64:  # written so that it becomes vector instructions
                some, b, length = line[start:stop], bias[start:stop], lengths[start:stop]
                needed = least - slack[i]  # the few roundings are within SLACK
                hits = np.int32(0)
                for j in range(64):
                    high = some[j] + b[j] + far * length[j]
                    hits += np.int32(1) if high >= needed else np.int32(0)
                if hits == 0:
                    continue
            for j in range(start, stop):
                middle, off = line[j] + bias[j], far * lengths[j] + slack[i]
                row = first + j
                if not middle + off >= least or row == own[i]:
                    continue
                if exclude and subjects[i] >= 0 and codes[row] == subjects[i]:
                    continue
                low = middle - off
                if low > least:
                    place = k - 1
                    while place > 0 and lower[i, place - 1] < low:
                        lower[i, place] = lower[i, place - 1]
                        place -= 1
                    lower[i, place] = low
                    least = lower[i, k - 1]
                if counts[i] == capacity:
                    kept = 0
                    for c in range(capacity):
                        if upper[i, c] >= least:
                            rows[i, kept], upper[i, kept] = rows[i, c], upper[i, c]
                            kept += 1
                    counts[i] = kept
                if counts[i] == capacity:  # given up
                    least = np.float32(np.inf)
                    for place in range(k):
                        lower[i, place] = least
                    counts[i] = 0
                    break
                rows[i, counts[i]], upper[i, counts[i]] = row, middle + off
                counts[i] += 1


def _rank(queries, found, distances, lower, rows, upper, counts, kind, gallery):
    k = found.shape[1]
    for i in range(rows.shape[0]):
        for c in range(counts[i]):
            if upper[i, c] < lower[i, k - 1]:
                continue
            row = rows[i, c]
            distance = np.float32(_distance(kind, queries[i], gallery[row]))
            place = k
            while place > 0 and (
                found[i, place - 1] < 0
                or distance < distances[i, place - 1]
                or (distance == distances[i, place - 1] and row < found[i, place - 1])
            ):
                place -= 1
            if place < k:
                for later in range(k - 1, place, -1):
                    found[i, later] = found[i, later - 1]
                    distances[i, later] = distances[i, later - 1]
                found[i, place], distances[i, place] = row, distance


def _distance(kind, a, b):
    """In float64, as :mod:`cbir_lib.retrieval.distances` has it."""
    product, first, second = 0.0, 0.0, 0.0
    if kind == 0:
        for d in range(a.shape[0]):
            apart = np.float64(a[d]) - np.float64(b[d])
            product += apart * apart
        return np.sqrt(product)
    for d in range(a.shape[0]):
        x, y = np.float64(a[d]), np.float64(b[d])
        product += x * y
        first += x * x
        second += y * y
    if kind == 2:
        return -product
    if first == 0 and second == 0:
        return 0.0
    if first == 0 or second == 0:
        return 1.0
    cosine = product / (np.sqrt(first) * np.sqrt(second))
    return min(max(np.round((1 - cosine) * 1e9) / 1e9, 0.0), 2.0)

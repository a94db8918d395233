"""Compiled loops of the exact search (:func:`cbir_lib.loops.compile_loops`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Queries(NamedTuple):
    """What a scan needs to know of N queries; a score is off by at most reach * length + slack."""

    reach: np.ndarray  # (N,) float32
    slack: np.ndarray  # (N,) float32
    level: np.ndarray  # (N,) float32, what was taken away from the scores
    own: np.ndarray  # (N,) int64, a row of the gallery that the query does not find, or -1
    subjects: np.ndarray  # (N,) int64, a query does not find what has its number; or -1


class Candidates(NamedTuple):
    """What a search has kept for N queries so far, at most C candidates each."""

    lower: np.ndarray  # (N, k) float32, the k best lower bounds of scores, largest first
    rows: np.ndarray  # (N, C) int64
    upper: np.ndarray  # (N, C) float32, upper bounds of the rows' scores
    counts: np.ndarray  # (N,) int64, how many of the C there are


class Block(NamedTuple):
    """B rows of the gallery, and the subjects of all G."""

    lengths: np.ndarray  # (B,) float32
    codes: np.ndarray  # (G,) int64
    exclude: bool  # whether any query has a subject
    first: int  # row of the gallery at which the block begins


ROUNDED = 2.0**-8 * 1.01  # share of a product that bfloat16 takes away at most


def scan(scores: np.ndarray, queries: Queries, candidates: Candidates, block: Block) -> None:
    """Keep the rows of a block of the gallery that may be among the k nearest of each query.

    ``scores`` (N, B) are the products of queries and block: int16, the bits of bfloat16, or int32,
    those of float32.
    """
    reach, slack, level, own, subjects = queries
    lower, rows, upper, counts = candidates
    lengths, codes, exclude, first = block
    k, capacity, columns = lower.shape[1], rows.shape[1], scores.shape[1]
    half = scores.itemsize == 2  # the upper half of a float32
    shift, away = np.int32(16 if half else 0), np.float32(ROUNDED if half else 0)
    bits = np.empty(64, np.int32)
    some = bits.view(np.float32)
    for i in range(scores.shape[0]):
        threshold = lower[i, k - 1]  # the kth best score is no less
        line, far = scores[i], reach[i]
        for start in range(0, columns, 64):
            stop = min(start + 64, columns)
            for j in range(start, stop):
                bits[j - start] = np.int32(line[j]) << shift
            if stop - start == 64:  # written so that it becomes vector instructions
                length = lengths[start:stop]
                needed = threshold - slack[i] - level[i]  # the few roundings are within SLACK
                hits = np.int32(0)
                for j in range(64):
                    high = some[j] + away * abs(some[j]) + far * length[j]
                    hits += np.int32(1) if high >= needed else np.int32(0)
                if hits == 0:
                    continue
            for j in range(start, stop):
                score = some[j - start]
                middle = score + level[i]
                off = away * abs(score) + far * lengths[j] + slack[i]
                row = first + j
                if not middle + off >= threshold or row == own[i]:
                    continue
                if exclude and subjects[i] >= 0 and codes[row] == subjects[i]:
                    continue
                low = middle - off
                if low > threshold:
                    place = k - 1
                    while place > 0 and lower[i, place - 1] < low:
                        lower[i, place] = lower[i, place - 1]
                        place -= 1
                    lower[i, place] = low
                    threshold = lower[i, k - 1]
                if counts[i] == capacity:
                    kept = 0
                    for c in range(capacity):
                        if upper[i, c] >= threshold:
                            rows[i, kept], upper[i, kept] = rows[i, c], upper[i, c]
                            kept += 1
                    counts[i] = kept
                if counts[i] == capacity:  # given up
                    threshold = np.float32(np.inf)
                    for place in range(k):
                        lower[i, place] = threshold
                    counts[i] = 0
                    break
                rows[i, counts[i]], upper[i, counts[i]] = row, middle + off
                counts[i] += 1


def rank(
    queries: np.ndarray,
    nearest: np.ndarray,
    distances: np.ndarray,
    candidates: Candidates,
    kind: int,
    gallery: np.ndarray,
) -> None:
    """Measure the candidates of (N, D) queries and fill their (N, k) rows and distances."""
    lower, rows, upper, counts = candidates
    k = nearest.shape[1]
    for i in range(rows.shape[0]):
        for c in range(counts[i]):
            if upper[i, c] < lower[i, k - 1]:
                continue
            row = rows[i, c]
            distance = np.float32(measure(kind, queries[i], gallery[row]))
            place = k
            while place > 0 and (
                nearest[i, place - 1] < 0
                or distance < distances[i, place - 1]
                or (distance == distances[i, place - 1] and row < nearest[i, place - 1])
            ):
                place -= 1
            if place < k:
                for later in range(k - 1, place, -1):
                    nearest[i, later] = nearest[i, later - 1]
                    distances[i, later] = distances[i, later - 1]
                nearest[i, place], distances[i, place] = row, distance


def measure(kind, a, b):
    """Compute one distance in float64, as :mod:`cbir_lib.retrieval.distances` does."""
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

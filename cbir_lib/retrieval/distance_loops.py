"""Compiled loops of distances (:func:`cbir_lib.loops.compile_loops`).

Each compares queries (Q, D) with a block (B, D) of the gallery, and writes its columns of
``distances`` (Q, G), from ``first`` on. Sums are of float64, so that their order, which depends on
the processor, leaves float32 as it is in all but rare cases; it is the same for every pair.
"""

from __future__ import annotations

import numpy as np


def add_absolute_differences(queries, block, first, distances) -> None:
    """Write the sums of absolute differences."""
    for i in range(queries.shape[0]):
        query = queries[i]
        for j in range(block.shape[0]):
            row, total = block[j], 0.0
            for d in range(query.shape[0]):
                total += abs(np.float64(query[d]) - np.float64(row[d]))
            distances[i, first + j] = total


def add_squared_differences(queries, block, first, distances) -> None:
    """Write the roots of the sums of squared differences."""
    for i in range(queries.shape[0]):
        query = queries[i]
        for j in range(block.shape[0]):
            row, total = block[j], 0.0
            for d in range(query.shape[0]):
                difference = np.float64(query[d]) - np.float64(row[d])
                total += difference * difference
            distances[i, first + j] = np.sqrt(total)


def add_relative_differences(queries, block, first, distances) -> None:
    """Write the sums of squared differences, each divided by the sum of the two values."""
    tiny = np.float32(np.finfo(np.float32).tiny)
    for i in range(queries.shape[0]):
        query = queries[i]
        for j in range(block.shape[0]):
            row, total = block[j], 0.0
            for d in range(query.shape[0]):
                difference = query[d] - row[d]
                share = difference / max(query[d] + row[d], tiny)
                total += np.float64(share * difference)
            distances[i, first + j] = total


TOGETHER = 32  # bins whose terms are added up in float32, before they are in float64
LN_2 = np.float32(np.log(2))
ROOT_HALF = 0x3F3504F3  # the bits of float32 for the root of 1/2
FRACTION_BITS = 23  # of float32


def add_divergences(queries, entropies, bins, block_entropies, first, distances) -> None:
    """Write the sums of p ln p + q ln q - 2 m ln m, m being the mean of p and q.

    The entropies are those of :func:`write_entropy_terms`, so that equal vectors have exactly 0.
    ``bins`` and their entropies are (D, B), one row for each bin of the whole block.
    """
    half = np.float32(0.5)
    part = np.empty(bins.shape[1], np.float32)
    totals = np.zeros((queries.shape[0], bins.shape[1]))
    for start in range(0, bins.shape[0], TOGETHER):  # so few rows stay in the cache
        for i in range(queries.shape[0]):
            part[:] = 0
            for d in range(start, min(start + TOGETHER, bins.shape[0])):
                p, p_ln_p, row, q_ln_q = queries[i, d], entropies[i, d], bins[d], block_entropies[d]
                if p == 0:  # what is left is q ln 2
                    for j in range(part.shape[0]):
                        part[j] += LN_2 * row[j]
                else:
                    for j in range(part.shape[0]):
                        mean = (p + row[j]) * half
                        term = mean * take_logarithm(mean)
                        part[j] += (p_ln_p + q_ln_q[j]) - (term + term)
            for j in range(part.shape[0]):
                totals[i, j] += part[j]
    for i in range(queries.shape[0]):
        for j in range(part.shape[0]):
            distances[i, first + j] = max(totals[i, j], 0.0)


def write_entropy_terms(values, terms) -> None:
    """Write p ln p of each of (N, D) values, where 0 ln 0 is 0."""
    for i in range(values.shape[0]):
        for d in range(values.shape[1]):
            terms[i, d] = values[i, d] * take_logarithm(values[i, d])


def take_logarithm(value):
    """Return the natural logarithm of a float32 from 0 on, of 0 some finite number.

    Written out, because compilers call a function for each value instead of taking several at
    a time. With value = 2^e f, f between the roots of 1/2 and of 2, it is e ln 2 + 2 artanh(s),
    s = (f - 1) / (f + 1), by five terms of the series; the next is below 2e-9 of the sum.
    """
    bits = np.float32(value).view(np.int32)
    exponent = np.int32(np.int32(bits - np.int32(ROOT_HALF)) >> np.int32(FRACTION_BITS))
    scaled = np.int32(bits - np.int32(exponent << np.int32(FRACTION_BITS))).view(np.float32)
    s = (scaled - np.float32(1)) / (scaled + np.float32(1))
    z = s * s
    series = np.float32(2 / 7) + z * np.float32(2 / 9)
    series = np.float32(2 / 3) + z * (np.float32(2 / 5) + z * series)
    return np.float32(exponent) * LN_2 + (s * np.float32(2) + s * z * series)

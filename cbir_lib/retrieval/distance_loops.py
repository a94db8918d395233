"""Compiled loops of distances (:func:`cbir_lib.descriptors.blocks.compile_loops`).

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

"""Compiled loops of Haralick's features (:func:`cbir_lib.loops.compile_loops`)."""

from __future__ import annotations

import math


def count_pairs(level, directions, counts):
    """Count pairs of (N, H, W) uint8 levels for F directions, (N, F, L, L) int32."""
    number, height, width = level.shape
    for n in range(number):
        for d in range(len(directions)):
            down, right = directions[d]
            left = max(0, -right)
            for y in range(height - down):
                here, there = level[n, y, left:], level[n, y + down, left + right :]
                for x in range(width - abs(right)):
                    counts[n, d, here[x], there[x]] += 1


def sum_entries(counts, margin, sums, differences, squares, entropy):
    """Add up the entries of (N, F, L, L) counts to the arrays of ``haralick.Sums``."""
    number, directions, levels, _ = counts.shape
    for n in range(number):
        for d in range(directions):
            count = counts[n, d]
            pairs = 2 * count.sum()
            for i in range(levels):
                for j in range(i + 1):
                    both = count[i, j] + count[j, i]
                    if both == 0:
                        continue
                    p = both / pairs
                    margin[n, d, i] += p
                    times = 1
                    if i != j:  # p[j, i] is the same
                        margin[n, d, j] += p
                        times = 2
                    sums[n, d, i + j] += times * p
                    differences[n, d, i - j] += times * p
                    squares[n, d] += times * p * p
                    entropy[n, d] -= times * p * math.log(p)

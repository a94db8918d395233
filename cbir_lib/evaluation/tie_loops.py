"""Compiled loops over rankings with ties (:func:`cbir_lib.loops.compile_loops`).

Each goes once through the ``distances`` (Q, K) of whole rankings, ascending in each row, and takes
the items at one distance together.
"""

from __future__ import annotations


def average_gains(gains, distances) -> None:
    """Replace ``gains`` (Q, K) by their means over the items at the same distance."""
    length = gains.shape[1]
    for q in range(gains.shape[0]):
        start = 0
        while start < length:
            end, total = start + 1, gains[q, start]
            while end < length and distances[q, end] == distances[q, start]:
                total += gains[q, end]
                end += 1
            if end - start > 1:
                gains[q, start:end] = total / (end - start)
            start = end


def add_precisions(relevant, distances, sums) -> None:
    """Write the sums (Q,) of the expected precisions at the ranks of ``relevant`` (Q, K) items."""
    length = relevant.shape[1]
    for q in range(relevant.shape[0]):
        start, before, total = 0, 0, 0.0
        while start < length:
            end, hits = start + 1, int(relevant[q, start])
            while end < length and distances[q, end] == distances[q, start]:
                hits += int(relevant[q, end])
                end += 1
            if hits:
                size = end - start
                others = (hits - 1) / max(size - 1, 1)  # relevant, of each further item
                for place in range(size):
                    total += (before + 1 + place * others) / (start + place + 1) * (hits / size)
            before += hits
            start = end
        sums[q] = total

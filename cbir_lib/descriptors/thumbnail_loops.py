"""Compiled loops of the image distortion (:func:`cbir_lib.loops.compile_loops`)."""

from __future__ import annotations

import numpy as np


def sum_least(
    here: np.ndarray,
    there: np.ndarray,
    warp: int,
    context: int,
    outside: np.ndarray,
    distances: np.ndarray,
) -> None:
    """Add up the least sums of (Q, 2, H', W') and (G, 2, H', W') padded gradients, (Q, G).

    Rows follow one another, so that one loop without a branch goes over a whole thumbnail; what
    lies in the margins is computed and not used.
    """
    stride = here.shape[3]
    height, width = here.shape[2] - 2 * (warp + context), stride - 2 * (warp + context)
    first = warp * stride + warp  # where the context of the pixel at the upper left begins
    rows = height + 2 * context
    apart = np.empty(rows * stride, np.float32)
    sums = np.empty(rows * stride, np.float32)
    best_sums = np.empty(height * stride, np.float32)
    columns = np.empty(width, np.float32)
    for q in range(len(here)):
        for g in range(len(there)):
            best_sums[:] = np.inf
            for down in range(max(-warp, 1 - height), min(warp, height - 1) + 1):
                top, bottom = max(0, -down), min(height, height - down)
                start = first + top * stride
                a = here[q, 0].reshape(-1)[start:]
                b = here[q, 1].reshape(-1)[start:]
                best = best_sums[top * stride :]
                for right in range(-warp, warp + 1):
                    c = there[g, 0].reshape(-1)[start + down * stride + right :]
                    d = there[g, 1].reshape(-1)[start + down * stride + right :]
                    number = (bottom - top + 2 * context) * stride - 2 * warp
                    for i in range(number):
                        x, y = a[i] - c[i], b[i] - d[i]
                        apart[i] = x * x + y * y
                    number -= 2 * context * stride
                    for i in range(number):
                        sums[i] = apart[i]
                    for k in range(1, 2 * context + 1):
                        below = apart[k * stride :]
                        for i in range(number):
                            sums[i] += below[i]
                    number -= 2 * context
                    for i in range(number):
                        apart[i] = sums[i]
                    for k in range(1, 2 * context + 1):
                        beside = sums[k:]
                        for i in range(number):
                            apart[i] += beside[i]
                    wall = outside[right + warp]
                    for i in range(number):
                        x = apart[i] + wall[i]
                        best[i] = x if x < best[i] else best[i]
            columns[:] = 0
            for y in range(height):
                row = best_sums[y * stride :]
                for x in range(width):
                    columns[x] += row[x]
            distances[q, g] = columns.sum()

"""Compiled loops of the Gabor filters (:func:`cbir_lib.loops.compile_loops`)."""

from __future__ import annotations

import numpy as np


def compute_spectra(products: np.ndarray, spectra: np.ndarray) -> None:
    """Turn (B, 2 P, 2 P) products with cosines and sines into (B, 2, 2, 2 P - 1, 2 P - 1) spectra.

    Index ``[image, mirrored, imaginary, v + P - 1, u + P - 1]``; mirrored is u with its sign
    changed, so that :func:`fold_band` reads in one direction only.
    """
    count = products.shape[1] // 2
    for image in range(len(products)):
        for v in range(count):
            cos_cos, cos_sin = products[image, v, :count], products[image, v, count:]
            sin_cos, sin_sin = (
                products[image, v + count, :count],
                products[image, v + count, count:],
            )
            for sign in (-1, 1):
                s, row = np.float32(sign), count - 1 + sign * v
                plain, mirrored = spectra[image, 0, :, row], spectra[image, 1, :, row]
                for u in range(count):
                    plain[0, u + count - 1] = cos_cos[u] - s * sin_sin[u]
                for u in range(count):
                    plain[1, u + count - 1] = -s * sin_cos[u] - cos_sin[u]
                for u in range(count):
                    mirrored[0, u + count - 1] = cos_cos[u] + s * sin_sin[u]
                for u in range(count):
                    mirrored[1, u + count - 1] = cos_sin[u] - s * sin_cos[u]
        for part in range(2):
            for row in range(2 * count - 1):
                plain, mirrored = spectra[image, 0, part, row], spectra[image, 1, part, row]
                for u in range(1, count):
                    plain[count - 1 - u] = mirrored[count - 1 + u]
                    mirrored[count - 1 - u] = plain[count - 1 + u]


def fold_band(
    spectra: np.ndarray, row: int, column: int, gains: np.ndarray, folded: np.ndarray
) -> None:
    """Fold a filter's band to the (B, 2, 2 K + 1, 2 L + 1) factors of its real and imaginary part.

    Rows belong to K + 1 cosines and K sines down, columns to L + 1 cosines and L sines across.
    """
    most_k, most_l = gains.shape[1] - 1, gains.shape[2] - 1
    middle = spectra.shape[3] // 2
    for image in range(len(spectra)):
        for k in range(most_k + 1):
            for part in range(2):
                a = spectra[image, 0, part, middle + row + k, middle + column :]
                b = spectra[image, 0, part, middle + row - k, middle + column :]
                c = spectra[image, 1, part, middle + row + k, middle - column :]
                d = spectra[image, 1, part, middle + row - k, middle - column :]
                e, f, g, h = gains[0, k], gains[1, k], gains[2, k], gains[3, k]
                # A sine comes with i, two of them with -1: a part goes to the other, its sign
                # changed if imaginary.
                sign = np.float32(1 - 2 * part)
                to = folded[image, part, k]
                for n in range(most_l + 1):
                    to[n] = (e[n] * a[n] + f[n] * b[n]) + (g[n] * c[n] + h[n] * d[n])
                to = folded[image, 1 - part, k, most_l:]
                for n in range(1, most_l + 1):
                    to[n] = sign * ((e[n] * a[n] + f[n] * b[n]) - (g[n] * c[n] + h[n] * d[n]))
                if k > 0:
                    to = folded[image, 1 - part, most_k + k]
                    for n in range(most_l + 1):
                        to[n] = sign * ((e[n] * a[n] - f[n] * b[n]) + (g[n] * c[n] - h[n] * d[n]))
                    to = folded[image, part, most_k + k, most_l:]
                    for n in range(1, most_l + 1):
                        to[n] = (f[n] * b[n] - e[n] * a[n]) + (g[n] * c[n] - h[n] * d[n])


def summarise_magnitudes(responses: np.ndarray, summaries: np.ndarray) -> None:
    """Compute mean, deviation, least and greatest magnitude of (B, 2, H, W) responses, (B, 4)."""
    # Sums of columns first: the compiler must add up a row in the order written.
    _, _, height, width = responses.shape
    magnitudes = np.empty((height, width), np.float32)
    total, squares, lowest, highest = np.empty((4, width), np.float32)
    for image in range(len(responses)):
        total[:], squares[:], lowest[:], highest[:] = 0, 0, np.inf, 0
        for y in range(height):
            real, imaginary, row = responses[image, 0, y], responses[image, 1, y], magnitudes[y]
            for x in range(width):
                row[x] = np.sqrt(real[x] * real[x] + imaginary[x] * imaginary[x])
            for x in range(width):
                total[x] += row[x]
            for x in range(width):
                lowest[x] = row[x] if row[x] < lowest[x] else lowest[x]
            for x in range(width):
                highest[x] = row[x] if row[x] > highest[x] else highest[x]
        mean = np.float32(total.sum() / (height * width))
        for y in range(height):
            row = magnitudes[y]
            for x in range(width):
                squares[x] += (row[x] - mean) * (row[x] - mean)
        summaries[image, 0] = mean
        summaries[image, 1] = np.sqrt(squares.sum() / (height * width))
        summaries[image, 2] = lowest.min()
        summaries[image, 3] = highest.max()


def count_above(responses: np.ndarray, edges: np.ndarray, counts: np.ndarray) -> None:
    """Count the magnitudes of (B, 2, H, W) responses above each of E edges, (B, E)."""
    _, _, height, width = responses.shape
    magnitudes = np.empty((height, width), np.float32)
    above = np.empty(width, np.int32)
    for image in range(len(responses)):
        for y in range(height):
            real, imaginary, row = responses[image, 0, y], responses[image, 1, y], magnitudes[y]
            for x in range(width):
                row[x] = np.sqrt(real[x] * real[x] + imaginary[x] * imaginary[x])
        for number in range(len(edges)):
            above[:] = 0
            edge = edges[number]
            for y in range(height):
                row = magnitudes[y]
                for x in range(width):
                    above[x] += row[x] > edge
            counts[image, number] = above.sum()

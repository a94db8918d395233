"""Compiled loops of Tamura's maps (:func:`cbir_lib.loops.compile_loops`)."""

from __future__ import annotations

import math

import numpy as np


def bin_jointly(maps, low, width, bins, edge, codes):
    """Scale three (N, H, W) maps to 0..1 and cut them into the bins of one joint histogram."""
    number, height, columns = codes.shape
    for n in range(number):
        for y in range(height):
            for x in range(columns):
                code = 0
                for i in (2, 1, 0):
                    scaled = (maps[i, n, y, x] - low[i, n]) / width[i, n]
                    code = code * bins + min(np.int32(scaled * bins + edge), bins - 1)
                codes[n, y, x] = code


def compute_slope(images, slope):
    """Compute dV / dH, NaN where dH is 0."""
    number, height, width = images.shape
    grey = np.zeros((height + 2, width + 2), np.float32)
    two, nothing = np.float32(2), np.float32(np.nan)
    for n in range(number):
        grey[1:-1, 1:-1] = images[n]
        for y in range(height):
            up, here, low = grey[y], grey[y + 1], grey[y + 2]
            for x in range(width):
                dh = up[x + 2] - up[x] + two * (here[x + 2] - here[x]) + low[x + 2] - low[x]
                dv = up[x] - low[x] + two * (up[x + 1] - low[x + 1]) + up[x + 2] - low[x + 2]
                slope[n, y, x] = dv / dh if dh else nothing


def compute_coarseness(images, scales, coarseness):
    """Find the scale at which neighbouring windows differ most."""
    number, height, width = images.shape
    margin = 2 ** (scales - 1)
    sums = np.zeros((height + 2 * margin + 1, width + 2 * margin + 1), np.int32)
    means, most = np.empty((2, height, width), np.float32)
    difference, columns = np.empty((2, width), np.float32)
    for n in range(number):
        integrate(images[n], margin, sums)
        most[:] = 0
        coarseness[n] = 0
        for k in range(1, scales + 1):
            half = 2 ** (k - 1)
            level = np.float32(k)
            for x in range(width):
                columns[x] = min(x + half, width) - max(x - half, 0)
            for y in range(height):
                rows = np.float32(min(y + half, height) - max(y - half, 0))
                above, below = sums[y + margin - half], sums[y + margin + half]
                a, b = above[margin - half :], above[margin + half :]
                c, d = below[margin - half :], below[margin + half :]
                mean = means[y]
                for x in range(width):
                    # Only the difference has to fit 32 bits.
                    mean[x] = np.float32(np.int32(d[x] - c[x] - b[x] + a[x])) / (rows * columns[x])
            for y in range(height):
                difference[:] = 0
                if width > 2 * half:
                    a, b, inner = means[y], means[y, 2 * half :], difference[half:]
                    for x in range(width - 2 * half):
                        inner[x] = abs(b[x] - a[x])
                if half <= y < height - half:
                    a, b = means[y - half], means[y + half]
                    for x in range(width):
                        difference[x] = max(difference[x], abs(b[x] - a[x]))
                for x in range(width):
                    more = difference[x] > most[y, x]
                    coarseness[n, y, x] = level if more else coarseness[n, y, x]
                    most[y, x] = max(difference[x], most[y, x])


def integrate(image, margin, sums):
    """Sum all pixels above and to the left, in an image with a margin of zeros."""
    height, width = image.shape
    for y in range(height):
        above, here = sums[y + margin], sums[y + margin + 1]
        total = 0
        for x in range(width):
            total += image[y, x]
            here[x + margin + 1] = above[x + margin + 1] + total
        here[width + margin + 1 :] = here[width + margin]
    sums[height + margin + 1 :] = sums[height + margin]


def compute_contrast(images, side, contrast):
    """Compute the contrast from sums of powers of v - 128, which are whole numbers.

    n^2 times the variance, and n^4 times the fourth moment up to the last bits, follow without a
    division.
    """
    number, height, width = images.shape
    margin = side // 2
    columns = np.empty((4, width))  # sums of the powers over the window's rows
    runs = np.zeros((4, width + side))  # and over all columns to the left
    left, right = runs[:, :width], runs[:, side:]
    across = np.empty(width)  # columns of the window in the image
    for x in range(width):
        across[x] = min(x + margin, width - 1) - max(x - margin, 0) + 1
    for i in range(number):
        columns[:] = 0
        for y in range(-margin, height):
            if y + margin < height:
                add_powers(images[i, y + margin], 1.0, columns)
            if y > margin:
                add_powers(images[i, y - margin - 1], -1.0, columns)
            if y < 0:
                continue
            accumulate(columns, margin, runs)
            rows = min(y + margin, height - 1) - max(y - margin, 0) + 1
            for x in range(width):
                n = rows * across[x]
                s1, s2 = right[0, x] - left[0, x], right[1, x] - left[1, x]
                s3, s4 = right[2, x] - left[2, x], right[3, x] - left[3, x]
                variance = n * s2 - s1 * s1
                fourth = n * n * (n * s4 - 4 * s3 * s1) + s1 * s1 * (6 * n * s2 - 3 * s1 * s1)
                # Where the window is flat, the variance is 0 exactly; else the moment is 1 or more.
                root = math.sqrt(math.sqrt(max(fourth, 1.0)))
                contrast[i, y, x] = variance / (255 * n * root)


def add_powers(row, sign, columns):
    """Add the first to fourth powers of a row, with a sign."""
    for x in range(len(row)):
        v = float(row[x]) - 128
        columns[0, x] += sign * v
        columns[1, x] += sign * (v * v)
        columns[2, x] += sign * (v * v * v)
        columns[3, x] += sign * (v * v * v * v)


def accumulate(columns, margin, runs):
    """Sum from the left, over columns with a margin of zeros."""
    width = columns.shape[1]
    a = b = c = d = 0.0
    for x in range(width):
        a += columns[0, x]
        b += columns[1, x]
        c += columns[2, x]
        d += columns[3, x]
        i = x + margin + 1
        runs[0, i], runs[1, i], runs[2, i], runs[3, i] = a, b, c, d
    for p in range(4):
        runs[p, width + margin + 1 :] = runs[p, width + margin]

"""Compiled loops of local binary patterns (:func:`cbir_lib.loops.compile_loops`)."""

from __future__ import annotations

import numpy as np


def find_patterns(images, places, fractions, tolerance, bin_of_ones, turned, patterns):
    """Find the bins of (N, H, W) uint8 images, row by row.

    ``places`` are the pixels above and left of the neighbours, counted from the corner of a margin
    that repeats the outermost pixels; ``fractions`` are what remains of the way.
    """
    number, height, width = images.shape
    neighbours, margin = len(places), places[0, 0]  # the first is straight to the right
    several = bin_of_ones[-1] + 1
    grey = np.empty((height + 2 * margin + 1, width + 2 * margin + 1), np.float32)
    ones, starts, first, last = np.zeros((4, width), np.int32)
    for n in range(number):
        repeat_border(images[n], margin, grey)
        for y in range(height):
            here = grey[y + margin, margin:]
            ones[:] = starts[:] = first[:] = 0
            for i in range(-1, neighbours):  # the last neighbour comes before the first
                down, right = fractions[i]
                above = grey[y + places[i, 0], places[i, 1] :]
                below = grey[y + places[i, 0] + 1, places[i, 1] :]
                for x in range(width):
                    upper = above[x] + right * (above[x + 1] - above[x])
                    lower = below[x] + right * (below[x + 1] - below[x])
                    bright = np.int32(upper + down * (lower - upper) >= here[x] - tolerance)
                    if i >= 0:
                        begins = bright & ~last[x]
                        ones[x] += bright
                        starts[x] += begins
                        first[x] += begins * turned[i]
                    last[x] = bright
            for x in range(width):
                patterns[n, y, x] = several if starts[x] > 1 else bin_of_ones[ones[x]] + first[x]


def repeat_border(image, margin, grey):
    """Continue an image by its outermost pixels."""
    height, width = image.shape
    for y in range(len(grey)):
        row = image[min(max(y - margin, 0), height - 1)]
        grey[y, :margin] = row[0]
        grey[y, margin : margin + width] = row
        grey[y, margin + width :] = row[-1]

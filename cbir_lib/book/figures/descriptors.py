"""Figures of single descriptors: what they see in an image, and what their settings change."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from cbir_lib.book.figures.described import described
from cbir_lib.book.figures.palette import (
    CHOSEN,
    CLASS_COLOURS,
    HANDCRAFTED,
    INK,
    LINE,
    MARKED,
    QUIET,
)
from cbir_lib.book.figures.style import (
    WIDTH_IN,
    align_ends,
    draw_frame,
    name_columns,
    name_rows,
    show_image,
)
from cbir_lib.study.results import Result


@described
def plot_parameter_effect(result: Result) -> Figure:
    """Plot the validation accuracy of every candidate against the values of each parameter."""
    grid = {
        name: sorted(values, key=_order_value)
        for name, values in result.parameters["grid"].items()
        if len(values) > 1
    }
    figure, axes = plt.subplots(
        1, len(grid), figsize=(WIDTH_IN, 2.9), layout="constrained", sharey=True, squeeze=False,
        width_ratios=[len(values) for values in grid.values()],
    )  # fmt: skip
    for place, (name, values) in zip(axes[0], grid.items(), strict=True):
        means = []
        for x, value in enumerate(values):
            here = [c for c in result.candidates if c.settings[name] == value]
            means.append(100 * np.mean([c.accuracy for c in here]))
            for candidate in here:
                best = candidate is result.chosen
                place.plot(
                    x,
                    100 * candidate.accuracy,
                    "*" if best else "o",
                    color=CHOSEN if best else HANDCRAFTED,
                    markersize=13 if best else 6,
                    alpha=1 if best else 0.7,
                    zorder=3 if best else 2,
                )
        place.plot(means, "-", color=QUIET, lw=1, zorder=1)
        names = [str(value).replace("-", "-\n") for value in values]
        place.set(xticks=range(len(values)), xticklabels=names, xlabel=name.replace("_", " "))
        place.margins(x=0.25)
    # A difference of an image or two must not look like one that counts.
    low, high = axes[0, 0].get_ylim()
    span = max(8, 1.1 * (high - low))
    high = min(101, (low + high + span) / 2)  # nothing is above 100 %, but a star needs room
    axes[0, 0].set_ylim(high - span, high)
    axes[0, 0].set_ylabel("validation accuracy (%)")
    return figure


def _order_value(value: object) -> float:
    """Sort numbers by their size, and keep the order of all other values."""
    return value if isinstance(value, int | float) else 0


@described
def plot_cell_histograms(
    rows: Mapping[str, np.ndarray], whole: np.ndarray, cells: np.ndarray, ranges: int = 256
) -> Figure:
    """Plot images in rows: the image cut into cells, its histogram, and the histogram of each cell.

    Parameters
    ----------
    rows
        (H, W) uint8 by name.
    whole : (N, B)
        Shares of the grey values in each image.
    cells : (N, G, G, B)
        The same for each cell.
    ranges
        Number of grey values.
    """
    grid, bins = cells.shape[1], cells.shape[-1]
    centres = (np.arange(bins) + 0.5) * ranges / bins
    figure = plt.figure(figsize=(WIDTH_IN, 1.75 * len(rows) + 0.4))
    parts = figure.add_gridspec(
        len(rows), 3, width_ratios=(1, 1.5, 1.9), left=0.12, right=0.99, bottom=0.07,
        top=1 - 0.3 / figure.get_figheight(), wspace=0.16, hspace=0.14,
    )  # fmt: skip

    def bars(place, shares: np.ndarray, most: float, last: bool) -> None:
        axes = figure.add_subplot(place)
        axes.bar(centres, shares, ranges / bins, color=LINE, linewidth=0)
        axes.set(xlim=(0, ranges), ylim=(0, 1.05 * most), yticks=[], xticks=[0, ranges - 1])
        axes.tick_params(labelsize=8, labelbottom=last)
        axes.grid(False)
        align_ends(axes)

    for number, (name, image) in enumerate(rows.items()):
        axes = figure.add_subplot(parts[number, 0])
        show_image(axes, image)
        axes.set_ylabel(textwrap.fill(name, 10), rotation=0, ha="right", va="center", fontsize=9)
        for cut in range(1, grid):
            axes.axhline(cut * image.shape[0] / grid - 0.5, color=MARKED, lw=1)
            axes.axvline(cut * image.shape[1] / grid - 0.5, color=MARKED, lw=1)
        bars(parts[number, 1], whole[number], whole.max(), number == len(rows) - 1)
        inner = parts[number, 2].subgridspec(grid, grid, wspace=0.08, hspace=0.12)
        for y in range(grid):
            for x in range(grid):
                last = y == grid - 1 and number == len(rows) - 1
                bars(inner[y, x], cells[number, y, x], cells.max(), last)
    for column, title in enumerate(("image", "its histogram", "the histograms of its cells")):
        place = parts[0, column].get_position(figure)
        figure.text(
            (place.x0 + place.x1) / 2, 1 - 0.08 / figure.get_figheight(), title,
            ha="center", va="top", fontsize=9,
        )  # fmt: skip
    return figure


@described
def plot_grey_histograms(
    images: Sequence[np.ndarray],
    curves: Mapping[str, np.ndarray],
    cells: Mapping[str, Sequence[np.ndarray]],
    columns: Sequence[str],
) -> Figure:
    """Plot images, their histograms as curves, and rows of the grey values of their cells.

    Parameters
    ----------
    images
        (H, W) uint8.
    curves : (N, B)
        Shares of the grey values in each image, by name.
    cells
        (G, G) for each image, 0 black to 255 white, by name.
    columns
        A name for each image.
    """
    side = (WIDTH_IN - 1.1) / len(images)
    figure, axes = plt.subplots(
        2 + len(cells), len(images), squeeze=False,
        figsize=(WIDTH_IN, side * (2 + len(cells)) + 0.95),
    )  # fmt: skip
    for place, image in zip(axes[0], images, strict=True):
        show_image(place, image)
    name_columns(axes[0], columns)
    for number, place in enumerate(axes[1]):
        for (name, shares), style in zip(curves.items(), cycle(("-", "--", ":")), strict=False):
            grey = (np.arange(shares.shape[1]) + 0.5) * 256 / shares.shape[1]
            place.plot(grey, shares[number], style, label=name, lw=1.4)
        low = min(shares[shares > 0].min() for shares in curves.values())
        place.set(yscale="log", xlim=(0, 256), ylim=(0.8 * low, 1.3), xticks=[0, 255])
        place.set_box_aspect(1)
        place.tick_params(labelsize=8, labelleft=number == 0, pad=1)
        place.minorticks_off()
        align_ends(place)
    for line, values in zip(axes[2:], cells.values(), strict=True):
        for place, panel in zip(line, values, strict=True):
            show_image(place, panel)
    name_rows(axes[:, 0], ("image", "share of pixels", *cells), 10)
    height = figure.get_figheight()
    figure.legend(
        *axes[1, 0].get_legend_handles_labels(), loc="lower center", ncols=len(curves), fontsize=9
    )
    figure.subplots_adjust(0.14, 0.4 / height, 0.995, 1 - 0.3 / height, 0.06, 0.16)
    return figure


@described
def plot_edge_orientations(
    images: Sequence[np.ndarray], cells: Sequence[np.ndarray], columns: Sequence[str]
) -> Figure:
    """Plot images, and below each one a stroke per cell and orientation, as long as its share.

    Parameters
    ----------
    images
        (H, W) uint8.
    cells
        (C, C, O) for each image, 0 or more; value o belongs to gradients at o to o + 1 of O parts
        of 180 degrees, clockwise from the right because rows go down. Edges are drawn across
        gradients.
    columns
        A name for each image.
    """
    side = (WIDTH_IN - 1.1) / len(images)
    figure, axes = plt.subplots(2, len(images), figsize=(WIDTH_IN, 2 * side + 0.3), squeeze=False)
    for (above, below), image, values in zip(axes.T, images, cells, strict=True):
        show_image(above, image)
        across, orientations = values.shape[1:]
        angles = (np.arange(orientations) + 0.5) * np.pi / orientations + np.pi / 2
        y, x = np.mgrid[: len(values), :across][:, :, :, None] + 0.5
        length = 0.48 * values / max(values.max(), 1e-9)
        ends = [(place - length * step, place + length * step)
                for place, step in ((x, np.cos(angles)), (y, np.sin(angles)))]  # fmt: skip
        below.plot(*(np.reshape(end, (2, -1)) for end in ends), color="white", lw=0.9)
        below.set(xlim=(0, across), ylim=(len(values), 0), xticks=[], yticks=[], aspect="equal")
        below.set_facecolor("black")
        below.grid(False)
    name_columns(axes[0], columns)
    name_rows(axes[:, 0], ("image", "edges"), 10)
    figure.subplots_adjust(0.14, 0.01, 0.995, 1 - 0.3 / figure.get_figheight(), 0.04, 0.04)
    return figure


@described
def plot_radon_barcodes(
    images: Sequence[np.ndarray],
    projections: np.ndarray,
    bits: np.ndarray,
    columns: Sequence[str],
) -> Figure:
    """Plot images, their projections at 0 and 90 degrees, and the bits of all angles.

    Parameters
    ----------
    images
        (H, W) uint8.
    projections : (N, A, L)
        Sums of grey values.
    bits : (N, A, L)
        1, drawn white, or 0.
    columns
        A name for each image.
    """
    angles = projections.shape[1]
    side = (WIDTH_IN - 1.1) / len(images)
    heights = (1, 0.5, 0.5, 0.5)
    figure, axes = plt.subplots(
        4, len(images), figsize=(WIDTH_IN, side * sum(heights) + 0.4), squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for column, image, lines, code in zip(axes.T, images, projections, bits, strict=True):
        show_image(column[0], image)
        for place, angle in zip(column[1:3], (0, angles // 2), strict=True):
            bins = np.arange(len(lines[angle]))
            place.plot(bins, lines[angle], color=INK, lw=1.2)
            place.fill_between(
                bins, lines[angle], where=code[angle] > 0, color=MARKED, lw=0, step="mid"
            )
            place.set(xticks=[], yticks=[], xlim=(-0.5, len(bins) - 0.5), ylim=(0, None))
            place.grid(False)
        column[3].imshow(code, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="none")
        column[3].set(xticks=[], yticks=[])
        column[3].grid(False)
    name_columns(axes[0], columns)
    name_rows(axes[:, 0], ("image", "columns' sums", "rows' sums", "bits, angle by angle"), 11)
    figure.subplots_adjust(0.14, 0.01, 0.995, 1 - 0.3 / figure.get_figheight(), 0.04, 0.06)
    return figure


@described
def plot_shift_tolerance(shifts: Sequence[float], distances: Mapping[str, np.ndarray]) -> Figure:
    """Plot the distance of images to shifted copies of themselves: a curve per image and distance.

    Parameters
    ----------
    shifts
        In pixels.
    distances : (N, S)
        By name, in units of the distance that is drawn as a line at 1.
    """
    figure, axes = plt.subplots(figsize=(0.75 * WIDTH_IN, 2.8), layout="constrained")
    for (name, curves), style, colour in zip(
        distances.items(), cycle(("o-", "s--")), cycle(CLASS_COLOURS), strict=False
    ):
        lines = axes.plot(shifts, curves.T, style, color=colour, lw=1, ms=4, alpha=0.8)
        lines[0].set_label(name)
    axes.axhline(1, color=QUIET, lw=1, label="as far as other regions")
    axes.set(xlabel="moved by (pixels of the thumbnail)", ylabel="distance", ylim=(0, None))
    figure.legend(fontsize=9, loc="outside upper center", ncols=3)
    return figure


@described
def plot_filter_banks(
    banks: Mapping[str, np.ndarray], waves: Mapping[str, np.ndarray], side: int
) -> Figure:
    """Plot Gabor filters: half-peak contours over the frequencies, and below filters as images.

    Parameters
    ----------
    banks
        (filters, 4) centre frequency, orientation, and deviation along and across it, in bins of a
        transform of ``side`` pixels.
    waves
        (rows, columns, H, W) real parts, each drawn in its own range around 0.
    """
    figure, axes = plt.subplots(
        2, len(banks), figsize=(WIDTH_IN, 5.5), layout="constrained", squeeze=False
    )
    turn = np.linspace(0, 2 * np.pi, 100)
    half = math.sqrt(2 * math.log(2))
    for (top, below), (name, bank) in zip(axes.T, banks.items(), strict=True):
        for centre, angle, along, across in bank / [side, 1, side, side]:
            away, aside = centre + half * along * np.cos(turn), half * across * np.sin(turn)
            top.plot(
                away * np.cos(angle) - aside * np.sin(angle),
                away * np.sin(angle) + aside * np.cos(angle),
                color=HANDCRAFTED,
                lw=1.2,
            )
        top.plot([-0.5, -0.5, 0.5, 0.5], [0, 0.5, 0.5, 0], "--", color=QUIET, lw=1)
        top.plot(0, 0, "+", color=QUIET)
        top.set(xlim=(-0.56, 0.56), ylim=(0.56, -0.12), aspect="equal", title=name)
        top.set(xlabel="left to right (cycles per pixel)", ylabel="top to bottom")
        tiles = waves[name] / np.abs(waves[name]).max(axis=(2, 3), keepdims=True)
        rows, columns, height, width = tiles.shape
        tiles = np.pad(tiles, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=1)
        sheet = tiles.transpose(0, 2, 1, 3).reshape(rows * (height + 2), columns * (width + 2))
        below.imshow(sheet, cmap="gray", vmin=-1, vmax=1)
        below.set(xticks=[], yticks=[], anchor="N")
        below.grid(False)
    return figure


@described
def plot_visual_words(
    vocabulary: Sequence[np.ndarray],
    images: Mapping[str, np.ndarray],
    words: Mapping[str, np.ndarray],
    places: np.ndarray,
) -> Figure:
    """Plot each visual word, which word each point of an image has, and how often each occurs.

    Parameters
    ----------
    vocabulary
        A picture of each of up to ten words, in any range.
    images
        (H, W) uint8 by name.
    words
        (rows, columns) words at the points of the grid, by the same names.
    places
        Coordinates of the rows of the grid, and of its columns, in pixels.
    """
    colours = plt.get_cmap("tab10").colors
    count = len(vocabulary)
    figure = plt.figure(figsize=(WIDTH_IN, 0.9 + 1.85 * len(images)))
    outer = figure.add_gridspec(
        1 + len(images), 1, height_ratios=[0.75, *[1.8] * len(images)], hspace=0.15,
        left=0.01, right=0.93, top=0.99, bottom=0.02,
    )  # fmt: skip
    for number, place in enumerate(outer[0].subgridspec(1, count, wspace=0.12)):
        axes = figure.add_subplot(place)
        axes.imshow(vocabulary[number], cmap="gray")
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        draw_frame(axes, colours[number], 4)
    x, y = np.meshgrid(places, places)
    shares = {
        name: 100 * np.bincount(own.ravel(), minlength=count) / own.size
        for name, own in words.items()
    }
    highest = 1.05 * max(share.max() for share in shares.values())
    for line, (name, image) in zip(list(outer)[1:], images.items(), strict=True):
        plain, spotted, bars = (
            figure.add_subplot(place)
            for place in line.subgridspec(1, 3, width_ratios=(1, 1, 2.1), wspace=0.1)
        )
        show_image(plain, image, name)
        show_image(spotted, image)
        spotted.scatter(x, y, s=14, c=[colours[word] for word in words[name].flat], linewidths=0)
        bars.bar(range(count), shares[name], color=colours[:count])
        bars.set(xticks=[], ylim=(0, highest))
        bars.yaxis.tick_right()
        bars.yaxis.set_label_position("right")
        bars.set_ylabel("share of points (%)", fontsize=8)
        bars.tick_params(labelsize=8)
        bars.grid(axis="x", visible=False)
    return figure

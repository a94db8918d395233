"""Figures of networks: layers, filters, channels, receptive fields and maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from cbir_lib.book.figures.described import described
from cbir_lib.book.figures.palette import CLASS_COLOURS, LAYER_COLOURS
from cbir_lib.book.figures.style import WIDTH_IN, draw_frame, name_columns, name_rows, show_image
from cbir_lib.networks.architectures import NETWORKS, list_layers

KIND_NAMES = {
    "c3": "convolution 3 x 3",
    "c5": "convolution 5 x 5",
    "P": "max pooling 2 x 2",
    "fc": "fully connected",
}


@described
def plot_architectures(classes: int, size: int = 128) -> Figure:
    """Plot all networks layer by layer: the height of a box follows the side of its feature map."""
    figure, axes = plt.subplots(
        len(NETWORKS), 1, figsize=(WIDTH_IN, 1.12 * len(NETWORKS) + 0.4), layout="constrained"
    )
    longest = max(len(list(list_layers(name, classes=classes, size=size))) for name in NETWORKS)
    for place, name in zip(axes, NETWORKS, strict=True):
        for column, layer in enumerate(list_layers(name, classes=classes, size=size)):
            spatial = len(layer.shape) == 3
            height = math.sqrt(layer.shape[1] / size) if spatial else 0.55
            left = column - 0.4
            place.bar(left, height, 0.8, -height / 2, color=LAYER_COLOURS[layer.kind], align="edge")
            text = f"{layer.shape[1]}" if spatial else f"{layer.shape[0]}"
            place.text(column, 0, text, ha="center", va="center", fontsize=8, color="black")
        place.set(xlim=(-0.6, longest - 0.4), ylim=(-0.52, 0.52), xticks=[], yticks=[])
        place.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=12)
        place.grid(False)
        sns.despine(ax=place, left=True, bottom=True)
    handles = [plt.Rectangle((0, 0), 1, 1, color=LAYER_COLOURS[kind]) for kind in KIND_NAMES]
    figure.legend(handles, KIND_NAMES.values(), loc="outside upper center", ncols=4, fontsize=9)
    return figure


@described
def plot_image_maps(
    images: Sequence[np.ndarray],
    rows: Mapping[str, Sequence[np.ndarray]],
    columns: Sequence[str],
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Plot grey images in the first row, and below them named rows of maps computed from them.

    Parameters
    ----------
    images
        (H, W) uint8.
    rows
        Maps of each image, (H, W) in any range.
    columns
        A name for each image.
    ranges
        Range of a row's values, from dark to bright; a row without one has a range for each map.
    """
    side = (WIDTH_IN - 1.1) / len(images)
    figure, axes = plt.subplots(
        1 + len(rows),
        len(images),
        figsize=(WIDTH_IN, side * (1 + len(rows)) + 0.3),
        squeeze=False,
    )
    for place, image in zip(axes[0], images, strict=True):
        show_image(place, image)
    name_columns(axes[0], columns)
    for line, (name, values) in zip(axes[1:], rows.items(), strict=True):
        low, high = (ranges or {}).get(name, (None, None))
        for place, panel in zip(line, values, strict=True):
            place.imshow(panel, cmap="viridis", vmin=low, vmax=high)
            place.set(xticks=[], yticks=[])
            place.grid(False)
    name_rows(axes[:, 0], ("image", *rows), 13)
    figure.subplots_adjust(0.14, 0.01, 0.995, 1 - 0.3 / figure.get_figheight(), 0.04, 0.04)
    return figure


@described
def plot_receptive_fields(
    images: np.ndarray, names: Sequence[str], fields: Mapping[str, int]
) -> Figure:
    """Plot images with the squares that one value of a network's last feature map depends on.

    Parameters
    ----------
    images : (N, S, S) uint8
    names
        A name for each image.
    fields
        Side of the square in pixels, by network; drawn around the centre.
    """
    sides = {side: [name for name in fields if fields[name] == side] for side in fields.values()}
    figure, axes = plt.subplots(1, len(images), figsize=(WIDTH_IN, 2.3), layout="constrained")
    for place, image in zip(axes, images, strict=True):
        show_image(place, image)
        for (side, own), colour in zip(sides.items(), cycle(CLASS_COLOURS), strict=False):
            corner = (image.shape[0] - side) / 2 - 0.5
            place.add_patch(
                plt.Rectangle(
                    (corner, corner),
                    side,
                    side,
                    fill=False,
                    color=colour,
                    lw=1.6,
                    label=f"{', '.join(sorted(own))}: {side} px",
                )
            )
    name_columns(axes, names)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8
    )
    return figure


@described
def plot_first_filters(
    weights: np.ndarray, kinds: Sequence[str], shares: Sequence[float]
) -> Figure:
    """Plot the filters of a first convolution, dark where negative; the frame shows their kind.

    Parameters
    ----------
    weights : (C, K, K)
        Each drawn in its own range around 0.
    kinds, shares
        The dominant part of each filter, and its share in percent.
    """
    across = 10
    colours = dict(zip(sorted({*kinds}), cycle(CLASS_COLOURS), strict=False))
    lines = -(-len(weights) // across)
    height = (WIDTH_IN / across + 0.38) * lines + 0.3
    figure, axes = plt.subplots(lines, across, figsize=(WIDTH_IN, height), squeeze=False)
    for place in axes.flat[len(weights) :]:
        place.axis("off")
    places = axes.flat[: len(weights)]
    for place, weight, kind, share in zip(places, weights, kinds, shares, strict=True):
        most = np.abs(weight).max() or 1
        place.imshow(weight, cmap="gray", vmin=-most, vmax=most)
        place.set(xticks=[], yticks=[])
        place.set_title(f"{kind}\n{share:.0f} %", fontsize=8, pad=4)
        place.grid(False)
        draw_frame(place, colours[kind], 3)
    handles = [plt.Rectangle((0, 0), 1, 1, fill=False, ec=c, lw=3) for c in colours.values()]
    figure.legend(handles, colours, loc="lower center", ncols=len(colours), fontsize=9)
    top = 1 - 0.4 / height
    figure.subplots_adjust(0.01, 0.32 / height, 0.99, top, 0.14, 0.38 * across / WIDTH_IN)
    return figure


@described
def plot_channels(rows: Mapping[str, np.ndarray]) -> Figure:
    """Plot all channels of some layers for one image: a block per layer, each in one range."""
    across = 10
    blocks = [
        [values[start : start + across] for start in range(0, len(values), across)]
        for values in rows.values()
    ]
    side = (WIDTH_IN - 0.9) / across
    lines, gap = sum(map(len, blocks)), 0.09
    height = side * lines + gap * len(blocks)
    figure = plt.figure(figsize=(WIDTH_IN, height))
    outer = figure.add_gridspec(
        len(blocks), 1, height_ratios=[len(block) for block in blocks],
        left=0.9 / WIDTH_IN, right=0.998, bottom=0.002, top=0.998,
        hspace=gap * len(blocks) / (side * lines),
    )  # fmt: skip
    for place, (name, values), block in zip(outer, rows.items(), blocks, strict=True):
        highest = np.quantile(values, 0.998) or 1
        inner = place.subgridspec(len(block), across, wspace=0.05, hspace=0.05).subplots(
            squeeze=False
        )
        for axes in inner.flat[len(values) :]:
            axes.axis("off")
        for axes, channel in zip(inner.flat[: len(values)], values, strict=True):
            axes.imshow(channel, cmap="viridis", vmin=0, vmax=highest)
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
        label = place.get_position(figure)
        figure.text(
            label.x0 - 0.01, (label.y0 + label.y1) / 2, name,
            ha="right", va="center", fontsize=9,
        )  # fmt: skip
    return figure


@described
def plot_stage_maps(
    images: Sequence[np.ndarray],
    rows: Mapping[str, Sequence[np.ndarray]],
    squares: Mapping[str, tuple[np.ndarray, float]],
    columns: Sequence[str],
) -> Figure:
    """Plot images, and below them rows of maps, each row in one range from 0, a square per map.

    Parameters
    ----------
    squares
        By the names of the rows: (N, 2) row and column of the centres of the squares, in pixels of
        the images, and the side of the squares.
    """
    ranges = {name: (0, max(float(np.max(values)), 1e-9)) for name, values in rows.items()}
    figure = plot_image_maps(images, rows, columns, ranges)
    grid = np.reshape(figure.axes, (1 + len(rows), len(images)))
    lines = dict(zip(rows, grid[1:], strict=True))
    for (name, line), colour in zip(lines.items(), cycle(CLASS_COLOURS), strict=False):
        centres, side = squares[name]
        for below, place, (y, x) in zip(line, grid[0], centres, strict=True):
            corner = (x - side / 2, y - side / 2)
            drawn = plt.Rectangle(corner, side, side, fill=False, ec=colour, lw=1.8)
            place.add_patch(drawn)
            draw_frame(below, colour, 3)
    return figure

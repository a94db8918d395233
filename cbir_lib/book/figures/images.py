"""Figures that show images: grids, neighbours, confused pairs; and the shares of the classes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cbir_lib.book.figures.described import described
from cbir_lib.book.figures.palette import QUIET, RIGHT, SPLITS, WRONG
from cbir_lib.book.figures.style import WIDTH_IN, draw_frame, show_image
from cbir_lib.images.decoding import fit_to_square
from cbir_lib.study.results import Example, Result


@described
def plot_image_grid(
    rows: Mapping[str, Sequence[np.ndarray]], columns: Sequence[str] | None = None
) -> Figure:
    """Plot named rows of images, with names of the columns at the top if given."""
    width = max(len(images) for images in rows.values())
    side = (WIDTH_IN - 1.1) / width
    figure, axes = plt.subplots(
        len(rows), width, figsize=(WIDTH_IN, side * len(rows) + 0.3), squeeze=False
    )
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        for place, image in zip(row, images, strict=False):
            show_image(place, image)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
        for place in row[len(images) :]:
            place.axis("off")
    for place, name in zip(axes[0], columns or [], strict=False):
        place.set_title(name, fontsize=9)
    figure.subplots_adjust(0.14, 0.01, 0.995, 0.93 if columns else 0.99, 0.04, 0.04)
    return figure


@described
def plot_image_groups(
    groups: Sequence[Sequence[np.ndarray]],
    captions: Sequence[Sequence[str]],
    titles: Sequence[str],
) -> Figure:
    """Plot groups of images in one row, with a caption per image and a title per group."""
    widths = [len(group) for group in groups]
    side = WIDTH_IN / sum(widths)
    figure = plt.figure(figsize=(WIDTH_IN, side + 0.55), layout="constrained")
    parts = figure.subfigures(1, len(groups), width_ratios=widths, wspace=0.02, squeeze=False)[0]
    for part, group, words, title in zip(parts, groups, captions, titles, strict=True):
        part.suptitle(title, fontsize=10)
        for place, image, caption in zip(
            part.subplots(1, len(group), squeeze=False)[0], group, words, strict=True
        ):
            show_image(place, fit_to_square(image, max(image.shape)), caption)
    return figure


@described
def plot_series(series: Mapping[str, Mapping[float, np.ndarray]]) -> Figure:
    """Plot series of images in one row: a group per name, and the value of each image above it."""
    captions = [[f"{v:,.0f}" if v > 99 else f"{v:.3g}" for v in group] for group in series.values()]
    return plot_image_groups([[*group.values()] for group in series.values()], captions, [*series])


@described
def plot_rendering_steps(steps: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Plot how radiographs are rendered: a row per name, a column per step.

    Steps in floating point are scaled to their largest value, and lightened where they are small.
    """
    rows = {
        name: [
            image if image.dtype == np.uint8 else 255 * (image / image.max()) ** 0.8
            for image in images.values()
        ]
        for name, images in steps.items()
    }
    return plot_image_grid(rows, list(next(iter(steps.values()))))


@described
def plot_captioned_images(
    images: Sequence[np.ndarray], captions: Sequence[str], across: int = 7
) -> Figure:
    """Plot images in rows, each with a caption above; ``across`` images fill a row."""
    rows = -(-len(images) // across)
    side = WIDTH_IN / across
    figure, axes = plt.subplots(
        rows, across, figsize=(WIDTH_IN, (side + 0.36) * rows), squeeze=False
    )
    for place in axes.flat:
        place.axis("off")
    for place, image, caption in zip(axes.flat, images, captions, strict=False):
        square = fit_to_square(image, max(image.shape))
        show_image(place, square, textwrap.fill(caption, 16))
    figure.subplots_adjust(0.005, 0.01, 0.995, 1 - 0.34 / ((side + 0.36) * rows), 0.05, 0.38)
    return figure


@described
def plot_class_shares(counts: pd.DataFrame) -> Figure:
    """Plot the share of each class in each split, from counts by class (rows) and split."""
    shares = 100 * counts / counts.sum()
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 3.2), layout="constrained")
    places, height = np.arange(len(shares)), 0.8 / shares.shape[1]
    for number, split in enumerate(shares.columns):
        bars = axes.barh(
            places + (number - (shares.shape[1] - 1) / 2) * height,
            shares[split],
            height,
            label=f"{split} ({counts[split].sum():,} images)",
            color=SPLITS.get(split, QUIET),
        )
        axes.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
    axes.set(yticks=places, yticklabels=shares.index, xlabel="share of the split (%)")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    figure.legend(fontsize=9, loc="outside upper center", ncols=shares.shape[1])
    return figure


@described
def plot_neighbours(
    examples: Iterable[Example], pictures: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> Figure:
    """Plot queries and, to the right, their nearest images, framed by whether the class agrees.

    Parameters
    ----------
    pictures
        Images by identifier.
    """
    examples = list(examples)
    width = 1 + len(examples[0].neighbours)
    side = WIDTH_IN / width
    names = [textwrap.fill(name, 10) for name in class_names]  # next to each other, none overlaps
    lines = 2 + max(name.count("\n") for name in names)  # of text above an image
    figure, axes = plt.subplots(
        len(examples),
        width,
        figsize=(WIDTH_IN, (side + 0.17 * lines) * len(examples)),
        squeeze=False,
    )
    for row, example in zip(axes, examples, strict=True):
        show_image(row[0], pictures[example.query], f"query\n{names[example.label]}")
        neighbours = zip(
            example.neighbours, example.neighbour_labels, example.distances, strict=True
        )
        for place, (image_id, label, distance) in zip(row[1:], neighbours, strict=True):
            right = label == example.label
            mark = "same" if right else names[label]
            show_image(place, pictures[image_id], f"{mark}\n{distance:#.3g}")
            place.title.set_color(RIGHT if right else WRONG)
            draw_frame(place, RIGHT if right else WRONG)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.02 * lines, 0.08, 0.19 * lines)
    return figure


@described
def plot_confused_pairs(result: Result, pictures: Mapping[str, np.ndarray]) -> Figure:
    """Plot queries, the nearest image of another class, and the nearest image of their own class.

    Parameters
    ----------
    pictures
        Images by identifier.
    """
    names = result.data.class_names
    pairs = result.confused
    across = 2
    lines = -(-len(pairs) // across)
    side = WIDTH_IN / (3 * across + 0.4)
    figure = plt.figure(figsize=(WIDTH_IN, (side + 0.42) * lines))
    parts = figure.add_gridspec(
        lines,
        across,
        wspace=0.08,
        hspace=0.42,
        left=0.01,
        right=0.99,
        bottom=0.01,
        top=1 - 0.38 / ((side + 0.42) * lines),
    )
    for number, pair in enumerate(pairs):
        inner = parts[number // across, number % across].subgridspec(1, 3, wspace=0.04)
        shown = (
            (pair.query, f"query\n{names[pair.label]}", None),
            (pair.nearest, f"{names[pair.nearest_label]}\n{pair.distance:#.3g}", WRONG),
            (
                pair.nearest_of_own_class,
                f"{names[pair.label]}\n{pair.distance_of_own_class:#.3g}",
                RIGHT,
            ),
        )
        for place, (image_id, title, colour) in zip(inner, shown, strict=True):
            axes = figure.add_subplot(place)
            show_image(axes, pictures[image_id], title)
            if colour:
                axes.title.set_color(colour)
                draw_frame(axes, colour)
    return figure

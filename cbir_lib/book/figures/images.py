"""Figures that show images: grids, neighbours, confused pairs; and the shares of the classes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cbir_lib.book.figures.described import described
from cbir_lib.book.figures.palette import QUIET, RIGHT, SPLITS, WRONG
from cbir_lib.book.figures.style import WIDTH_IN, show_image
from cbir_lib.images.decoding import fit_to_square
from cbir_lib.study.results import Example, Result

CAPTION_PT = 8
LINE_IN = 0.15  # of a caption, with its share of the space around
MARGIN_IN = 0.03  # room for half of a frame


class _Sheet:
    """A figure with images at any places; lengths are inches, from the left and from the top.

    One panel has them all: a panel for each would take most of the time that a page takes.
    """

    def __init__(self, height: float):
        self.figure = plt.figure(figsize=(WIDTH_IN, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH_IN), ylim=(height, 0), autoscale_on=False)
        self.axes.axis("off")

    def put(self, image: np.ndarray, x: float, y: float, side: float, name: str) -> Rectangle:
        """Put a grey image, 0 black to 255 white, in the middle of a square; return its outline.

        ``name`` is for the figure's description.
        """
        height, width = side * np.array(image.shape) / max(image.shape)
        left, top = x + (side - width) / 2, y + (side - height) / 2
        extent = (left, left + width, top + height, top)
        look = {"cmap": "gray", "vmin": 0, "vmax": 255, "aspect": "auto"}
        self.axes.imshow(image, extent=extent, label=name or " ", **look)  # else it gets a number
        return Rectangle((left, top), width, height, fill=False)

    def put_captioned(
        self, image: np.ndarray, x: float, y: float, side: float, caption: str, colour=None
    ) -> None:
        """Put an image with its caption above; with a colour, the caption has it, and a frame."""
        frame = self.put(image, x, y, side, caption)
        look = {"ha": "center", "va": "bottom", "color": colour}
        self.write(caption, x + side / 2, y - MARGIN_IN, CAPTION_PT, **look)
        if colour:
            frame.set(edgecolor=colour, linewidth=2)
            self.axes.add_patch(frame)

    def write(self, text: str, x: float, y: float, size_pt: float, **look) -> None:
        """Write a text."""
        self.axes.text(x, y, text, fontsize=size_pt, **look)


@described
def plot_image_grid(
    rows: Mapping[str, Sequence[np.ndarray]], columns: Sequence[str] | None = None
) -> Figure:
    """Plot named rows of images, with names of the columns at the top if given."""
    left, above, gap = 1.1, 0.25 if columns else 0, 0.04
    step = (WIDTH_IN - left) / max(len(images) for images in rows.values())
    sheet = _Sheet(above + step * len(rows))
    sheet.axes.set_ylabel(", ".join(filter(None, rows)))  # not drawn; for the description
    for row, (name, images) in enumerate(rows.items()):
        top = above + step * row
        sheet.write(name, left - 0.06, top + step / 2, 10, ha="right", va="center")
        for column, image in enumerate(images):
            words = columns[column] if columns else ""
            sheet.put(image, left + step * column, top, step - gap, words)
    for column, name in enumerate(columns or []):
        place = left + step * column + (step - gap) / 2, above - MARGIN_IN
        sheet.write(name, *place, 9, ha="center", va="bottom")
    return sheet.figure


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
    texts = [textwrap.fill(caption, 16) for caption in captions]
    above = LINE_IN * (1 + max(text.count("\n") for text in texts)) + 0.06
    step = WIDTH_IN / across
    sheet = _Sheet((step + above) * -(-len(images) // across))
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        row, column = divmod(number, across)
        sheet.put_captioned(image, step * column, above + (step + above) * row, 0.95 * step, text)
    return sheet.figure


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
    names = [textwrap.fill(name, 10) for name in class_names]  # next to each other, none overlaps
    above = LINE_IN * (2 + max(name.count("\n") for name in names)) + 0.06
    step = (WIDTH_IN - 2 * MARGIN_IN) / (1 + len(examples[0].neighbours))
    sheet = _Sheet((step + above) * len(examples))
    for row, example in enumerate(examples):
        top = above + (step + above) * row
        query = pictures[example.query]
        sheet.put_captioned(query, MARGIN_IN, top, 0.93 * step, f"query\n{names[example.label]}")
        neighbours = zip(
            example.neighbours, example.neighbour_labels, example.distances, strict=True
        )
        for column, (image_id, label, distance) in enumerate(neighbours, 1):
            right = label == example.label
            caption = f"{'same' if right else names[label]}\n{distance:#.3g}"
            place = MARGIN_IN + step * column, top, 0.93 * step
            sheet.put_captioned(pictures[image_id], *place, caption, RIGHT if right else WRONG)
    return sheet.figure


@described
def plot_confused_pairs(result: Result, pictures: Mapping[str, np.ndarray]) -> Figure:
    """Plot queries, the nearest image of another class, and the nearest image of their own class.

    Parameters
    ----------
    pictures
        Images by identifier.
    """
    names = result.data.class_names
    across, between, above = 2, 0.4, 2 * LINE_IN + 0.06
    step = (WIDTH_IN - 2 * MARGIN_IN - between) / (3 * across)
    sheet = _Sheet((step + above) * -(-len(result.confused) // across))
    for number, pair in enumerate(result.confused):
        row, column = divmod(number, across)
        shown = (
            (pair.query, f"query\n{names[pair.label]}", None),
            (pair.nearest, f"{names[pair.nearest_label]}\n{pair.distance:#.3g}", WRONG),
            (
                pair.nearest_of_own_class,
                f"{names[pair.label]}\n{pair.distance_of_own_class:#.3g}",
                RIGHT,
            ),
        )
        left, top = MARGIN_IN + column * (3 * step + between), above + (step + above) * row
        for place, (image_id, caption, colour) in enumerate(shown):
            at = left + place * step, top, 0.95 * step
            sheet.put_captioned(pictures[image_id], *at, caption, colour)
    return sheet.figure

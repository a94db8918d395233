"""Every figure of the book, one function each. All return the figure; none computes a result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cbir_lib.networks import NETWORKS, layers
from cbir_lib.results import Example, Result, method

WIDTH_IN = 8.0
RIGHT, WRONG = "#1b7837", "#b2182b"  # told apart by the colour blind too, and labelled besides
KIND_COLOURS = {"c3": "#4477aa", "c5": "#66ccee", "P": "#bbbbbb", "fc": "#ccbb44"}
KIND_NAMES = {
    "c3": "convolution 3 x 3",
    "c5": "convolution 5 x 5",
    "P": "max pooling 2 x 2",
    "fc": "fully connected",
}

sns.set_theme(
    context="notebook",
    style="whitegrid",
    rc={"figure.dpi": 110, "savefig.dpi": 110, "axes.titlesize": 11, "axes.labelsize": 10},
)


def show_image(axes: Axes, image: np.ndarray, title: str = "") -> None:
    """One grey image, 0 black to 255 white, without ticks."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=8, pad=3)
    axes.grid(False)


def image_grid(
    rows: Mapping[str, Sequence[np.ndarray]], columns: Sequence[str] | None = None
) -> Figure:
    """Named rows of images; with names of the columns on top, if given."""
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


def neighbours(
    examples: Iterable[Example], pictures: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> Figure:
    """Queries on the left, their nearest images to the right, framed by whether the class agrees.

    Parameters
    ----------
    pictures
        Images by identifier.
    """
    examples = list(examples)
    width = 1 + len(examples[0].neighbours)
    side = WIDTH_IN / width
    figure, axes = plt.subplots(
        len(examples), width, figsize=(WIDTH_IN, (side + 0.34) * len(examples)), squeeze=False
    )
    for row, example in zip(axes, examples, strict=True):
        show_image(row[0], pictures[example.query], f"query\n{class_names[example.label]}")
        found = zip(example.neighbours, example.neighbour_labels, example.distances, strict=True)
        for place, (image_id, label, distance) in zip(row[1:], found, strict=True):
            right = label == example.label
            mark = "same" if right else class_names[label]
            show_image(place, pictures[image_id], f"{mark}\n{distance:.3g}")
            place.title.set_color(RIGHT if right else WRONG)
            for spine in place.spines.values():
                spine.set(visible=True, color=RIGHT if right else WRONG, linewidth=2)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.96, 0.08, 0.38)
    return figure


def learning_curves(result: Result) -> Figure:
    """Loss and validation accuracy by epoch, with the epoch whose weights were kept."""
    curves = result.training
    epochs = np.arange(1, len(curves.train_loss) + 1)
    figure, (loss, accuracy) = plt.subplots(1, 2, figsize=(WIDTH_IN, 3), layout="constrained")
    loss.plot(epochs, curves.train_loss, "o-", label="training", color="#4477aa")
    loss.plot(epochs, curves.validation_loss, "s--", label="validation", color="#aa3377")
    loss.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    accuracy.plot(
        epochs,
        100 * np.array(curves.validation_accuracy),
        "s--",
        label="validation",
        color="#aa3377",
    )
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)")
    for axes in (loss, accuracy):
        axes.axvline(curves.best_epoch, color="#888888", lw=1, label="weights kept")
        axes.legend(fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def confusion(result: Result) -> Figure:
    """Counts of the test split, true classes in rows; the shade is the share of the row."""
    counts = np.array(result.classification.confusion)
    names = result.data.class_names
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(WIDTH_IN * 0.72, 4.2), layout="constrained")
    sns.heatmap(
        pd.DataFrame(shares, names, names),
        annot=counts,
        fmt="d",
        cmap="Blues",
        vmin=0,
        vmax=1,
        ax=axes,
        cbar_kws={"label": "share of the true class"},
    )
    axes.set(xlabel="answer", ylabel="true class")
    axes.tick_params(axis="x", rotation=30)
    return figure


def precision_recall(curves: Mapping[str, Sequence[float]]) -> Figure:
    """Mean interpolated precision at recalls 0 to 1, one curve a method."""
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 4.2), layout="constrained")
    styles = ["-", "--", "-.", ":"]
    for number, (name, curve) in enumerate(curves.items()):
        levels = np.linspace(0, 1, len(curve))
        axes.plot(levels, curve, styles[number % 4], label=name, color=f"C{number}", lw=1.8)
    lowest = min(min(curve) for curve in curves.values())
    axes.set(xlabel="recall", ylabel="precision (interpolated)", xlim=(0, 1))
    axes.set_ylim(0.95 * lowest, 1.01)
    axes.legend(fontsize=9, ncols=2, loc="lower left")
    return figure


def comparison(measured: pd.DataFrame, published: Mapping[str, float], dataset: str) -> Figure:
    """Accuracies measured here, with intervals, and those of the paper: two sets, two panels.

    Parameters
    ----------
    measured
        One row a method, indexed by name: ``accuracy``, ``low``, ``high``, in percent.
    published
        Percent, by the same names and others.
    """
    height = 0.33 * max(len(measured), len(published)) + 0.9
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_IN, height), layout="constrained")
    order = measured.sort_values("accuracy")
    errors = np.stack([order["accuracy"] - order["low"], order["high"] - order["accuracy"]])
    left.errorbar(order["accuracy"], order.index, xerr=errors, fmt="o", color="#4477aa", capsize=3)
    left.set(title=f"here, on {dataset} (95 % interval)", xlabel="accuracy (%)")
    ordered = dict(sorted(published.items(), key=lambda item: item[1]))
    right.plot(list(ordered.values()), list(ordered), "D", color="#aa3377")
    right.set(title="the paper's Table 4, on IRMA", xlabel="accuracy (%)", xlim=(0, 100))
    return figure


def network_drawing(classes: int, size: int = 128) -> Figure:
    """All networks, layer by layer: the height of a box follows the side of its feature map."""
    figure, axes = plt.subplots(
        len(NETWORKS), 1, figsize=(WIDTH_IN, 1.12 * len(NETWORKS) + 0.4), layout="constrained"
    )
    longest = max(len(list(layers(name, classes=classes, size=size))) for name in NETWORKS)
    for place, name in zip(axes, NETWORKS, strict=True):
        for column, layer in enumerate(layers(name, classes=classes, size=size)):
            spatial = len(layer.shape) == 3
            height = math.sqrt(layer.shape[1] / size) if spatial else 0.55
            left = column - 0.4
            place.bar(left, height, 0.8, -height / 2, color=KIND_COLOURS[layer.kind], align="edge")
            text = f"{layer.shape[1]}" if spatial else f"{layer.shape[0]}"
            place.text(column, 0, text, ha="center", va="center", fontsize=8, color="black")
        place.set(xlim=(-0.6, longest - 0.4), ylim=(-0.52, 0.52), xticks=[], yticks=[])
        place.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=12)
        place.grid(False)
        sns.despine(ax=place, left=True, bottom=True)
    handles = [plt.Rectangle((0, 0), 1, 1, color=KIND_COLOURS[kind]) for kind in KIND_NAMES]
    figure.legend(handles, KIND_NAMES.values(), loc="outside upper center", ncols=4, fontsize=9)
    return figure


def ranking_tiles(result: Result) -> Figure:
    """The example queries and their rankings without pixels: a tile an image.

    A tile has the image's class and its distance, and is marked as right or wrong. For places that
    may not show the images themselves.
    """
    width = 1 + max(len(example.neighbours) for example in result.examples)
    height = 0.3 * len(result.examples) + 0.4
    figure, axes = plt.subplots(figsize=(1.15 * width, height))
    for row, example in enumerate(result.examples):
        tiles = [(example.choice, example.label, "#dddddd", "black")]
        for label, distance in zip(example.neighbour_labels, example.distances, strict=True):
            colours = ("#d9f0d3", RIGHT) if label == example.label else ("#fddbc7", WRONG)
            tiles.append((f"{distance:.3f}", label, *colours))
        for column, (text, label, face, edge) in enumerate(tiles):
            corner = (column + 0.03, -row)
            axes.add_patch(plt.Rectangle(corner, 0.94, 0.86, fc=face, ec=edge, lw=1.2))
            words = f"{result.data.class_names[label]}  {text}"
            axes.text(column + 0.5, -row + 0.43, words, ha="center", va="center", fontsize=6.5)
    axes.set(xlim=(0, width), ylim=(-len(result.examples) + 0.9, 1))
    axes.set_title(
        f"{method(result)} on {result.data.dataset}: queries of median and of lowest average "
        f"precision (AP), and their nearest images by {result.retrieval.distance} distance",
        fontsize=9,
    )
    axes.axis("off")
    figure.tight_layout(pad=0.3)
    return figure

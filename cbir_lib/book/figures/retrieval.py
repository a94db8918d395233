"""Figures of retrieval: precision against recall, embeddings, distances; confusion matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from cbir_lib.book.figures.described import described
from cbir_lib.book.figures.palette import (
    CLASS_COLOURS,
    FAMILIES,
    INK,
    LINE,
    MARKED,
    MARKS,
    NETWORK_COLOURS,
    colour_methods,
)
from cbir_lib.book.figures.style import WIDTH_IN, place_tags
from cbir_lib.images.decoding import fit_to_square
from cbir_lib.study.results import Result, find_family


@described
def plot_confusion_matrix(result: Result) -> Figure:
    """Plot counts of the test split, true classes in rows; the shade is the share of the row."""
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
    plt.setp(axes.get_xticklabels(), rotation=30, ha="right")
    return figure


@described
def plot_precision_recall(curves: Mapping[str, Sequence[float]]) -> Figure:
    """Plot mean interpolated precision against recall from 0 to 1, one curve per method."""
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 4.2), layout="constrained")
    styles, colours = ["-", "--", "-.", ":"], colour_methods(curves)
    for number, (name, curve) in enumerate(curves.items()):
        levels = np.linspace(0, 1, len(curve))
        axes.plot(levels, curve, styles[number % 4], label=name, color=colours[name], lw=1.8)
    lowest = min(min(curve) for curve in curves.values())
    axes.set(xlabel="recall", ylabel="precision (interpolated)", xlim=(0, 1))
    axes.set_ylim(0.95 * lowest, 1.01)
    axes.legend(fontsize=9, ncols=2, loc="upper right")
    return figure


@described
def plot_precision_recall_of_all_methods(
    networks: Mapping[str, Result], others: Mapping[str, Result]
) -> Figure:
    """Plot precision against recall for all methods: networks each in its colour, others by family.

    Mean interpolated precision at recalls 0 to 1. Each curve carries a tag; the key on the right
    explains the tags in order of mAP.
    """
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 5.6))
    figure.subplots_adjust(0.075, 0.09, 0.66, 0.99)
    levels = np.linspace(
        0, 1, len(next(iter((networks | others).values())).retrieval.precision_recall)
    )
    curves, key, numbers = {}, [], count(1)
    for group, title, family_colour in _group_by_family(networks, others):
        key.append((f"{title}: mAP (%)", "", INK))
        order = sorted(group, key=lambda name: -group[name].retrieval.mean_average_precision)
        for name in order:
            result = group[name]
            letter = result.parameters.get("network")
            number = next(numbers) if not letter else 0
            tag = letter or str(number)
            colour = NETWORK_COLOURS[letter] if letter else family_colour
            style = "-" if letter else ("-", "--", "-.", ":")[number % 4]
            curve = np.array(result.retrieval.precision_recall)
            axes.plot(
                levels,
                curve,
                style,
                label=name,
                color=colour,
                lw=2 if letter else 1.2,
                zorder=3 if letter else 2,
            )
            curves[tag] = curve, colour
            key.append(
                (tag, f"{name}: {100 * result.retrieval.mean_average_precision:.1f}", colour)
            )
    for tag, (place, height) in place_tags({t: c for t, (c, _) in curves.items()}, levels).items():
        axes.text(
            place, height, tag, color=curves[tag][1], fontsize=8, fontweight="bold", ha="center",
            va="center", zorder=4, bbox={"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none"},
        )  # fmt: skip
    chance = next(iter((networks | others).values())).retrieval.mean_average_precision_by_chance
    if chance is not None:
        axes.axhline(chance, color=LINE, lw=1, ls=(0, (1, 3)))
        axes.text(0.01, chance, "chance", fontsize=8, color=LINE, va="bottom")
    axes.set(xlabel="recall", ylabel="precision (interpolated)", xlim=(0, 1), ylim=(0, 1.01))
    step = min(0.98 / len(key), 0.05)
    for line, (tag, words, colour) in enumerate(key):
        height = 1 - step * (line + 0.5)
        style = {"transform": axes.transAxes, "va": "center", "fontsize": 8.5}
        if not words:
            axes.text(1.025, height, tag, fontweight="bold", **style)
            continue
        axes.text(1.055, height, tag, color=colour, fontweight="bold", ha="center", **style)
        axes.text(1.09, height, words, **style)
    return figure


def _group_by_family(
    networks: Mapping[str, Result], others: Mapping[str, Result]
) -> Iterator[tuple[dict[str, Result], str, str]]:
    """Yield the methods of each family that has any, with what it is called and its colour."""
    for family, (title, colour) in FAMILIES.items():
        group = networks if family == "network" else others
        if family != "network":
            group = {name: result for name, result in others.items() if find_family(name) == family}
        if group:
            yield dict(group), title, colour


@described
def plot_precision_recall_by_class(
    networks: Mapping[str, Result], others: Mapping[str, Result], across: int = 3
) -> Figure:
    """Plot precision against recall, one panel per class; the best of each family is named."""
    class_names = next(iter((networks | others).values())).data.class_names
    lines = -(-len(class_names) // across)
    figure, axes = plt.subplots(
        lines, across, figsize=(WIDTH_IN, 2.6 * lines), layout="constrained",
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for place in axes.flat[len(class_names) :]:
        place.axis("off")
    families = [*_group_by_family(networks, others)]
    for place, class_name in zip(axes.flat[: len(class_names)], class_names, strict=True):
        for line, (group, _, colour) in enumerate(families):
            of_class = {
                name: result.retrieval.per_class[class_name]
                for name, result in group.items()
                if class_name in result.retrieval.per_class
            }
            best = max(of_class, key=lambda n: of_class[n].mean_average_precision, default=None)
            for name, measured in of_class.items():
                style = {"lw": 2.4, "zorder": 3} if name == best else {"lw": 0.9, "alpha": 0.45}
                curve = measured.precision_recall
                levels = np.linspace(0, 1, len(curve))
                place.plot(levels, curve, color=colour, label=name, **style)
            if best:
                words = f"{best}: {100 * of_class[best].mean_average_precision:.0f}"
                style = {"fontsize": 8.5, "color": colour, "transform": place.transAxes}
                place.text(0.5, 0.93 + 0.095 * (len(families) - line), words, ha="center", **style)
        place.set(xlim=(0, 1), ylim=(0, 1.02))
        place.set_title(class_name, pad=10 + 11 * len(families))
        place.tick_params(labelsize=8)
    figure.supxlabel("recall", fontsize=10)
    figure.supylabel("precision (interpolated)", fontsize=10)
    return figure


@described
def plot_embedding_with_images(
    result: Result, pictures: Sequence[np.ndarray], side_in: float = 0.36
) -> Figure:
    """Plot test images at their places in the embedding, as many as there is room for.

    Parameters
    ----------
    pictures
        One for each place of the embedding. In this order, an image is shown, framed by class, if
        its thumbnail covers none shown before; the others are points.
    side_in
        Side of a thumbnail, in inches.
    """
    places, labels = np.array(result.embedding.places), np.array(result.embedding.labels)
    lowest, spans = places.min(axis=0), np.ptp(places, axis=0)
    side = spans[0] * side_in / (WIDTH_IN - 1.4 * side_in)  # in units of the places
    low, high = lowest - 0.7 * side, lowest + spans + 0.7 * side
    height_in = WIDTH_IN * (high - low)[1] / (high - low)[0]
    figure, axes = plt.subplots(figsize=(WIDTH_IN, height_in + 0.4))
    figure.subplots_adjust(0, 0, 1, height_in / (height_in + 0.4))
    axes.grid(False)
    for label, class_name in enumerate(result.data.class_names):
        axes.scatter(
            *places[labels == label].T, s=14, color=_colour_class(label), label=class_name,
            marker=MARKS[label % len(MARKS)], linewidths=0,
        )  # fmt: skip
    shown = np.empty((0, 2))
    for place, label, image in zip(places, labels, pictures, strict=True):
        if (np.abs(shown - place).max(axis=1) < 1.04 * side).any():
            continue
        shown = np.vstack([shown, place])
        corner, colour = place - side / 2, _colour_class(label)
        extent = (corner[0], corner[0] + side, corner[1], corner[1] + side)
        small = fit_to_square(image, max(image.shape))  # square
        axes.imshow(small, cmap="gray", vmin=0, vmax=255, extent=extent, zorder=2)
        axes.add_patch(plt.Rectangle(corner, side, side, fill=False, ec=colour, lw=2, zorder=3))
    axes.set(xticks=[], yticks=[], xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    figure.legend(loc="upper center", ncols=len(result.data.class_names), fontsize=9, markerscale=2)
    return figure


@described
def plot_embeddings(results: Mapping[str, Result], across: int = 3) -> Figure:
    """Plot test images as points, one panel per method; colour and mark show the class."""
    shown = {name: result for name, result in results.items() if result.embedding}
    lines = -(-len(shown) // across)
    side = WIDTH_IN / across
    figure, axes = plt.subplots(
        lines, across, figsize=(WIDTH_IN, (side + 0.1) * lines + 0.6), squeeze=False
    )
    for place in axes.flat[len(shown) :]:
        place.axis("off")
    for place, (name, result) in zip(axes.flat[: len(shown)], shown.items(), strict=True):
        points, labels = np.array(result.embedding.places), np.array(result.embedding.labels)
        for label, class_name in enumerate(result.data.class_names):
            here = points[labels == label]
            place.scatter(
                *here.T, s=9, marker=MARKS[label % len(MARKS)], color=_colour_class(label),
                label=class_name, linewidths=0,
            )  # fmt: skip
        place.set(xticks=[], yticks=[])
        place.set_title(name, fontsize=10)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=3, fontsize=9, markerscale=2)
    top = 1 - (0.62 + 0.24) / figure.get_figheight()
    figure.subplots_adjust(0.01, 0.01, 0.99, top, 0.05, 0.12)
    return figure


@described
def plot_distance_effect(results: Mapping[str, Result]) -> Figure:
    """Plot validation accuracy by method and distance; each method's own distance is framed."""
    values = pd.DataFrame(
        {
            name: {tried.distance: 100 * tried.accuracy for tried in result.distances}
            for name, result in results.items()
            if result.distances
        }
    ).T
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 0.33 * len(values) + 1.3), layout="constrained")
    sns.heatmap(values, annot=True, fmt=".1f", cmap="Blues", ax=axes, cbar=False, linewidths=1)
    for row, name in enumerate(values.index):
        column = values.columns.get_loc(results[name].distances[0].distance)
        axes.add_patch(
            plt.Rectangle((column + 0.04, row + 0.06), 0.92, 0.88, fill=False, ec=MARKED, lw=2.5)
        )
    axes.set_xticklabels([name.replace(" ", "\n") for name in values.columns])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(False)
    return figure


def _colour_class(label: int) -> str:
    return CLASS_COLOURS[label % len(CLASS_COLOURS)]

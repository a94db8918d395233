"""Every figure of the book, one function each. All return the figure; none computes a result."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter

from cbir_lib.datasets.decoding import fit
from cbir_lib.networks import NETWORKS, layers
from cbir_lib.results import Example, Result, networks_table, variant_of

WIDTH_IN = 8.0
LEARNED, HANDCRAFTED = "#4477aa", "#aa6644"  # networks and descriptors, where these are all to tell
RIGHT, WRONG = "#1b7837", "#b2182b"  # told apart by the colour blind too, and labelled besides
KIND_COLOURS = {"c3": "#4477aa", "c5": "#66ccee", "P": "#bbbbbb", "fc": "#ccbb44"}
KIND_NAMES = {
    "c3": "convolution 3 x 3",
    "c5": "convolution 5 x 5",
    "P": "max pooling 2 x 2",
    "fc": "fully connected",
}
# Told apart by those who see fewer colours (Tol's bright scheme); marks tell classes apart besides.
CLASS_COLOURS = (
    *("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000"),
)
RULE_MARKS = {
    "softmax": ("D", "#000000"),
    "nearest neighbour": ("o", "#4477aa"),
    "k nearest neighbours": ("s", "#66ccee"),
    "logistic regression": ("^", "#ccbb44"),
    "RBF kernel": ("v", "#aa3377"),
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


def frame(axes: Axes, colour, width: float = 2) -> None:
    """A coloured frame around a panel."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=width)


def name_columns(axes: Iterable[Axes], names: Iterable[str]) -> None:
    """Names on top of a row of panels."""
    for place, name in zip(axes, names, strict=True):
        place.set_title(textwrap.fill(name, 16), fontsize=9)


def name_rows(axes: Iterable[Axes], names: Iterable[str], letters: int) -> None:
    """Names to the left of a column of panels, in lines of so many letters."""
    for place, name in zip(axes, names, strict=True):
        label = textwrap.fill(name, letters)
        place.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)


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


def side_by_side(
    groups: Sequence[Sequence[np.ndarray]],
    captions: Sequence[Sequence[str]],
    titles: Sequence[str],
) -> Figure:
    """Groups of images in one row, a gap between them; captions of images, titles of groups."""
    widths = [len(group) for group in groups]
    side = WIDTH_IN / sum(widths)
    figure = plt.figure(figsize=(WIDTH_IN, side + 0.55), layout="constrained")
    parts = figure.subfigures(1, len(groups), width_ratios=widths, wspace=0.02, squeeze=False)[0]
    for part, group, words, title in zip(parts, groups, captions, titles, strict=True):
        part.suptitle(title, fontsize=10)
        for place, image, caption in zip(
            part.subplots(1, len(group), squeeze=False)[0], group, words, strict=True
        ):
            show_image(place, fit(image, max(image.shape)), caption)
    return figure


def captioned(images: Sequence[np.ndarray], captions: Sequence[str], across: int = 7) -> Figure:
    """Images in rows of ``across``, a caption above each."""
    rows = -(-len(images) // across)
    side = WIDTH_IN / across
    figure, axes = plt.subplots(
        rows, across, figsize=(WIDTH_IN, (side + 0.36) * rows), squeeze=False
    )
    for place in axes.flat:
        place.axis("off")
    for place, image, caption in zip(axes.flat, images, captions, strict=False):
        show_image(place, image, textwrap.fill(caption, 16))
    figure.subplots_adjust(0.005, 0.01, 0.995, 1 - 0.34 / ((side + 0.36) * rows), 0.05, 0.38)
    return figure


def class_shares(counts: pd.DataFrame) -> Figure:
    """Share of each class in each split; ``counts`` has classes in rows and splits in columns."""
    shares = 100 * counts / counts.sum()
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 3.2), layout="constrained")
    places, height = np.arange(len(shares)), 0.8 / shares.shape[1]
    for number, split in enumerate(shares.columns):
        bars = axes.barh(
            places + (number - (shares.shape[1] - 1) / 2) * height,
            shares[split],
            height,
            label=f"{split} ({counts[split].sum():,} images)",
            color=("#4477aa", "#88ccee", "#aa3377")[number],
        )
        axes.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
    axes.set(yticks=places, yticklabels=shares.index, xlabel="share of the split (%)")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    figure.legend(fontsize=9, loc="outside upper center", ncols=shares.shape[1])
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
            frame(place, RIGHT if right else WRONG)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.96, 0.08, 0.38)
    return figure


def learning_curves(result: Result) -> Figure:
    """Loss and validation accuracy by epoch; the epoch whose weights were kept, if not the last."""
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
        if curves.best_epoch < len(epochs):
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
    plt.setp(axes.get_xticklabels(), rotation=30, ha="right")
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
    axes.legend(fontsize=9, ncols=2, loc="upper right")
    return figure


def precision_recall_of_all(networks: Mapping[str, Result], others: Mapping[str, Result]) -> Figure:
    """Mean interpolated precision at recalls 0 to 1: networks in colour, all others in grey.

    Each curve carries a tag, and the key on the right names the tags in the order of mAP.
    """
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 5.6))
    figure.subplots_adjust(0.075, 0.09, 0.66, 0.99)
    levels = np.linspace(
        0, 1, len(next(iter((networks | others).values())).retrieval.precision_recall)
    )
    curves, key = {}, []
    for group, title in ((networks, "Networks"), (others, "Handcrafted")):
        if not group:
            continue
        key.append((f"{title}: mAP (%)", "", "#000000"))
        order = sorted(group, key=lambda name: -group[name].retrieval.mean_average_precision)
        for number, name in enumerate(order, start=1):
            result = group[name]
            letter = result.parameters.get("network")
            tag = letter or str(number)
            colour = NETWORK_COLOURS[letter] if letter else HANDCRAFTED
            style = "-" if letter else ("-", "--", "-.", ":")[number % 4]
            curve = np.array(result.retrieval.precision_recall)
            axes.plot(
                levels,
                curve,
                style,
                color=colour,
                lw=2 if letter else 1.2,
                zorder=3 if letter else 2,
            )
            curves[tag] = curve, colour
            key.append(
                (tag, f"{name}: {100 * result.retrieval.mean_average_precision:.1f}", colour)
            )
    for tag, (place, height) in tag_places({t: c for t, (c, _) in curves.items()}, levels).items():
        axes.text(
            place, height, tag, color=curves[tag][1], fontsize=8, fontweight="bold", ha="center",
            va="center", zorder=4, bbox={"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none"},
        )  # fmt: skip
    chance = next(iter((networks | others).values())).retrieval.mean_average_precision_by_chance
    if chance is not None:
        axes.axhline(chance, color="#555555", lw=1, ls=(0, (1, 3)))
        axes.text(0.01, chance, "chance", fontsize=8, color="#555555", va="bottom")
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


def tag_places(
    curves: Mapping[str, np.ndarray], levels: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Where on each curve its tag is clear of the other curves and of the tags before it."""
    inner = np.flatnonzero((levels >= 0.04) & (levels <= 0.96))
    stacked, placed = np.array([*curves.values()]), {}
    for number, (tag, curve) in enumerate(curves.items()):
        gaps = np.abs(np.delete(stacked, number, axis=0) - curve).min(axis=0, initial=1)[inner]
        apart = np.full(len(inner), np.inf)
        for x, y in placed.values():  # a tag is about twice as wide as the curves' gaps are high
            apart = np.minimum(apart, np.hypot((levels[inner] - x) / 2, curve[inner] - y))
        best = inner[np.argmax(np.minimum(gaps, 0.02) + np.minimum(apart, 0.04))]
        placed[tag] = float(levels[best]), float(curve[best])
    return placed


def precision_recall_by_class(
    networks: Mapping[str, Result], others: Mapping[str, Result], across: int = 3
) -> Figure:
    """The eleven points of every method, one panel a class; the best of either kind is named."""
    class_names = next(iter((networks | others).values())).data.class_names
    lines = -(-len(class_names) // across)
    figure, axes = plt.subplots(
        lines, across, figsize=(WIDTH_IN, 2.6 * lines), layout="constrained",
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for place in axes.flat[len(class_names) :]:
        place.axis("off")
    for place, class_name in zip(axes.flat, class_names, strict=False):
        for line, (group, colour) in enumerate(((networks, LEARNED), (others, HANDCRAFTED))):
            of_class = {
                name: result.retrieval.per_class[class_name]
                for name, result in group.items()
                if class_name in result.retrieval.per_class
            }
            best = max(of_class, key=lambda n: of_class[n].mean_average_precision, default=None)
            for name, measured in of_class.items():
                style = {"lw": 2.4, "zorder": 3} if name == best else {"lw": 0.9, "alpha": 0.45}
                curve = measured.precision_recall
                place.plot(np.linspace(0, 1, len(curve)), curve, color=colour, **style)
            if best:
                words = f"{best}: {100 * of_class[best].mean_average_precision:.0f}"
                style = {"fontsize": 8.5, "color": colour, "transform": place.transAxes}
                place.text(0.5, 1.12 - 0.095 * line, words, ha="center", **style)
        place.set(xlim=(0, 1), ylim=(0, 1.02))
        place.set_title(class_name, pad=32)
        place.tick_params(labelsize=8)
    figure.supxlabel("recall", fontsize=10)
    figure.supylabel("precision (interpolated)", fontsize=10)
    return figure


def critical_difference(ranks: pd.Series, critical: float) -> Figure:
    """Mean ranks on a line, the best on the left; bars join what is nearer than ``critical``."""
    from scikit_posthocs import critical_difference_diagram

    near = np.abs(ranks.to_numpy()[:, None] - ranks.to_numpy()) <= critical
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 0.13 * len(ranks) + 1.7), layout="constrained")
    axes.grid(False)
    critical_difference_diagram(
        ranks, pd.DataFrame(near.astype(float), ranks.index, ranks.index), ax=axes,
        label_fmt_left="{label}  {rank:.1f} ", label_fmt_right=" {rank:.1f}  {label}",
        label_props={"fontsize": 9}, crossbar_props={"color": "#444444", "linewidth": 3},
        color_palette={
            name: LEARNED if name.startswith("Network") else HANDCRAFTED for name in ranks.index
        },
        text_h_margin=0.012 * len(ranks),
    )  # fmt: skip
    # The library would write the critical difference across the axis of the ranks.
    ruler = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    axes.plot([ranks.min(), ranks.min() + critical], [1.18, 1.18], color="#444444", lw=1.5, **ruler)
    words = f" critical difference {critical:.2f}"
    axes.text(ranks.min() + critical, 1.18, words, fontsize=9, va="center", **ruler)
    return figure


def embedding_map(result: Result, pictures: Sequence[np.ndarray], side_in: float = 0.36) -> Figure:
    """Test images where the embedding puts them, framed by class, as many as find room.

    Parameters
    ----------
    pictures
        Of each place of the embedding. In their order each is shown whose thumbnail would cover
        none before it; the others are points.
    side_in
        Of a thumbnail, in inches.
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
            *places[labels == label].T, s=14, color=CLASS_COLOURS[label % 8], label=class_name,
            marker="osD^vP*X"[label % 8], linewidths=0,
        )  # fmt: skip
    shown = np.empty((0, 2))
    for place, label, image in zip(places, labels, pictures, strict=True):
        if (np.abs(shown - place).max(axis=1) < 1.04 * side).any():
            continue
        shown = np.vstack([shown, place])
        corner, colour = place - side / 2, CLASS_COLOURS[label % 8]
        extent = (corner[0], corner[0] + side, corner[1], corner[1] + side)
        small = fit(image, max(image.shape))  # square
        axes.imshow(small, cmap="gray", vmin=0, vmax=255, extent=extent, zorder=2)
        axes.add_patch(plt.Rectangle(corner, side, side, fill=False, ec=colour, lw=2, zorder=3))
    axes.set(xticks=[], yticks=[], xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    figure.legend(loc="upper center", ncols=len(result.data.class_names), fontsize=9, markerscale=2)
    return figure


def comparison(measured: pd.DataFrame, published: Mapping[str, float], dataset: str) -> Figure:
    """Accuracies measured here, with intervals, and those of the paper: two sets, two panels.

    Parameters
    ----------
    measured
        One row a method, indexed by name: ``accuracy``, ``accuracy low``, ``accuracy high``, in
        percent.
    published
        Percent, by the same names and others.
    """
    height = 0.33 * max(len(measured), len(published)) + 0.9
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_IN, height), layout="constrained")
    order = measured.sort_values("accuracy")
    learned = order.index.str.startswith("Network")
    for kind, colour in ((learned, "#aa3377"), (~learned, "#4477aa")):
        drawn = order[kind]
        left.errorbar(
            drawn["accuracy"],
            np.flatnonzero(kind),
            xerr=[
                drawn["accuracy"] - drawn["accuracy low"],
                drawn["accuracy high"] - drawn["accuracy"],
            ],
            fmt="o",
            color=colour,
            capsize=3,
        )
    left.set(yticks=range(len(order)), yticklabels=order.index)
    left.set_title(textwrap.fill(f"here, on {dataset}", 30))
    left.set(xlabel="accuracy (%)", xlim=(0, 100))
    ordered = dict(sorted(published.items(), key=lambda item: item[1]))
    colours = ["#aa3377" if name.startswith("Network") else "#4477aa" for name in ordered]
    right.scatter(list(ordered.values()), list(ordered), marker="D", color=colours)
    right.set(title="the paper's Table 4", xlabel="accuracy (%)", xlim=(0, 100))
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


def maps(
    images: Sequence[np.ndarray],
    rows: Mapping[str, Sequence[np.ndarray]],
    columns: Sequence[str],
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Grey images in the first row, and below named rows of maps made of them.

    Parameters
    ----------
    images
        (H, W) uint8.
    rows
        Maps of each image, (H, W) of any range.
    columns
        A name for each image.
    ranges
        Of a row's values, from dark to bright; of each map its own where none is given.
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
        for place, each in zip(line, values, strict=True):
            place.imshow(each, cmap="viridis", vmin=low, vmax=high)
            place.set(xticks=[], yticks=[])
            place.grid(False)
    name_rows(axes[:, 0], ("image", *rows), 13)
    figure.subplots_adjust(0.14, 0.01, 0.995, 1 - 0.3 / figure.get_figheight(), 0.04, 0.04)
    return figure


def parameter_effect(result: Result) -> Figure:
    """Accuracy on the validation split of every candidate, by the values of each parameter."""
    grid = {name: values for name, values in result.parameters["grid"].items() if len(values) > 1}
    figure, axes = plt.subplots(
        1, len(grid), figsize=(WIDTH_IN, 2.9), layout="constrained", sharey=True, squeeze=False
    )
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
                    color="#aa3377" if best else "#4477aa",
                    markersize=13 if best else 6,
                    alpha=1 if best else 0.7,
                    zorder=3 if best else 2,
                )
        place.plot(means, "-", color="#888888", lw=1, zorder=1)
        names = [str(value).replace("-", "-\n") for value in values]
        place.set(xticks=range(len(values)), xticklabels=names, xlabel=name.replace("_", " "))
        place.margins(x=0.25)
    # A difference of an image or two must not look like one that counts.
    middle = np.mean(axes[0, 0].get_ylim())
    axes[0, 0].set_ylim(*(middle + np.array([-0.5, 0.5]) * max(8, np.ptp(axes[0, 0].get_ylim()))))
    axes[0, 0].set_ylabel("validation accuracy (%)")
    return figure


def confused(result: Result, pictures: Mapping[str, np.ndarray]) -> Figure:
    """Queries, the image of another class that is nearest, and the nearest of their own class.

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
            (pair.nearest, f"{names[pair.nearest_label]}\n{pair.distance:.3g}", WRONG),
            (
                pair.nearest_of_own_class,
                f"{names[pair.label]}\n{pair.distance_of_own_class:.3g}",
                RIGHT,
            ),
        )
        for place, (image_id, title, colour) in zip(inner, shown, strict=True):
            axes = figure.add_subplot(place)
            show_image(axes, pictures[image_id], title)
            if colour:
                axes.title.set_color(colour)
                frame(axes, colour)
    return figure


def embeddings(found: Mapping[str, Result], across: int = 3) -> Figure:
    """Test images as points, one panel a method; classes by colour and mark."""
    shown = {name: result for name, result in found.items() if result.embedding}
    lines = -(-len(shown) // across)
    side = WIDTH_IN / across
    figure, axes = plt.subplots(
        lines, across, figsize=(WIDTH_IN, (side + 0.1) * lines + 0.6), squeeze=False
    )
    for place in axes.flat[len(shown) :]:
        place.axis("off")
    for place, (name, result) in zip(axes.flat, shown.items(), strict=False):
        points, labels = np.array(result.embedding.places), np.array(result.embedding.labels)
        for label, class_name in enumerate(result.data.class_names):
            here = points[labels == label]
            place.scatter(
                *here.T, s=9, marker="osD^vP*X"[label % 8], color=CLASS_COLOURS[label % 8],
                label=class_name, linewidths=0,
            )  # fmt: skip
        place.set(xticks=[], yticks=[])
        place.set_title(name, fontsize=10)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=3, fontsize=9, markerscale=2)
    top = 1 - (0.62 + 0.24) / figure.get_figheight()
    figure.subplots_adjust(0.01, 0.01, 0.99, top, 0.05, 0.12)
    return figure


def distance_effect(found: Mapping[str, Result]) -> Figure:
    """Validation accuracy of each method at each distance its vectors allow; its own is framed."""
    values = pd.DataFrame(
        {
            name: {tried.distance: 100 * tried.accuracy for tried in result.distances}
            for name, result in found.items()
            if result.distances
        }
    ).T
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 0.33 * len(values) + 1.3), layout="constrained")
    sns.heatmap(values, annot=True, fmt=".1f", cmap="Blues", ax=axes, cbar=False, linewidths=1)
    for row, name in enumerate(values.index):
        column = values.columns.get_loc(found[name].distances[0].distance)
        axes.add_patch(
            plt.Rectangle((column + 0.04, row + 0.06), 0.92, 0.88, fill=False, ec="#aa3377", lw=2)
        )
    axes.set_xticklabels([name.replace(" ", "\n") for name in values.columns])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(False)
    return figure


def rules(found: Mapping[str, Result]) -> Figure:
    """Test accuracy of each method by each way to name classes, best method on top."""
    order = sorted(found, key=lambda name: max(rule.accuracy for rule in found[name].rules))
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 0.3 * len(order) + 1.1), layout="constrained")
    for rule, (marker, colour) in RULE_MARKS.items():
        points = [
            (100 * answer.accuracy, row)
            for row, name in enumerate(order)
            for answer in found[name].rules
            if answer.rule == rule
        ]
        if points:
            # Where k is 1 a square stands around a circle.
            hollow = {"fillstyle": "none", "mew": 1.8, "ms": 10} if marker == "s" else {}
            axes.plot(*np.transpose(points), marker, color=colour, label=rule, **hollow)
    axes.set(yticks=range(len(order)), yticklabels=order, xlabel="test accuracy (%)")
    axes.grid(axis="y", alpha=0.5)
    figure.legend(loc="outside upper center", ncols=5, fontsize=8, handletextpad=0.1)
    return figure


def align_ends(axes: Axes) -> None:
    """Keep the labels of two ticks, at the ends of the axis below, inside the panel."""
    for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=False):
        label.set_horizontalalignment(side)


def cell_histograms(
    rows: Mapping[str, np.ndarray], whole: np.ndarray, cells: np.ndarray, ranges: int = 256
) -> Figure:
    """Images in rows: the image cut into cells, its histogram, and the histogram of each cell.

    Parameters
    ----------
    rows
        (H, W) uint8 by name.
    whole : (N, B)
        Shares of the grey values in each image.
    cells : (N, G, G, B)
        The same by cell.
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
        axes.bar(centres, shares, ranges / bins, color="#4477aa", linewidth=0)
        axes.set(xlim=(0, ranges), ylim=(0, 1.05 * most), yticks=[], xticks=[0, ranges - 1])
        axes.tick_params(labelsize=8, labelbottom=last)
        axes.grid(False)
        align_ends(axes)

    for number, (name, image) in enumerate(rows.items()):
        axes = figure.add_subplot(parts[number, 0])
        show_image(axes, image)
        axes.set_ylabel(textwrap.fill(name, 10), rotation=0, ha="right", va="center", fontsize=9)
        for cut in range(1, grid):
            axes.axhline(cut * image.shape[0] / grid - 0.5, color="#ee6677", lw=1)
            axes.axvline(cut * image.shape[1] / grid - 0.5, color="#ee6677", lw=1)
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


def histograms(
    images: Sequence[np.ndarray],
    curves: Mapping[str, np.ndarray],
    cells: Mapping[str, Sequence[np.ndarray]],
    columns: Sequence[str],
) -> Figure:
    """Grey images, below their histograms as curves, below named rows of the cells' grey values.

    Parameters
    ----------
    curves : (N, B)
        Shares of the grey values of each image, by name.
    cells
        (G, G) of each image, 0 black to 255 white, by name.
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
        for (name, shares), style in zip(curves.items(), ("-", "--", ":"), strict=False):
            grey = (np.arange(shares.shape[1]) + 0.5) * 256 / shares.shape[1]
            place.plot(grey, shares[number], style, label=name, lw=1.4)
        low = min(shares[shares > 0].min() for shares in curves.values())
        place.set(yscale="log", xlim=(0, 256), ylim=(0.8 * low, 1.3), xticks=[0, 255])
        place.set_box_aspect(1)
        place.tick_params(labelsize=8, labelleft=number == 0, pad=1)
        place.minorticks_off()
        align_ends(place)
    for line, values in zip(axes[2:], cells.values(), strict=True):
        for place, each in zip(line, values, strict=True):
            show_image(place, each)
    name_rows(axes[:, 0], ("image", "share of pixels", *cells), 10)
    height = figure.get_figheight()
    figure.legend(
        *axes[1, 0].get_legend_handles_labels(), loc="lower center", ncols=len(curves), fontsize=9
    )
    figure.subplots_adjust(0.14, 0.4 / height, 0.995, 1 - 0.3 / height, 0.06, 0.16)
    return figure


def strokes(
    images: Sequence[np.ndarray], cells: Sequence[np.ndarray], columns: Sequence[str]
) -> Figure:
    """Grey images, below the edges of each cell: a stroke an orientation, as long as its share.

    Parameters
    ----------
    cells
        (C, C, O) of each image, 0 or more; value o is of gradients at o to o + 1 of O parts of 180
        degrees, clockwise from the right as rows go down. Edges are drawn across gradients.
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


def barcodes(
    images: Sequence[np.ndarray],
    projections: np.ndarray,
    bits: np.ndarray,
    columns: Sequence[str],
) -> Figure:
    """Grey images, below their projections at 0 and 90 degrees, below the bits of all angles.

    Parameters
    ----------
    projections : (N, A, L)
        Sums of grey values.
    bits : (N, A, L)
        1, drawn white, or 0.
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
            place.plot(bins, lines[angle], color="#4477aa", lw=1.2)
            place.fill_between(
                bins, lines[angle], where=code[angle] > 0, color="#66ccee", lw=0, step="mid"
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


def forgiven(shifts: Sequence[float], distances: Mapping[str, np.ndarray]) -> Figure:
    """Distance of images from themselves moved, one thin curve an image, one colour a distance.

    Parameters
    ----------
    shifts
        In pixels.
    distances : (N, S)
        By name, in units of what is drawn as a line at 1.
    """
    figure, axes = plt.subplots(figsize=(0.75 * WIDTH_IN, 2.8), layout="constrained")
    looks = zip(("o-", "s--"), ("#4477aa", "#aa3377"), strict=True)
    for (name, curves), (style, colour) in zip(distances.items(), looks, strict=False):
        lines = axes.plot(shifts, curves.T, style, color=colour, lw=1, ms=4, alpha=0.8)
        lines[0].set_label(name)
    axes.axhline(1, color="#888888", lw=1, label="as far as other regions")
    axes.set(xlabel="moved by (pixels of the thumbnail)", ylabel="distance", ylim=(0, None))
    figure.legend(fontsize=9, loc="outside upper center", ncols=3)
    return figure


def filter_banks(
    banks: Mapping[str, np.ndarray], waves: Mapping[str, np.ndarray], side: int
) -> Figure:
    """Banks of Gabor filters: half-peak contours over the frequencies, and below filters as images.

    Parameters
    ----------
    banks
        (filters, 4) centre frequency, orientation, deviation along and across it, in bins of a
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
                color="#4477aa",
                lw=1.2,
            )
        top.plot([-0.5, -0.5, 0.5, 0.5], [0, 0.5, 0.5, 0], "--", color="#888888", lw=1)
        top.plot(0, 0, "+", color="#888888")
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


def visual_words(
    vocabulary: Sequence[np.ndarray],
    images: Mapping[str, np.ndarray],
    spelt: Mapping[str, np.ndarray],
    places: np.ndarray,
) -> Figure:
    """What each visual word looks like, which one each point of an image has, and how often.

    Parameters
    ----------
    vocabulary
        A picture of each of up to ten words, of any range.
    images
        (H, W) uint8 by name.
    spelt
        (rows, columns) words at the points of the grid, by the same names.
    places
        Coordinates of the grid's rows, and of its columns, in pixels.
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
        frame(axes, colours[number], 4)
    x, y = np.meshgrid(places, places)
    shares = {
        name: 100 * np.bincount(words.ravel(), minlength=count) / words.size
        for name, words in spelt.items()
    }
    highest = 1.05 * max(share.max() for share in shares.values())
    for line, (name, image) in zip(list(outer)[1:], images.items(), strict=True):
        plain, spotted, bars = (
            figure.add_subplot(place)
            for place in line.subgridspec(1, 3, width_ratios=(1, 1, 2.1), wspace=0.1)
        )
        show_image(plain, image, name)
        show_image(spotted, image)
        spotted.scatter(x, y, s=14, c=[colours[word] for word in spelt[name].flat], linewidths=0)
        bars.bar(range(count), shares[name], color=colours[:count])
        bars.set(xticks=[], ylim=(0, highest))
        bars.yaxis.tick_right()
        bars.yaxis.set_label_position("right")
        bars.set_ylabel("share of points (%)", fontsize=8)
        bars.tick_params(labelsize=8)
        bars.grid(axis="x", visible=False)
    return figure


NETWORK_COLOURS = dict(zip("ABCDEFG", CLASS_COLOURS, strict=False)) | {"H": "#000000"}
NETWORK_MARKS = dict(zip("ABCDEFGH", "osD^vPX*", strict=True))


def search(found: Sequence[Result], chosen: float) -> Figure:
    """Validation accuracy by learning rate: one line a network, and the mean of all of them."""
    table = networks_table(found).assign(rate=[r.parameters["learning_rate"] for r in found])
    lines = table.pivot(index="rate", columns="network", values="validation accuracy")
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 3.2), layout="constrained")
    for name, line in lines.items():
        style = {"color": NETWORK_COLOURS[name], "marker": NETWORK_MARKS[name]}
        axes.plot(line.index, line, label=f"Network {name}", **style)
    axes.plot(lines.index, lines.mean(axis=1), "k--", lw=2.2, label="mean")
    axes.axvline(chosen, color="#888888", ls=":")
    axes.set(xscale="log", xlabel="learning rate", ylabel="validation accuracy (%)")
    axes.set_xticks(lines.index, [f"{rate:g}" for rate in lines.index])
    axes.minorticks_off()
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def seed_curves(found: Sequence[Result]) -> Figure:
    """Losses of each network in plain training by epoch: mean of the seeds, lowest to highest."""
    plain = [r for r in found if not variant_of(r) and r.parameters["network"] in NETWORKS]
    names = sorted({r.parameters["network"] for r in plain})
    figure, axes = plt.subplots(
        2, 4, figsize=(WIDTH_IN, 4.6), layout="constrained", sharex=True, sharey=True
    )
    for place, name in zip(axes.flat, names, strict=False):
        own = [r.training for r in plain if r.parameters["network"] == name]
        for curve, style, colour in (
            ("train_loss", "-", "#4477aa"),
            ("validation_loss", "--", "#aa3377"),
        ):
            values = pd.DataFrame([getattr(training, curve) for training in own])
            epochs = values.columns + 1
            place.fill_between(epochs, values.min(), values.max(), color=colour, alpha=0.2, lw=0)
            place.plot(epochs, values.mean(), style, color=colour, label=curve.split("_")[0])
        place.set_title(f"{name}, {len(own)} seeds" if len(own) > 1 else f"{name}, one seed")
        place.xaxis.get_major_locator().set_params(integer=True)
    for place in axes.flat[len(names) :]:
        place.axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center", fontsize=10)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("cross-entropy (nats)", fontsize=10)
    return figure


def forest(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """Paired differences with their 95 % intervals, one panel a question, from top to bottom.

    Parameters
    ----------
    panels
        By title, one row a comparison with the same index in each: ``difference``, ``low``,
        ``high``, ``lowest`` and ``highest`` of the seeds, in percentage points; ``paper``, if
        given, is the paper's difference. NaN is not drawn.
    """
    names = next(iter(panels.values())).index
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(WIDTH_IN, 0.31 * len(names) + 1.4),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for place, (title, rows) in zip(axes[0], panels.items(), strict=True):
        lines = np.arange(len(rows))
        place.axvline(0, color="#555555", lw=1)
        for end in ("lowest", "highest"):
            place.plot(rows[end], lines, "|", color="#777777", ms=9, label="lowest, highest seed")
        place.errorbar(
            rows["difference"],
            lines,
            xerr=[rows["difference"] - rows["low"], rows["high"] - rows["difference"]],
            fmt="o",
            color="#4477aa",
            lw=2.2,
            label="here, 95 % interval",
        )
        if "paper" in rows:
            style = {"mfc": "none", "mec": "#aa3377", "mew": 1.6, "ms": 5, "label": "the paper"}
            place.plot(rows["paper"], lines + 0.3, "D", **style)
        place.set_title(title)
        place.set(yticks=lines, yticklabels=names, ylim=(len(rows) - 0.5, -0.5))
        place.tick_params(labelsize=9)
    figure.supxlabel("difference (percentage points)", fontsize=10)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=3, fontsize=9)
    return figure


def loss_gaps(found: Mapping[str, Sequence[Result]]) -> Figure:
    """Validation loss minus training loss by epoch, mean of the seeds: one panel a network.

    Parameters
    ----------
    found
        Results by the name of the way they were trained, at most four.
    """
    names = sorted({r.parameters["network"] for results in found.values() for r in results})
    lines = -(-(len(names) + 1) // 4)
    figure, axes = plt.subplots(
        lines,
        4,
        figsize=(WIDTH_IN, 2.1 * lines + 0.3),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    looks = zip(
        ("-", "--", "-.", ":"), ("#000000", "#4477aa", "#ccbb44", "#aa3377"), "os^D", strict=True
    )
    for (way, results), (style, colour, mark) in zip(found.items(), looks, strict=False):
        for place, name in zip(axes.flat, names, strict=False):
            own = [r.training for r in results if r.parameters["network"] == name]
            gaps = pd.DataFrame(
                [np.subtract(curves.validation_loss, curves.train_loss) for curves in own]
            ).mean()
            place.plot(
                gaps.index + 1, gaps, style, color=colour, marker=mark, ms=3.5, lw=1.4, label=way
            )
    for place, name in zip(axes.flat, names, strict=False):
        place.axhline(0, color="#888888", lw=1)
        place.set_title(name)
        place.tick_params(labelsize=9)
        place.xaxis.get_major_locator().set_params(integer=True)
    for place in axes.flat[max(0, len(names) - 4) : len(names)]:  # the lowest of each column
        place.tick_params(labelbottom=True)
    for place in axes.flat[len(names) :]:
        place.axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center", fontsize=10)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("validation minus training loss (nats)", fontsize=10)
    return figure


def trade_off(table: pd.DataFrame) -> Figure:
    """Accuracy against what a network costs: its parameters, and the time of its training.

    Parameters
    ----------
    table
        One row a way to train a network: ``network``; ``kind``, "plain" for those drawn as a
        letter; ``accuracy`` in percent; ``parameters`` in million; ``training s``.
    """
    figure, axes = plt.subplots(
        1, 2, figsize=(WIDTH_IN, 4.4), layout="constrained", sharey=True, squeeze=False
    )
    kinds = sorted(set(table["kind"]) - {"plain"})
    costs = {"parameters": "parameters (million)", "training s": "training (s)"}
    for place, (cost, label) in zip(axes[0], costs.items(), strict=True):
        for kind, mark in zip(kinds, "osD^vP", strict=False):
            rows = table[table["kind"] == kind]
            place.scatter(
                rows[cost],
                rows["accuracy"],
                s=28,
                marker=mark,
                c=[NETWORK_COLOURS[name] for name in rows["network"]],
                linewidths=0,
            )
        for _, row in table[table["kind"] == "plain"].iterrows():
            place.annotate(
                row["network"],
                (row[cost], row["accuracy"]),
                ha="center",
                va="center",
                fontsize=9,
                bbox={
                    "boxstyle": "circle,pad=0.12",
                    "fc": "white",
                    "ec": NETWORK_COLOURS[row["network"]],
                    "lw": 2,
                },
            )
        low, high = table[cost].min(), table[cost].max()
        place.set(xscale="log", xlabel=label, xlim=(low / 1.25, high * 1.25))
        place.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.xaxis.set_major_formatter("{x:g}")
        place.minorticks_off()
    spread = max(4, np.ptp(table["accuracy"]))
    middle = (table["accuracy"].min() + table["accuracy"].max()) / 2
    axes[0, 0].set(ylim=(middle - 0.57 * spread, middle + 0.57 * spread))
    axes[0, 0].set_ylabel("test accuracy (%)")
    handles = [
        plt.Line2D([], [], ls="", marker=mark, color="#555555")
        for _, mark in zip(kinds, "osD^vP", strict=False)
    ]
    figure.legend(
        handles, kinds, loc="outside upper center", ncols=4, fontsize=9, handletextpad=0.1
    )
    return figure


def receptive_fields(images: np.ndarray, names: Sequence[str], fields: Mapping[str, int]) -> Figure:
    """Images, with the squares that single values of the networks' last feature maps depend on.

    Parameters
    ----------
    images : (N, S, S) uint8
    fields
        Side of the square in pixels, by network; drawn around the centre.
    """
    sides = {side: [name for name in fields if fields[name] == side] for side in fields.values()}
    figure, axes = plt.subplots(1, len(images), figsize=(WIDTH_IN, 2.3), layout="constrained")
    for place, image in zip(axes, images, strict=True):
        show_image(place, image)
        for (side, own), colour in zip(sides.items(), CLASS_COLOURS, strict=False):
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


def first_filters(weights: np.ndarray, kinds: Sequence[str], shares: Sequence[float]) -> Figure:
    """Filters of a first convolution, dark for negative weights, framed by what they are most.

    Parameters
    ----------
    weights : (C, K, K)
        Each drawn in its own range around 0.
    kinds, shares
        Of each filter, what it is most, and how much of it, in percent.
    """
    across = 10
    colours = dict(zip(dict.fromkeys(sorted(kinds)), CLASS_COLOURS, strict=False))
    lines = -(-len(weights) // across)
    height = (WIDTH_IN / across + 0.38) * lines + 0.3
    figure, axes = plt.subplots(lines, across, figsize=(WIDTH_IN, height), squeeze=False)
    for place in axes.flat[len(weights) :]:
        place.axis("off")
    for place, each, kind, share in zip(axes.flat, weights, kinds, shares, strict=False):
        most = np.abs(each).max() or 1
        place.imshow(each, cmap="gray", vmin=-most, vmax=most)
        place.set(xticks=[], yticks=[])
        place.set_title(f"{kind}\n{share:.0f} %", fontsize=8, pad=4)
        place.grid(False)
        frame(place, colours[kind], 3)
    handles = [plt.Rectangle((0, 0), 1, 1, fill=False, ec=c, lw=3) for c in colours.values()]
    figure.legend(handles, colours, loc="lower center", ncols=len(colours), fontsize=9)
    top = 1 - 0.4 / height
    figure.subplots_adjust(0.01, 0.32 / height, 0.99, top, 0.14, 0.38 * across / WIDTH_IN)
    return figure


def channels(rows: Mapping[str, np.ndarray]) -> Figure:
    """All channels of some layers for one image, a block a layer, each block in one range."""
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
        for axes, each in zip(inner.flat, values, strict=False):
            axes.imshow(each, cmap="viridis", vmin=0, vmax=highest)
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
        label = place.get_position(figure)
        figure.text(
            label.x0 - 0.01, (label.y0 + label.y1) / 2, name,
            ha="right", va="center", fontsize=9,
        )  # fmt: skip
    return figure


def stages(
    images: Sequence[np.ndarray],
    rows: Mapping[str, Sequence[np.ndarray]],
    squares: Mapping[str, tuple[np.ndarray, float]],
    columns: Sequence[str],
) -> Figure:
    """As :func:`maps`, each row in one range from 0, with a square on the image for each map.

    Parameters
    ----------
    squares
        By the rows' names: (N, 2) row and column of the squares' centres in pixels of the images,
        and their side.
    """
    ranges = {name: (0, max(float(np.max(values)), 1e-9)) for name, values in rows.items()}
    figure = maps(images, rows, columns, ranges)
    grid = np.reshape(figure.axes, (1 + len(rows), len(images)))
    for line, name, colour in zip(grid[1:], rows, CLASS_COLOURS, strict=False):
        centres, side = squares[name]
        for below, place, (y, x) in zip(line, grid[0], centres, strict=True):
            corner = (x - side / 2, y - side / 2)
            drawn = plt.Rectangle(corner, side, side, fill=False, ec=colour, lw=1.8)
            place.add_patch(drawn)
            frame(below, colour, 3)
    return figure


def sensitivity(
    groups: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray, str] | None]],
    starts: np.ndarray,
    patch_px: int,
) -> Figure:
    """Images, and below each the map of an occlusion laid over it; a row of pairs a group.

    Parameters
    ----------
    groups
        By name, for each column the image, (S, S) falls of the log-odds, and a caption; None where
        there is no such image.
    starts : (S,)
        First pixels of the patch's places.
    patch_px
        Side of the patch. The square on the image is the patch whose covering costs most.
    """
    across = max(map(len, groups.values()))
    side, above, between = (WIDTH_IN - 0.75) / across, 0.36, 0.2
    height = len(groups) * (2 * side + above + between)
    figure = plt.figure(figsize=(WIDTH_IN, height))
    stride = starts[1] - starts[0] if len(starts) > 1 else patch_px
    low, high = starts[[0, -1]] + (patch_px - 1) / 2 + np.array([-0.5, 0.5]) * stride
    for number, (name, columns) in enumerate(groups.items()):
        for column, entry in enumerate(columns):
            left = (0.75 + column * side) / WIDTH_IN
            bottom = 1 - (number * (2 * side + above + between) + above + side) / height
            size = (0.96 * side / WIDTH_IN, 0.96 * side / height)
            plain = figure.add_axes((left, bottom, *size))
            over = figure.add_axes((left, bottom - (side + between) / height, *size))
            if column == 0:
                name_rows((plain, over), (name, "when covered"), 10)
            if entry is None:
                for axes in (plain, over):
                    axes.set(xticks=[], yticks=[])
                    axes.set_facecolor("white")
                plain.text(0.5, 0.5, "none", ha="center", va="center", transform=plain.transAxes)
                continue
            image, falls, caption = entry
            show_image(plain, image, caption)
            row, place = np.unravel_index(falls.argmax(), falls.shape)
            corner = (starts[place] - 0.5, starts[row] - 0.5)
            square = {"fill": False, "ec": "#ee7733", "lw": 2}
            plain.add_patch(plt.Rectangle(corner, patch_px, patch_px, **square))
            show_image(over, image, f"odds ÷ {np.exp(falls.max()):.3g}")
            colours = np.where(falls[..., None] > 0, (238, 119, 51), (0, 153, 238)) / 255
            alpha = 0.85 * np.abs(falls) / max(np.abs(falls).max(), 1e-9)
            over.imshow(
                np.dstack([colours, alpha]), extent=(low, high, high, low), interpolation="nearest"
            )
            over.set(xlim=plain.get_xlim(), ylim=plain.get_ylim())
    return figure


def accuracy_by(groups: Mapping[str, pd.DataFrame], overall: float, across: int = 3) -> Figure:
    """Accuracy of parts of the test split, a panel a setting, with intervals.

    Parameters
    ----------
    groups
        By the setting's name, one row a part: ``images``, and in percent ``accuracy``, ``low``,
        ``high``. The index names the parts.
    overall
        Of all, in percent: the line.
    """
    lines = -(-len(groups) // across)
    figure, axes = plt.subplots(
        lines, across, figsize=(WIDTH_IN, 1.75 * lines), layout="constrained", sharey=True,
        squeeze=False,
    )  # fmt: skip
    for place in axes.flat[len(groups) :]:
        place.axis("off")
    for place, (name, parts) in zip(axes.flat, groups.items(), strict=False):
        x = np.arange(len(parts))
        lengths = [parts["accuracy"] - parts["low"], parts["high"] - parts["accuracy"]]
        place.axhline(overall, color="#888888", ls="--", lw=1)
        place.errorbar(x, parts["accuracy"], yerr=lengths, fmt="o", color="#4477aa", capsize=3)
        names = [f"{part}\n({n})" for part, n in zip(parts.index, parts["images"], strict=True)]
        place.set_xticks(x, names, fontsize=8)
        place.set_xlim(-0.5, len(parts) - 0.5)
        place.set_title(name, fontsize=9)
        place.grid(axis="x", visible=False)
        place.tick_params(axis="y", labelsize=8)
        place.tick_params(axis="x", pad=1)
        place.set(ylim=(0, 102), yticks=range(0, 101, 25))
    figure.supylabel("accuracy (%)", fontsize=10)
    return figure


# How a comparison of the reproduction report ended: mark, colour, whether filled.
OUTCOME_MARKS = {
    "for": ("o", RIGHT, True),
    "against": ("X", WRONG, True),
    "open": ("o", "#555555", False),
    "loser still learning": ("^", "#b8860b", False),
}


def claim(panels: Mapping[str, pd.DataFrame], unit: str = "accuracy") -> Figure:
    """The comparisons that decide a claim, with their 95 % intervals; right of the line is for it.

    Parameters
    ----------
    panels
        By title, one row a comparison, named by the index: ``difference``, ``low``, ``high``,
        ``allowance`` and ``paper`` in percentage points, and ``outcome``. NaN is not drawn.
    unit
        Of what the differences are.
    """
    across = min(len(panels), 3)
    lines = -(-len(panels) // across)
    longest = max(map(len, panels.values()))
    figure, axes = plt.subplots(
        lines, across, figsize=(WIDTH_IN, lines * (0.29 * longest + 0.45) + 0.8),
        layout="constrained", sharex=True, sharey=across > 1, squeeze=False,
    )  # fmt: skip
    for place in axes.flat[len(panels) :]:
        place.axis("off")
    for place, (title, rows) in zip(axes.flat, panels.items(), strict=False):
        heights = np.arange(len(rows))
        place.axvline(0, color="#555555", lw=1)
        if (least := -rows["allowance"].max()) < 0:
            place.axvline(least, color="#555555", lw=1, ls=":", label="what is allowed")
        for outcome, (mark, colour, filled) in OUTCOME_MARKS.items():
            own = (rows["outcome"] == outcome).to_numpy()
            if own.any():
                of = rows[own]
                place.errorbar(
                    of["difference"], heights[own],
                    xerr=[of["difference"] - of["low"], of["high"] - of["difference"]],
                    fmt=mark, color=colour, mfc=colour if filled else "white", mew=1.5, ms=6.5,
                    lw=2, label=outcome,
                )  # fmt: skip
        missing = heights[(rows["outcome"] == "not run").to_numpy()]
        if len(missing):
            place.plot(np.zeros(len(missing)), missing, "_", color="#888888", label="not run")
        if rows["paper"].notna().any():
            style = {"mfc": "none", "mec": "#aa3377", "mew": 1.5, "ms": 4.5, "label": "the paper"}
            place.plot(rows["paper"], heights + 0.28, "D", **style)
        place.set_title(title, fontsize=10)
        place.set(yticks=heights, yticklabels=rows.index, ylim=(len(rows) - 0.4, -0.6))
        place.tick_params(labelsize=9)
    figure.supxlabel(f"difference in {unit} (percentage points)", fontsize=10)
    shown: dict[str, object] = {}
    for place in axes.flat[: len(panels)]:
        for handle, label in zip(*place.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=5, fontsize=9)
    return figure


def verified(numbers: pd.DataFrame) -> Figure:
    """How far each number of each run is off, in units of its tolerance.

    Parameters
    ----------
    numbers
        One row a number: ``run``, ``difference``, ``tolerance``, ``verdict``; without a difference
        it is not drawn.
    """
    most = 1.6  # what is farther off is drawn there
    marks = {
        "same": ("o", "#4477aa"),
        "within tolerance": ("s", "#ccbb44"),
        "different": ("X", WRONG),
    }
    drawn = numbers.dropna(subset="difference").copy()
    # A difference where none is tolerated is beyond any number of tolerances.
    off = drawn["difference"].abs() / drawn["tolerance"].where(drawn["tolerance"] > 0)
    drawn["off"] = off.fillna((drawn["difference"] != 0) * np.inf).clip(upper=most)
    runs = list(dict.fromkeys(numbers["run"]))
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 0.27 * len(runs) + 1.3), layout="constrained")
    axes.axvline(1, color="#555555", lw=1, ls="--")
    for verdict, (mark, colour) in marks.items():
        rows = drawn[drawn["verdict"] == verdict]
        places = [runs.index(run) for run in rows["run"]]
        alpha = 1 if verdict == "different" else 0.5
        axes.plot(rows["off"], places, mark, color=colour, ms=6, alpha=alpha, label=verdict)
    counts = drawn.groupby(["run", "verdict"]).size()
    for place, run in enumerate(runs):
        axes.annotate(
            f"{counts.get((run, 'same'), 0)} same", (0, place), (-8, 0),
            textcoords="offset points", va="center", ha="right", fontsize=8, color="#4477aa",
        )  # fmt: skip
    axes.set(yticks=range(len(runs)), yticklabels=runs, ylim=(len(runs) - 0.5, -0.5))
    axes.set(xlim=(-0.25, most + 0.05), xlabel="difference, in units of the tolerance")
    axes.set_xticks([0, 0.5, 1, 1.5])
    axes.tick_params(axis="y", labelsize=9)
    figure.legend(loc="outside upper center", ncols=3, fontsize=9)
    return figure


def spread_of_reruns(reruns: pd.DataFrame, tolerances: Mapping[str, float]) -> Figure:
    """Draw the largest change of a measure in each rerun, networks below a line.

    Parameters
    ----------
    reruns
        One row a rerun: ``run``, ``circumstances``, ``trained``, and one column a measure, in
        percentage points.
    tolerances
        Of networks, by measure.
    """
    ordered = reruns.sort_values("trained", kind="stable")
    runs = list(dict.fromkeys(ordered["run"]))
    above = ordered[~ordered["trained"]]["run"].nunique()  # methods without training
    figure, axes = plt.subplots(
        1, len(tolerances), figsize=(WIDTH_IN, 0.25 * len(runs) + 1.5), layout="constrained",
        sharey=True, squeeze=False,
    )  # fmt: skip
    for place, (measure, tolerance) in zip(axes[0], tolerances.items(), strict=True):
        groups = ordered.groupby("circumstances", sort=False)
        for (name, rows), mark, colour in zip(groups, "osD^v", CLASS_COLOURS, strict=False):
            lines = [runs.index(run) for run in rows["run"]]
            place.plot(
                rows[measure], lines, mark, color=colour, label=name, ms=6, mfc="none", mew=1.4
            )
        if above:
            place.axhline(above - 0.5, color="#999999", lw=0.8)
        if tolerance > 0:
            span = [above - 0.5, len(runs) - 0.5]
            place.plot([tolerance] * 2, span, "--", color="#555555", label="tolerance of networks")
        place.set_xscale("symlog", linthresh=1e-6, linscale=0.5)
        place.set(xlabel=f"{measure}: largest change\n(percentage points)", xlim=(-4e-7, 100))
        place.set_xticks([0, 1e-6, 1e-4, 0.01, 1, 100], ["0", "1e-6", "1e-4", "0.01", "1", "100"])
        place.minorticks_off()
    axes[0, 0].set(yticks=range(len(runs)), yticklabels=runs, ylim=(len(runs) - 0.5, -0.5))
    axes[0, 0].tick_params(axis="y", labelsize=9)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9
    )
    return figure


def levels(panels: Mapping[str, pd.DataFrame], label: str) -> Figure:
    """Measures at the levels of a factor, one line a level, one panel a measure, a colour a method.

    Parameters
    ----------
    panels
        By title, one row a measurement: ``level``, ``method``, ``value``, and ``low`` and ``high``
        where there is an interval.
    label
        Of the horizontal axis.
    """
    first = next(iter(panels.values()))
    names, methods = list(first["level"].unique()), list(first["method"].unique())
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(WIDTH_IN, 0.28 * len(names) + 1.4),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for place, (title, rows) in zip(axes[0], panels.items(), strict=True):
        for number, method in enumerate(methods):
            own = rows[rows["method"] == method]
            lines = own["level"].map(names.index) + (number - (len(methods) - 1) / 2) * 0.24
            spread = [own["value"] - own["low"], own["high"] - own["value"]]
            place.errorbar(
                own["value"],
                lines,
                xerr=None if own["low"].isna().any() else spread,
                fmt="osD^v"[number % 5],
                color=CLASS_COLOURS[number],
                lw=1.8,
                ms=5,
                label=method,
            )
        place.set_title(title)
        place.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
        place.tick_params(labelsize=9)
    figure.supxlabel(label, fontsize=10)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9
    )
    return figure


def level_curves(
    panels: Mapping[str, pd.DataFrame],
    xlabels: Sequence[str],
    ylabel: str,
    *,
    across: int = 3,
    logarithmic: bool = False,
    whole: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Figure:
    """A measure along the levels of a factor, one panel a factor, a curve a method, with its band.

    Parameters
    ----------
    panels
        By title, one row a measurement: ``level`` (a number), ``method``, ``value``, ``low``,
        ``high``.
    xlabels
        Of each panel.
    logarithmic
        Whether levels are on a logarithmic axis.
    whole
        By title, places (level, value) of what was not reduced: a black star each.
    """
    methods = list(dict.fromkeys(m for rows in panels.values() for m in rows["method"]))
    across = min(across, len(panels))
    down = -(-len(panels) // across)
    figure, axes = plt.subplots(
        down,
        across,
        figsize=(WIDTH_IN, 2.5 * down + 0.7),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for place, (title, rows), xlabel in zip(axes.flat, panels.items(), xlabels, strict=False):
        for method, own in rows.groupby("method", sort=False):
            number = methods.index(method)
            own, colour = own.sort_values("level"), CLASS_COLOURS[number % len(CLASS_COLOURS)]
            place.fill_between(
                own["level"], own["low"], own["high"], color=colour, alpha=0.15, lw=0
            )
            style = "osD^vPX*"[number % 8] + "-"
            place.plot(own["level"], own["value"], style, color=colour, ms=5, lw=1.5, label=method)
        for level, value in (whole or {}).get(title, ()):
            place.plot(level, value, "k*", ms=11, label="whole vector")
        if logarithmic:
            place.set_xscale("log", base=2)
            place.xaxis.set_major_formatter(ScalarFormatter())
        place.set_title(title)
        place.set_xlabel(textwrap.fill(xlabel, 30), fontsize=9)
        place.tick_params(labelsize=9)
    for place in axes.flat[len(panels) :]:
        place.axis("off")
    shown = {}
    for place in axes.flat:
        handles, labels = place.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    figure.supylabel(ylabel, fontsize=10)
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=3, fontsize=9)
    return figure


def scaling(points: pd.DataFrame, predicted: Mapping[tuple[str, str], pd.DataFrame]) -> Figure:
    """What a search costs by the size of the gallery, measured and extrapolated, on log axes.

    Parameters
    ----------
    points
        As :func:`cbir_lib.scaling.table` gives them.
    predicted
        By method and quantity, as :func:`cbir_lib.scaling.predict` gives it.
    """
    panels = {
        "latency_ms": ("one query (ms)", 1),
        "bytes": ("memory (GB)", 1e-9),
        "build_s": ("building (s)", 1),
    }
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH_IN, 3.4), layout="constrained", sharex=True)
    looks = zip(("#4477aa", "#aa3377", "#228833", "#ccbb44"), "os^D", strict=True)
    methods = points.groupby("method", sort=False)
    for (method, rows), (colour, mark) in zip(methods, looks, strict=False):
        largest = rows["vectors"].max()
        for place, (quantity, (_, factor)) in zip(axes, panels.items(), strict=True):
            values = factor * rows[quantity]
            place.plot(rows["vectors"], values, mark, color=colour, ms=5, label=method)
            if (method, quantity) not in predicted:
                continue
            line = factor * predicted[method, quantity]
            beyond = line[line.index >= largest]
            within = line[line.index <= largest]
            place.plot(within.index, within["value"], "-", color=colour, lw=1.2)
            place.plot(beyond.index, beyond["value"], "--", color=colour, lw=1.2)
            place.fill_between(
                line.index, line["low"], line["high"], color=colour, alpha=0.12, lw=0
            )
    for place, (title, _) in zip(axes, panels.values(), strict=True):
        place.set(xscale="log", yscale="log", title=title)
        place.tick_params(labelsize=9)
        place.xaxis.set_major_locator(LogLocator(numticks=5))
    figure.supxlabel("vectors in the gallery", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=9)
    return figure

"""Figures of training: learning curves, the search for a learning rate, overfitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cbir_lib.book.figures.described import described
from cbir_lib.book.figures.palette import (
    CLASS_COLOURS,
    INK,
    LEARNED,
    LINE,
    MARKS,
    NETWORK_COLOURS,
    NETWORK_MARKS,
    QUIET,
    SPLITS,
    WAY_COLOURS,
)
from cbir_lib.book.figures.style import WIDTH_IN
from cbir_lib.networks.architectures import NETWORKS
from cbir_lib.study.learning import tabulate_learning_rates
from cbir_lib.study.results import Result, name_variant


@described
def plot_learning_curves(result: Result) -> Figure:
    """Plot loss and validation accuracy by epoch; mark the weights kept if not the last ones."""
    curves = result.training
    epochs = np.arange(1, len(curves.train_loss) + 1)
    figure, (loss, accuracy) = plt.subplots(1, 2, figsize=(WIDTH_IN, 3), layout="constrained")
    loss.plot(epochs, curves.train_loss, "o-", label="training", color=SPLITS["train"])
    loss.plot(epochs, curves.validation_loss, "s--", label="validation", color=SPLITS["validation"])
    name = result.parameters.get("loss")
    loss.set(xlabel="epoch", ylabel=f"{name} loss" if name else "cross-entropy (nats)")
    loss.set(yscale="log")
    accuracy.plot(
        epochs,
        100 * np.array(curves.validation_accuracy),
        "s--",
        label="validation",
        color=SPLITS["validation"],
    )
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)")
    if curves.validation_mean_average_precision:
        precisions = 100 * np.array(curves.validation_mean_average_precision)
        accuracy.plot(epochs, precisions, "^:", label="validation, mAP", color=LEARNED)
        accuracy.set(ylabel="accuracy, mAP (%)")
    for axes in (loss, accuracy):
        if curves.best_epoch < len(epochs):
            axes.axvline(curves.best_epoch, color=QUIET, lw=1, label="weights kept")
        axes.legend(fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


@described
def plot_pulls(vectors: np.ndarray, labels: np.ndarray, pulls: Mapping[str, np.ndarray]) -> Figure:
    """Plot points on the unit circle by class, and an arrow for where each loss pulls them.

    Parameters
    ----------
    vectors : (N, 2)
    labels : (N,) int, from 0
    pulls
        By the name of a loss: (N, 2), lengths at most 1.
    """
    figure, axes = plt.subplots(
        1, len(pulls), figsize=(WIDTH_IN, 2.6), layout="constrained", sharex=True, sharey=True
    )
    for place, (name, arrows) in zip(np.atleast_1d(axes), pulls.items(), strict=True):
        place.add_patch(plt.Circle((0, 0), 1, fill=False, color=LINE, lw=0.8))
        for label in np.unique(labels):
            own = vectors[labels == label]
            style = {"color": CLASS_COLOURS[label % 8], "marker": MARKS[label % len(MARKS)]}
            place.scatter(*own.T, s=34, label=f"class {label}", zorder=3, **style)
        place.quiver(
            *(*vectors.T, *(0.6 * arrows).T),
            **{"angles": "xy", "scale_units": "xy", "scale": 1, "color": INK, "width": 0.012},
        )
        place.set(title=name, xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal")
        place.title.set_fontsize(9)
        place.set(xticks=[], yticks=[])
        place.grid(False)
    figure.legend(
        *place.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9
    )
    return figure


@described
def plot_learning_rate_search(results: Sequence[Result], chosen: float) -> Figure:
    """Plot validation accuracy against learning rate, one line per network and their mean."""
    rates = tabulate_learning_rates(results)
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 3.2), layout="constrained")
    for name, line in rates.drop(columns="mean").items():
        style = {"color": NETWORK_COLOURS[name], "marker": NETWORK_MARKS[name]}
        axes.plot(line.index, line, label=f"Network {name}", **style)
    axes.plot(rates.index, rates["mean"], "k--", lw=2.2, label="mean")
    axes.axvline(chosen, color=QUIET, ls=":")
    axes.set(xscale="log", xlabel="learning rate", ylabel="validation accuracy (%)")
    axes.set_xticks(rates.index, [f"{rate:g}" for rate in rates.index])
    axes.minorticks_off()
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@described
def plot_seed_curves(results: Sequence[Result]) -> Figure:
    """Plot each network's losses in plain training by epoch: mean and range of the seeds."""
    plain = [r for r in results if not name_variant(r) and r.parameters["network"] in NETWORKS]
    names = sorted({r.parameters["network"] for r in plain})
    figure, axes = plt.subplots(
        2, 4, figsize=(WIDTH_IN, 4.6), layout="constrained", sharex=True, sharey=True
    )
    for place, name in zip(axes.flat[: len(names)], names, strict=True):
        own = [r.training for r in plain if r.parameters["network"] == name]
        for curve, style, colour in (
            ("train_loss", "-", SPLITS["train"]),
            ("validation_loss", "--", SPLITS["validation"]),
        ):
            values = pd.DataFrame([getattr(training, curve) for training in own])
            epochs = values.columns + 1
            place.fill_between(epochs, values.min(), values.max(), color=colour, alpha=0.2, lw=0)
            place.plot(epochs, values.mean(), style, color=colour, label=curve.split("_")[0])
        place.set_title(f"{name}, {len(own)} seeds" if len(own) > 1 else f"{name}, one seed")
        place.xaxis.get_major_locator().set_params(integer=True)
    _complete_panels(figure, axes, len(names), "cross-entropy (nats)")
    return figure


@described
def plot_loss_gaps(results: Mapping[str, Sequence[Result]]) -> Figure:
    """Plot validation loss minus training loss by epoch, mean of the seeds, one panel per network.

    Parameters
    ----------
    results
        By the name of the way of training.
    """
    names = sorted({r.parameters["network"] for group in results.values() for r in group})
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
    places = dict(zip(names, axes.flat[: len(names)], strict=True))
    colours = (*WAY_COLOURS, *CLASS_COLOURS)
    for (way, group), style, colour, mark in zip(
        results.items(), cycle(("-", "--", "-.", ":")), cycle(colours), cycle("os^D"), strict=False
    ):
        for name, place in places.items():
            own = [r.training for r in group if r.parameters["network"] == name]
            gaps = pd.DataFrame(
                [np.subtract(curves.validation_loss, curves.train_loss) for curves in own]
            ).mean()
            place.plot(
                gaps.index + 1, gaps, style, color=colour, marker=mark, ms=3.5, lw=1.4, label=way
            )
    for name, place in places.items():
        place.axhline(0, color=QUIET, lw=1)
        place.set_title(name)
        place.tick_params(labelsize=9)
        place.xaxis.get_major_locator().set_params(integer=True)
    for place in axes.flat[max(0, len(names) - 4) : len(names)]:  # the lowest of each column
        place.tick_params(labelbottom=True)
    _complete_panels(figure, axes, len(names), "validation minus training loss (nats)")
    return figure


def _complete_panels(figure: Figure, axes: np.ndarray, count: int, ylabel: str) -> None:
    """Label panels over epochs, hide those after the first ``count``; the last has the legend."""
    for place in axes.flat[count:]:
        place.axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center", fontsize=10)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel(ylabel, fontsize=10)

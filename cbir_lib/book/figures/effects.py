"""Figures of factors that affect retrieval: representation, perturbed queries, gallery size."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from cbir_lib.book.figures.described import described
from cbir_lib.book.figures.palette import CLASS_COLOURS, MARKS, colour_series
from cbir_lib.book.figures.style import WIDTH_IN, label_rows

BEYOND = 10  # times the largest value: how far a panel of costs reaches


@described
def plot_factor_levels(panels: Mapping[str, pd.DataFrame], label: str) -> Figure:
    """Plot measures by the level of a factor: a row per level, a panel per measure.

    Parameters
    ----------
    panels
        By title, one row per measurement: ``level``, ``method``, ``value``, and ``low`` and
        ``high`` where there is an interval. Colours show the methods.
    label
        Of the horizontal axis.
    """
    first = next(iter(panels.values()))
    names, methods = list(first["level"].unique()), list(first["method"].unique())
    colours = colour_series(methods)
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
                color=colours[method],
                lw=1.8,
                ms=5,
                label=method,
            )
        place.set_title(title)
        label_rows(place, range(len(names)), names)
        place.set(ylim=(len(names) - 0.5, -0.5))
        place.tick_params(labelsize=9)
    figure.supxlabel(label, fontsize=10)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9
    )
    return figure


@described
def plot_level_curves(
    panels: Mapping[str, pd.DataFrame],
    xlabels: Sequence[str],
    ylabel: str,
    *,
    across: int = 3,
    logarithmic: bool = False,
    whole: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    by_chance: float | None = None,
) -> Figure:
    """Plot a measure against the level of a factor: a panel per factor, a curve per method.

    Parameters
    ----------
    panels
        By title, one row per measurement: ``level`` (a number), ``method``, ``value``, ``low`` and
        ``high``.
    xlabels
        One per panel.
    ylabel
        Of all panels.
    across
        Panels in a row.
    logarithmic
        Whether levels are on a logarithmic axis.
    whole
        By title, points (level, value) of vectors that were not reduced: a black star each.
    by_chance
        The value of a random ranking: a dotted line.
    """
    methods = list(dict.fromkeys(m for rows in panels.values() for m in rows["method"]))
    colours = colour_series(methods)
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
    places = axes.flat[: len(panels)]
    for place, (title, rows), xlabel in zip(places, panels.items(), xlabels, strict=True):
        for method, own in rows.groupby("method", sort=False):
            number = methods.index(method)
            own, colour = own.sort_values("level"), colours[method]
            place.fill_between(
                own["level"], own["low"], own["high"], color=colour, alpha=0.15, lw=0
            )
            style = MARKS[number % len(MARKS)] + "-"
            place.plot(own["level"], own["value"], style, color=colour, ms=5, lw=1.5, label=method)
        for level, value in (whole or {}).get(title, ()):
            place.plot(level, value, "k*", ms=11, label="whole vector")
        if by_chance is not None:
            place.axhline(by_chance, color="black", ls=":", lw=1, label="a random ranking")
        if logarithmic:
            place.set_xscale("log", base=2)
            place.xaxis.set_major_formatter("{x:g}")
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


@described
def plot_search_cost(
    points: pd.DataFrame, predicted: Mapping[tuple[str, str], pd.DataFrame]
) -> Figure:
    """Plot the cost of a search against gallery size, measured and extrapolated.

    Parameters
    ----------
    points
        As returned by :func:`cbir_lib.study.scaling.tabulate`.
    predicted
        By method and quantity, as returned by :func:`cbir_lib.study.scaling.predict`.
    """
    panels = {
        "latency_ms": ("one query (ms)", 1),
        "bytes": ("memory (GB)", 1e-9),
        "build_s": ("building (s)", 1),
    }
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH_IN, 3.4), layout="constrained", sharex=True)
    methods = points.groupby("method", sort=False)
    for (method, rows), colour, mark in zip(
        methods, cycle(CLASS_COLOURS), cycle("os^DP"), strict=False
    ):
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
        ends = np.concatenate([line.get_ydata() for line in place.lines])
        # Of three points an interval may span thirty powers of ten: it goes on outside the panel.
        ylim = (ends.min() / BEYOND, ends.max() * BEYOND)
        place.set(xscale="log", yscale="log", title=title, ylim=ylim)
        place.tick_params(labelsize=9)
        place.xaxis.set_major_locator(LogLocator(numticks=5))
    figure.supxlabel("vectors in the gallery", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=9)
    return figure

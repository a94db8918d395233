"""Figures of real radiographs as queries."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from cbir_lib.book.figures.described import described
from cbir_lib.book.figures.palette import MARKS, QUIET, colour_kind
from cbir_lib.book.figures.style import WIDTH_IN, label_rows


@described
def plot_real_films(measured: pd.DataFrame, simulated: Mapping[str, float]) -> Figure:
    """Plot the precision of the first answer to real films, best method at the top.

    A method is at its worst region in the order, because it has to serve for all of them.

    Parameters
    ----------
    measured
        As :func:`cbir_lib.study.real.tabulate` returns it.
    simulated
        Accuracy of one nearest neighbour on simulated queries, in percent, by method.
    """
    shares = measured["P@1"].unstack("region")
    order = shares.min(axis=1).sort_values().index
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 0.3 * len(order) + 1.2), layout="constrained")
    colours = [colour_kind(name) for name in order]
    rows = range(len(order))
    axes.scatter(
        [simulated.get(name) for name in order], rows, 90, "black", "|", label="simulated queries"
    )
    for mark, region in zip(cycle(MARKS), shares.columns, strict=False):
        of_region = measured.xs(region, level="region").loc[order]
        for row, colour, (_, one) in zip(rows, colours, of_region.iterrows(), strict=True):
            axes.plot([one["low"], one["high"]], [row, row], color=colour, linewidth=1.2)
        axes.scatter(of_region["P@1"], rows, 34, colours, mark, zorder=3)
        axes.scatter([], [], 34, QUIET, mark, label=f"real, {region}")
    label_rows(axes, rows, order)
    axes.set(xlabel="first answer of the same region (%)")
    axes.set(xlim=(-2, 102), ylim=(-0.7, len(order) - 0.3))
    axes.grid(axis="y", alpha=0.5)
    figure.legend(loc="outside upper center", ncols=4, fontsize=8, handletextpad=0.1)
    return figure

"""Figures of a verification: differences compared with their tolerances."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cbir_lib.book.figures.described import described
from cbir_lib.book.figures.palette import CLASS_COLOURS, LINE, OPEN, QUIET, RIGHT, WRONG
from cbir_lib.book.figures.style import WIDTH_IN


@described
def plot_verification(numbers: pd.DataFrame) -> Figure:
    """Plot the difference of each number of each run, in units of its tolerance.

    Parameters
    ----------
    numbers
        One row per number: ``run``, ``difference``, ``tolerance`` and ``verdict``; a number
        without a difference is not drawn.
    """
    most = 1.6  # what is farther off is drawn there
    marks = {
        "same": ("o", RIGHT),
        "within tolerance": ("s", OPEN),
        "different": ("X", WRONG),
    }
    drawn = numbers.dropna(subset="difference").copy()
    # A difference where none is tolerated is beyond any number of tolerances.
    off = drawn["difference"].abs() / drawn["tolerance"].where(drawn["tolerance"] > 0)
    drawn["off"] = off.fillna((drawn["difference"] != 0) * np.inf).clip(upper=most)
    runs = list(dict.fromkeys(numbers["run"]))
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 0.27 * len(runs) + 1.3), layout="constrained")
    axes.axvline(1, color=LINE, lw=1, ls="--")
    for verdict, (mark, colour) in marks.items():
        rows = drawn[drawn["verdict"] == verdict]
        places = [runs.index(run) for run in rows["run"]]
        alpha = 1 if verdict == "different" else 0.5
        axes.plot(rows["off"], places, mark, color=colour, ms=6, alpha=alpha, label=verdict)
    counts = drawn.groupby(["run", "verdict"]).size()
    for place, run in enumerate(runs):
        axes.annotate(
            f"{counts.get((run, 'same'), 0)} same", (0, place), (-8, 0),
            textcoords="offset points", va="center", ha="right", fontsize=8, color=RIGHT,
        )  # fmt: skip
    axes.set(yticks=range(len(runs)), yticklabels=runs, ylim=(len(runs) - 0.5, -0.5))
    axes.set(xlim=(-0.25, most + 0.05), xlabel="difference, in units of the tolerance")
    axes.set_xticks([0, 0.5, 1, 1.5])
    axes.tick_params(axis="y", labelsize=9)
    figure.legend(loc="outside upper center", ncols=3, fontsize=9)
    return figure


@described
def plot_rerun_spread(reruns: pd.DataFrame, tolerances: Mapping[str, float]) -> Figure:
    """Plot the largest change of each measure in each rerun, with networks below a line.

    Parameters
    ----------
    reruns
        One row per rerun: ``run``, ``circumstances``, ``trained``, and one column per measure, in
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
        for (name, rows), mark, colour in zip(
            groups, cycle("osD^v"), cycle(CLASS_COLOURS), strict=False
        ):
            lines = [runs.index(run) for run in rows["run"]]
            place.plot(
                rows[measure], lines, mark, color=colour, label=name, ms=6, mfc="none", mew=1.4
            )
        if above:
            place.axhline(above - 0.5, color=QUIET, lw=0.8)
        if tolerance > 0:
            span = [above - 0.5, len(runs) - 0.5]
            place.plot([tolerance] * 2, span, "--", color=LINE, label="tolerance of networks")
        place.set_xscale("symlog", linthresh=1e-6, linscale=0.5)
        place.set(xlabel=f"{measure}: largest change\n(percentage points)", xlim=(-4e-7, 100))
        place.set_xticks([0, 1e-6, 1e-4, 0.01, 1, 100], ["0", "", "0.0001", "0.01", "1", "100"])
        place.minorticks_off()
    axes[0, 0].set(yticks=range(len(runs)), yticklabels=runs, ylim=(len(runs) - 0.5, -0.5))
    axes[0, 0].tick_params(axis="y", labelsize=9)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9
    )
    return figure

"""Figures that compare methods: accuracies, intervals, ranks and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from cbir_lib.book.figures.described import described
from cbir_lib.book.figures.palette import (
    COVERED,
    FAMILIES,
    INK,
    LEARNED,
    LINE,
    MARKED,
    MARKS,
    NETWORK_COLOURS,
    PAPER,
    QUIET,
    RIGHT,
    RULE_MARKS,
    UNCOVERED,
    WRONG,
    colour_kind,
)
from cbir_lib.book.figures.style import WIDTH_IN, format_factor, label_rows, name_rows, show_image
from cbir_lib.study.results import Result, find_family

WAY_MARKS = f"{MARKS}<>hp"  # of ways to train a network


@described
def plot_critical_difference(ranks: pd.Series, critical: float) -> Figure:
    """Draw mean ranks on a line, best first; bars join those at most ``critical`` apart."""
    from scikit_posthocs import critical_difference_diagram

    near = np.abs(ranks.to_numpy()[:, None] - ranks.to_numpy()) <= critical
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 0.13 * len(ranks) + 1.7), layout="constrained")
    axes.grid(False)
    critical_difference_diagram(
        ranks, pd.DataFrame(near.astype(float), ranks.index, ranks.index), ax=axes,
        label_fmt_left="{label}  {rank:.1f} ", label_fmt_right=" {rank:.1f}  {label}",
        label_props={"fontsize": 9}, crossbar_props={"color": INK, "linewidth": 3},
        color_palette={name: colour_kind(name) for name in ranks.index},
        text_h_margin=0.012 * len(ranks),
    )  # fmt: skip
    # The library would write the critical difference across the axis of the ranks.
    ruler = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    axes.plot([ranks.min(), ranks.min() + critical], [1.18, 1.18], color=INK, lw=1.5, **ruler)
    words = f" critical difference {critical:.2f}"
    axes.text(ranks.min() + critical, 1.18, words, fontsize=9, va="center", **ruler)
    return figure


@described
def plot_accuracies_beside_paper(
    measured: pd.DataFrame, published: Mapping[str, float], dataset: str
) -> Figure:
    """Plot the accuracies measured here, with intervals, beside those of the paper.

    Two panels on one axis, because they were measured on two sets of images.

    Parameters
    ----------
    measured
        One row per method, indexed by name: ``accuracy``, ``accuracy low`` and ``accuracy high``,
        in percent.
    published
        Percent, by name; the names may differ from those of ``measured``.
    dataset
        Name of the set of images used here, for the title.
    """
    counts = len(measured), len(published)
    figure, (here, paper) = plt.subplots(
        2,
        1,
        figsize=(WIDTH_IN, 0.29 * sum(counts) + 1.8),
        height_ratios=counts,
        layout="constrained",
        sharex=True,
    )
    order = measured.sort_values("accuracy")
    families = order.index.map(find_family)
    for family, (title, colour) in FAMILIES.items():
        drawn = order[families == family]
        here.errorbar(
            drawn["accuracy"],
            np.flatnonzero(families == family),
            xerr=[
                drawn["accuracy"] - drawn["accuracy low"],
                drawn["accuracy high"] - drawn["accuracy"],
            ],
            fmt="o",
            color=colour,
            capsize=3,
            label=title if len(drawn) else None,
        )
    figure.legend(loc="outside lower center", ncols=len(FAMILIES), fontsize=9)
    label_rows(here, range(len(order)), order.index)
    here.set(title=f"here, on {dataset}", ylim=(-0.7, len(order) - 0.3))
    ordered = dict(sorted(published.items(), key=lambda item: item[1]))
    # The colour says what kind of method it is; the open diamond, that the number is the paper's.
    paper.scatter(
        list(ordered.values()),
        range(len(ordered)),
        marker="D",
        facecolors="none",
        edgecolors=[colour_kind(name) for name in ordered],
        linewidths=1.6,
    )
    label_rows(paper, range(len(ordered)), ordered)
    paper.set(title="the paper's Table 4", ylim=(-0.7, len(ordered) - 0.3))
    lowest = min([*measured["accuracy low"], *published.values()])
    paper.set(xlabel="accuracy (%)", xlim=(10 * (lowest // 10), 100.5))
    return figure


@described
def plot_classification_rules(results: Mapping[str, Result]) -> Figure:
    """Plot the test accuracy of each method by classification rule, best method at the top."""
    order = sorted(results, key=lambda name: max(rule.accuracy for rule in results[name].rules))
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 0.3 * len(order) + 1.1), layout="constrained")
    for rule, (marker, colour) in RULE_MARKS.items():
        points = [
            (100 * answer.accuracy, row)
            for row, name in enumerate(order)
            for answer in results[name].rules
            if answer.rule == rule
        ]
        if points:
            # Where k is 1 a square stands around a circle.
            hollow = {"fillstyle": "none", "mew": 1.8, "ms": 10} if marker == "s" else {}
            axes.plot(*np.transpose(points), marker, color=colour, label=rule, **hollow)
    label_rows(axes, range(len(order)), order)
    axes.set(xlabel="test accuracy (%)")
    axes.grid(axis="y", alpha=0.5)
    figure.legend(loc="outside upper center", ncols=5, fontsize=8, handletextpad=0.1)
    return figure


@described
def plot_paired_differences(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot paired differences with 95 % intervals: a row per comparison, a panel per question.

    Parameters
    ----------
    panels
        By title, one row per comparison, with the same index in each panel: ``difference``,
        ``low``, ``high``, ``lowest`` and ``highest`` of the seeds, in percentage points; ``paper``,
        if given, is the paper's difference. NaN is not drawn.
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
        place.axvline(0, color=LINE, lw=1)
        for end in ("lowest", "highest"):
            place.plot(rows[end], lines, "|", color=QUIET, ms=9, label="lowest, highest seed")
        place.errorbar(
            rows["difference"],
            lines,
            xerr=[rows["difference"] - rows["low"], rows["high"] - rows["difference"]],
            fmt="o",
            color=LEARNED,
            lw=2.2,
            label="here, 95 % interval",
        )
        if "paper" in rows:
            style = {"mfc": "none", "mec": PAPER, "mew": 1.6, "ms": 5, "label": "the paper"}
            place.plot(rows["paper"], lines + 0.3, "D", **style)
        place.set_title(title)
        label_rows(place, lines, names)
        place.set(ylim=(len(rows) - 0.5, -0.5))
        place.tick_params(labelsize=9)
    figure.supxlabel("difference (percentage points)", fontsize=10)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=3, fontsize=9)
    return figure


@described
def plot_accuracy_against_cost(table: pd.DataFrame) -> Figure:
    """Plot accuracy against the cost of a network: its parameters and its training time.

    Parameters
    ----------
    table
        One row per network and way of training it: ``network``; ``kind``, where "plain" is drawn
        as a letter; ``accuracy`` in percent; ``parameters`` in millions; ``training s``.
    """
    figure, axes = plt.subplots(
        1, 2, figsize=(WIDTH_IN, 4.4), layout="constrained", sharey=True, squeeze=False
    )
    kinds = sorted(set(table["kind"]) - {"plain"})
    costs = {"parameters": "parameters (million)", "training s": "training (s)"}
    for place, (cost, label) in zip(axes[0], costs.items(), strict=True):
        for kind, mark in zip(kinds, cycle(WAY_MARKS), strict=False):
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
        plt.Line2D([], [], ls="", marker=mark, color=LINE)
        for _, mark in zip(kinds, cycle(WAY_MARKS), strict=False)
    ]
    figure.legend(
        handles, kinds, loc="outside upper center", ncols=4, fontsize=9, handletextpad=0.1
    )
    return figure


@described
def plot_occlusion_maps(
    groups: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray, str] | None]],
    starts: np.ndarray,
    patch_px: int,
) -> Figure:
    """Plot images, and below each one its occlusion map laid over it; two rows per group.

    Parameters
    ----------
    groups
        By name, for each column the image, (S, S) falls of the log-odds, and a caption; None where
        there is no such image.
    starts : (S,)
        First pixels of the patch positions.
    patch_px
        Side of the patch. The square on the image is the patch whose occlusion costs most.
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
            square = {"fill": False, "ec": MARKED, "lw": 2}
            plain.add_patch(plt.Rectangle(corner, patch_px, patch_px, **square))
            show_image(over, image, f"odds ÷ {format_factor(np.exp(falls.max()))}")
            colours = np.where(falls[..., None] > 0, COVERED, UNCOVERED) / 255
            alpha = 0.85 * np.abs(falls) / max(np.abs(falls).max(), 1e-9)
            over.imshow(
                np.dstack([colours, alpha]), extent=(low, high, high, low), interpolation="nearest"
            )
            over.set(xlim=plain.get_xlim(), ylim=plain.get_ylim())
    return figure


@described
def plot_accuracy_by_group(
    groups: Mapping[str, pd.DataFrame], overall: float, across: int = 3
) -> Figure:
    """Plot the accuracy of groups of test images with intervals, one panel per setting.

    Parameters
    ----------
    groups
        By the name of the setting, one row per group: ``images``, and in percent ``accuracy``,
        ``low`` and ``high``. The index names the groups.
    overall
        Accuracy on all images, in percent: the dashed line.
    across
        Panels in a row.
    """
    lines = -(-len(groups) // across)
    figure, axes = plt.subplots(
        lines, across, figsize=(WIDTH_IN, 1.75 * lines), layout="constrained", sharey=True,
        squeeze=False,
    )  # fmt: skip
    for place in axes.flat[len(groups) :]:
        place.axis("off")
    for place, (name, parts) in zip(axes.flat[: len(groups)], groups.items(), strict=True):
        x = np.arange(len(parts))
        lengths = [parts["accuracy"] - parts["low"], parts["high"] - parts["accuracy"]]
        place.axhline(overall, color=QUIET, ls="--", lw=1)
        place.errorbar(x, parts["accuracy"], yerr=lengths, fmt="o", color=LEARNED, capsize=3)
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
    "open": ("o", LINE, False),
}


@described
def plot_claim(panels: Mapping[str, pd.DataFrame], unit: str = "accuracy") -> Figure:
    """Plot the comparisons that decide a claim, with 95 % intervals; it claims values above 0.

    Parameters
    ----------
    panels
        By title, one row per comparison, named by the index: ``difference``, ``low``, ``high``,
        ``allowance`` and ``paper`` in percentage points, and ``outcome``. NaN is not drawn.
    unit
        The measure whose differences are shown.
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
    for place, (title, rows) in zip(axes.flat[: len(panels)], panels.items(), strict=True):
        heights = np.arange(len(rows))
        place.axvline(0, color=LINE, lw=1)
        if (allowed := -rows["allowance"].max()) < 0:
            place.axvline(allowed, color=LINE, lw=1, ls=":", label="what is allowed")
        for outcome, (mark, colour, filled) in OUTCOME_MARKS.items():
            own = (rows["outcome"] == outcome).to_numpy()
            if own.any():
                middle, low, high = (rows.loc[own, end] for end in ("difference", "low", "high"))
                place.errorbar(
                    middle, heights[own], xerr=[middle - low, high - middle],
                    fmt=mark, color=colour, mfc=colour if filled else "white", mew=1.5, ms=6.5,
                    lw=2, label=outcome,
                )  # fmt: skip
        missing = heights[(rows["outcome"] == "not run").to_numpy()]
        if len(missing):
            place.plot(np.zeros(len(missing)), missing, "_", color=QUIET, label="not run")
        if rows["paper"].notna().any():
            style = {"mfc": "none", "mec": PAPER, "mew": 1.5, "ms": 4.5, "label": "the paper"}
            place.plot(rows["paper"], heights + 0.28, "D", **style)
        place.set_title(title, fontsize=10)
        label_rows(place, heights, rows.index)
        place.set(ylim=(len(rows) - 0.4, -0.6))
        place.tick_params(labelsize=9)
    figure.supxlabel(f"difference in {unit} (percentage points)", fontsize=10)
    shown: dict[str, object] = {}
    for place in axes.flat[: len(panels)]:
        for handle, label in zip(*place.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=5, fontsize=9)
    return figure

"""How figures look, and small parts that they share."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

WIDTH_IN = 8.0

sns.set_theme(
    context="notebook",
    style="whitegrid",
    rc={
        "figure.dpi": 110,
        "savefig.dpi": 110,
        "axes.titlesize": 11,
        "axes.labelsize": 10,
        "svg.hashsalt": "cbir",  # the same figure gives the same file
    },
)


def format_factor(factor: float) -> str:
    """Format a factor with three digits, and without an exponent: ``5,860``, ``29.9``."""
    return f"{float(f'{factor:.3g}'):,.0f}" if factor >= 100 else f"{factor:.3g}"


def show_image(axes: Axes, image: np.ndarray, title: str = "") -> None:
    """Draw one grey image, 0 black to 255 white, without ticks."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=8, pad=3)
    axes.grid(False)


def draw_frame(axes: Axes, colour, width: float = 2) -> None:
    """Draw a coloured frame around a panel."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=width)


def name_columns(axes: Iterable[Axes], names: Iterable[str]) -> None:
    """Write names above a row of panels."""
    for place, name in zip(axes, names, strict=True):
        place.set_title(textwrap.fill(name, 16), fontsize=9)


def name_rows(axes: Iterable[Axes], names: Iterable[str], letters: int) -> None:
    """Write names to the left of a column of panels, in lines of this many letters."""
    for place, name in zip(axes, names, strict=True):
        label = textwrap.fill(name, letters)
        place.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)


def label_rows(axes: Axes, places: Sequence[float], names: Iterable[str]) -> None:
    """Write the names of rows at their places on the vertical axis, long ones in two lines."""
    labels = [textwrap.fill(name, 36) for name in names]
    axes.set_yticks(places, labels, fontsize=9, linespacing=0.95)


def place_tags(
    curves: Mapping[str, np.ndarray], levels: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Return a point on each curve where its tag is clear of other curves and earlier tags."""
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


def align_ends(axes: Axes) -> None:
    """Keep the labels of ticks at the ends of the axis below, two or fewer, inside the panel."""
    labels = axes.get_xticklabels()
    for label in labels[:1]:
        label.set_horizontalalignment("left")
    for label in labels[1:]:
        label.set_horizontalalignment("right")

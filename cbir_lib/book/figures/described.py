"""What a figure shows, in words and as numbers: for those who do not see it, and to download.

In a notebook a figure is shown as vectors (SVG), one with pictures as pixels (PNG); both carry the
description, and vectors the numbers. ``cbir_lib/book/pages.py`` puts them on the page.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure

LONGEST = 700  # letters of a description
NAMED = 12  # names that a description lists


def described(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Label the figure that a function draws with what the function's docstring says it is.

    Where Python was told to drop docstrings (``-OO``), with what its name says. Where it is drawn
    in a notebook, it will be shown there with its description.
    """
    said = plot.__doc__ or plot.__name__.replace("_", " ")
    first = said.partition("\n\n")[0].partition(" ")[2]  # behind the verb
    words = " ".join(first.replace("``", "").split())

    @functools.wraps(plot)
    def draw(*arguments, **named) -> Figure:
        figure = plot(*arguments, **named)
        figure.set_label(words[0].upper() + words[1:])
        _choose_formats()
        return figure

    return draw


def _show_as_pixels(figure: Figure) -> tuple[str, dict] | None:
    if not has_pictures(figure):
        return None
    return print_figure(figure, fmt="png", base64=True), {"alt": describe(figure)}


def _show_as_vectors(figure: Figure) -> tuple[str, dict] | None:
    if has_pictures(figure):
        return None
    drawn = print_figure(figure, fmt="svg", metadata={"Date": None})
    return drawn, {"alt": describe(figure), "csv": tabulate(figure).to_csv(index=False)}


def _choose_formats() -> None:
    """Let the notebook that this runs in, if any, show figures in these formats, drawn once.

    Done for each figure: a kernel may have imported this before it was one, and the inline backend
    sets formats of its own when it starts.
    """
    shell = get_ipython()
    if shell is not None:
        if "inline" in plt.get_backend():
            # It shows a figure when its cell ends; pyplot would draw it then as well, for nobody.
            plt.uninstall_repl_displayhook()
        formatters = shell.display_formatter.formatters
        formatters["image/png"].for_type(Figure, _show_as_pixels)
        formatters["image/svg+xml"].for_type(Figure, _show_as_vectors)


def has_pictures(figure: Figure) -> bool:
    """Say whether a figure holds pictures, which are no smaller as vectors."""
    return any(axes.images for axes in figure.axes)


def describe(figure: Figure) -> str:
    """Describe a figure in a few sentences: what it shows, its panels, axes, series and ends."""
    sentences = [figure.get_label()]
    drawn = [axes for axes in figure.axes if axes.has_data()]
    pictures = [axes for axes in drawn if axes.images]
    if pictures:
        words = [_join_lines(caption) for axes in pictures for caption in _list_captions(axes)]
        rows = [_join_lines(axes.get_ylabel()) for axes in pictures]
        count = len(words)
        sentences.append(f"{count} picture{'s' * (count > 1)}.")
        sentences += [_list_names("Rows", rows), _list_names("Captions", words)]
    else:
        sentences.append(_list_names("Panels", [_join_lines(axes.get_title()) for axes in drawn]))
        for name, own, whole in (
            ("Horizontal", "get_xlabel", figure.get_supxlabel()),
            ("Vertical", "get_ylabel", figure.get_supylabel()),
        ):
            labels = [_join_lines(getattr(axes, own)()) for axes in drawn]
            sentences.append(_list_names(f"{name} axis", [_join_lines(whole), *labels]))
        table = tabulate(figure)
        sentences.append(_list_names("Series", table["series"]))
        sentences += _describe_ends(table)
    text = " ".join(filter(None, sentences))
    return text if len(text) <= LONGEST else text[: LONGEST - 2].rsplit(" ", 1)[0] + " …"


def _list_captions(axes: Axes) -> list[str]:
    """Return the captions of the pictures in a panel; one that has none is one picture."""
    labels = (image.get_label() for image in axes.images)
    # What matplotlib makes up begins with "_".
    return [label for label in labels if not label.startswith("_")] or [axes.get_title()]


def _describe_ends(table: pd.DataFrame) -> Iterator[str]:
    """Name the highest and the lowest of rows that have names, in each of up to four panels."""
    for panel, rows in list(table.groupby("panel", sort=False))[:4]:
        for names, values in (("y", "x"), ("x", "y")):
            if not rows[names].map(lambda value: isinstance(value, str)).all():
                continue
            numbers = pd.to_numeric(rows[values], errors="coerce").dropna()
            if len(numbers) > 1:
                ends = [
                    f"{rows.loc[row, names]} ({numbers[row]:.3g})"
                    for row in (numbers.idxmax(), numbers.idxmin())
                ]
                start = f"{panel}: highest" if panel else "Highest"
                yield f"{start} {ends[0]}, lowest {ends[1]}."
            break


def _list_names(what: str, names) -> str:
    distinct = [name for name in dict.fromkeys(names) if name]
    if not distinct:
        return ""
    more = f" and {len(distinct) - NAMED} more" if len(distinct) > NAMED else ""
    return f"{what}: {', '.join(distinct[:NAMED])}{more}."


def _join_lines(text: str) -> str:
    return " ".join(text.split())


def tabulate(figure: Figure) -> pd.DataFrame:
    """Tabulate the points, lines and bars of a figure as they are drawn, a row each.

    Returns
    -------
    ``panel``, ``series``, ``x`` and ``y``; ``low`` and ``high`` if there are intervals; ``value``
    if there are cells of a matrix. Where an axis has names instead of numbers, the name.
    """
    rows = []
    for axes in figure.axes:
        panel = _join_lines(axes.get_title())
        rows += [{"panel": panel, **row} for row in _list_points(axes)]
    table = pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "value"])
    return table.drop(columns=[c for c in ("low", "high", "value") if table[c].isna().all()])


def _list_points(axes: Axes) -> Iterator[dict]:
    names_x, names_y = _read_names(axes.xaxis), _read_names(axes.yaxis)

    def point(label, x, y, low=None, high=None, value=None) -> dict:
        series = "" if str(label).startswith("_") else str(label)
        return {
            "series": series,
            "x": _name(x, names_x),
            "y": _name(y, names_y),
            "low": low,
            "high": high,
            "value": value,
        }

    seen = set()
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer):
            line, caps, bars = container.lines
            seen |= {line, *caps}
            ends = bars[0].get_segments() if bars else []
            along = 0 if container.has_xerr else 1
            for number, (x, y) in enumerate(line.get_xydata() if line else ()):
                low, high = sorted(ends[number][:, along]) if number < len(ends) else (None, None)
                yield point(container.get_label(), x, y, low, high)
        elif isinstance(container, BarContainer):
            upright = container.orientation != "horizontal"
            for bar in container.patches:
                x = bar.get_x() + (bar.get_width() / 2 if upright else bar.get_width())
                y = bar.get_y() + (bar.get_height() if upright else bar.get_height() / 2)
                yield point(container.get_label(), x, y)
    for line in axes.lines:
        if line not in seen and line.get_transform() == axes.transData:
            for x, y in line.get_xydata():
                yield point(line.get_label(), x, y)
    for collection in axes.collections:
        if isinstance(collection, PathCollection):
            for x, y in collection.get_offsets():
                yield point(collection.get_label(), x, y)
        elif isinstance(collection, QuadMesh):
            values = np.ma.filled(collection.get_array(), np.nan)
            for row, column in np.ndindex(values.shape):
                yield point("", column + 0.5, row + 0.5, value=values[row, column])


def _read_names(axis: Axis) -> dict[float, str]:
    """Return the names along an axis by their places; empty where it has numbers."""
    labels = [label.get_text() for label in axis.get_ticklabels()]
    if not any(any(map(str.isalpha, label)) for label in labels if "$" not in label):
        return {}
    with contextlib.suppress(ValueError):  # numbers as 1e-6
        list(map(float, labels))
        return {}
    return {
        float(place): label
        for place, label in zip(axis.get_ticklocs(), labels, strict=True)
        if label
    }


def _name(value: float, names: dict[float, str]) -> float | str:
    if not names:
        return float(f"{value:.6g}")
    nearest = min(names, key=lambda place: abs(place - value))
    return _join_lines(names[nearest]) if abs(nearest - value) < 0.5 else float(value)

"""TODO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cbir_lib.datasets import source
from cbir_lib.study.results import Result, variant_of

NO_PICTURES = (
    "*The pictures are not part of the repository. They appear when the data set is at hand: "
    "`cbir data fetch`, then `make study`.*"
)
CONFUSED = (
    "*Test images whose nearest image (red) is of another class, with the nearest of their own "
    "class (green) and both distances. Of every two classes the pair in which the wrong image is "
    "nearer by the largest factor: a rule, not a choice.*"
)


def sentence(result: Result) -> str:
    """What one run measured, in words (Markdown)."""
    answers, search, data = result.classification, result.retrieval, result.data
    low, high = answers.accuracy_interval
    low_map, high_map = search.mean_average_precision_interval
    rule = {"softmax": "The largest score", "nearest neighbour": "The nearest neighbour"}
    return (
        f"{rule[answers.rule]} names the right class for **{answers.accuracy:.1%}** of "
        f"{data.images['test']} test images (95 % interval {low:.1%} to {high:.1%}; balanced "
        f"accuracy {answers.balanced_accuracy:.1%}). Searching among {data.images['train']} "
        f"training images by {search.distance} distance, mean average precision is "
        f"**{search.mean_average_precision:.3f}** ({low_map:.3f} to {high_map:.3f}); of the first "
        f"ten neighbours {search.precision_at_10:.1%} are of the query's class."
    )


def occasion(result: Result) -> str:
    """When, on what and for how long it was measured, in words (Markdown)."""
    c = result.circumstances
    device = c.processor if c.accelerator == "cpu" else c.accelerator
    times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in c.seconds.items())
    return f"*Measured {c.finished[:10]} on {device}, torch {c.versions['torch']}: {times}.*"


def p_in_words(p: float) -> str:
    """``0.012``, or ``< 0.001``."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def measured_on(profile: str, found: Sequence[Result]) -> str:
    """Say on what a figure's results were measured, for its caption."""
    run, data = found[0].parameters, found[0].data
    networks = [r for r in found if "network" in r.parameters]
    runs = Counter((r.parameters["network"], variant_of(r)) for r in networks)
    seeds, epochs = (
        " to ".join(f"{n:,}" for n in sorted({min(of), max(of)})) if of else ""
        for of in (
            set(runs.values()),
            {r.parameters["epochs"] * r.parameters["budget"] for r in networks},
        )
    )
    trained = f"; {epochs} epochs, {seeds} seed{'s' * (seeds != '1')}" if networks else ""
    return (
        f"Profile {profile}: {source(data.dataset).CAPTION}; {run['size']} px, "
        f"{data.images['train']:,} training, {data.images['validation']:,} validation and "
        f"{data.images['test']:,} test images{trained}"
    )


def accuracy_in_words(result: Result) -> str:
    """``84.2 % (95 % interval 81.0 to 86.9 %)``."""
    answers = result.classification
    low, high = answers.accuracy_interval
    return f"{100 * answers.accuracy:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"


def with_interval(share: float, interval: Sequence[float] | None = None) -> str:
    """A share in percent, with its interval if there is one: ``84.2 (81.0 to 86.9)``."""
    if interval is None:
        return f"{100 * share:.1f}"
    return f"{100 * share:.1f} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def choice_in_words(result: Result) -> str:
    """What the candidates show, in words (Markdown)."""
    tried, data = result.candidates, result.data
    first, best = tried[0], result.chosen
    lowest = min(tried, key=lambda c: c.accuracy)
    chosen = (
        "The settings listed first are the best"
        if best == first
        else f"Chosen were {in_words(best.settings)}, with **{best.accuracy:.1%}**"
    )
    return (
        f"*Each point is one of {len(tried)} settings; the star was chosen, lines join means.* One "
        f"nearest neighbour names {first.accuracy:.1%} of {data.images['validation']:,} validation "
        f"images rightly with the settings listed first in the study "
        f"({in_words(first.settings) or 'the defaults'}). {chosen}. The worst reach "
        f"{lowest.accuracy:.1%}."
    )


def signed(points: float) -> str:
    """Percentage points with their sign and one decimal; a true minus, and no zero below."""
    return f"{round(points, 1) + 0:+.1f}".replace("-", "\N{MINUS SIGN}")


def in_points(difference: Mapping[str, float]) -> str:
    """``difference`` and, in brackets, ``low`` to ``high``; a dash where it was not measured."""
    if not np.isfinite(difference["difference"]):
        return "\N{EN DASH}"
    value, low, high = (signed(difference[key]) for key in ("difference", "low", "high"))
    return f"{value} ({low} to {high})"


def listed(words: Iterable[str]) -> str:
    """``one, two and three``."""
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def in_words(settings: dict) -> str:
    """Settings as ``name value, ...``; weights of 0 left out."""
    return ", ".join(
        f"{name.replace('_', ' ')} {f'{value:g}' if isinstance(value, float) else value}"
        for name, value in settings.items()
        if not (isinstance(value, float) and value == 0)
    )

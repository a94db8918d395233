"""Sentences, captions and number formats for pages that show results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cbir_lib.datasets import get_source
from cbir_lib.study.results import Result, name_variant

DASH = "\N{EN DASH}"  # in place of what was not measured or does not apply
NO_PICTURES = (
    "*The pictures are not part of the repository. They appear once you have the data set: "
    "`cbir data fetch`, then `make study`.*"
)
CONFUSED = (
    "Test images whose nearest image (red) is of another class, with the nearest image of their "
    "own class (green) and both distances. For each pair of classes, the example is the one in "
    "which the wrong image is nearer by the largest factor: chosen by a rule, not by hand."
)


def describe_result(result: Result) -> str:
    """Describe what one run measured, as a sentence in Markdown."""
    answers, search, data = result.classification, result.retrieval, result.data
    low, high = answers.accuracy_interval
    low_map, high_map = search.mean_average_precision_interval
    rule = {"softmax": "highest score", "nearest neighbour": "nearest neighbour"}
    return (
        f"By the {rule[answers.rule]}, **{format_share(answers.accuracy)} %** of "
        f"{data.images['test']:,} test images are classified correctly (95 % interval "
        f"{format_share(low)} to {format_share(high)} %; balanced accuracy "
        f"{format_share(answers.balanced_accuracy)} %). In a search of {data.images['train']:,} "
        f"training images by {search.distance} distance, the mean average precision is "
        f"**{format_share(search.mean_average_precision)} %** ({format_share(low_map)} to "
        f"{format_share(high_map)} %), and {format_share(search.precision_at_10)} % of the first "
        "ten neighbours are of the query's class."
    )


def describe_circumstances(result: Result) -> str:
    """Describe when, on what machine and for how long it was measured (Markdown)."""
    c = result.circumstances
    device = c.processor if c.accelerator == "cpu" else c.accelerator
    times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in c.seconds.items())
    return f"*Measured {c.finished[:10]} on {device}, torch {c.versions['torch']}: {times}.*"


def format_p(p: float) -> str:
    """Format a p value: ``0.012``, or ``< 0.001``."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def describe_profile(profile: str, results: Sequence[Result]) -> str:
    """Describe the data and the training behind some results, for a figure's caption."""
    run, data = results[0].parameters, results[0].data
    networks = [r for r in results if "network" in r.parameters]
    runs = Counter((r.parameters["network"], name_variant(r)) for r in networks)
    seeds, epochs = (
        " to ".join(f"{n:,}" for n in sorted({min(counts), max(counts)})) if counts else ""
        for counts in (
            set(runs.values()),
            {r.parameters["epochs"] * r.parameters["budget"] for r in networks},
        )
    )
    trained = f"; {epochs} epochs, {seeds} seed{'s' * (seeds != '1')}" if networks else ""
    return (
        f"Profile {profile}: {get_source(data.dataset).CAPTION}; {run['size']} px, "
        f"{data.images['train']:,} training, {data.images['validation']:,} validation and "
        f"{data.images['test']:,} test images{trained}"
    )


def format_accuracy(result: Result) -> str:
    """Format the accuracy of a result: ``84.2 % (95 % interval 81.0 to 86.9 %)``."""
    answers = result.classification
    low, high = answers.accuracy_interval
    return f"{100 * answers.accuracy:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"


def format_share(share: float, interval: Sequence[float] | None = None) -> str:
    """Format a share in percent, with its interval if there is one: ``84.2 (81.0 to 86.9)``."""
    if interval is None:
        return f"{100 * share:.1f}"
    return f"{100 * share:.1f} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def describe_choice(result: Result) -> str:
    """Describe the candidates and the choice among them (Markdown)."""
    tried, data = result.candidates, result.data
    first, best = tried[0], result.chosen
    lowest = min(tried, key=lambda c: c.accuracy)
    chosen = (
        "The settings listed first are the best"
        if best == first
        else f"The chosen settings ({format_settings(best.settings)}) reach "
        f"**{format_share(best.accuracy)} %**"
    )
    return (
        f"*Each point is one of {len(tried)} settings; the star marks the chosen one, and lines "
        f"connect means.* With the settings listed first in the study "
        f"({format_settings(first.settings) or 'the defaults'}), the nearest neighbour classifies "
        f"{format_share(first.accuracy)} % of {data.images['validation']:,} validation images "
        f"correctly. {chosen}. The worst settings reach {format_share(lowest.accuracy)} %."
    )


def format_points(points: float, decimals: int = 1) -> str:
    """Format percentage points with sign and decimals; with a true minus, never minus zero."""
    return f"{round(points, decimals) + 0:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def format_difference(difference: Mapping[str, float], decimals: int = 1) -> str:
    """Format ``difference`` with ``low`` to ``high`` in brackets; a dash if it was not measured."""
    if not np.isfinite(difference["difference"]):
        return DASH
    value, low, high = (
        format_points(difference[key], decimals) for key in ("difference", "low", "high")
    )
    return f"{value} ({low} to {high})"


def join_words(words: Iterable[str]) -> str:
    """Join words as a list in a sentence: ``one, two and three``."""
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def format_settings(settings: dict) -> str:
    """Format settings as ``name value, ...``, without weights of 0."""
    return ", ".join(
        f"{name.replace('_', ' ')} {f'{value:g}' if isinstance(value, float) else value}"
        for name, value in settings.items()
        if not (isinstance(value, float) and value == 0)
    )

"""Changes of one design choice at a time: what they compare, and what they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cbir_lib.study.pairwise import compute_difference
from cbir_lib.study.results import Result, name_variant

MEASURES = ("accuracy", "mAP")
Side = tuple[str, str]  # a network and its variant


@dataclass(frozen=True)
class Ablation:
    """A change: its section of the chapter, its name, and the networks with it and without it."""

    section: str
    effect: str
    one: Side
    other: Side

    @property
    def title(self) -> str:
        """Return its name and the network in which it is made, or the two that it is between."""
        one, other = self.one[0], self.other[0]
        return f"{self.effect}, {one if one == other else f'{other} → {one}'}"


ABLATIONS = (
    Ablation("depth", "7 convolutions for 6", ("C", ""), ("B", "")),
    Ablation("depth", "a fourth stage", ("D", ""), ("C", "")),
    Ablation("depth", "10 convolutions for 8", ("H", ""), ("D", "")),
    Ablation("filters", "5 x 5 for 3 x 3", ("E", ""), ("A", "")),
    Ablation("pooling", "no first pooling", ("E", ""), ("F", "")),
    Ablation("pooling", "a fourth pooling", ("G", ""), ("F", "")),
    Ablation("reading", "no layer FC-n", ("B", "flattened"), ("B", "")),
    Ablation("images", "CLAHE", ("B", ""), ("B", "raw")),
    Ablation("images", "mean image", ("B", ""), ("B", "uncentred")),
    Ablation("schedule", "falling rate for a constant one", ("B", ""), ("B", "constant")),
    Ablation(
        "schedule", "early stopping, constant rate", ("B", "constant-stopped"), ("B", "constant")
    ),
    Ablation("schedule", "falling rate for early stopping", ("B", ""), ("B", "constant-stopped")),
    Ablation("normalisation", "batch normalisation", ("B", "normalised"), ("B", "")),
    Ablation("averaging", "means for FC-n", ("B", "pooled"), ("B", "")),
    Ablation("decay", "no weight decay", ("B", "decay0"), ("B", "")),
    Ablation("decay", "ten times the decay", ("B", "decay0.005"), ("B", "")),
)


@dataclass(frozen=True)
class MeasuredAblation:
    """A change and its paired differences in percentage points, by measure."""

    ablation: Ablation
    differences: Mapping[str, Mapping[str, float]]

    @property
    def verdict(self) -> str:
        """Return ``better``, ``worse``, ``mixed`` or ``undecided``.

        ``better`` and ``worse`` are followed by the measure if only one of the intervals excludes
        0 (``better mAP``). The interval of one seed decides nothing: it is of images alone.
        """
        if min(difference["seeds"] for difference in self.differences.values()) < 2:
            return "undecided"
        accuracy, search = (judge_sign(self.differences[measure]) for measure in MEASURES)
        if accuracy * search < 0:
            return "mixed"
        if not (accuracy or search):
            return "undecided"
        word = "better" if accuracy + search > 0 else "worse"
        return word if accuracy and search else f"{word} {'accuracy' if accuracy else 'mAP'}"

    @property
    def direction(self) -> str:
        """Return the first word of the verdict."""
        return self.verdict.split()[0]


def judge_sign(difference: Mapping[str, float]) -> int:
    """Return 1 or -1 if the interval lies above or below 0, and 0 if it contains 0."""
    return int(difference["low"] > 0) - int(difference["high"] < 0)


def measure_ablations(
    results: Sequence[Result], ablations: Sequence[Ablation] = ABLATIONS
) -> list[MeasuredAblation]:
    """Measure each change, in order; changes whose sides have no common seed are left out."""
    measured = []
    for ablation in ablations:
        differences = {
            measure: compute_difference(results, ablation.one, ablation.other, measure)
            for measure in MEASURES
        }
        if None not in differences.values():
            measured.append(MeasuredAblation(ablation, differences))
    return measured


def split_measures(measured: Sequence[MeasuredAblation]) -> dict[str, pd.DataFrame]:
    """Return the differences of each measure, one row per change, by its title."""
    titles = [m.ablation.title for m in measured]
    return {
        measure: pd.DataFrame([m.differences[measure] for m in measured], index=titles)
        for measure in MEASURES
    }


def tabulate_class_counts(results: Sequence[Result], networks: str = "FG") -> pd.DataFrame:
    """Return the accuracy of plainly trained networks by the number of their classes.

    One row per network and number of classes: ``network``, ``classes``; ``mean``, ``lowest`` and
    ``highest`` of the seeds in percent; ``names`` of the classes; ``images``, the number of test
    images; ``most frequent``, the share in percent of the most frequent class among them.
    """
    groups: dict[tuple[str, int], list[Result]] = {}
    for r in results:
        plain = name_variant(r) in ("", "3classes", "4classes")
        if r.parameters.get("network", "none") in networks and plain:
            group = r.parameters["network"], len(r.data.class_names)
            groups.setdefault(group, []).append(r)
    rows = []
    for (network, classes), runs in sorted(groups.items()):
        values = [100 * r.classification.accuracy for r in runs]
        counts = np.bincount(runs[-1].data.test_labels)
        rows.append(
            {
                "network": network,
                "classes": classes,
                "mean": np.mean(values),
                "lowest": min(values),
                "highest": max(values),
                "names": tuple(runs[-1].data.class_names),
                "images": len(runs[-1].answers),
                "most frequent": 100 * counts.max() / len(runs[-1].answers),
            }
        )
    return pd.DataFrame(rows)

"""The paper's remedies against overfitting, dropout and augmentation: Tables 5 to 7 and ours."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from cbir_lib.networks.architectures import NETWORKS
from cbir_lib.reproduction import paper, verdicts
from cbir_lib.study.pairwise import compute_difference
from cbir_lib.study.results import Result, name_variant

# By name, the variant of a network that is trained with it.
REMEDIES = {"dropout": "dropout", "augmentation": "augment", "both": "dropout-augment"}
TRAININGS = {"plain": ""} | REMEDIES
TABLE_OF = {"dropout": 5, "augmentation": 6, "both": 7}  # the paper's table of each remedy


def select_trainings(
    results: Sequence[Result], variants: Collection[str] = tuple(TRAININGS.values())
) -> list[Result]:
    """Return the results of the paper's networks A to G, trained in one of these ways."""
    return [
        r
        for r in results
        if r.parameters.get("network") in NETWORKS and name_variant(r) in variants
    ]


def measure_remedies(results: Sequence[Result]) -> dict[str, dict[str, dict[str, float]]]:
    """Measure what each remedy changes in test accuracy: by remedy, then by network."""
    return {remedy: measure_remedy(results, variant) for remedy, variant in REMEDIES.items()}


def measure_remedy(results: Sequence[Result], variant: str) -> dict[str, dict[str, float]]:
    """Measure what one remedy changes in test accuracy, by network.

    As :func:`cbir_lib.study.pairwise.compute_difference` gives it; networks that were not trained
    in both ways are left out.
    """
    networks = [r for r in results if "network" in r.parameters]
    return {
        name: difference
        for name in NETWORKS
        if (difference := compute_difference(networks, (name, variant), (name, ""))) is not None
    }


def get_published_pair(name: str, remedy: str) -> tuple[float | None, float | None]:
    """Return the paper's accuracy of a network without and with a remedy, in percent."""
    without, with_remedy = (
        paper.get_published_accuracy((name, variant)) for variant in ("", REMEDIES[remedy])
    )
    return without, with_remedy


def match_table_4(name: str) -> str:
    """Return the remedy with which Table 4 lists a network: ``neither``, ``dropout`` or ``both``.

    The table does not name it; it follows from matching its numbers with Tables 5 and 7.
    """
    value = paper.TABLE_4[name]
    if value == paper.TABLE_7_BOTH.get(name):
        return "both"
    return "dropout" if value == paper.TABLE_5_DROPOUT.get(name, (None, None))[1] else "neither"


def tabulate_differences(differences: dict[str, dict[str, float]], remedy: str) -> pd.DataFrame:
    """Return one row per network A to G, in points; NaN if it was not measured.

    ``difference``, ``low``, ``high``, ``lowest`` and ``highest`` of the seeds, and ``paper``, the
    paper's difference.
    """
    columns = ["difference", "low", "high", "lowest", "highest"]
    table = pd.DataFrame(differences, index=columns).T.reindex(list(NETWORKS))
    pairs = [get_published_pair(name, remedy) for name in NETWORKS]
    table["paper"] = [np.nan if None in pair else pair[1] - pair[0] for pair in pairs]
    return table.astype(float)


def measure_doubled_epochs(results: Sequence[Result]) -> pd.DataFrame:
    """Measure the effect of twice the epochs, one row per network and way of training.

    Returns
    -------
    DataFrame
        ``network``, ``training`` (a key of :data:`TRAININGS`); ``difference``
        of twice the epochs from once, and with a remedy ``remedy once`` and ``remedy twice``, its
        difference from plain training with as many epochs: mappings as
        :func:`cbir_lib.study.pairwise.compute_difference` gives them, or None.
    """
    networks = [r for r in results if "network" in r.parameters]
    rows = []
    for name in NETWORKS:
        for training, variant in TRAININGS.items():
            once, twice = (name, variant), (name, _double(variant))
            difference = compute_difference(networks, twice, once)
            if difference is None:
                continue
            remedy_once, remedy_twice = (
                compute_difference(networks, side, plain) if variant else None
                for side, plain in ((once, (name, "")), (twice, (name, _double(""))))
            )
            rows.append(
                {
                    "network": name,
                    "training": training,
                    "difference": difference,
                    "remedy once": remedy_once,
                    "remedy twice": remedy_twice,
                }
            )
    return pd.DataFrame(rows)


def _double(variant: str) -> str:
    return "-".join(filter(None, (variant, verdicts.DOUBLED)))

"""What the parts of a retrieval change: the layer, the scaling, the length of a vector, the image.

An effects file holds one row a measurement: a factor, its level, the method, and how good the
rankings are. Rows of one factor and one method are measured with the same queries in the same
gallery, and each is compared, query by query, with the row at the reference level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cbir_lib import paths
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.evaluation import intervals, measures
from cbir_lib.networks.modules import TrainedNetwork, read_network
from cbir_lib.retrieval.ranking import Ranking
from cbir_lib.schema import Strict, read_json, write_json
from cbir_lib.study import results, wording

MEASURED = (  # columns of a table that are no settings
    *("factor", "level", "method", "values", "bytes"),
    *("mAP", "low", "high", "P@1", "P@10", "difference", "difference low", "difference high"),
)


class Effect(Strict):
    """One measurement: a method at one level of a factor."""

    factor: str
    level: float | str
    method: str
    settings: dict = {}  # what else sets rows of a factor apart
    values: int | None = None  # of a vector; None where there is none
    bytes: int | None = None  # of an image's vector, as 32-bit numbers or as bits
    queries: int  # that have a relevant item
    seeds: int = 1  # over which all measures are means
    mean_average_precision: float
    mean_average_precision_interval: list[float]
    precision_at_1: float
    precision_at_10: float
    difference: float | None = None  # of mean average precision, from the reference level
    difference_interval: list[float] | None = None  # paired, query by query


class Effects(Strict):
    """What one set of measurements found, and under what."""

    format: Literal[1] = 1
    name: str
    parameters: dict
    data: list[results.Data]
    effects: list[Effect]
    circumstances: results.Circumstances


def read(path: Path | str) -> Effects:
    """Read one effects file.

    Raises
    ------
    CbirError
        When it is missing, no JSON, or does not fit the schema.
    """
    again = "remove it and run the study again"
    return read_json(path, Effects, "not a result file", "run the study first", again)


def write(path: Path | str, found: Effects) -> None:
    """Write an effects file, checked against its schema."""
    write_json(path, found)


def published_path(profile: str, name: str) -> Path:
    """Where an effects file is committed."""
    return paths.effects_file(paths.results_folder(profile), name)


def table(found: Effects, factor: str | None = None) -> pd.DataFrame:
    """One row an effect, of one factor or all; mean average precision and precisions in percent.

    ``mAP``, ``low``, ``high``, ``P@1``, ``P@10``, ``difference``, ``difference low``,
    ``difference high``; settings are columns of their own.
    """
    rows = []
    for e in found.effects:
        if factor in (None, e.factor):
            nothing = [np.nan, np.nan]
            low, high = e.mean_average_precision_interval
            below, above = e.difference_interval or nothing
            change = np.nan if e.difference is None else e.difference
            measured = {
                "mAP": e.mean_average_precision,
                "low": low,
                "high": high,
                "P@1": e.precision_at_1,
                "P@10": e.precision_at_10,
                "difference": change,
                "difference low": below,
                "difference high": above,
            }
            rows.append(
                {
                    "factor": e.factor,
                    "level": e.level,
                    "method": e.method,
                    **e.settings,
                    "values": e.values,
                    "bytes": e.bytes,
                    **{name: 100 * value for name, value in measured.items()},
                }
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Search:
    """Whose images are searched with, and among which: labels of queries (Q,) and gallery (G,)."""

    labels: np.ndarray
    gallery_labels: np.ndarray
    subjects: np.ndarray | None = None  # (Q,) of the queries; None where unknown

    @classmethod
    def of(cls, queries: RadiographSet, gallery: RadiographSet) -> Search:
        """That of two sets which share their classes and no image."""
        return cls(queries.labels, gallery.labels, intervals.owners(queries.records))

    def scores(self, distances: np.ndarray) -> np.ndarray:
        """(3, Q): average precision, precision at 1 and at 10 of (Q, G) distances.

        Equal distances count by expectation over their orders, as short binary codes have many.
        """
        ranking = Ranking.of(distances)
        relevant = measures.relevance(ranking, self.labels, self.gallery_labels)
        return np.stack(
            [
                measures.average_precision(relevant, ranking.distances),
                measures.precision_at(relevant, 1, ranking.distances),
                measures.precision_at(relevant, 10, ranking.distances),
            ]
        )

    def effect(self, scores: np.ndarray, reference: np.ndarray | None = None, **what) -> Effect:
        """A row of (3, Q) scores, or (S, 3, Q) of several seeds; compared with a reference's.

        Intervals are 95 % bootstrap intervals over queries, of one subject together, and seeds
        (:func:`cbir_lib.evaluation.intervals.paired_interval`).
        """
        scores = scores.reshape(-1, *scores.shape[-2:])
        answerable = ~np.isnan(scores[0, 0])
        subjects = None if self.subjects is None else self.subjects[answerable]

        def interval(values):
            return intervals.paired_interval(values[:, answerable], subjects=subjects)

        means = scores[:, :, answerable].mean(axis=(0, 2))
        compared = {}
        if reference is not None:
            change = scores[:, 0] - reference.reshape(-1, *reference.shape[-2:])[:, 0]
            compared = {
                "difference": float(change[:, answerable].mean()),
                "difference_interval": interval(change),
            }
        return Effect(
            queries=int(answerable.sum()),
            seeds=len(scores),
            mean_average_precision=float(means[0]),
            mean_average_precision_interval=interval(scores[:, 0]),
            precision_at_1=float(means[1]),
            precision_at_10=float(means[2]),
            **compared,
            **what,
        )


def best_network(work: Path, runs: Sequence[str]) -> tuple[results.Result, TrainedNetwork]:
    """Of these runs of networks the one most accurate on the validation split; the first of equals.

    ``work`` is the study's folder.
    """
    found = [results.read(paths.result_file(work, run)) for run in runs]
    best = max(found, key=lambda result: result.classification.validation_accuracy)
    return best, read_network(paths.model_file(work, best.run))


def best_networks(work: Path, runs: Sequence[str]) -> list[tuple[results.Result, TrainedNetwork]]:
    """The best network trained without augmentation, and the best with it, as far as there are."""
    with_it = {
        run: results.read(paths.result_file(work, run)).parameters["augment"] for run in runs
    }
    groups = ([run for run in runs if with_it[run] == augment] for augment in (False, True))
    return [best_network(work, group) for group in groups if group]


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of one factor of :func:`table` as a reader sees them: numbers with their intervals."""
    settings = [n for n in rows if n not in MEASURED and rows[n].notna().all()]
    columns = {name: rows[name] for name in ("method", "level", *settings)}
    if "weights" in columns:
        columns["weights"] = rows["weights"].map(wording.in_words)

    def with_interval(middle: str, low: str, high: str, form: str) -> list[str]:
        return [
            f"{a:{form}} ({b:{form}} to {c:{form}})"
            for a, b, c in rows[[middle, low, high]].to_numpy(float)
        ]

    columns["mAP (%)"] = with_interval("mAP", "low", "high", ".1f")
    change = ("difference", "difference low", "difference high")
    columns["difference"] = with_interval(*change, "+.1f")
    columns |= {f"{name} (%)": rows[name].map("{:.1f}".format) for name in ("P@1", "P@10")}
    return pd.DataFrame(columns).set_index("method")

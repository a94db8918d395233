"""How the parts of a retrieval affect it: the layer, the scaling, the vector length, the image.

An effects file has one row per measurement: a factor, its level, the method, and the quality of the
rankings. Rows of one factor and one method are measured with the same queries and the same
gallery, and each is compared, query by query, with the row at the reference level.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from cbir_lib import paths
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.errors import CbirError
from cbir_lib.evaluation import intervals, measures
from cbir_lib.retrieval.ranking import Ranking
from cbir_lib.schema import StrictModel, read_json, write_json
from cbir_lib.study import results

if TYPE_CHECKING:
    from cbir_lib.networks.modules import TrainedNetwork
    from cbir_lib.study.config import EffectsRun

MEASURED = (  # columns of a table that are not settings
    *("factor", "level", "method", "values", "bytes"),
    *("mAP", "low", "high", "P@1", "P@10", "difference", "difference low", "difference high"),
)


class Effect(StrictModel):
    """One measurement: a method at one level of a factor."""

    factor: str
    level: float | str
    method: str
    settings: dict = {}  # what else distinguishes rows of a factor
    values: int | None = None  # per vector; None without a vector
    bytes: int | None = None  # per image: its vector as 32-bit numbers or as bits
    queries: int  # with a relevant item
    seeds: int = 1  # over which all measures are means
    mean_average_precision: float
    mean_average_precision_interval: list[float]
    precision_at_1: float
    precision_at_1_interval: list[float] | None = None
    precision_at_10: float
    accuracy: float | None = None  # of a network's own answers
    difference: float | None = None  # in mean average precision, from the reference level
    difference_interval: list[float] | None = None  # paired, query by query


class Effects(StrictModel):
    """One set of measurements, and the circumstances in which it was made."""

    format: Literal[1] = 1
    name: str
    parameters: dict
    data: list[results.Data]
    effects: list[Effect]
    circumstances: results.Circumstances


def read(path: Path | str, run: EffectsRun | None = None) -> Effects:
    """Read one effects file, and check that it is of this run.

    Raises
    ------
    CbirError
        When it is missing, is not JSON, does not fit the schema, or was measured with other
        parameters than those of the run.
    """
    again = "restore it, or remove it and measure again"
    measured = read_json(path, Effects, "not a result file", "run the study first", again)
    results.check_parameters(path, measured.parameters, run)
    return measured


def write(path: Path | str, measured: Effects) -> None:
    """Write an effects file and check it against its schema."""
    write_json(path, measured)


def published_path(profile: str, name: str) -> Path:
    """Return the path of a committed effects file."""
    return paths.effects_file(paths.results_folder(profile), name)


def tabulate(measured: Effects, factor: str | None = None) -> pd.DataFrame:
    """Return one row per effect, of one factor or of all; measures are in percent.

    Columns: ``mAP``, ``low``, ``high``, ``P@1``, ``P@10``, ``difference``, ``difference low``,
    ``difference high``; each setting is a column of its own.
    """
    rows = []
    for e in measured.effects:
        if factor in (None, e.factor):
            nothing = [np.nan, np.nan]
            low, high = e.mean_average_precision_interval
            below, above = e.difference_interval or nothing
            change = np.nan if e.difference is None else e.difference
            values = {
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
                    **{name: 100 * value for name, value in values.items()},
                }
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Search:
    """The labels of the queries (Q,) and of the gallery (G,) of a search."""

    labels: np.ndarray
    gallery_labels: np.ndarray
    subjects: np.ndarray | None = None  # (Q,) of the queries; None if unknown

    @classmethod
    def from_sets(cls, queries: RadiographSet, gallery: RadiographSet) -> Search:
        """Return the search of two sets that share their classes and no image."""
        return cls(queries.labels, gallery.labels, intervals.number_subjects(queries.records))

    def score(self, distances: np.ndarray) -> np.ndarray:
        """Compute average precision, precision at 1 and at 10, (3, Q), of (Q, G) distances.

        Ties count by expectation over their orders, since short binary codes have many.
        """
        ranking = Ranking.of(distances)
        relevant = measures.find_relevant(ranking, self.labels, self.gallery_labels)
        return np.stack(
            [
                measures.average_precision(relevant, ranking.distances),
                measures.precision_at(relevant, 1, ranking.distances),
                measures.precision_at(relevant, 10, ranking.distances),
            ]
        )

    def build_effect(
        self, scores: np.ndarray, reference: np.ndarray | None = None, **what
    ) -> Effect:
        """Summarise (3, Q) scores, or (S, 3, Q) of several seeds, compared with a reference.

        Intervals are 95 % bootstrap intervals over seeds and queries, those of a subject together
        (:func:`cbir_lib.evaluation.intervals.compute_paired_interval`).
        """
        scores = scores.reshape(-1, *scores.shape[-2:])
        answerable = ~np.isnan(scores[0, 0])
        subjects = None if self.subjects is None else self.subjects[answerable]

        def interval(values):
            return intervals.compute_paired_interval(values[:, answerable], subjects=subjects)

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


def select_best_network(work: Path, runs: Sequence[str]) -> tuple[results.Result, TrainedNetwork]:
    """Read the network run with the best validation accuracy; on a tie, the first.

    ``work`` is the study's folder. A run that is not finished there is read from ``results/`` and
    ``models/``, where the best networks of the evidence are published.

    Raises
    ------
    CbirError
        When the best network was trained elsewhere and is not published.
    """
    return _read_best(work, _read_finished(work, runs))


def select_best_networks(
    work: Path, runs: Sequence[str]
) -> list[tuple[results.Result, TrainedNetwork]]:
    """Return the best network trained without augmentation and the best with it, if any."""
    return [_read_best(work, group) for group in _split(work, runs)]


def _read_best(
    work: Path, candidates: Sequence[results.Result]
) -> tuple[results.Result, TrainedNetwork]:
    # Reading an effects file needs no torch: a chapter that shows one starts a second sooner.
    from cbir_lib.networks.modules import read_network

    best = _find_best(candidates)
    model = find_network(work, best.run)
    if model is None:
        raise CbirError(
            f"the network of {best.run} is neither in {work} nor in models/",
            f"train it: cbir study --profile {work.name} --run {best.run}",
        )
    return best, read_network(model)


def list_networks_to_train(work: Path, runs: Sequence[str]) -> list[str]:
    """Return the runs that :func:`select_best_networks` chooses and whose networks are missing."""
    best = [_find_best(group).run for group in _split(work, runs)]
    return [run for run in best if find_network(work, run) is None]


def find_network(work: Path, run: str) -> Path | None:
    """Return the file of a run's network, in a study's folder or published; None if missing."""
    here = paths.model_file(work, run)
    return here if here.is_file() else paths.shipped_networks().get(run)


def find_networks(work: Path, trained: Iterable[results.Result]) -> dict[str, Path]:
    """Return the files of :func:`find_network` that are there, by the name of the run."""
    found = {result.run: find_network(work, result.run) for result in trained}
    return {run: file for run, file in found.items() if file}


def _find_best(candidates: Sequence[results.Result]) -> results.Result:
    return max(candidates, key=lambda result: result.classification.validation_accuracy)


def _split(work: Path, runs: Sequence[str]) -> list[list[results.Result]]:
    """Return the finished runs without augmentation and those with it; neither group is empty."""
    finished = _read_finished(work, runs)
    groups = ([r for r in finished if r.parameters["augment"] == augment] for augment in (0, 1))
    return [group for group in groups if group]


def _read_finished(work: Path, runs: Sequence[str]) -> list[results.Result]:
    """Read the results of runs from a study's folder, or else the published ones."""
    folder = paths.results_folder(work.name)
    measured = {run: paths.result_file(work, run) for run in runs}
    return [
        results.read(path if path.is_file() else folder / f"{run}.json")
        for run, path in measured.items()
    ]


def find_best(rows: pd.DataFrame, measure: str = "mAP") -> pd.Series:
    """Return the row of :func:`tabulate` with the largest value of a measure."""
    return rows.loc[rows[measure].idxmax()]


def select_measure(rows: pd.DataFrame, measure: str = "mAP") -> pd.DataFrame:
    """Return one measure of rows of :func:`tabulate` for a figure.

    ``level``, ``method``, ``value``, and ``low`` and ``high``, which are NaN unless it is ``mAP``:
    the other measures have no interval.
    """
    has_interval = measure == "mAP"
    return pd.DataFrame(
        {
            "level": rows["level"],
            "method": rows["method"],
            "value": rows[measure],
            "low": rows["low"] if has_interval else np.nan,
            "high": rows["high"] if has_interval else np.nan,
        }
    )


def judge_change(row: pd.Series) -> str:
    """Return what a level does compared with the reference: whether its interval excludes 0.

    ``helps``, ``harms`` or ``makes no clear difference``.
    """
    if row["difference low"] > 0:
        return "helps"
    return "harms" if row["difference high"] < 0 else "makes no clear difference"

"""The trained networks that the project ships in ``models/``, and their results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cbir_lib import paths
from cbir_lib.errors import CbirError
from cbir_lib.reproduction import evidence
from cbir_lib.study import effects, real, summaries
from cbir_lib.study.results import Result, name_method


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network whose weights and result are both available."""

    profile: str  # in which it was measured
    result: Result
    file: Path  # its weights
    eligible: int  # number of networks that it was selected from


def list_shipped_networks() -> list[str]:
    """Return the names of the runs whose networks are in ``models/``, sorted."""
    return list(paths.shipped_networks())


def list_methods_for_films() -> list[str]:
    """Return the networks that reach the aim with real films; none where none was measured."""
    path = effects.published_path("real", "mednist")
    return real.list_reaching_aim(effects.read(path)) if path.is_file() else []


def select_for_films(trained: Iterable[Result]) -> list[str]:
    """Return the runs, of these, whose networks reach the aim with real films."""
    methods = list_methods_for_films()
    return [result.run for result in trained if name_method(result) in methods]


def list_shipped_for_films(trained: Iterable[Result]) -> list[str]:
    """Return those of ``list_shipped_networks`` that reach the aim with real films."""
    for_films = select_for_films(trained)
    return [name for name in list_shipped_networks() if name in for_films]


def select_measured_network(
    folder: Path | str, runs: Sequence[str] | None = None
) -> MeasuredNetwork:
    """Select the network of the phantom with the highest mean average precision.

    Of those in ``models/`` that the evidence measured, or else of those that the study in this
    folder trained; trained on all classes.

    Raises
    ------
    CbirError
        When there is none.
    """
    ev = evidence.find_study_evidence(folder, runs)
    profile, pairs = ev.profile, _select(ev.results, paths.shipped_networks())
    if not pairs:
        own = evidence.read_study_results(folder, runs)
        work = paths.project_root() / folder
        here = {r.run: paths.model_file(work, r.run) for r in own}
        profile = evidence.get_profile_name(folder)
        pairs = _select(own, {run: file for run, file in here.items() if file.is_file()})
    if not pairs:
        raise CbirError(
            "there is no trained network of the phantom with a result of its own",
            "train some: cbir study --profile quick",
        )
    best = summaries.select_best([result for result, _ in pairs])
    file = next(file for result, file in pairs if result is best)
    return MeasuredNetwork(profile, best, file, len(pairs))


def _select(results: Sequence[Result], files: Mapping[str, Path]) -> list[tuple[Result, Path]]:
    return [
        (r, files[r.run])
        for r in results
        if r.run in files
        and "network" in r.parameters
        and r.parameters["dataset"] == "phantom"
        and not r.parameters["classes"]
    ]

"""Tolerances for reproduced numbers, from the differences that were measured between reruns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cbir_lib import paths
from cbir_lib.reproduction.gaps import COUNTED, classify_number
from cbir_lib.schema import StrictModel, read_json, write_json
from cbir_lib.study.results import Result

USUAL = "as in the study"  # the circumstances of a study
FLAT = re.compile(r"[{[][^][{}]*[]}]")  # an object or list without a nested one
FOLDER = "verification"  # of results/
FACTOR = 1.5  # multiplies the largest measured difference
LARGEST_TOLERANCE = 0.03  # of a network's accuracy
ANSWERS = {"answers", "candidates.accuracy", "distances.accuracy"}  # of the nearest neighbour


class Rerun(StrictModel):
    """How much a run under other circumstances differs from the run as part of the study."""

    run: str
    trained: bool  # whether it is a network
    circumstances: str
    values_that_differ: int  # of all in the result file
    differences: dict[str, float]  # the largest of each kind, without those that are 0


class Spread(StrictModel):
    """Reruns under other circumstances, stored as differences, since the numbers may change."""

    format: Literal[2] = 2
    profile: str
    measured: str  # UTC
    processor: str
    versions: dict[str, str]
    circumstances: dict[str, dict[str, str]]  # environment variables, by name
    kinds: list[str]  # of numbers that were compared
    reruns: list[Rerun]


@dataclass(frozen=True)
class Measured:
    """The largest difference of each kind of number in the reruns of one kind of run."""

    largest: Mapping[str, float]  # by kind of number; 0 if none differed
    reruns: int = 0
    trained: bool = False  # whether these are networks

    def tolerance(self, key: str, runs: int = 1) -> float:
        """Return how much this number, or its mean over ``runs`` runs, may differ.

        A kind that was not measured gets the largest tolerance of its neighbours in the result
        file; 0 if there are none.
        """
        kind = classify_number(key, self.trained)
        if kind not in self.largest:
            family = kind.split(".")[0] + "."
            neighbours = [
                o
                for o in self.largest
                if o.startswith(family) and o not in COUNTED and not o.endswith("settings")
            ]
            return max((self.tolerance(o, runs) for o in neighbours), default=0.0)
        if kind.endswith("settings"):
            return self.largest[kind]  # 0, or 1 where a rerun chose differently
        most = LARGEST_TOLERANCE if kind == "rules.accuracy" else np.inf
        return float(min(FACTOR * self.largest[kind], most) / np.sqrt(runs))


@dataclass(frozen=True)
class Reruns:
    """Measured differences of reruns: of networks, of methods with steady answers, of others."""

    networks: Measured = Measured({}, trained=True)
    steady: Measured = Measured({})
    varying: Measured = Measured({})
    steady_methods: frozenset[str] = frozenset()
    description: str = "none were measured"

    def select(self, result: Result) -> Measured:
        """Return the differences that apply to a run; a method that was not rerun may vary."""
        if "network" in result.parameters:
            return self.networks
        return self.steady if self.is_steady(result.run) else self.varying

    def is_steady(self, run: str) -> bool:
        """Return whether the answers of the run's method were the same in all reruns."""
        return _name_method(run) in self.steady_methods


def measure_reruns(spread: Spread | None) -> Reruns:
    """Return the largest differences that were measured, which define the tolerances."""
    if spread is None:
        return Reruns()
    plain = [rerun for rerun in spread.reruns if not rerun.trained]
    varying = {_name_method(r.run) for r in plain if set(r.differences) & ANSWERS}
    networks = _find_largest([r for r in spread.reruns if r.trained], spread.kinds)
    steady = _find_largest([r for r in plain if _name_method(r.run) not in varying], spread.kinds)
    others = _find_largest([r for r in plain if _name_method(r.run) in varying], spread.kinds)
    circumstances = ", ".join(name for name in spread.circumstances if name != USUAL)
    return Reruns(
        networks,
        steady,
        others,
        frozenset(_name_method(r.run) for r in plain) - varying,
        f"{networks.reruns} of networks, {steady.reruns} of methods with steady answers and "
        f"{others.reruns} of methods whose answers vary; profile {spread.profile}, {circumstances}",
    )


def cross_check_networks(spread: Spread) -> dict[str, list[str]]:
    """Return the kinds of number of each network that exceed the tolerance from the others."""
    exceeding = {}
    for run in dict.fromkeys(r.run for r in spread.reruns if r.trained):
        others = [r for r in spread.reruns if r.trained and r.run != run]
        measured = _find_largest(others, spread.kinds)
        sizes = [pair for r in spread.reruns if r.run == run for pair in r.differences.items()]
        exceeding[run] = sorted({kind for kind, size in sizes if size > measured.tolerance(kind)})
    return exceeding if len(exceeding) > 1 else {}


def _find_largest(reruns: list[Rerun], kinds: Iterable[str]) -> Measured:
    trained = any(r.trained for r in reruns)
    largest: dict[str, float] = {}
    for name in kinds if reruns else ():
        kind = classify_number(name, trained)
        largest[kind] = max(largest.get(kind, 0.0), *(r.differences.get(name, 0.0) for r in reruns))
    return Measured(largest, len(reruns), trained)


def _name_method(run: str) -> str:
    return run.partition("-")[2]  # without the data set


def write_spread(path: Path | str, spread: Spread) -> None:
    """Write the spread of reruns and check it against its schema."""
    write_json(path, spread, FLAT)


def read_spread() -> Spread | None:
    """Read the spread of reruns that is part of the project; None if there is none."""
    path = paths.results_folder(FOLDER) / "spread.json"
    hint = "measure it again: benchmarks/spread.py"
    return read_json(path, Spread, "not a spread of reruns", hint) if path.exists() else None

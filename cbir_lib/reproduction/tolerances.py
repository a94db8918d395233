"""TODO."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cbir_lib import paths
from cbir_lib.reproduction.gaps import COUNTED, kind
from cbir_lib.schema import Strict, read_json, write_json
from cbir_lib.study.results import Result

USUAL = "as in the study"  # of circumstances
FLAT = re.compile(r"[{[][^][{}]*[]}]")  # an object or a list that holds no other
FOLDER = "verification"  # of results/
FACTOR = 1.5  # times the largest difference measured
MOST = 0.03  # the largest tolerance of a network's accuracy
ANSWERS = {"answers", "candidates.accuracy", "distances.accuracy"}  # of nearest neighbours


class Rerun(Strict):
    """How far one run differs under other circumstances from the run as the study makes it."""

    run: str
    trained: bool  # a network
    circumstances: str
    values_that_differ: int  # of all in the result file
    differences: dict[str, float]  # the largest of each kind; those that are 0 left out


class Spread(Strict):
    """Reruns under other circumstances, as differences: the numbers themselves may change."""

    format: Literal[2] = 2
    profile: str
    measured: str  # UTC
    processor: str
    versions: dict[str, str]
    circumstances: dict[str, dict[str, str]]  # variables of the environment, by name
    kinds: list[str]  # of numbers that were compared
    reruns: list[Rerun]


@dataclass(frozen=True)
class Measured:
    """The largest difference of each kind of number in reruns of one kind of run."""

    largest: Mapping[str, float]  # by kind of number; 0 where none differed
    reruns: int = 0
    trained: bool = False  # networks

    def tolerance(self, key: str, runs: int = 1) -> float:
        """Return how far this number may differ, or its mean over ``runs`` runs.

        A kind that was not measured takes the largest tolerance of those that stand beside it in
        the result file; 0 if there are none.
        """
        of = kind(key, self.trained)
        if of not in self.largest:
            family = of.split(".")[0] + "."
            beside = [
                o
                for o in self.largest
                if o.startswith(family) and o not in COUNTED and not o.endswith("settings")
            ]
            return max((self.tolerance(o, runs) for o in beside), default=0.0)
        if of.endswith("settings"):
            return self.largest[of]  # 0, or 1 where a rerun chose differently
        most = MOST if of == "rules.accuracy" else np.inf
        return float(min(FACTOR * self.largest[of], most) / np.sqrt(runs))


@dataclass(frozen=True)
class Reruns:
    """What reruns were measured to differ by: networks, methods with steady answers, and others."""

    networks: Measured = Measured({}, trained=True)
    steady: Measured = Measured({})
    varying: Measured = Measured({})
    steady_methods: frozenset[str] = frozenset()
    said: str = "none were measured"

    def of(self, result: Result) -> Measured:
        """Return those that a run is held against; an untrained method not rerun may vary."""
        if "network" in result.parameters:
            return self.networks
        return self.steady if self.is_steady(result.run) else self.varying

    def is_steady(self, run: str) -> bool:
        """Say whether it is of a method whose answers stayed the same."""
        return _method(run) in self.steady_methods


def between_reruns(spread: Spread | None) -> Reruns:
    """Return the largest differences that were measured, to take tolerances from."""
    if spread is None:
        return Reruns()
    plain = [rerun for rerun in spread.reruns if not rerun.trained]
    varying = {_method(r.run) for r in plain if set(r.differences) & ANSWERS}
    networks = _largest([r for r in spread.reruns if r.trained], spread.kinds)
    steady = _largest([r for r in plain if _method(r.run) not in varying], spread.kinds)
    others = _largest([r for r in plain if _method(r.run) in varying], spread.kinds)
    circumstances = ", ".join(name for name in spread.circumstances if name != USUAL)
    return Reruns(
        networks,
        steady,
        others,
        frozenset(_method(r.run) for r in plain) - varying,
        f"{networks.reruns} of networks, {steady.reruns} of methods with steady answers and "
        f"{others.reruns} of methods whose answers vary; profile {spread.profile}, {circumstances}",
    )


def left_out(spread: Spread) -> dict[str, list[str]]:
    """Say which kinds of number of each network would be different by the others' reruns alone."""
    found = {}
    for run in dict.fromkeys(r.run for r in spread.reruns if r.trained):
        others = [r for r in spread.reruns if r.trained and r.run != run]
        measured = _largest(others, spread.kinds)
        sizes = [pair for r in spread.reruns if r.run == run for pair in r.differences.items()]
        found[run] = sorted({of for of, size in sizes if size > measured.tolerance(of)})
    return found if len(found) > 1 else {}


def _largest(reruns: list[Rerun], kinds: Iterable[str]) -> Measured:
    trained = any(r.trained for r in reruns)
    found: dict[str, float] = {}
    for name in kinds if reruns else ():
        of = kind(name, trained)
        found[of] = max(found.get(of, 0.0), *(r.differences.get(name, 0.0) for r in reruns))
    return Measured(found, len(reruns), trained)


def _method(run: str) -> str:
    return run.partition("-")[2]  # without the data set


def write_spread(path: Path | str, spread: Spread) -> None:
    """Write the spread of reruns, checked against its schema."""
    write_json(path, spread, FLAT)


def read_spread() -> Spread | None:
    """The spread of reruns that is part of the project; None where there is none."""
    path = paths.results_folder(FOLDER) / "spread.json"
    hint = "measure it again: benchmarks/spread.py"
    return read_json(path, Spread, "not a spread of reruns", hint) if path.exists() else None

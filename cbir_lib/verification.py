"""Whether a re-execution gives what was published, number by number.

Two results of one run are compared number by number. What decides the run (data, parameters) must
be equal: where it is not, the other numbers mean nothing. A measured number is ``same`` when it is
equal to the last bit, ``within tolerance`` when it differs by no more than its tolerance, and
``different`` when it differs by more.

**Where the tolerance comes from.** The same computation gives slightly different numbers on another
processor, because sums are rounded in another order. How much that is was measured:
``benchmarks/spread.py`` repeats runs with another number of threads and with fewer instructions of
the processor (without AVX-512, networks are trained in float32 instead of bfloat16), and keeps the
differences to the run as the study makes it in ``results/verification/spread.json``.

- There are three kinds of run: a trained network; a method without training whose nearest
  neighbours named every image the same in all reruns; and one where they did not, because it learns
  a vocabulary, which amplifies rounding. A method that was not repeated counts as the last.
- For each kind of run and each kind of number, such as mean average precision, the tolerance is 1.5
  times the largest difference that was measured. The factor is there because only a few reruns were
  measured. For the same reason the accuracies of all rules of networks count as one kind.
- An accuracy of a network may differ by at most 3 percentage points, whatever was measured.
- The mean over N networks has the tolerance of one network, divided by the square root of N.
- What never differed in any rerun must be equal to the last bit.
- A choice of settings may differ if a rerun chose differently.
- A kind of number that was not measured, because the data of the reruns do not have it, takes the
  largest tolerance among the numbers of the same table.

What follows from the same answers and rankings is compared and not judged: intervals, confusion
matrices, recalls, what chance would give, examples; and so is the middle of the curves. Whether a
network was trained in float32 or in bfloat16 depends on the processor: it is said and not judged.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import ValidationError

from cbir_lib import results
from cbir_lib.errors import CbirError, unknown
from cbir_lib.files import project_root
from cbir_lib.results import Data, Result
from cbir_lib.schema import Strict, read_json, write_json
from cbir_lib.study import CombinationRun, DescriptorRun, NetworkRun

USUAL = "as in the study"  # of circumstances
FLAT = re.compile(r"[{[][^][{}]*[]}]")  # an object or a list that holds no other
FOLDER = "verification"  # of results/
FACTOR = 1.5  # times the largest difference measured
MOST = 0.03  # the largest tolerance of a network's accuracy
SAME, WITHIN, DIFFERENT, MISSING = "same", "within tolerance", "different", "missing"
VERDICTS = (SAME, WITHIN, DIFFERENT, MISSING)  # from good to bad
CURVES = (  # epochs whose values are judged; reruns differ least after the first
    *(("first", "train_loss"), ("last", "train_loss")),
    *(("last", "validation_loss"), ("last", "validation_accuracy")),
)
COUNTED = ("answers", "retrieval.average_precisions")  # said as how many of them differ
ANSWERS = {"answers", "candidates.accuracy", "distances.accuracy"}  # of nearest neighbours
POOLED = {  # kinds of number of networks, of which few reruns are measured
    r"(rules|training)\..*accuracy": "rules.accuracy",  # of any rule, balanced, validation
    r"rules\..*settings": "rules.settings",
    r"retrieval\.precision_at_": "retrieval.precision",
    r"retrieval\.(.*mean_average|r)_precision": "retrieval.mean_average_precision",
}
HEADLINE = re.compile(
    r"data|parameters|settings|answers|rules\.[^.]*\.(balanced_)?accuracy|retrieval\."
)
SHOWN = {"accuracy": r"rules\..*\.accuracy", "mAP": r"retrieval\.mean_average_precision$"}
FOLLOWS = re.compile(r"^recall_at_|_by_chance$")  # from the precisions, from the labels
MEAN = "mean of the networks"

Verdict = Literal[VERDICTS]


class Number(Strict):
    """One published number beside the same one now."""

    key: str  # where it is in the result file, rules by their names
    published: float | str
    now: float | str | None
    difference: float | None  # now - published; 0 or 1 for a choice
    tolerance: float
    verdict: Verdict


class Verified(Strict):
    """One run: its numbers, and everything else that differs."""

    run: str
    published_sha256: str  # of the published file
    published_on: str
    now_on: str | None  # None where there is no result now
    verdict: Verdict
    numbers: list[Number]
    others: int  # values that were compared and not judged
    others_that_differ: int
    values: dict[str, list]  # every single value that differs: published, now


class Verification(Strict):
    """A re-execution of published results, number by number."""

    format: Literal[2] = 2
    profile: str
    finished: str  # UTC
    fresh: bool  # all executed for it; else results that were up to date were taken
    tolerances_from: str  # which reruns
    runs: list[Verified]
    networks: list[Number]  # means over the networks
    failures: list[str]  # what the runs said that failed

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        verdicts = [r.verdict for r in self.runs] + [n.verdict for n in self.networks]
        return max(verdicts, key=VERDICTS.index)

    @property
    def other_data(self) -> list[str]:
        """Runs that were published on other data or with other parameters."""
        return [
            r.run
            for r in self.runs
            if any(_exact(n.key) and n.verdict == DIFFERENT for n in r.numbers)
        ]


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
class Gap:
    """A number in two results of a run."""

    path: str  # in the result file
    published: float | str
    now: float | str | None
    difference: float | None


def kind(key: str, trained: bool = False) -> str:
    """Return what sort of number it is: one that varies as others of its kind do."""
    for pattern, of in POOLED.items() if trained else ():
        if re.match(pattern, key):
            return of
    return re.sub(r"^(candidates|distances)\.[^.]+(?=\.)", r"\1", key)


def label(key: str) -> str:
    """A number as tables call it: ``accuracy, linear SVM``."""
    first, *rest = key.split(".")
    last = rest[-1].replace("_", " ").replace("mean average precision", "mAP") if rest else first
    if first == "answers":
        return "test images answered differently"
    if first == "retrieval":
        return "queries, mean change" if last == "average precisions" else last
    if first == "settings":
        return "settings chosen"
    if first in ("data", "parameters"):
        return f"data: {last}" if rest else first
    if first == "training":
        return (
            "epoch kept" if last == "best epoch" else f"{rest[0].replace('_', ' ')}, {last} epoch"
        )
    if first in ("candidates", "distances"):
        return f"{last}, {first[:-1]} {rest[0]}"
    return f"{last}, {rest[0]}"


def gaps(published: Result, now: Result) -> dict[str, Gap]:
    """Every number that is compared one by one, by its key; those that must be equal first."""
    found: dict[str, Gap] = {}

    def put(key: str, path: str, old, new, gap=None) -> None:
        if old is not None:
            found[key] = Gap(path, old, new, None if new is None else gap(old, new))

    for name in Data.model_fields:
        old, new = (getattr(r.data, name) for r in (published, now))
        if old is not None:
            put(f"data.{name}", f"data.{name}", _text(old), _text(new), _other)
    old, new = (_decided(r.parameters) for r in (published, now))
    put("parameters", "parameters", *_chosen(old, new), _other)
    put("settings", "settings", *_chosen(published.settings, now.settings), _other)
    answered = [np.array(r.answers) for r in (published, now)]
    found["answers"] = _count("answers", *answered, "images", lambda a, b: (a != b).mean())
    rules = {rule.rule: rule.model_dump() for rule in now.rules}
    for number, rule in enumerate(published.rules):
        same_rule = rules.get(rule.rule, {})
        for name, value in _numbers(rule.model_dump()):
            key = f"rules.{rule.rule}.{name}"
            put(key, f"rules.{number}.{name}", value, same_rule.get(name), _minus)
        chosen = _chosen(rule.settings, same_rule.get("settings"))
        put(f"rules.{rule.rule}.settings", f"rules.{number}.settings", *chosen, _other)
    ranked = now.retrieval.model_dump()
    for name, value in _numbers(published.retrieval.model_dump()):
        put(f"retrieval.{name}", f"retrieval.{name}", value, ranked.get(name), _minus)
    precisions = [np.array(r.retrieval.average_precisions, float) for r in (published, now)]
    key = "retrieval.average_precisions"
    found[key] = _count(key, *precisions, "queries", _mean_change)
    if published.training:
        curves = now.training.model_dump() if now.training else {}
        for which, name in CURVES:
            values, new = getattr(published.training, name), curves.get(name, [None])
            epoch, now_epoch = (0, 0) if which == "first" else (len(values) - 1, len(new) - 1)
            path = f"training.{name}.{epoch}"
            put(f"training.{name}.{which}", path, values[epoch], new[now_epoch], _minus)
        epochs = float(published.training.best_epoch), curves.get("best_epoch")
        put("training.best_epoch", "training.best_epoch", *map(_float, epochs), _minus)
    for table in ("candidates", "distances"):
        tried = [getattr(r, table) for r in (published, now)]
        for number, old in enumerate(tried[0]):
            new = tried[1][number].model_dump() if number < len(tried[1]) else {}
            name = str(number + 1) if table == "candidates" else old.distance
            for field, value in _numbers(old.model_dump()):
                path = f"{table}.{number}.{field}"
                put(f"{table}.{name}.{field}", path, value, new.get(field), _minus)
    return found


def _numbers(values: Mapping[str, object]) -> list[tuple[str, float]]:
    return [
        (name, value)
        for name, value in values.items()
        if isinstance(value, float) and not FOLLOWS.search(name)
    ]


def _float(value) -> float | None:
    return None if value is None else float(value)


def _minus(old: float, new: float) -> float:
    return new - old


def _other(old: str, new: str) -> float:
    return float(old != new)


def _text(value) -> str:
    if isinstance(value, list) and len(value) > 20:
        return f"{len(value)} values, {hashlib.sha256(repr(value).encode()).hexdigest()[:12]}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _chosen(old: Mapping, new: Mapping | None) -> tuple[str, str | None]:
    """Both as text; where they differ, that alone. What a later version adds is no difference."""
    if new is None:
        return _text(dict(old)), None
    names = [name for name in old if old[name] != new.get(name)] or old
    return _text({name: old[name] for name in names}), _text({n: new.get(n) for n in names})


def _decided(parameters: dict) -> dict:
    """Parameters of a run with the defaults of those that a later version adds."""
    kinds = {"network": NetworkRun, "descriptor": DescriptorRun, "members": CombinationRun}
    for name, run in kinds.items():
        if name in parameters:
            try:
                return run(**parameters).model_dump()
            except ValidationError:
                break  # of another version altogether
    return parameters


def _mean_change(old: np.ndarray, new: np.ndarray) -> float:
    if (np.isnan(old) != np.isnan(new)).any():
        return 1.0  # other queries have something to find
    return float(np.nanmean(np.abs(new - old))) if (~np.isnan(old)).any() else 0.0


def _count(path: str, old: np.ndarray, new: np.ndarray, things: str, change) -> Gap:
    said = f"{len(old)} {things}"
    if len(old) != len(new):
        return Gap(path, said, f"{len(new)} {things}", 1.0)
    k = int((~np.isclose(old, new, rtol=0, atol=0, equal_nan=True)).sum())
    return Gap(path, said, f"{k} differ", float(change(old, new)) if k else 0.0)


def largest(found: Mapping[str, Gap]) -> dict[str, float]:
    """The largest difference of each kind of measured number, without its sign."""
    largest: dict[str, float] = {}
    for key, gap in found.items():
        if not key.startswith(("data", "parameters")) and gap.difference is not None:
            of = kind(key)
            largest[of] = max(largest.get(of, 0.0), abs(gap.difference))
    return largest


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


def compare(
    published: Mapping[str, Result], now: Mapping[str, Result], reruns: Reruns
) -> tuple[list[Verified], list[Number]]:
    """Judge every number of the published runs, and the means of the networks' numbers.

    A run that is not in ``now`` is missing.
    """
    found = {run: gaps(old, now.get(run, old)) for run, old in published.items()}
    trained = [run for run in found if run in now and "network" in published[run].parameters]
    means = _means({run: found[run] for run in trained if not _about_another_thing(found[run])})
    verified = []
    for run, old in published.items():
        measured = reruns.of(old)
        numbers = [
            _judge(key, gap, 0.0 if _exact(key) else measured.tolerance(key))
            for key, gap in found[run].items()
        ]
        if run not in now:
            gone = {"now": None, "difference": None, "verdict": MISSING}
            numbers = [number.model_copy(update=gone) for number in numbers]
        verified.append(_verified(old, now.get(run), numbers, found[run]))
    networks = [
        _judge(key, gap, reruns.networks.tolerance(key, len(trained))) for key, gap in means.items()
    ]
    return verified, networks


def conclude(
    profile: str,
    published: Mapping[str, Result],
    now: Mapping[str, Result],
    checksum: str,
    *,
    fresh: bool = False,
    failures: Iterable[str] = (),
) -> Verification:
    """The verification of a profile's published runs.

    Parameters
    ----------
    checksum
        Of the data here. Where the published runs were measured on others, this is all that is said
        of them.
    """
    reruns = between_reruns(read_spread())
    others = {run: r for run, r in published.items() if r.data.checksum != checksum}
    runs, networks = compare(
        {run: r for run, r in published.items() if run not in others}, now, reruns
    )
    for old in others.values():
        gap = Gap("data.checksum", old.data.checksum, checksum, 1.0)
        number = _judge("data.checksum", gap, 0.0)
        runs.append(_verified(old, None, [number], {}))
    return Verification(
        profile=profile,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        fresh=fresh,
        tolerances_from=reruns.said,
        runs=sorted(runs, key=lambda run: run.run),
        networks=networks,
        failures=list(failures),
    )


def _exact(key: str) -> bool:
    return key.startswith(("data.", "parameters"))


def _about_another_thing(found: Mapping[str, Gap]) -> bool:
    return any(gap.difference for key, gap in found.items() if _exact(key))


def _judge(key: str, gap: Gap, tolerance: float) -> Number:
    if gap.difference is None:
        verdict = MISSING
    elif gap.difference == 0:
        verdict = SAME
    else:
        verdict = WITHIN if abs(gap.difference) <= tolerance else DIFFERENT
    return Number(
        key=key,
        published=gap.published,
        now=gap.now,
        difference=gap.difference,
        tolerance=tolerance,
        verdict=verdict,
    )


def _means(found: Mapping[str, Mapping[str, Gap]]) -> dict[str, Gap]:
    """Means over runs of the headline numbers that all of them have; none of a single run."""
    if len(found) < 2:
        return {}
    first = next(iter(found.values()))
    shared = [
        key
        for key, gap in first.items()
        if HEADLINE.match(key)
        and key not in COUNTED
        and isinstance(gap.published, float)
        and all(key in other and other[key].difference is not None for other in found.values())
    ]
    return {
        key: Gap(
            key,
            *(
                float(np.mean([getattr(each[key], name) for each in found.values()]))
                for name in ("published", "now", "difference")
            ),
        )
        for key in shared
    }


def _verified(
    published: Result, now: Result | None, numbers: list[Number], found: Mapping[str, Gap]
) -> Verified:
    covered = tuple(gap.path for gap in found.values())
    values, others, others_differ = {}, 0, 0
    if now:
        one, other = (results.flat(r) for r in (published, now))
        one.pop("training.precision", None)  # a circumstance
        for key, value in one.items():
            judged = key.startswith(covered) and any(
                key == path or key.startswith(path + ".") for path in covered
            )
            differs = value is not None and value != other.get(key)  # None: of an older version
            others += not judged
            others_differ += differs and not judged
            if differs:
                values[key] = [value, other.get(key)]
    verdict = max((number.verdict for number in numbers), key=VERDICTS.index)
    if verdict == SAME and others_differ:
        verdict = WITHIN
    return Verified(
        run=published.run,
        published_sha256=digest(published),
        published_on=_occasion(published),
        now_on=now and _occasion(now),
        verdict=verdict,
        numbers=numbers,
        others=others,
        others_that_differ=others_differ,
        values=values,
    )


def digest(result: Result) -> str:
    """SHA-256 of what a result file says."""
    text = result.model_dump_json(exclude_none=True)  # a later version may have more of them
    return hashlib.sha256(text.encode()).hexdigest()


def _occasion(result: Result) -> str:
    c = result.circumstances
    device = c.processor if c.accelerator == "cpu" else c.accelerator
    said = f"{c.finished[:10]}, {device}, torch {c.versions['torch']}"
    return f"{said}, {result.training.precision}" if result.training else said


# What is said


def summary(verification: Verification) -> pd.DataFrame:
    """One row a run: how many numbers have which verdict, and the run's own."""
    rows = {
        run.run: {verdict: sum(n.verdict == verdict for n in run.numbers) for verdict in VERDICTS}
        | {"others that differ": run.others_that_differ, "verdict": run.verdict}
        for run in verification.runs
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def table(verification: Verification, headline: bool = True) -> pd.DataFrame:
    """One row a number: ``run``, ``number``, ``published``, ``now``, ..., ``verdict``.

    ``headline`` leaves out what a run tried on the validation split, and its curves.
    """
    runs = [(run.run, run.numbers) for run in verification.runs]
    return pd.DataFrame(
        [
            {"run": run, "number": label(number.key)} | number.model_dump()
            for run, numbers in [*runs, (MEAN, verification.networks)]
            for number in numbers
            if HEADLINE.match(number.key) or not headline
        ]
    )


def report(verification: Verification, everything: bool = False) -> str:
    """The verification as lines of at most 100 columns.

    First whether data and parameters are the same, then one line a run, then each number that is
    not the same, or each.
    """
    lines = [f"profile {verification.profile}: {len(verification.runs)} published runs"]
    lines += [f"published: {on}" for on in _occasions(verification, "published_on")]
    lines += [f"now:       {on}" for on in _occasions(verification, "now_on")]
    if verification.other_data:
        lines += ["", "OTHER DATA OR PARAMETERS than published; the rest means nothing, for:"]
        lines += [f"  {run}" for run in verification.other_data]
    else:
        lines.append("data and parameters: the same")
    lines += ["", f"{'run':36}{'same':>6}{'within':>8}{'different':>11}{'missing':>9}   verdict"]
    for run, row in summary(verification).iterrows():
        counts = f"{row[SAME]:6}{row[WITHIN]:8}{row[DIFFERENT]:11}{row[MISSING]:9}"
        lines.append(f"{_cut(run, 35):36}{counts}   {row['verdict']}")
    for run in verification.runs:
        shown = [n for n in run.numbers if everything or n.verdict in (WITHIN, DIFFERENT)]
        if shown or run.others_that_differ:
            lines += ["", *_heading(run.run), *itertools.chain(*map(_number_lines, shown))]
            lines.append(
                f"  not judged: {run.others_that_differ:,} of {run.others:,} other values differ"
            )
    means = [n for n in verification.networks if everything or n.verdict != SAME]
    if means:
        lines += ["", *_heading(MEAN), *itertools.chain(*map(_number_lines, means))]
    lines += ["", *textwrap.wrap(tolerances_in_words(verification), 100), ""]
    lines += [*verification.failures, *([""] if verification.failures else [])]
    return "\n".join([*lines, f"{verification.profile}: {verification.verdict.upper()}"])


def tolerances_in_words(verification: Verification) -> str:
    """Say where the tolerances come from."""
    return (
        f"Tolerance: {FACTOR} times the largest difference measured in reruns, and at most "
        f"{100 * MOST:g} percentage points for an accuracy of a network. Reruns: "
        f"{verification.tolerances_from}."
    )


def outdated(verification: Verification) -> list[str]:
    """Runs of which another result is published now."""
    folder = project_root() / "results" / verification.profile

    def published_now(run: str) -> str | None:
        try:
            return digest(results.read(folder / f"{run}.json"))
        except CbirError:
            return None

    return [run.run for run in verification.runs if published_now(run.run) != run.published_sha256]


def spread_table(spread: Spread) -> pd.DataFrame:
    """One row a rerun: its largest changes in percentage points, and how many values differ."""

    def most(rerun: Rerun, pattern: str) -> float:
        return 100 * max(
            (d for of, d in rerun.differences.items() if re.match(pattern, of)), default=0
        )

    return pd.DataFrame(
        {
            "run": rerun.run,
            "circumstances": rerun.circumstances,
            "trained": rerun.trained,
            "values that differ": rerun.values_that_differ,
            **{measure: most(rerun, pattern) for measure, pattern in SHOWN.items()},
        }
        for rerun in spread.reruns
    )


def _occasions(verification: Verification, name: str) -> list[str]:
    return sorted({on for run in verification.runs if (on := getattr(run, name))})


def _heading(name: str) -> list[str]:
    columns = f"{'published':>11}{'now':>11}{'difference':>12}{'tolerance':>11}   verdict"
    return [f"{_cut(name, 39):40}{columns}"]


def _number_lines(number: Number) -> list[str]:
    name, both = label(number.key), (number.published, number.now)
    if number.key in COUNTED:
        cells = [*both, f"{number.difference:.2g}" if number.difference is not None else ""]
    elif isinstance(number.published, str):
        cells = ["", "", ""]
    else:
        cells = ["" if value is None else f"{value:.6g}" for value in both]
        cells.append("" if number.difference is None else f"{number.difference:+.2g}")
    cells = [str(cell or "") for cell in cells]
    row = (
        f"  {_cut(name, 37):38}{cells[0]:>11}{cells[1]:>11}{cells[2]:>12}"
        f"{number.tolerance:11.2g}   {number.verdict}"
    )
    lines = [row]
    if cells == ["", "", ""] and number.verdict != SAME:
        lines += [f"    published: {_cut(number.published, 80)}"]
        lines += [f"    now:       {_cut(str(number.now), 80)}"]
    return lines


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


# Files


def published(profile: str, run: str | None = None) -> dict[str, Result]:
    """The published results of a profile, or one of them, by run.

    Raises
    ------
    CbirError
        When nothing is published, not this run, or in the format of another version.
    """
    folder = project_root() / "results" / profile
    names = sorted(path.stem for path in folder.glob("*.json"))
    if not names:
        has = sorted({p.parent.name for p in folder.parent.glob("*/*.json")} - {FOLDER})
        raise CbirError(
            f"no results of profile {profile} are published",
            f"published are {', '.join(has)}" if has else f"cbir publish --profile {profile}",
        )
    if run and run not in names:
        raise unknown(f"published run of profile {profile}", run, names)
    try:
        return {
            name: results.read(folder / f"{name}.json") for name in names if run in (None, name)
        }
    except CbirError as error:
        raise CbirError(
            error.what,
            "published by another version: check that one out, or publish again with cbir study "
            f"--profile {profile} and cbir publish --profile {profile}",
        ) from error


def write(path: Path | str, verification: Verification) -> None:
    """Write a verification, checked against its schema."""
    write_json(path, verification, FLAT)


def without_values(verification: Verification) -> Verification:
    """The same with what is judged alone: small enough to be kept with the results."""
    runs = [run.model_copy(update={"values": {}}) for run in verification.runs]
    return verification.model_copy(update={"runs": runs})


def write_spread(path: Path | str, spread: Spread) -> None:
    """Write the spread of reruns, checked against its schema."""
    write_json(path, spread, FLAT)


def read(path: Path | str) -> Verification:
    """Read a verification.

    Raises
    ------
    CbirError
        When it is missing, no JSON, or does not fit the schema.
    """
    return read_json(path, Verification, "not a verification", "cbir verify writes one")


def read_spread() -> Spread | None:
    """The spread of reruns that is part of the project; None where there is none."""
    path = project_root() / "results" / FOLDER / "spread.json"
    hint = "measure it again: benchmarks/spread.py"
    return read_json(path, Spread, "not a spread of reruns", hint) if path.exists() else None

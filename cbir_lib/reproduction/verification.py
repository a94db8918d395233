"""Verification: does a re-execution reproduce the published results, number by number?

Two results of the same run are compared number by number. Data and parameters must be equal:
if they are not, the other numbers mean nothing. A measured number is ``same`` when it is
equal to the last bit, ``within tolerance`` when it differs by no more than its tolerance, and
``different`` when it differs by more.

**Where the tolerance comes from.** The same computation gives slightly different numbers on another
processor, because sums are rounded in another order. The size of this effect was measured:
``benchmarks/spread.py`` repeats runs with another number of threads and with fewer processor
instructions (without AVX-512, networks are trained in float32 instead of bfloat16), compares a
study made on another processor with the published results, and stores the differences in
``results/verification/spread.json``.

- There are three kinds of run: a trained network; an untrained method whose nearest neighbours gave
  the same answers in all reruns; and one whose answers varied, because something in it amplifies
  rounding (a learnt vocabulary, a deep network). A method that was not rerun counts as the last
  kind.
- For each kind of run and each kind of number, such as mean average precision, the tolerance is 1.5
  times the largest measured difference. The factor allows for the small number of reruns. For the
  same reason the accuracies of all rules of networks count as one kind.
- An accuracy of a network may differ by at most 3 percentage points, whatever was measured.
- The mean over N networks has the tolerance of one network, divided by the square root of N.
- Numbers that never differed in any rerun must be equal to the last bit.
- Chosen settings may differ if a rerun chose differently. A classifier with other settings is
  another one, whose accuracies are not compared.
- A kind of number that was not measured, because the data of the reruns do not have it, gets the
  largest tolerance among the numbers of the same table.

Numbers that follow from the same answers and rankings are compared but not judged: intervals,
confusion matrices, recalls, chance levels, examples; so is the middle of the curves. Whether a
network was trained in float32 or in bfloat16 depends on the processor: it is reported, not judged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np

from cbir_lib import paths
from cbir_lib.errors import CbirError, unknown_name_error
from cbir_lib.reproduction.gaps import COUNTED, Gap, compare_results
from cbir_lib.reproduction.tolerances import FLAT, FOLDER, Reruns, measure_reruns, read_spread
from cbir_lib.schema import StrictModel, read_json, write_json
from cbir_lib.study import results
from cbir_lib.study.results import Result

SAME, WITHIN, DIFFERENT, MISSING = "same", "within tolerance", "different", "missing"
VERDICTS = (SAME, WITHIN, DIFFERENT, MISSING)  # from good to bad
HEADLINE = re.compile(
    r"data|parameters|settings|answers|rules\.[^.]*\.(balanced_)?accuracy|retrieval\."
)
MEAN = "mean of the networks"

Verdict = Literal[VERDICTS]


class Number(StrictModel):
    """A published number and the same number now."""

    key: str  # its place in the result file, with rules by name
    published: float | str
    now: float | str | None
    difference: float | None  # now - published; 0 or 1 for a choice
    tolerance: float
    verdict: Verdict


class Verified(StrictModel):
    """The verification of one run: its numbers, and everything else that differs."""

    run: str
    published_sha256: str  # of the published file
    published_on: str
    now_on: str | None  # None if there is no result now
    verdict: Verdict
    numbers: list[Number]
    others: int  # values that were compared but not judged
    others_that_differ: int
    values: dict[str, list]  # every single value that differs: published, now


class Verification(StrictModel):
    """A re-execution of published results, number by number."""

    format: Literal[2] = 2
    profile: str
    finished: str  # UTC
    fresh: bool  # whether all was executed for it, without results that were up to date
    tolerances_from: str  # description of the reruns
    runs: list[Verified]
    networks: list[Number]  # means over the networks
    failures: list[str]  # messages of the runs that failed

    @property
    def verdict(self) -> Verdict:
        """Return the worst verdict of all."""
        verdicts = [r.verdict for r in self.runs] + [n.verdict for n in self.networks]
        return max(verdicts, key=VERDICTS.index)

    @property
    def other_data(self) -> list[str]:
        """Return the runs that were published with other data or other parameters."""
        return [
            r.run
            for r in self.runs
            if any(_is_exact(n.key) and n.verdict == DIFFERENT for n in r.numbers)
        ]


def compare(
    published: Mapping[str, Result], now: Mapping[str, Result], reruns: Reruns
) -> tuple[list[Verified], list[Number]]:
    """Judge every number of the published runs, and the means of the networks' numbers.

    A run that is not in ``now`` is missing.
    """
    gaps_of = {run: compare_results(old, now.get(run, old)) for run, old in published.items()}
    trained = {
        run: gaps
        for run, gaps in gaps_of.items()
        if run in now
        and "network" in published[run].parameters
        and not _is_about_another_thing(gaps)
    }
    verified = []
    for run, old in published.items():
        measured = reruns.select(old)
        numbers = [
            _judge(key, gap, 0.0 if _is_exact(key) else measured.tolerance(key))
            for key, gap in gaps_of[run].items()
        ]
        if run not in now:
            gone = {"now": None, "difference": None, "verdict": MISSING}
            numbers = [number.model_copy(update=gone) for number in numbers]
        verified.append(_verify_run(old, now.get(run), numbers, gaps_of[run]))
    networks = [
        _judge(key, gap, reruns.networks.tolerance(key, len(trained)))
        for key, gap in _average(trained).items()
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
    """Verify the published runs of a profile.

    Parameters
    ----------
    checksum
        Of the data here. If published runs were measured on other data, only that is reported.
    """
    reruns = measure_reruns(read_spread())
    others = {run: r for run, r in published.items() if r.data.checksum != checksum}
    runs, networks = compare(
        {run: r for run, r in published.items() if run not in others}, now, reruns
    )
    for old in others.values():
        gap = Gap("data.checksum", old.data.checksum, checksum, 1.0)
        number = _judge("data.checksum", gap, 0.0)
        runs.append(_verify_run(old, None, [number], {}))
    return Verification(
        profile=profile,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        fresh=fresh,
        tolerances_from=reruns.description,
        runs=sorted(runs, key=lambda run: run.run),
        networks=networks,
        failures=list(failures),
    )


def _is_exact(key: str) -> bool:
    return key.startswith(("data.", "parameters"))


def _is_about_another_thing(gaps: Mapping[str, Gap]) -> bool:
    return any(gap.difference for key, gap in gaps.items() if _is_exact(key))


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


def _average(gaps_of: Mapping[str, Mapping[str, Gap]]) -> dict[str, Gap]:
    """Return the means of the headline numbers that all runs have; none for a single run."""
    if len(gaps_of) < 2:
        return {}
    first = next(iter(gaps_of.values()))
    shared = [
        key
        for key, gap in first.items()
        if HEADLINE.match(key)
        and key not in COUNTED
        and isinstance(gap.published, float)
        and all(key in other and other[key].difference is not None for other in gaps_of.values())
    ]
    return {
        key: Gap(
            key,
            *(
                float(np.mean([getattr(gaps[key], name) for gaps in gaps_of.values()]))
                for name in ("published", "now", "difference")
            ),
        )
        for key in shared
    }


def _verify_run(
    published: Result, now: Result | None, numbers: list[Number], gaps: Mapping[str, Gap]
) -> Verified:
    covered = tuple(gap.path for gap in gaps.values())
    values, others, others_differ = {}, 0, 0
    if now:
        one, other = (results.flatten(r) for r in (published, now))
        one.pop("training.precision", None)  # belongs to the circumstances
        for key, value in one.items():
            judged = key.startswith(covered) and any(
                key == path or key.startswith(path + ".") for path in covered
            )
            differs = value is not None and value != other.get(key)  # None: from an older version
            others += not judged
            others_differ += differs and not judged
            if differs:
                values[key] = [value, other.get(key)]
    verdict = max((number.verdict for number in numbers), key=VERDICTS.index)
    if verdict == SAME and others_differ:
        verdict = WITHIN
    return Verified(
        run=published.run,
        published_sha256=compute_digest(published),
        published_on=_describe_occasion(published),
        now_on=now and _describe_occasion(now),
        verdict=verdict,
        numbers=numbers,
        others=others,
        others_that_differ=others_differ,
        values=values,
    )


def compute_digest(result: Result) -> str:
    """Compute the SHA-256 of the content of a result file."""
    text = result.model_dump_json(exclude_none=True)  # a later version may have more of them
    return hashlib.sha256(text.encode()).hexdigest()


def _describe_occasion(result: Result) -> str:
    c = result.circumstances
    device = c.processor if c.accelerator == "cpu" else c.accelerator
    text = f"{c.finished[:10]}, {device}, torch {c.versions['torch']}"
    return f"{text}, {result.training.precision}" if result.training else text


def find_outdated(verification: Verification) -> list[str]:
    """Return the runs whose published result has changed since the verification."""
    folder = paths.results_folder(verification.profile)

    def published_now(run: str) -> str | None:
        try:
            return compute_digest(results.read(folder / f"{run}.json"))
        except CbirError:
            return None

    return [run.run for run in verification.runs if published_now(run.run) != run.published_sha256]


# Files


def read_published(profile: str, run: str | None = None) -> dict[str, Result]:
    """Read the published results of a profile, or one of them, by run.

    Raises
    ------
    CbirError
        When nothing is published, this run is not, or the format is that of another version.
    """
    folder = paths.results_folder(profile)
    names = sorted(path.stem for path in folder.glob("*.json"))
    if not names:
        has = sorted({p.parent.name for p in folder.parent.glob("*/*.json")} - {FOLDER})
        raise CbirError(
            f"no results of profile {profile} are published",
            f"published profiles: {', '.join(has)}" if has else f"cbir publish --profile {profile}",
        )
    if run and run not in names:
        raise unknown_name_error(f"published run of profile {profile}", run, names)
    try:
        return {
            name: results.read(folder / f"{name}.json") for name in names if run in (None, name)
        }
    except CbirError as error:
        raise CbirError(
            error.what,
            "published by another version: check that out, or publish again with cbir study "
            f"--profile {profile} and cbir publish --profile {profile}",
        ) from error


def write(path: Path | str, verification: Verification) -> None:
    """Write a verification and check it against its schema."""
    write_json(path, verification, FLAT)


def drop_values(verification: Verification) -> Verification:
    """Return the verification without the single values, small enough to publish."""
    runs = [run.model_copy(update={"values": {}}) for run in verification.runs]
    return verification.model_copy(update={"runs": runs})


def read(path: Path | str) -> Verification:
    """Read a verification.

    Raises
    ------
    CbirError
        When it is missing, is not JSON, or does not fit the schema.
    """
    return read_json(path, Verification, "not a verification", "cbir verify writes one")


def find_verification(folder: Path, profile: str) -> tuple[Verification | None, bool]:
    """Return the verification of a profile, and whether it is the reader's own.

    The one in the folder of the reader's study, or else the published one; None if there is
    neither. A file that another version wrote counts as missing.
    """
    own = folder / "verification.json"
    published = paths.results_folder(FOLDER) / f"{profile}.json"
    for path in (own, published):
        try:
            return read(path), path == own
        except CbirError:
            continue
    return None, False

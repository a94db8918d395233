"""TODO."""

from __future__ import annotations

import itertools
import re
import textwrap

import pandas as pd

from cbir_lib.reproduction.gaps import COUNTED, label
from cbir_lib.reproduction.tolerances import FACTOR, MOST, Rerun, Spread
from cbir_lib.reproduction.verification import (
    DIFFERENT,
    HEADLINE,
    MEAN,
    MISSING,
    SAME,
    VERDICTS,
    WITHIN,
    Number,
    Verification,
)

SHOWN = {"accuracy": r"rules\..*\.accuracy", "mAP": r"retrieval\.mean_average_precision$"}


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

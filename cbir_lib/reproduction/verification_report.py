"""A verification as tables and as lines of text."""

from __future__ import annotations

import itertools
import re
import textwrap

import pandas as pd

from cbir_lib.reproduction.gaps import COUNTED, label_number
from cbir_lib.reproduction.tolerances import FACTOR, LARGEST_TOLERANCE, Rerun, Spread
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


def summarise(verification: Verification) -> pd.DataFrame:
    """Return one row per run: the number of each verdict, and the verdict of the run."""
    rows = {
        run.run: {verdict: sum(n.verdict == verdict for n in run.numbers) for verdict in VERDICTS}
        | {"others that differ": run.others_that_differ, "verdict": run.verdict}
        for run in verification.runs
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def tabulate(verification: Verification, headline: bool = True) -> pd.DataFrame:
    """Return one row per number: ``run``, ``number``, ``published``, ``now``, ..., ``verdict``.

    ``headline`` leaves out the candidates of the validation split and the curves.
    """
    runs = [(run.run, run.numbers) for run in verification.runs]
    return pd.DataFrame(
        [
            {"run": run, "number": label_number(number.key)} | number.model_dump()
            for run, numbers in [*runs, (MEAN, verification.networks)]
            for number in numbers
            if HEADLINE.match(number.key) or not headline
        ]
    )


def format_report(verification: Verification, everything: bool = False) -> str:
    """Format the verification as lines of at most 100 columns.

    First whether data and parameters are the same, then one line per run, then each number that
    differs, or every number.
    """
    lines = [f"profile {verification.profile}: {len(verification.runs)} published runs"]
    lines += [f"published: {on}" for on in _list_occasions(verification, "published_on")]
    lines += [f"now:       {on}" for on in _list_occasions(verification, "now_on")]
    if verification.other_data:
        lines += [
            "",
            "OTHER DATA OR PARAMETERS than published; all other numbers are meaningless for:",
        ]
        lines += [f"  {run}" for run in verification.other_data]
    else:
        lines.append("data and parameters: the same")
    lines += ["", f"{'run':36}{'same':>6}{'within':>8}{'different':>11}{'missing':>9}   verdict"]
    for run, row in summarise(verification).iterrows():
        counts = f"{row[SAME]:6}{row[WITHIN]:8}{row[DIFFERENT]:11}{row[MISSING]:9}"
        lines.append(f"{_cut(run, 35):36}{counts}   {row['verdict']}")
    for run in verification.runs:
        shown = [n for n in run.numbers if everything or n.verdict in (WITHIN, DIFFERENT)]
        if shown or run.others_that_differ:
            lines += ["", *_format_heading(run.run), *itertools.chain(*map(_format_number, shown))]
            lines.append(
                f"  not judged: {run.others_that_differ:,} of {run.others:,} other values differ"
            )
    means = [n for n in verification.networks if everything or n.verdict != SAME]
    if means:
        lines += ["", *_format_heading(MEAN), *itertools.chain(*map(_format_number, means))]
    lines += ["", *textwrap.wrap(describe_tolerances(verification), 100), ""]
    lines += [*verification.failures, *([""] if verification.failures else [])]
    return "\n".join([*lines, f"{verification.profile}: {verification.verdict.upper()}"])


def describe_tolerances(verification: Verification) -> str:
    """Describe where the tolerances come from."""
    return (
        f"Tolerance: {FACTOR} times the largest difference measured in reruns, and at most "
        f"{100 * LARGEST_TOLERANCE:g} percentage points for an accuracy of a network. Reruns: "
        f"{verification.tolerances_from}."
    )


def format_numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """Format rows of :func:`tabulate` for display; an empty cell for what is missing."""
    forms = {"published": ".4f", "now": ".4f", "difference": "+.2g", "tolerance": ".2g"}

    def format_value(value: object, form: str) -> object:
        if not isinstance(value, float):
            return value or ""
        return "" if pd.isna(value) else format(value, form) if value else "0"

    columns = {name: [format_value(v, form) for v in rows[name]] for name, form in forms.items()}
    return rows[["run", "number"]].assign(**columns, verdict=rows["verdict"]).set_index("run")


def select_main_numbers(numbers: pd.DataFrame) -> pd.DataFrame:
    """Select from :func:`tabulate` the accuracy of each run's own rule and its mAP."""
    own = numbers["key"].str.match(r"rules\.[^.]*\.accuracy")
    own &= ~numbers["run"].where(own).duplicated()  # the method's own rule comes first
    return numbers[own | (numbers["key"] == "retrieval.mean_average_precision")]


def tabulate_spread(spread: Spread) -> pd.DataFrame:
    """Return one row per rerun: largest changes in percentage points, number of other values."""

    def most(rerun: Rerun, pattern: str) -> float:
        return 100 * max(
            (d for name, d in rerun.differences.items() if re.match(pattern, name)), default=0
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


def _list_occasions(verification: Verification, name: str) -> list[str]:
    return sorted({on for run in verification.runs if (on := getattr(run, name))})


def _format_heading(name: str) -> list[str]:
    columns = f"{'published':>11}{'now':>11}{'difference':>12}{'tolerance':>11}   verdict"
    return [f"{_cut(name, 39):40}{columns}"]


def _format_number(number: Number) -> list[str]:
    name, both = label_number(number.key), (number.published, number.now)
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

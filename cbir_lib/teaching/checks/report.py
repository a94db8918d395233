"""Exercises on the verdicts."""

from __future__ import annotations

import numpy as np

from cbir_lib.reproduction import formula, paper, tables
from cbir_lib.teaching.answers import Array, Expected, Items, Number

# Outcomes of the comparisons of four claims; the starter has the same.
OUTCOMES = {
    "one": ["for", "for", "for"],
    "two": ["for", "for", "against"],
    "three": ["for", "open", "for"],
    "four": ["against", "against", "for"],
}


def change_rule() -> tuple[Expected, ...]:
    """Decide four claims by the study's rule, and find which verdicts a vote would change."""
    by_rule = {name: _decide(outcomes) for name, outcomes in OUTCOMES.items()}
    by_vote = {name: _vote(outcomes) for name, outcomes in OUTCOMES.items()}
    numbers = [paper.VERDICTS.index(word) for word in by_rule.values()]
    return (
        Array(
            "verdicts",
            numbers,
            "0 supported: all for; 1 contradicted: one against is enough; 2 undecided: the rest.",
        ),
        Items(
            "moved",
            frozenset(name for name in OUTCOMES if by_rule[name] != by_vote[name]),
            "By the vote, a claim is contradicted only if more speak against it than for it; "
            "otherwise it is supported if all are for it, and undecided if not.",
        ),
    )


def count_seeds() -> tuple[Expected, ...]:
    """Compute how many seeds the smallest published gain needs."""
    gain = tables.tabulate_published_gains()["difference"].min()
    return (
        Number(
            "seeds",
            int(np.ceil((1.96 * np.sqrt(2) / gain) ** 2)),
            "The difference of two networks has standard deviation sqrt(2); with n seeds each, "
            "1.96 sqrt(2 / n) must stay below the gain. Round up.",
            common=[
                (
                    int(np.ceil((1.96 / gain) ** 2)),
                    "Both networks vary: the variance of a difference is the sum of both.",
                )
            ],
        ),
    )


def invert_formula() -> tuple[Expected, ...]:
    """Find which published values the second reading of the formula cannot give."""
    impossible = {
        row
        for row, value in paper.TABLE_4.items()
        if formula.invert_paper_formula(value, 10) is None
    }
    return (
        Items(
            "impossible",
            frozenset(impossible),
            "Even with every answer wrong, the formula gives 100 (1 - 2 / classes): values below "
            "that cannot come from it.",
        ),
    )


def _decide(outcomes: list[str]) -> str:
    supported, contradicted, undecided = paper.VERDICTS
    if "against" in outcomes:
        return contradicted
    return supported if set(outcomes) == {"for"} else undecided


def _vote(outcomes: list[str]) -> str:
    supported, contradicted, undecided = paper.VERDICTS
    if outcomes.count("against") > outcomes.count("for"):
        return contradicted
    return supported if set(outcomes) == {"for"} else undecided


EXERCISES = (change_rule, count_seeds, invert_formula)

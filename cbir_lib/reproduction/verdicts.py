"""Verdicts on the paper's claims: the rules of :mod:`cbir_lib.reproduction.paper`, applied.

Everything here is computed from result files, and the rules themselves are not defined here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cbir_lib.errors import CbirError
from cbir_lib.evaluation.intervals import compute_paired_interval
from cbir_lib.evaluation.significance import adjust_by_holm, run_permutation_test
from cbir_lib.reproduction import paper
from cbir_lib.reproduction.paper import HALFWAY, RANDOM, Claim, Comparison, Side
from cbir_lib.study.config import name_briefly
from cbir_lib.study.pairwise import score_queries
from cbir_lib.study.results import Result, name_variant, same_images

# The outcomes of a comparison, each with a mark that can be read without colour.
OUTCOMES = {"for": "✓", "against": "✗", "open": "○", "not run": "-"}
SUPPORTED, CONTRADICTED, UNDECIDED = paper.VERDICTS
SHORTER = {"dropout-augment": "both", "decay0.005": "ten times the decay"}  # in names of sides
DOUBLED = "2xepochs"  # at the end of a variant's name


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim.

    Attributes
    ----------
    word
        One of :data:`cbir_lib.reproduction.paper.VERDICTS`.
    reason
        The reason, as a sentence.
    measured
        One row per comparison: ``one``, ``other``, ``measure``, ``outcome``, ``seeds``, ``p``
        (Holm), and in percentage points ``difference``, ``low``, ``high``, the seeds' ``lowest``
        and ``highest``, ``allowance``, and ``paper``, the paper's difference. NaN if there is none.
    reported
        The same for the comparisons that decide nothing.
    doubled
        The same for the comparisons whose networks were all trained with twice the epochs as well,
        measured with those; ``before`` is the outcome with the profile's own epochs.
    doubled_word
        The verdict with these instead of the others.
    runs
        The results that were compared, by run.
    """

    claim: Claim
    word: str
    reason: str
    measured: pd.DataFrame
    reported: pd.DataFrame
    doubled: pd.DataFrame
    doubled_word: str
    runs: Mapping[str, Result]


# One comparison


def name_side(side: Side) -> str:
    """Return the name of a side of a comparison: ``C with dropout``."""
    if isinstance(side, str):
        return side
    name, variant = side
    plain = variant.removesuffix(DOUBLED).removesuffix("-")
    if plain not in SHORTER:
        return name_briefly(name, variant)
    return f"{name} with {SHORTER[plain]}" + " and twice the epochs" * (plain != variant)


def find_runs(results: Sequence[Result], side: tuple[str, str]) -> dict[int, Result]:
    """Return the results of a network and variant, by seed."""
    return {
        r.parameters["seed"]: r
        for r in results
        if r.parameters.get("network") == side[0] and name_variant(r) == side[1]
    }


def find_descriptor(
    results: Sequence[Result], row: str, like: Result | None = None
) -> Result | None:
    """Return the first result of a handcrafted row of Table 4, on the same images as another."""
    return next(
        (
            r
            for r in results
            if "descriptor" in r.parameters
            and paper.find_row(r.parameters) == row
            and (like is None or _share_pixels(r, like))
        ),
        None,
    )


def _share_pixels(one: Result, other: Result) -> bool:
    """Return whether both were measured on the same images at the same size."""
    return same_images(one, other) and one.parameters["size"] == other.parameters["size"]


@dataclass(frozen=True)
class Pairs:
    """Both sides of a comparison, seed by seed; None for a side that is not a run."""

    one: list[Result | None]
    other: list[Result | None]

    @property
    def data(self) -> Result:
        """Return a result of either side, for the data that both share."""
        return next(r for r in (*self.one, *self.other) if r)

    @property
    def trained(self) -> bool:
        """Return whether one of the sides is a network."""
        return any("network" in r.parameters for r in (*self.one, *self.other) if r)


def pair_runs(results: Sequence[Result], comparison: Comparison) -> Pairs | None:
    """Return the runs of a comparison for all seeds that both sides have; None without any."""
    trained = {s: find_runs(results, s) for s in comparison.sides if isinstance(s, tuple)}
    seeds = sorted(set.intersection(*map(set, trained.values()))) if trained else [None]
    known = next((runs[seed] for runs in trained.values() for seed in seeds), None)
    fixed = {
        side: find_descriptor(results, side, known)
        for side in comparison.sides
        if isinstance(side, str) and side not in (HALFWAY, RANDOM)
    }
    if not seeds or None in fixed.values():
        return None
    one, other = (
        [trained[side][seed] if side in trained else fixed.get(side) for seed in seeds]
        for side in comparison.sides
    )
    return Pairs(one, other)


def compute_scores(result: Result, measure: str) -> np.ndarray:
    """Compute (Q,) scores of the test images in percent: 0 or 100, or precisions, maybe NaN."""
    return 100 * score_queries(result, measure)


def score_halfway(result: Result) -> np.ndarray:
    """Compute (Q,) in percent: halfway between always answering with the largest class and 100."""
    labels = np.array(result.data.test_labels)
    return 50.0 + 50 * (labels == np.bincount(labels).argmax())


def score_random_ranking(result: Result) -> np.ndarray | None:
    """Compute (Q,) in percent: the expected average precision of a random ranking.

    The training images are distributed over the classes as in IRMA, which holds for every split of
    IRMA and of the phantom; None for other classes.
    """
    counts, data = paper.IRMA_2009["train"], result.data
    if set(data.class_names) != set(counts):
        return None
    items = data.images["train"]
    relevant = items * np.array([counts[name] for name in data.class_names]) / sum(counts.values())
    return 100 * compute_expected_average_precision(relevant, items)[data.test_labels]


def compute_expected_average_precision(relevant: np.ndarray, items: int) -> np.ndarray:
    """Compute the mean average precision over all orders of ``items`` items.

    Of the k - 1 items before a relevant item at rank k, (k - 1) (R - 1) / (N - 1) are relevant on
    average; the result is the mean over all k.
    """
    first = np.sum(1 / np.arange(1, items + 1)) / items
    return first + (1 - first) * (np.asarray(relevant) - 1) / (items - 1)


def compute_differences(runs: Pairs, comparison: Comparison) -> np.ndarray | None:
    """Compute the (S, Q) percentage points by which ``one`` is ahead; None if a side has no scores.

    NaN for an image without average precision.
    """
    rows = []
    for pair in zip(runs.one, runs.other, strict=True):
        known = next(r for r in pair if r)
        if None not in pair and not _share_pixels(*pair):
            raise CbirError(
                f"{pair[0].run} and {pair[1].run} were measured on different images",
                "compare runs of the same images and classes",
            )
        values = [
            {HALFWAY: score_halfway, RANDOM: score_random_ranking}[side](known)
            if result is None
            else compute_scores(result, comparison.measure)
            for side, result in zip(comparison.sides, pair, strict=True)
        ]
        if any(value is None for value in values):
            return None
        rows.append(values[0] - values[1])
    return np.array(rows)


def get_subjects(result: Result) -> np.ndarray | None:
    """Return the subject of each test image, (Q,); None if the data set does not have them."""
    return None if result.data.test_subjects is None else np.array(result.data.test_subjects)


def estimate(points: np.ndarray, owners: np.ndarray | None, allowance: float = 0.0) -> dict:
    """Estimate the mean of (S, Q) differences, its interval, the seeds' range, and the p value."""
    known = ~np.isnan(points).any(axis=0)
    points = points[:, known]
    owners = None if owners is None else owners[known]
    low, high = compute_paired_interval(points, subjects=owners)
    of_seeds = points.mean(axis=1)
    return {
        "difference": points.mean(),
        "low": low,
        "high": high,
        "lowest": of_seeds.min(),
        "highest": of_seeds.max(),
        "p": run_permutation_test(points + allowance, subjects=owners),
    }


# The claims

COLUMNS = [
    *("one", "other", "measure", "outcome", "seeds", "p", "difference", "low", "high"),
    *("lowest", "highest", "allowance", "paper", "decides"),
]


def judge(claim: Claim, results: Sequence[Result]) -> Verdict:
    """Judge a claim by :data:`cbir_lib.reproduction.paper.RULE`."""
    measured, runs = measure(claim.comparisons, results)
    word, reason = _decide(measured)
    by_measure = [
        measure([c for c in claim.reported if c.measure == name], results)[0]
        for name in dict.fromkeys(c.measure for c in claim.reported)
    ]
    reported = pd.concat(by_measure) if by_measure else measured.iloc[:0]
    longer = [double_epochs(c) for c in claim.comparisons]
    has = [c is not None and pair_runs(results, c) is not None for c in longer]
    mixed, more = measured, {}
    if any(has):
        # Holm's adjustment covers all comparisons of the claim, including those not trained longer.
        mixed, more = measure(
            [a if there else c for a, c, there in zip(longer, claim.comparisons, has, strict=True)],
            results,
        )
    doubled = mixed[has].assign(before=measured.loc[has, "outcome"])
    return Verdict(claim, word, reason, measured, reported, doubled, _decide(mixed)[0], runs | more)


def measure(
    comparisons: Sequence[Comparison], results: Sequence[Result]
) -> tuple[pd.DataFrame, dict[str, Result]]:
    """Measure comparisons together; return their rows as in :class:`Verdict`, and the runs used."""
    rows, runs = [], {}
    for comparison in comparisons:
        row = {
            "one": name_side(comparison.one),
            "other": name_side(comparison.other),
            "measure": comparison.measure,
            "outcome": "not run",
            "seeds": 0,
            "allowance": comparison.allowance,
            "paper": paper.get_published_difference(comparison),
            "decides": comparison.decides,
        }
        both = pair_runs(results, comparison)
        points = None if both is None else compute_differences(both, comparison)
        if points is not None:
            runs |= {r.run: r for r in (*both.one, *both.other) if r}
            row |= estimate(points, get_subjects(both.data), comparison.allowance)
            row |= {"outcome": "open", "seeds": len(both.one) if both.trained else 0}
        rows.append(row)
    tested = [row for row in rows if "p" in row]
    for row, p in zip(tested, adjust_by_holm([row["p"] for row in tested]), strict=True):
        row["p"] = p
        if p <= paper.LEVEL and row["low"] > -row["allowance"]:
            row["outcome"] = "for"
        elif p <= paper.LEVEL and row["high"] < -row["allowance"]:
            row["outcome"] = "against"
    measured = pd.DataFrame(rows).reindex(columns=COLUMNS)
    numbers = COLUMNS[5:13]
    measured[numbers] = measured[numbers].astype(float)
    return measured, runs


def double_epochs(comparison: Comparison) -> Comparison | None:
    """Return the same comparison with twice the epochs; None if it has no network."""
    if not any(isinstance(side, tuple) for side in comparison.sides):
        return None
    one, other = (
        side if isinstance(side, str) else (side[0], "-".join(filter(None, (side[1], DOUBLED))))
        for side in comparison.sides
    )
    return replace(comparison, one=one, other=other)


def judge_all(results: Sequence[Result]) -> list[Verdict]:
    """Judge each of the ten claims, in order."""
    return [judge(claim, results) for claim in paper.CLAIMS]


def order_sides(row: pd.Series) -> tuple[str, str]:
    """Return the winner and the loser of a comparison that was measured."""
    sides = row["one"], row["other"]
    return sides if row["difference"] > -row["allowance"] else sides[::-1]


def _decide(measured: pd.DataFrame) -> tuple[str, str]:
    count = measured["outcome"].value_counts().reindex(OUTCOMES, fill_value=0)
    number = len(measured)
    if count["for"] == number:
        all_of = {1: "The comparison supports", 2: "Both comparisons support"}
        every = all_of.get(number, f"All {number} comparisons support")
        return SUPPORTED, f"{every} it."
    refuting = measured[(measured["outcome"] == "against") & measured["decides"]]
    if len(refuting):
        word = CONTRADICTED
        winner, loser = order_sides(refuting.iloc[0])
        others = len(refuting) - 1
        more = f"; {others} more contradict{'s' * (others == 1)} it" if others else ""
        points = refuting.iloc[0]["allowance"]
        much = f" by more than {points:g} point" if points else ""
        cause = f"{winner} is ahead of {loser}{much}{more}"
    else:
        word = UNDECIDED
        causes = {
            "not run": "some of it was not run",
            "open": "the measurements are inconclusive",
            "against": "other networks fail as well",
        }
        cause = " and ".join(words for outcome, words in causes.items() if count[outcome])
    counted = [
        f"{count[outcome]} {words}"
        for outcome, words in {
            "for": "for it",
            "against": "against it",
            "open": "open",
            "not run": "not run",
        }.items()
        if count[outcome]
    ]
    return word, f"{cause[0].upper()}{cause[1:]}. Comparisons: {', '.join(counted)}."

"""What becomes of the paper's claims: the rules of :mod:`cbir_lib.reproduction.paper`, applied to results.

Nothing is computed here that is not in a result file, and no rule is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cbir_lib.errors import CbirError
from cbir_lib.evaluation.intervals import paired_interval
from cbir_lib.evaluation.significance import holm, permutation
from cbir_lib.reproduction import paper
from cbir_lib.reproduction.paper import HALFWAY, RANDOM, Claim, Comparison, Side
from cbir_lib.study.pairwise import of_each_query
from cbir_lib.study.results import Result, same_images, variant_of

# What a comparison can say, and the mark by which it reads without colour.
OUTCOMES = {"for": "✓", "against": "✗", "open": "○", "not run": "-"}
SUPPORTED, CONTRADICTED, UNDECIDED = paper.VERDICTS
VARIANT_WORDS = {
    "": "",
    "dropout": " with dropout",
    "augment": " with augmentation",
    "dropout-augment": " with both",
    "normalised": " with batch normalisation",
    "decay0.005": " with ten times the decay",
}
DOUBLED = "2xepochs"  # last in the name of a variant


@dataclass(frozen=True)
class Verdict:
    """What becomes of one claim.

    Attributes
    ----------
    word
        One of :data:`cbir_lib.reproduction.paper.VERDICTS`.
    reason
        Why, in words.
    measured
        One row a comparison: ``one``, ``other``, ``measure``, ``outcome``, ``seeds``, ``p`` (Holm),
        and in percentage points ``difference``, ``low``, ``high``, the seeds' ``lowest`` and
        ``highest``, ``allowance``, and ``paper``, its difference. NaN where there is none.
    reported
        The same of what decides nothing.
    doubled
        The same of the comparisons whose networks all have a training of twice the epochs, measured
        with it; ``outcome`` beside ``before``, with the profile's own epochs.
    doubled_word
        The verdict with these in place of the others.
    runs
        What was compared, by the name of the run.
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


def called(side: Side) -> str:
    """A side of a comparison in words: ``C with dropout``."""
    if isinstance(side, str):
        return side
    name, variant = side
    plain = variant.removesuffix(DOUBLED).removesuffix("-")
    longer = " and twice the epochs" if plain != variant else ""
    return name + VARIANT_WORDS.get(plain, f", {plain}") + longer


def runs_of(found: Sequence[Result], side: tuple[str, str]) -> dict[int, Result]:
    """The results of a network and variant, by seed."""
    return {
        r.parameters["seed"]: r
        for r in found
        if r.parameters.get("network") == side[0] and variant_of(r) == side[1]
    }


def family(found: Sequence[Result], row: str, like: Result | None = None) -> Result | None:
    """The first result of a handcrafted row of Table 4, on the same images as another."""
    return next(
        (
            r
            for r in found
            if "descriptor" in r.parameters
            and paper.row_of(r.parameters) == row
            and (like is None or _same_pixels(r, like))
        ),
        None,
    )


def _same_pixels(one: Result, other: Result) -> bool:
    """The same images at the same size."""
    return same_images(one, other) and one.parameters["size"] == other.parameters["size"]


@dataclass(frozen=True)
class Pairs:
    """Both sides of a comparison, seed by seed; a side that nobody trains is None."""

    one: list[Result | None]
    other: list[Result | None]

    @property
    def data(self) -> Result:
        """A result of either side, for what both share."""
        return next(r for r in (*self.one, *self.other) if r)

    @property
    def trained(self) -> bool:
        """Whether a network is in it."""
        return any("network" in r.parameters for r in (*self.one, *self.other) if r)


def pairs(found: Sequence[Result], comparison: Comparison) -> Pairs | None:
    """Return the runs that decide a comparison, of all seeds that both have; None without any."""
    trained = {s: runs_of(found, s) for s in comparison.sides if isinstance(s, tuple)}
    seeds = sorted(set.intersection(*map(set, trained.values()))) if trained else [None]
    known = next((runs[seed] for runs in trained.values() for seed in seeds), None)
    fixed = {
        side: family(found, side, known)
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


def scores(result: Result, measure: str) -> np.ndarray:
    """(Q,) in percent, of each test image: 0 or 100 for accuracy; precisions, maybe NaN."""
    return 100 * of_each_query(result, measure)


def halfway(result: Result) -> np.ndarray:
    """(Q,) in percent: the mean of the most frequent answer's rightness, and of being right."""
    labels = np.array(result.data.test_labels)
    return 50.0 + 50 * (labels == np.bincount(labels).argmax())


def blind(result: Result) -> np.ndarray | None:
    """(Q,) in percent: the average precision to be expected of a ranking at random.

    The training images of each class are those of IRMA in proportion, which every split of IRMA and
    of the phantom keeps; None where the classes are others.
    """
    counts, data = paper.IRMA_2009["train"], result.data
    if set(data.class_names) != set(counts):
        return None
    items = data.images["train"]
    relevant = items * np.array([counts[name] for name in data.class_names]) / sum(counts.values())
    return 100 * expected_average_precision(relevant, items)[data.test_labels]


def expected_average_precision(relevant: np.ndarray, items: int) -> np.ndarray:
    """Mean average precision over all orders of ``items``, of which ``relevant`` are relevant.

    At the rank k of a relevant item, (k - 1) (R - 1) / (N - 1) of those before it are relevant on
    average; the mean over all k follows.
    """
    first = np.sum(1 / np.arange(1, items + 1)) / items
    return first + (1 - first) * (np.asarray(relevant) - 1) / (items - 1)


def differences(found: Pairs, comparison: Comparison) -> np.ndarray | None:
    """(S, Q) percentage points by which ``one`` is ahead; None where a side has no scores.

    NaN where an image has no average precision.
    """
    rows = []
    for pair in zip(found.one, found.other, strict=True):
        known = next(r for r in pair if r)
        if None not in pair and not _same_pixels(*pair):
            raise CbirError(
                f"{pair[0].run} and {pair[1].run} were measured on different images",
                "compare runs of the same images and classes",
            )
        values = [
            {HALFWAY: halfway, RANDOM: blind}[side](known)
            if result is None
            else scores(result, comparison.measure)
            for side, result in zip(comparison.sides, pair, strict=True)
        ]
        if any(value is None for value in values):
            return None
        rows.append(values[0] - values[1])
    return np.array(rows)


def subjects(result: Result) -> np.ndarray | None:
    """(Q,) the subject of each test image; None where the data set does not know."""
    return None if result.data.test_subjects is None else np.array(result.data.test_subjects)


def estimate(points: np.ndarray, owners: np.ndarray | None, allowance: float = 0.0) -> dict:
    """Mean difference of (S, Q) points, its interval, those of the seeds, and the p value."""
    known = ~np.isnan(points).any(axis=0)
    points = points[:, known]
    owners = None if owners is None else owners[known]
    low, high = paired_interval(points, subjects=owners)
    of_seeds = points.mean(axis=1)
    return {
        "difference": points.mean(),
        "low": low,
        "high": high,
        "lowest": of_seeds.min(),
        "highest": of_seeds.max(),
        "p": permutation(points + allowance, subjects=owners),
    }


# The claims

COLUMNS = [
    *("one", "other", "measure", "outcome", "seeds", "p", "difference", "low", "high"),
    *("lowest", "highest", "allowance", "paper", "decides"),
]


def judge(claim: Claim, found: Sequence[Result]) -> Verdict:
    """Decide a claim by :data:`cbir_lib.reproduction.paper.RULE`."""
    measured, runs = measure(claim.comparisons, found)
    word, reason = _decide(measured)
    by_measure = [
        measure([c for c in claim.reported if c.measure == name], found)[0]
        for name in dict.fromkeys(c.measure for c in claim.reported)
    ]
    reported = pd.concat(by_measure) if by_measure else measured.iloc[:0]
    longer = [lengthened(c) for c in claim.comparisons]
    has = [c is not None and pairs(found, c) is not None for c in longer]
    mixed, more = measured, {}
    if any(has):
        # Holm's adjustment is over all comparisons of the claim, also those not trained longer.
        mixed, more = measure(
            [a if there else c for a, c, there in zip(longer, claim.comparisons, has, strict=True)],
            found,
        )
    doubled = mixed[has].assign(before=measured.loc[has, "outcome"])
    return Verdict(claim, word, reason, measured, reported, doubled, _decide(mixed)[0], runs | more)


def measure(
    comparisons: Sequence[Comparison], found: Sequence[Result]
) -> tuple[pd.DataFrame, dict[str, Result]]:
    """Measure comparisons together: a row each as :class:`Verdict` has them, and the runs used."""
    rows, runs = [], {}
    for comparison in comparisons:
        row = {
            "one": called(comparison.one),
            "other": called(comparison.other),
            "measure": comparison.measure,
            "outcome": "not run",
            "seeds": 0,
            "allowance": comparison.allowance,
            "paper": paper.published_difference(comparison),
            "decides": comparison.decides,
        }
        both = pairs(found, comparison)
        points = None if both is None else differences(both, comparison)
        if points is not None:
            runs |= {r.run: r for r in (*both.one, *both.other) if r}
            row |= estimate(points, subjects(both.data), comparison.allowance)
            row |= {"outcome": "open", "seeds": len(both.one) if both.trained else 0}
        rows.append(row)
    tested = [row for row in rows if "p" in row]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p"] = p
        if p <= paper.LEVEL and row["low"] > -row["allowance"]:
            row["outcome"] = "for"
        elif p <= paper.LEVEL and row["high"] < -row["allowance"]:
            row["outcome"] = "against"
    measured = pd.DataFrame(rows).reindex(columns=COLUMNS)
    numbers = COLUMNS[5:13]
    measured[numbers] = measured[numbers].astype(float)
    return measured, runs


def lengthened(comparison: Comparison) -> Comparison | None:
    """Return the same comparison with twice the epochs; None where it has no network."""
    if not any(isinstance(side, tuple) for side in comparison.sides):
        return None
    one, other = (
        side if isinstance(side, str) else (side[0], "-".join(filter(None, (side[1], DOUBLED))))
        for side in comparison.sides
    )
    return replace(comparison, one=one, other=other)


def judge_all(found: Sequence[Result]) -> list[Verdict]:
    """Decide each of the ten claims, in their order."""
    return [judge(claim, found) for claim in paper.CLAIMS]


def ahead(row: pd.Series) -> tuple[str, str]:
    """Winner and loser of a comparison that was measured."""
    sides = row["one"], row["other"]
    return sides if row["difference"] > -row["allowance"] else sides[::-1]


def _decide(measured: pd.DataFrame) -> tuple[str, str]:
    count = measured["outcome"].value_counts().reindex(OUTCOMES, fill_value=0)
    number = len(measured)
    if count["for"] == number:
        every = f"All {number} comparisons speak" if number > 1 else "The comparison speaks"
        return SUPPORTED, f"{every} for it."
    refuting = measured[(measured["outcome"] == "against") & measured["decides"]]
    if len(refuting):
        word = CONTRADICTED
        winner, loser = ahead(refuting.iloc[0])
        more = f", and {len(refuting) - 1} more" if len(refuting) > 1 else ""
        points = refuting.iloc[0]["allowance"]
        much = f" by more than {points:g} point" if points else ""
        cause = f"{winner} is ahead of {loser}{much}{more}"
    else:
        word = UNDECIDED
        causes = {
            "not run": "not all of it was run",
            "open": "the measurement does not decide",
            "against": "others fail as well",
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


# The paper's tables beside this study's

SAME, HIGHER, LOWER = "≈", "▲", "▼"

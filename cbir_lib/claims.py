"""What becomes of the paper's claims: the rules of :mod:`cbir_lib.paper`, applied to results.

Nothing is computed here that is not in a result file, and no rule is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import confint_proportions_2indep

from cbir_lib import paper
from cbir_lib.errors import CbirError, unknown
from cbir_lib.evaluation import paired_interval
from cbir_lib.files import project_root
from cbir_lib.paper import HALFWAY, RANDOM, Claim, Comparison, Side
from cbir_lib.results import Result, of_each_query, read, read_all, same_images, variant_of
from cbir_lib.significance import holm, permutation
from cbir_lib.study import Study, read_study

# What a comparison can say, and the mark by which it reads without colour.
OUTCOMES = {
    "for": "✓",
    "against": "✗",
    "open": "○",
    "loser still learning": "…",
    "not run": "-",
}
SUPPORTED, CONTRADICTED, UNTESTED = paper.VERDICTS
VARIANT_WORDS = {
    "": "",
    "dropout": " with dropout",
    "augment": " with augmentation",
    "dropout-augment": " with both",
    "normalised": " with batch normalisation",
    "decay0.005": " with ten times the decay",
}
Evidence = Mapping[str, Sequence[Result]]  # by profile


@dataclass(frozen=True)
class Verdict:
    """What becomes of one claim.

    Attributes
    ----------
    word
        One of :data:`cbir_lib.paper.VERDICTS`.
    reason
        Why, in words.
    measured
        One row a comparison: ``one``, ``other``, ``outcome``, ``profile``, ``seeds``, ``p`` (Holm),
        and in percentage points ``difference``, ``low``, ``high``, the seeds' ``lowest`` and
        ``highest``, ``allowance``, and ``paper``, its difference. NaN where there is none.
    runs
        What was compared, by profile and name of the run.
    """

    claim: Claim
    word: str
    reason: str
    measured: pd.DataFrame
    runs: Mapping[tuple[str, str], Result]


# Where the evidence is


def places(dataset: str, profile: str | None, study: Study) -> dict[str, Path]:
    """Folders of the results on a data set, by profile: those built here, otherwise the published.

    Raises
    ------
    CbirError
        When there is none, naming the command that makes them.
    """
    root = project_root()
    names = [name for name, each in study.profiles.items() if each.dataset == dataset]
    if profile is not None:
        if profile not in study.profiles:
            raise unknown("profile", profile, study.profiles)
        if profile not in names:
            raise CbirError(
                f"profile {profile} is not on {dataset}",
                f"name another: {', '.join(names) or 'none in the study file is'}",
            )
        names = [profile]
    if not names:
        raise CbirError(
            f"no profile is on {dataset}", "enter one in study.yml, or name another data set"
        )
    found = {}
    for name in names:
        if any(root.glob(f"build/{name}/runs/*/result.json")):
            found[name] = root / "build" / name
        elif any(root.glob(f"results/{name}/*.json")):
            found[name] = root / "results" / name
    if not found:
        data = "" if dataset == "phantom" else " --data-root FOLDER"
        raise CbirError(
            f"no result on {dataset}", f"make some: cbir study --profile {names[0]}{data}"
        )
    return found


def beside(folder: Path | str) -> dict[str, Path]:
    """Folders of a study's own results and of all that are published, by profile, its own first."""
    own = Path(project_root(), folder)
    name = own.name.removesuffix("-published").removesuffix("-fresh")
    profiles = read_study(project_root() / "study.yml").profiles
    published = sorted(p for p in project_root().glob("results/*/") if p.name in profiles)
    return {name: own} | {place.name: place for place in published if place.name != name}


def gather(folders: Mapping[str, Path | str], runs: Sequence[str] | None = None) -> Evidence:
    """The results in these folders, by profile: all that are on the data set of the first.

    ``runs`` are those of the first folder; all that are there.
    """
    found: dict[str, list[Result]] = {}
    for name, folder in folders.items():
        built = Path(folder, "runs").is_dir()
        of = (
            read_all(folder, None if found else runs)
            if built
            else [read(path) for path in sorted(Path(folder).glob("*.json"))]
        )
        dataset = next(iter(found.values()), of)[0].data.dataset if of or found else None
        if of and of[0].data.dataset == dataset:
            found[name] = of
    return found


# One comparison


def called(side: Side) -> str:
    """A side of a comparison in words: ``C with dropout``."""
    if isinstance(side, str):
        return side
    name, variant = side
    return name + VARIANT_WORDS.get(variant, f", {variant}")


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

    profile: str
    one: list[Result | None]
    other: list[Result | None]

    @property
    def data(self) -> Result:
        """A result of either side, for what both share."""
        return next(r for r in (*self.one, *self.other) if r)

    @property
    def epochs(self) -> int:
        """Allowed to the networks in it; 0 where there is none."""
        return max(r.parameters.get("epochs", 0) for r in (*self.one, *self.other) if r)


def pairs(evidence: Evidence, comparison: Comparison) -> Pairs | None:
    """The runs that decide a comparison: most seeds, then most epochs; None where one is missing.

    Networks are compared within one profile. A handcrafted run may be of another, on the same
    images: nothing in it depends on the training.
    """
    found = []
    for profile, results in evidence.items():
        trained = {s: runs_of(results, s) for s in comparison.sides if isinstance(s, tuple)}
        if not all(trained.values()):
            continue
        seeds = sorted(set.intersection(*map(set, trained.values()))) if trained else [None]
        everywhere = [*results, *(r for each in evidence.values() for r in each)]
        known = next((runs[seed] for runs in trained.values() for seed in seeds), None)
        fixed = {}
        for side in comparison.sides:
            if isinstance(side, str) and side not in (HALFWAY, RANDOM):
                fixed[side] = family(results if known is None else everywhere, side, known)
        if not seeds or None in fixed.values():
            continue
        one, other = (
            [trained[side][seed] if side in trained else fixed.get(side) for seed in seeds]
            for side in comparison.sides
        )
        found.append(Pairs(profile, one, other))
    return max(found, key=lambda each: (len(each.one), each.epochs), default=None)


def scores(result: Result, measure: str) -> np.ndarray:
    """(Q,) in percent, of each test image: 0 or 100 for accuracy; average precision, maybe NaN."""
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


def subjects(evidence: Evidence, like: Result) -> np.ndarray | None:
    """(Q,) the subject of each test image, from whatever result on the same images knows it."""
    results = (r for of in evidence.values() for r in of)
    known = (
        r.data.test_subjects for r in results if r.data.test_subjects and _same_pixels(r, like)
    )
    found = next(known, None)
    return None if found is None else np.array(found)


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


def still_learning(trained: Sequence[Result | None]) -> bool:
    """Whether in more than half of these trainings the best epoch is in the last tenth allowed."""
    curves = [r for r in trained if r and r.training]
    late = sum(r.training.best_epoch > paper.LATE * r.parameters["epochs"] for r in curves)
    return 2 * late > len(curves)


# The claims


def judge(claim: Claim, evidence: Evidence) -> Verdict:
    """What becomes of a claim by :data:`cbir_lib.paper.RULE`."""
    home = {id(r): profile for profile, of in evidence.items() for r in of}
    rows, runs = [], {}
    for comparison in claim.comparisons:
        row = {
            "one": called(comparison.one),
            "other": called(comparison.other),
            "outcome": "not run",
            "profile": "",
            "seeds": 0,
            "allowance": comparison.allowance,
            "paper": paper.published_difference(comparison),
            "decides": comparison.decides,
        }
        found = pairs(evidence, comparison)
        points = None if found is None else differences(found, comparison)
        if points is not None:
            runs |= {(home[id(r)], r.run): r for r in (*found.one, *found.other) if r}
            row |= estimate(points, subjects(evidence, found.data), comparison.allowance) | {
                "outcome": "open",
                "profile": found.profile,
                "seeds": len(found.one) if found.epochs else 0,
                "one learning": still_learning(found.one),
                "other learning": still_learning(found.other),
            }
        rows.append(row)
    tested = [row for row in rows if "p" in row]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p"] = p
        if p <= paper.LEVEL and row["low"] > -row["allowance"]:
            row["outcome"] = "loser still learning" if row["other learning"] else "for"
        elif p <= paper.LEVEL and row["high"] < -row["allowance"]:
            row["outcome"] = "loser still learning" if row["one learning"] else "against"
    columns = [
        *("one", "other", "outcome", "profile", "seeds", "p", "difference", "low", "high"),
        *("lowest", "highest", "allowance", "paper", "decides"),
    ]
    measured = pd.DataFrame(rows).reindex(columns=columns)
    numbers = columns[5:13]
    measured[numbers] = measured[numbers].astype(float)
    return Verdict(claim, *_decide(measured), measured, runs)


def judge_all(evidence: Evidence) -> list[Verdict]:
    """What becomes of each of the ten claims, in their order."""
    return [judge(claim, evidence) for claim in paper.CLAIMS]


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
        word = UNTESTED
        causes = {
            "not run": "not all of it was run",
            "loser still learning": "training was cut short",
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
            "loser still learning": "with a loser that was still learning",
            "not run": "not run",
        }.items()
        if count[outcome]
    ]
    return word, f"{cause[0].upper()}{cause[1:]}. Comparisons: {', '.join(counted)}."


# The paper's tables beside this study's

SAME, HIGHER, LOWER = "≈", "▲", "▼"


def in_table_4(row: str) -> Side:
    """A row of the paper's Table 4 as it was trained."""
    return (row, paper.TRAINED[row]) if row in paper.TRAINED else row


def accuracy_of(evidence: Evidence, side: Side) -> dict | None:
    """The accuracy of one side; None where it was not run.

    Returns
    -------
    dict or None
        In percent ``accuracy``, the mean of the seeds, with its 95 % interval ``low``, ``high``: of
        seeds and images drawn again, with one run Wilson's. ``profile``, ``seeds``, ``results``,
        and ``learning``, whether most trainings still were.
    """
    if isinstance(side, str):
        options = [(name, family(of, side)) for name, of in evidence.items()]
        options = [(name, [r]) for name, r in options if r]
    else:
        options = [(name, [*runs_of(of, side).values()]) for name, of in evidence.items()]
    options = [(name, of) for name, of in options if of]
    if not options:
        return None
    profile, of = max(options, key=lambda o: (len(o[1]), o[1][0].parameters.get("epochs", 0)))
    right = np.array([scores(r, "accuracy") for r in of])
    low, high = (
        paired_interval(right, subjects=subjects(evidence, of[0]))
        if len(of) > 1
        else 100 * np.array(of[0].classification.accuracy_interval)
    )
    return {
        "accuracy": right.mean(),
        "low": low,
        "high": high,
        "profile": profile,
        "seeds": len(of) if isinstance(side, tuple) else 0,
        "learning": still_learning(of),
        "results": of,
    }


def table_4(evidence: Evidence) -> pd.DataFrame:
    """The paper's Table 4 beside ours: one row each, trained as there.

    ``paper`` and ``here`` in percent with ``low`` and ``high``, ``plain`` without remedies; ranks
    among the rows that both have; ``mark``, :data:`SAME` where the paper's number lies in the
    interval, else :data:`HIGHER` or :data:`LOWER` here; ``profile``, ``seeds``, ``learning``.
    """
    rows = {}
    for name, value in paper.TABLE_4.items():
        found = accuracy_of(evidence, in_table_4(name)) or {}
        plain = accuracy_of(evidence, (name, "")) if name in paper.TRAINED else None
        rows[name] = {
            "paper": value,
            "here": found.get("accuracy", np.nan),
            **{key: found.get(key, np.nan) for key in ("low", "high")},
            "plain": plain["accuracy"] if plain else np.nan,
            **{key: found.get(key, "") for key in ("profile", "seeds", "learning")},
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    both = table["here"].notna()
    table["paper rank"] = table["paper"].where(both).rank(ascending=False)
    table["rank"] = table["here"].rank(ascending=False)
    table["mark"] = [
        mark(row.paper, row.low, row.high) if np.isfinite(row.here) else ""
        for row in table.itertuples()
    ]
    return table


def mark(published: float, low: float, high: float) -> str:
    """How what was measured here lies to a published number."""
    return HIGHER if low > published else LOWER if high < published else SAME


def spread(one: float, other: float, images: int) -> tuple[float, float]:
    """95 % interval of the difference of two published accuracies, percent, each of one run.

    Of two independent shares of as many images (Newcombe 1998, method 10). Two networks on the same
    images are more alike than that, but the paper does not say on which images they differ.
    """
    counts = [round(value * images / 100) for value in (one, other)]
    low, high = confint_proportions_2indep(counts[0], images, counts[1], images, method="newcomb")
    return 100 * low, 100 * high


def remedies(evidence: Evidence, variant: str) -> pd.DataFrame:
    """The paper's Table 5, 6 or 7 beside ours: each network with a way of training against plain.

    In percent ``paper without``, ``paper with``, ``without``, ``with``; their differences in points
    ``paper``, and ``difference`` with ``low``, ``high``; ``profile``, ``seeds``; ``learning``,
    whether most of the trainings with it still were; and ``direction``: ``same`` or ``opposite`` to
    the paper's where the interval lies off 0, else ``open``; empty where the paper has none.
    """
    rows = {}
    for name in paper.TRAINED:
        comparison = Comparison((name, variant), (name, ""))
        row = dict(
            zip(
                ("paper with", "paper without"), map(paper.published, comparison.sides), strict=True
            )
        )
        row["paper"] = paper.published_difference(comparison)
        found = pairs(evidence, comparison)
        if found:
            points = differences(found, comparison)
            low, high = paired_interval(points, subjects=subjects(evidence, found.data))
            means = [
                np.mean([scores(r, "accuracy").mean() for r in of])
                for of in (found.one, found.other)
            ]
            off = int(low > 0) - int(high < 0)
            direction = (
                "open" if not off else "same" if off * (row["paper"] or 0) > 0 else "opposite"
            )
            row |= {
                "with": means[0],
                "without": means[1],
                "difference": points.mean(),
                "low": low,
                "high": high,
                "profile": found.profile,
                "seeds": len(found.one),
                "learning": still_learning(found.one),
                "direction": "" if row["paper"] is None else direction,
            }
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")

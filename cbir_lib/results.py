"""The result file: what one run measured, and under what."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import psutil

from cbir_lib import paper
from cbir_lib.datasets import source
from cbir_lib.datasets.radiographs import SPLITS, RadiographSet
from cbir_lib.descriptors import COMBINATION, DESCRIPTORS
from cbir_lib.errors import CbirError
from cbir_lib.evaluation import owners, paired_interval
from cbir_lib.files import project_root
from cbir_lib.paper import Measure
from cbir_lib.schema import Strict, read_json, write_json
from cbir_lib.significance import holm, mcnemar, nemenyi, permutation
from cbir_lib.study import NetworkRun

NO_PICTURES = (
    "*The pictures are not part of the repository. They appear when the data set is at hand: "
    "`cbir data fetch`, then `make study`.*"
)
CONFUSED = (
    "*Test images whose nearest image (red) is of another class, with the nearest of their own "
    "class (green) and both distances. Of every two classes the pair in which the wrong image is "
    "nearer by the largest factor: a rule, not a choice.*"
)
VERSIONED = ("torch", "pytorch-lightning", "numpy", "opencv-python-headless", "scikit-learn")


class Data(Strict):
    """On what was measured."""

    dataset: str
    checksum: str  # SHA-256 of the whole source, decoded
    class_names: list[str]
    images: dict[str, int]  # by split, after sampling
    test_labels: list[int]  # in the order of the test split
    test_subjects: list[int] | None = None  # likewise; None where unknown


class Rule(Strict):
    """A way to name classes, and what it named on the test split."""

    rule: Literal[
        *("softmax", "nearest neighbour", "k nearest neighbours"),
        *("logistic regression", "RBF kernel"),
    ]
    settings: dict  # chosen on the validation split
    validation_accuracy: float
    accuracy: float
    accuracy_interval: list[float]
    balanced_accuracy: float
    balanced_accuracy_interval: list[float]
    confusion: list[list[int]]


class Candidate(Strict):
    """Settings tried, and one nearest neighbour's answers with them on the validation split."""

    settings: dict
    values: int | None  # of a vector; None where there is none
    accuracy: float
    mean_average_precision: float


class DistanceTried(Strict):
    """The vectors at one distance, on the validation split."""

    distance: str
    accuracy: float
    mean_average_precision: float


class Pair(Strict):
    """A query of the test split, and a nearest image that is of another class."""

    query: str
    label: int
    nearest: str
    nearest_label: int
    distance: float
    nearest_of_own_class: str
    distance_of_own_class: float


class Embedding(Strict):
    """Test images as points in the plane."""

    places: list[list[float]]
    labels: list[int]


class ClassRetrieval(Strict):
    """The queries of one class."""

    queries: int  # that have a relevant item
    mean_average_precision: float
    mean_average_precision_interval: list[float]
    precision_at_10: float
    r_precision: float
    ndcg: float | None  # None without codes, as the next two
    ndcg_at_10: float | None
    hierarchical_error: float | None
    precision_recall: list[float]  # at the eleven recalls


class Retrieval(Strict):
    """Rankings of the training split for each image of the test split.

    The measures are those of :func:`cbir_lib.evaluation.retrieval`. What is graded by IRMA codes is
    None where images have none.
    """

    distance: str
    queries: int
    queries_without_relevant: int
    mean_average_precision: float
    mean_average_precision_interval: list[float]
    precision_at_1: float
    precision_at_5: float
    precision_at_10: float
    r_precision: float
    precision_recall: list[float]
    average_precisions: list[float | None]  # of each query; None where nothing is relevant
    precisions_at_1: list[float | None]  # likewise
    precisions_at_10: list[float | None]
    mean_average_precision_interval_of_subjects: list[float] | None = None
    mean_average_precision_by_chance: float | None = None
    macro_mean_average_precision: float | None = None
    macro_mean_average_precision_interval: list[float] | None = None
    precision_at_10_interval: list[float] | None = None
    r_precision_interval: list[float] | None = None
    recall_at_1: float | None = None
    recall_at_5: float | None = None
    recall_at_10: float | None = None
    ndcg: float | None = None
    ndcg_interval: list[float] | None = None
    ndcg_by_chance: float | None = None
    ndcg_at_10: float | None = None
    ndcg_at_10_interval: list[float] | None = None
    ndcg_at_10_by_chance: float | None = None
    hierarchical_error: float | None = None
    hierarchical_error_interval: list[float] | None = None
    hierarchical_error_by_chance: float | None = None
    ranks: list[int] | None = None
    precision_by_rank: list[float] | None = None
    recall_by_rank: list[float] | None = None
    per_class: dict[str, ClassRetrieval] | None = None  # by name


class Training(Strict):
    """The curves of the training, one value an epoch, and what became of its settings."""

    train_loss: list[float]
    validation_loss: list[float]
    validation_accuracy: list[float]
    best_epoch: int  # whose weights were kept
    batch_size: int
    precision: Literal["float32", "bfloat16"]


class Example(Strict):
    """A query and its first neighbours, by identifiers and class indices."""

    choice: Literal["median", "lowest"]  # of the average precisions in the query's class
    query: str
    label: int
    average_precision: float
    neighbours: list[str]
    neighbour_labels: list[int]
    distances: list[float]


class Circumstances(Strict):
    """What may differ between two runs that measure the same."""

    finished: str  # UTC
    seconds: dict[str, float]
    processor: str
    cores: int
    accelerator: str
    energy_j: float | None = None  # of the whole processor meanwhile; None where unreadable
    python: str
    versions: dict[str, str]


class Result(Strict):
    """What one run measured, and under what."""

    format: Literal[5] = 5
    run: str
    parameters: dict
    data: Data
    settings: dict  # the candidate chosen
    candidates: list[Candidate]
    rules: list[Rule]  # the method's own first
    answers: list[int]  # of the method's own rule, in the order of the test split
    retrieval: Retrieval
    distances: list[DistanceTried]  # the method's own first
    confused: list[Pair]
    embedding: Embedding | None
    training: Training | None
    examples: list[Example]
    circumstances: Circumstances

    @property
    def classification(self) -> Rule:
        """The method's own answers: a network's by its scores, others' by the nearest neighbour."""
        return self.rules[0]

    @property
    def chosen(self) -> Candidate | None:
        """The candidate whose settings were taken; None where none were tried."""
        taken = self.settings.items()
        return next((c for c in self.candidates if c.settings.items() <= taken), None)


def describe(data: RadiographSet) -> Data:
    """On what was measured: the set, and how many images of each split were taken."""
    counts = data.records["split"].value_counts()
    subjects = owners(data.split("test").records)
    return Data(
        dataset=data.name,
        checksum=data.checksum,
        class_names=list(data.class_names),
        images={split: int(counts.get(split, 0)) for split in SPLITS},
        test_labels=data.split("test").labels.tolist(),
        test_subjects=None if subjects is None else subjects.tolist(),
    )


def sentence(result: Result) -> str:
    """What one run measured, in words (Markdown)."""
    answers, search, data = result.classification, result.retrieval, result.data
    low, high = answers.accuracy_interval
    low_map, high_map = search.mean_average_precision_interval
    rule = {"softmax": "The largest score", "nearest neighbour": "The nearest neighbour"}
    return (
        f"{rule[answers.rule]} names the right class for **{answers.accuracy:.1%}** of "
        f"{data.images['test']} test images (95 % interval {low:.1%} to {high:.1%}; balanced "
        f"accuracy {answers.balanced_accuracy:.1%}). Searching among {data.images['train']} "
        f"training images by {search.distance} distance, mean average precision is "
        f"**{search.mean_average_precision:.3f}** ({low_map:.3f} to {high_map:.3f}); of the first "
        f"ten neighbours {search.precision_at_10:.1%} are of the query's class."
    )


def occasion(result: Result) -> str:
    """When, on what and for how long it was measured, in words (Markdown)."""
    c = result.circumstances
    device = c.processor if c.accelerator == "cpu" else c.accelerator
    times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in c.seconds.items())
    return f"*Measured {c.finished[:10]} on {device}, torch {c.versions['torch']}: {times}.*"


def example_ids(result: Result) -> set[str]:
    """Identifiers of every image that the examples and confused pairs of a result name."""
    names = {name for e in result.examples for name in (e.query, *e.neighbours)}
    return names | {
        n for p in result.confused for n in (p.query, p.nearest, p.nearest_of_own_class)
    }


def energy_j() -> float | None:
    """What this machine's processors have used since their counters began, in joules.

    None where the system does not say (Linux does, to whoever may read its RAPL counters).
    A graphics processor is not in it.
    """
    counters = Path("/sys/class/powercap").glob("intel-rapl:?/energy_uj")
    try:
        return sum(int(counter.read_text()) for counter in counters) / 1e6 or None
    except OSError:
        return None


def circumstances(
    seconds: dict[str, float], accelerator: str = "cpu", energy_before_j: float | None = None
) -> Circumstances:
    """Those of this process, now; ``energy_before_j`` is what :func:`energy_j` said before it."""
    used = None if energy_before_j is None else (energy_j() or 0) - energy_before_j
    return Circumstances(
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds={name: round(value, 2) for name, value in seconds.items()},
        processor=_processor(),
        cores=psutil.cpu_count() or 1,
        accelerator=accelerator,
        energy_j=used if used and used > 0 else None,  # a counter that overflows starts anew
        python=platform.python_version(),
        versions={name: version(name) for name in VERSIONED},
    )


def _processor() -> str:
    try:  # Linux names it here only
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write(path: Path | str, result: Result) -> None:
    """Write the result file, checked against its schema."""
    write_json(path, result)


def read(path: Path | str) -> Result:
    """Read one result file.

    Raises
    ------
    CbirError
        When it is missing, no JSON, or does not fit the schema.
    """
    again = "remove it and run the study again"
    return read_json(path, Result, "not a result file", "run the study first", again)


def read_all(folder: Path | str, runs: Sequence[str] | None = None) -> list[Result]:
    """The results of these runs of a study, or of all that are there, in the order of their names.

    A relative folder is one of the project.

    Raises
    ------
    CbirError
        When one of them, or every one, is missing.
    """
    place = Path(project_root(), folder, "runs")
    names = runs or sorted(path.parent.name for path in place.glob("*/result.json"))
    found = [read(place / name / "result.json") for name in names]
    if not found:
        raise CbirError(f"no result in {folder}", "run the study first: make study")
    return found


def read_published(profile: str) -> list[Result]:
    """The results committed in ``results/<profile>/``, if any, in the order of their names."""
    return [read(path) for path in sorted(project_root().glob(f"results/{profile}/*.json"))]


def of_descriptors(found: Sequence[Result], names: Sequence[str]) -> dict[str, Result]:
    """Return the results of handcrafted descriptors, by their names in ``study.yml``.

    Raises
    ------
    CbirError
        When there is none of one of them.
    """
    by_descriptor = {r.parameters.get("descriptor"): r for r in found}
    if missing := [name for name in names if name not in by_descriptor]:
        raise CbirError(
            f"the study has no result of {', '.join(missing)}",
            "enter it in grid.descriptors of study.yml, or take its chapter out of the Snakefile",
        )
    return {name: by_descriptor[name] for name in names}


def method(result: Result) -> str:
    """What was measured, as tables and figures call it."""
    parameters = result.parameters
    if "network" in parameters:
        variant = variant_of(result)
        return f"Network {parameters['network']}" + (f", {variant}" if variant else "")
    return (
        DESCRIPTORS[parameters["descriptor"]].title if "descriptor" in parameters else COMBINATION
    )


def variant_of(result: Result) -> str:
    """What sets a network's run apart from the paper's plain training; empty if nothing does."""
    return NetworkRun(**result.parameters).variant


def networks_table(found: Sequence[Result]) -> pd.DataFrame:
    """One row a run of a network: ``network``, ``variant``, ``seed``, and in percent its measures.

    ``accuracy`` and ``balanced accuracy`` (test split, largest score), ``validation accuracy``,
    ``mAP``; ``best epoch``, ``epochs``; ``training s``. The index is the run's name.
    """
    rows = {}
    for result in found:
        answers, curves = result.classification, result.training
        rows[result.run] = {
            "network": result.parameters["network"],
            "variant": variant_of(result),
            "seed": result.parameters["seed"],
            "accuracy": 100 * answers.accuracy,
            "balanced accuracy": 100 * answers.balanced_accuracy,
            "validation accuracy": 100 * answers.validation_accuracy,
            "mAP": 100 * result.retrieval.mean_average_precision,
            "best epoch": curves.best_epoch,
            "epochs": len(curves.train_loss),
            "training s": result.circumstances.seconds["training"],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def difference(
    found: Sequence[Result],
    one: tuple[str, str],
    other: tuple[str, str],
    measure: Measure = "accuracy",
) -> dict[str, float] | None:
    """How far the first (network, variant) is ahead of the second, seed by seed and image by image.

    Returns
    -------
    dict or None
        In percentage points: ``difference``, and ``low`` and ``high``, its 95 % interval
        (:func:`cbir_lib.evaluation.paired_interval`); ``seeds``, how many both have; ``lowest`` and
        ``highest`` of the seeds' differences. None where they have no seed in common.

    Raises
    ------
    CbirError
        When the two were measured on different images.
    """
    runs = {(r.parameters["network"], variant_of(r), r.parameters["seed"]): r for r in found}
    seeds = sorted(s for *which, s in runs if tuple(which) == one and (*other, s) in runs)
    if not seeds:
        return None
    rows = []
    for seed in seeds:
        pair = runs[*one, seed], runs[*other, seed]
        if not same_images(*pair):
            raise CbirError(
                f"{pair[0].run} and {pair[1].run} were measured on different images",
                "compare runs of the same images and classes",
            )
        first, second = (of_each_query(result, measure) for result in pair)
        rows.append(100 * (first - second))
    known = ~np.isnan(rows).any(axis=0)
    differences, subjects = np.array(rows)[:, known], pair[0].data.test_subjects
    low, high = paired_interval(differences, subjects=subjects and np.array(subjects)[known])
    of_seeds = differences.mean(axis=1)
    return {
        "difference": float(differences.mean()),
        "low": low,
        "high": high,
        "seeds": len(seeds),
        "lowest": float(of_seeds.min()),
        "highest": float(of_seeds.max()),
    }


def of_each_query(result: Result, measure: Measure) -> np.ndarray:
    """(Q,) float: 1 where the method's own answer is right, or a precision, which may be NaN."""
    if measure == "accuracy":
        return np.equal(result.answers, result.data.test_labels).astype(float)
    name = {"mAP": "average_precisions", "P@1": "precisions_at_1", "P@10": "precisions_at_10"}[
        measure
    ]
    return np.array(getattr(result.retrieval, name), float)


def paired_tests(found: Mapping[str, Result], measure: Measure, against: str) -> pd.DataFrame:
    """One row a method: how far one of them, ``against``, is ahead of it on the same queries.

    ``difference``, ``low`` and ``high`` (95 % interval) in percentage points; ``p``, McNemar's for
    accuracy, by permutation for mAP; ``holm``, the same adjusted for the number of rows. Intervals
    and permutations are over subjects where these are known.

    Raises
    ------
    CbirError
        When the methods were measured on different images.
    """
    best, rows = found[against], {}
    subjects = best.data.test_subjects
    for name, result in found.items():
        if name == against:
            continue
        if not same_images(best, result):
            raise CbirError(
                f"{best.run} and {result.run} were measured on different images",
                "compare runs of the same images and classes",
            )
        first, second = (of_each_query(r, measure) for r in (best, result))
        known = ~np.isnan(first - second)
        gaps, owner = (first - second)[known], subjects and np.array(subjects)[known]
        low, high = paired_interval(100 * gaps[None], subjects=owner)
        p = mcnemar(first, second) if measure == "accuracy" else permutation(gaps, subjects=owner)
        rows[name] = {"difference": 100 * gaps.mean(), "low": low, "high": high, "p": p}
    columns = ["difference", "low", "high", "p"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=None if rows else columns)
    return table.assign(holm=holm(table["p"]))


def mean_ranks(found: Mapping[str, Result]) -> tuple[pd.Series, float, int]:
    """Ranks of the methods by average precision, query by query; subject by subject where known.

    Returns
    -------
    Series
        The mean rank of each method, 1 the best.
    float
        The critical difference of two mean ranks (:func:`cbir_lib.significance.nemenyi`).
    int
        How many blocks were ranked: subjects, by the mean of their queries, or queries.
    """
    values = pd.DataFrame({name: of_each_query(r, "mAP") for name, r in found.items()})
    subjects = next(iter(found.values())).data.test_subjects
    known = values.notna().all(axis=1)
    values = values[known]
    if subjects:
        values = values.groupby(np.array(subjects)[known]).mean()
    ranks, critical = nemenyi(values.to_numpy())
    return pd.Series(ranks, values.columns), critical, len(values)


def p_in_words(p: float) -> str:
    """``0.012``, or ``< 0.001``."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def same_images(one: Result, other: Result) -> bool:
    """Whether both were measured on the same images and classes."""
    return one.data == other.data


def measured_on(profile: str, found: Sequence[Result]) -> str:
    """Say on what a figure's results were measured, for its caption."""
    run, data = found[0].parameters, found[0].data
    networks = [r for r in found if "network" in r.parameters]
    runs = Counter((r.parameters["network"], variant_of(r)) for r in networks)
    seeds, epochs = (
        " to ".join(f"{n:,}" for n in sorted({min(of), max(of)})) if of else ""
        for of in (
            set(runs.values()),
            {r.parameters["epochs"] * r.parameters["budget"] for r in networks},
        )
    )
    trained = f"; {epochs} epochs, {seeds} seed{'s' * (seeds != '1')}" if networks else ""
    return (
        f"Profile {profile}: {source(data.dataset).CAPTION}; {run['size']} px, "
        f"{data.images['train']:,} training, {data.images['validation']:,} validation and "
        f"{data.images['test']:,} test images{trained}"
    )


def best(found: Sequence[Result]) -> Result:
    """The network with the highest mean average precision; any method where there is no network."""
    networks = [result for result in found if "network" in result.parameters] or found
    return max(networks, key=lambda result: result.retrieval.mean_average_precision)


def as_in_the_paper(found: Sequence[Result]) -> list[Result]:
    """Return what stands beside the paper's Table 4: all handcrafted methods, and networks twice.

    Every network A to G plainly trained and trained as in Table 4, all seeds, on all classes.
    """
    return [
        r
        for r in found
        if "network" not in r.parameters
        or (
            variant_of(r) in ("", paper.TRAINED.get(r.parameters["network"], ""))
            and r.parameters["network"] in paper.TRAINED
        )
    ]


def one_each(found: Sequence[Result]) -> list[Result]:
    """Return every handcrafted method, and of each network one run: as Table 4 has it, seed lowest.

    A network that was not trained so is taken plainly trained.
    """
    chosen: dict[str, Result] = {}
    for r in sorted(as_in_the_paper(found), key=lambda r: r.parameters.get("seed", 0)):
        network = r.parameters.get("network", r.run)
        other = chosen.get(network)
        if other is None or (variant_of(r) and not variant_of(other)):
            chosen[network] = r
    return list(chosen.values())


def by_name(found: Sequence[Result]) -> dict[str, Result]:
    """Results by what tables call them; seeds told apart where a method has several."""
    names = [method(result) for result in found]
    return {
        f"{name}, seed {result.parameters['seed']}" if names.count(name) > 1 else name: result
        for name, result in zip(names, found, strict=True)
    }


def table(found: Sequence[Result]) -> pd.DataFrame:
    """Return one row a method, in percent: accuracies with their 95 % intervals, ranking measures.

    ``accuracy``, ``balanced accuracy`` and ``mAP``, each with ``low`` and ``high``; ``P@1``,
    ``P@5``, ``P@10``, ``R-precision``; ``seeds``, 0 where nothing is trained; ``distance``;
    ``seconds`` of a run. Of a network with several seeds it is the mean of these, and the intervals
    of accuracy and mAP are from resampling seeds and subjects
    (:func:`cbir_lib.evaluation.paired_interval`); that of balanced accuracy spans the seeds'.
    """
    of_method: dict[str, list[Result]] = {}
    for result in found:
        of_method.setdefault(method(result), []).append(result)
    return pd.DataFrame.from_dict(
        {name: _row(of) for name, of in of_method.items()}, orient="index"
    )


def _row(of: Sequence[Result]) -> dict:
    """Return the row of :func:`table` for the runs of one method."""
    first = of[0]
    answers = [r.classification for r in of]
    searches = [r.retrieval for r in of]
    row = {}
    for measure, values, interval in (
        ("accuracy", [a.accuracy for a in answers], first.classification.accuracy_interval),
        (
            "balanced accuracy",
            [a.balanced_accuracy for a in answers],
            _span([a.balanced_accuracy_interval for a in answers]),
        ),
        (
            "mAP",
            [s.mean_average_precision for s in searches],
            first.retrieval.mean_average_precision_interval,
        ),
    ):
        if len(of) > 1 and measure != "balanced accuracy":
            drawn = np.array([of_each_query(r, measure) for r in of])
            known = ~np.isnan(drawn).any(axis=0)
            owner = first.data.test_subjects and np.array(first.data.test_subjects)[known]
            interval = paired_interval(drawn[:, known], subjects=owner)
        row |= {measure: 100 * np.mean(values)}
        row |= {f"{measure} low": 100 * interval[0], f"{measure} high": 100 * interval[1]}
    return row | {
        **{
            f"P@{k}": 100 * np.mean([getattr(s, f"precision_at_{k}") for s in searches])
            for k in (1, 5, 10)
        },
        "R-precision": 100 * np.mean([s.r_precision for s in searches]),
        "seeds": len(of) if "network" in first.parameters else 0,
        "distance": first.retrieval.distance,
        "seconds": np.mean([sum(r.circumstances.seconds.values()) for r in of]),
    }


def _span(intervals: Sequence[Sequence[float]]) -> tuple[float, float]:
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def accuracy_in_words(result: Result) -> str:
    """``84.2 % (95 % interval 81.0 to 86.9 %)``."""
    answers = result.classification
    low, high = answers.accuracy_interval
    return f"{100 * answers.accuracy:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"


def with_interval(share: float, interval: Sequence[float] | None = None) -> str:
    """A share in percent, with its interval if there is one: ``84.2 (81.0 to 86.9)``."""
    if interval is None:
        return f"{100 * share:.1f}"
    return f"{100 * share:.1f} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def rules_table(result: Result) -> pd.DataFrame:
    """One row a way to name classes, in percent; ready to be shown."""
    return pd.DataFrame(
        {
            rule.rule: {
                "accuracy (%)": with_interval(rule.accuracy, rule.accuracy_interval),
                "balanced (%)": with_interval(
                    rule.balanced_accuracy, rule.balanced_accuracy_interval
                ),
                "validation (%)": f"{100 * rule.validation_accuracy:.1f}",
                "set": in_words(rule.settings),
            }
            for rule in result.rules
        }
    ).T


def candidates_table(result: Result) -> pd.DataFrame:
    """One row for each of the settings tried on the validation split; ready to be shown."""
    return pd.DataFrame(
        {
            "settings": [in_words(c.settings) or "as they are" for c in result.candidates],
            "accuracy (%)": [f"{100 * c.accuracy:.1f}" for c in result.candidates],
            "mAP (%)": [f"{100 * c.mean_average_precision:.1f}" for c in result.candidates],
            "values": [c.values or "" for c in result.candidates],
            "chosen": ["✓" if c is result.chosen else "" for c in result.candidates],
        }
    ).set_index("settings")


def choice_in_words(result: Result) -> str:
    """What the candidates show, in words (Markdown)."""
    tried, data = result.candidates, result.data
    first, best = tried[0], result.chosen
    lowest = min(tried, key=lambda c: c.accuracy)
    chosen = (
        "The settings listed first are the best"
        if best == first
        else f"Chosen were {in_words(best.settings)}, with **{best.accuracy:.1%}**"
    )
    return (
        f"*Each point is one of {len(tried)} settings; the star was chosen, lines join means.* One "
        f"nearest neighbour names {first.accuracy:.1%} of {data.images['validation']:,} validation "
        f"images rightly with the settings listed first in the study "
        f"({in_words(first.settings) or 'the defaults'}). {chosen}. The worst reach "
        f"{lowest.accuracy:.1%}."
    )


def signed(points: float) -> str:
    """Percentage points with their sign and one decimal; a true minus, and no zero below."""
    return f"{round(points, 1) + 0:+.1f}".replace("-", "\N{MINUS SIGN}")


def in_points(difference: Mapping[str, float]) -> str:
    """``difference`` and, in brackets, ``low`` to ``high``; a dash where it was not measured."""
    if not np.isfinite(difference["difference"]):
        return "\N{EN DASH}"
    value, low, high = (signed(difference[key]) for key in ("difference", "low", "high"))
    return f"{value} ({low} to {high})"


def listed(words: Iterable[str]) -> str:
    """``one, two and three``."""
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def in_words(settings: dict) -> str:
    """Settings as ``name value, ...``; weights of 0 left out."""
    return ", ".join(
        f"{name.replace('_', ' ')} {f'{value:g}' if isinstance(value, float) else value}"
        for name, value in settings.items()
        if not (isinstance(value, float) and value == 0)
    )


def differences(one: Result, other: Result) -> list[str]:
    """What differs between two results: ``key: this, that``, a line each."""
    a, b = (flat(r) for r in (one, other))
    return [f"{key}: {a.get(key)}, {b.get(key)}" for key in a | b if a.get(key) != b.get(key)]


def flat(result: Result) -> dict[str, object]:
    """Every single value of a result by its place, as in ``rules.0.accuracy``.

    Circumstances aside, and the embedding, which is a picture and no measurement.
    """
    return dict(_flat(result.model_dump(exclude={"circumstances", "embedding"})))


def _flat(value, key: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from _flat(item, f"{key}.{name}".lstrip("."))
    else:
        yield key, value

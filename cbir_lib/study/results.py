"""The result file: what one run measured, and under what."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import psutil

from cbir_lib import paths
from cbir_lib.datasets.radiographs import SPLITS, RadiographSet
from cbir_lib.descriptors import COMBINATION, DESCRIPTORS
from cbir_lib.errors import CbirError
from cbir_lib.evaluation.intervals import owners
from cbir_lib.schema import Strict, read_json, write_json
from cbir_lib.study.config import NetworkRun

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

    The measures are those of :func:`cbir_lib.evaluation.summary.retrieval`. What is graded by IRMA codes is
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
    place = Path(paths.project_root(), folder, "runs")
    names = runs or sorted(path.parent.name for path in place.glob("*/result.json"))
    found = [read(place / name / "result.json") for name in names]
    if not found:
        raise CbirError(f"no result in {folder}", "run the study first: make study")
    return found


def read_published(profile: str) -> list[Result]:
    """The results committed in ``results/<profile>/``, if any, in the order of their names."""
    return [read(path) for path in sorted(paths.results_folder(profile).glob("*.json"))]


def same_images(one: Result, other: Result) -> bool:
    """Whether both were measured on the same images and classes."""
    return one.data == other.data


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

"""The result file: what one run measured, and under what circumstances."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import psutil
from pydantic import Field

from cbir_lib import paths
from cbir_lib.datasets.radiographs import SPLITS, RadiographSet
from cbir_lib.descriptors import COMBINATION, DESCRIPTORS
from cbir_lib.errors import CbirError
from cbir_lib.evaluation.intervals import number_subjects
from cbir_lib.files import compute_file_checksum
from cbir_lib.schema import StrictModel, read_json, write_json
from cbir_lib.study.config import NetworkRun, Run, name_network

VERSIONED = ("torch", "pytorch-lightning", "numpy", "opencv-python-headless", "scikit-learn")
INSTRUCTIONS = {  # by Linux's flag, the widest first: they decide how sums are rounded
    "avx512_bf16": "AVX-512 and bfloat16",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
}


class Data(StrictModel):
    """The data that a run was measured on."""

    dataset: str
    checksum: str  # SHA-256 of the whole source, decoded
    sample_checksum: str | None = None  # SHA-256 of identifiers, splits and labels of the sample
    class_names: list[str]
    images: dict[str, int]  # by split, after sampling
    test_labels: list[int]  # in the order of the test split
    test_subjects: list[int] | None = None  # in the same order; None if unknown


class Rule(StrictModel):
    """A classification rule and its results on the test split."""

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


class Candidate(StrictModel):
    """Settings that were tried, and the nearest neighbour's accuracy on the validation split."""

    settings: dict
    values: int | None  # per vector; None without a vector
    accuracy: float
    mean_average_precision: float


class DistanceTried(StrictModel):
    """A distance that was tried on the validation split."""

    distance: str
    accuracy: float
    mean_average_precision: float


class Pair(StrictModel):
    """A query of the test split whose nearest image is of another class."""

    query: str
    label: int
    nearest: str
    nearest_label: int
    distance: float
    nearest_of_own_class: str
    distance_of_own_class: float


class Embedding(StrictModel):
    """Test images as points in a plane."""

    places: list[list[float]]
    labels: list[int]


class ClassRetrieval(StrictModel):
    """Retrieval measures of the queries of one class."""

    queries: int  # with a relevant item
    mean_average_precision: float
    mean_average_precision_interval: list[float]
    precision_at_10: float
    r_precision: float
    ndcg: float | None  # None without IRMA codes, like the next two
    ndcg_at_10: float | None
    hierarchical_error: float | None
    precision_recall: list[float]  # precision at the eleven recall levels


class Retrieval(StrictModel):
    """Rankings of the training split for each image of the test split.

    The measures are those of :func:`cbir_lib.evaluation.summary.summarise_retrieval`. Measures that
    need IRMA codes are None if the images have none.
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
    average_precisions: list[float | None]  # per query; None if nothing is relevant
    precisions_at_1: list[float | None]  # in the same way
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


class Training(StrictModel):
    """The training curves, one value per epoch, and the settings that were used."""

    train_loss: list[float]
    validation_loss: list[float]
    validation_accuracy: list[float]
    best_epoch: int  # its weights were kept
    batch_size: int
    precision: Literal["float32", "bfloat16"]
    # Of a loss that compares images, and left out of files elsewhere.
    validation_mean_average_precision: Annotated[
        list[float] | None, Field(exclude_if=lambda curve: curve is None)
    ] = None


class Example(StrictModel):
    """A query and its first neighbours, with their identifiers and class indices."""

    choice: Literal["median", "lowest"]  # of the average precisions in the query's class
    query: str
    label: int
    average_precision: float
    neighbours: list[str]
    neighbour_labels: list[int]
    distances: list[float]


class Circumstances(StrictModel):
    """What may differ between two runs that measure the same thing."""

    finished: str  # UTC
    seconds: dict[str, float]
    processor: str
    cores: int
    accelerator: str
    python: str
    versions: dict[str, str]


class Result(StrictModel):
    """What one run measured, and under what circumstances."""

    format: Literal[5] = 5
    run: str
    parameters: dict
    data: Data
    settings: dict  # of the chosen candidate
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
        """Return the method's own rule: softmax for a network, else the nearest neighbour."""
        return self.rules[0]

    @property
    def chosen(self) -> Candidate | None:
        """Return the candidate whose settings were chosen; None if none were tried."""
        taken = self.settings.items()
        return next((c for c in self.candidates if c.settings.items() <= taken), None)


def describe_data(data: RadiographSet) -> Data:
    """Return the description of a data set and of the images used of each split."""
    counts = data.records["split"].value_counts()
    subjects = number_subjects(data.split("test").records)
    return Data(
        dataset=data.name,
        checksum=data.checksum,
        sample_checksum=_compute_sample_checksum(data),
        class_names=list(data.class_names),
        images={split: int(counts.get(split, 0)) for split in SPLITS},
        test_labels=data.split("test").labels.tolist(),
        test_subjects=None if subjects is None else subjects.tolist(),
    )


def _compute_sample_checksum(data: RadiographSet) -> str:
    """Return the SHA-256 of what was sampled: which images, in which split, of which class."""
    names = np.array(data.class_names)[data.labels]
    rows = zip(data.image_ids, data.records["split"], names, strict=True)
    lines = sorted("\t".join(map(str, row)) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def list_example_ids(result: Result) -> set[str]:
    """Return the identifiers of all images in the examples and confused pairs of a result."""
    names = {name for e in result.examples for name in (e.query, *e.neighbours)}
    return names | {
        n for p in result.confused for n in (p.query, p.nearest, p.nearest_of_own_class)
    }


def record_circumstances(seconds: dict[str, float], accelerator: str = "cpu") -> Circumstances:
    """Return the circumstances of this process, with the current time."""
    return Circumstances(
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds={name: round(value, 2) for name, value in seconds.items()},
        processor=_find_processor(),
        cores=psutil.cpu_count() or 1,
        accelerator=accelerator,
        python=platform.python_version(),
        versions={name: version(name) for name in VERSIONED},
    )


def _find_processor(told: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the processor, and the widest instructions that it has.

    A virtual machine may have one name for several generations.
    """
    try:  # the only place where Linux names it
        lines = [line.partition(":") for line in told.read_text().splitlines()]
    except OSError:
        lines = []
    known = {key.strip(): value.strip() for key, _, value in reversed(lines)}  # of the first core
    name = known.get("model name") or platform.processor() or platform.machine()
    has = set(known.get("flags", "").split())
    widest = next((words for flag, words in INSTRUCTIONS.items() if flag in has), "")
    return f"{name} with {widest}" if widest else name


def write(path: Path | str, result: Result) -> None:
    """Write a result file and check it against its schema."""
    write_json(path, result)


def read(path: Path | str, run: Run | None = None) -> Result:
    """Read one result file, and check that it is of this run.

    Raises
    ------
    CbirError
        When it is missing, is not JSON, does not fit the schema, or was measured with other
        parameters than those of the run.
    """
    again = "remove it and run the study again"
    result = read_json(path, Result, "not a result file", "run the study first", again)
    check_parameters(path, result.parameters, run)
    return result


def check_parameters(path: Path | str, parameters: dict, run: Run | None) -> None:
    """Refuse a file measured with other parameters than those of a run."""
    if run and (changed := run.list_changes(parameters)):
        raise CbirError(
            f"{path} was measured with other values of {', '.join(changed)}",
            "a page of a published result measures nothing: cbir study writes pages that do",
        )


def read_all(folder: Path | str, runs: Sequence[str] | None = None) -> list[Result]:
    """Read the results of these runs of a study, or of all of them, sorted by name.

    A relative folder is relative to the project.

    Raises
    ------
    CbirError
        When one of them is missing, or there is none.
    """
    place = Path(paths.project_root(), folder, "runs")
    names = runs or sorted(path.parent.name for path in place.glob("*/result.json"))
    results = [_read_of(place / name / "result.json", name) for name in names]
    if not results:
        raise CbirError(f"no result in {folder}", "run the study first: make study")
    return results


def _read_of(path: Path, run: str) -> Result:
    """Read the result of a run; refuse that of another, as of a copy, which would count twice."""
    result = read(path)
    if result.run != run:
        raise CbirError(
            f"{path} is the result of {result.run}, not of {run}", "remove it, or move it back"
        )
    return result


def name_gallery(run: str, file: Path) -> str:
    """Return what names the vectors of a run's gallery: the run, and its descriptor's checksum.

    ``file`` is that of the network or the fitted descriptor.
    """
    return f"{run} {compute_file_checksum(file)}"


def read_published(profile: str) -> list[Result]:
    """Read the results committed in ``results/<profile>/``, if any, sorted by name.

    In one process, and in its forks, they are read once as long as no file changes.

    Raises
    ------
    CbirError
        When one is damaged, of another version, or not of the run that its name says.
    """
    there = paths.results_folder(profile).glob("*.json")
    files = sorted(path for path in there if not path.name.startswith("."))  # systems' own
    states = ((path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    return list(_read_files(tuple(zip(files, states, strict=True))))


@lru_cache(maxsize=8)  # more than there are profiles on one data set
def _read_files(files: tuple[tuple[Path, tuple[int, int]], ...]) -> list[Result]:
    return [_read_of(path, path.stem) for path, _ in files]


def same_images(one: Result, other: Result) -> bool:
    """Return whether two results were measured on the same images and classes."""
    return one.data == other.data


def list_differences(one: Result, other: Result) -> list[str]:
    """Return the differences between two results, one line each: ``key: this, that``."""
    a, b = (flatten(r) for r in (one, other))
    return [f"{key}: {a.get(key)}, {b.get(key)}" for key in a | b if a.get(key) != b.get(key)]


def flatten(result: Result) -> dict[str, object]:
    """Return every single value of a result by its path, such as ``rules.0.accuracy``.

    The circumstances are left out, and the embedding, which is a picture and not a measurement.
    """
    return dict(_flatten(result.model_dump(exclude={"circumstances", "embedding"})))


def _flatten(value, key: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from _flatten(item, f"{key}.{name}".lstrip("."))
    else:
        yield key, value


def name_method(result: Result) -> str:
    """Return the name of the method for readers."""
    parameters = result.parameters
    if "network" in parameters:
        return name_network(parameters["network"], name_variant(result))
    return (
        DESCRIPTORS[parameters["descriptor"]].title if "descriptor" in parameters else COMBINATION
    )


def group_by_method(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Group results by the name of their method; those of a group are its seeds."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(name_method(result), []).append(result)
    return groups


def find_family(method: str) -> str:
    """Return the family of a method by its name: ``network``, ``pretrained`` or ``handcrafted``."""
    if method.startswith("Network "):
        return "network"
    titles = {entry.title for entry in DESCRIPTORS.values() if entry.pretrained}
    return "pretrained" if method in titles else "handcrafted"


def name_variant(result: Result) -> str:
    """Return how a network run differs from the paper's plain training; empty if it does not."""
    return NetworkRun(**result.parameters).variant

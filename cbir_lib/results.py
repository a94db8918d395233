"""The result file: what one run measured, and under what."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import pandas as pd
import psutil
from pydantic import ValidationError

from cbir_lib.datasets.radiographs import SPLITS, RadiographSet
from cbir_lib.descriptors import DESCRIPTORS
from cbir_lib.errors import CbirError
from cbir_lib.files import project_root, replacing
from cbir_lib.schema import Strict, first_fault

NO_PICTURES = (
    "*The pictures are not part of the repository. They appear when the data set is at hand: "
    "`cbir data fetch`, then `make study`.*"
)
VERSIONED = ("torch", "pytorch-lightning", "numpy", "opencv-python-headless", "scikit-learn")


class Data(Strict):
    """On what was measured."""

    dataset: str
    checksum: str  # SHA-256 of the whole source, decoded
    class_names: list[str]
    images: dict[str, int]  # by split, after sampling


class Classification(Strict):
    """Answers on the test split."""

    rule: Literal["softmax", "nearest neighbour"]
    accuracy: float
    accuracy_interval: list[float]
    balanced_accuracy: float
    confusion: list[list[int]]


class Retrieval(Strict):
    """Rankings of the training split for each image of the test split."""

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


class Training(Strict):
    """The curves of the training, one value an epoch."""

    train_loss: list[float]
    validation_loss: list[float]
    validation_accuracy: list[float]
    best_epoch: int


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
    python: str
    versions: dict[str, str]


class Result(Strict):
    """What one run measured, and under what."""

    format: Literal[1] = 1
    run: str
    parameters: dict
    data: Data
    classification: Classification
    retrieval: Retrieval
    training: Training | None
    examples: list[Example]
    circumstances: Circumstances


def describe(data: RadiographSet) -> Data:
    """On what was measured: the set, and how many images of each split were taken."""
    counts = data.records["split"].value_counts()
    return Data(
        dataset=data.name,
        checksum=data.checksum,
        class_names=list(data.class_names),
        images={split: int(counts.get(split, 0)) for split in SPLITS},
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
    """Identifiers of every image that the examples of a result name."""
    return {name for e in result.examples for name in (e.query, *e.neighbours)}


def circumstances(seconds: dict[str, float], accelerator: str = "cpu") -> Circumstances:
    """Those of this process, now."""
    return Circumstances(
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds={name: round(value, 2) for name, value in seconds.items()},
        processor=_processor(),
        cores=psutil.cpu_count() or 1,
        accelerator=accelerator,
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
    checked = Result.model_validate_json(result.model_dump_json())
    with replacing(path) as part:
        part.write_text(checked.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read(path: Path | str) -> Result:
    """Read one result file.

    Raises
    ------
    CbirError
        When it is missing, no JSON, or does not fit the schema.
    """
    try:
        return Result.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise CbirError(f"cannot read {path}: {error.strerror}", "run the study first") from error
    except ValidationError as error:
        raise CbirError(
            f"{path} is not a result file: {first_fault(error)}",
            "remove it and run the study again",
        ) from error


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


def method(result: Result) -> str:
    """What was measured, as tables and figures call it."""
    parameters = result.parameters
    if "network" in parameters:
        return f"Network {parameters['network']}"
    return DESCRIPTORS[parameters["descriptor"]].title


def best(found: Sequence[Result]) -> Result:
    """The network with the highest mean average precision; any method where there is no network."""
    networks = [result for result in found if "network" in result.parameters] or found
    return max(networks, key=lambda result: result.retrieval.mean_average_precision)


def table(found: Sequence[Result]) -> pd.DataFrame:
    """One row a result, in percent: accuracy with its 95 % interval, and the ranking measures."""
    names = [method(result) for result in found]
    rows = {}
    for name, result in zip(names, found, strict=True):
        if names.count(name) > 1:  # more than one seed
            name += f", seed {result.parameters['seed']}"
        answers, search = result.classification, result.retrieval
        rows[name] = {
            "accuracy": 100 * answers.accuracy,
            "low": 100 * answers.accuracy_interval[0],
            "high": 100 * answers.accuracy_interval[1],
            "balanced accuracy": 100 * answers.balanced_accuracy,
            "mAP": 100 * search.mean_average_precision,
            "mAP low": 100 * search.mean_average_precision_interval[0],
            "mAP high": 100 * search.mean_average_precision_interval[1],
            "P@1": 100 * search.precision_at_1,
            "P@5": 100 * search.precision_at_5,
            "P@10": 100 * search.precision_at_10,
            "R-precision": 100 * search.r_precision,
            "distance": search.distance,
            "seconds": sum(result.circumstances.seconds.values()),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def differences(one: Result, other: Result) -> list[str]:
    """What differs between two results, circumstances aside: ``key: this, that``, a line each."""
    a, b = (dict(_flat(r.model_dump(exclude={"circumstances"}))) for r in (one, other))
    return [f"{key}: {a.get(key)}, {b.get(key)}" for key in a | b if a.get(key) != b.get(key)]


def _flat(value, key: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from _flat(item, f"{key}.{name}".lstrip("."))
    else:
        yield key, value

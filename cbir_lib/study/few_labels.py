"""How many labels it takes: the pretrained network, and one trained from scratch, on few images.

The labelled images are drawn from the training split of the phantom, as many of each class; the
test split is classified. Every way to learn gets the same images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from torch import nn

from cbir_lib import paths
from cbir_lib.datasets import load
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.descriptors.pretrained import PretrainedFeatures
from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing, compute_mean_image
from cbir_lib.networks.fine_tuning import PARTS, FineTuned
from cbir_lib.networks.modules import build_network
from cbir_lib.networks.training import Settings, fit
from cbir_lib.retrieval.index import Index
from cbir_lib.schema import StrictModel, read_json, write_json
from cbir_lib.study import results
from cbir_lib.study.config import FewLabels, Steps

AT_ONCE = 256  # test images that a network classifies together
NEAREST, LINEAR = "nearest neighbour", "logistic regression"
# C of the logistic regression, on vectors of length 1: of 1, 10, 100 the best on validation images
# with one, five and ten labelled images of each class.
PENALTY = 10.0
WAYS = {
    NEAREST: "Pretrained: nearest neighbour",
    LINEAR: "Pretrained: logistic regression",
    **{part: f"Pretrained: {part} trained" for part in PARTS},
}


class Share(StrictModel):
    """The share of the test images that one way to learn classifies correctly."""

    method: str
    per_class: int  # labelled images
    accuracies: list[float]  # one for each draw of the labelled images


class Labels(StrictModel):
    """What every way to learn makes of few labels."""

    format: Literal[1] = 1
    parameters: dict
    data: results.Data
    shares: list[Share]
    circumstances: results.Circumstances


def find_published_path() -> Path:
    """Return the path of the committed file."""
    return paths.results_folder("labels") / "phantom.json"


def read(path: Path | str) -> Labels:
    """Read a file that :func:`write` wrote.

    Raises
    ------
    CbirError
        When it is missing, is not JSON, or does not fit the schema.
    """
    again = "measure it: cbir effects labels"
    return read_json(path, Labels, "not a measurement with few labels", again)


def write(path: Path | str, measured: Labels) -> None:
    """Write a file and check it against its schema."""
    write_json(path, measured)


def measure(plan: FewLabels, say: Callable[[str], None] = lambda line: None) -> Labels:
    """Learn from few labelled images in each way, and classify the test split.

    Parameters
    ----------
    plan
        ``grid.effects.labels`` of the study.
    say
        Called with progress messages.

    Raises
    ------
    CbirError
        When a class has fewer training images than are asked for.
    """
    clock = time.perf_counter()
    data = load("phantom").sample(plan.images.model_dump(), 0)
    features = PretrainedFeatures(**plan.features.model_dump())
    plain = Preprocessing(size=plan.size, clahe=False)
    described = features.fit_transform(plain.transform(data.split("test").images))
    shares: dict[tuple[str, int], list[float]] = {}
    for per_class in plan.per_class:
        for seed in plan.seeds:
            labelled = draw_labelled(data.split("train"), per_class, seed)
            known = features.transform(plain.transform(labelled.images))
            accuracies = {
                **classify_frozen(known, labelled.labels, described, data.split("test").labels),
                **{part: train_further(plan, part, labelled, data, seed) for part in PARTS},
                plan.network: train_from_scratch(plan, labelled, data, seed),
            }
            for way, accuracy in accuracies.items():
                method = name_way(way)
                say(f"{per_class} of each class, seed {seed}: {method} {100 * accuracy:.1f} %")
                shares.setdefault((method, per_class), []).append(accuracy)
    return Labels(
        parameters=plan.model_dump(),
        data=results.describe_data(data),
        shares=[
            Share(method=method, per_class=per_class, accuracies=accuracies)
            for (method, per_class), accuracies in shares.items()
        ],
        circumstances=results.record_circumstances({"measuring": time.perf_counter() - clock}),
    )


def name_way(way: str) -> str:
    """Return the name of a way to learn for tables and figures."""
    return WAYS.get(way, f"From scratch: network {way}")


def draw_labelled(train: RadiographSet, per_class: int, seed: int) -> RadiographSet:
    """Draw as many images of each class.

    Raises
    ------
    CbirError
        When a class has fewer.
    """
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(np.flatnonzero(train.labels == c)) for c in range(len(train.class_names))
    ]
    smallest = min(map(len, rows))
    if per_class > smallest:
        raise CbirError(
            f"a class has {smallest} training images, fewer than {per_class}",
            "give smaller numbers in grid.effects.labels.per_class",
        )
    return train.take(np.concatenate([of_class[:per_class] for of_class in rows]))


def classify_frozen(
    known: np.ndarray, labels: np.ndarray, asked: np.ndarray, truth: np.ndarray
) -> dict[str, float]:
    """Classify (Q, D) features by (N, D) labelled ones: the accuracy of each rule."""
    index = Index("cosine")
    index.add(known, np.arange(len(known)).astype(str))
    nearest = index.search(asked, 1).rows[:, 0]
    linear = make_pipeline(Normalizer(), LogisticRegression(C=PENALTY, max_iter=1000))
    linear.fit(known, labels)
    return {
        NEAREST: float((labels[nearest] == truth).mean()),
        LINEAR: float(linear.score(asked, truth)),
    }


def train_further(
    plan: FewLabels, part: str, labelled: RadiographSet, data: RadiographSet, seed: int
) -> float:
    """Train a part of the pretrained network on the labelled images: its accuracy."""
    torch.manual_seed(seed)
    network = FineTuned(len(data.class_names), plan.features.size, part)
    plain = Preprocessing(size=plan.size, clahe=False)
    return _train(network, plan.further, plain, labelled, data, seed)


def train_from_scratch(
    plan: FewLabels, labelled: RadiographSet, data: RadiographSet, seed: int
) -> float:
    """Train the plan's network on the labelled images alone: its accuracy."""
    preprocessing = Preprocessing(size=plan.size)
    centre = compute_mean_image(preprocessing.transform(labelled.images))
    torch.manual_seed(seed)
    network = build_network(plan.network, centre, classes=len(data.class_names))
    return _train(network, plan.scratch, preprocessing, labelled, data, seed)


def _train(
    network: nn.Module,
    training: Steps,
    preprocessing: Preprocessing,
    labelled: RadiographSet,
    data: RadiographSet,
    seed: int,
) -> float:
    """Train a network for about so many steps: its accuracy on the test split."""
    validation, test = data.split("validation"), data.split("test")
    batch_size = min(training.batch_size, len(labelled))
    steps_per_epoch = -(-len(labelled) // batch_size)
    fit(
        network,
        preprocessing.transform(labelled.images),
        labelled.labels,
        preprocessing.transform(validation.images),  # for the curve alone
        validation.labels,
        Settings(
            epochs=-(-training.steps // steps_per_epoch),
            batch_size=batch_size,
            learning_rate=training.learning_rate,
            precision="float32",  # channels filtered alone are slow in 16 bits on a processor
            seed=seed,
        ),
    )
    network.eval()
    device = next(network.parameters()).device
    right = 0
    with torch.inference_mode():
        for start in range(0, len(test), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            images = torch.from_numpy(preprocessing.transform(test.images[part])).to(device)
            named = network(images).argmax(dim=1).cpu().numpy()
            right += int((named == test.labels[part]).sum())
    return right / len(test)


def tabulate(measured: Labels) -> pd.DataFrame:
    """Return one row per measurement: ``method``, ``level`` (labelled images of each class),
    ``value`` (percent, mean of the draws), ``low`` and ``high`` (their range)."""
    return pd.DataFrame(
        [
            {
                "method": share.method,
                "level": share.per_class,
                "value": 100 * float(np.mean(share.accuracies)),
                "low": 100 * min(share.accuracies),
                "high": 100 * max(share.accuracies),
            }
            for share in measured.shares
        ]
    )


def find_overtaking(measured: Labels, method: str) -> int | None:
    """Find the fewest labels of each class with which a method is ahead of all others."""
    means = tabulate(measured).pivot(index="level", columns="method", values="value")
    ahead = means.index[means.idxmax(axis=1) == method]
    return int(ahead[0]) if len(ahead) else None

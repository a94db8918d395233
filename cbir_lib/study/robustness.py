"""TODO."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from cbir_lib import paths
from cbir_lib.descriptors import DESCRIPTORS, Descriptor
from cbir_lib.descriptors.fitted import load_descriptor
from cbir_lib.descriptors.learned import LearnedDescriptor
from cbir_lib.images.perturbations import CHANGES, changed
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks.modules import TrainedNetwork
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.retrieval.index import Index
from cbir_lib.study.effects import Effect, Search
from cbir_lib.study.representation import Vectors

Describe = Callable[[np.ndarray], np.ndarray]  # (N, H, W) uint8 → (N, D) float32


@dataclass(frozen=True)
class Method:
    """A descriptor in use: how images become vectors, and the gallery's (G, D)."""

    name: str
    distance: str
    describe: Describe
    gallery: np.ndarray

    def distances(self, images: np.ndarray) -> np.ndarray:
        """(Q, G) from (Q, H, W) uint8 images."""
        return pairwise(self.distance, self.describe(images), self.gallery)


def learned(name: str, trained: TrainedNetwork, gallery: np.ndarray) -> Method:
    """A network in use, on a gallery of (G, H, W) uint8 images."""
    descriptor = LearnedDescriptor(trained)
    vectors = descriptor.transform(gallery)
    return Method(name, descriptor.distance, descriptor.transform, vectors)


@dataclass(frozen=True)
class Kept:
    """What the run of a handcrafted descriptor left."""

    descriptor: Descriptor  # fitted
    vectors: Vectors  # of the test and of the training split
    validation: np.ndarray  # (V, D)

    def method(self, preprocessing: Preprocessing) -> Method:
        """It in use, on images prepared as its run prepared them."""

        def describe(images: np.ndarray) -> np.ndarray:
            return self.descriptor.transform(preprocessing.transform(images))

        return Method(self.vectors.method, self.vectors.distance, describe, self.vectors.gallery)


def kept_vectors(work: Path, dataset: str, runs: Sequence[str]) -> dict[str, Kept]:
    """What these runs of handcrafted descriptors left in a study's folder, by descriptor."""
    found = {}
    for run in runs:
        place, name = paths.run_folder(work, run), run.removeprefix(f"{dataset}-")
        index = Index.load(place / "index.safetensors")
        queries = load_file(place / "queries.safetensors")
        vectors = Vectors(DESCRIPTORS[name].title, index.distance, index.vectors, queries["test"])
        descriptor = load_descriptor(place / "descriptor.safetensors")
        found[name] = Kept(descriptor, vectors, queries["validation"])
    return found


def robustness(
    methods: Sequence[Method],
    images: np.ndarray,
    search: Search,
    levels: Mapping[str, Sequence[float]],
) -> list[Effect]:
    """Queries changed as :data:`cbir_lib.images.perturbations.CHANGES` says, in an unchanged gallery.

    The reference is the image as it is. ``images`` are (Q, H, W) uint8, before any preprocessing;
    ``levels`` are those of each change.
    """
    found = []
    for method in methods:
        plain = search.scores(method.distances(images))
        for name, values in levels.items():
            for level in values:
                scores = plain
                if level != CHANGES[name].neutral:
                    scores = search.scores(method.distances(changed(images, name, level)))
                found.append(
                    search.effect(
                        scores, plain, factor=name, level=float(level), method=method.name
                    )
                )
    return found

"""Robustness: retrieval with changed queries, and the descriptors that it is measured with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cbir_lib import paths
from cbir_lib.descriptors import DESCRIPTORS, Descriptor, build_descriptor
from cbir_lib.descriptors.fitted import load_descriptor
from cbir_lib.descriptors.learned import LearnedDescriptor
from cbir_lib.images.perturbations import PERTURBATIONS, perturb
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks.modules import TrainedNetwork
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.retrieval.index import Index
from cbir_lib.study import results
from cbir_lib.study.effects import Effect, Search
from cbir_lib.study.representation import Vectors
from cbir_lib.tensors import read_tensors

Describe = Callable[[np.ndarray], np.ndarray]  # (N, H, W) uint8 → (N, D) float32


@dataclass(frozen=True)
class Method:
    """A descriptor in use: how it describes images, and the (G, D) vectors of the gallery."""

    name: str
    distance: str
    describe: Describe
    gallery: np.ndarray

    def distances(self, images: np.ndarray) -> np.ndarray:
        """Compute the (Q, G) distances of (Q, H, W) uint8 images to the gallery."""
        return pairwise(self.distance, self.describe(images), self.gallery)


def make_network_method(name: str, trained: TrainedNetwork, gallery: np.ndarray) -> Method:
    """Return a network as a method, with its vectors of a gallery of (G, H, W) uint8 images."""
    descriptor = LearnedDescriptor(trained)
    vectors = descriptor.transform(gallery)
    return Method(name, descriptor.distance, descriptor.transform, vectors)


def fit_descriptor_method(name: str, settings: Mapping, gallery: np.ndarray, size: int) -> Method:
    """Fit a descriptor on a gallery of (G, H, W) uint8 images, and return it as a method."""
    preprocessing = Preprocessing(size=size, clahe=False)
    prepared = preprocessing.transform(gallery)
    descriptor = build_descriptor(name, **settings).fit(prepared)
    return Method(
        DESCRIPTORS[name].title,
        descriptor.distance,
        lambda images: descriptor.transform(preprocessing.transform(images)),
        descriptor.transform(prepared),
    )


@dataclass(frozen=True)
class StoredDescriptor:
    """A handcrafted descriptor and its vectors, as its run stored them."""

    descriptor: Descriptor  # fitted
    vectors: Vectors  # of the test and of the training split
    validation: np.ndarray  # (V, D)

    def make_method(self, preprocessing: Preprocessing) -> Method:
        """Return the descriptor as a method; ``preprocessing`` is that of its run."""

        def describe(images: np.ndarray) -> np.ndarray:
            return self.descriptor.transform(preprocessing.transform(images))

        return Method(self.vectors.method, self.vectors.distance, describe, self.vectors.gallery)


def read_stored_descriptors(
    work: Path, dataset: str, runs: Sequence[str]
) -> dict[str, StoredDescriptor]:
    """Read what these runs of handcrafted descriptors stored in a study's folder, by descriptor."""
    stored = {}
    for run in runs:
        place, name = paths.run_folder(work, run), run.removeprefix(f"{dataset}-")
        file = place / "descriptor.safetensors"
        index = Index.load(place / "index.safetensors", results.name_gallery(run, file))
        queries, _ = read_tensors(
            place / "queries.safetensors", "table of vectors", "run the study again"
        )
        vectors = Vectors(DESCRIPTORS[name].title, index.distance, index.vectors, queries["test"])
        descriptor = load_descriptor(file)
        stored[name] = StoredDescriptor(descriptor, vectors, queries["validation"])
    return stored


def measure_robustness(
    methods: Sequence[Method],
    images: np.ndarray,
    search: Search,
    levels: Mapping[str, Sequence[float]],
) -> list[Effect]:
    """Search an unchanged gallery with changed queries.

    The changes are :data:`cbir_lib.images.perturbations.PERTURBATIONS`. The reference is the
    unchanged image. ``images`` are (Q, H, W) uint8, before any preprocessing; ``levels`` has the
    levels of each change.
    """
    effects = []
    for method in methods:
        plain = search.score(method.distances(images))
        for name, values in levels.items():
            for level in values:
                scores = plain
                if level != PERTURBATIONS[name].neutral:
                    scores = search.score(method.distances(perturb(images, name, level)))
                effects.append(
                    search.build_effect(
                        scores, plain, factor=name, level=float(level), method=method.name
                    )
                )
    return effects

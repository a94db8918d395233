"""Effects of the representation: layer, scaling, dimension, binary codes, and fusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from sklearn.decomposition import PCA

from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.descriptors.combination import combine, compute_mean_distance
from cbir_lib.descriptors.learned import BATCH
from cbir_lib.evaluation import protocol
from cbir_lib.networks.modules import TrainedNetwork
from cbir_lib.networks.modules import reset_weights as reset_weights  # as chapters call it
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.retrieval.hashing import BinaryHash, compute_hamming_distances
from cbir_lib.sampling import space_evenly
from cbir_lib.study.effects import Effect, Search

MOST_VALUES = 32768  # of a layer whose whole output is searched; larger layers are only averaged
TINY = 1e-6  # of the largest variance; a principal axis below it is rounding error


@dataclass(frozen=True)
class Vectors:
    """The float32 vectors of a method: (G, D) of the gallery, (Q, D) of the queries."""

    method: str
    distance: str
    gallery: np.ndarray
    queries: np.ndarray

    def distances(self) -> np.ndarray:
        """Compute (Q, G) distances with the method's own distance."""
        return pairwise(self.distance, self.queries, self.gallery)


@torch.inference_mode()
def compute_activations(trained: TrainedNetwork, images: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the output of every stage for (N, H, W) uint8 images, flattened to (N, D) float32.

    ``pool1``, ...: channel maps after each pooling, if they have at most ``MOST_VALUES`` values.
    ``pool1, mean``, ...: the mean of each channel. Then ``relu_fc1``, ..., ``scores`` and
    ``softmax`` of the scores.
    """
    prepared = trained.prepare(images)
    device = next(trained.module.buffers()).device
    parts_of: dict[str, list] = {}
    for batch in prepared.split(BATCH):
        values = batch.to(device)
        for name, part in trained.module.eval().named_children():
            values = part(values)
            if name.startswith("pool"):
                if values[0].numel() <= MOST_VALUES:
                    parts_of.setdefault(name, []).append(values.flatten(1).cpu().numpy())
                means = values.mean(dim=(2, 3)).cpu().numpy()
                parts_of.setdefault(f"{name}, mean", []).append(means)
            elif name.startswith("relu_fc") or name == "scores":
                parts_of.setdefault(name, []).append(values.cpu().numpy())
    joined = {name: np.concatenate(parts) for name, parts in parts_of.items()}
    return joined | {"softmax": softmax(joined["scores"], axis=1)}


def measure_layers(
    method: str, trained: TrainedNetwork, gallery: np.ndarray, queries: np.ndarray, search: Search
) -> list[Effect]:
    """Measure each stage of a network as a descriptor, by cosine; reference: the last hidden layer.

    ``gallery`` and ``queries`` are (N, H, W) uint8, before any preprocessing.
    """
    of_gallery, of_queries = (compute_activations(trained, images) for images in (gallery, queries))
    scores = {
        name: search.score(pairwise("cosine", of_queries[name], vectors))
        for name, vectors in of_gallery.items()
    }
    last = [name for name in scores if name.startswith("relu_fc")][-1]
    return [
        search.build_effect(
            score,
            scores[last],
            factor="layer",
            level=name,
            method=method,
            **compute_size(of_gallery[name]),
        )
        for name, score in scores.items()
    ]


def compute_size(vectors: np.ndarray) -> dict[str, int]:
    """Return the number of values and bytes of one of these vectors."""
    return {"values": vectors.shape[1], "bytes": vectors.shape[1] * vectors.itemsize}


def normalise(how: str, gallery: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Scale vectors in one way; its parameters are estimated on the gallery.

    ``none``; ``L2``: to length 1; ``standardised``: each value to mean 0 and standard deviation 1
    over the gallery, constant values to 0; ``power``: the signed square root of each value, then
    to length 1 (Perronnin et al., ECCV 2010).
    """
    every = [np.asarray(vectors, np.float32) for vectors in (gallery, *others)]
    if how == "standardised":
        mean, spread = every[0].mean(axis=0), every[0].std(axis=0)
        # The rounded mean of equal values may differ from them, and their spread from 0.
        varies = (np.ptp(every[0], axis=0) > 0) & (spread > 0)
        return [(v - mean) / np.where(varies, spread, np.inf) for v in every]
    if how == "power":
        every = [np.sign(v) * np.sqrt(np.abs(v)) for v in every]
    if how in ("L2", "power"):
        lengths = [np.linalg.norm(v, axis=1, keepdims=True) for v in every]
        return [v / np.where(n > 0, n, 1) for v, n in zip(every, lengths, strict=True)]
    return every


NORMALISATIONS = ("none", "L2", "standardised", "power")


def measure_normalisations(vectors: Vectors, search: Search) -> list[Effect]:
    """Measure each scaling with cosine and L2; reference: unscaled, with the method's distance."""
    scores = {("none", vectors.distance): search.score(vectors.distances())}
    for how in NORMALISATIONS:
        gallery, queries = normalise(how, vectors.gallery, vectors.queries)
        for distance in ("cosine", "L2"):
            if (how, distance) not in scores:
                scores[how, distance] = search.score(pairwise(distance, queries, gallery))
    reference = next(iter(scores.values()))
    return [
        search.build_effect(
            score,
            reference,
            factor="normalisation",
            level=how,
            method=vectors.method,
            settings={"distance": distance},
            **compute_size(vectors.gallery),
        )
        for (how, distance), score in scores.items()
    ]


def reduce_dimensions(
    gallery: np.ndarray, queries: np.ndarray, counts: Sequence[int]
) -> Iterable[tuple[bool, int, np.ndarray, np.ndarray]]:
    """Project onto the first principal components of the gallery, for each number of them.

    Yields ``(whitened, count, gallery, queries)``, those whitened last: each component divided by
    its standard deviation over the gallery. Counts beyond the dimension that the gallery's vectors
    span are left out.
    """
    most = min(max(counts), *gallery.shape)
    pca = PCA(most, svd_solver="full").fit(gallery.astype(np.float64))
    spanned = int((pca.explained_variance_ > TINY * pca.explained_variance_[0]).sum())
    plain = [pca.transform(v.astype(np.float64)) for v in (gallery, queries)]
    for whitened in (False, True):
        scale = np.sqrt(pca.explained_variance_) if whitened else 1.0
        for count in counts:
            if count <= spanned:
                yield whitened, count, *((v / scale)[:, :count].astype(np.float32) for v in plain)


def measure_dimensions(vectors: Vectors, search: Search, counts: Sequence[int]) -> list[Effect]:
    """Measure principal components, plain and whitened, by cosine; reference: the whole vector."""
    reference = search.score(vectors.distances())
    what = {"factor": "PCA", "method": vectors.method}
    whole = compute_size(vectors.gallery)
    effects = [
        search.build_effect(
            reference, reference, level="all", settings={"whitened": False}, **what, **whole
        )
    ]
    for whitened, count, gallery, queries in reduce_dimensions(
        vectors.gallery, vectors.queries, counts
    ):
        scores = search.score(pairwise("cosine", queries, gallery))
        effects.append(
            search.build_effect(
                scores,
                reference,
                level=float(count),
                settings={"whitened": whitened},
                **what,
                **compute_size(gallery),
            )
        )
    return effects


def measure_hashing(
    vectors: Vectors, search: Search, bits: Sequence[int], seeds: int, methods: Sequence[str]
) -> list[Effect]:
    """Measure binary codes by Hamming distance; reference: the whole vector at its own distance.

    Random directions are measured with several seeds.
    """
    reference = search.score(vectors.distances())
    what = {"factor": "bits", "method": vectors.method}
    whole = compute_size(vectors.gallery)
    effects = [
        search.build_effect(
            reference, reference, level="all", settings={"hash": "none"}, **what, **whole
        )
    ]
    for name in methods:
        possible = [n for n in bits if name == "random" or n <= min(vectors.gallery.shape)]
        coders = {}
        for count in sorted(possible, reverse=True):
            # Principal axes are ordered: a longer code begins with a shorter one.
            if name == "PCA" and coders:
                coders[count] = coders[max(coders)]
                continue
            coders[count] = [
                BinaryHash(name, count, seed).fit(vectors.gallery)
                for seed in range(seeds if name == "random" else 1)
            ]
        for count in possible:
            scores = []
            for coder in coders[count]:
                codes, gallery = (
                    coder.transform(v)[:, : count // 8] for v in (vectors.queries, vectors.gallery)
                )
                scores.append(search.score(compute_hamming_distances(codes, gallery)))
            effects.append(
                search.build_effect(
                    np.stack(scores),
                    reference,
                    level=float(count),
                    settings={"hash": name},
                    values=count,
                    bytes=count // 8,
                    **what,
                )
            )
    return effects


def measure_fusions(
    own: Vectors,
    others: Sequence[Vectors],
    validation: Mapping[str, np.ndarray],
    data: RadiographSet,
    search: Search,
) -> list[Effect]:
    """Measure a method fused with each other one, and with all; reference: the method alone.

    Distances are divided by their mean over the gallery and weighted. The weights are chosen on the
    validation split by :func:`cbir_lib.evaluation.protocol.choose_weights`.

    Parameters
    ----------
    own, others
        With the test split of ``data`` as queries and its training split as gallery.
    validation
        (V, D) float32 of the validation split, by method.
    """
    scales, of_validation, of_test = {}, {}, {}
    for vectors in (own, *others):
        some = vectors.gallery[space_evenly(len(vectors.gallery), protocol.PLOTTED)]
        scales[vectors.method] = compute_mean_distance(pairwise(vectors.distance, some, some))
        of_validation[vectors.method] = pairwise(
            vectors.distance, validation[vectors.method], vectors.gallery
        )
        of_test[vectors.method] = vectors.distances()
    alone = {name: search.score(distances) for name, distances in of_test.items()}
    reference = alone[own.method]

    def row(level, scores, weights):
        return search.build_effect(
            scores,
            reference,
            factor="fusion",
            level=level,
            method=own.method,
            settings={"weights": weights},
        )

    effects = [row("alone", reference, {own.method: 1.0})]
    for vectors in others:
        effects.append(row(f"{vectors.method} alone", alone[vectors.method], {vectors.method: 1.0}))
    pairs = {vectors.method: [own.method, vectors.method] for vectors in others}
    for level, names in (pairs | {"all of them": list(of_test)}).items():
        matrices, sizes = ({n: values[n] for n in names} for values in (of_validation, scales))
        weights, _ = protocol.choose_weights(matrices, sizes, data)
        total = combine({n: of_test[n] for n in names}, sizes, weights)
        effects.append(row(f"with {level}", search.score(total), weights))
    return effects

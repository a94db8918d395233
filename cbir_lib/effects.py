"""What the parts of a retrieval change: the layer, the scaling, the length of a vector, the image.

An effects file holds one row a measurement: a factor, its level, the method, and how good the
rankings are. Rows of one factor and one method are measured with the same queries in the same
gallery, and each is compared, query by query, with the row at the reference level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file
from scipy.special import softmax
from sklearn.decomposition import PCA

from cbir_lib import comparison, evaluation, evidence, results
from cbir_lib.changes import CHANGES, changed
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.descriptors import DESCRIPTORS, Descriptor
from cbir_lib.descriptors.combination import combine, mean_distance
from cbir_lib.descriptors.fitted import load_descriptor
from cbir_lib.descriptors.learned import BATCH, LearnedDescriptor
from cbir_lib.distances import pairwise
from cbir_lib.errors import CbirError
from cbir_lib.files import project_root
from cbir_lib.hashing import BinaryHash, hamming
from cbir_lib.models import TrainedNetwork, build_network, read_network
from cbir_lib.preprocessing import Preprocessing
from cbir_lib.retrieval import Index, Ranking
from cbir_lib.schema import Strict, read_json, write_json

MOST_VALUES = 32768  # of a layer whose whole output is searched; larger ones only averaged
TINY = 1e-6  # share of the largest variance below which a principal axis is rounding error
MEASURED = (  # columns of a table that are no settings
    *("factor", "level", "method", "values", "bytes"),
    *("mAP", "low", "high", "P@1", "P@10", "difference", "difference low", "difference high"),
)
Describe = Callable[[np.ndarray], np.ndarray]  # (N, H, W) uint8 → (N, D) float32


class Effect(Strict):
    """One measurement: a method at one level of a factor."""

    factor: str
    level: float | str
    method: str
    settings: dict = {}  # what else sets rows of a factor apart
    values: int | None = None  # of a vector; None where there is none
    bytes: int | None = None  # of an image's vector, as 32-bit numbers or as bits
    queries: int  # that have a relevant item
    seeds: int = 1  # over which all measures are means
    mean_average_precision: float
    mean_average_precision_interval: list[float]
    precision_at_1: float
    precision_at_10: float
    difference: float | None = None  # of mean average precision, from the reference level
    difference_interval: list[float] | None = None  # paired, query by query


class Effects(Strict):
    """What one set of measurements found, and under what."""

    format: Literal[1] = 1
    name: str
    parameters: dict
    data: list[results.Data]
    effects: list[Effect]
    circumstances: results.Circumstances


def read(path: Path | str) -> Effects:
    """Read one effects file.

    Raises
    ------
    CbirError
        When it is missing, no JSON, or does not fit the schema.
    """
    again = "remove it and run the study again"
    return read_json(path, Effects, "not a result file", "run the study first", again)


def write(path: Path | str, found: Effects) -> None:
    """Write an effects file, checked against its schema."""
    write_json(path, found)


def of_study(folder: Path | str, name: str) -> tuple[str, Effects]:
    """Return the published effects of the evidence, or of the study; and the profile's name.

    Raises
    ------
    CbirError
        When there are neither.
    """
    profile = evidence.of_study(folder).profile
    own = Path(project_root(), folder, "effects", f"{name}.json")
    if (published := published_path(profile, name)).is_file():
        return profile, read(published)
    if own.is_file():
        return evidence.profile_of(folder), read(own)
    if (published := published_path("quick", name)).is_file():
        return "quick", read(published)
    raise CbirError(f"no effects file {name} in {folder}", "run a profile that has it: cbir study")


def published_path(profile: str, name: str) -> Path:
    """Where an effects file is committed."""
    return project_root() / "results" / profile / "effects" / f"{name}.json"


def table(found: Effects, factor: str | None = None) -> pd.DataFrame:
    """One row an effect, of one factor or all; mean average precision and precisions in percent.

    ``mAP``, ``low``, ``high``, ``P@1``, ``P@10``, ``difference``, ``difference low``,
    ``difference high``; settings are columns of their own.
    """
    rows = []
    for e in found.effects:
        if factor in (None, e.factor):
            nothing = [np.nan, np.nan]
            low, high = e.mean_average_precision_interval
            below, above = e.difference_interval or nothing
            change = np.nan if e.difference is None else e.difference
            measured = {
                "mAP": e.mean_average_precision,
                "low": low,
                "high": high,
                "P@1": e.precision_at_1,
                "P@10": e.precision_at_10,
                "difference": change,
                "difference low": below,
                "difference high": above,
            }
            rows.append(
                {
                    "factor": e.factor,
                    "level": e.level,
                    "method": e.method,
                    **e.settings,
                    "values": e.values,
                    "bytes": e.bytes,
                    **{name: 100 * value for name, value in measured.items()},
                }
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Search:
    """Whose images are searched with, and among which: labels of queries (Q,) and gallery (G,)."""

    labels: np.ndarray
    gallery_labels: np.ndarray
    subjects: np.ndarray | None = None  # (Q,) of the queries; None where unknown

    @classmethod
    def of(cls, queries: RadiographSet, gallery: RadiographSet) -> Search:
        """That of two sets which share their classes and no image."""
        return cls(queries.labels, gallery.labels, evaluation.owners(queries.records))

    def scores(self, distances: np.ndarray) -> np.ndarray:
        """(3, Q): average precision, precision at 1 and at 10 of (Q, G) distances.

        Equal distances count by expectation over their orders, as short binary codes have many.
        """
        ranking = Ranking.of(distances)
        relevant = evaluation.relevance(ranking, self.labels, self.gallery_labels)
        return np.stack(
            [
                evaluation.average_precision(relevant, ranking.distances),
                evaluation.precision_at(relevant, 1, ranking.distances),
                evaluation.precision_at(relevant, 10, ranking.distances),
            ]
        )

    def effect(self, scores: np.ndarray, reference: np.ndarray | None = None, **what) -> Effect:
        """A row of (3, Q) scores, or (S, 3, Q) of several seeds; compared with a reference's.

        Intervals are 95 % bootstrap intervals over queries, of one subject together, and seeds
        (:func:`cbir_lib.evaluation.paired_interval`).
        """
        scores = scores.reshape(-1, *scores.shape[-2:])
        answerable = ~np.isnan(scores[0, 0])
        subjects = None if self.subjects is None else self.subjects[answerable]

        def interval(values):
            return evaluation.paired_interval(values[:, answerable], subjects=subjects)

        means = scores[:, :, answerable].mean(axis=(0, 2))
        compared = {}
        if reference is not None:
            change = scores[:, 0] - reference.reshape(-1, *reference.shape[-2:])[:, 0]
            compared = {
                "difference": float(change[:, answerable].mean()),
                "difference_interval": interval(change),
            }
        return Effect(
            queries=int(answerable.sum()),
            seeds=len(scores),
            mean_average_precision=float(means[0]),
            mean_average_precision_interval=interval(scores[:, 0]),
            precision_at_1=float(means[1]),
            precision_at_10=float(means[2]),
            **compared,
            **what,
        )


@dataclass(frozen=True)
class Vectors:
    """A method's vectors: (G, D) of the gallery, (Q, D) of the queries; float32."""

    method: str
    distance: str
    gallery: np.ndarray
    queries: np.ndarray

    def distances(self) -> np.ndarray:
        """(Q, G) at the method's own distance."""
        return pairwise(self.distance, self.queries, self.gallery)


def untrained(trained: TrainedNetwork, seed: int = 0) -> TrainedNetwork:
    """The same network with random weights, as training begins with; the same mean image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build_network(
            trained.name,
            trained.module.centre.mean_image.cpu().numpy(),
            classes=len(trained.class_names),
            **trained.options,
        )
    return TrainedNetwork(**{**trained.__dict__, "module": module.eval()})


@torch.inference_mode()
def activations(trained: TrainedNetwork, images: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of every stage for (N, H, W) uint8 images, in one pass, flattened to (N, D) float32.

    ``pool1``, ...: maps of channels after each pooling, those of at most ``MOST_VALUES`` values.
    ``pool1, mean``, ...: the mean of each channel. Then ``relu_fc1``, ..., ``scores`` and
    ``softmax`` of the scores.
    """
    prepared = torch.from_numpy(trained.preprocessing.transform(images))
    device = next(trained.module.buffers()).device
    found: dict[str, list] = {}
    for batch in prepared.split(BATCH):
        values = batch.to(device)
        for name, part in trained.module.eval().named_children():
            values = part(values)
            if name.startswith("pool"):
                if values[0].numel() <= MOST_VALUES:
                    found.setdefault(name, []).append(values.flatten(1).cpu().numpy())
                means = values.mean(dim=(2, 3)).cpu().numpy()
                found.setdefault(f"{name}, mean", []).append(means)
            elif name.startswith("relu_fc") or name == "scores":
                found.setdefault(name, []).append(values.cpu().numpy())
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    return joined | {"softmax": softmax(joined["scores"], axis=1)}


def layers(
    method: str, trained: TrainedNetwork, gallery: np.ndarray, queries: np.ndarray, search: Search
) -> list[Effect]:
    """Each stage of a network as the descriptor, by cosine; the reference is its last hidden layer.

    ``gallery`` and ``queries`` are (N, H, W) uint8, before any preprocessing.
    """
    of_gallery, of_queries = (activations(trained, images) for images in (gallery, queries))
    scores = {
        name: search.scores(pairwise("cosine", of_queries[name], vectors))
        for name, vectors in of_gallery.items()
    }
    last = [name for name in scores if name.startswith("relu_fc")][-1]
    return [
        search.effect(
            found,
            scores[last],
            factor="layer",
            level=name,
            method=method,
            **size_of(of_gallery[name]),
        )
        for name, found in scores.items()
    ]


def size_of(vectors: np.ndarray) -> dict[str, int]:
    """Values and bytes of one of these vectors."""
    return {"values": vectors.shape[1], "bytes": vectors.shape[1] * vectors.itemsize}


def normalised(how: str, gallery: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Vectors scaled in one way; what is learnt for it is learnt from the gallery.

    ``none``; ``L2``: to length 1; ``standardised``: each value with mean 0 and standard deviation 1
    over the gallery, one that never varies with 0; ``power``: the root of each value, with its
    sign, then to length 1 (Perronnin et al., ECCV 2010).
    """
    every = [np.asarray(vectors, np.float32) for vectors in (gallery, *others)]
    if how == "standardised":
        mean, spread = every[0].mean(axis=0), every[0].std(axis=0)
        return [(v - mean) / np.where(spread > 0, spread, np.inf) for v in every]
    if how == "power":
        every = [np.sign(v) * np.sqrt(np.abs(v)) for v in every]
    if how in ("L2", "power"):
        lengths = [np.linalg.norm(v, axis=1, keepdims=True) for v in every]
        return [v / np.where(n > 0, n, 1) for v, n in zip(every, lengths, strict=True)]
    return every


NORMALISATIONS = ("none", "L2", "standardised", "power")


def normalisations(vectors: Vectors, search: Search) -> list[Effect]:
    """Scalings and the distances cosine and L2; the reference is none, at the method's distance."""
    scores = {("none", vectors.distance): search.scores(vectors.distances())}
    for how in NORMALISATIONS:
        gallery, queries = normalised(how, vectors.gallery, vectors.queries)
        for distance in ("cosine", "L2"):
            if (how, distance) not in scores:
                scores[how, distance] = search.scores(pairwise(distance, queries, gallery))
    reference = next(iter(scores.values()))
    return [
        search.effect(
            found,
            reference,
            factor="normalisation",
            level=how,
            method=vectors.method,
            settings={"distance": distance},
            **size_of(vectors.gallery),
        )
        for (how, distance), found in scores.items()
    ]


def reduced(
    gallery: np.ndarray, queries: np.ndarray, counts: Sequence[int], whiten: bool
) -> Iterable[tuple[int, np.ndarray, np.ndarray]]:
    """The first principal components of the gallery, as many as each count says.

    Yields ``(count, gallery, queries)``; counts beyond what the gallery's vectors span are left
    out. ``whiten``: each component divided by its standard deviation over the gallery.
    """
    most = min(max(counts), *gallery.shape)
    pca = PCA(most, svd_solver="full").fit(gallery.astype(np.float64))
    spanned = int((pca.explained_variance_ > TINY * pca.explained_variance_[0]).sum())
    scale = np.sqrt(pca.explained_variance_) if whiten else np.ones(most)
    projected = [(pca.transform(v.astype(np.float64)) / scale) for v in (gallery, queries)]
    for count in counts:
        if count <= spanned:
            yield count, *(v[:, :count].astype(np.float32) for v in projected)


def dimensions(vectors: Vectors, search: Search, counts: Sequence[int]) -> list[Effect]:
    """Principal components, plain and whitened, by cosine; the reference is the whole vector."""
    reference = search.scores(vectors.distances())
    what = {"factor": "PCA", "method": vectors.method}
    whole = size_of(vectors.gallery)
    found = [
        search.effect(
            reference, reference, level="all", settings={"whitened": False}, **what, **whole
        )
    ]
    for whiten in (False, True):
        for count, gallery, queries in reduced(vectors.gallery, vectors.queries, counts, whiten):
            scores = search.scores(pairwise("cosine", queries, gallery))
            found.append(
                search.effect(
                    scores,
                    reference,
                    level=float(count),
                    settings={"whitened": whiten},
                    **what,
                    **size_of(gallery),
                )
            )
    return found


def hashed(
    vectors: Vectors, search: Search, bits: Sequence[int], seeds: int, methods: Sequence[str]
) -> list[Effect]:
    """Binary codes by Hamming distance; the reference is the whole vector at its own distance.

    Random directions are measured with several seeds.
    """
    reference = search.scores(vectors.distances())
    what = {"factor": "bits", "method": vectors.method}
    whole = size_of(vectors.gallery)
    found = [
        search.effect(reference, reference, level="all", settings={"hash": "none"}, **what, **whole)
    ]
    for name in methods:
        possible = [n for n in bits if name == "random" or n <= min(vectors.gallery.shape)]
        coders = {}
        for count in sorted(possible, reverse=True):
            # Principal axes come one after another: a longer code begins with a shorter one.
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
                scores.append(search.scores(hamming(codes, gallery)))
            found.append(
                search.effect(
                    np.stack(scores),
                    reference,
                    level=float(count),
                    settings={"hash": name},
                    values=count,
                    bytes=count // 8,
                    **what,
                )
            )
    return found


def fusions(
    own: Vectors,
    others: Sequence[Vectors],
    validation: Mapping[str, np.ndarray],
    data: RadiographSet,
    search: Search,
) -> list[Effect]:
    """A method's distances with those of each other one, and of all; the reference is it alone.

    Distances are divided by their mean over the gallery and weighted. The weights are chosen on the
    validation split, by :func:`cbir_lib.comparison.weigh`.

    Parameters
    ----------
    own, others
        Queries are the test split, the gallery is the training split of ``data``.
    validation
        (V, D) float32 of the validation split, by method.
    """
    scales, of_validation, of_test = {}, {}, {}
    for vectors in (own, *others):
        some = vectors.gallery[comparison.evenly_spaced(len(vectors.gallery), comparison.PLOTTED)]
        scales[vectors.method] = mean_distance(pairwise(vectors.distance, some, some))
        of_validation[vectors.method] = pairwise(
            vectors.distance, validation[vectors.method], vectors.gallery
        )
        of_test[vectors.method] = vectors.distances()
    alone = {name: search.scores(distances) for name, distances in of_test.items()}
    reference = alone[own.method]

    def row(level, scores, weights):
        return search.effect(
            scores,
            reference,
            factor="fusion",
            level=level,
            method=own.method,
            settings={"weights": weights},
        )

    found = [row("alone", reference, {own.method: 1.0})]
    for vectors in others:
        found.append(row(f"{vectors.method} alone", alone[vectors.method], {vectors.method: 1.0}))
    pairs = {vectors.method: [own.method, vectors.method] for vectors in others}
    for level, names in (pairs | {"all of them": list(of_test)}).items():
        matrices, sizes = ({n: each[n] for n in names} for each in (of_validation, scales))
        weights, _ = comparison.weigh(matrices, sizes, data)
        total = combine({n: of_test[n] for n in names}, sizes, weights)
        found.append(row(f"with {level}", search.scores(total), weights))
    return found


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
        place, name = work / "runs" / run, run.removeprefix(f"{dataset}-")
        index = Index.load(place / "index.safetensors")
        queries = load_file(place / "queries.safetensors")
        vectors = Vectors(DESCRIPTORS[name].title, index.distance, index.vectors, queries["test"])
        descriptor = load_descriptor(place / "descriptor.safetensors")
        found[name] = Kept(descriptor, vectors, queries["validation"])
    return found


def best_network(work: Path, runs: Sequence[str]) -> tuple[results.Result, TrainedNetwork]:
    """Of these runs of networks the one most accurate on the validation split; the first of equals.

    ``work`` is the study's folder.
    """
    found = [results.read(work / "runs" / run / "result.json") for run in runs]
    best = max(found, key=lambda result: result.classification.validation_accuracy)
    return best, read_network(work / "runs" / best.run / "model.safetensors")


def best_networks(work: Path, runs: Sequence[str]) -> list[tuple[results.Result, TrainedNetwork]]:
    """The best network trained without augmentation, and the best with it, as far as there are."""
    with_it = {
        run: results.read(work / "runs" / run / "result.json").parameters["augment"] for run in runs
    }
    groups = ([run for run in runs if with_it[run] == augment] for augment in (False, True))
    return [best_network(work, group) for group in groups if group]


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of one factor of :func:`table` as a reader sees them: numbers with their intervals."""
    settings = [n for n in rows if n not in MEASURED and rows[n].notna().all()]
    columns = {name: rows[name] for name in ("method", "level", *settings)}
    if "weights" in columns:
        columns["weights"] = rows["weights"].map(results.in_words)

    def with_interval(middle: str, low: str, high: str, form: str) -> list[str]:
        return [
            f"{a:{form}} ({b:{form}} to {c:{form}})"
            for a, b, c in rows[[middle, low, high]].to_numpy(float)
        ]

    columns["mAP (%)"] = with_interval("mAP", "low", "high", ".1f")
    change = ("difference", "difference low", "difference high")
    columns["difference"] = with_interval(*change, "+.1f")
    columns |= {f"{name} (%)": rows[name].map("{:.1f}".format) for name in ("P@1", "P@10")}
    return pd.DataFrame(columns).set_index("method")


def robustness(
    methods: Sequence[Method],
    images: np.ndarray,
    search: Search,
    levels: Mapping[str, Sequence[float]],
) -> list[Effect]:
    """Queries changed as :data:`cbir_lib.changes.CHANGES` says, in an unchanged gallery.

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

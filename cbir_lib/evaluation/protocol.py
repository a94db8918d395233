"""The rule of the comparison: what is done with every method's vectors, learned or handcrafted.

Written down before the numbers.

1. All methods get the same images, at the same size, in the same splits.
2. The training split is the gallery, and all that is learnt is learnt from it. The test split is
   measured on once, at the end.
3. What a method leaves open is chosen on the validation split: a descriptor's settings by the
   accuracy of one nearest neighbour, then by mean average precision, then the first of the list; a
   classifier's by its own accuracy.
4. Images are classified in four ways from the same vectors: by the nearest neighbour at the
   method's own distance, as in the baselines; by k nearest neighbours; by logistic regression, and
   by logistic regression on an RBF kernel. A network also classifies by its highest score.
5. Accuracy, balanced accuracy and mean average precision come with 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from sklearn.manifold import TSNE, ClassicalMDS
from sklearn.model_selection import ParameterGrid

from cbir_lib.datasets.radiographs import SPLITS, RadiographSet
from cbir_lib.descriptors import Descriptor, build_descriptor
from cbir_lib.descriptors.combination import combine
from cbir_lib.errors import CbirError
from cbir_lib.evaluation import intervals, summary
from cbir_lib.evaluation import measures as evaluation
from cbir_lib.evaluation.classifiers import Answer, classify_by_neighbours, classify_linearly
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.retrieval.index import Index
from cbir_lib.retrieval.ranking import Ranking
from cbir_lib.sampling import space_evenly

# Whose effect is measured where a method's vectors allow it. The earth mover's wants ordered bins,
# which few vectors are, and the image distortion's takes minutes.
DISTANCES_TRIED = ("L1", "L2", "cosine", "chi-square", "Jensen-Shannon", "intersection")
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # of a distance in a combination
ROUNDS = 2  # over all weights
PAIRS = 6  # of confused images shown
PLOTTED = 600  # points of a picture
TRIED = (50, 200)  # validation images on which other distances are tried, at least and at most
VALUES_TRIED = 2_000_000_000  # pairs of values compared for it, about


class Choice(NamedTuple):
    """A descriptor fitted with the settings that are best, and what choosing them computed."""

    descriptor: Descriptor
    index: Index  # the training split, described by it
    validation: np.ndarray  # (V, D) float32, the validation split
    ranking: Ranking  # of the training split, for the validation images
    candidates: list[dict]


def choose_settings(
    name: str, grid: Mapping[str, list], images: Mapping[str, np.ndarray], data: RadiographSet
) -> Choice:
    """Choose the settings of a descriptor that are best on the validation split.

    Parameters
    ----------
    name
        Of the descriptor.
    grid
        Values to try, by parameter; every combination is.
    images
        (N, H, W) uint8 of the splits ``train`` and ``validation``.
    data
        The set they are of.

    Returns
    -------
    Choice
        Of each of its candidates: ``settings``, ``values`` (length of the vector), ``accuracy`` of
        one nearest neighbour and ``mean_average_precision`` on the validation split.
    """
    train, validation = data.split("train"), data.split("validation")
    tried, best = [], None
    candidates = [*ParameterGrid(grid)]
    descriptors = [build_descriptor(name, **settings) for settings in candidates]
    described = describe_by_each(descriptors, images["train"], train.labels, images["validation"])
    for settings, descriptor, (gallery, vectors) in zip(
        candidates, descriptors, described, strict=True
    ):
        index = Index(descriptor.distance)
        index.add(gallery, train.image_ids)
        ranking = index.search(vectors, ids=validation.image_ids)
        relevant = evaluation.find_relevant(ranking, validation.labels, train.labels)
        right = measure_quality(relevant, ranking.distances)
        tried.append({"settings": settings, "values": vectors.shape[1], **right})
        if best is None or tuple(right.values()) > best[0]:
            best = tuple(right.values()), descriptor, index, vectors, ranking
    return Choice(*best[1:], tried)


def describe_by_each(
    descriptors: Sequence[Descriptor], train: np.ndarray, labels: np.ndarray, *others: np.ndarray
) -> Iterator[tuple[np.ndarray, ...]]:
    """Fit each descriptor on (N, H, W) uint8 training images; yield vectors of these and others.

    One after the other, or together where a class can share its work (``fit_transform_each``).
    """
    if shared := getattr(descriptors[0], "fit_transform_each", None):
        yield from shared(descriptors, train, *others)
        return
    for descriptor in descriptors:
        vectors = descriptor.fit_transform(train, labels)
        yield vectors, *(descriptor.transform(images) for images in others)


def measure_quality(relevant: np.ndarray, distances: np.ndarray | None = None) -> dict[str, float]:
    """Measure accuracy of one nearest neighbour and mean average precision of (Q, K) relevance."""
    precisions = evaluation.average_precision(relevant, distances)
    return {
        "accuracy": float(relevant[:, 0].mean()),
        "mean_average_precision": float(np.nanmean(precisions)),
    }


def grade_by_code(
    ranking: Ranking, queries: RadiographSet, gallery: RadiographSet
) -> np.ndarray | None:
    """Grade ranked items by their IRMA codes' agreement, (Q, K); None where codes are missing."""
    codes, gallery_codes = queries.irma_codes, gallery.irma_codes
    if (codes == "").any() or (gallery_codes == "").any():
        return None
    return evaluation.compute_code_agreement(ranking, codes, gallery_codes)


def judge_vectors(
    vectors: Mapping[str, np.ndarray],
    index: Index,
    data: RadiographSet,
    validation: Ranking | None = None,
) -> dict:
    """Measure everything that a result says of a method whose vectors are known.

    Parameters
    ----------
    vectors
        (N, D) float32 of each split.
    index
        The training split at the method's own distance.
    data
        The set they are of.
    validation
        Ranking of the training split for the validation images, where it is known already.

    Returns
    -------
    dict
        Of a result, the fields ``retrieval``, ``rules``, ``answers``, ``examples``, ``confused``,
        ``distances`` and ``embedding``.
    """
    labels = {split: data.split(split).labels for split in SPLITS}

    def search(split: str) -> Ranking:
        return index.search(vectors[split], ids=data.split(split).image_ids)

    rankings = {"validation": validation or search("validation"), "test": search("test")}
    judged = judge_rankings(rankings, index.distance, data)
    for rule, answer in classify_linearly(vectors, labels).items():
        judged["rules"].append(measure_answer(rule, answer, data))
    rows = space_evenly(len(labels["test"]), PLOTTED)
    between = pairwise(index.distance, vectors["test"][rows], vectors["test"][rows])
    return judged | {
        "distances": try_distances(vectors, index, rankings["validation"], data),
        "embedding": embed_images(between, data),
    }


def judge_rankings(rankings: Mapping[str, Ranking], distance: str, data: RadiographSet) -> dict:
    """Measure rankings of the training split, for validation and test images."""
    labels = {split: data.split(split).labels for split in SPLITS}
    test, train = data.split("test"), data.split("train")
    relevant = evaluation.find_relevant(rankings["test"], test.labels, train.labels)
    measures = summary.summarise_retrieval(
        relevant,
        distances=rankings["test"].distances,
        classes=np.array(data.class_names)[test.labels],
        subjects=intervals.number_subjects(test.records),
        gains=grade_by_code(rankings["test"], test, train),
    )
    one, several = classify_by_neighbours(rankings["validation"], rankings["test"], labels)
    return {
        "retrieval": {"distance": distance, **measures},
        "rules": [
            measure_answer("nearest neighbour", one, data),
            measure_answer("k nearest neighbours", several, data),
        ],
        "answers": one.predicted.tolist(),
        "examples": summary.choose_examples(rankings["test"], test, train),
        "confused": list_confusions(rankings["test"], test, train),
        "distances": [],
        "embedding": None,
    }


def measure_answer(rule: str, answer: Answer, data: RadiographSet) -> dict:
    """Measure an answer on the test split."""
    labels = data.split("test").labels
    return {
        "rule": rule,
        "settings": answer.settings,
        "validation_accuracy": answer.validation_accuracy,
        **summary.summarise_classification(labels, answer.predicted, len(data.class_names)),
    }


def list_confusions(ranking: Ranking, queries: RadiographSet, gallery: RadiographSet) -> list[dict]:
    """List queries whose nearest image is of another class, the surest mistakes first.

    How sure: the nearest distance over that to the nearest image of the query's own class, small
    where the wrong one is much nearer. Of every two classes the surest pair, at most ``PAIRS``.
    """
    relevant = evaluation.find_relevant(ranking, queries.labels, gallery.labels)
    own = relevant.argmax(axis=1)  # rank of the first of the query's class
    wrong = np.flatnonzero((own > 0) & relevant.any(axis=1))
    nearest = ranking.distances[wrong, 0]
    ratios = nearest / np.maximum(ranking.distances[wrong, own[wrong]], np.finfo(np.float32).tiny)
    mistakes = {}
    for place in np.argsort(ratios, kind="stable"):
        query = wrong[place]
        first, second = ranking.rows[query, 0], ranking.rows[query, own[query]]
        classes = int(queries.labels[query]), int(gallery.labels[first])
        if classes not in mistakes and len(mistakes) < PAIRS:
            mistakes[classes] = {
                "query": str(queries.image_ids[query]),
                "label": classes[0],
                "nearest": str(gallery.image_ids[first]),
                "nearest_label": classes[1],
                "distance": float(nearest[place]),
                "nearest_of_own_class": str(gallery.image_ids[second]),
                "distance_of_own_class": float(ranking.distances[query, own[query]]),
            }
    return list(mistakes.values())


def try_distances(
    vectors: Mapping[str, np.ndarray], index: Index, own: Ranking, data: RadiographSet
) -> list[dict]:
    """Try the method's vectors at its own and other distances.

    On ``TRIED`` validation images, fewer if the vectors are long; ``own`` is the ranking of all of
    them at its own.
    """
    train, validation = data.split("train"), data.split("validation")
    affordable = VALUES_TRIED // index.vectors.size
    rows = space_evenly(len(validation), int(np.clip(affordable, *TRIED)))
    rankings = {index.distance: Ranking(own.rows[rows], own.distances[rows])}
    labels, ids = validation.labels[rows], validation.image_ids[rows]
    for distance in DISTANCES_TRIED:
        if distance != index.distance:
            other = Index(distance).add(index.vectors, index.ids)
            with suppress(CbirError):  # no histograms
                rankings[distance] = other.search(vectors["validation"][rows], ids=ids)
    measurements = []
    for distance, ranking in rankings.items():
        relevant = evaluation.find_relevant(ranking, labels, train.labels)
        measurements.append({"distance": distance, **measure_quality(relevant, ranking.distances)})
    return measurements


def embed_images(between: np.ndarray, data: RadiographSet) -> dict:
    """Embed the test split's images in the plane, near each other where their distances are small.

    Parameters
    ----------
    between : (P, P)
        Distances between the images at ``PLOTTED`` :func:`~cbir_lib.sampling.space_evenly` rows.

    Notes
    -----
    t-SNE (van der Maaten, Hinton, JMLR 9, 2008), perplexity 30, begun from classical scaling: in
    500 steps it fits the distances as well as in 1,000 from random places, and distant groups are
    less often torn apart (Kobak, Linderman, Nature Biotechnology 39, 2021). Neither the sizes of
    groups nor the gaps between them mean anything, and another processor may draw another picture.
    """
    rows = space_evenly(len(data.split("test")), PLOTTED)
    between = (between + between.T) / 2  # the image distortion's are not symmetric
    np.fill_diagonal(between, 0)
    start = ClassicalMDS(metric="precomputed").fit_transform(between)
    spread = start[:, 0].std()
    tsne = TSNE(
        metric="precomputed",
        init=1e-4 * start / spread if spread else "random",  # scaled as scikit-learn's of PCA
        perplexity=min(30, (len(rows) - 1) / 3),
        max_iter=500,
        random_state=0,
    )
    places = tsne.fit_transform(between)
    places /= np.abs(places).max()
    return {
        "places": [[round(float(x), 3), round(float(y), 3)] for x, y in places],
        "labels": data.split("test").labels[rows].tolist(),
    }


def choose_weights(
    distances: Mapping[str, np.ndarray], scales: Mapping[str, float], data: RadiographSet
) -> tuple[dict[str, float], list[dict]]:
    """Choose the weights of several distances that are best on the validation split.

    From equal weights, one after the other takes the value of ``WEIGHTS`` that is best, ``ROUNDS``
    times over: the method is FIRE's, the search is ours.

    Parameters
    ----------
    distances
        Of each descriptor: (V, G), from the validation to the training split.
    scales
        Of each descriptor, its mean distance over the training split.

    Returns
    -------
    dict
        The weights.
    list of dict
        As :func:`choose_settings` returns it: equal weights, each descriptor alone, and the
        choice.
    """
    labels, gallery_labels = (data.split(split).labels for split in ("validation", "train"))

    def right(weights: Mapping[str, float], least: float = 0.0) -> dict[str, float] | None:
        total = combine(distances, scales, weights)
        # Most weights name fewer images rightly than the best: they need no ranking.
        if (gallery_labels[total.argmin(axis=1)] == labels).mean() < least:
            return None
        ranking = Ranking.of(total)
        relevant = evaluation.find_relevant(ranking, labels, gallery_labels)
        return measure_quality(relevant, ranking.distances)

    weights = dict.fromkeys(distances, 1.0)
    tried = [weights, *({n: float(n == name) for n in distances} for name in distances)]
    best = tuple(right(weights).values())
    for name in [*distances] * ROUNDS:
        for value in WEIGHTS:
            changed = weights | {name: value}
            scores = right(changed, best[0]) if any(changed.values()) else None
            if scores and tuple(scores.values()) > best:
                best, weights = tuple(scores.values()), changed
    if weights not in tried:
        tried.append(weights)
    return weights, [{"settings": w, "values": None, **right(w)} for w in tried]

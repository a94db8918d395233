"""From vectors or rankings to classes: nearest neighbours and support vector machines.

What a classifier has to choose, it chooses by accuracy on the validation split; it learns from the
training split only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances, linear_kernel
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cbir_lib.retrieval import Ranking

NEIGHBOURS = (1, 3, 5, 9, 15, 25)
PENALTIES = (1.0, 10.0, 100.0, 1000.0)  # C of a machine
GAMMAS = {"linear": (None,), "RBF": (0.25, 1.0, 4.0, 16.0)}


class Answer(NamedTuple):
    """Classes named for the test split, with what was chosen and how right that was before."""

    predicted: np.ndarray  # (Q,) int64
    settings: dict
    validation_accuracy: float


def vote(ranking: Ranking, gallery_labels: np.ndarray, k: int) -> np.ndarray:
    """(Q,) the class most frequent among the first k neighbours.

    Of classes equally frequent, that of the nearest image. A missing neighbour does not vote.
    """
    labels = np.where(ranking.rows[:, :k] >= 0, gallery_labels[ranking.rows[:, :k]], -1)
    alike = (labels[:, :, None] == labels[:, None, :]).sum(axis=2)
    alike[labels < 0] = 0
    return np.take_along_axis(labels, alike.argmax(axis=1)[:, None], axis=1)[:, 0]


def nearest_neighbours(
    validation: Ranking, test: Ranking, labels: Mapping[str, np.ndarray]
) -> tuple[Answer, Answer]:
    """One nearest neighbour, and as many as are best on the validation split.

    Parameters
    ----------
    validation, test
        Rankings of the training split for the images of both others.
    labels
        (N,) of each split.
    """
    right = {
        k: float((vote(validation, labels["train"], k) == labels["validation"]).mean())
        for k in NEIGHBOURS
        if k <= test.rows.shape[1]
    }
    best = max(right, key=right.__getitem__)  # of equals the smallest
    return tuple(
        Answer(vote(test, labels["train"], k), {"neighbours": k}, right[k]) for k in (1, best)
    )


def support_vectors(
    kernel: str, vectors: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> Answer:
    """A support vector machine, each class against each other, its parameters the best of a grid.

    Vectors are centred, then scaled ``together`` by one number, or ``each`` value by its deviation
    over the training split and then together, so that the mean squared length of a training vector
    is 1: what C and gamma mean does not depend on the descriptor.

    Parameters
    ----------
    kernel
        ``linear`` or ``RBF``.
    vectors, labels
        (N, D) and (N,) of each split: ``train``, ``validation`` and ``test``.

    Notes
    -----
    Cortes, Vapnik, Machine Learning 20, 1995, DOI 10.1007/BF00994018; solved by LIBSVM. What needs
    the vectors is computed once for all C and gamma.
    """
    best = None
    for scaled in ("together", "each"):
        moved = scale(vectors, each=scaled == "each")
        of_pairs = linear_kernel if kernel == "linear" else squared_distances
        pairs = {split: of_pairs(v, moved["train"]) for split, v in moved.items()}
        for gamma in GAMMAS[kernel]:
            products = pairs
            if gamma is not None:
                products = {split: np.exp(-gamma * squares) for split, squares in pairs.items()}
            for penalty in PENALTIES:
                machine = SVC(C=penalty, kernel="precomputed", cache_size=500)
                machine.fit(products["train"], labels["train"])
                named = machine.predict(products["validation"])
                right = float((named == labels["validation"]).mean())
                if best is None or right > best.validation_accuracy:
                    settings = {"scaled": scaled, "C": penalty}
                    settings |= {} if gamma is None else {"gamma": gamma}
                    best = Answer(machine.predict(products["test"]), settings, right)
    return best


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, D) and (M, D) → (N, M)."""
    return euclidean_distances(a, b, squared=True)


def scale(vectors: Mapping[str, np.ndarray], each: bool) -> dict[str, np.ndarray]:
    """Vectors of each split, (N, D) float64, centred and scaled by those of the training split."""
    scaler = StandardScaler(with_std=each).fit(vectors["train"].astype(np.float64))
    moved = {split: scaler.transform(v.astype(np.float64)) for split, v in vectors.items()}
    length = np.sqrt((moved["train"] ** 2).sum(axis=1).mean())
    return {split: v / length if length > 0 else v for split, v in moved.items()}

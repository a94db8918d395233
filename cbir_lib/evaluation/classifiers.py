"""From vectors or rankings to classes: nearest neighbours and logistic regression.

What a classifier has to choose, it chooses by accuracy on the validation split; it learns from the
training split only.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cbir_lib.retrieval.ranking import Ranking

NEIGHBOURS = (1, 3, 5, 9, 15, 25)
PENALTIES = (1.0, 10.0, 100.0, 1000.0)  # C of a logistic regression
GAMMAS = (0.25, 1.0, 4.0)  # of an RBF kernel, for training vectors of mean squared length 1
ITERATIONS = 100
LONGEST = 800  # values of a vector that a classifier takes, a network's; longer ones are projected
LANDMARKS = 500  # training vectors that approximate a kernel


class Answer(NamedTuple):
    """Classes named for the test split, with what was chosen and how right that was before."""

    predicted: np.ndarray  # (Q,) int64
    settings: dict
    validation_accuracy: float


def vote(ranking: Ranking, gallery_labels: np.ndarray, k: int) -> np.ndarray:
    """Name the class most frequent among the first k neighbours of each query, (Q,).

    Of classes equally frequent, that of the nearest image. A missing neighbour does not vote.
    """
    labels = np.where(ranking.rows[:, :k] >= 0, gallery_labels[ranking.rows[:, :k]], -1)
    alike = (labels[:, :, None] == labels[:, None, :]).sum(axis=2)
    alike[labels < 0] = 0
    return np.take_along_axis(labels, alike.argmax(axis=1)[:, None], axis=1)[:, 0]


def classify_by_neighbours(
    validation: Ranking, test: Ranking, labels: Mapping[str, np.ndarray]
) -> tuple[Answer, Answer]:
    """Classify by one nearest neighbour, and by as many as are best on the validation split.

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


def classify_linearly(
    vectors: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> dict[str, Answer]:
    """Classify by logistic regression, on the vectors and on an RBF kernel of them.

    Vectors are centred, then scaled ``together`` by one number, or ``each`` value by its deviation
    over the training split and then together, so that the mean squared length of a training vector
    is 1: what C and gamma mean does not depend on the descriptor. C and the scaling are those of
    the best validation accuracy; the kernel takes the scaling that the linear classifier chose.

    Parameters
    ----------
    vectors, labels
        (N, D) and (N,) of each split: ``train``, ``validation`` and ``test``.

    Returns
    -------
    dict
        An answer by ``logistic regression`` and one by ``RBF kernel``.

    Notes
    -----
    Multinomial, L2 penalty, at most ``ITERATIONS`` of L-BFGS. Vectors of more than ``LONGEST``
    values are first projected on their principal axes. The kernel is approximated from
    ``LANDMARKS`` training vectors drawn at random (Nystroem: Williams, Seeger, NIPS 13, 2000),
    because an exact one needs all pairs of training images.
    """
    linear = kernel = None
    vectors = project_on_main_axes(vectors)
    for per_dimension in (False, True):
        moved = scale_vectors(vectors, per_dimension)
        candidate = _make_regression(
            moved, labels, {"scaled": "each" if per_dimension else "together"}
        )
        if linear is None or candidate.validation_accuracy > linear.validation_accuracy:
            linear, chosen = candidate, moved
    landmarks = min(LANDMARKS, len(labels["train"]))
    for gamma in GAMMAS:
        features = Nystroem(gamma=gamma, n_components=landmarks, random_state=0)
        features.fit(chosen["train"])
        mapped = {split: features.transform(v) for split, v in chosen.items()}
        settings = {"scaled": linear.settings["scaled"], "gamma": gamma}
        candidate = _make_regression(mapped, labels, settings)
        if kernel is None or candidate.validation_accuracy > kernel.validation_accuracy:
            kernel = candidate
    return {"logistic regression": linear, "RBF kernel": kernel}


def _make_regression(
    vectors: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], settings: dict
) -> Answer:
    """Answer by the logistic regression whose C is the best on the validation split."""
    best = None
    for penalty in PENALTIES:
        regression = LogisticRegression(C=penalty, max_iter=ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # said in the docstring
            regression.fit(vectors["train"], labels["train"])
        named = regression.predict(vectors["validation"])
        right = float((named == labels["validation"]).mean())
        if best is None or right > best.validation_accuracy:
            best = Answer(
                regression.predict(vectors["test"]).astype(np.int64),
                settings | {"C": penalty},
                right,
            )
    return best


def project_on_main_axes(vectors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Project vectors of each split on the principal axes of the training split.

    (N, D) → (N, ``LONGEST``) float32, if they have more values and there are more images.
    """
    if min(vectors["train"].shape) <= LONGEST:
        return vectors
    axes = PCA(LONGEST, svd_solver="randomized", iterated_power=2, random_state=0)
    axes.fit(vectors["train"])
    return {split: axes.transform(v) for split, v in vectors.items()}


def scale_vectors(vectors: Mapping[str, np.ndarray], per_dimension: bool) -> dict[str, np.ndarray]:
    """Centre and scale vectors of each split, (N, D) float32.

    By those of the training split alone: their mean squared length is 1 afterwards, unless they are
    all alike.
    """
    scaler = StandardScaler(with_std=per_dimension).fit(vectors["train"])
    moved = {split: scaler.transform(v) for split, v in vectors.items()}
    length = np.linalg.norm(moved["train"].astype(np.float64)) / np.sqrt(len(moved["train"]))
    return {
        split: (v / length if length > 0 else v).astype(np.float32) for split, v in moved.items()
    }

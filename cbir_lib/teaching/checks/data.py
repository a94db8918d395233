"""Exercises on the data."""

from __future__ import annotations

import numpy as np

from cbir_lib.irma_code import compute_hierarchical_error
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.teaching.answers import Expected, Number
from cbir_lib.teaching.material import load_examples, read_published


def classify_by_mean_grey() -> tuple[Expected, ...]:
    """Compute the accuracy of the nearest neighbour by the mean grey value alone."""
    data = load_examples()
    means = data.images.mean(axis=(1, 2))[:, None]
    distances = pairwise("L1", means, means)
    np.fill_diagonal(distances, np.inf)
    right = data.labels[distances.argmin(axis=1)] == data.labels
    return (
        Number(
            "accuracy",
            float(right.mean()),
            "For each image, take the other image whose mean is closest, and compare their labels; "
            "give a share.",
            tolerance=0.021,  # images of equal means
            common=[(1.0, "Every image is its own nearest neighbour: leave it out.")],
        ),
    )


def answer_always_the_same() -> tuple[Expected, ...]:
    """Compute accuracy and balanced accuracy of always answering the most frequent class."""
    labels = np.array(read_published("phantom-B-s0").data.test_labels)
    counts = np.bincount(labels)
    return (
        Number(
            "accuracy",
            counts.max() / counts.sum(),
            "All images of the most frequent class are right, and no other.",
            tolerance=1e-3,
        ),
        Number(
            "balanced",
            1 / len(counts),
            "Balanced accuracy is the mean of the classes' recalls: 1 for one class, 0 for others.",
            tolerance=1e-3,
        ),
    )


def predict_code_error() -> tuple[Expected, ...]:
    """Compute the hierarchical error of an answer that does not know, and of one that is wrong."""
    true = "1121-120-942-700"
    weights = (
        "Position i of an axis costs 1/i, divided by the sum over the axis; 4 axes count alike."
    )
    return (
        Number(
            "unknown",
            compute_hierarchical_error(true, "1121-***-942-700"),
            f"{weights} Not knowing costs half, and nothing where the true character is 0.",
            tolerance=1e-4,
            common=[
                (
                    0.125,
                    "Not knowing costs nothing where the true code is unspecified (0): look at the "
                    "third character.",
                )
            ],
        ),
        Number(
            "wrong",
            compute_hierarchical_error(true, "1121-130-942-700"),
            f"{weights} From the first wrong character on, all of the axis is wrong.",
            tolerance=1e-4,
            common=[
                (0.5 / (1 + 1 / 2 + 1 / 3) / 4, "What follows a wrong character is wrong as well.")
            ],
        ),
    )


EXERCISES = (classify_by_mean_grey, answer_always_the_same, predict_code_error)

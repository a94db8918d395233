"""Exercises on losses that compare images with one another."""

from __future__ import annotations

import numpy as np

from cbir_lib.teaching.answers import Expected, Items, Number

CLASSES, EACH = 5, 12  # of a batch
POSITIVE, NEGATIVES, MARGIN = 0.3, (0.1, 0.35, 0.45, 0.6, 0.25), 0.2
SIMILARITIES = np.array([0.9, 0.5, 0.1])  # of the anchor to one image of its class and two others
TEMPERATURE = 0.1


def count_triplets() -> tuple[Expected, ...]:
    """Count the triplets of a balanced batch."""
    anchors = CLASSES * EACH
    return (
        Number(
            "triplets",
            anchors * (EACH - 1) * (anchors - EACH),
            "Every image is an anchor. Count the others of its class, count the images of other "
            "classes, and multiply.",
            common=[(anchors * EACH * (anchors - EACH), "An image is not its own positive.")],
        ),
    )


def mine_negatives() -> tuple[Expected, ...]:
    """Find semi-hard negatives, and the loss that they give."""
    squared = np.array(NEGATIVES)
    chosen = squared[(squared > POSITIVE) & (squared < POSITIVE + MARGIN)]
    return (
        Items(
            "semihard",
            frozenset(np.flatnonzero(np.isin(squared, chosen)).tolist()),
            "A semi-hard negative is farther from the anchor than the positive is, but by less "
            "than the margin.",
        ),
        Number(
            "loss",
            float((POSITIVE - chosen + MARGIN).mean()),
            "For each triplet: the distance of the positive, less that of the negative, plus the "
            "margin; then the mean.",
            tolerance=1e-6,
        ),
    )


def contrast_by_hand() -> tuple[Expected, ...]:
    """Compute the supervised contrastive loss of one anchor."""
    scores = np.exp(SIMILARITIES / TEMPERATURE)
    return (
        Number(
            "loss",
            float(-np.log(scores[0] / scores.sum())),
            "It is a cross-entropy: the softmax of the similarities, divided by the temperature, "
            "should name the image of the same class.",
            tolerance=1e-4,
        ),
        Number(
            "without_temperature",
            float(-np.log(np.exp(SIMILARITIES[0]) / np.exp(SIMILARITIES).sum())),
            "The same with a temperature of 1.",
            tolerance=1e-4,
        ),
    )


EXERCISES = (count_triplets, mine_negatives, contrast_by_hand)

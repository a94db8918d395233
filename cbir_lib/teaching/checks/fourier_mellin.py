"""Exercises on the Fourier-Mellin transform."""

from __future__ import annotations

import numpy as np

from cbir_lib.descriptors.fourier_mellin import FourierMellin
from cbir_lib.images.perturbations import rotate
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.teaching.answers import Array, Expected, Number, Word
from cbir_lib.teaching.material import load_examples


def negate_and_mirror() -> tuple[Expected, ...]:
    """Compute the distances from an image to its negative and to its mirror image."""
    image = load_examples().images[:1]
    return (
        Number(
            "negative",
            _measure(image, 255 - image),
            "A negative changes the sign of all but the mean, and a magnitude has no sign.",
            tolerance=1e-3,
        ),
        Number(
            "mirrored",
            _measure(image, image[:, :, ::-1]),
            "A mirror turns the angle of the log-polar map around; magnitudes do not forget that.",
            tolerance=0.05,
        ),
    )


def turn_image() -> tuple[Expected, ...]:
    """Compute the distance over the angle of rotation, in terms of that between images."""
    images = load_examples().images
    descriptor = FourierMellin()
    vectors = descriptor.transform(images)
    between = pairwise(descriptor.distance, vectors, vectors)
    usual = np.median(between[np.triu_indices(len(images), 1)])
    turned = [_measure(images[:1], rotate(images[:1], degrees)) for degrees in (0, 10, 45, 90)]
    return (
        Array(
            "shares",
            np.array(turned) / usual,
            "Divide the distance from image 0 to itself, turned, by the median distance between "
            "two different images.",
            tolerance=0.01,
        ),
    )


def move_square() -> tuple[Expected, ...]:
    """Compute how far a square at the border is from one in the middle, and name the cause."""
    squares = np.zeros((2, 128, 128), np.uint8)
    squares[0, 52:76, 52:76] = squares[1, 52:76, :24] = 255
    return (
        Number(
            "distance",
            _measure(squares[:1], squares[1:]),
            "The L1 distance of the two vectors: the square from row 52 to 75, once in the middle, "
            "once at the left border.",
            tolerance=0.05,
        ),
        Word(
            "step",
            "e37ca24075704ae9",
            ("mean", "window", "magnitude", "logarithm", "log-polar map"),
            "Which step treats the middle of an image and its border differently?",
        ),
    )


def _measure(one: np.ndarray, other: np.ndarray) -> float:
    descriptor = FourierMellin()
    vectors = [descriptor.transform(np.ascontiguousarray(image)) for image in (one, other)]
    return float(pairwise(descriptor.distance, *vectors)[0, 0])


EXERCISES = (negate_and_mirror, turn_image, move_square)

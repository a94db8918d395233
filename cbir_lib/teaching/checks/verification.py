"""Exercises on verifying published numbers."""

from __future__ import annotations

import numpy as np

from cbir_lib.reproduction import tolerances
from cbir_lib.teaching.answers import Array, Expected, Number, Word
from cbir_lib.teaching.material import read_published, tamper_with_accuracy


def find_tampering() -> tuple[Expected, ...]:
    """Find the rule whose accuracy was changed, and its true accuracy."""
    result = tamper_with_accuracy()
    true = {
        rule.rule: float(np.trace(rule.confusion) / np.sum(rule.confusion)) for rule in result.rules
    }
    rule = max(result.rules, key=lambda rule: abs(rule.accuracy - true[rule.rule]))
    return (
        Word(
            "rule",
            rule.rule,
            tuple(true),
            "Each rule keeps its confusion matrix: the diagonal counts the right answers.",
        ),
        Number(
            "accuracy",
            true[rule.rule],
            "The sum of the diagonal, divided by the sum of all, of that rule.",
            tolerance=1e-4,
            common=[(rule.accuracy, "That is the number that was changed.")],
        ),
    )


def count_tolerated_images() -> tuple[Expected, ...]:
    """Count the test images on which a rerun may answer differently."""
    reruns = tolerances.measure_reruns(tolerances.read_spread())
    images = len(read_published("phantom-B-s0").data.test_labels)
    shares = [
        measured.tolerance("rules.0.accuracy") for measured in (reruns.networks, reruns.steady)
    ]
    return (
        Array(
            "images",
            [int(share * images) for share in shares],
            "The tolerance is a share of the test images: multiply, and round down.",
        ),
    )


EXERCISES = (find_tampering, count_tolerated_images)

"""Exercises on the learning curves."""

from __future__ import annotations

import numpy as np
import torch

from cbir_lib.reproduction.paper import TRAINED
from cbir_lib.teaching.answers import Array, Expected, Number, Word
from cbir_lib.teaching.material import read_published


def choose_by_epoch() -> tuple[Expected, ...]:
    """Find the network that is best on the validation split after three epochs, and at the end."""
    curves = {
        name: read_published(f"phantom-{name}-s0").training.validation_accuracy for name in TRAINED
    }
    hint = "validation_accuracy has one value per epoch; the first is that after one epoch."
    return tuple(
        Word(name, max(curves, key=lambda network: curves[network][epoch]), tuple(curves), hint)
        for name, epoch in (("early", 2), ("late", -1))
    )


def guess_by_shares() -> tuple[Expected, ...]:
    """Compute the loss of a network that predicts the shares of the classes for every image."""
    labels = np.array(read_published("phantom-B-s0").data.test_labels)
    shares = np.bincount(labels) / len(labels)
    return (
        Number(
            "loss",
            float(-(shares * np.log(shares)).sum()),
            "An image of class c costs -log p(c), and a share p(c) of the images is of class c.",
            tolerance=0.01,
            common=[
                (np.log(len(shares)), "That is the loss of guessing all classes alike."),
                (
                    float(-(shares * np.log2(shares)).sum()),
                    "That is in bits; cross-entropy here is in nats, with the natural logarithm.",
                ),
            ],
        ),
    )


def anneal_rate() -> tuple[Expected, ...]:
    """Compute by which factor the cosine schedule lowers the rate from first to last epoch."""
    return (
        Array(
            "factors",
            [_factor(epochs) for epochs in (10, 20)],
            "In epoch e of E, counted from 0, the rate is (1 + cos(pi e / E)) / 2 of the first.",
            tolerance=0.5,
        ),
    )


def _factor(epochs: int) -> float:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs - 1):
        optimizer.step()
        schedule.step()
    return 1 / schedule.get_last_lr()[0]


EXERCISES = (choose_by_epoch, guess_by_shares, anneal_rate)

"""Learning fine grades: losses that ask for the IRMA code in place of the class.

A linear layer beside the network names the code from the vector that is searched with: the input
of the network's own last layer. With ``codes``, every other code is equally wrong. With
``code-tree``, the loss asks for the more of a code's probability the nearer it is to the true one
in the code's tree, so that the wrong hand is better than the right foot.

L. Bertinetto, R. Mueller, K. Tertikas, S. Samangooei, N. A. Lord: Making better mistakes:
leveraging class hierarchies with deep networks. CVPR 2020 (soft labels).
DOI 10.1109/CVPR42600.2020.01252

Differs from the paper: it trained its networks to name one of five regions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cbir_lib.errors import CbirError
from cbir_lib.irma_code import Branching, compute_hierarchical_errors
from cbir_lib.networks.classifier import Batches, Settings, VectorLearner

# How fast the wanted probability falls with the hierarchical error, by loss. Of 10, 20 and 40, the
# last had the highest nDCG@10 on the validation split (benchmarks/code_tree.py: 87.5 % against 85.6
# and 87.3; cross-entropy had 87.0 and `codes` 87.7).
SHARPNESS = {"codes": float("inf"), "code-tree": 40.0}


def compute_targets(
    true: Sequence[str], answers: Sequence[str], sharpness: float, branching: Branching
) -> np.ndarray:
    """Compute the probability that the loss wants for each answer: (N, K) float32, rows sum to 1.

    Proportional to exp(-sharpness d), where d is the hierarchical error of answering one of K codes
    for one of N true ones (:func:`cbir_lib.irma_code.compute_hierarchical_errors`). An infinite
    sharpness leaves the nearest answers, the true code if it is there, in equal shares.
    """
    errors = compute_hierarchical_errors(
        np.repeat(np.asarray(true, str), len(answers)), [*answers] * len(true), branching
    ).reshape(len(true), len(answers))
    farther = errors - errors.min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # infinity times 0
        wanted = np.where(farther > 0, np.exp(-sharpness * farther), 1.0)
    return (wanted / wanted.sum(axis=1, keepdims=True)).astype(np.float32)


class CodeLearner(VectorLearner):
    """A network that learns to name codes, by a linear layer of its own."""

    def __init__(self, network: nn.Sequential, settings: Settings, targets: Tensor):
        super().__init__(network, settings)
        self.register_buffer("targets", targets)  # (codes to be named, codes of the training split)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self.codes = nn.Linear(network[-1].in_features, targets.shape[1])
            nn.init.kaiming_normal_(self.codes.weight, nonlinearity="relu")
            nn.init.zeros_(self.codes.bias)

    def _compute_loss(self, vectors: Tensor, labels: Tensor, codes: Tensor) -> Tensor:
        return functional.cross_entropy(self.codes(vectors).float(), self.targets[codes])


def prepare(
    network: nn.Sequential,
    tensors: list[Tensor],
    codes: Sequence[np.ndarray],
    settings: Settings,
) -> tuple[CodeLearner, Batches, Batches]:
    """Prepare a training: what learns, and the batches that it learns from and is validated on.

    Parameters
    ----------
    network
        Of :func:`cbir_lib.networks.modules.build_network`; its last layer is linear.
    tensors
        Images (N, H, W) uint8 and labels (N,) int64 to learn from, and those to validate on.
    codes
        The (N,) str IRMA codes of both; empty where an image has none.

    Raises
    ------
    CbirError
        When an image has no code, or all training images have the same.
    """
    together = np.concatenate([[], *codes])
    count = sum(len(labels) for labels in tensors[1::2])
    if missing := count - np.count_nonzero(together != ""):
        raise CbirError(
            f"the loss {settings.loss} needs the IRMA code of every image; {missing} of {count} "
            "have none",
            "give images with codes, or take the loss cross-entropy",
        )
    train = codes[0]
    answers = np.unique(train)
    if len(answers) < 2:
        raise CbirError(
            f"all training images have the same IRMA code, {answers[0]}: there is nothing to learn",
            "give images with several codes, or take the loss cross-entropy",
        )
    true, rows = np.unique(together, return_inverse=True)
    wanted = compute_targets(true, answers, SHARPNESS[settings.loss], Branching.from_codes(answers))
    device = tensors[1].device
    rows = torch.tensor(rows, device=device)
    return (
        CodeLearner(network, settings, torch.tensor(wanted, device=device)),
        Batches(*tensors[:2], settings.batch_size, settings.seed, codes=rows[: len(train)]),
        Batches(*tensors[2:], settings.batch_size, codes=rows[len(train) :]),
    )

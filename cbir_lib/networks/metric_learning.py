"""Learned metrics: losses that compare images with one another, by pytorch-metric-learning.

The vectors that are compared are those that the network is searched with: the input of its last
layer. The loss says which should be near one another.

Differs from the paper: it trained its networks to name classes, and searched with what they had
learnt.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from pytorch_metric_learning import losses, miners, samplers
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils import common_functions
from torch import Tensor, nn
from torch.nn import functional

from cbir_lib.errors import CbirError
from cbir_lib.networks.classifier import MAP, Batches, Settings, VectorLearner, derive_epoch_seed

PER_CLASS = 4  # images of each class in a batch, at least
ALPHA = 32  # of proxy-anchor
SCALE = 64  # of ArcFace


class MetricLoss(nn.Module):
    """A loss on labelled vectors, and the miner that chooses what it compares."""

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None):
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of (B, D) vectors with (B,) int64 labels, computed in float32."""
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = vectors.float()
            return self.loss(vectors, labels, self.miner and self.miner(vectors, labels))


def _build_triplet(classes: int, values: int) -> MetricLoss:
    # Schroff et al. 2015, DOI 10.1109/CVPR.2015.7298682: squared distances on the unit sphere, and
    # negatives that are farther than the positive, but by less than the margin.
    squared = LpDistance(power=2)
    return MetricLoss(
        losses.TripletMarginLoss(margin=0.2, distance=squared),
        miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard", distance=squared),
    )


def _build_supervised_contrastive(classes: int, values: int) -> MetricLoss:
    # Khosla et al. 2020, arXiv:2004.11362, equation 2.
    return MetricLoss(losses.SupConLoss(temperature=0.1))


def _build_proxy_anchor(classes: int, values: int) -> MetricLoss:
    # Kim et al. 2020, DOI 10.1109/CVPR42600.2020.00330, equation 4.
    return MetricLoss(losses.ProxyAnchorLoss(classes, values, margin=0.1, alpha=ALPHA))


def _build_arcface(classes: int, values: int) -> MetricLoss:
    # Deng et al. 2019, DOI 10.1109/CVPR.2019.00482, equation 3; the margin is 0.5 rad.
    return MetricLoss(losses.ArcFaceLoss(classes, values, margin=28.6, scale=SCALE))


BUILDERS: dict[str, Callable[[int, int], MetricLoss]] = {
    "triplet": _build_triplet,
    "supervised-contrastive": _build_supervised_contrastive,
    "proxy-anchor": _build_proxy_anchor,
    "arcface": _build_arcface,
}


def build_loss(name: str, classes: int, values: int, seed: int = 0) -> MetricLoss:
    """Build one of ``BUILDERS`` for vectors of so many values.

    Proxy-anchor and ArcFace have weights of their own, one vector per class, drawn from the seed
    alone. The state of torch's random numbers stays as it is.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BUILDERS[name](classes, values)


def compute_pulls(name: str, vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute in which direction a loss pulls each vector: the negative of its gradient.

    Parameters
    ----------
    name
        One of ``BUILDERS``.
    vectors : (N, D)
    labels : (N,) int, from 0

    Returns
    -------
    (N, D) float32
        The longest pull has length 1; all are 0 if the loss is content.
    """
    points = torch.tensor(vectors, dtype=torch.float32, requires_grad=True)
    loss = build_loss(name, int(np.max(labels)) + 1, points.shape[1])
    loss(points, torch.tensor(labels)).backward()
    longest = points.grad.norm(dim=1).max()
    return (-points.grad / longest.clamp(min=1e-12)).numpy()


class BalancedBatches(Batches):
    """Batches with as many images of one class as of another, drawn for each epoch.

    From the seed and the epoch alone. All classes are in a batch if it has room for ``PER_CLASS``
    images of each, else as many as there is room for, drawn at random. An epoch shows about as many
    images as there are; those of rare classes come several times.

    Raises
    ------
    CbirError
        When a batch would be of one class only.
    """

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, seed: int):
        super().__init__(images, labels, batch_size, seed)
        classes = len(labels.unique())
        if classes < 2:
            raise CbirError(
                "all images are of one class: a loss that compares images needs two",
                "give images of another class as well, or take the loss cross-entropy",
            )
        self.per_class = max(PER_CLASS, batch_size // classes)
        together = min(classes, batch_size // self.per_class)
        if together < 2:
            raise CbirError(
                f"a batch of {batch_size} is of one class only: it has {PER_CLASS} images of each",
                f"give a batch_size of {2 * PER_CLASS} or more, or take the loss cross-entropy",
            )
        self.batch_size = self.per_class * together

    def __len__(self) -> int:
        return len(self.labels) // self.batch_size

    @property
    def rows(self) -> tuple[Tensor, ...]:
        # The sampler shuffles its own list of classes: a new one has no memory of other epochs.
        sampler = samplers.MPerClassSampler(
            self.labels.cpu(), self.per_class, self.batch_size, len(self.labels)
        )
        before = common_functions.NUMPY_RANDOM
        seed = derive_epoch_seed(self.seed, self.epoch)
        common_functions.NUMPY_RANDOM = np.random.default_rng(seed)
        try:
            return torch.tensor([int(row) for row in sampler]).split(self.batch_size)
        finally:
            common_functions.NUMPY_RANDOM = before


def compute_mean_average_precision(vectors: Tensor, labels: Tensor) -> float:
    """Compute the mean average precision of each vector as a query among the others, by cosine.

    Equally near vectors count in the order in which they are given, which should be random.
    Queries without another vector of their class are left out; nan if that leaves none.

    Parameters
    ----------
    vectors : (N, D) float32
    labels : (N,) int64
    """
    unit = functional.normalize(vectors)
    near = (unit @ unit.T).fill_diagonal_(-torch.inf)
    order = near.argsort(dim=1, descending=True, stable=True)[:, :-1]
    relevant = (labels[order] == labels[:, None]).double()
    ranks = torch.arange(1, len(labels), device=labels.device)
    precisions = (relevant * relevant.cumsum(1) / ranks).sum(1) / relevant.sum(1)
    return float(precisions.nanmean())


class MetricLearner(VectorLearner):
    """A network that learns a metric: from the comparison of images alone."""

    def __init__(self, network: nn.Sequential, settings: Settings):
        super().__init__(network, settings)
        last = network[-1]
        self.loss = build_loss(settings.loss, last.out_features, last.in_features, settings.seed)

    def _compute_loss(self, vectors: Tensor, labels: Tensor) -> Tensor:
        if not self.training:
            self.validated.append((vectors.float(), labels))
        return self.loss(vectors, labels)

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.validated: list[tuple[Tensor, Tensor]] = []

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        vectors, labels = (torch.cat(parts) for parts in zip(*self.validated, strict=True))
        self.log(MAP, compute_mean_average_precision(vectors, labels))


def prepare(
    network: nn.Sequential, tensors: list[Tensor], settings: Settings
) -> tuple[MetricLearner, BalancedBatches, Batches]:
    """Prepare a training: what learns, and the batches that it learns from and is validated on.

    Parameters
    ----------
    network
        Of :func:`cbir_lib.networks.modules.build_network`; its last layer is linear.
    tensors
        Images (N, H, W) uint8 and labels (N,) int64 to learn from, and those to validate on. The
        latter come once each, in an order that is random and always the same.

    Raises
    ------
    CbirError
        When all images of either kind are of one class, or a batch would be; or when no two
        validation images are of the same.
    """
    counts = tensors[3].bincount()
    if (counts > 0).sum() < 2 or counts.max() < 2:
        raise CbirError(
            "the validation images cannot be searched among one another: they are of "
            + ("one class only" if counts.max() > 1 else "a class each"),
            "give two classes, and two images of one, or take the loss cross-entropy",
        )
    batches = BalancedBatches(*tensors[:2], settings.batch_size, settings.seed)
    validation = Batches(*tensors[2:], settings.batch_size, settings.seed)
    return MetricLearner(network, settings), batches, validation

"""How a network is trained: settings, batches, and the module with the loss and the optimiser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from cbir_lib.errors import (
    CbirError,
    check_integer,
    check_switch,
    is_number,
    unknown_name_error,
)
from cbir_lib.networks.precision import check_precision

SCHEDULES = ("cosine", "constant")
CROSS_ENTROPY = "cross-entropy"
# These compare images with one another: cbir_lib/networks/metric_learning.py.
METRIC_LOSSES = ("triplet", "supervised-contrastive", "proxy-anchor", "arcface")
# These ask for the IRMA code: cbir_lib/networks/code_tree.py.
CODE_LOSSES = ("codes", "code-tree")
LOSSES = (CROSS_ENTROPY, *METRIC_LOSSES, *CODE_LOSSES)
MAP = "validation_mean_average_precision"


@dataclass(frozen=True)
class Settings:
    """How to train.

    Momentum, L2 penalty and batch size are the paper's. Differs from the paper: it names neither
    the learning rate nor its schedule, and trained for 1000 to 2000 epochs with early stopping;
    here the rate falls to 0, and the weights of the last epoch count. A loss that compares images
    keeps those of the epoch with the highest mean average precision among the validation images.
    """

    loss: str = CROSS_ENTROPY  # one of LOSSES
    epochs: int = 1000
    early_stopping: bool = False  # stop, and keep the weights of the lowest validation loss
    patience: int = 50  # epochs without a lower loss, or a higher mAP, before stopping
    batch_size: int = 256  # at most, where a loss that compares images needs as many of each class
    learning_rate: float = 0.01  # at the start
    schedule: str = "cosine"  # half a cosine wave down to 0 over all epochs; or "constant"
    momentum: float = 0.9
    weight_decay: float = 5e-4  # L2 penalty on all weights
    precision: str = "auto"  # "bfloat16": products in 16 bits, weights in 32; "float32"
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "patience", "batch_size"):
            check_integer(name, getattr(self, name), 1)
        check_integer("seed", self.seed, 0, 2**32 - 1)
        check_switch("early_stopping", self.early_stopping)
        for name, fits, allowed in (
            ("learning_rate", lambda rate: rate > 0, "more than 0"),
            ("momentum", lambda share: 0 <= share < 1, "0 or more, below 1"),
            ("weight_decay", lambda penalty: penalty >= 0, "0 or more"),
        ):
            value = getattr(self, name)
            if not is_number(value) or not fits(value):
                raise CbirError(f"{name} {value!r} is out of range", f"give {allowed}")
        if self.schedule not in SCHEDULES:
            raise unknown_name_error("schedule", self.schedule, SCHEDULES)
        if self.loss not in LOSSES:
            raise unknown_name_error("loss", self.loss, LOSSES)
        check_precision(self.precision)

    @property
    def compares_images(self) -> bool:
        """Return whether the loss compares images with one another."""
        return self.loss in METRIC_LOSSES

    @property
    def criterion(self) -> tuple[str, str]:
        """Return the curve that decides which epoch is the best, and whether ``min`` or ``max``."""
        return (MAP, "max") if self.compares_images else ("validation_loss", "min")


def derive_epoch_seed(seed: int, epoch: int) -> int:
    """Derive what everything random in an epoch (from 0) follows from."""
    return seed * 1_000_003 + epoch


class Batches:
    """Batches cut from tensors that lie on the device: no workers, no copies.

    Shuffled anew in each epoch, from the seed and the epoch alone.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        seed: int | None = None,
        codes: Tensor | None = None,
    ):
        self.images, self.labels = images, labels
        self.tensors = (images, labels) if codes is None else (images, labels, codes)
        self.batch_size, self.seed = batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """Which images are in each batch of this epoch."""
        rows = torch.arange(len(self.labels))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(derive_epoch_seed(self.seed, self.epoch))
            rows = torch.randperm(len(self.labels), generator=generator)
        return rows.split(self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for batch in self.rows:
            on_device = batch.to(self.labels.device, non_blocking=True)
            yield tuple(tensor[on_device] for tensor in self.tensors)


class Classifier(pl.LightningModule):
    """A network, the loss and the optimiser of the paper.

    What an epoch is judged by is summed up on the device and read once, at its end.
    """

    def __init__(self, network: nn.Module, settings: Settings):
        super().__init__()
        self.network = network
        self.settings = settings

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=self.settings.learning_rate,
            momentum=self.settings.momentum,
            weight_decay=self.settings.weight_decay,
            fused=True,  # one pass over the weights in place of four
        )
        if self.settings.schedule == "constant":
            return {"optimizer": optimizer}
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.settings.epochs)
        return {"optimizer": optimizer, "lr_scheduler": cosine}

    def _start(self) -> None:
        self.loss_sum = torch.zeros((), device=self.device)
        self.right_sum = torch.zeros((), device=self.device)
        self.not_finite = torch.tensor(-1, device=self.device)  # number of the first such batch
        self.images_seen = 0

    def _step(self, batch: tuple[Tensor, ...], number: int) -> Tensor:
        images, labels, *codes = batch
        scores, loss, minimised = self._compute(images, labels, *codes)
        with torch.no_grad():
            self.loss_sum += loss * len(labels)
            self.right_sum += (scores.argmax(1) == labels).sum()
            first = ~torch.isfinite(loss) & (self.not_finite < 0)
            self.not_finite.masked_fill_(first, number)
            self.images_seen += len(labels)
        return minimised

    def _compute(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores (B, classes), the loss that is recorded, and the one to minimise."""
        scores = self.network(images).float()
        loss = functional.cross_entropy(scores, labels)
        return scores, loss, loss

    def on_train_epoch_start(self) -> None:
        self.trainer.train_dataloader.epoch = self.current_epoch
        # Dropout and augmentation draw the same after a kill as they would have without it.
        torch.manual_seed(derive_epoch_seed(self.settings.seed, self.current_epoch))
        self._start()

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        return self._step(batch, number)

    def on_validation_epoch_start(self) -> None:
        # Lightning validates before the training epoch ends.
        self._finish("train", self.trainer.train_dataloader)
        self._start()

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        self._step(batch, number)

    def on_validation_epoch_end(self) -> None:
        self._finish("validation", self.trainer.val_dataloaders)
        self.log("validation_accuracy", self.right_sum / self.images_seen)

    def _finish(self, name: str, batches: Batches) -> None:
        number = int(self.not_finite)
        if number >= 0:
            rows = batches.rows[number].tolist()
            shown = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
            raise CbirError(
                f"the loss is not finite any more in epoch {self.current_epoch + 1}, {name} batch "
                f"{number + 1} of {len(batches)} (images {shown})",
                "lower the learning rate, or look at these images, counted from 0",
            )
        self.log(f"{name}_loss", self.loss_sum / self.images_seen)


class VectorLearner(Classifier):
    """A network whose vectors learn by a loss of their own, and the layer that names the class.

    The vectors are the input of the last layer, which learns beside the network, by cross-entropy
    from the vectors as they are: its gradient ends there.
    """

    def _compute(
        self, images: Tensor, labels: Tensor, *codes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        vectors = self.network[:-1](images)  # (B, D)
        scores = self.network[-1](vectors.detach()).float()
        loss = self._compute_loss(vectors, labels, *codes)
        return scores, loss, loss + functional.cross_entropy(scores, labels)

    def _compute_loss(self, vectors: Tensor, labels: Tensor, *codes: Tensor) -> Tensor:
        """Return the loss of (B, D) vectors."""
        raise NotImplementedError

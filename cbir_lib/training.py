"""Training a network with Lightning, on the CPU or a GPU."""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from torch import Tensor, nn
from torch.nn import functional

from cbir_lib.errors import CbirError

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # devices found, products to try


@dataclass(frozen=True)
class Settings:
    """How to train.

    Momentum, L2 penalty and batch size are the paper's. Differs from the paper: it names neither
    the learning rate nor when it stopped early, and trained for 1000 to 2000 epochs.
    """

    epochs: int = 1000  # at most
    patience: int = 50  # epochs without a lower validation loss before stopping
    batch_size: int = 256
    learning_rate: float = 0.005
    momentum: float = 0.9
    weight_decay: float = 5e-4  # L2 penalty on all weights
    seed: int = 0

    def __post_init__(self):
        lowest = {"epochs": 1, "patience": 1, "batch_size": 1, "learning_rate": 1e-9}
        for name, low in {**lowest, "momentum": 0, "weight_decay": 0, "seed": 0}.items():
            value = getattr(self, name)
            if not value >= low:
                raise CbirError(f"{name} {value!r} is out of range", f"give {low} or more")


@dataclass(frozen=True)
class History:
    """One entry an epoch, and the epoch whose weights were kept (from 1)."""

    train_loss: list[float]
    validation_loss: list[float]
    validation_accuracy: list[float]
    best_epoch: int
    seconds: float


class Batches:
    """Batches cut from tensors that lie on the device: no workers, no copies.

    Shuffled anew in each epoch, from the seed and the epoch alone.
    """

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, seed: int | None = None):
        self.images, self.labels = images, labels
        self.batch_size, self.seed = batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = torch.arange(len(self.labels))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            rows = torch.randperm(len(self.labels), generator=generator)
        for batch in rows.to(self.labels.device).split(self.batch_size):
            yield self.images[batch], self.labels[batch]


class Classifier(pl.LightningModule):
    """A network, the loss and the optimiser of the paper."""

    def __init__(self, network: nn.Module, settings: Settings):
        super().__init__()
        self.network = network
        self.settings = settings

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            self.network.parameters(),
            lr=self.settings.learning_rate,
            momentum=self.settings.momentum,
            weight_decay=self.settings.weight_decay,
        )

    def _step(self, batch: tuple[Tensor, Tensor], name: str) -> tuple[Tensor, Tensor]:
        images, labels = batch
        scores = self.network(images)  # (B, classes)
        loss = functional.cross_entropy(scores, labels)
        self.log(f"{name}_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss, scores

    def on_train_epoch_start(self) -> None:
        self.trainer.train_dataloader.epoch = self.current_epoch

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return self._step(batch, "train")[0]

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        _, scores = self._step(batch, "validation")
        right = (scores.argmax(1) == batch[1]).float().mean()
        self.log("validation_accuracy", right, on_epoch=True, batch_size=len(scores))


class KeepBest(Callback):
    """Remember the curves and the weights of the epoch with the lowest validation loss."""

    def __init__(self, epochs: int):
        self.epochs = epochs
        self.curves = {"train_loss": [], "validation_loss": [], "validation_accuracy": []}
        self.best_loss, self.best_epoch, self.weights = float("inf"), 0, {}

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Classifier) -> None:
        # Lightning has validated before it calls this.
        for name, curve in self.curves.items():
            curve.append(float(trainer.callback_metrics[name]))
        loss = self.curves["validation_loss"][-1]
        epoch = len(self.curves["validation_loss"])
        if not np.isfinite([loss, self.curves["train_loss"][-1]]).all():
            raise CbirError(
                f"the loss is not finite any more in epoch {epoch}", "lower the learning rate"
            )
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.weights = copy.deepcopy(module.network.state_dict())
        accuracy = self.curves["validation_accuracy"][-1]
        print(
            f"epoch {epoch}/{self.epochs}: training loss {self.curves['train_loss'][-1]:.4f}, "
            f"validation loss {loss:.4f}, accuracy {accuracy:.1%}",
            flush=True,
        )


def fit(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    validation_images: np.ndarray,
    validation_labels: np.ndarray,
    settings: Settings,
    accelerator: str = "auto",
) -> History:
    """Train a network in place and leave it with its best weights.

    Minimises the softmax cross-entropy by gradient descent with momentum, stops when the validation
    loss has not fallen for ``settings.patience`` epochs. On the CPU the same call gives the same
    bits if the number of threads is the same; on a GPU it need not.

    Parameters
    ----------
    network
        Takes (B, H, W) uint8 and gives (B, classes) scores; :func:`cbir_lib.models.build_network`.
    images, validation_images : (N, H, W) uint8
    labels, validation_labels : (N,) int64
    accelerator
        ``auto`` (a GPU where there is one), ``cpu`` or ``gpu``.

    Raises
    ------
    CbirError
        When there are no images, a GPU is asked for and none is there, or the loss diverges.
    """
    if len(labels) == 0 or len(validation_labels) == 0:
        raise CbirError("there is no image to train or to validate on", "give at least one of each")
    if accelerator not in ("auto", "cpu", "gpu"):
        raise CbirError(f"unknown accelerator {accelerator!r}", "give auto, cpu or gpu")
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise CbirError("a GPU is asked for and none is there", "leave it to auto, or give cpu")
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")

    def batches(images: np.ndarray, labels: np.ndarray, seed: int | None = None) -> Batches:
        on_device = torch.tensor(images, device=device), torch.tensor(labels, device=device)
        return Batches(*on_device, settings.batch_size, seed)

    kept = KeepBest(settings.epochs)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # advice on workers and loggers that are left out on purpose
        trainer = pl.Trainer(
            accelerator="gpu" if on_gpu else "cpu",
            devices=1,
            max_epochs=settings.epochs,
            callbacks=[kept, EarlyStopping("validation_loss", patience=settings.patience)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(
                Classifier(network, settings),
                batches(images, labels, settings.seed),
                batches(validation_images, validation_labels),
            )
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's answer to Ctrl-C
                raise KeyboardInterrupt from stop
            raise
    network.load_state_dict(kept.weights)
    return History(**kept.curves, best_epoch=kept.best_epoch, seconds=time.perf_counter() - started)

"""Training a network with Lightning, on the CPU or a GPU."""

from __future__ import annotations

import copy
import hashlib
import logging
import time
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import filelock
import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, EarlyStopping
from torch import Tensor, nn

from cbir_lib.errors import CbirError, first_line, is_out_of_memory
from cbir_lib.files import find_lock, replacing
from cbir_lib.networks.classifier import CODE_LOSSES, MAP, Batches, Classifier, Settings
from cbir_lib.networks.precision import PRECISIONS, resolve_precision

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # devices found, products to try

CHECKPOINT_S = 30  # at most so much training is lost to a kill, and the epoch it falls in


@dataclass(frozen=True)
class History:
    """One entry an epoch, and the epoch whose weights were kept (from 1).

    The mean average precision is measured only where the loss compares images; there the losses are
    its own, and the accuracy is that of the linear layer that is trained beside it.
    """

    train_loss: list[float]
    validation_loss: list[float]
    validation_accuracy: list[float]
    best_epoch: int
    batch_size: int  # half of what was asked for where the memory was too small
    precision: str  # "float32" or "bfloat16"
    seconds: float  # of this process; what was done before a kill is not in it
    validation_mean_average_precision: list[float] | None = None


class KeepBest(Callback):
    """Remember the curves, and the weights of the last epoch or of the best.

    The best counts with early stopping, and where the loss compares images.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.curves = {"train_loss": [], "validation_loss": [], "validation_accuracy": []}
        if settings.compares_images:
            self.curves[MAP] = []
        self.best, self.best_epoch, self.weights = float("inf"), 0, {}

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Classifier) -> None:
        # Lightning has validated before it calls this.
        for name, curve in self.curves.items():
            curve.append(float(trainer.callback_metrics[name]))
        last = {name: curve[-1] for name, curve in self.curves.items()}
        epoch = len(self.curves["validation_loss"])
        name, direction = self.settings.criterion
        cost = last[name] if direction == "min" else -last[name]
        takes_best = self.settings.early_stopping or self.settings.compares_images
        if cost < self.best or not takes_best:
            self.best, self.best_epoch = cost, epoch
            self.weights = copy.deepcopy(module.network.state_dict())
        print(
            f"epoch {epoch}/{self.settings.epochs}: "
            f"training loss {last['train_loss']:.4f}, "
            f"validation loss {last['validation_loss']:.4f}, "
            f"accuracy {last['validation_accuracy']:.1%}"
            + (f", mAP {last[MAP]:.1%}" if MAP in last else ""),
            flush=True,
        )

    def state_dict(self) -> dict:
        kept = ("curves", "best", "best_epoch", "weights")
        return {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state_dict: dict) -> None:
        vars(self).update(state_dict)


class Checkpoints(Checkpoint):
    """Write the state of the training at the end of an epoch, every ``CHECKPOINT_S`` seconds."""

    def __init__(self, path: Path, purpose: str):
        self.path, self.purpose = path, purpose
        self.written = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Classifier) -> None:
        # That a training has stopped early is not in its state: it would do one more epoch.
        if time.monotonic() - self.written >= CHECKPOINT_S and not trainer.should_stop:
            with replacing(self.path) as part:
                trainer.save_checkpoint(part)
            self.written = time.monotonic()

    def state_dict(self) -> dict:
        return {"purpose": self.purpose}


def fit(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    validation_images: np.ndarray,
    validation_labels: np.ndarray,
    settings: Settings,
    accelerator: str = "auto",
    checkpoint: Path | str | None = None,
    codes: Sequence[np.ndarray] = (),
) -> History:
    """Train a network in place, on its device, and leave it with the weights that count.

    Minimises the softmax cross-entropy, or another loss (``settings.loss``), by gradient descent
    with momentum, for all epochs, or with early stopping until the validation loss has not fallen
    (the mean average precision not risen) for ``settings.patience`` epochs. On the
    CPU the same call gives the same bits if the number of threads is the same; on a GPU it need
    not. Where the memory is too small, the batch is halved once, with a warning, and training
    starts again.

    Parameters
    ----------
    network
        Takes (B, H, W) uint8 and gives (B, classes) scores
        (:func:`cbir_lib.networks.modules.build_network`).
    images, validation_images : (N, H, W) uint8
    labels, validation_labels : (N,) int64
    accelerator
        ``auto`` (a GPU where there is one), ``cpu`` or ``gpu``.
    checkpoint
        A file to which the state is written now and then, and from which a killed training goes on:
        the same call ends with the same bits as one that was never killed. Removed at the end.
    codes
        For a loss that asks for them: the (N,) str IRMA codes of the images, and of those to
        validate on.

    Raises
    ------
    CbirError
        When there are no images, a batch is larger than the training set, a GPU is asked for and
        none is there, the loss diverges, the memory does not suffice for half a batch, or the
        checkpoint is damaged, of another training, or in another process's hands. With a loss that
        compares images, also when there is nothing to compare: a single class, or a batch too small
        for two; or when its package is missing. With one that asks for codes, when one is missing.
    """
    if len(labels) == 0 or len(validation_labels) == 0:
        raise CbirError("there is no image to train or to validate on", "give at least one of each")
    if settings.batch_size > len(labels):
        raise CbirError(
            f"a batch of {settings.batch_size} is larger than the {len(labels)} training images",
            f"give a batch_size of {len(labels)} or less",
        )
    if accelerator not in ("auto", "cpu", "gpu"):
        raise CbirError(f"unknown accelerator {accelerator!r}", "give auto, cpu or gpu")
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise CbirError("a GPU is asked for and none is there", "leave it to auto, or give cpu")
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    settings = replace(settings, precision=resolve_precision(settings.precision, on_gpu))
    arrays = (images, labels, validation_images, validation_labels)
    if settings.loss in CODE_LOSSES:
        arrays += tuple(np.asarray(of_split, str) for of_split in codes)
    checkpoint = checkpoint and Path(checkpoint)
    halved = replace(settings, batch_size=max(1, settings.batch_size // 2))
    with _alone(checkpoint) if checkpoint else nullcontext():
        if checkpoint and checkpoint.exists():
            purpose, _ = _described(checkpoint)
            settings = halved if purpose == _purpose(network, arrays, halved) else settings
        initial = copy.deepcopy(network.state_dict())
        try:
            return _fit(network, arrays, settings, on_gpu, checkpoint)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if settings == halved:
                raise _no_memory(settings.batch_size, error) from error
        print(
            f"warning: no memory for a batch of {settings.batch_size}; starting again with "
            f"{halved.batch_size}"
        )
        network.load_state_dict(initial)
        if checkpoint:
            checkpoint.unlink(missing_ok=True)
        try:
            return _fit(network, arrays, halved, on_gpu, checkpoint)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise _no_memory(halved.batch_size, error) from error


def _no_memory(batch_size: int, error: Exception) -> CbirError:
    return CbirError(
        f"no memory for a batch of {batch_size}: {first_line(error)}",
        "give a smaller batch_size, or let nothing else use the device",
    )


def _fit(
    network: nn.Module,
    arrays: tuple[np.ndarray, ...],
    settings: Settings,
    on_gpu: bool,
    checkpoint: Path | None,
) -> History:
    network.train()  # Lightning leaves it as it is, and a validation broken off in evaluation
    device = torch.device("cuda" if on_gpu else "cpu")
    tensors = [torch.tensor(array, device=device) for array in arrays[:4]]
    learner, batches, validation = _prepare(network, tensors, arrays[4:], settings)
    kept = KeepBest(settings)
    callbacks: list[Callback] = [kept]
    if settings.early_stopping:
        monitor, mode = settings.criterion
        callbacks.append(EarlyStopping(monitor, mode=mode, patience=settings.patience))
    state = None
    if checkpoint:
        purpose = _purpose(network, arrays, settings)
        callbacks.append(Checkpoints(checkpoint, purpose))
        if checkpoint.exists():
            stored_purpose, epochs = _described(checkpoint)
            if stored_purpose != purpose:
                raise CbirError(
                    f"{checkpoint} is of another training: other settings, images or network",
                    _start_anew(checkpoint),
                )
            state = checkpoint
            print(f"going on after epoch {epochs}", flush=True)
    started = time.perf_counter()
    with warnings.catch_warnings():
        # Advice on workers and loggers, which are left out on purpose.
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="gpu" if on_gpu else "cpu",
            devices=1,
            precision=PRECISIONS[settings.precision],
            max_epochs=settings.epochs,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=checkpoint is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(
                learner,
                batches,
                validation,
                ckpt_path=state,
                weights_only=True,
            )
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's answer to Ctrl-C
                raise KeyboardInterrupt from stop
            raise
    network.load_state_dict(kept.weights)
    network.to(device)  # Lightning moves it to the CPU
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return History(
        **kept.curves,
        best_epoch=kept.best_epoch,
        batch_size=settings.batch_size,
        precision=settings.precision,
        seconds=time.perf_counter() - started,
    )


def _prepare(
    network: nn.Module, tensors: list[Tensor], codes: Sequence[np.ndarray], settings: Settings
) -> tuple[Classifier, Batches, Batches]:
    """Prepare what learns, and the batches that it learns from and is validated on."""
    if settings.compares_images:
        if find_spec("pytorch_metric_learning") is None:
            raise CbirError(
                f"the loss {settings.loss} needs the package pytorch-metric-learning",
                "pip install '.[metric]' in this repository",
            )
        from cbir_lib.networks import metric_learning

        return metric_learning.prepare(network, tensors, settings)
    if settings.loss in CODE_LOSSES:
        from cbir_lib.networks import code_tree

        return code_tree.prepare(network, tensors, codes, settings)
    batches = Batches(*tensors[:2], settings.batch_size, settings.seed)
    return Classifier(network, settings), batches, Batches(*tensors[2:], settings.batch_size)


def _purpose(network: nn.Module, arrays: tuple[np.ndarray, ...], settings: Settings) -> str:
    """A digest of everything that decides how a training ends."""
    digest = hashlib.sha256(repr((asdict(settings), str(network))).encode())
    for tensor in network.state_dict().values():
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()))
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _described(checkpoint: Path) -> tuple[str, int]:
    """A checkpoint's purpose and the epochs done. Nothing in it is executed."""
    try:
        with zipfile.ZipFile(checkpoint) as file:
            if damaged := file.testzip():  # torch does not compare the checksums
                raise ValueError(damaged)
        state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        return state["callbacks"]["Checkpoints"]["purpose"], state["epoch"] + 1
    except Exception as error:  # torch.load raises of many kinds, unpickling's own among them
        raise CbirError(
            f"{checkpoint} is damaged or no checkpoint of a training", _start_anew(checkpoint)
        ) from error


def _start_anew(checkpoint: Path) -> str:
    return f"remove {checkpoint}; training then starts anew"


@contextmanager
def _alone(checkpoint: Path) -> Iterator[None]:
    """Keep other processes from the same checkpoint."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    lock = find_lock(checkpoint.with_name(f".{checkpoint.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise CbirError(
            f"another process is training with {checkpoint}", "wait until it ends, or stop it"
        ) from None
    try:
        yield
    finally:
        lock.release()

"""Training with this library against the pipeline that one would write after a tutorial.

``python benchmarks/training.py`` measures network B at 64 px, ``python benchmarks/training.py C E
--sizes 64 128`` others; on a GPU where there is one.

Ours is :func:`cbir_lib.networks.training.fit` in the environment of a study
(``cbir_lib/workflow/conductor.py``): images contrasted and resized beforehand, as bytes on the
device; turned and cropped a batch at a time; layout channels last; fused SGD; sums on the device,
read once an epoch.

The textbook is Lightning with all of the Trainer's defaults on one device (progress bar, into
nothing; logger; checkpoint each epoch; model summary), loss and accuracy logged in every step, and
a DataLoader with two workers, kept from epoch to epoch, on a Dataset that takes one PNG in memory
at a time through PIL, resize, CLAHE, turn, crop and the mean image; default layout and SGD, threads
and memory as torch and the system set them.

Between the two is a ladder: each rung is the one above with one thing more of ours, so that it says
where the difference comes from. What a thing brings depends on what is there already; this is one
order of many. Above the textbook stands what a DataLoader does unless told otherwise: its workers
are started anew for each epoch.

All rungs train the same network on the same simulated radiographs, with the same loss, optimiser
settings and batch. Each is a process of its own that waits while another is measured: some epochs
each in turn, after one that warms up (and starts the workers that are kept). An epoch lasts from
its start to the next one's, with what is written to disk in between. Ours validates, on one image;
the others do not. What a rung does once, before the first epoch, is not in its rate; it is printed.
On a CPU all take all cores; besides, as a study trains one network a core, two of ours at once, on
one thread each.

On a GPU also the share of the memory bandwidth that a training step uses: the time in which the
bytes that it must move at least could be moved, over the time it takes. For N images of S pixels
with V values in the outputs of all layers (after the ReLU, which can be part of the layer), of b
bytes each, and P weights, these are

    N (S + 4 V b) + 28 P

bytes: the image read once, in bytes; each output written and read once forward, its gradient
written and read once backward; each weight (4 bytes, whatever b is) read forward, its gradient
written and read, weight and momentum each read and written by the optimiser. What the backward pass
reads a second time (outputs and weights) is left out, and caches are taken to hold nothing.
"""

import argparse
import io
import math
import os
import random
import sys
import time
import traceback
from collections import OrderedDict
from contextlib import ExitStack
from functools import partial
from itertools import product
from multiprocessing import get_context, set_start_method
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import cv2
import numpy as np
import psutil
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from cbir_lib import CbirError, Preprocessing, load
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.images.preprocessing import compute_mean_image
from cbir_lib.networks import architectures, training
from cbir_lib.networks.modules import Centre, build_network
from cbir_lib.networks.training import Batches, KeepBest, Settings
from cbir_lib.workflow.conductor import MARK, make_environment

CLASSES = 5  # of the simulated radiographs
WORKERS = 2  # a DataLoader's
TINY_PX, TINY_BATCH, TINY_STEPS = 8, 16, 1000
OVERHEAD_REPEATS = 7
TRANSFORMED, TRANSFORM_RUNS = 256, 5  # images, and how often
# The ladder: what each rung has besides what is in those above, ours at the end.
MEASURES = {
    "none": "DataLoader as it comes: workers anew each epoch",
    "kept": "the textbook: workers kept",
    "prepared": "+ decoded, resized, contrasted once",
    "batched": "+ bytes on the device, moved by batches",
    "quiet": "+ Lightning's options off, sums once an epoch",
    "memory": "+ a study's environment: memory kept",
    "layout": "+ channels last",
    "fused": "+ fused SGD",
    "fit": "ours: cbir_lib.networks.training.fit",
}
TEXTBOOK = "kept"
PARTS = ("ladder", "transforms", "overhead", "share")
PAIR = "two of ours at once, one thread each"
KINDS = {
    "bare": "a loop in plain torch",
    "defaults": "Trainer's defaults, logs in every step",
    "off": "no logger, bar, checkpoint, summary",
    "ours": "as used here",
}
PRECISIONS = {"float32": 4, "bfloat16": 2}  # bytes of a value
COPIED = 2**30  # bytes
EXPLANATION = f"""\
{{device}}, torch {torch.__version__}, Lightning {pl.__version__}; batches of {{batch}}.
Images per second, median (range) of {{repeats}} repeats of {{epochs}} epochs of {{images}} images,
in turn. "step": times the rung above; "times": times the textbook; both median (range) of the
repeats. "saved" is the share of the textbook's time that the rung saves; "core-ms" the milliseconds
of a core for an image, workers included, which hardly depend on what else the machine does;
"prepared" the seconds spent once, before the first epoch."""
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")

# What a study sets, without the mark by which it ends its processes; the textbook goes without all.
STUDY = make_environment()
CHOSEN = [name for name in STUDY if name.startswith(("OMP_", "CUBLAS_", "MALLOC_", MARK))]
STUDY = {name: value for name, value in STUDY.items() if name != MARK}
ALL_CORES = STUDY | {"OMP_NUM_THREADS": str(os.cpu_count())}
SYSTEM = {name: value for name, value in os.environ.items() if name not in CHOSEN}


def clocks() -> np.ndarray:
    """Seconds by the clock, and of all cores for this process and its workers, ended or not."""
    workers = [one.cpu_times() for one in psutil.Process().children(recursive=True)]
    cores = sum(os.times()[:4]) + sum(one.user + one.system for one in workers)
    return np.array([time.perf_counter(), cores])


class Gate:
    """Lets so many epochs through as the parent says, and tells it how long they took."""

    def __init__(self, pipe):
        self.pipe, self.started, self.left = pipe, clocks(), 1

    def __call__(self) -> None:
        self.left -= 1
        if self.left:
            return
        if ON_GPU:
            torch.cuda.synchronize()
        self.pipe.send(clocks() - self.started)
        self.left = self.pipe.recv()  # ends the process when the parent has closed its end
        self.started = clocks()


class Gated(pl.Callback):
    def __init__(self, gate: Gate):
        self.gate = gate

    def on_train_start(self, trainer, module) -> None:
        self.gate()

    def on_train_epoch_end(self, trainer, module) -> None:
        self.gate()


class GatedKeepBest(KeepBest):
    def __init__(self, gate: Gate, settings: Settings):
        super().__init__(settings)
        self.gate, self.batch_size = gate, settings.batch_size

    def on_train_start(self, trainer, module) -> None:
        if trainer.train_dataloader.batch_size != self.batch_size:
            raise MemoryError(f"no memory for a batch of {self.batch_size}: give --batch")
        self.gate()

    def on_train_epoch_end(self, trainer, module) -> None:
        super().on_train_epoch_end(trainer, module)
        self.gate()


class Png(Dataset):
    """Radiographs as files in memory; each goes through everything whenever it is asked for.

    With ``prepared`` they are decoded, resized and contrasted beforehand.
    """

    def __init__(self, drawn: RadiographSet, size: int, crop: int, prepared: bool = False):
        self.labels, self.size, self.crop, self.files = drawn.labels, size, crop, []
        for pixels in drawn.images:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            self.files.append(file.getvalue())
        images = [self.contrasted(self.resized(self.decoded(i))) for i in range(len(self))]
        corner = (size - crop) // 2
        mean = compute_mean_image(np.stack([np.asarray(image) for image in images]))
        self.mean = mean[corner : corner + crop, corner : corner + crop]
        self.prepared = images if prepared else None

    def __len__(self) -> int:
        return len(self.files)

    def decoded(self, index: int) -> Image.Image:
        return Image.open(io.BytesIO(self.files[index])).convert("L")

    def resized(self, image: Image.Image) -> Image.Image:
        return image.resize((self.size, self.size))

    def contrasted(self, image: Image.Image) -> Image.Image:
        tiles = self.size // 16
        clahe = cv2.createCLAHE(2.0, (tiles, tiles))
        return Image.fromarray(clahe.apply(np.asarray(image)))

    def moved(self, image: Image.Image) -> torch.Tensor:
        image = image.rotate(90 * random.randrange(4))
        left, top = (random.randint(0, self.size - self.crop) for _ in range(2))
        image = image.crop((left, top, left + self.crop, top + self.crop))
        pixels = (np.asarray(image, np.float32) - self.mean) / 255
        return torch.from_numpy(pixels).unsqueeze(0)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if self.prepared:
            image = self.prepared[index]
        else:
            image = self.contrasted(self.resized(self.decoded(index)))
        return self.moved(image), self.labels[index]


class Textbook(pl.LightningModule):
    def __init__(self, network: nn.Module, fused: bool | None = None):
        super().__init__()
        self.network, self.fused = network, fused

    def training_step(self, batch, number):
        images, labels = batch
        scores = self.network(images)
        loss = functional.cross_entropy(scores, labels)
        self.log("loss", loss, prog_bar=True)
        self.log("accuracy", (scores.argmax(1) == labels).float().mean(), prog_bar=True)
        return loss

    def configure_optimizers(self):
        return sgd(self.network, fused=self.fused)


class Summed(training.Classifier):
    """The library's module, which sums on the device, with an optimiser to choose."""

    def __init__(self, network: nn.Module, fused: bool | None, batch: int):
        super().__init__(network, Settings(batch_size=batch))
        self.fused = fused

    def configure_optimizers(self):
        return sgd(self.network, fused=self.fused)

    def on_train_epoch_end(self) -> None:
        self._finish("train", self.trainer.train_dataloader)


def sgd(network: nn.Module, fused: bool | None) -> torch.optim.SGD:
    return torch.optim.SGD(
        network.parameters(),
        lr=Settings.learning_rate,
        momentum=Settings.momentum,
        weight_decay=Settings.weight_decay,
        fused=fused,
    )


def radiographs(images: int) -> RadiographSet:
    return load("phantom").sample({"train": images, "validation": 10, "test": 10}, 0).split("train")


def cropped(size: int) -> int:
    """As a study crops."""
    return size * 15 // 16


def built(name: str, mean: np.ndarray) -> nn.Sequential:
    torch.manual_seed(0)
    moved = {"turns": True, "crop": cropped(len(mean)), "shifts": True}
    return build_network(name, mean, classes=CLASSES, **moved)


def with_library(gate, network, images, labels, batch, precision="float32") -> None:
    settings = Settings(batch_size=batch, precision=precision)
    waiting = mock.patch.object(training, "KeepBest", partial(GatedKeepBest, gate))
    with TemporaryDirectory() as folder, waiting:
        state = Path(folder) / "state"
        training.fit(network, images, labels, images[:1], labels[:1], settings, checkpoint=state)


def with_trainer(gate, module: pl.LightningModule, batches, quiet: bool = False) -> None:
    off = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    with TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=1000,
            devices=1,
            callbacks=[Gated(gate)],
            default_root_dir=folder,
            **(off if quiet else {}),
        )
        trainer.fit(module, batches)


def ours(gate, name, size, images, batch, precision="float32", compiled=False) -> None:
    drawn = radiographs(images)
    started = time.perf_counter()
    pixels = Preprocessing(size=size).transform(drawn.images)
    mean = compute_mean_image(pixels)
    gate.pipe.send(time.perf_counter() - started)
    network = built(name, mean)
    if compiled:
        network.compile(dynamic=False)
    with_library(gate, network, pixels, drawn.labels, batch, precision)


def rung(gate, name, size, images, batch, have) -> None:
    """A training with these things of ours, and the textbook's in place of the others."""
    if "fit" in have:
        ours(gate, name, size, images, batch)
    cv2.setNumThreads(0)  # as advised where workers use OpenCV
    drawn = radiographs(images)
    layout = torch.channels_last if "layout" in have else torch.contiguous_format
    fused = True if "fused" in have else None
    if "batched" in have:
        started = time.perf_counter()
        pixels = Preprocessing(size=size).transform(drawn.images)
        network = built(name, compute_mean_image(pixels)).to(memory_format=layout)
        on_device = [torch.tensor(array, device=DEVICE) for array in (pixels, drawn.labels)]
        gate.pipe.send(time.perf_counter() - started)
        batches = Batches(*on_device, batch, seed=0)
    else:
        started = time.perf_counter()
        files = Png(drawn, size, cropped(size), "prepared" in have)
        gate.pipe.send(time.perf_counter() - started if "prepared" in have else 0.0)
        batches = DataLoader(
            files,
            batch,
            shuffle=True,
            num_workers=WORKERS,
            persistent_workers="kept" in have,
            pin_memory=ON_GPU,
        )
        layers = OrderedDict(built(name, np.zeros((size, size), np.float32)).named_children())
        del layers["centre"], layers["augmentation"]
        network = nn.Sequential(layers).to(memory_format=layout)
    quiet = "quiet" in have
    module = Summed(network, fused, batch) if quiet else Textbook(network, fused)
    with_trainer(gate, module, batches, quiet)


def tiny(gate, kind) -> None:
    """One small layer, so that what is around it shows; the same batches and optimiser for all."""
    images = np.random.default_rng(0).integers(
        0, 256, (TINY_BATCH * TINY_STEPS, TINY_PX, TINY_PX), np.uint8
    )
    labels = np.arange(len(images)) % CLASSES
    centre = Centre(torch.zeros(TINY_PX, TINY_PX))
    network = nn.Sequential(centre, nn.Flatten(), nn.Linear(TINY_PX**2, CLASSES))
    gate.pipe.send(0.0)
    if kind == "ours":
        with_library(gate, network, images, labels, TINY_BATCH)
    on_device = [torch.tensor(array, device=DEVICE) for array in (images, labels)]
    batches = Batches(*on_device, TINY_BATCH, seed=0)
    if kind in ("defaults", "off"):
        with_trainer(gate, Textbook(network, fused=True), batches, quiet=kind == "off")
    optimiser = sgd(network.to(DEVICE), fused=True)
    while True:
        gate()
        for some, classes in batches:
            optimiser.zero_grad()
            functional.cross_entropy(network(some), classes).backward()
            optimiser.step()


def child(pipe, work, options) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    # Where this process was spawned, so would be a DataLoader's workers: with imports anew, seconds
    # each, which no script that one starts pays. Theirs is the system's way again.
    set_start_method(None, force=True)
    try:
        work(Gate(pipe), **options)
    except EOFError:  # nothing more to measure
        pass
    except BaseException:
        pipe.send(traceback.format_exc())


class Side:
    """A training in a process of its own."""

    def __init__(self, environment: dict[str, str], work, **options):
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=child, args=(theirs, work, options))
        with mock.patch.dict(os.environ, environment, clear=True):
            self.process.start()
        theirs.close()
        self.prepared_s = self.heard()
        self.heard()  # it waits
        self.take()  # the one that warms up

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *reason) -> None:
        self.pipe.close()
        self.process.join()

    def heard(self) -> float | np.ndarray:
        try:
            said = self.pipe.recv()
        except EOFError:
            sys.exit("a measured process was ended from outside, perhaps for want of memory")
        if isinstance(said, str):
            sys.exit(said)
        return said

    def go(self, epochs: int = 1) -> None:
        self.pipe.send(epochs)

    def take(self, epochs: int = 1) -> np.ndarray:
        """Seconds of so many more epochs, by the clock and of all cores."""
        self.go(epochs)
        return self.heard()


def spread(values: list[float], form: str) -> str:
    low, middle, high = (format(f(values), form) for f in (min, np.median, max))
    return f"{middle} ({low} to {high})"


def compare(options: dict, repeats: int, epochs: int) -> None:
    """The ladder of one network at one size."""
    print(f"\nNetwork {options['name']} at {options['size']} px")
    print(
        f"{'':50}{'images/s':26}{'step':22}{'times':22}{'saved':>6}{'core-ms':>9}{'prepared':>10}"
    )
    lines = list(MEASURES)
    with ExitStack() as stack:
        sides = []
        for number in range(len(lines)):
            have = lines[1 : number + 1]
            environment = ALL_CORES if "memory" in have else SYSTEM
            sides.append(stack.enter_context(Side(environment, rung, have=have, **options)))
        pair = [] if ON_GPU else [stack.enter_context(Side(STUDY, ours, **options)) for _ in "12"]
        took = []
        for _ in range(repeats):
            row = [side.take(epochs) for side in sides]
            for side in pair:
                side.go(epochs)
            if pair:
                both = np.array([side.heard() for side in pair])
                row.append([both[:, 0].max() / len(pair), both[:, 1].mean()])
            took.append(row)
    took = np.array(took) / (options["images"] * epochs)  # repeats x rungs x (clock, cores)
    seconds_of, cores = took[..., 0], 1000 * np.median(took[..., 1], axis=0)
    book = seconds_of[:, [lines.index(TEXTBOOK)]]
    for number, column in enumerate(seconds_of.T):
        label = MEASURES[lines[number]] if number < len(lines) else PAIR
        print(f"{label:50}{spread(1 / column, '.1f'):26}", end="")
        above = seconds_of[:, number - 1] / column if number else None
        print(f"{'' if above is None else spread(above, '.2f'):22}", end="")
        print(f"{spread(book[:, 0] / column, '.2f'):22}", end="")
        saved = np.median((seconds_of[:, number - 1] - column) / book[:, 0]) if number else None
        print(f"{'' if saved is None else format(saved, '.0%'):>6}{cores[number]:9.2f}", end="")
        side = [*sides, *pair][number]
        print(f"{side.prepared_s:10.2f}" if side.prepared_s else "", flush=True)


def transforms(size: int) -> None:
    """What the textbook does with one image, a line each."""
    cv2.setNumThreads(0)
    files = Png(radiographs(TRANSFORMED), size, cropped(size))
    numbers = range(len(files))
    steps = {
        "decoding the PNG": files.decoded,
        "resizing": files.resized,
        "CLAHE": files.contrasted,
        "turn, crop, mean image": files.moved,
    }
    print(f"\nMicroseconds of one core for one image at {size} px, in the textbook's Dataset")
    inputs = list(numbers)
    for label, step in steps.items():
        took = []
        for _ in range(TRANSFORM_RUNS + 1):
            started = time.process_time()
            made = [step(one) for one in inputs]
            took.append(1e6 * (time.process_time() - started) / len(inputs))
        print(f"  {label:24}{spread(took[1:], '.0f')}", flush=True)
        inputs = made


def overhead(repeats: int) -> None:
    with ExitStack() as stack:
        sides = [stack.enter_context(Side(STUDY, tiny, kind=kind)) for kind in KINDS]
        times = np.array([[side.take() for side in sides] for _ in range(repeats)])
    times = times[..., 0 if ON_GPU else 1]
    times *= 1e6 / TINY_STEPS
    clock = "by the clock" if ON_GPU else "by its core's work"
    print(
        f"\nMicroseconds of a step with one linear layer on {TINY_BATCH} images of {TINY_PX} x "
        f"{TINY_PX}, same batches and optimiser,\none thread, {clock}; an epoch's own costs spread "
        f"over its {TINY_STEPS} steps; median (range) of\n{repeats} epochs in turn"
    )
    print(f"{'':42}{'a step':24}Lightning adds")
    for number, label in enumerate(KINDS.values()):
        column = times[:, number]
        more = spread(column - times[:, 0], ".0f") if number else ""
        print(f"  {label:40}{spread(column, '.0f'):24}{more}".rstrip())


def least_bytes(name: str, side: int, classes: int, batch: int, value: int, **more) -> int:
    """What a training step must move at least; the formula is above."""
    layers = list(architectures.list_layers(name, classes=classes, size=side, **more))
    values = sum(math.prod(layer.shape) for layer in layers)
    weights = sum(layer.parameters for layer in layers)
    return batch * (side**2 + 4 * value * values) + 28 * weights


# By hand: network A on 4 x 4 pixels, pooled, 2 classes. Values: 2 x 20 x 4 x 4 (conv1, conv2),
# 2 x 20 x 2 x 2 (pool1, conv3), 20 (pool2), 20 (mean), 800 (fc1), 2 (scores): 1642. Weights:
# 9 x 20 + 20, 2 (9 x 20 x 20 + 20), 20 x 800 + 800, 800 x 2 + 2: 25842. Of 3 images, in 4 bytes:
# 3 (16 + 4 x 1642 x 4) + 28 x 25842 = 78864 + 723576.
assert least_bytes("A", 4, 2, 3, 4, reading="pooled") == 802_440
assert least_bytes("A", 4, 2, 3, 2, reading="pooled") == 3 * (16 + 4 * 1642 * 2) + 723_576


def bandwidth() -> float:
    """Bytes that the GPU reads and writes in a second when it copies."""
    source = torch.randint(0, 256, (COPIED,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    rates = []
    for _ in range(12):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        rates.append(2 * COPIED / (start.elapsed_time(end) / 1000))
    del source, target
    torch.cuda.empty_cache()
    return float(np.median(rates[2:]))  # the first ones warm up


def share(options: dict, repeats: int, speed: float) -> None:
    """One line of the last table for each precision, plain and compiled."""
    batch, images = options["batch"], options["images"]
    for precision, compiled in product(PRECISIONS, (False, True)):
        with Side(STUDY, ours, **options, precision=precision, compiled=compiled) as side:
            seconds = np.array([side.take()[0] for _ in range(repeats)])
        value = PRECISIONS[precision]
        moved = least_bytes(options["name"], cropped(options["size"]), CLASSES, batch, value)
        steps = seconds * batch / images
        print(f"{options['name']:8}{options['size']:5}  {precision:10}", end="")
        print(f"{'compiled' if compiled else '':10}{images / np.median(seconds):9.0f}", end="")
        print(f"{1000 * np.median(steps):9.2f}{moved / 1e6:10.0f}", end="")
        print(f"  {spread(list(moved / speed / steps), '.0%')}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=["B"], metavar="NETWORK", help="B")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64], metavar="PX", help="64")
    images = 10240 if ON_GPU else 1536
    parser.add_argument("--images", type=int, default=images, help=f"an epoch, {images}")
    batch = 256 if ON_GPU else 64
    parser.add_argument("--batch", type=int, default=batch, help=f"images of a step, {batch}")
    parser.add_argument("--epochs", type=int, default=2, help="of a repeat, 2")
    parser.add_argument("--repeats", type=int, default=3, help="of everything, 3")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="parts to measure")
    asked = parser.parse_args()
    images = asked.images // max(1, asked.batch) * asked.batch  # whole batches
    if min(images, asked.batch, asked.epochs, asked.repeats) < 1:
        parser.error("give one batch of images, one epoch and one repeat at least")
    every = [
        {"name": name, "size": size, "images": images, "batch": asked.batch}
        for name in asked.networks
        for size in asked.sizes
    ]
    try:
        for row in every:
            least_bytes(row["name"], cropped(row["size"]), CLASSES, 1, 4)
    except CbirError as error:
        parser.error(str(error))
    device = torch.cuda.get_device_name() if ON_GPU else f"{os.cpu_count()} CPU cores"
    if "ladder" in asked.only:
        print(
            EXPLANATION.format(
                device=device,
                batch=asked.batch,
                repeats=asked.repeats,
                epochs=asked.epochs,
                images=images,
            )
        )
        for row in every:
            compare(row, asked.repeats, asked.epochs)
    if "transforms" in asked.only:
        for size in asked.sizes:
            transforms(size)
    if "overhead" in asked.only:
        overhead(max(OVERHEAD_REPEATS, asked.repeats))
    if "share" not in asked.only:
        return
    if not ON_GPU:
        print("\nShare of the memory bandwidth: skipped, for there is no GPU.")
        return
    speed = bandwidth()
    print(f"\nShare of the memory bandwidth, {speed / 1e9:.0f} GB/s when copying; ours")
    print(f"{'network':8}{'px':>5}  {'precision':20}{'images/s':>9}{'ms/step':>9}", end="")
    print(f"{'least MB':>10}  share")
    for row in every:
        share(row, asked.repeats, speed)


if __name__ == "__main__":
    main()

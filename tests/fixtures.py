"""Drawings that stand in for the data set: six classes, told apart at sight, from a seed."""

import signal
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from cbir_lib import paths
from cbir_lib.datasets.mednist import CLASSES

SIZE_PX = 64


def heed_ctrl_c() -> None:
    """For ``preexec_fn``: what a shell starts in the background ignores Ctrl-C otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def drawing(label: int, rng: np.random.Generator) -> np.ndarray:
    """(64, 64) uint8: a disc, a ring, bars down or across, a board or a ramp, moved, with noise."""
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX]
    down, right = rng.integers(-4, 5, 2)
    radius = np.hypot(y - SIZE_PX / 2 - down, x - SIZE_PX / 2 - right)
    shape = (
        radius < 16,
        (radius > 16) & (radius < 24),
        (x + right) // 8 % 2 == 0,
        (y + down) // 8 % 2 == 0,
        ((x + right) // 16 + (y + down) // 16) % 2 == 0,
        (x + y + right) / (2 * SIZE_PX),
    )[label]
    grey = 30.0 + 150.0 * shape + rng.normal(0, 8, shape.shape)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def write_mednist(folder: Path, per_class: int, seed: int = 0) -> Path:
    """Write a folder as MedNIST's: six class folders of ``per_class`` grey PNG files each."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            Image.fromarray(drawing(label, rng)).save(folder / name / f"{i:06}.png")
    return folder


def pack(folder: Path, archive: Path) -> Path:
    """Pack the class folders as MedNIST.tar.gz is packed: under one folder named MedNIST."""
    with tarfile.open(archive, "w:gz") as members:
        members.add(folder, "MedNIST")
    return archive


def shipped_network(letter: str) -> str:
    """Return the run of the network of this letter that is part of the project."""
    (file,) = paths.models_folder().glob(f"phantom-{letter}-*.safetensors")
    return file.stem

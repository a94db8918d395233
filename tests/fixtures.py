"""What tests are made of: drawings that stand in for a data set, odd batches, a network.

The drawings are of six classes, told apart at sight, from a seed.
"""

import signal
import tarfile
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pandas as pd
from nbclient import NotebookClient
from PIL import Image

from cbir_lib import paths
from cbir_lib.book.notebooks import DIED, MESSAGE_S, START_S, STARTS
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


def write_drawings(
    folder: Path, count: int, kinds: int = 6, folders: int = 1, seed: int = 0
) -> Path:
    """Write drawings as PNG files, in ``folders`` sub-folders with the same names in each."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        inside = folder / f"{number % folders}" if folders > 1 else folder
        inside.mkdir(parents=True, exist_ok=True)
        name = f"{number // folders:03}.png"
        Image.fromarray(drawing(number % kinds, rng)).save(inside / name)
    return folder


def draw_blobs(
    count: int, height: int, width: int, sigma_px: float = 2.5, seed: int = 0
) -> np.ndarray:
    """(N, H, W) uint8: smooth images with edges, as radiographs are."""
    noise = np.random.default_rng(seed).integers(0, 256, (count, height, width), dtype=np.uint8)
    smooth = [cv2.GaussianBlur(image, (0, 0), sigma_px) for image in noise]
    return np.stack([cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX) for image in smooth])


def draw_edge_cases(side: int = 32) -> dict[str, np.ndarray]:
    """Batches of every kind that a descriptor must take, by name: (N, H, W) uint8."""
    rng = np.random.default_rng(0)
    shapes = {"noise": (5, side, side), "tiny": (2, 8, 8), "wide": (3, 20, 50), "high": (3, 129, 9)}
    flat = {"black": 0, "white": 255}
    return {
        **{name: np.full((2, side, side), grey, np.uint8) for name, grey in flat.items()},
        "constant": np.full((2, 40, 40), 77, np.uint8),
        **{name: rng.integers(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()},
        "one pixel": np.full((1, 1, 1), 9, np.uint8),
    }


def untrained_network(mean_image: np.ndarray, seed: int = 0, **options):
    """Network G as it starts out, for three classes and images as large as the mean image."""
    import torch

    from cbir_lib.images.preprocessing import Preprocessing
    from cbir_lib.networks.modules import TrainedNetwork, build_network

    torch.manual_seed(seed)
    options = {"reading": "flattened", **options}
    return TrainedNetwork(
        name="G",
        options=options,
        class_names=("chest", "skull", "hand"),
        preprocessing=Preprocessing(size=len(mean_image), clahe=False),
        module=build_network("G", mean_image, classes=3, **options).eval(),
    )


def assert_same_set(one, other) -> None:
    """Compare two sets of radiographs: images, labels, records, remarks and checksums."""
    assert np.array_equal(one.images, other.images)
    assert np.array_equal(one.labels, other.labels)
    assert one.class_names == other.class_names
    pd.testing.assert_frame_equal(one.records, other.records)
    pd.testing.assert_frame_equal(one.remarks, other.remarks)
    assert (one.checksum, dict(one.dropped)) == (other.checksum, dict(other.dropped))


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
    """Return the run of a network of this letter that is part of the project."""
    return min(file.stem for file in paths.models_folder().glob(f"phantom-{letter}-*.safetensors"))


def execute_cells(notebook: nbformat.NotebookNode, **settings) -> nbformat.NotebookNode:
    """Execute a notebook, by another kernel if one does not start, also on a busy machine."""
    waits = {"startup_timeout": START_S, "iopub_timeout": MESSAGE_S}
    for _ in range(STARTS):
        try:
            return NotebookClient(notebook, kernel_name="python3", **waits, **settings).execute()
        except RuntimeError as error:
            if DIED not in str(error):
                raise
            died = error
    raise died

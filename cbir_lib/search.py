"""Searching with what a run left: its network or descriptor, and its gallery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cbir_lib import results
from cbir_lib.datasets import RadiographSet, load
from cbir_lib.datasets.decoding import LARGEST_FILE, READ, decode, fit
from cbir_lib.descriptors import Descriptor
from cbir_lib.descriptors.fitted import load_descriptor
from cbir_lib.errors import CbirError, unknown
from cbir_lib.files import project_root, replacing
from cbir_lib.preprocessing import Preprocessing
from cbir_lib.retrieval import Index


def read_image(path: Path) -> np.ndarray:
    """Read one image file, or a pipe, as (H, W) uint8.

    Raises
    ------
    CbirError
        When it is missing, too large or cannot be decoded.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except MemoryError as error:
        raise CbirError(f"cannot read {path}: too little memory", "close other programs") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise CbirError(f"cannot read {path}: {reason}", "name an image file") from error
    image, remark = decode(data)
    if image is None:
        raise CbirError(f"cannot read {path}: {remark}", f"give a {READ} image")
    return image


def search_image(
    image_path: Path, run_id: str, profile: str, k: int, picture: Path
) -> tuple[pd.DataFrame, Path]:
    """Rank the gallery of a run for one image, and draw the ranking.

    Returns
    -------
    DataFrame
        ``rank`` from 1, ``image_id``, ``class``, ``distance``; k rows.
    Path
        The picture, a PNG.

    Raises
    ------
    CbirError
        When the image, the run or its gallery is not there, or k is out of range.
    """
    runs = project_root() / "build" / profile / "runs"
    known = sorted(path.parent.name for path in runs.glob("*/result.json"))
    if not known:
        raise CbirError(
            f"profile {profile!r} has no finished run",
            f"run the study: cbir study --profile {profile}",
        )
    if run_id not in known:
        raise unknown("run", run_id, known)
    image = read_image(image_path)
    result = results.read(runs / run_id / "result.json")
    if "members" in result.parameters:
        raise CbirError(
            f"{run_id} has no gallery of its own",
            f"search with one of its members: {', '.join(result.parameters['members'])}",
        )
    data = load(result.data.dataset)
    image = fit(image, data.images.shape[1])  # as the gallery's images were
    prepared, descriptor = _descriptor_of(runs / run_id, result, image)
    index = Index.load(runs / run_id / "index.safetensors")
    ranking = index.search(descriptor.transform(prepared), k)
    rows = pd.Index(data.image_ids).get_indexer(index.ids[ranking.rows[0]])
    if (rows < 0).any():
        raise CbirError(
            f"the gallery of {run_id} is not from this copy of {data.name}", "run the study again"
        )
    found = pd.DataFrame(
        {
            "rank": range(1, k + 1),
            "image_id": data.image_ids[rows],
            "class": np.array(data.class_names)[data.labels[rows]],
            "distance": ranking.distances[0].round(4),
        }
    )
    _draw(image, data, rows, found, picture)
    return found, picture


def _descriptor_of(
    folder: Path, result: results.Result, image: np.ndarray
) -> tuple[np.ndarray, Descriptor]:
    """The query as the descriptor takes it, (1, H, W) uint8, and the descriptor."""
    if "network" in result.parameters:
        from cbir_lib.descriptors.learned import LearnedDescriptor

        return image[None], LearnedDescriptor.from_file(folder / "model.safetensors")
    preprocessing = Preprocessing(result.parameters["size"], result.parameters["clahe"])
    return preprocessing.transform(image[None]), load_descriptor(folder / "descriptor.safetensors")


def _draw(
    image: np.ndarray, data: RadiographSet, rows: np.ndarray, found: pd.DataFrame, picture: Path
) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    from cbir_lib.figures import show_image

    columns = min(6, len(rows) + 1)
    lines = -(-(len(rows) + 1) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(1.6 * columns, 2 * lines), squeeze=False)
    for place in axes.flat:
        place.axis("off")
    show_image(axes.flat[0], image, "query")
    for place, row, entry in zip(axes.flat[1:], rows, found.itertuples(), strict=False):
        show_image(place, data.images[row], f"{entry.rank}. {entry._3}\n{entry.distance:.3g}")
    with replacing(picture) as part:
        figure.savefig(part, format="png", bbox_inches="tight", dpi=150)
    plt.close(figure)

"""What exercises work on: a few embedded radiographs, and published results, in a second or two."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from cbir_lib import paths
from cbir_lib.datasets import phantom
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.errors import CbirError, unknown_name_error
from cbir_lib.images.perturbations import crop_and_enlarge
from cbir_lib.study import effects, results, scaling
from cbir_lib.study.results import Result

if TYPE_CHECKING:
    from cbir_lib.descriptors.learned import LearnedDescriptor

SHARD = "validation-00000-of-00001.parquet"
PER_CLASS = 20
SIDE_PX = 128


@cache
def load_examples() -> RadiographSet:
    """Load the first 20 simulated radiographs of each class of the validation split.

    The whole data set is decoded once, which takes half a minute; these are ready in a second.
    ``images`` is (100, 128, 128) uint8, read-only, class after class.
    """
    folder = phantom.locate()
    labels = pd.read_csv(folder / "labels.csv", dtype={"image_id": str}, keep_default_na=False)
    labels = labels[labels["split"] == "validation"]
    chosen = pd.concat(
        [labels[labels["class"] == name].head(PER_CLASS) for name in phantom.CLASSES],
        ignore_index=True,
    )
    examples = phantom.decode_set(chosen, phantom.read_shard(folder / SHARD))
    examples.images.setflags(write=False)
    return examples


@cache
def read_published(run: str, profile: str = "full") -> Result:
    """Read a published result, by the name of its run: ``phantom-B-s0``.

    Raises
    ------
    CbirError
        When it is not published.
    """
    folder = paths.results_folder(profile)
    known = sorted(path.stem for path in folder.glob("*.json"))
    if not known:
        raise CbirError(f"no result is published in {folder}", "get it again: git checkout results")
    if run not in known:
        raise unknown_name_error("published run", run, known)
    return results.read(folder / f"{run}.json")


@cache
def read_published_films() -> effects.Effects:
    """Read the published search with real films: :mod:`cbir_lib.study.real`."""
    return effects.read(effects.published_path("real", "mednist"))


@cache
def load_shipped_network(layer: str | None = None) -> LearnedDescriptor:
    """Load the smallest network that the project ships, as a descriptor.

    ``layer`` as for :class:`cbir_lib.descriptors.learned.LearnedDescriptor`; ``scores`` gives one
    score per class.

    Raises
    ------
    CbirError
        When the project ships none.
    """
    files = paths.shipped_networks().values()
    if not files:
        raise CbirError(
            f"no network in {paths.models_folder()}", "get them again: git checkout models"
        )
    from cbir_lib.descriptors.learned import LearnedDescriptor

    return LearnedDescriptor.from_file(min(files, key=lambda file: file.stat().st_size), layer)


def plant_copies() -> tuple[np.ndarray, np.ndarray]:
    """Return training and test images, (N, 128, 128) uint8 each, with planted copies.

    Some test images are altered copies of training images; the others are of other subjects.
    """
    images, subjects = load_examples().images, load_examples().records["subject_id"].to_numpy()
    rng = np.random.default_rng(7)
    rows = rng.permutation(len(images))
    train = rows[:60]
    others = [row for row in rows[60:] if subjects[row] not in set(subjects[train])]
    test = images[others]
    places = rng.permutation(len(test))[: len(COPIED)]
    originals = rng.permutation(60)[: len(COPIED)]
    for place, original, how in zip(places, originals, COPIED, strict=True):
        test[place] = alter_image(images[train[original]], how)
    return images[train], test


COPIED = ("brighter", "JPEG", "brighter", "same")


def alter_image(image: np.ndarray, how: str) -> np.ndarray:
    """Return an altered copy of a (128, 128) uint8 image.

    ``how`` is ``same``, ``brighter`` (by 10 grey values), ``JPEG`` (of quality 60), ``mirrored``,
    ``turned`` (by 90 degrees), or ``cropped`` (by 6 pixels at each side, and enlarged).
    """
    if how == "same":
        return image.copy()
    if how == "brighter":
        return np.clip(image.astype(int) + 10, 0, 255).astype(np.uint8)
    if how == "JPEG":
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])
        return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    if how == "mirrored":
        return image[:, ::-1].copy()
    if how == "turned":
        return np.rot90(image).copy()
    if how == "cropped":
        return crop_and_enlarge(image[None], 1 - 12 / SIDE_PX)[0]
    known = ("same", "brighter", "JPEG", "mirrored", "turned", "cropped")
    raise unknown_name_error("alteration", how, known)


@cache
def read_published_effects(name: str) -> effects.Effects:
    """Read published effects of the profile ``quick``: ``representation`` or ``robustness``."""
    return effects.read(effects.published_path("quick", name))


@cache
def read_published_scaling() -> scaling.Scaling:
    """Read the published measurements of search cost versus gallery size."""
    return scaling.read(paths.results_folder("scale") / "scale.json")


def tamper_with_accuracy() -> Result:
    """Return the published result of the grey histogram with one rule's accuracy changed."""
    result = read_published("phantom-grey-histogram")
    rules, place = list(result.rules), len(result.rules) // 2
    changed = round(rules[place].accuracy + 0.012, 4)
    rules[place] = rules[place].model_copy(update={"accuracy": changed})
    return result.model_copy(update={"rules": rules})


def draw_stripes(period_px: float, degrees: float = 0) -> np.ndarray:
    """Draw stripes, (128, 128) uint8: bright and dark bars, upright at 0 degrees.

    At 90 degrees they lie flat: grey values then change from top to bottom.
    """
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    angle = np.deg2rad(degrees)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    return np.rint(127.5 + 100 * np.cos(2 * np.pi * along / period_px)).astype(np.uint8)


def shuffle_pixels(image: np.ndarray, cells: int = 1) -> np.ndarray:
    """Shuffle the pixels of a (128, 128) uint8 image within each of ``cells`` x ``cells`` cells."""
    rng = np.random.default_rng(0)
    side = SIDE_PX // cells
    blocks = image.reshape(cells, side, cells, side).transpose(0, 2, 1, 3).reshape(-1, side * side)
    shuffled = rng.permuted(blocks, axis=1).reshape(cells, cells, side, side)
    return shuffled.transpose(0, 2, 1, 3).reshape(SIDE_PX, SIDE_PX)

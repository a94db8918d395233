"""Data sets by name: one module per source, each with ``load``, ``locate`` and ``fetch``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from cbir_lib.datasets import folder, fracatlas, irma, mednist, phantom
from cbir_lib.datasets.radiographs import SPLITS, RadiographSet
from cbir_lib.errors import CbirError, check_integer, unknown_name_error
from cbir_lib.images.grey import SMALLEST_PX

SOURCES: dict[str, ModuleType] = {
    "phantom": phantom,
    "mednist": mednist,
    "irma": irma,
    "fracatlas": fracatlas,
    "folder": folder,
}

LARGEST_SIDE = 2048  # px, of the squares that images are fitted to

__all__ = ["SOURCES", "SPLITS", "RadiographSet", "get_source", "load", "load_images"]


def get_source(name: str) -> ModuleType:
    """Return the module of a data set.

    Raises
    ------
    CbirError
        When there is no data set of that name.
    """
    if name not in SOURCES:
        raise unknown_name_error("data set", name, SOURCES)
    return SOURCES[name]


def load(name: str, root: Path | str | None = None, **options) -> RadiographSet:
    """Load a data set by name, from ``root`` or from its usual place.

    ``options`` are passed to the source's own ``load``: ``size`` in pixels, for sets whose images
    differ in size.

    Raises
    ------
    CbirError
        When there is no such set, it is not there or faulty, or the size is out of range.
    """
    if "size" in options:
        check_integer("size", options["size"], SMALLEST_PX, LARGEST_SIDE)
    return get_source(name).load(root, **options)


def load_images(name: str, image_ids: Collection[str]) -> dict[str, np.ndarray]:
    """Load single images of a data set for display, by identifier; empty where it is not there."""
    try:
        data = load(name)
    except CbirError:
        return {}
    wanted = sorted(set(image_ids))
    rows = pd.Index(data.image_ids).get_indexer(wanted)
    if (rows < 0).any():  # another copy of the data
        return {}
    return dict(zip(wanted, data.images[rows], strict=True))

"""Descriptors: from images to vectors. One file a family; the caller cannot tell them apart."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np

from cbir_lib.descriptors.histogram import GreyHistogram
from cbir_lib.errors import unknown


class Descriptor(Protocol):
    """What every descriptor, handcrafted or learned, can do.

    Settings go to the constructor; ``fit`` learns from training images only, where there is
    anything to learn. ``distance`` is the distance the descriptor is meant for.
    """

    distance: str

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> Self:
        """Learn from (N, H, W) uint8 images."""

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 → (N, D) float32."""


DESCRIPTORS: dict[str, type] = {"grey-histogram": GreyHistogram}


def build_descriptor(name: str, **parameters) -> Descriptor:
    """A handcrafted descriptor by name. Its ``fit`` and ``transform`` check the parameters' ranges.

    Raises
    ------
    CbirError
        When the name or a parameter is unknown.
    """
    if name not in DESCRIPTORS:
        raise unknown("descriptor", name, DESCRIPTORS)
    known = DESCRIPTORS[name]().get_params()
    for parameter in parameters:
        if parameter not in known:
            raise unknown(f"parameter of {name}", parameter, known)
    return DESCRIPTORS[name](**parameters)


__all__ = ["DESCRIPTORS", "Descriptor", "GreyHistogram", "build_descriptor"]

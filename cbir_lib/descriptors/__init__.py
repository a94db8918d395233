"""Descriptors: from images to vectors. One file a family; the caller cannot tell them apart."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple, Protocol, Self

import numpy as np

from cbir_lib.errors import unknown_name_error


class Descriptor(Protocol):
    """What every descriptor, handcrafted or learned, can do.

    Settings go to the constructor; ``fit`` learns from training images only, where there is
    anything to learn. ``distance`` is the distance the descriptor is meant for.
    """

    distance: str

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> Self:
        """Learn from (N, H, W) uint8 images."""

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 images as (N, D) float32."""


class Entry(NamedTuple):
    """A descriptor of the table: where its class is, what tables call it, what it can be told."""

    title: str
    module: str
    name: str
    parameters: str = ""  # their names, so that a study is checked without loading the class
    pretrained: bool = False  # else handcrafted

    def load(self) -> type:
        """Load the class when it is asked for: all need scikit-learn, most torch."""
        return getattr(import_module(f"cbir_lib.descriptors.{self.module}"), self.name)


COMBINATION = "Combination"  # what tables call a weighted sum of several descriptors' distances
LOCAL = "features words step_px patch_px components sample seed"
DESCRIPTORS = {
    "grey-histogram": Entry("Grey histogram", "histogram", "GreyHistogram", "bins grid"),
    "tamura-histogram": Entry(
        "Tamura histogram", "tamura", "TamuraHistogram", "bins scales contrast_px"
    ),
    "gabor-vector": Entry(
        "Gabor vector", "gabor", "GaborVector", "bank orientations scales scaled"
    ),
    "gabor-histogram": Entry(
        "Gabor histogram", "gabor", "GaborHistogram", "bank orientations scales bins"
    ),
    "fourier-mellin": Entry("Fourier-Mellin", "fourier_mellin", "FourierMellin", "angular radial"),
    "bag-of-words": Entry("Bag of visual words", "local", "BagOfWords", LOCAL),
    "vlad": Entry("VLAD", "local", "VLAD", LOCAL),
    "lbp": Entry(
        "Local binary patterns",
        "lbp",
        "LBPHistogram",
        "neighbours radius_px rotation_invariant grid",
    ),
    "hog": Entry("Oriented gradients (HOG)", "hog", "HOG", "size orientations cell_px block_cells"),
    "haralick": Entry("Haralick features", "haralick", "Haralick", "levels offset_px scaled"),
    "thumbnail": Entry("Thumbnail", "thumbnail", "Thumbnail", "size"),
    "thumbnail-distortion": Entry(
        "Thumbnail, distorted", "thumbnail", "DistortedThumbnail", "size"
    ),
    "radon-barcode": Entry("Radon barcode", "radon", "RadonBarcode", "size angles"),
    "zernike": Entry("Zernike moments", "zernike", "ZernikeMoments", "order"),
    "pretrained": Entry(
        *("Pretrained features", "pretrained", "PretrainedFeatures"),
        "layer size pooling precision",
        pretrained=True,
    ),
}


HUB = "hf:"  # what the name of a model of Hugging Face begins with


def is_descriptor(name: str) -> bool:
    """Return whether :func:`build_descriptor` takes this name."""
    return name in DESCRIPTORS or name.startswith(HUB)


def needs_weights(name: str) -> bool:
    """Return whether a descriptor of this name reads the weights of a network trained elsewhere."""
    return name.startswith(HUB) or (name in DESCRIPTORS and DESCRIPTORS[name].pretrained)


def build_descriptor(name: str, **parameters) -> Descriptor:
    """Build a descriptor by name.

    ``name`` is one of :data:`DESCRIPTORS`, or a model of Hugging Face: ``hf:owner/name``
    (:class:`cbir_lib.descriptors.hub.HubFeatures`).

    Raises
    ------
    CbirError
        When the name or a parameter is unknown, or a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((2, 64, 64), np.uint8)
    >>> build_descriptor("grey-histogram", bins=16).fit_transform(images).shape
    (2, 16)
    """
    if not is_descriptor(name):
        raise unknown_name_error("descriptor", name, DESCRIPTORS)
    if name.startswith(HUB):
        descriptor = Entry(name, "hub", "HubFeatures").load()
        parameters = {"model": name.removeprefix(HUB)} | parameters
    else:
        descriptor = DESCRIPTORS[name].load()
    known = descriptor().get_params()
    for parameter in parameters:
        if parameter not in known:
            raise unknown_name_error(f"parameter of {name}", parameter, known)
    built = descriptor(**parameters)
    built.check()
    return built


__all__ = [
    "COMBINATION",
    "DESCRIPTORS",
    "Descriptor",
    "build_descriptor",
    "is_descriptor",
    "needs_weights",
]

"""One image of each region, for chapters that show what a method makes of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cbir_lib.datasets import get_source, load, load_images
from cbir_lib.errors import CbirError
from cbir_lib.evaluation import protocol
from cbir_lib.sampling import space_evenly
from cbir_lib.study.results import Example, Result


@dataclass(frozen=True)
class RegionImages:
    """One image of each region of the body.

    Attributes
    ----------
    images
        (R, H, W) uint8, as they are stored.
    regions
        The name of the region of each.
    examples
        The examples of the result that they are queries of; empty if they are not.
    caption
        Says in a sentence which images these are.
    """

    images: np.ndarray
    regions: list[str]
    examples: list[Example]
    caption: str


def load_region_images(result: Result) -> RegionImages:
    """Load the query of median average precision of each region from a method's result.

    If the data set is not on this machine, the first test image of each region of the phantom
    takes its place, so that a chapter can be executed everywhere; the caption says so.
    """
    dataset = get_source(result.data.dataset)
    examples = [example for example in result.examples if example.choice == "median"]
    images = load_images(result.data.dataset, {example.query for example in examples})
    if images:
        return RegionImages(
            np.stack([images[example.query] for example in examples]),
            [result.data.class_names[example.label] for example in examples],
            examples,
            f"One image of each region from {dataset.CAPTION}: the query of median average "
            "precision",
        )
    test = load("phantom").split("test")
    rows = [int(np.flatnonzero(test.labels == k)[0]) for k in range(len(test.class_names))]
    return RegionImages(
        test.images[rows],
        list(test.class_names),
        [],
        f"The first test image of each region from {get_source('phantom').CAPTION}, because the "
        f"images of {dataset.TITLE} are not on this machine",
    )


def load_embedded_images(result: Result) -> np.ndarray:
    """Load the test images that a result's map shows, in its order.

    Returns
    -------
    (P, H, W) uint8
        None of them (P = 0) if the data set is not on this machine, or is another copy of it.
    """
    nothing = np.empty((0, 1, 1), np.uint8)
    p = result.parameters
    try:
        data = load(p["dataset"]).select_classes(p.get("classes") or [])
    except CbirError:
        return nothing
    test = data.sample(p["images"], p["sample_seed"]).split("test")
    if test.labels.tolist() != result.data.test_labels:
        return nothing
    return test.images[space_evenly(len(test), protocol.PLOTTED)]

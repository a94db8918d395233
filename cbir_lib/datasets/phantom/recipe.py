"""Which images the phantom set has, and how each is drawn from the seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cbir_lib.datasets.phantom.contents import COUNT, compute_split_sizes

VERSION = "1.0"  # of the images; any change of a pixel is another version
SEED, SIZE_PX = 2009, 128
IMAGES_PER_SUBJECT = 8

# Columns of an exposure that labels.csv keeps, so that results can be asked by difficulty.
RECORDED_SETTINGS = (
    "rotation_deg",
    "field",
    "photons",
    "scatter",
    "blur_px",
    "gamma",
    "darkness",
    "collimation",
)


class PlannedImage(NamedTuple):
    """An image to be drawn."""

    image_id: str
    split: str
    view: int  # row in VIEWS
    subject_id: str


def plan_images(count: int = COUNT, seed: int = SEED) -> list[PlannedImage]:
    """Plan what will be drawn, in an order that says nothing about the class.

    Classes are in IRMA's proportions, which differ between train and test; a subject belongs to
    one split.
    """
    from cbir_lib.datasets.phantom.views import VIEWS

    rng = np.random.default_rng([seed, 0])
    sizes = compute_split_sizes(count)
    planned, first = [], 0  # first subject of the split
    for split, classes in sizes.items():
        subjects = max(1, round(sum(classes.values()) / IMAGES_PER_SUBJECT))
        for name, number in classes.items():
            kinds = [i for i, view in enumerate(VIEWS) if view.region == name]
            weights = np.array([VIEWS[i].weight for i in kinds])
            for kind in rng.choice(kinds, number, p=weights / weights.sum()):
                planned.append((split, int(kind), first + int(rng.integers(subjects))))
        first += subjects
    order = rng.permutation(len(planned))
    return [
        PlannedImage(f"p{i:05d}", planned[j][0], planned[j][1], f"s{planned[j][2]:04d}")
        for i, j in enumerate(order)
    ]


@lru_cache(maxsize=4096)
def _draw_subject(seed: int, subject_id: str):
    from cbir_lib.datasets.phantom.parameters import Subject

    return Subject.draw(np.random.default_rng([seed, 1, int(subject_id[1:])]))


def draw_scene(planned: PlannedImage, seed: int = SEED):
    """Draw the ``Scene`` of one entry of the plan; also return the generator of all the rest."""
    from cbir_lib.datasets.phantom.render import Scene
    from cbir_lib.datasets.phantom.views import VIEWS

    of_scene, of_image = np.random.default_rng([seed, 2, int(planned.image_id[1:])]).spawn(2)
    subject = _draw_subject(seed, planned.subject_id)
    return Scene.draw(subject, VIEWS[planned.view], of_scene), of_image


def draw_image(
    planned: PlannedImage, seed: int = SEED, size: int = SIZE_PX, changes: Sequence[str] = ()
) -> tuple[np.ndarray, dict]:
    """Draw the image of one entry of the plan, (H, W) uint8, and its record.

    It depends on the seed and the entry alone, not on what was drawn before. ``changes`` are those
    of :mod:`cbir_lib.datasets.phantom.changes`.
    """
    from cbir_lib.datasets.phantom.changes import change_scene
    from cbir_lib.datasets.phantom.render import render

    shown, of_image = draw_scene(planned, seed)
    shown, view = change_scene(shown, changes), shown.view
    grey = render(shown, size, of_image, changes).grey
    exposure = asdict(shown.exposure)
    record = {
        "image_id": planned.image_id,
        "split": planned.split,
        "class": view.region,
        "irma_code": view.code(shown.left),
        "subject_id": planned.subject_id,
        "view": view.name,
        "side": ("left" if shown.left else "right") if view.sided else "",
        "width_px": grey.shape[1],
        "height_px": grey.shape[0],
        "seed": seed,
        "quarter_turns": shown.quarter_turns,
        "inverted": shown.inverted,
        "metal": shown.implant is not None,
        "marked": shown.marked,
        **{name: round(exposure[name], 4) for name in RECORDED_SETTINGS},
    }
    return grey, record

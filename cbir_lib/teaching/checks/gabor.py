"""Exercises on Gabor filters."""

from __future__ import annotations

import numpy as np

from cbir_lib.descriptors.gabor import GaborVector, compute_response_maps
from cbir_lib.teaching.answers import Array, Expected
from cbir_lib.teaching.material import draw_stripes, load_examples

BANKS = {"octaves": (5, 3), "manjunath-ma": (6, 4)}  # orientations, scales


def find_strongest_filter() -> tuple[Expected, ...]:
    """Find the scale and the orientation that answer most to stripes, upright and turned."""
    strongest = {}
    for degrees in (0, 60):
        stripes = draw_stripes(10, degrees)[None]
        rows = []
        for bank, (orientations, scales) in BANKS.items():
            (answers,) = compute_response_maps(stripes, bank, orientations, scales).mean(
                axis=(3, 4)
            )
            rows.append(np.unravel_index(answers.argmax(), answers.shape))
        strongest[degrees] = np.array(rows)
    hint = (
        "One row per bank: scale and orientation of the largest mean of the responses over the "
        "image. An orientation is 180 degrees divided by their number."
    )
    return (Array("upright", strongest[0], hint), Array("turned", strongest[60], hint))


def halve_grey_values() -> tuple[Expected, ...]:
    """Compute what halved grey values do to the vectors of the two banks."""
    images = load_examples().images[::10]
    ratios = []
    for bank in BANKS:
        descriptor = GaborVector(bank, scaled=False).fit(images)
        ratios.append(np.median(descriptor.transform(images // 2) / descriptor.transform(images)))
    return (
        Array(
            "ratios",
            ratios,
            "Divide the vectors of the halved images by those of the images, value by value, and "
            "take the median. One of the banks scales each map to its own range.",
            tolerance=0.02,
        ),
    )


def mirror_image() -> tuple[Expected, ...]:
    """Find which orientations change places when an image is mirrored."""
    image = load_examples().images[:1]
    orientations, scales = BANKS["manjunath-ma"]
    descriptor = GaborVector("manjunath-ma", orientations, scales, scaled=False)
    here, there = (
        descriptor.transform(np.ascontiguousarray(picture)).reshape(scales, orientations, 2)
        for picture in (image, image[:, :, ::-1])
    )
    gaps = np.abs(here[:, :, None] - there[:, None]).sum(axis=(0, 3))
    return (
        Array(
            "partner",
            gaps.argmin(axis=0),
            "partner[p] is the orientation of the image whose values the mirrored image has at p. "
            "A mirror turns the angle a into 180 degrees - a.",
        ),
    )


EXERCISES = (find_strongest_filter, halve_grey_values, mirror_image)

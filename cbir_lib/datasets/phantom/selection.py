"""Parts of the embedded phantom, by what its records say of each image."""

from __future__ import annotations

import numpy as np

from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.errors import unknown_name_error
from cbir_lib.sampling import space_evenly


def select_upright(data: RadiographSet) -> RadiographSet:
    """Select the images that are upright, not inverted, and without a collimator's border."""
    records = data.records
    plain = (
        (records["quarter_turns"] == 0)
        & ~records["inverted"].astype(bool)
        & (records["collimation"] < 0)
    )
    return data.take(np.flatnonzero(plain))


def select_view(data: RadiographSet, view: str) -> RadiographSet:
    """Select the images of one view, by its name.

    Raises
    ------
    CbirError
        When no image is of such a view.
    """
    views = data.records["view"]
    if view not in set(views):
        raise unknown_name_error("view", view, sorted(set(views)))
    return data.take(np.flatnonzero(views == view))


def select_examples(data: RadiographSet, region: str, number: int) -> RadiographSet:
    """Select images of a region from different views, evenly spaced among two of each.

    The first two of each view, view by view.

    Parameters
    ----------
    region
        One of the set's classes.
    number
        How many; fewer if there are not as many.
    """
    of_region = data.select_classes([region])
    by_view = of_region.records.groupby("view", sort=False)
    first_two = np.concatenate([rows[:2] for rows in by_view.indices.values()])
    return of_region.take(first_two[space_evenly(len(first_two), number)])

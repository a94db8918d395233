"""Groups of phantom images by the settings that they were rendered with."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cbir_lib.datasets.radiographs import RadiographSet

BRIGHT = 180  # grey values above are those of a white border
QUARTILES = {  # settings that are numbers, by their column
    "rotated in the plane (°)": "rotation_deg",
    "size of the field (of the view's)": "field",
    "photons in a pixel": "photons",
    "scattered over primary": "scatter",
    "blur (px of 128)": "blur_px",
    "contrast (slope of the film curve)": "gamma",
    "off exposure (decades)": "darkness",
}
FLAGS = {
    "rotated by 90, 180 or 270°": "quarter_turns",
    "inverted": "inverted",
    "with metal": "metal",
    "with a letter": "marked",
}
Groups = dict[str, np.ndarray]  # (N,) bool by name


def find_rim(records: pd.DataFrame, side_px: int) -> np.ndarray:
    """Return which pixels are the outermost of the film, (N, S, S) bool, S = ``side_px``.

    A film lies in the middle of its square.
    """
    depths = []  # rows, then columns: (N, S) pixels from the edge of the film, negative outside
    for name in ("height_px", "width_px"):
        length = records[name].to_numpy(int)[:, None]
        place = np.arange(side_px) - (side_px - length) // 2
        depths.append(np.minimum(place, length - 1 - place))
    return np.minimum(depths[0][:, :, None], depths[1][:, None, :]) == 0


def group_by_margin(data: RadiographSet) -> Groups:
    """Group images by the margin outside the collimator: ``none``, ``black`` or ``white``.

    The records do not say which of the two a margin is, but the film does: most of its outermost
    pixels are of that grey. An inverted film shows the black of a white margin.
    """
    rim = find_rim(data.records, data.images.shape[-1])
    bright = np.where(rim, data.images > BRIGHT, False).sum((1, 2)) > 0.5 * rim.sum((1, 2))
    collimated = data.records["collimation"].to_numpy() > 0
    white = collimated & bright & ~data.records["inverted"].to_numpy(bool)
    return {"none": ~collimated, "black": collimated & ~white, "white": white}


def group_by_quartile(values: pd.Series) -> Groups:
    """Group values into quartiles, each named by its largest value, in two digits."""
    cut = pd.qcut(values, 4, duplicates="drop")
    return {
        f"to {float(f'{interval.right:.2g}'):g}": (cut == interval).to_numpy()
        for interval in cut.cat.categories
    }


def group_by_settings(data: RadiographSet) -> dict[str, Groups]:
    """Group images by each of their settings: margin, flags, and quartiles of numbers.

    Angles and exposure count by their distance from 0.
    """
    records = data.records
    groups = {"margin outside the collimator": group_by_margin(data)}
    for name, column in FLAGS.items():
        flag = records[column].to_numpy() != 0
        groups[name] = {"no": ~flag, "yes": flag}
    for name, column in QUARTILES.items():
        values = records[column]
        signed = column in ("rotation_deg", "darkness")
        groups[name] = group_by_quartile(values.abs() if signed else values)
    return groups

"""What another version of the phantom could change: the cheapest of what separates it from films.

Each is drawn on request (``cbir phantom render --change``) and measured against real films
(``cbir effects gap --phantom``). Version 1, the embedded set, has none of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from cbir_lib.errors import CbirError, first_line, unknown_name_error

CHANGES = {
    "close": "the field of view closer to the body, which lies straighter in its middle",
    "window": "the display window of a viewer: mid-tones brighter, the brightest parts white",
    "sharpen": "edges enhanced, as digital systems do",
}
FIELD, OFF_CENTRE = 0.85, 0.5  # factors of the drawn size of the field, and of shift and rotation
WHITE = 0.05  # of the pixels; films of chests and hands have 0.09 and 0.04 (`cbir effects gap`)
MID_TONES = 0.7  # exponent
EDGES, EDGE_PX = 0.7, 1.5  # weight of what a Gaussian blur of so many pixels takes away


def check_changes(changes: Sequence[str]) -> tuple[str, ...]:
    """Return the changes in the order of ``CHANGES``, each once.

    Raises
    ------
    CbirError
        When there is no such change, or one is named twice.
    """
    for name in changes:
        if name not in CHANGES:
            raise unknown_name_error("change of the phantom", name, CHANGES)
    if len(set(changes)) < len(changes):
        raise CbirError(f"a change is named twice: {', '.join(changes)}", "name each once")
    return tuple(name for name in CHANGES if name in changes)


def read_changes(folder: Path | str) -> list[str]:
    """Read which changes a set was drawn with.

    Raises
    ------
    CbirError
        When the folder has no readable recipe.
    """
    try:
        recipe = json.loads((Path(folder) / "recipe.json").read_text(encoding="utf-8"))
        return [*check_changes(recipe.get("changes", []))]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CbirError(
            f"{folder} has no recipe of a phantom: {first_line(error)}",
            "draw it: cbir phantom render --out FOLDER",
        ) from error


def change_scene(scene, changes: Sequence[str]):
    """Return the ``Scene`` as it is drawn with these changes."""
    if "close" not in changes:
        return scene
    drawn = scene.exposure
    exposure = replace(
        drawn,
        field=FIELD * drawn.field,
        shift_x=OFF_CENTRE * drawn.shift_x,
        shift_y=OFF_CENTRE * drawn.shift_y,
        rotation_deg=OFF_CENTRE * drawn.rotation_deg,
    )
    return replace(scene, exposure=exposure)


def change_film(grey: np.ndarray, opening: np.ndarray, changes: Sequence[str]) -> np.ndarray:
    """Return a film of bright bones as it is displayed with these changes.

    Parameters
    ----------
    grey : (H, W) uint8
    opening : (H, W)
        Collimator: 1 open, 0 closed.
    """
    values = grey.astype(np.float32)
    if "window" in changes:
        brightest = np.quantile(values[opening > 0.5], 1 - WHITE) if (opening > 0.5).any() else 255
        values = 255 * np.minimum(values / max(float(brightest), 1.0), 1) ** MID_TONES
    if "sharpen" in changes:
        values += EDGES * (values - cv2.GaussianBlur(values, (0, 0), EDGE_PX))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)

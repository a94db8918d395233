"""The same anatomy rendered with one parameter low, in the middle and high; and step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cbir_lib.datasets.phantom.exposure import compute_primary
from cbir_lib.datasets.phantom.parameters import Exposure
from cbir_lib.datasets.phantom.render import Scene, render, trace_paths
from cbir_lib.datasets.phantom.views import VIEWS
from cbir_lib.errors import unknown_name_error


def get_scene(view: str) -> Scene:
    """Return the scene of a view by its name, with everything in the middle of its range.

    Raises
    ------
    CbirError
        When there is no such view.
    """
    views = {row.name: row for row in VIEWS}
    if view not in views:
        raise unknown_name_error("view", view, views)
    return Scene.middle(views[view])


def render_series(
    view: str,
    parameter: str,
    places: Sequence[float] = (0.0, 0.5, 1.0),
    *,
    size: int = 128,
    seed: int = 5,
    **fixed: float,
) -> dict[float, np.ndarray]:
    """Render one view of one subject, with a parameter of the exposure at several values.

    Parameters
    ----------
    view
        Its name, such as ``knee, frontal``.
    parameter
        A field of :class:`cbir_lib.datasets.phantom.parameters.Exposure`.
    places
        In the range of the parameter, from 0 (lowest) to 1 (highest).
    size
        Longer side in pixels.
    fixed
        Values of other parameters of the exposure.

    Returns
    -------
    dict
        (H, W) uint8 by the value of the parameter. Noise, gas and vessels are the same in all.

    Raises
    ------
    CbirError
        When there is no such view or parameter, or the extra ``phantom`` is not installed.
    """
    for name in (parameter, *fixed):
        if name not in Exposure.__dataclass_fields__:
            raise unknown_name_error(
                "parameter of the exposure", name, Exposure.__dataclass_fields__
            )
    scene = get_scene(view)
    series = {}
    for place in places:
        value = Exposure.at(parameter, place)
        exposure = scene.exposure.with_(**fixed, **{parameter: value})
        film = render(replace(scene, exposure=exposure), size, np.random.default_rng(seed))
        series[value] = film.grey
    return series


def render_steps(scene: Scene, size: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Render a radiograph step by step.

    Returns
    -------
    dict
        By name, in order, (H, W): lengths through bone and through soft tissue, and the exposure
        as the negative natural logarithm of the share of the beam that is left, all float64 and 0
        or more; then the film, uint8.
    """
    inside = np.random.default_rng(seed).spawn(3)[0]  # the generator that `render` uses for paths
    paths, _ = trace_paths(scene, size, inside)
    energy = float(np.clip(scene.view.energy + scene.exposure.energy, 0, 1))
    exposure = -np.log(np.maximum(compute_primary(paths, energy), 1e-9))
    return {
        "bone (length)": paths.bone,
        "soft tissue (length)": paths.soft + paths.fat,
        "exposure (log)": exposure,
        "film": render(scene, size, np.random.default_rng(seed)).grey,
    }

"""Re-rendered queries of the phantom: the same anatomy, a different exposure.

Changing the pixels of an image only imitates another exposure. The phantom's renderer repeats the
exposure of the same subject in the same pose with fewer photons, a rotated film, or a smaller
field: before scatter, noise and the film's curve. Where the pixels can be changed in the same way,
both are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cbir_lib import paths
from cbir_lib.datasets import load
from cbir_lib.datasets.phantom import recipe
from cbir_lib.datasets.phantom.parameters import require_packages
from cbir_lib.errors import CbirError
from cbir_lib.images.decoding import decode, fit_to_square
from cbir_lib.images.perturbations import perturb
from cbir_lib.networks.modules import read_network
from cbir_lib.sampling import space_evenly
from cbir_lib.study import effects, results, robustness
from cbir_lib.study.config import Redrawn, name_network
from cbir_lib.study.effects import Effect, Search
from cbir_lib.study.robustness import Method
from cbir_lib.study.transfer import choose_first_settings

# The exposure parameter that a level changes, how the level changes it, and the neutral level.
EXPOSURES: dict[str, tuple[str, Callable[[float, float], float], float]] = {
    "photons": ("photons", lambda own, level: own * level, 1.0),
    "rotation": ("rotation_deg", lambda own, level: own + level, 0.0),
    "field": ("field", lambda own, level: own * level, 1.0),
}
PIXEL_CHANGES = {"rotation": "rotation", "field": "crop"}  # the corresponding change of pixels


def measure(
    plan: Redrawn,
    grids: Mapping[str, Mapping[str, list]],
    say: Callable[[str], None] = lambda line: None,
) -> effects.Effects:
    """Search with re-rendered queries, and with the same queries changed pixel by pixel.

    ``settings["changed"]`` is ``exposure`` or ``pixels``. The reference is the unchanged image.
    Plan and grids are ``grid.effects.redrawn`` and ``grid.descriptors`` of the study.

    Raises
    ------
    CbirError
        When the packages for rendering are missing, or a network is not in ``models/``.
    """
    require_packages()
    clock = time.perf_counter()
    data = load("phantom").sample(plan.images.model_dump(), 0)
    gallery, test = data.split("train"), data.split("test")
    rows = space_evenly(len(test), plan.queries)
    queries = test.take(rows)
    search = Search.from_sets(queries, gallery)
    methods = [
        robustness.make_network_method(_name(run), read_network(_find(run)), gallery.images)
        for run in plan.networks
    ]
    methods += [
        robustness.fit_descriptor_method(
            name, choose_first_settings(grids[name]), gallery.images, plan.size
        )
        for name in plan.descriptors
    ]
    plain = {method.name: search.score(method.distances(queries.images)) for method in methods}
    measured = []
    for name in EXPOSURES:
        for level in getattr(plan, name):
            say(f"{name} {level:g}")
            pictures = {"exposure": rerender(queries.image_ids, name, level)}
            if name in PIXEL_CHANGES:
                pictures["pixels"] = perturb(queries.images, PIXEL_CHANGES[name], level)
            for kind, images in pictures.items():
                measured += measure_queries(methods, images, search, plain, name, level, kind)
    return effects.Effects(
        name="redrawn",
        parameters=plan.model_dump(),
        data=[results.describe_data(data)],
        effects=measured,
        circumstances=results.record_circumstances({"measuring": time.perf_counter() - clock}),
    )


def measure_queries(
    methods: list[Method],
    images: np.ndarray,
    search: Search,
    plain: Mapping[str, np.ndarray],
    name: str,
    level: float,
    kind: str,
) -> list[Effect]:
    """Measure each method on queries changed in one way; one row per method."""
    return [
        search.build_effect(
            search.score(method.distances(images)),
            plain[method.name],
            factor=name,
            level=level,
            method=method.name,
            settings={"changed": kind},
        )
        for method in methods
    ]


def rerender(image_ids: np.ndarray, name: str, level: float) -> np.ndarray:
    """Re-render images of the embedded set with one parameter changed: (N, 128, 128) uint8.

    Subject, pose, inner parts and marker stay the same, and so do the random numbers of the noise
    as long as the image keeps its shape. At the neutral level the images are those of the set.
    """
    from cbir_lib.datasets.phantom.generation import encode_jpeg
    from cbir_lib.datasets.phantom.render import render

    parameter, change, _ = EXPOSURES[name]
    plan, pictures = recipe.plan_images(), []
    for image_id in image_ids:
        scene, rng = recipe.draw_scene(plan[int(image_id[1:])])
        own = getattr(scene.exposure, parameter)
        exposure = scene.exposure.with_(**{parameter: change(own, level)})
        grey = render(replace(scene, exposure=exposure), recipe.SIZE_PX, rng).grey
        pictures.append(fit_to_square(decode(encode_jpeg(grey)).image, recipe.SIZE_PX))
    return np.stack(pictures)


def _find(run: str) -> Path:
    """Find a network in ``models/`` only: one trained here may be of another profile."""
    shipped = paths.shipped_networks()
    if run not in shipped:
        raise CbirError(
            f"no network of {run} in {paths.models_folder()}", "get it again: git checkout models"
        )
    return shipped[run]


def _name(run: str) -> str:
    """Name the method and the seed of a network's run, for readers."""
    _, network, *variant, seed = run.split("-")
    return f"{name_network(network, '-'.join(variant))}, seed {seed.removeprefix('s')}"

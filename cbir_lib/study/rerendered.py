"""The same anatomy photographed otherwise: queries of the phantom drawn anew.

A changed image is a picture of a picture. The phantom's renderer repeats a photograph of the same
subject in the same pose with fewer photons, with the film turned, or of a smaller field: before
scatter, noise and the film's curve. Where pixels can be changed likewise, both are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from cbir_lib.datasets import load
from cbir_lib.datasets.phantom import recipe
from cbir_lib.datasets.phantom.parameters import require_packages
from cbir_lib.descriptors.learned import load_network
from cbir_lib.images.decoding import decode, fit
from cbir_lib.images.perturbations import changed
from cbir_lib.study import effects, results, robustness
from cbir_lib.study.config import Redrawn
from cbir_lib.study.effects import Effect, Search
from cbir_lib.study.robustness import Method
from cbir_lib.study.transfer import handcrafted

# The parameter of an exposure that a level changes, and how it does; its neutral level.
EXPOSURES: dict[str, tuple[str, Callable[[float, float], float], float]] = {
    "photons": ("photons", lambda own, level: own * level, 1.0),
    "rotation": ("rotation_deg", lambda own, level: own + level, 0.0),
    "field": ("field", lambda own, level: own * level, 1.0),
}
OF_PIXELS = {"rotation": "rotation", "field": "crop"}  # the change of pixels that is alike


def measure(
    plan: Redrawn,
    grids: Mapping[str, Mapping[str, list]],
    say: Callable[[str], None] = lambda line: None,
) -> effects.Effects:
    """Search with queries drawn anew, and with the same changed pixel by pixel.

    ``settings["changed"]`` is ``exposure`` or ``pixels``. The reference is the image as it is. Plan
    and grids are ``grid.effects.redrawn`` and ``grid.descriptors`` of the study.

    Raises
    ------
    CbirError
        When the packages that draw are not there, or a network is not in ``models/``.
    """
    require_packages()
    clock = time.perf_counter()
    data = load("phantom").sample(plan.images.model_dump(), 0)
    gallery, test = data.split("train"), data.split("test")
    rows = np.linspace(0, len(test) - 1, min(plan.queries, len(test))).astype(int)
    queries = test.take(rows)
    search = Search.of(queries, gallery)
    methods = [
        robustness.learned(
            f"Network {run.split('-', 1)[1]}", load_network(run).trained, gallery.images
        )
        for run in plan.networks
    ]
    methods += [
        handcrafted(name, grids[name], gallery.images, plan.size) for name in plan.descriptors
    ]
    plain = {method.name: search.scores(method.distances(queries.images)) for method in methods}
    found = []
    for name in EXPOSURES:
        for level in getattr(plan, name):
            say(f"{name} {level:g}")
            pictures = {"exposure": drawn(queries.image_ids, name, level)}
            if name in OF_PIXELS:
                pictures["pixels"] = changed(queries.images, OF_PIXELS[name], level)
            for kind, images in pictures.items():
                found += rows_of(methods, images, search, plain, name, level, kind)
    return effects.Effects(
        name="redrawn",
        parameters=plan.model_dump(),
        data=[results.describe(data)],
        effects=found,
        circumstances=results.circumstances({"measuring": time.perf_counter() - clock}),
    )


def rows_of(
    methods: list[Method],
    images: np.ndarray,
    search: Search,
    plain: Mapping[str, np.ndarray],
    name: str,
    level: float,
    kind: str,
) -> list[Effect]:
    """One row a method, of queries changed in one way."""
    return [
        search.effect(
            search.scores(method.distances(images)),
            plain[method.name],
            factor=name,
            level=level,
            method=method.name,
            settings={"changed": kind},
        )
        for method in methods
    ]


def drawn(image_ids: np.ndarray, name: str, level: float) -> np.ndarray:
    """(N, 128, 128) uint8: images of the embedded set, drawn anew with one parameter changed.

    Subject, pose, inner parts and marker are the image's own, and so is the draw of the noise as
    far as the picture keeps its shape. At the neutral level the images are those of the set.
    """
    from cbir_lib.datasets.phantom.render import render
    from cbir_lib.datasets.phantom.rendering import encode

    parameter, otherwise, _ = EXPOSURES[name]
    plan, pictures = recipe.plan(), []
    for image_id in image_ids:
        scene, rng = recipe.scene(plan[int(image_id[1:])])
        own = getattr(scene.exposure, parameter)
        exposure = scene.exposure.with_(**{parameter: otherwise(own, level)})
        grey = render(replace(scene, exposure=exposure), recipe.SIZE_PX, rng).grey
        pictures.append(fit(decode(encode(grey)).image, recipe.SIZE_PX))
    return np.stack(pictures)

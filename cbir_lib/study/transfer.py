"""Transfer: a network trained on one data set and used on another.

The control is the same network with random weights: random filters still describe the edges and
shades of an image, and training on other images may add little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from cbir_lib.datasets import load
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.images.preprocessing import Preprocessing, compute_mean_image
from cbir_lib.networks.modules import TrainedNetwork, build_network
from cbir_lib.networks.training import Settings, fit
from cbir_lib.study import effects, representation, results, robustness
from cbir_lib.study.config import Transfer
from cbir_lib.study.effects import Effect, Search
from cbir_lib.study.robustness import Method

UNTRAINED = "nothing"


def measure(
    plan: Transfer,
    grids: Mapping[str, Mapping[str, list]],
    say: Callable[[str], None] = lambda line: None,
) -> effects.Effects:
    """Train the network on each data set, use each of them on every set, and measure the rankings.

    In each data set the training split is the gallery and the test split has the queries. The level
    is the data set searched; ``settings["trained on"]`` names the one used for training. The
    reference is the untrained network, with the mean image of the data set searched.

    Parameters
    ----------
    plan
        ``grid.effects.transfer`` of the study.
    grids
        ``grid.descriptors``: handcrafted descriptors take the first value of each parameter.
    say
        Called with progress messages.
    """
    clock = time.perf_counter()
    sets = {
        name: load(name).sample(images.model_dump(), 0) for name, images in plan.datasets.items()
    }
    trained = {}
    for name, data in sets.items():
        for seed in plan.seeds:
            say(f"training on {name}, seed {seed}")
            trained[name, seed] = train(plan, data, seed)
    clock_trained = time.perf_counter()
    measured = []
    for name, data in sets.items():
        say(f"searching in {name}")
        measured += measure_on(name, data, trained, plan, grids)
    return effects.Effects(
        name="transfer",
        parameters=plan.model_dump(),
        data=[results.describe_data(data) for data in sets.values()],
        effects=measured,
        circumstances=results.record_circumstances(
            {"training": clock_trained - clock, "measuring": time.perf_counter() - clock_trained}
        ),
    )


def train(plan: Transfer, data: RadiographSet, seed: int) -> TrainedNetwork:
    """Train the plan's network on a data set, as a run of the study does."""
    split = {name: data.split(name) for name in ("train", "validation")}
    preprocessing = Preprocessing(size=plan.size)
    prepared = {name: preprocessing.transform(part.images) for name, part in split.items()}
    torch.manual_seed(seed)
    module = build_network(
        plan.network, compute_mean_image(prepared["train"]), classes=len(data.class_names)
    )
    fit(
        module,
        prepared["train"],
        split["train"].labels,
        prepared["validation"],
        split["validation"].labels,
        Settings(seed=seed, **plan.training.model_dump(exclude_none=True)),
    )
    return TrainedNetwork(plan.network, {}, data.class_names, preprocessing, module.eval())


def measure_on(
    name: str,
    data: RadiographSet,
    trained: Mapping[tuple[str, int], TrainedNetwork],
    plan: Transfer,
    grids: Mapping[str, Mapping[str, list]],
) -> list[Effect]:
    """Measure every network and descriptor on one data set; keys of ``trained``: data set, seed."""
    gallery, queries = data.split("train"), data.split("test")
    search = Search.from_sets(queries, gallery)
    seeds = plan.seeds
    networks = {
        (UNTRAINED, seed): representation.reset_weights(trained[name, seed], seed) for seed in seeds
    }
    networks |= trained

    def scores(method: Method) -> np.ndarray:
        return search.score(method.distances(queries.images))

    of_source = {
        source: np.stack(
            [
                scores(robustness.make_network_method(name, networks[source, seed], gallery.images))
                for seed in seeds
            ]
        )
        for source in dict.fromkeys(source for source, _ in networks)
    }
    what = {"factor": "transfer", "level": name}
    effects = [
        search.build_effect(
            quality,
            of_source[UNTRAINED],
            method=f"Network {plan.network}",
            settings={"trained on": source},
            **what,
        )
        for source, quality in of_source.items()
    ]
    for descriptor in plan.descriptors:
        settings = choose_first_settings(grids[descriptor])
        method = robustness.fit_descriptor_method(descriptor, settings, gallery.images, plan.size)
        quality = scores(method)
        effects.append(
            search.build_effect(quality, of_source[UNTRAINED], method=method.name, **what)
        )
    return effects


def choose_first_settings(grid: Mapping[str, list]) -> dict:
    """Return the first value of each parameter of a grid: the baselines' or the inventors'."""
    return {parameter: values[0] for parameter, values in grid.items()}

"""Real radiographs as queries: films of patients, searched among the simulated radiographs.

Whether a method that was trained or tuned on simulated images also describes real ones is measured
with the whole training split of the phantom as the gallery. An answer is relevant if it shows the
region of the body that the film shows. No film is written anywhere, only numbers.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from cbir_lib.datasets import load
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.descriptors import DESCRIPTORS
from cbir_lib.descriptors.learned import LearnedDescriptor
from cbir_lib.errors import CbirError
from cbir_lib.evaluation.intervals import compute_paired_interval
from cbir_lib.networks.adaptation import adapt_statistics, has_batch_norm
from cbir_lib.networks.modules import TrainedNetwork
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.sampling import space_evenly
from cbir_lib.study import effects, results, robustness
from cbir_lib.study.config import Real
from cbir_lib.study.effects import Effect, Search
from cbir_lib.study.robustness import Method

BLOCK = 500  # queries at a time: bounds the memory of their distances
# What is chosen by its measures on real films is judged on others: the first, third, ... film of
# each region are for choosing.
HALVES = ("choosing", "judging")
COLUMNS = ["P@1", "low", "high", "P@10", "mAP", "own answer", "seeds"]
AIM = 95.0  # percent of first answers of the same region, in every region
POINTS = 2.0  # of validation accuracy that a variation may cost on simulated images, in percent


def measure(
    plan: Real,
    films: RadiographSet,
    descriptors: Mapping[str, Mapping],
    networks: Mapping[str, Sequence[TrainedNetwork]],
    say: Callable[[str], None] = lambda line: None,
) -> effects.Effects:
    """Search the phantom's training images with real radiographs.

    The level is the region. The two halves of the films have rows of their own, with ``half`` among
    the settings. Networks also have ``accuracy``, the share of the films whose region is the
    network's own answer. Those with batch normalisation have further rows, with ``statistics``
    among the settings: the films are described with the means and variances of the films for
    choosing, the gallery with those of the training images.

    Parameters
    ----------
    plan
        ``grid.effects.real`` of the study.
    films
        Real radiographs; their classes are regions, or are named one in ``plan.regions``.
    descriptors
        Settings of handcrafted descriptors, by name.
    networks
        Trained networks by the name of the method, one for each seed.
    say
        Called with progress messages.

    Raises
    ------
    CbirError
        When the films are simulated, or none of their classes is a region of the gallery.
    """
    clock = time.perf_counter()
    gallery = load("phantom").split("train")
    queries, labels = select_films(plan, films, gallery.class_names)
    known = name_regions(plan, films, gallery.class_names)
    if others := [name for name in films.class_names if name not in known]:
        say(f"no region of the simulated radiographs, left out: {', '.join(others)}")
    rows = []
    for name, seeds in networks.items():
        say(name)
        methods = [robustness.make_network_method(name, one, gallery.images) for one in seeds]
        rows += _measure_seeds(methods, seeds, gallery, queries.images, labels, {})
        if all(map(has_batch_norm, seeds)):
            choosing = queries.images[split_films(labels) == HALVES.index("choosing")]
            adapted = [adapt_statistics(one, choosing) for one in seeds]
            of_films = {"statistics": "films"}
            rows += _measure_seeds(methods, adapted, gallery, queries.images, labels, of_films)
    for name, settings in descriptors.items():
        say(DESCRIPTORS[name].title)
        method = robustness.fit_descriptor_method(name, settings, gallery.images, plan.size)
        scores = _score(method, method.describe(queries.images), gallery, labels)
        rows += _summarise(method.name, scores[None], gallery, labels)
    return effects.Effects(
        name=films.name,
        **_describe_search(plan, films, queries, gallery),
        effects=rows,
        circumstances=results.record_circumstances({"measuring": time.perf_counter() - clock}),
    )


def _describe_search(
    plan: Real, films: RadiographSet, queries: RadiographSet, gallery: RadiographSet
) -> dict[str, dict | list[results.Data]]:
    """Describe a search with films for its file: the plan, and the images on both sides."""
    return {
        "parameters": plan.model_dump() | {"films": films.name},
        "data": [results.describe_data(queries), results.describe_data(gallery)],
    }


def check_same(published: effects.Effects, plan: Real, films: RadiographSet) -> None:
    """Check that published measurements are of this plan, of these films and of the phantom here.

    Raises
    ------
    CbirError
        When they are not, or the films cannot be searched with (:func:`measure`).
    """
    gallery = load("phantom").split("train")
    queries, _ = select_films(plan, films, gallery.class_names)
    for name, value in _describe_search(plan, films, queries, gallery).items():
        if getattr(published, name) != value:
            raise CbirError(
                f"the published measurements are of other {name}",
                "measure all methods: leave out --missing",
            )


def merge(published: effects.Effects, measured: effects.Effects) -> effects.Effects:
    """Add newly measured methods to published ones, of the same search (:func:`check_same`)."""
    new = {effect.method for effect in measured.effects}
    kept = [effect for effect in published.effects if effect.method not in new]
    return measured.model_copy(update={"effects": kept + measured.effects})


def list_missing(
    measured: effects.Effects, networks: Mapping[str, Sequence[results.Result]]
) -> list[str]:
    """List the networks of which the halves or the other statistics lack one of these seeds.

    Those that were measured with more seeds stay, as where the networks of some are elsewhere.
    """

    def count(name: str, **settings: str) -> int:
        wanted = {"half": HALVES[0], **settings}
        found = (e for e in measured.effects if e.method == name and e.settings == wanted)
        return next((effect.seeds for effect in found), 0)

    return [
        name
        for name, seeds in networks.items()
        if count(name) < len(seeds)
        or (seeds[0].parameters["batch_norm"] and count(name, statistics="films") < len(seeds))
    ]


def tabulate(
    measured: effects.Effects, half: str | None = None, statistics: str | None = None
) -> pd.DataFrame:
    """Return one row per method and region, in percent, of all films or of one of ``HALVES``.

    With ``statistics="films"``, of networks whose batch normalisation has those of the films.
    The index is ``method``, ``region``. Columns: ``P@1`` with ``low`` and ``high``, the ends of its
    95 % interval, ``P@10``, ``mAP``, ``own answer`` (of networks, else NaN), and ``seeds``.
    """
    settings = {"half": half, "statistics": statistics}
    wanted = {key: value for key, value in settings.items() if value}
    rows = [effect for effect in measured.effects if effect.settings == wanted]
    measured = measured.model_copy(update={"effects": rows})
    table = effects.tabulate(measured)
    if table.empty:
        nothing = pd.MultiIndex.from_arrays([[], []], names=["method", "region"])
        return pd.DataFrame(columns=COLUMNS, index=nothing)
    ends = np.array([effect.precision_at_1_interval for effect in measured.effects])
    own = np.array([effect.accuracy for effect in measured.effects], float)  # None becomes NaN
    seeds = np.array([effect.seeds for effect in measured.effects])
    table = table.assign(
        region=table["level"],
        low=100 * ends[:, 0],
        high=100 * ends[:, 1],
        **{"own answer": 100 * own},
        seeds=np.where(np.isnan(own), 0, seeds),
    )
    return table.set_index(["method", "region"])[COLUMNS]


def tabulate_variations(
    measured: effects.Effects, trained: Sequence[results.Result]
) -> pd.DataFrame:
    """Return what each variation of the training images does, one row per network, in percent.

    Columns: ``network``, ``variations`` (joined by commas), ``validation`` (accuracy on simulated
    images), for each region ``P@1`` on the films for judging with its name, ``choosing`` (mean of
    the regions on the films for choosing), and ``chosen``, true for the row that the rule of
    ``study.yml`` takes. Empty where no such network was measured.
    """
    normalised = (result for result in trained if result.parameters.get("batch_norm"))
    runs = results.group_by_method(normalised)
    halves = {half: tabulate(measured, half)["P@1"].unstack("region") for half in HALVES}
    rows = []
    for method, of_seeds in runs.items():
        if method in halves["choosing"].index:
            accuracies = [r.classification.validation_accuracy for r in of_seeds]
            rows.append(
                {
                    "method": method,
                    "network": of_seeds[0].parameters["network"],
                    "variations": ", ".join(of_seeds[0].parameters.get("variations", [])),
                    "validation": 100 * float(np.mean(accuracies)),
                    **halves["judging"].loc[method],
                    "choosing": halves["choosing"].loc[method].mean(),
                }
            )
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows).set_index("method")
    plain = table[table["variations"] == ""].set_index("network")["validation"]
    lost = table["network"].map(plain) - table["validation"]
    allowed = table["choosing"].where((lost <= POINTS) | (table["variations"] == ""))
    best = allowed.idxmax() if allowed.notna().any() else None
    return table.assign(chosen=table.index == best)


def tabulate_statistics(measured: effects.Effects) -> pd.DataFrame:
    """Return P@1 on the films for judging, one row per network with batch normalisation, percent.

    Two columns per region: ``training``, with the statistics of the training images, and
    ``films``, with those of the films for choosing.
    """
    shares = {
        which: tabulate(measured, "judging", statistics)["P@1"].unstack("region")
        for which, statistics in (("training", None), ("films", "films"))
    }
    joined = pd.concat(shares, axis=1, join="inner").swaplevel(axis=1)
    return joined.sort_index(axis=1, level=0, sort_remaining=False)


def list_reaching_aim(measured: effects.Effects) -> list[str]:
    """Return the methods that reach ``AIM`` in every region on the films for choosing."""
    shares = tabulate(measured, "choosing")["P@1"].unstack("region")
    return shares.index[(shares >= AIM).all(axis=1)].tolist()


def average_by_method(measured: Sequence[results.Result]) -> dict[str, float]:
    """Return the accuracy of one nearest neighbour in percent, mean of the seeds, by method."""

    def get_share(result: results.Result) -> float:
        return 100 * next(r.accuracy for r in result.rules if r.rule == "nearest neighbour")

    groups = results.group_by_method(measured)
    return {method: float(np.mean([*map(get_share, seeds)])) for method, seeds in groups.items()}


def name_regions(plan: Real, films: RadiographSet, regions: Sequence[str]) -> dict[str, str]:
    """Name the region of each class of the films that shows one of ``regions``.

    Classes are named in the plan, or after their regions in any writing: ``Upper_extremity``.
    """
    named = plan.regions.get(films.name, {})
    region_of = {
        name: named.get(name, re.sub(r"[\s_-]+", " ", name).strip().lower())
        for name in films.class_names
    }
    return {name: region for name, region in region_of.items() if region in regions}


def select_films(
    plan: Real, films: RadiographSet, regions: Sequence[str]
) -> tuple[RadiographSet, np.ndarray]:
    """Select the films that show a region: evenly spaced, at most ``plan.queries`` of each region.

    Returns
    -------
    films, labels
        The films, and (N,) int64, an index into ``regions`` for each.
    """
    if films.name == "phantom":
        raise CbirError(
            "the films of data set phantom are simulated", "take real ones: --dataset mednist"
        )
    known = name_regions(plan, films, regions)
    if not known:
        raise CbirError(
            f"no class of {films.name} is a region of the simulated radiographs: "
            + ", ".join(films.class_names),
            f"name its classes after them: {', '.join(regions)}",
        )
    labels = np.array(
        [regions.index(known.get(n)) if n in known else -1 for n in films.class_names]
    )
    labels = labels[films.labels]
    rows = []
    for label in np.unique(labels[labels >= 0]):
        of_region = np.flatnonzero(labels == label)
        rows.append(of_region[space_evenly(len(of_region), plan.queries)])
    rows = np.concatenate(rows)
    return films.take(rows), labels[rows]


def _measure_seeds(
    methods: Sequence[Method],
    seeds: Sequence[TrainedNetwork],
    gallery: RadiographSet,
    films: np.ndarray,
    labels: np.ndarray,
    settings: Mapping[str, str],
) -> list[Effect]:
    """Measure a network of several seeds, which describe the films; ``methods`` the gallery."""
    regions = np.array(gallery.class_names)[labels]
    scores, right = [], []
    for method, trained in zip(methods, seeds, strict=True):
        vectors, answers = LearnedDescriptor(trained).transform_and_answer(films)
        scores.append(_score(method, vectors, gallery, labels))
        right.append(answers == regions)
    name = methods[0].name
    return _summarise(name, np.stack(scores), gallery, labels, np.stack(right), settings)


def _score(
    method: Method, vectors: np.ndarray, gallery: RadiographSet, labels: np.ndarray
) -> np.ndarray:
    """Score each film, described by (Q, D), as a query: (3, Q) as of :meth:`Search.score`."""
    blocks = []
    for start in range(0, len(vectors), BLOCK):
        part = slice(start, start + BLOCK)
        distances = pairwise(method.distance, vectors[part], method.gallery)
        blocks.append(Search(labels[part], gallery.labels).score(distances))
    return np.concatenate(blocks, axis=1)


def split_films(labels: np.ndarray) -> np.ndarray:
    """Assign films with these labels to ``HALVES``: (N,) int64, 0 and 1 in turn in each region."""
    halves = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        of_region = labels == label
        halves[of_region] = np.arange(of_region.sum()) % len(HALVES)
    return halves


def _summarise(
    method: str,
    scores: np.ndarray,
    gallery: RadiographSet,
    labels: np.ndarray,
    right: np.ndarray | None = None,
    common: Mapping[str, str] | None = None,
) -> list[Effect]:
    """Summarise (S, 3, Q) scores of S seeds, by region: of all films and of their halves.

    ``right``, (S, Q), is whether a network's own answer is correct. ``common`` is among the
    settings of all rows.
    """
    common = {**(common or {})}
    halves = split_films(labels)
    groups = [(common, np.full(len(labels), True))]
    groups += [({"half": name} | common, halves == number) for number, name in enumerate(HALVES)]
    rows = []
    for settings, members in groups:
        for label in np.unique(labels):
            rows_of = members & (labels == label)
            if not rows_of.any():
                continue
            search = Search(labels[rows_of], gallery.labels)
            effect = search.build_effect(
                scores[:, :, rows_of],
                factor="region",
                level=gallery.class_names[label],
                method=method,
                settings=settings,
            )
            measured = {"precision_at_1_interval": compute_paired_interval(scores[:, 1, rows_of])}
            if right is not None:
                measured["accuracy"] = float(right[:, rows_of].mean())
            rows.append(effect.model_copy(update=measured))
    return rows

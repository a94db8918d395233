"""The networks in models/: their size, and whether they still give the published answers."""

import re
from pathlib import Path

import numpy as np
import pytest

import cbir_lib
from cbir_lib.errors import CbirError
from cbir_lib.networks.modules import read_network
from cbir_lib.reproduction import evidence
from cbir_lib.reproduction.shipped import list_methods_for_films
from cbir_lib.study import results
from cbir_lib.study.config import read_study
from cbir_lib.study.results import name_method
from cbir_lib.tensors import read_tensors

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "models").glob("*.safetensors"))
# What the study re-renders queries for.
NAMED = {*read_study(ROOT / "study.yml").grid.effects.redrawn.networks}


@pytest.fixture(scope="module")
def published():
    """The published evidence on the phantom, by run: of it networks are shipped.

    Profile quick stands in for it while ``full`` is being trained, and is not what was shipped.
    """
    try:
        profile = evidence.find_evidence("phantom", None, read_study(ROOT / "study.yml")).profile
    except CbirError:
        profile = "full"
    published_results = results.read_published("full" if profile == "quick" else profile)
    return {result.run: result for result in published_results}


def result_of(path, published):
    """The published result of a shipped network."""
    if path.stem not in published:
        pytest.skip(f"results/full has no result of {path.stem} yet")
    return published[path.stem]


def test_they_are_under_30_megabytes():
    assert SHIPPED
    assert sum(path.stat().st_size for path in SHIPPED) < 30e6


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_network_has_its_checksum(path):
    read_tensors(path, "network", "")  # refuses a file without one


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_network_is_its_best_run_or_has_its_use(path, published):
    own = result_of(path, published)
    if own.run in NAMED or name_method(own) in list_methods_for_films():
        return  # it has its use, and of its seeds any has
    rivals = [
        result.classification.validation_accuracy
        for result in published.values()
        if result.parameters.get("network") == own.parameters["network"]
        and not result.parameters["classes"]
    ]
    assert own.classification.validation_accuracy == max(rivals)


def test_each_network_is_shipped_once_beside_those_for_real_films(published):
    for_films = list_methods_for_films()
    others = [p for p in SHIPPED if name_method(result_of(p, published)) not in for_films]
    assert {path.stem for path in SHIPPED} >= NAMED
    names = [read_network(path).name for path in others]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_its_answers_are_the_published_ones(path, published, phantom_set):
    result = result_of(path, published)
    parameters = result.parameters
    assert parameters["dataset"] == phantom_set.name
    test = phantom_set.sample(parameters["images"], parameters["sample_seed"]).split("test")
    scores = cbir_lib.load_network(path.stem, "scores").transform(test.images)
    assert list(test.labels) == result.data.test_labels
    # Half precision turns an answer that was on the edge.
    assert (scores.argmax(axis=1) != result.answers).mean() <= 0.005
    assert len(np.unique(scores.argmax(axis=1))) == len(test.class_names)


def test_the_readme_names_one_of_them(published):
    if not published:
        pytest.skip("results/full has no result yet, and models/ is of an older study")
    named = re.findall(r'load_network\("([^"]+)"\)', (ROOT / "README.md").read_text())
    assert named and set(named) <= {path.stem for path in SHIPPED}

"""The networks in models/: their size, and whether they still give the published answers."""

import re
from pathlib import Path

import numpy as np
import pytest

import cbir_lib
from cbir_lib import results

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "models").glob("*.safetensors"))


@pytest.fixture(scope="module")
def published():
    profile = next(name for name in results.BROADEST if results.read_published(name))
    return {result.run: result for result in results.read_published(profile)}


def test_they_are_under_30_megabytes():
    assert SHIPPED
    assert sum(path.stat().st_size for path in SHIPPED) < 30e6


def test_each_network_is_shipped_once_and_is_its_best_run(published):
    for path in SHIPPED:
        own = published[path.stem]
        rivals = [
            result.classification.validation_accuracy
            for result in published.values()
            if result.parameters.get("network") == own.parameters["network"]
            and not result.parameters["classes"]
        ]
        assert own.classification.validation_accuracy == max(rivals)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_its_answers_are_the_published_ones(path, published, phantom_set):
    result = published[path.stem]
    parameters = result.parameters
    assert parameters["dataset"] == phantom_set.name
    test = phantom_set.sample(parameters["images"], parameters["sample_seed"]).split("test")
    scores = cbir_lib.load_network(path.stem, "scores").transform(test.images)
    assert list(test.labels) == result.data.test_labels
    # Half precision turns an answer that was on the edge.
    assert (scores.argmax(axis=1) != result.answers).mean() <= 0.005
    assert len(np.unique(scores.argmax(axis=1))) == len(test.class_names)


def test_the_readme_names_one_of_them():
    named = re.findall(r'load_network\("([^"]+)"\)', (ROOT / "README.md").read_text())
    assert named and set(named) <= {path.stem for path in SHIPPED}

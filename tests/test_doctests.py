"""The examples in the docstrings give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import cbir_lib

MODULES = [module.name for module in pkgutil.walk_packages(cbir_lib.__path__, "cbir_lib.")]
WITH_EXAMPLES = [
    name for name in MODULES if ">>> " in importlib.util.find_spec(name).loader.get_source(name)
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_give_what_they_say(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted > 0
    assert failed == 0


def test_every_stage_has_examples():
    packages = {name.split(".")[1] for name in WITH_EXAMPLES}
    assert packages >= {"images", "datasets", "descriptors", "retrieval", "evaluation"}

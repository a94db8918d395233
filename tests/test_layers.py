"""The order of the modules, what importing them costs, and what none of them may do."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cbir_lib"

# A package imports from the lines above its own, never from those below nor from a sibling.
LAYERS = [
    "errors",
    "addresses compiling files loops paths messages sampling schema tensors irma_code",
    "images",
    "datasets networks",
    "descriptors",
    "retrieval",
    "evaluation archive",
    "study",
    "reproduction",
    "book",
    "teaching",
    "workflow",
    "cli",
]
BASE = LAYERS[1].split()  # modules, not packages: they may use one another
LAYER_OF = {name: depth for depth, layer in enumerate(LAYERS) for name in layer.split()}

# Reading one of these executes what is in the file, or compiles text.
DANGEROUS_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "joblib"}
DANGEROUS_CALLS = {"eval", "exec", "compile", "__import__"}


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {
    module_name(path): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported(tree):
    """Full names of everything a module imports, inside its functions as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in TREES else node.module


def imported_here(tree):
    return {name for name in imported(tree) if name in TREES and name != "cbir_lib"}


def test_every_module_has_its_layer():
    assert {name.split(".")[1] for name in TREES if name != "cbir_lib"} == set(LAYER_OF)


@pytest.mark.parametrize("module", [name for name in TREES if name != "cbir_lib"])
def test_imports_go_down_the_layers(module):
    own = module.split(".")[1]
    for other in {name.split(".")[1] for name in imported_here(TREES[module])} - {own}:
        together = own in BASE and LAYER_OF[other] == LAYER_OF[own]
        assert LAYER_OF[other] < LAYER_OF[own] or together, f"{module} imports {other}"


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: imported_here(tree) for module, tree in TREES.items()}
    assert sum(map(len, graph.values())) > len(TREES)
    TopologicalSorter(graph).prepare()  # raises where there is a cycle


@pytest.mark.parametrize("module", TREES)
def test_nothing_is_unpickled_or_evaluated(module):
    assert not {name.split(".")[0] for name in imported(TREES[module])} & DANGEROUS_MODULES
    called = {
        node.func.id
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & DANGEROUS_CALLS


def test_importing_the_library_is_light():
    code = (
        "import sys, time; start = time.process_time(); import cbir_lib;"
        "print(time.process_time() - start, *sys.modules)"
    )
    best = float("inf")
    for _ in range(3):
        seconds, *modules = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        best = min(best, float(seconds))
        assert "cbir_lib" in modules
        assert not {"torch", "pandas", "numpy"} & set(modules)
    assert best < 0.3

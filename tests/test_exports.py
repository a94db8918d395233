"""What the modules say that others may import from them."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cbir_lib"


def list_modules_with_exports():
    """List the modules of the library that set ``__all__``."""
    for path in sorted(PACKAGE.rglob("*.py")):
        targets = (
            target.id
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        )
        if "__all__" in targets:
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__")


@pytest.mark.parametrize("name", list_modules_with_exports())
def test_every_name_that_a_module_exports_is_there(name):
    module = import_module(name)
    assert [each for each in module.__all__ if not hasattr(module, each)] == []
    assert len(set(module.__all__)) == len(module.__all__) > 0

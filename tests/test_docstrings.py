"""What docstrings name is there: other functions, and the parameters that they describe."""

import ast
import inspect
import re
from importlib import import_module

from tests.test_layers import TREES

ROLE = re.compile(r":(?:func|class|meth|data|mod|exc|attr):`([^`]+)`")
HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
MISSING = object()
NAMES = re.compile(r"^([*\w][*\w, ]*?)(?: : .*)?$")  # of a parameter, or of several


def list_docstrings(name, node):
    """List what has a docstring, as a path of names, with it; what is below included."""
    for inner in [node, *node.body] if isinstance(node, ast.Module) else node.body:
        if inner is node:
            yield name, ast.get_docstring(node)
        elif isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            path = f"{name}:{inner.name}" if ":" not in name else f"{name}.{inner.name}"
            yield path, ast.get_docstring(inner)
            if isinstance(inner, ast.ClassDef):
                yield from list_docstrings(path, inner)


DOCSTRINGS = {
    place: text
    for name, tree in TREES.items()
    for place, text in list_docstrings(name, tree)
    if text
}


def find(start, names):
    """Return what a path of names leads to from an object; ``MISSING`` where it ends too soon."""
    for name in names:
        default = getattr(start, "__annotations__", {}).get(name, MISSING)
        if inspect.isclass(start) and re.search(rf"\bself\.{name}\b", inspect.getsource(start)):
            default = start  # something of its instances
        start = getattr(start, name, default)
    return start


def is_there(target, place):
    module, _, path = place.partition(":")
    inside = [import_module(module)]
    inside += [find(inside[0], path.split(".")[:depth]) for depth in (1,) if path]
    names = target.lstrip("~").split(".")
    if names[0] != "cbir_lib":
        return any(find(one, names) is not MISSING for one in inside)
    depth = max(n for n in range(1, len(names) + 1) if ".".join(names[:n]) in TREES)
    return find(import_module(".".join(names[:depth])), names[depth:]) is not MISSING


def read_section(text, heading):
    """Return the names that a section of a docstring describes."""
    _, *parts = HEADING.split(text)
    section = dict(zip(parts[::2], parts[1::2], strict=True)).get(heading, "")
    lines = [NAMES.match(line) for line in section.splitlines() if line[:1].strip()]
    return [name.strip(" *") for line in lines if line for name in line[1].split(",")]


def test_there_are_docstrings_to_look_at():
    assert len(DOCSTRINGS) > 1000
    assert sum(len(ROLE.findall(text)) for text in DOCSTRINGS.values()) > 100


def test_every_name_that_a_docstring_refers_to_is_there():
    missing = [
        f"{place}: {target}"
        for place, text in DOCSTRINGS.items()
        for target in ROLE.findall(text)
        if not is_there(target, place)
    ]
    assert not missing


def test_every_parameter_and_attribute_that_a_docstring_describes_is_there():
    wrong = []
    for place, text in DOCSTRINGS.items():
        module, _, path = place.partition(":")
        described = read_section(text, "Parameters")
        owned = read_section(text, "Attributes")
        if not (described or owned):
            continue
        owner = find(import_module(module), path.split("."))
        taken = inspect.signature(owner).parameters if described else ()
        wrong += [f"{place}: {one}" for one in described if one not in taken]
        wrong += [f"{place}: {one}" for one in owned if find(owner, [one]) is MISSING]
    assert not wrong

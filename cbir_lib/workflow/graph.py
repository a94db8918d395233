"""What each step of the study depends on: the code that decides its numbers, and nothing else.

A run's notebook has cells that measure, tagged ``measure``, and cells that show what was measured.
Only the former decide the run's numbers, together with the modules that they import, directly or
through others. So a new colour of a figure, another command or another sentence on a page repeats
no run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import cbir_lib
from cbir_lib import paths
from cbir_lib.descriptors import DESCRIPTORS
from cbir_lib.files import compute_file_checksum, replacing

CELL = re.compile(
    r"^```\{code-cell\}\n(?P<options>(?::[^\n]*\n)*)\n?(?P<code>.*?)^```$", re.M | re.S
)
DECIDING = {"parameters", "setup", "measure"}  # tags
PACKAGE = Path(cbir_lib.__file__).parent


def read_cells(notebook: Path) -> list[tuple[set[str], str]]:
    """Return the tags and the code of each code cell of a MyST text notebook."""
    cells = []
    for match in CELL.finditer(notebook.read_text(encoding="utf-8")):
        tags = re.search(r":tags: \[(.*)\]", match["options"])
        cells.append((set(re.split(r",\s*", tags[1])) if tags else set(), match["code"]))
    return cells


def select_measuring_code(notebook: Path) -> str:
    """Return the code of the cells that decide the numbers of a run's notebook."""
    return "\n".join(code for tags, code in read_cells(notebook) if tags & DECIDING)


def write_if_changed(target: Path, text: str) -> str:
    """Write a text unless the file has it already: the file's time is that of the last change."""
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        with replacing(target) as part:
            part.write_text(text, encoding="utf-8")
    return str(target)


def write_checksums(target: Path, files: Iterable[Path | str]) -> str:
    """Write the checksums of files, each read once a process, into one file.

    Its time is that of the last change of any of them. One file in place of hundreds, because
    Snakemake looks at every input of every job that waits whenever a job ends.
    """
    lines = (f"{_compute_checksum(file)}  {file}\n" for file in sorted(set(map(str, files))))
    return write_if_changed(target, "".join(lines))


_compute_checksum = cache(compute_file_checksum)


def find_imported_modules(code: str, others: Iterable[str] = ()) -> list[str]:
    """Return the files of ``cbir_lib`` that some code imports, directly or through others.

    Parameters
    ----------
    code
        Python source.
    others
        Names of modules that the code imports by a name it computes, such as descriptors.

    Returns
    -------
    list of str
        Their paths as Snakemake finds them, sorted.
    """
    todo, known = [*_list_imports(code), *others], set()
    while todo:
        name = todo.pop()
        if name not in known:
            known.add(name)
            todo += [*_find_imports(name), *_list_packages_above(name)]
    return sorted(map(_find_path, known))


def name_descriptor_module(name: str) -> str:
    """Return the module that a descriptor of ``study.yml`` is built from."""
    return f"cbir_lib.descriptors.{DESCRIPTORS[name].module}"


def _find_file(module: str) -> Path:
    place = PACKAGE.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@cache
def _find_path(module: str) -> str:
    return str(paths.shorten(_find_file(module)))


@cache
def _find_imports(module: str) -> tuple[str, ...]:
    return tuple(_list_imports(_find_file(module).read_text(encoding="utf-8")))


def _list_packages_above(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _list_imports(code: str) -> list[str]:
    """Return the modules of ``cbir_lib`` that code names in its imports."""
    names, todo = [], [ast.parse(code)]
    while todo:  # statements only: their expressions import nothing, and are most of the tree
        node = todo.pop()
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            todo += getattr(node, part, ())
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if node.module == "cbir_lib" and alias.name in cbir_lib.LAZY:
                    names.append(cbir_lib.LAZY[alias.name])
                else:
                    names.append(inner if _find_file(inner).is_file() else node.module)
    return [name for name in names if name.split(".")[0] == "cbir_lib"]

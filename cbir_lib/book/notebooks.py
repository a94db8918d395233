"""Executing a notebook: text in, parameters injected, an executed copy out.

Text notebooks lie in ``notebooks/`` as MyST Markdown. jupytext converts them, papermill executes
them. A cell tagged ``measure`` is part of a run: a book built from published results shows it and
reads the result file instead of executing it.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
from nbconvert.filters import strip_ansi
from papermill.exceptions import PapermillExecutionError
from papermill.inspection import inspect_notebook

from cbir_lib import paths
from cbir_lib.errors import CbirError, unknown
from cbir_lib.files import replacing

READ_PUBLISHED = "from cbir_lib.study import {module}\n\nresult = {module}.read({path!r})"


class NotebookFailedError(Exception):
    """A cell raised: which notebook, which cell, what."""

    def __init__(self, name: str, cell: int, source: str, error: str):
        super().__init__(name, cell, source, error)
        self.lines = [f"{name}: cell {cell} failed", f"  in: {source}", f"  {error}"]


def execute(
    source: Path,
    target: Path,
    parameters: dict[str, Any],
    *,
    log: Path,
    title: str | None = None,
    published: Path | None = None,
    reader: str = "results",
    echo: Callable[[str], None] = lambda line: None,
) -> None:
    """Execute a text notebook and write the executed copy to ``target``.

    Parameters
    ----------
    source
        MyST Markdown with one cell tagged ``parameters``.
    parameters
        Values for names which that cell sets, and no others.
    log
        Where papermill keeps the notebook while it runs; stays when a cell fails.
    title
        Replaces the first heading.
    published
        A result file to read in place of the cells tagged ``measure``.
    reader
        The module of ``cbir_lib.study`` whose ``read`` reads it.
    echo
        Receives each line the cells print.

    Raises
    ------
    CbirError
        When the notebook is missing, has no ``parameters`` cell, or a parameter is not in it.
    NotebookFailedError
        When a cell raises.
    """
    try:
        notebook = jupytext.read(source)
    except OSError as error:
        raise CbirError(f"cannot read {source}: {error.strerror}", "restore it") from error
    if title:
        heading = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
        heading.source = re.sub(r"(?m)^# .*$", f"# {title}", heading.source, count=1)
    if published:
        read_instead_of_measuring(notebook, published, reader)
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / (source.stem + ".ipynb")
        nbformat.write(notebook, converted)
        declared = inspect_notebook(str(converted))
        if not declared:
            raise CbirError(
                f"{source} has no cell tagged 'parameters'", "tag the one that sets them"
            )
        for name in parameters:
            if name not in declared:
                raise unknown(f"parameter of {source.name}", name, declared)
        try:
            papermill.execute_notebook(
                str(converted),
                str(log),
                parameters,
                kernel_name="python3",
                cwd=str(paths.project_root()),
                progress_bar=False,
                stdout_file=_Lines(echo),
                autosave_cell_every=0,
            )
        except PapermillExecutionError as error:
            # IPython marks the line of the cell with an arrow; a CbirError comes without.
            in_cell = strip_ansi("\n".join(error.traceback)).rpartition("Cell In[")[2]
            arrow = re.search(r"(?m)^-+> \d+ (.*)$", in_cell)
            line = (arrow[1] if arrow else error.source.strip().partition("\n")[0]).strip()
            what = f"{error.ename}: {error.evalue}".strip()
            if error.ename == "CbirError":
                what = " / ".join(error.evalue.splitlines())
            raise NotebookFailedError(log.stem, error.exec_count, line, what) from None
    executed = nbformat.read(log, as_version=4)
    _forget_the_occasion(executed)
    with replacing(target) as part:
        nbformat.write(executed, part)


def read_instead_of_measuring(
    notebook: nbformat.NotebookNode, published: Path, reader: str = "results"
) -> None:
    """Turn the cells tagged ``measure`` into text, and read the result file in their place.

    Those whose code a reader would not see are left out.
    """
    cells, read = [], False
    for cell in notebook.cells:
        if "measure" in cell.metadata.get("tags", []):
            if not read:
                reading = nbformat.v4.new_code_cell(
                    READ_PUBLISHED.format(module=reader, path=str(published))
                )
                reading.metadata["tags"] = ["remove-cell"]
                cells.append(reading)
                read = True
            if "hide-input" not in cell.metadata["tags"]:
                cells.append(nbformat.v4.new_markdown_cell(f"```python\n{cell.source}\n```"))
        else:
            cells.append(cell)
    notebook.cells = cells


def _forget_the_occasion(notebook: nbformat.NotebookNode) -> None:
    """Drop times and paths, so that the same run gives the same file."""
    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # jupytext's are random
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")


class _Lines:
    """A file that hands on whole lines."""

    def __init__(self, echo: Callable[[str], None]):
        self.echo, self.rest = echo, ""

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            self.echo(line)

    def flush(self) -> None:
        """Nothing waits but an unfinished line."""


def quiet_kernel(folder: Path) -> None:
    """Let kernels started from this process log errors only, one thread each, in ``folder``."""
    profile = folder / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    with replacing(profile / "ipython_kernel_config.py") as part:
        part.write_text("get_config().IPKernelApp.log_level = 40\n")
    os.environ["IPYTHONDIR"] = str(folder / "ipython")

"""Executing a notebook: text in, parameters injected, an executed copy out.

Text notebooks lie in ``notebooks/`` as MyST Markdown. jupytext converts them, papermill executes
them. A cell tagged ``measure`` is part of a run: a book built from published results shows it and
reads the result file instead of executing it. A cell tagged ``exercise`` is shown, not executed.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert.filters import strip_ansi
from papermill.exceptions import PapermillExecutionError
from papermill.inspection import inspect_notebook

from cbir_lib import paths
from cbir_lib.book import kernels
from cbir_lib.errors import CbirError, unknown_name_error
from cbir_lib.files import replacing

KERNEL = """import atexit, gc

get_config().IPKernelApp.log_level = 50
atexit.register(gc.freeze)
"""
# On a slow or busy machine a kernel and its messages take minutes; only what hangs takes longer.
START_S, MESSAGE_S = 600, 120
STARTS = 3  # another program may take a port before the kernel that it was chosen for
DIED = "Kernel died before replying"  # how jupyter_client says so
READ_RESULT = """from cbir_lib import paths
from cbir_lib.study import {module}

result = {module}.read(paths.project_root() / {path!r}, run)
""".rstrip()


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
    result: Path | None = None,
    reader: str = "results",
    measured: Path | None = None,
    lab: str | None = None,
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
        The notebook as papermill leaves it: executed, or with the error of the cell that failed.
    title
        Replaces the first heading.
    result
        A result file to read instead of executing the cells tagged ``measure``.
    reader
        The module of ``cbir_lib.study`` whose ``read`` reads it.
    measured
        With ``result``: the notebook that measured it. Its measuring cells are shown with their
        outputs; without it they are shown as text.
    lab
        The value of the parameter ``folder`` in the copy: executed by hand, the copy repeats the
        run there and overwrites nothing of the study.
    echo
        Receives each line the cells print.

    Raises
    ------
    CbirError
        When the notebook is missing, has no ``parameters`` cell, or a parameter is not in it; when
        its kernel is killed or cannot start.
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
    if result:
        _read_instead_of_measuring(notebook, result, reader)
    _change_exercises(notebook, nbformat.v4.new_raw_cell)  # until the others are executed
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
                raise unknown_name_error(f"parameter of {source.name}", name, declared)
        printed = _Lines(echo)
        try:
            _execute_in_kernel(converted, log, parameters, printed)
        except PapermillExecutionError as error:
            # IPython marks the line of the cell with an arrow; a CbirError comes without.
            in_cell = strip_ansi("\n".join(error.traceback)).rpartition("Cell In[")[2]
            arrow = re.search(r"(?m)^-+> \d+ (.*)$", in_cell)
            line = (arrow[1] if arrow else error.source.strip().partition("\n")[0]).strip()
            what = f"{error.ename}: {error.evalue}".strip()
            if error.ename == "CbirError":
                what = " / ".join(error.evalue.splitlines())
            raise NotebookFailedError(log.stem, error.exec_count, line, what) from None
        finally:
            printed.close()
    executed = nbformat.read(log, as_version=4)
    _change_exercises(executed, nbformat.v4.new_code_cell)
    if result:
        _show_what_measured(executed, measured)
    _tidy(executed, lab)
    with replacing(target) as part:
        nbformat.write(executed, part)


def _execute_in_kernel(
    source: Path, log: Path, parameters: dict[str, Any], printed: _Lines
) -> None:
    """Let papermill execute a notebook; another kernel if one dies before a cell is executed."""
    for start in range(1, STARTS + 1):
        try:
            papermill.execute_notebook(
                str(source),
                str(log),
                parameters,
                kernel_name="python3",
                cwd=str(paths.project_root()),
                progress_bar=False,
                stdout_file=printed,
                start_timeout=START_S,
                iopub_timeout=MESSAGE_S,
                # It would write the whole notebook twice a cell.
                request_save_on_cell_execute=False,
                **kernels.choose_manager(),
            )
        except (DeadKernelError, CellTimeoutError) as error:
            what = "was killed" if isinstance(error, DeadKernelError) else "does not answer"
            raise CbirError(
                f"{log.stem}: the kernel that executed it {what}",
                "memory may have run out: close other programs, or use fewer cores",
            ) from None
        except RuntimeError as error:
            if DIED not in str(error):
                raise
            if start == STARTS:
                raise CbirError(
                    f"{log.stem}: {STARTS} kernels died before they executed anything",
                    f"what {sys.executable} -m ipykernel_launcher prints may say why",
                ) from None
        else:
            return


def _is_measuring(cell: nbformat.NotebookNode) -> bool:
    return "measure" in cell.metadata.get("tags", [])


def _read_instead_of_measuring(notebook: nbformat.NotebookNode, result: Path, reader: str) -> None:
    """Turn the measuring cells into text for now, and read the result file before the first."""
    first = next(number for number, cell in enumerate(notebook.cells) if _is_measuring(cell))
    for number, cell in enumerate(notebook.cells):
        if _is_measuring(cell):
            waiting = nbformat.v4.new_markdown_cell(cell.source, metadata=cell.metadata)
            notebook.cells[number] = waiting
    reading = nbformat.v4.new_code_cell(READ_RESULT.format(module=reader, path=str(result)))
    reading.metadata["tags"] = ["remove-cell", "reading"]
    notebook.cells.insert(first, reading)


def _show_what_measured(executed: nbformat.NotebookNode, measured: Path | None) -> None:
    """Put the measuring cells back: executed, from the notebook ``measured``, or as text."""
    before = nbformat.read(measured, as_version=4).cells if measured else []
    cells = {cell.source: cell for cell in before if cell.cell_type == "code"}
    shown = []
    for cell in executed.cells:
        tags = cell.metadata.get("tags", [])
        if not _is_measuring(cell):
            shown.append(cell)
        elif cell.source in cells:
            shown.append(cells[cell.source])
        elif "hide-input" not in tags:
            cell.source = f"```python\n{cell.source}\n```"
            shown.append(cell)
    if cells:  # the measuring cells set what the reading one read
        shown = [cell for cell in shown if "reading" not in cell.metadata.get("tags", [])]
    executed.cells = shown


def _change_exercises(
    notebook: nbformat.NotebookNode, new_cell: Callable[..., nbformat.NotebookNode]
) -> None:
    """Change the type of the cells of exercises."""
    for number, cell in enumerate(notebook.cells):
        if "exercise" in cell.metadata.get("tags", []):
            notebook.cells[number] = new_cell(cell.source, metadata=cell.metadata)


def _tidy(notebook: nbformat.NotebookNode, lab: str | None) -> None:
    """Drop times and paths, so that the same run gives the same file.

    With ``lab``, the cell tagged ``parameters`` gets the run's own values: papermill replaces the
    injected cell by what it is given, and what it is not given would be that of another run.
    """
    notebook.metadata.pop("papermill", None)
    if lab:
        _merge_parameters(notebook, lab)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # jupytext's are random
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")


def _merge_parameters(notebook: nbformat.NotebookNode, lab: str) -> None:
    """Write the injected values into the cell that sets the parameters, and drop their cell."""

    def find(tag: str) -> nbformat.NotebookNode | None:
        tagged = (cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))
        return next(tagged, None)

    given, injected = find("parameters"), find("injected-parameters")
    values = _read_values(given.source)
    if injected:
        values |= _read_values(injected.source)
        notebook.cells.remove(injected)
    if "folder" in values:
        values["folder"] = repr(lab)
    given.source = "\n".join(f"{name} = {value}" for name, value in values.items())


def _read_values(source: str) -> dict[str, str]:
    """Return the source of each value that a cell of assignments sets, by its name."""
    return {
        node.targets[0].id: ast.unparse(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
    }


class _Lines:
    """A file that passes on whole lines."""

    def __init__(self, echo: Callable[[str], None]):
        self.echo, self.rest = echo, ""

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            self.echo(line)

    def flush(self) -> None:
        """Do nothing: only an unfinished line is waiting."""

    def close(self) -> None:
        """Pass on the last line, if it has no end."""
        if self.rest:
            self.write("\n")


def quiet_kernel(folder: Path) -> None:
    """Configure kernels started from here in ``folder``: no log, and a quick end.

    A kernel logs as an error that it was interrupted, which is how it is ended; its end as in
    ``cbir_lib/cli/main.py``.
    """
    profile = folder / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    with replacing(profile / "ipython_kernel_config.py") as part:
        part.write_text(KERNEL)
    os.environ["IPYTHONDIR"] = str(folder / "ipython")

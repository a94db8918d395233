"""What a chapter shows is all that a reader needs: the visible cells, copied alone, run.

The cells are taken from the text of the chapters. Names are checked with ruff and by a parse; then
the visible cells of each chapter are executed in order, in a fresh process and with a fresh
namespace, on the published results of profile ``quick``.
"""

import ast
import contextlib
import io
import multiprocessing
import subprocess
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jupytext
import nbformat
import pytest

from cbir_lib import paths
from cbir_lib.workflow import graph

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))
CHAPTERS = [path.stem for path in NOTEBOOKS if not path.stem.startswith("run_")]
HIDDEN = {"remove-cell", "remove-input", "hide-input", "hide-cell"}  # tags


def visible_cells(chapter):
    """The tags and the code of the cells that a reader sees, without the starters of exercises."""
    cells = graph.read_cells(paths.notebook_source(chapter))
    return [(tags, code) for tags, code in cells if not tags & {*HIDDEN, "exercise"}]


def hidden_cells(chapter):
    cells = graph.read_cells(paths.notebook_source(chapter))
    return [(tags, code) for tags, code in cells if tags & HIDDEN]


def run_ruff(folder, *arguments):
    """What ruff says of the notebooks in a folder, by the rules of the project."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ruff", *arguments),
            *("--config", ROOT / "pyproject.toml", "--config", f"src = ['{ROOT}']"),
            *("--no-cache", folder),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def names_set(code):
    """Names that a cell sets for the cells below it, without what it imports."""
    return _find_names(ast.parse(code), ast.Store)


def names_used(code):
    """Names that a cell takes from the cells above or sets itself, comprehensions included."""
    return _find_names(ast.parse(code), ast.Load)


def _find_names(node, how):
    """Names below a node that are stored or loaded, without those of comprehensions and functions.

    Not by symtable: from Python 3.12 it counts what a comprehension sets among the cell's names.
    """
    found = set().union(*(_find_names(child, how) for child in ast.iter_child_nodes(node)))
    if isinstance(node, ast.Name) and isinstance(node.ctx, how):
        found.add(node.id)
    if generators := getattr(node, "generators", []):
        found -= {name for each in generators for name in _find_names(each.target, ast.Store)}
    if isinstance(node, ast.Lambda | ast.FunctionDef):
        found -= {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
    if isinstance(node, ast.FunctionDef):
        found -= {name for each in node.body for name in _find_names(each, ast.Store)}
        found |= {node.name} if how is ast.Store else set()
    return found


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_shows_code_besides_its_parameters(chapter):
    shown = [code for tags, code in visible_cells(chapter) if "parameters" not in tags]
    assert len(shown) >= 2


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_defines_a_function(notebook):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for tags, code in graph.read_cells(notebook):
        defined = [n.name for n in ast.walk(ast.parse(code)) if isinstance(n, kinds)]
        assert "exercise" in tags or not defined  # which a reader is asked to write


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_visible_code_is_short(chapter):
    for _, code in visible_cells(chapter):
        assert len(code.splitlines()) <= 25, code


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_hidden_cell_sets_what_a_visible_one_uses(chapter):
    used = set().union(*(names_used(code) for _, code in visible_cells(chapter)))
    for _, code in hidden_cells(chapter):
        assert not names_set(code) & used, code


def test_every_name_of_visible_code_is_defined_in_visible_code(tmp_path):
    for chapter in CHAPTERS:
        cells = [nbformat.v4.new_code_cell(code) for _, code in visible_cells(chapter)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{chapter}.ipynb")
    assert run_ruff(tmp_path, "check", "--select", "F821", "--output-format", "concise") == (
        "All checks passed!\n"
    )


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Every notebook as jupytext converts it, without starters, whose imports the solution uses."""
    return convert(tmp_path_factory.mktemp("notebooks"), without={"exercise"})


def convert(folder, without=frozenset()):
    """Write every notebook as jupytext converts it, without the cells of some tags."""
    for path in NOTEBOOKS:
        notebook = jupytext.read(path)
        notebook.cells = [
            cell for cell in notebook.cells if not without & {*cell.metadata.get("tags", [])}
        ]
        jupytext.write(notebook, folder / f"{path.stem}.ipynb")
    return folder


def test_the_cells_of_all_notebooks_pass_ruff(converted):
    lines_may_be_long = ("--extend-ignore", "E501")
    output = run_ruff(converted, "check", *lines_may_be_long, "--output-format", "concise")
    assert output == "All checks passed!\n"


def test_the_cells_of_all_notebooks_are_formatted(tmp_path):
    # The text of a measuring cell decides what a run depends on: another line break repeats it.
    output = run_ruff(convert(tmp_path, without={"measure"}), "format", "--check")
    assert output == f"{len(NOTEBOOKS)} files already formatted\n"


def execute(chapter, folder):
    """Execute the visible cells of a chapter; the traceback if one of them fails, else nothing."""
    import matplotlib.pyplot as plt
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.reset(new_session=False)
    for tags, code in visible_cells(chapter):
        with contextlib.redirect_stdout(io.StringIO()):
            result = shell.run_cell(code)
        try:
            result.raise_error()
        except Exception:
            return f"{code}\n{traceback.format_exc()}"
        if "parameters" in tags:  # as papermill does
            shell.user_ns["folder"] = folder
    plt.close("all")
    return ""


@pytest.fixture(scope="module")
def run_alone(request, phantom_set, phantom_cache, tmp_path_factory, worker_id):
    """Execute a chapter in a fresh process, which imports the libraries once.

    Without other workers it is one of two, and all chapters that are asked for begin at once.
    """
    folder = str(tmp_path_factory.mktemp("nothing") / "quick")  # a study that was never run
    asked = [
        item.callspec.params["chapter"]
        for item in request.session.items
        if item.originalname == test_visible_code_runs_alone.__name__ and worker_id == "master"
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CBIR_CACHE", str(phantom_cache))
        patch.setenv("MPLBACKEND", "agg")
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        patch.chdir(ROOT)
        count = 2 if worker_id == "master" else 1
        pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"))
        begun = {chapter: pool.submit(execute, chapter, folder) for chapter in asked}
        yield lambda chapter: (begun.get(chapter) or pool.submit(execute, chapter, folder)).result()
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_visible_code_runs_alone(chapter, run_alone):
    failed = run_alone(chapter)
    assert not failed, failed

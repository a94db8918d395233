"""Executing notebooks, on small ones: every execution starts a kernel, so there are few of them."""

import ast
import os
import socket
import sys
from contextlib import chdir
from pathlib import Path

import nbformat
import papermill
import pytest
from jupyter_client.connect import LocalPortCache
from papermill.exceptions import PapermillExecutionError

from cbir_lib import paths
from cbir_lib.book import notebooks
from cbir_lib.book.notebooks import NotebookFailedError, execute, quiet_kernel
from cbir_lib.book.parameters import generate_parameters, generate_run, list_examples, rewrite
from cbir_lib.errors import CbirError
from cbir_lib.study import results
from cbir_lib.study.config import DescriptorRun
from cbir_lib.workflow import graph
from tests.study.test_results import WRITTEN

ROOT = Path(__file__).parents[2]
HEADER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {name: python3, display_name: Python 3, language: python}
---

# Draft

Text.
"""
PARAMETERS = 'count = 1\nword = "one"\nsplits = {"train": 1}'


def written(path, *cells, parameters=PARAMETERS):
    """A text notebook: a heading, the cell of the parameters, and these ``(source, tag)`` cells."""
    text = HEADER
    for source, tag in [(parameters, "parameters")] * bool(parameters) + list(cells):
        text += f"\n```{{code-cell}}\n:tags: [{tag}]\n\n{source}\n```\n"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module", autouse=True)
def quiet(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", "")  # put back at the end
        folder = tmp_path_factory.mktemp("ipython")
        quiet_kernel(folder)
        assert Path(os.environ["IPYTHONDIR"]).is_relative_to(folder)
        yield


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """One notebook executed twice, in two places: the targets, and the lines that were echoed."""
    targets, lines = [], []
    for folder in (tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")):
        source = written(
            folder / "small.md",
            ("print(word, count, splits)\nprint('two', 'lines', sep='\\n')", "show"),
            (
                "assert __import__('pathlib').Path('study.yml').exists()  # where notebooks run",
                "show",
            ),
            ("count + 1", "show"),
            ("print('no end', end='')", "show"),
        )
        with chdir(folder):  # a notebook runs in the project, wherever it is started from
            execute(
                source,
                folder / "new" / "small.ipynb",
                {"count": 41, "splits": {"train": 9}},
                log=folder / "logs" / "small.ipynb",
                title="Network A, seed 0",
                echo=lines.append,
            )
        targets.append(folder / "new" / "small.ipynb")
    return targets, lines


def test_parameters_are_injected_and_printed_lines_echoed(executed):
    targets, lines = executed
    # "word" keeps its default.
    assert lines == ["one 41 {'train': 9}", "two", "lines", "no end"] * 2
    notebook = nbformat.read(targets[0], as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[-2].outputs[0].data["text/plain"] == "42"
    [injected] = [c for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert "count = 41" in injected.source
    assert "remove-cell" in injected.metadata.tags  # the book does not show it


def test_the_title_replaces_the_first_heading(executed):
    notebook = nbformat.read(executed[0][0], as_version=4)
    assert notebook.cells[0].source == "# Network A, seed 0\n\nText."


def test_the_same_run_gives_the_same_bytes(executed):
    one, two = executed[0]
    assert one.read_bytes() == two.read_bytes()


def test_an_executed_notebook_names_no_place_of_this_machine(executed):
    text = executed[0][0].read_text(encoding="utf-8")
    for place in (ROOT, Path.home(), sys.prefix, executed[0][0].parents[1]):
        assert str(place) not in text


def fails(folder, cell):
    """Execute a notebook whose third code cell is this one; the lines of the error, and the log."""
    target = folder / "runs" / "toy" / "notebook.ipynb"
    target.parent.mkdir(parents=True)
    target.write_text("what was there before")
    source = written(folder / "failing.md", ("print('fine', end='')", "show"), (cell, "show"))
    printed = []
    with pytest.raises(NotebookFailedError) as caught:
        execute(source, target, {}, log=folder / "logs" / "toy.ipynb", echo=printed.append)
    assert printed == ["fine"]
    assert target.read_text() == "what was there before"
    log = nbformat.read(folder / "logs" / "toy.ipynb", as_version=4)
    return caught.value.lines, [
        output
        for cell in log.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]


def test_a_failing_cell_is_named_and_the_log_kept(tmp_path):
    lines, [error] = fails(tmp_path, "total = 3\nshare = total / 0")
    assert lines[0].startswith("toy: cell 3")
    assert lines[1].endswith("share = total / 0")  # the line, not the first one
    assert lines[2].endswith("ZeroDivisionError: division by zero")
    assert error.ename == "ZeroDivisionError"


def test_a_mistake_of_the_user_is_two_lines_in_place_of_a_traceback(tmp_path):
    raising = "from cbir_lib import CbirError\nraise CbirError('the sky is low', 'wait')"
    lines, [error] = fails(tmp_path, raising)
    assert lines[0].startswith("toy: cell 3")
    assert lines[2].endswith("error: the sky is low / hint: wait")
    assert error.traceback == ["error: the sky is low", "hint: wait"]


CELLS = [
    ("asked, run = word, None", "setup"),
    ("print('measured'); measured = asked", "measure"),
    ("raise RuntimeError('a book made from published results measures nothing')", "measure"),
    ("print(result.run, result.retrieval.queries)", "show"),
]


def execute_with_ports_taken(folder, monkeypatch, kernels):
    """Execute a notebook while another program has a port of each of the first ``kernels``."""
    choose, chosen = LocalPortCache.find_available_port, []
    with socket.create_server(("127.0.0.1", 0)) as other:

        def find_available_port(cache, ip):
            chosen.append(choose(cache, ip))
            first = len(chosen) % 5 == 1  # of the five that a kernel has
            return other.getsockname()[1] if first and len(chosen) <= 5 * kernels else chosen[-1]

        monkeypatch.setattr(LocalPortCache, "find_available_port", find_available_port)
        source, target = written(folder / "small.md", ("6 * 7", "show")), folder / "small.ipynb"
        execute(source, target, {}, log=folder / "log.ipynb")
    return nbformat.read(target, as_version=4), len(chosen) // 5


def test_another_kernel_is_started_if_a_port_of_the_first_is_taken(tmp_path, monkeypatch):
    executed, started = execute_with_ports_taken(tmp_path, monkeypatch, 1)
    assert executed.cells[-1].outputs[0].data["text/plain"] == "42"
    assert started == 2


def test_kernels_that_cannot_start_are_an_error_of_two_lines(tmp_path, monkeypatch):
    with pytest.raises(CbirError, match="log: 3 kernels died before they executed anything"):
        execute_with_ports_taken(tmp_path, monkeypatch, 3)
    assert not (tmp_path / "small.ipynb").exists()


def test_a_killed_kernel_is_an_error_of_two_lines(tmp_path):
    kill = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"  # as the system kills
    source, target = written(tmp_path / "small.md", (kill, "show")), tmp_path / "small.ipynb"
    with pytest.raises(CbirError, match="log: the kernel that executed it was killed"):
        execute(source, target, {}, log=tmp_path / "log.ipynb")
    assert not target.exists()


def test_what_a_busy_kernel_says_late_is_waited_for(tmp_path, monkeypatch):
    late = """
import time
from ipykernel.kernelbase import Kernel

publish = Kernel._publish_status

def publish_late(kernel, status, *others, **named):
    if status == "idle":
        Kernel._publish_status = publish
        time.sleep(5)  # nbclient waits for 4
    publish(kernel, status, *others, **named)

Kernel._publish_status = publish_late
"""
    source = written(tmp_path / "small.md", (late, "show"), ("6 * 7", "show"))
    target = tmp_path / "small.ipynb"
    execute(source, target, {}, log=tmp_path / "log.ipynb")
    executed = nbformat.read(target, as_version=4)
    assert executed.cells[-1].outputs[0].data["text/plain"] == "42"
    monkeypatch.setattr(notebooks, "MESSAGE_S", 1)
    with pytest.raises(CbirError, match="log: the kernel that executed it does not answer"):
        execute(source, target, {}, log=tmp_path / "log.ipynb")


@pytest.fixture
def stored(tmp_path):
    """A result file, and the line that the last of the cells prints of it."""
    results.write(tmp_path / "result.json", results.Result(**WRITTEN))
    return tmp_path / "result.json", f"{WRITTEN['run']} {WRITTEN['retrieval']['queries']}"


def test_a_published_result_is_read_instead_of_measuring(tmp_path, stored):
    file, line = stored
    source, target = written(tmp_path / "run.md", *CELLS), tmp_path / "run.ipynb"
    lines = []
    execute(source, target, {}, log=tmp_path / "log.ipynb", result=file, echo=lines.append)
    assert lines == [line]
    cells = nbformat.read(target, as_version=4).cells
    shown = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert shown[1:] == [f"```python\n{code}\n```" for code, tag in CELLS if tag == "measure"]
    reading = [cell for cell in cells if "results.read" in cell.source]
    assert len(reading) == 1 and "remove-cell" in reading[0].metadata.tags


def test_a_page_of_a_published_result_refuses_other_parameters(tmp_path, stored):
    """As of papermill with ``-p``, in whatever folder: the result is none of theirs."""
    file, line = stored
    made = DescriptorRun(dataset="phantom", sample_seed=0, size=64, descriptor="hog")
    results.write(file, results.Result(**WRITTEN | {"parameters": made.model_dump()}))
    run = "from cbir_lib.study.config import DescriptorRun\nrun = DescriptorRun("
    run += "dataset='phantom', sample_seed=0, size=size, descriptor='hog')"
    cells = [(run, "setup"), *CELLS[1:]]
    source, page = (
        written(tmp_path / "run.md", *cells, parameters="size = 64"),
        tmp_path / "p.ipynb",
    )
    execute(source, page, {}, log=tmp_path / "log.ipynb", result=file)
    again = tmp_path / "again.ipynb"
    papermill.execute_notebook(page, again, {"size": 64}, cwd=tmp_path, progress_bar=False)
    assert line in again.read_text()
    with pytest.raises(PapermillExecutionError, match="was measured with other values of size"):
        papermill.execute_notebook(page, again, {"size": 32}, cwd=tmp_path, progress_bar=False)


def test_what_was_measured_is_shown_again_with_its_outputs(tmp_path, stored):
    file, line = stored
    reads = f"from cbir_lib.study import results; result = results.read({str(file)!r})"
    before = [CELLS[0], CELLS[1], (reads, "measure"), ("print('old text')", "show")]
    after = [*before[:3], CELLS[3]]
    source, first, again = (tmp_path / name for name in ("run.md", "first.ipynb", "again.ipynb"))
    log = tmp_path / "log.ipynb"
    execute(written(source, *before), first, {"word": "two"}, log=log)
    lines = []
    execute(
        written(source, *after),
        again,
        {"word": "two"},
        log=log,
        result=file,
        measured=first,
        echo=lines.append,
    )
    assert lines == [line]  # nothing was measured
    cells = [c for c in nbformat.read(again, as_version=4).cells if c.cell_type == "code"]
    assert [c.source for c in cells[-4:]] == [code for code, _ in after]
    assert cells[-3].outputs == [{"name": "stdout", "output_type": "stream", "text": "measured\n"}]


def test_the_copy_executed_by_hand_writes_elsewhere(tmp_path):
    cells = [("from pathlib import Path", "show"), ("Path(folder, 'made').write_text('x')", "show")]
    cells.append(("print([count, kind])", "show"))
    default = 'folder = "nowhere"\ncount = 1\nkind = {"a": None}'
    source = written(tmp_path / "run.md", *cells, parameters=default)
    study, lab = tmp_path / "study", tmp_path / "lab"
    for place in (study, lab):
        place.mkdir()
    target, log = tmp_path / "run.ipynb", tmp_path / "log.ipynb"
    own = {"folder": str(study), "kind": {"b": [0.5, True, "it's"]}}
    execute(source, target, own, log=log, lab=str(lab))
    assert (study / "made").exists()
    (study / "made").unlink()
    for given, printed in (
        ({}, [1, own["kind"]]),
        ({"count": 3}, [3, own["kind"]]),  # papermill's -p: the rest stays the run's own
    ):
        papermill.execute_notebook(
            str(target), str(log), given, kernel_name="python3", progress_bar=False
        )
        assert (lab / "made").exists() and not (study / "made").exists()
        (lab / "made").unlink()
        last = nbformat.read(log, as_version=4).cells[-1]
        assert last.outputs[0].text == f"{printed}\n"


@pytest.mark.parametrize("run", list_examples(), ids=lambda run: run.notebook)
def test_the_parameters_of_a_run_notebook_are_generated(run):
    source = paths.notebook_source(run.notebook)
    (cell,) = (code for tags, code in graph.read_cells(source) if "parameters" in tags)
    (setup,) = (code for tags, code in graph.read_cells(source) if "setup" in tags)
    assert ast.dump(ast.parse(cell)) == ast.dump(ast.parse(generate_parameters(run)))
    line = next(n for n in ast.parse(setup).body if ast.unparse(n).startswith("run = "))
    assert ast.dump(line) == ast.dump(ast.parse(generate_run(run)).body[0])
    names: dict = {}
    exec(cell, names)
    kind = type(run)
    assert kind(**{name: names[name] for name in kind.model_fields}) == run


def test_a_full_disk_leaves_a_run_notebook_as_it_was(tmp_path, monkeypatch):
    whole = paths.notebook_source("run_network").read_text()
    (tmp_path / "run.md").write_text(whole)
    monkeypatch.setattr(paths, "notebook_source", lambda name: tmp_path / "run.md")
    write_text = Path.write_text

    def fill(path, text, **how):
        write_text(path, text[: len(text) // 2], **how)
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(CbirError, match="no space left"):
        rewrite()
    assert (tmp_path / "run.md").read_text() == whole


@pytest.mark.parametrize(
    ("parameters", "values", "what", "hint"),
    [
        (PARAMETERS, {"cuont": 2}, "'cuont'", "did you mean 'count'?"),
        (None, {}, "no cell tagged 'parameters'", "tag the one"),
    ],
    ids=["unknown", "none declared"],
)
def test_parameters_the_notebook_does_not_declare_are_refused(
    parameters, values, what, hint, tmp_path
):
    source = written(tmp_path / "small.md", ("1", "show"), parameters=parameters)
    with pytest.raises(CbirError) as caught:
        execute(source, tmp_path / "small.ipynb", values, log=tmp_path / "log.ipynb")
    assert what in caught.value.what
    assert "small.md" in caught.value.what
    assert hint in caught.value.hint
    assert not (tmp_path / "small.ipynb").exists()


def test_a_missing_notebook_is_refused(tmp_path):
    with pytest.raises(CbirError, match="none.md"):
        execute(tmp_path / "none.md", tmp_path / "none.ipynb", {}, log=tmp_path / "log.ipynb")

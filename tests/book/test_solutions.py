"""Solutions in the book: folded, or left out of every source that the site is built from."""

import jupytext
import nbformat
import pytest

from cbir_lib import paths
from cbir_lib.book import site
from cbir_lib.book.notebooks import execute
from cbir_lib.teaching.exercises import read_chapter
from tests.book.test_notebooks import written


@pytest.mark.parametrize("solutions", ["folded", "omitted"])
def test_one_switch_leaves_every_solution_out(solutions, tmp_path):
    (tmp_path / "chapters").mkdir()
    chapter = jupytext.read(paths.notebook_source("networks"))
    nbformat.write(chapter, tmp_path / "chapters" / "networks.ipynb")
    pages = site.assemble(tmp_path, [], solutions)
    notebook = nbformat.read(pages / "chapters" / "networks.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells)
    quiz = (pages / "quiz_learned.md").read_text(encoding="utf-8")
    shown = solutions == "folded"
    for exercise in read_chapter("networks").exercises:
        assert exercise.starter in text
        assert (exercise.solution in text) is shown
        assert (exercise.reason in text) is shown
    assert ("**Right.**" in quiz) is shown
    assert ("- In the convolutions\n" in quiz) is not shown
    assert "## Summary" in text and "## Question 5" in quiz


def test_a_cell_of_an_exercise_is_shown_and_not_executed(tmp_path):
    source = written(tmp_path / "chapter.md", ("raise RuntimeError", "exercise"), ("6 * 7", "show"))
    execute(source, tmp_path / "chapter.ipynb", {}, log=tmp_path / "log.ipynb")
    notebook = nbformat.read(tmp_path / "chapter.ipynb", as_version=4)
    nbformat.validate(notebook)
    exercise, last = notebook.cells[-2:]
    assert (exercise.cell_type, exercise.source) == ("code", "raise RuntimeError")
    assert exercise.outputs == [] and exercise.execution_count is None
    assert last.outputs[0].data["text/plain"] == "42"

"""A course, written from the chapters: for students, for instructors, and for nbgrader."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from cbir_lib import paths
from cbir_lib.book.report_page import strip_book_markup
from cbir_lib.errors import CbirError
from cbir_lib.files import replacing_folder
from cbir_lib.teaching.exercises import Chapter, Exercise, read_chapters

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
PAGES = ("labs", "glossary")  # prose that comes along
NBGRADER_SCHEMA = 3
NBGRADER_CONFIG = '''\
"""nbgrader's settings: run its commands in this folder."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "cbir"
c.ClearSolutions.code_stub = {"python": "# your code here"}
# Seconds, for a busy machine: per cell, of which the first image takes longest; until a kernel has
# started; and until what a cell printed has arrived.
c.ExecutePreprocessor.timeout = 300
c.ExecutePreprocessor.startup_timeout = 300
c.ExecutePreprocessor.iopub_timeout = 120
'''
README = """\
# Exercises of "Content-based retrieval of radiographs"

Written by `cbir course` from the chapters of the book. The notebooks need the library: in a clone
of the repository, `make lab`, or `pip install --editable ".[book]"`. They read published results
and embedded simulated radiographs, train nothing, and each runs in seconds.

| folder | for whom |
|---|---|
| `student/` | questions, starters, checks that say right or give a hint; quizzes, glossary |
| `instructor/` | the same with solutions and reasons, and plans for three labs of 90 minutes |
| `nbgrader/` | source of nbgrader assignments with points and hidden tests |

| chapter | exercises | minutes | points |
|---|---|---|---|
{rows}

nbgrader (`pip install nbgrader`) makes the student version, grades, and writes feedback:

```bash
source .venv/bin/activate   # in the clone: nbgrader must find its helpers
cd FOLDER/nbgrader
nbgrader generate_assignment networks --create   # source/ -> release/
nbgrader autograde networks                      # submitted/STUDENT/networks/ -> autograded/
nbgrader generate_feedback networks              # -> feedback/
```
"""


def write_course(folder: Path, names: Sequence[str] = ()) -> list[Chapter]:
    """Write the course of all chapters, or of these, into a new or empty folder.

    Everything is written beside the folder first and then moved.

    Returns
    -------
    list of Chapter
        The chapters written.

    Raises
    ------
    CbirError
        When the folder is not empty or cannot be written, a chapter is unknown, or an exercise
        lacks a part.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise CbirError(f"{folder} is not empty", "name a new or empty folder: --out FOLDER")
    chapters = read_chapters(names)
    with replacing_folder(folder) as part:
        _write_editions(part, chapters)
    return chapters


def _write_editions(folder: Path, chapters: Sequence[Chapter]) -> None:
    editions: dict[str, Callable[[Exercise], list[NotebookNode]]] = {
        "student": make_student_cells,
        "instructor": make_instructor_cells,
    }
    for chapter in chapters:
        for edition, make_cells in editions.items():
            _write(folder / edition / f"{chapter.name}.ipynb", make_notebook(chapter, make_cells))
        assignment = folder / "nbgrader" / "source" / chapter.name
        _write(assignment / f"{chapter.name}.ipynb", make_notebook(chapter, make_nbgrader_cells))
    (folder / "nbgrader" / "nbgrader_config.py").write_text(NBGRADER_CONFIG, encoding="utf-8")
    for quiz in sorted(paths.book_folder().glob("quiz_*.md")):
        text = strip_book_markup(quiz.read_text(encoding="utf-8"))
        _write(folder / "student" / f"{quiz.stem}.ipynb", _assemble([new_markdown_cell(text)]))
    for page, edition in zip(PAGES, ("instructor", "student"), strict=True):
        text = (paths.book_folder() / f"{page}.md").read_text(encoding="utf-8")
        text = re.sub(r"^\([\w-]+\)=\n", "", strip_book_markup(text), flags=re.M)
        (folder / edition / f"{page}.md").write_text(text, encoding="utf-8")
    rows = "\n".join(
        f"| {c.title} (`{c.name}`) | {len(c.exercises)} | {c.minutes} | {c.points} |"
        for c in chapters
    )
    (folder / "README.md").write_text(README.format(rows=rows), encoding="utf-8")


def make_notebook(
    chapter: Chapter, make_cells: Callable[[Exercise], list[NotebookNode]]
) -> NotebookNode:
    """Make a notebook of a chapter's exercises; it needs nothing from the chapter itself."""
    first = new_markdown_cell(
        f"# {chapter.title}: exercises\n\n"
        f"{len(chapter.exercises)} exercises, {chapter.minutes} minutes, {chapter.points} points. "
        "Replace the dots and run the cell: `check` says right, or gives a hint."
    )
    return _assemble([first, *(cell for e in chapter.exercises for cell in make_cells(e))])


def make_student_cells(exercise: Exercise) -> list[NotebookNode]:
    """Make the cells of an exercise without its solution: the question and the starter."""
    return [_ask(exercise), new_code_cell(exercise.starter)]


def make_instructor_cells(exercise: Exercise) -> list[NotebookNode]:
    """Make the cells of an exercise with its solution and the reason."""
    return [
        *make_student_cells(exercise),
        new_markdown_cell("**Solution**"),
        new_code_cell(exercise.solved, metadata={"tags": ["solution"]}),
        new_markdown_cell(strip_book_markup(exercise.reason)),
    ]


def make_nbgrader_cells(exercise: Exercise) -> list[NotebookNode]:
    """Make the cells of an exercise for nbgrader: question, answer with solution, graded test.

    nbgrader leaves the starter in place of the solution, and takes the hidden test out; when it
    grades, it puts that back. The test prints a hint for each wrong part and gives the points of
    those that are right.
    """
    graded = exercise.call.replace("check(", "grade(", 1)
    graded = f"{graded.removesuffix(')').rstrip().rstrip(',')}, points={exercise.points})"
    answer = f"{exercise.blank}\n\n### BEGIN SOLUTION\n{exercise.solution}\n### END SOLUTION"
    test = (
        f"{exercise.call}\n### BEGIN HIDDEN TESTS\n"
        f"from cbir_lib.teaching import grade\n\n{graded}\n### END HIDDEN TESTS"
    )
    cells = [_ask(exercise), new_code_cell(answer), new_code_cell(test)]
    kinds = (
        {"locked": True},
        {"solution": True},
        {"grade": True, "locked": True, "points": exercise.points},
    )
    for cell, kind, role in zip(cells, kinds, ("question", "answer", "test"), strict=True):
        cell.metadata["nbgrader"] = {
            "schema_version": NBGRADER_SCHEMA,
            "grade_id": f"{exercise.name}-{role}",
            **dict.fromkeys(("grade", "solution", "locked", "task"), False),
            **kind,
        }
    return cells


def _ask(exercise: Exercise) -> NotebookNode:
    points = f"{exercise.points} point{'s' * (exercise.points != 1)}"
    return new_markdown_cell(
        f"## Exercise {exercise.number}: {exercise.title}\n\n"
        f"*{exercise.minutes} minutes, {points}.* "
        f"{strip_book_markup(exercise.text)}"
    )


def _assemble(cells: Sequence[NotebookNode]) -> NotebookNode:
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"  # nbformat's are random
    return new_notebook(cells=list(cells), metadata={"kernelspec": KERNEL})


def _write(path: Path, notebook: NotebookNode) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)

"""The course that is written from the chapters, and its way through nbgrader."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

from cbir_lib import paths
from cbir_lib.book.notebooks import DIED, STARTS
from cbir_lib.errors import CbirError
from cbir_lib.teaching.course import write_course
from cbir_lib.teaching.exercises import read_chapters
from tests.fixtures import execute_cells

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "new" / "course"
    write_course(folder)
    return folder


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def text_of(notebook):
    return "\n".join(cell.source for cell in notebook.cells)


def test_every_chapter_has_its_three_notebooks(course):
    chapters = read_chapters()
    for chapter in chapters:
        student = read(course / "student" / f"{chapter.name}.ipynb")
        instructor = read(course / "instructor" / f"{chapter.name}.ipynb")
        source = read(course / "nbgrader" / "source" / chapter.name / f"{chapter.name}.ipynb")
        for exercise in chapter.exercises:
            assert exercise.starter in text_of(student)
            assert exercise.solution in text_of(instructor)
            assert exercise.solution in text_of(source)
            assert exercise.solution not in text_of(student)
            assert exercise.reason not in text_of(student)
        points = [
            cell.metadata.nbgrader.points
            for cell in source.cells
            if "nbgrader" in cell.metadata and cell.metadata.nbgrader.grade
        ]
        assert sum(points) == chapter.points
    assert len(list(course.glob("student/quiz_*.ipynb"))) == 5
    assert (course / "instructor" / "labs.md").is_file()
    assert f"| {len(chapters[0].exercises)} | {chapters[0].minutes} |" in (
        course / "README.md"
    ).read_text(encoding="utf-8")


def test_notebooks_point_at_no_page_of_the_book(course):
    for path in course.rglob("*.ipynb"):
        for cell in read(path).cells:
            if cell.cell_type == "markdown":
                assert "](" not in cell.source.replace("](http", ""), path
                assert "{cite" not in cell.source


def test_the_same_chapters_give_the_same_bytes(course, tmp_path):
    write_course(tmp_path / "course")
    files = [path.relative_to(course) for path in course.rglob("*") if path.is_file()]
    assert len(files) > 63
    assert all((tmp_path / "course" / f).read_bytes() == (course / f).read_bytes() for f in files)


@pytest.mark.parametrize(("edition", "right"), [("student", 0), ("instructor", 4)])
def test_a_notebook_runs_alone(edition, right, course, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = read(course / edition / "networks.ipynb")
    execute_cells(notebook, resources={"metadata": {"path": str(tmp_path)}})
    shown = [
        output.data["text/plain"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    assert sum(text.startswith("✓ networks-") for text in shown) == right
    assert sum("not answered yet" in text for text in shown) == 4


@pytest.mark.parametrize("before", ["a file in it", "a file"])
def test_a_folder_that_is_not_empty_is_left_alone(before, cbir, tmp_path):
    out = tmp_path / "course"
    if before == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    code, printed, errors = cbir("course", "--out", out)
    assert (code, printed) == (2, "")
    assert len(errors) == 2
    assert errors[0].startswith("error: ") and str(out) in errors[0]
    assert errors[1].startswith("hint: name a new")
    kept = out if before == "a file" else out / "mine.txt"
    assert kept.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["course"]


def test_an_empty_folder_and_one_chapter_will_do(cbir, tmp_path):
    (tmp_path / "course").mkdir()
    code, printed, _ = cbir("course", "--out", tmp_path / "course", "--chapter", "retrieval")
    assert code == 0
    assert printed.startswith("4 exercises of 1 chapters, 60 minutes")
    assert [path.stem for path in (tmp_path / "course").glob("instructor/*.ipynb")] == ["retrieval"]


def test_an_unknown_chapter_is_refused_and_nothing_written(cbir, tmp_path):
    code, _, errors = cbir("course", "--out", tmp_path / "course", "--chapter", "retreival")
    assert code == 2 and "did you mean 'retrieval'?" in errors[1]
    assert not any(tmp_path.iterdir())


def test_a_course_that_cannot_be_finished_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "book_folder", lambda: tmp_path / "nowhere")
    with pytest.raises((CbirError, OSError)):
        write_course(tmp_path / "course")
    assert not any(tmp_path.iterdir())


# nbgrader

RIGHT = {
    "networks-1-answer": "shape, field, parameters = (20, 16, 16), 36, 18300",
    "networks-2-answer": "depth, weights_stacked, weights_single = 3, 10800, 19600",
    "networks-3-answer": "larger, where = 'E', 'fc1'",
    "networks-4-answer": "left, share = 42725, 42725 / 26671225",
}
WRONG = {
    # One part of three is right; the student's own check says that all are.
    "networks-1-answer": "check = lambda *answers: True\n"
    "shape, field, parameters = (20, 16, 16), 13, 18180",
    "networks-2-answer": "raise RuntimeError('given up')",
    "networks-3-answer": "larger, where = 'E', 3",
    # networks-4 is not answered at all.
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """One chapter, released, handed in by two students, graded, with feedback."""
    if find_spec("nbgrader") is None:
        pytest.skip("nbgrader is not installed: pip install '.[teaching]'")
    folder = tmp_path_factory.mktemp("nbgrader") / "course"
    write_course(folder, ["networks"])
    place = folder / "nbgrader"
    call(place, "generate_assignment", "networks", "--create")
    for student, answers in (("right", RIGHT), ("wrong", WRONG)):
        notebook = read(place / "release" / "networks" / "networks.ipynb")
        for cell in notebook.cells:
            answer = answers.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
            if answer:
                cell.source = cell.source.replace("# your code here", answer)
                assert answer in cell.source
        handed_in = place / "submitted" / student / "networks"
        handed_in.mkdir(parents=True)
        nbformat.write(notebook, handed_in / "networks.ipynb")
    call(place, "autograde", "networks")
    call(place, "generate_feedback", "networks")
    return place


def call(place, *arguments):
    commands = str(Path(sys.executable).parent)  # nbgrader calls alembic by its name
    environment = os.environ | {
        "PATH": os.pathsep.join([commands, os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "JUPYTER_CONFIG_DIR": str(place / "settings"),
    }
    command = [sys.executable, "-m", "nbgrader", *arguments]
    for _ in range(STARTS):
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        if DIED not in done.stderr:
            break
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_release_has_starters_and_no_solution(graded):
    text = json.dumps(read(graded / "release" / "networks" / "networks.ipynb"))
    assert "# your code here" in text and "depth = ..." in text
    for hidden in ("SOLUTION", "HIDDEN", "grade(", "7 - 1", "10800"):
        assert hidden not in text


def test_points_are_for_what_is_right(graded):
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{graded / 'gradebook.db'}") as book:
        scores = {
            student: {
                grade.name: (grade.auto_score, grade.max_score)
                for grade in book.find_submission_notebook("networks", "networks", student).grades
            }
            for student in ("right", "wrong")
        }
    points = {f"{e.name}-test": e.points for e in read_chapters(["networks"])[0].exercises}
    assert scores["right"] == {name: (most, most) for name, most in points.items()}
    assert scores["wrong"] == {
        "networks-1-test": (pytest.approx(1), points["networks-1-test"]),
        "networks-2-test": (0, points["networks-2-test"]),
        "networks-3-test": (pytest.approx(1), points["networks-3-test"]),
        "networks-4-test": (0, points["networks-4-test"]),
    }


def test_feedback_has_the_hints_and_no_answer(graded):
    page = (graded / "feedback" / "wrong" / "networks" / "networks.html").read_text("utf-8")
    assert "After a pooling, neighbours are two pixels apart" in page
    assert "a text is expected, not an int" in page
    assert "10800" not in page and "42725" not in page
    right = (graded / "feedback" / "right" / "networks" / "networks.html").read_text("utf-8")
    assert right.count("✓ networks-") >= 4

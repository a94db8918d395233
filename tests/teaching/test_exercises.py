"""Every exercise: its solution passes its check, and a wrong answer gets a hint and no answer."""

import re
from importlib import import_module

import numpy as np
import pytest

from cbir_lib import paths, teaching
from cbir_lib.errors import CbirError
from cbir_lib.teaching import checking, material
from cbir_lib.teaching.answers import UNANSWERED, Array, Function, Items, Number, Word
from cbir_lib.teaching.exercises import read_chapter, read_chapters

CHAPTERS = read_chapters()
EXERCISES = {exercise.name: exercise for chapter in CHAPTERS for exercise in chapter.exercises}


def run(code, monkeypatch):
    """Execute the code of a cell; return the arguments of its call of ``check``, and the names."""
    calls, names = [], {}
    monkeypatch.setattr(teaching, "check", lambda *arguments: calls.append(arguments))
    exec(compile(code, "<exercise>", "exec"), names)
    (call,) = calls
    return call, names


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_is_right_and_a_wrong_answer_gets_a_hint(name, monkeypatch):
    (called, *answers), names = run(EXERCISES[name].solved, monkeypatch)
    assert called == name
    expected = checking.find_expected(name)
    assert all(one.name in names for one in expected)
    monkeypatch.setattr(checking, "find_expected", lambda exercise: expected)  # computed once
    verdict = checking.check(name, *answers)
    assert verdict, verdict
    for place, one in enumerate(expected):
        for wrong in (change(one, answers[place]), np.nan, ..., object()):
            tried = [*answers[:place], wrong, *answers[place + 1 :]]
            verdict = checking.check(name, *tried)
            assert [part for part, _ in verdict.faults] == [one.name], wrong
            ((_, hint),) = verdict.faults
            assert len(hint) > 20
            assert not reveals(hint, one), hint


def change(expected, answer):
    """A wrong answer of the right form, close to the right one."""
    if isinstance(expected, Number):
        step = max(1.5 * expected.tolerance, 1e-6 * max(1, abs(expected.value)))
        return float(np.asarray(answer).item()) + step
    if isinstance(expected, Array):
        wrong = np.array(answer)
        last = (-1,) * wrong.ndim
        if wrong.dtype == bool:
            wrong[last] = ~wrong[last]
        else:
            wrong = wrong.astype(float)
            wrong[last] += max(1.5 * expected.tolerance, 1e-6)
        return wrong
    if isinstance(expected, Items):
        return set(list(expected.value)[1:])
    if isinstance(expected, Word):
        return next(o for o in expected.options if o.lower() != str(answer).strip().lower())
    assert isinstance(expected, Function)
    return lambda *arguments: answer(*arguments) + 1e-3


def reveals(hint, expected):
    """Whether a hint has the answer in it: a number of four digits or more, or a whole set."""
    if isinstance(expected, Number):
        digits = f"{expected.value:.6g}"
        return len(digits.strip("0.")) >= 4 and digits in hint
    if isinstance(expected, Items):
        return all(str(item) in hint for item in expected.value)
    return False


@pytest.mark.parametrize("name", EXERCISES)
def test_the_starter_runs_as_it_is_and_is_not_answered(name, monkeypatch):
    (called, *answers), _ = run(EXERCISES[name].starter, monkeypatch)
    assert called == name
    expected = checking.find_expected(name)
    assert len(answers) == len(expected)
    for one, answer in zip(expected, answers, strict=True):
        fault = checking.find_fault(one, answer)
        assert fault == UNANSWERED or (isinstance(one, Function) and "returns nothing" in fault)


def test_exercises_of_text_and_checks_are_the_same():
    in_checks = {
        f"{chapter}-{number}"
        for chapter in checking.CHAPTERS
        for number, _ in enumerate(
            import_module(f"cbir_lib.teaching.checks.{chapter}").EXERCISES, start=1
        )
    }
    assert set(EXERCISES) == in_checks


def test_every_chapter_with_a_summary_has_exercises():
    lessons = {
        path.stem
        for path in (paths.project_root() / "notebooks").glob("*.md")
        if "\n## Summary\n" in path.read_text(encoding="utf-8")
    }
    assert lessons == {chapter.name for chapter in CHAPTERS}
    assert all(2 <= len(chapter.exercises) <= 4 for chapter in CHAPTERS)
    assert all(5 <= e.minutes <= 20 and 1 <= e.points <= 4 for e in EXERCISES.values())


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("*15 minutes, 3 points.* ", "", "lacks a part"),
        ("<summary>Solution</summary>", "", "lacks a part"),
        ("### Exercise 1:", "### Exercise 5:", "is number 1"),
        ('check("networks-1", shape, field, parameters)', "print(shape)", "has no check"),
        ("## Exercises\n", "## Questions\n", "no section Exercises"),
    ],
)
def test_a_part_that_is_missing_is_named(old, new, what, tmp_path, monkeypatch):
    text = paths.notebook_source("networks").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "networks.md").write_text(text.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(paths, "notebook_source", lambda name: tmp_path / f"{name}.md")
    with pytest.raises(CbirError, match=what):
        read_chapter("networks")


def test_plans_of_labs_fill_90_minutes_with_exercises_that_are_there():
    text = (paths.book_folder() / "labs.md").read_text(encoding="utf-8")
    labs = re.split(r"(?m)^## Lab ", text)[1:]
    assert len(labs) == 3
    for lab in labs:
        rows = re.findall(r"(?m)^\| (\d+) \| .* \| (?:`([\w-]+)`|\u2013) \|$", lab)
        assert sum(int(minutes) for minutes, _ in rows) == 90
        planned = {name: int(minutes) for minutes, name in rows if name}
        assert planned and planned == {name: EXERCISES[name].minutes for name in planned}


def test_each_question_of_a_quiz_has_one_right_answer():
    toc = (paths.book_folder() / "_toc.yml").read_text(encoding="utf-8")
    quizzes = sorted(paths.book_folder().glob("quiz_*.md"))
    assert {chapter.part for chapter in CHAPTERS} == {
        re.match(r"# Quiz: (.+)", quiz.read_text(encoding="utf-8"))[1] for quiz in quizzes
    }
    for quiz in quizzes:
        assert f"file: {quiz.stem}\n" in toc
        for question in quiz.read_text(encoding="utf-8").split("\n## Question ")[1:]:
            assert question.count("**Right.**") == 1, question
            assert question.count("**Wrong.**") >= 1
            assert question.count('<details class="option">') == question.count("</details>")


def test_examples_are_those_of_the_whole_set(phantom_set):
    few = material.load_examples()
    rows = [list(phantom_set.image_ids).index(name) for name in few.image_ids]
    assert np.array_equal(few.images, phantom_set.images[rows])
    assert np.array_equal(few.labels, phantom_set.labels[rows])
    assert few.class_names == phantom_set.class_names
    assert set(few.records["split"]) == {"validation"}


def test_planted_copies_are_the_only_ones():
    train, test = material.plant_copies()
    assert train.shape[1:] == test.shape[1:] == (128, 128)
    (pairs,) = checking.find_expected("checks-1")
    assert len(pairs.value) == len(material.COPIED)


def test_an_unknown_run_or_alteration_is_refused():
    with pytest.raises(CbirError, match="phantom-Q-s0"):
        material.read_published("phantom-Q-s0")
    with pytest.raises(CbirError, match="darker"):
        material.alter_image(np.zeros((128, 128), np.uint8), "darker")


def test_the_changed_accuracy_is_the_only_change():
    from cbir_lib.study.results import list_differences

    changed, published = (
        material.tamper_with_accuracy(),
        material.read_published("phantom-grey-histogram"),
    )
    (line,) = list_differences(published, changed)
    assert re.match(r"rules\.\d\.accuracy: ", line)

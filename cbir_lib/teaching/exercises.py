"""The exercises of a chapter, read from its text: the one source of all editions.

In the section ``Exercises`` of a chapter, each exercise is a heading with its number and title, a
paragraph that begins with its minutes and points, a code cell tagged ``exercise`` that ends with
the call of ``check``, and a folded solution: code, then the reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from cbir_lib import paths
from cbir_lib.errors import CbirError, unknown_name_error
from cbir_lib.teaching.checking import CHAPTERS

SECTION = re.compile(r"^## Exercises\n(.*?)(?=^## |\Z)", re.M | re.S)
EXERCISE = re.compile(
    r"^### Exercise (?P<number>\d+): (?P<title>[^\n]+)\n\n"
    r"\*(?P<minutes>\d+) minutes, (?P<points>\d+) points?\.\* (?P<text>.*?)\n\n"
    r"```\{code-cell\}\n:tags: \[exercise\]\n\n(?P<starter>.*?)\n```\n\n"
    r'<details class="solution">\n<summary>Solution</summary>\n\n'
    r"```python\n(?P<solution>.*?)\n```\n\n(?P<reason>.*?)\n\n</details>\n",
    re.M | re.S,
)
CHECK = re.compile(r"^check\(.*\Z", re.M | re.S)
# What a reader replaces: assignments of dots, and functions without a body.
BLANKS = re.compile(
    r'^(?:[\w, ]+ = [^\n#]*\.\.\.[^\n]*|def [^\n]+:\n(?: {4}"""[^\n]*"""\n)? {4}\.\.\.)\n+', re.M
)
HINT = "write it as the other exercises: CONTRIBUTING.md, an exercise"


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes
    ----------
    minutes, points
        How long it takes, and what it counts.
    text
        The question (Markdown).
    starter
        The code of its cell, which ends with the call of ``check``.
    solution, reason
        Code that answers it, and why (Markdown).
    """

    chapter: str
    number: int
    title: str
    minutes: int
    points: int
    text: str
    starter: str
    solution: str
    reason: str

    @property
    def name(self) -> str:
        """Return its name for ``check``: ``networks-1``."""
        return f"{self.chapter}-{self.number}"

    @property
    def blank(self) -> str:
        """Return the starter without the call of ``check``."""
        return CHECK.sub("", self.starter).strip()

    @property
    def call(self) -> str:
        """Return the call of ``check``."""
        return CHECK.search(self.starter)[0].strip()

    @property
    def solved(self) -> str:
        """Return the starter with the solution in place of its blanks, and the check."""
        setup = BLANKS.sub("", f"{self.blank}\n").strip()
        return f"{setup}\n\n{self.solution}\n\n{self.call}"


@dataclass(frozen=True)
class Chapter:
    """A chapter with exercises: its name, its heading, the part of the book that it is in."""

    name: str
    title: str
    part: str
    exercises: tuple[Exercise, ...]

    @property
    def minutes(self) -> int:
        """Return how long all its exercises take."""
        return sum(exercise.minutes for exercise in self.exercises)

    @property
    def points(self) -> int:
        """Return what all its exercises count."""
        return sum(exercise.points for exercise in self.exercises)


def read_chapters(names: Sequence[str] = ()) -> list[Chapter]:
    """Read the chapters with exercises in the order of the book; all, or only these.

    Raises
    ------
    CbirError
        When there is no such chapter, or an exercise lacks a part.
    """
    for name in names:
        if name not in CHAPTERS:
            raise unknown_name_error("chapter with exercises", name, CHAPTERS)
    contents = paths.book_folder() / "_toc.yml"
    if not contents.is_file():
        raise CbirError("the exercises are in the book of a checkout", "call it in a checkout")
    toc = yaml.safe_load(contents.read_text(encoding="utf-8"))
    places = {
        entry["file"].removeprefix("chapters/"): part["caption"]
        for part in toc["parts"]
        for entry in part["chapters"]
        if "file" in entry
    }
    return [
        read_chapter(name, part) for name, part in places.items() if name in (names or CHAPTERS)
    ]


def read_chapter(name: str, part: str = "") -> Chapter:
    """Read the exercises of one chapter.

    Raises
    ------
    CbirError
        When the file is missing, or an exercise lacks a part or its number is not the next.
    """
    source = paths.notebook_source(name)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise CbirError(f"cannot read {source}: {error.strerror}", "restore it") from error
    section, title = SECTION.search(text), re.search(r"^# (.+)$", text, re.M)
    if not section or not title:
        raise CbirError(f"{source.name} has no heading or no section Exercises", HINT)
    exercises = [
        Exercise(name, **{key: _read(key, value) for key, value in match.groupdict().items()})
        for match in EXERCISE.finditer(section[1])
    ]
    headings = re.findall(r"^### (.*)$", section[1], re.M)
    for number, heading in enumerate(headings, start=1):
        if number > len(exercises) or not heading.startswith(
            f"Exercise {exercises[number - 1].number}:"
        ):
            raise CbirError(f"{source.name}: exercise {heading!r} lacks a part", HINT)
        if exercises[number - 1].number != number:
            raise CbirError(f"{source.name}: exercise {heading!r} is number {number}", HINT)
    for exercise in exercises:
        if not CHECK.search(exercise.starter):
            raise CbirError(f"{source.name}: exercise {exercise.number} has no check", HINT)
    return Chapter(name, title[1], part, tuple(exercises))


def _read(key: str, value: str) -> int | str:
    return int(value) if key in ("number", "minutes", "points") else value

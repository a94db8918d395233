"""The command that writes a course from the chapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def course(
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    chapter: Annotated[
        list[str] | None, typer.Option(help="Only this chapter; can be repeated.")
    ] = None,
) -> None:
    """Write the exercises of the book as notebooks: for students, for instructors, for nbgrader.

    The students' notebooks have no solutions; their checks say that an answer is right, or give a
    hint. They run in seconds, on published results and embedded images.
    Examples: `cbir course --out build/course`, `cbir course --out lab --chapter networks`
    """
    from cbir_lib.teaching.course import write_course

    chapters = write_course(out, chapter or ())
    exercises = sum(len(chapter.exercises) for chapter in chapters)
    minutes = sum(chapter.minutes for chapter in chapters)
    print(f"{exercises} exercises of {len(chapters)} chapters, {minutes} minutes: {out}")
    for edition in ("student", "instructor", "nbgrader"):
        print(f"  {edition}: {out / edition}")

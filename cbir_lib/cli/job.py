"""Execute one step of the study; the Snakefile calls these."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cbir_lib import paths
from cbir_lib.cli.options import ProfileName, StudyFile, run_ids, study_path
from cbir_lib.errors import CbirError

app = typer.Typer(help="What the Snakefile calls.")


@app.command("run")
def job_run(
    run_id: str,
    work: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    study_file: StudyFile = None,
    published: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Execute the notebook of one run."""
    import shutil

    from cbir_lib.study.config import read_study

    run = read_study(study_path(study_file)).run(profile, run_id)
    folder = paths.run_folder(work, run_id)
    if published:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(published, folder / "result.json")
    parameters = run.model_dump() | {"folder": str(folder)}
    _job(work, run_id, run.notebook, folder / "notebook.ipynb", parameters, run.title, published)


@app.command("effects")
def job_effects(
    name: str,
    work: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    study_file: StudyFile = None,
    published: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Execute the notebook of one set of effects."""
    import shutil

    from cbir_lib.study.config import read_study

    run = next(r for r in read_study(study_path(study_file)).effects(profile) if r.name == name)
    target = work / "effects" / f"{name}.ipynb"
    if published:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(published, target.with_suffix(".json"))
    parameters = run.model_dump() | {"folder": str(work)}
    _job(work, run.id, run.notebook, target, parameters, run.title, published, "effects")


@app.command("chapter")
def job_chapter(
    chapter: str,
    work: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    study_file: StudyFile = None,
) -> None:
    """Execute the notebook of one chapter."""
    runs = run_ids(study_file, profile)
    target = work / "chapters" / f"{chapter}.ipynb"
    _job(work, f"chapter-{chapter}", chapter, target, {"folder": str(work), "runs": runs})


def _job(
    work, name, notebook, target, parameters, title=None, published=None, reader="results"
) -> None:
    """Execute a notebook and tell the conductor."""
    from functools import partial

    from cbir_lib import messages
    from cbir_lib.book.notebooks import NotebookFailedError, execute, quiet_kernel

    say = partial(messages.say, name)

    quiet_kernel(Path("build"))
    log = work / "logs" / f"{name.removeprefix('chapter-')}.ipynb"
    say("start")
    started = time.monotonic()
    try:
        execute(
            paths.notebook_source(notebook),
            target,
            parameters,
            log=log,
            title=title,
            published=published,
            reader=reader,
            echo=say,
        )
    except NotebookFailedError as error:
        for line in [*error.lines, f"  the notebook as it stands: {log}"]:
            say(f"| {line}")
        say("failed")
        raise typer.Exit(1) from None
    say(f"done in {time.monotonic() - started:.0f} s")


@app.command("book")
def job_book(
    work: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    study_file: StudyFile = None,
) -> None:
    """Build the book from the executed notebooks."""
    from cbir_lib.book import site
    from cbir_lib.messages import say

    runs = run_ids(study_file, profile)
    say("book", "start")
    started = time.monotonic()
    try:
        site.build(work, runs, work / "logs" / "book.txt")
    except CbirError as error:
        for line in str(error).splitlines():
            say("book", f"| {line}")
        say("book", "failed")
        raise typer.Exit(1) from None
    say("book", f"done in {time.monotonic() - started:.0f} s")


@app.command("check-book")
def job_check_book(
    html: Path,
    profile: ProfileName = "quick",
    study_file: StudyFile = None,
) -> None:
    """Check a built book: every page is there, no link is dead, nothing is from elsewhere."""
    from cbir_lib.book import site

    runs = run_ids(study_file, profile)
    faults = site.missing_pages(html, runs) + site.check(html)
    for fault in faults:
        print(fault)
    if faults:
        raise CbirError(f"{len(faults)} faults in {html}", "build the book again: make study")
    print(f"{html}: every page is there, no dead link, nothing from another host")

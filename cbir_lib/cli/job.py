"""The commands that execute one step of the study; the Snakefile calls them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cbir_lib import paths
from cbir_lib.cli.options import ProfileName, StudyFile, list_run_ids, load_study
from cbir_lib.errors import CbirError, explain_trouble
from cbir_lib.files import replacing

app = typer.Typer(help="Steps of the study, called by the Snakefile.")


@app.command("run")
def job_run(
    run_id: str,
    work: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    study_file: StudyFile = None,
    published: Annotated[
        Path | None, typer.Option(help="Show this result instead of measuring.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Show again what was measured before.")] = False,
) -> None:
    """Execute the notebook of one run."""
    run = load_study(study_file).run(profile, run_id)
    folder = paths.run_folder(work, run_id)
    result = paths.result_file(work, run_id)
    _show_or_measure(run, work, folder, result, folder / "notebook.ipynb", published, again)


@app.command("effects")
def job_effects(
    name: str,
    work: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    study_file: StudyFile = None,
    published: Annotated[Path | None, typer.Option()] = None,
    again: Annotated[bool, typer.Option()] = False,
) -> None:
    """Execute the notebook of one set of effects."""
    from cbir_lib.workflow.publishing import finished_networks

    study = load_study(study_file)
    run = next(run for run in study.effects(profile) if run.name == name)
    if not published:
        networks = finished_networks(study, profile, work, run.networks)
        run = run.model_copy(update={"networks": networks})
    result = paths.effects_file(work, name)
    notebook = result.with_suffix(".ipynb")
    _show_or_measure(run, work, work, result, notebook, published, again, "effects")


def _show_or_measure(
    run, work, folder, result, notebook, published, again, reader="results"
) -> None:
    """Measure a run and show it; show a published result; or show again what was measured."""

    def fetch() -> None:
        if published:
            with replacing(result) as part:
                shutil.copyfile(published, part)

    parameters = run.model_dump() | {"folder": str(folder)}
    if run.reads_other_runs:
        parameters["work"] = str(work)
    _job(
        work,
        run.id,
        run.notebook,
        paths.refreshed_page(work, run.id) if again else notebook,
        parameters,
        fetch,
        title=run.title,
        result=(published or result) if published or again else None,
        reader=reader,
        measured=notebook if again else None,
        lab=str(paths.shorten(paths.build_folder("lab")) / run.id),
    )


@app.command("chapter")
def job_chapter(
    chapter: str,
    work: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    study_file: StudyFile = None,
) -> None:
    """Execute the notebook of one chapter."""
    runs = list_run_ids(study_file, profile)
    target = work / "chapters" / f"{chapter}.ipynb"
    _job(work, f"chapter-{chapter}", chapter, target, {"folder": str(work), "runs": runs})


def _job(work, name, notebook, target, parameters, before=lambda: None, **how) -> None:
    """Execute a notebook, and something before it, and report to the conductor."""
    from functools import partial

    from cbir_lib.book.notebooks import execute, quiet_kernel
    from cbir_lib.messages import send_message

    log = work / "logs" / f"{name.removeprefix('chapter-')}.ipynb"
    source, echo = paths.notebook_source(notebook), partial(send_message, name)

    def do() -> None:
        before()
        quiet_kernel(paths.build_folder())
        execute(source, target, parameters, log=log, echo=echo, **how)

    _report(name, do, log)


@app.command("search-page")
def job_search_page(work: Annotated[Path, typer.Option()]) -> None:
    """Write the data of the page that searches in the browser."""
    from cbir_lib.book import search_page

    _report("search-page", lambda: search_page.write(work / "search"))


@app.command("book")
def job_book(
    work: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    study_file: StudyFile = None,
) -> None:
    """Build the book from the executed notebooks."""
    from cbir_lib.book import site

    runs = list_run_ids(study_file, profile)
    solutions = load_study(study_file).solutions
    _report("book", lambda: site.build(work, runs, work / "logs" / "book.txt", solutions, profile))


@app.command("pdf")
def job_pdf(profile: Annotated[str, typer.Option()] = "quick") -> None:
    """Print the book of a profile's published results as one PDF, with page numbers."""
    from cbir_lib.book import pdf
    from cbir_lib.workflow.conductor import raise_on_signals

    work = paths.build_folder(profile + paths.PUBLISHED)
    with raise_on_signals():  # Chromium ends with this process
        count = pdf.print_book(work / "html", work / "site" / "_toc.yml", work / "book.pdf")
    print(f"{work / 'book.pdf'}: {count} pages")


def _report(job: str, do: Callable[[], object], log: Path | None = None) -> None:
    """Do a job and report to the conductor; ``log`` is the notebook with the cell that failed."""
    from cbir_lib.book.notebooks import NotebookFailedError
    from cbir_lib.messages import send_message

    send_message(job, "start")
    started = time.monotonic()
    try:
        do()
    except NotebookFailedError as error:
        lines = [*error.lines, f"  the notebook as it stands: {log}"]
    except Exception as error:
        if (trouble := explain_trouble(error)) is None:
            raise
        lines = str(trouble).splitlines()
    else:
        send_message(job, f"done in {time.monotonic() - started:.0f} s")
        return
    for line in lines:
        send_message(job, f"| {line}")
    send_message(job, "failed")
    raise typer.Exit(1)


@app.command("check-book")
def job_check_book(
    html: Path,
    profile: ProfileName = "quick",
    study_file: StudyFile = None,
) -> None:
    """Check a built book: all pages exist, no link is dead, nothing loads from another host."""
    from cbir_lib.book import site

    runs = list_run_ids(study_file, profile)
    faults = site.find_missing_pages(html, runs) + site.find_faults(html)
    for fault in faults:
        print(fault)
    if faults:
        raise CbirError(f"{len(faults)} faults in {html}", "build the book again: make study")
    print(f"{html}: all pages exist, no dead links, nothing from another host")

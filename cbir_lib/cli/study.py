"""Run the study; run it again and compare; publish its results."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from cbir_lib import paths
from cbir_lib.cli.options import DataRoot, ProfileName, StudyFile, study_of, study_path
from cbir_lib.errors import CbirError, RunsFailedError
from cbir_lib.reproduction import tolerances, verification_report


def study(
    profile: ProfileName = "quick",
    study_file: StudyFile = None,
    data_root: DataRoot = None,
    published: Annotated[
        bool, typer.Option(help="Build the book from results/ instead; nothing is trained.")
    ] = False,
    book: Annotated[bool, typer.Option(help="Build the book after the runs.")] = True,
    run: Annotated[
        list[str] | None, typer.Option(help="Do this run alone, without the book; may be repeated.")
    ] = None,
    missing: Annotated[
        bool, typer.Option(help="Do only the runs that results/ lacks, without the book.")
    ] = False,
    cores: Annotated[int | None, typer.Option(min=1, help="Runs at a time; all cores.")] = None,
) -> None:
    """Run what is missing or changed of the study, and build the book.

    Examples: `cbir study`, `cbir study --profile quick --cores 4`, `cbir study --published`,
    `cbir study --profile full --run phantom-B-dropout-s0`, `cbir study --profile full --missing`
    """
    from cbir_lib.workflow import conductor
    from cbir_lib.workflow.publishing import unpublished_runs

    runs = run or []
    if missing:
        runs = unpublished_runs(study_of(study_file), profile)
        if not runs:
            print(f"results/{profile}/ has every run of the profile")
            return

    if data_root:
        os.environ["CBIR_DATA"] = str(data_root.resolve())
    work = conductor.conduct(
        study_path(study_file),
        profile,
        published=published,
        book=book,
        runs=runs,
        cores=cores,
    )
    if runs:
        for name in runs:
            print(f"the run: {work / 'runs' / name}")
    elif book:
        print(f"the book: {work / 'html' / 'index.html'}")


def verify(
    profile: ProfileName = "quick",
    run: Annotated[str | None, typer.Option(help="Verify this published run alone.")] = None,
    fresh: Annotated[
        bool, typer.Option(help="Execute everything, in build/PROFILE-fresh; take nothing made.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Print every number, not only those that differ.")
    ] = False,
    publish: Annotated[
        bool, typer.Option(help="Keep it in results/verification/, for the book's page.")
    ] = False,
    study_file: StudyFile = None,
    data_root: DataRoot = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Runs at a time; all cores.")] = None,
) -> None:
    """Execute again what was published, and say number by number whether it is the same.

    Results of the study that are up to date count as executed: this checkout made them on this
    machine. Each number is `same`, `within tolerance`, `different` or `missing`; the tolerance is
    1.5 times the largest difference measured in reruns. Exit code 1 when a number is different or
    missing. All of it goes to `build/PROFILE/verification.json`.

    Examples: `cbir verify`, `cbir verify --profile full --run phantom-B-s0`, `cbir verify --fresh`
    """
    import shutil

    from cbir_lib.datasets import load
    from cbir_lib.reproduction import verification
    from cbir_lib.study import results
    from cbir_lib.study.config import read_study
    from cbir_lib.workflow import conductor

    if publish and run:
        raise CbirError("a verification of one run is not published", "leave out --run")
    if data_root:
        os.environ["CBIR_DATA"] = str(data_root.resolve())
    study_file = study_path(study_file)
    study = read_study(study_file)
    names = {one.id for one in study.runs(profile)}
    published = verification.published(profile, run)
    work = paths.build_folder(profile + "-fresh" * fresh)
    target = work / "verification.json"
    if fresh and target.exists():  # the last one came to its end; one that did not goes on
        shutil.rmtree(work)
    checksum = load(study.profile(profile).dataset).checksum
    todo = sorted(n for n in names & set(published) if published[n].data.checksum == checksum)
    failures = [
        f"{name} is no longer in {study_file.name}" for name in sorted(set(published) - names)
    ]
    undone = set()
    if todo:
        try:
            conductor.conduct(study_file, profile, book=False, runs=todo, fresh=fresh, cores=cores)
        except RunsFailedError as error:
            if not error.undone:  # none could be begun
                raise
            failures += str(error).splitlines()
            undone = set(error.undone)
    now = {name: results.read(paths.result_file(work, name)) for name in todo if name not in undone}
    found = verification.conclude(profile, published, now, checksum, fresh=fresh, failures=failures)
    verification.write(target, found)
    print(verification_report.report(found, everything))
    print(f"every value that differs: {target}")
    if publish:
        kept = paths.results_folder(tolerances.FOLDER) / f"{profile}.json"
        verification.write(kept, verification.without_values(found))
        print(f"for the book: {kept}")
    if found.verdict in (verification.DIFFERENT, verification.MISSING):
        raise typer.Exit(1)


def publish(profile: ProfileName = "quick", study_file: StudyFile = None) -> None:
    """Copy the finished results of a study to `results/`, with what is shown or shipped of them.

    `make book` reads them from there. Of a profile that is still being trained, what is finished is
    published, and what was published before stays. From profile `full` the README's pictures are
    drawn, and the best network of each kind goes to `models/`, in half precision.
    Examples: `cbir publish --profile quick`, `cbir publish --profile full`
    """
    from cbir_lib.workflow.publishing import publish

    for line in publish(study_of(study_file), profile):
        print(line)

"""The commands that run the study, verify it, and publish its results."""

from __future__ import annotations

from typing import Annotated

import typer

from cbir_lib import paths
from cbir_lib.cli.options import (
    DataRoot,
    ProfileName,
    StudyFile,
    find_study_file,
    load_study,
    set_data_root,
)
from cbir_lib.errors import CbirError, RunsFailedError


def study(
    profile: ProfileName = "quick",
    study_file: StudyFile = None,
    data_root: DataRoot = None,
    published: Annotated[
        bool, typer.Option(help="Build the book from results/, without any training.")
    ] = False,
    book: Annotated[bool, typer.Option(help="Build the book after the runs.")] = True,
    run: Annotated[
        list[str] | None, typer.Option(help="Only do this run, without the book; can be repeated.")
    ] = None,
    missing: Annotated[
        bool, typer.Option(help="Only do the runs missing in results/, without the book.")
    ] = False,
    cores: Annotated[int | None, typer.Option(min=1, help="Runs at a time; all cores.")] = None,
    gpu_share: Annotated[
        int | None, typer.Option(min=1, help="Networks trained on a GPU at a time; one.")
    ] = None,
) -> None:
    """Run what is missing or has changed in the study, and build the book.

    Examples: `cbir study`, `cbir study --profile quick --cores 4`, `cbir study --published`,
    `cbir study --profile full --run phantom-B-dropout-s0`, `cbir study --profile full --missing`
    """
    runs = run or []
    if missing and runs:
        raise CbirError("--missing and --run exclude each other", "leave one of them out")
    plan = load_study(study_file)  # a faulty one is refused before the slow imports
    from cbir_lib.workflow import conductor

    set_data_root(data_root)

    def conduct(names: list[str]):
        return conductor.conduct(
            find_study_file(study_file),
            profile,
            published=published,
            book=book,
            runs=names,
            cores=cores,
            gpu_share=gpu_share,
        )

    if missing:
        # Imported here: with torch, it would double the time of a study with nothing to do.
        from cbir_lib.workflow.publishing import unpublished_effects, unpublished_runs

        runs = unpublished_runs(plan, profile)
        # Effects choose from the networks that are trained by then.
        steps = [step for step in (runs, unpublished_effects(plan, profile)) if step]
        for step in steps:
            conduct(step)
        if not steps:
            print(f"results/{profile}/ has all runs of the profile")
        return
    work = conduct(runs)
    if runs:
        for name in runs:
            print(f"the run: {conductor.find_target(work, name).parent}")
    elif book:
        print(f"the book: {work / 'html' / 'index.html'}")


def verify(
    profile: ProfileName = "quick",
    run: Annotated[str | None, typer.Option(help="Only verify this published run.")] = None,
    fresh: Annotated[
        bool, typer.Option(help="Execute everything again, in build/PROFILE-fresh.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Print every number, not only those that differ.")
    ] = False,
    publish: Annotated[
        bool, typer.Option(help="Also save it in results/verification/, for the book.")
    ] = False,
    study_file: StudyFile = None,
    data_root: DataRoot = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Runs at a time; all cores.")] = None,
) -> None:
    """Repeat the published runs, and compare the results number by number.

    Results of your study that are up to date are used as they are: this checkout produced them on
    this machine. Each number is `same`, `within tolerance`, `different` or `missing`; the tolerance
    is 1.5 times the largest difference measured in reruns. The exit code is 1 if a number is
    different or missing. The full comparison is written to `build/PROFILE/verification.json`.

    Examples: `cbir verify`, `cbir verify --profile full --run phantom-B-s0`, `cbir verify --fresh`
    """
    import shutil

    from cbir_lib.datasets import load
    from cbir_lib.reproduction import tolerances, verification, verification_report
    from cbir_lib.study import results
    from cbir_lib.study.config import read_study
    from cbir_lib.workflow import conductor

    if publish and run:
        raise CbirError("a verification of a single run cannot be published", "leave out --run")
    set_data_root(data_root)
    study_file = find_study_file(study_file)
    study = read_study(study_file)
    names = {one.id for one in study.runs(profile)}
    published = verification.read_published(profile, run)
    work = paths.build_folder(profile + paths.FRESH * fresh)
    target = work / "verification.json"
    checksum = load(study.profile(profile).dataset).checksum
    todo = sorted(n for n in names & set(published) if published[n].data.checksum == checksum)
    failures = [
        f"{name} is no longer in {study_file.name}" for name in sorted(set(published) - names)
    ]
    undone = set()
    # What was finished goes when it can be repeated; what was not is continued.
    if fresh and todo and target.exists():
        shutil.rmtree(work)
    if todo:
        try:
            conductor.conduct(study_file, profile, book=False, runs=todo, fresh=fresh, cores=cores)
        except RunsFailedError as error:
            if not error.undone:  # none could be started
                raise
            failures += str(error).splitlines()
            undone = set(error.undone)
    now = {name: results.read(paths.result_file(work, name)) for name in todo if name not in undone}
    outcome = verification.conclude(
        profile, published, now, checksum, fresh=fresh, failures=failures
    )
    verification.write(target, outcome)
    print(verification_report.format_report(outcome, everything))
    print(f"every value that differs: {target}")
    if publish:
        kept = paths.results_folder(tolerances.FOLDER) / f"{profile}.json"
        verification.write(kept, verification.drop_values(outcome))
        print(f"for the book: {kept}")
    if outcome.verdict in (verification.DIFFERENT, verification.MISSING):
        raise typer.Exit(1)


def publish(profile: ProfileName = "quick", study_file: StudyFile = None) -> None:
    """Copy the finished results of a study to `results/`, where `make book` reads them.

    A profile that is still being trained can be published: its finished runs are added, and what
    was published before stays. Profile `full` also provides the README's pictures and, in half
    precision, the best network of each architecture in `models/`.
    Examples: `cbir publish --profile quick`, `cbir publish --profile full`
    """
    from cbir_lib.workflow.publishing import publish

    for line in publish(load_study(study_file), profile):
        print(line)

"""The `cbir` command."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

import cbir_lib
from cbir_lib.errors import INTERRUPTED, CbirError, RunsFailedError
from cbir_lib.files import project_root, replacing

app = typer.Typer(
    name="cbir",
    add_completion=False,
    rich_markup_mode="markdown",
    help="Content-based retrieval of radiographs: run the study, fetch its data, search.",
)
data_app = typer.Typer(help="The data sets: list, fetch, check.")
phantom_app = typer.Typer(help="The simulated radiographs: draw them.")
job_app = typer.Typer(hidden=True, help="What the Snakefile calls.")
app.add_typer(data_app, name="data")
app.add_typer(phantom_app, name="phantom")
app.add_typer(job_app, name="job")

StudyFile = Annotated[
    Path | None, typer.Option("--study", help="The study file; study.yml of the project.")
]
ProfileName = Annotated[str, typer.Option(help="A profile of the study file.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        envvar="CBIR_DATA",
        help="Where the data lie: an archive or a folder. Otherwise data/ and its neighbours.",
    ),
]
LONGEST_TABLE = 20  # rows shown
SHIPPED_BYTES = 29e6  # of all networks in the repository
DataName = Annotated[str, typer.Argument(help="Name of the data set, as `cbir data list` has it.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cbir {cbir_lib.__version__}")
        raise typer.Exit


def _study_file(given: Path | None) -> Path:
    return given.resolve() if given else project_root() / "study.yml"


def _run_ids(study_file: Path | None, profile: str) -> list[str]:
    from cbir_lib.study import read_study

    return [run.id for run in read_study(_study_file(study_file)).runs(profile)]


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def study(
    profile: ProfileName = "quick",
    study_file: StudyFile = None,
    data_root: DataRoot = None,
    published: Annotated[
        bool, typer.Option(help="Build the book from results/ instead; nothing is trained.")
    ] = False,
    book: Annotated[bool, typer.Option(help="Build the book after the runs.")] = True,
    run: Annotated[str | None, typer.Option(help="Do this run alone, without the book.")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Runs at a time; all cores.")] = None,
) -> None:
    """Run what is missing or changed of the study, and build the book.

    Examples: `cbir study`, `cbir study --profile quick --cores 4`, `cbir study --published`,
    `cbir study --profile cpu --run phantom-B-dropout-s0`
    """
    from cbir_lib import workflow

    if data_root:
        os.environ["CBIR_DATA"] = str(data_root.resolve())
    work = workflow.conduct(
        _study_file(study_file), profile, published=published, book=book, run=run, cores=cores
    )
    if run:
        print(f"the run: {work / 'runs' / run}")
    elif book:
        print(f"the book: {work / 'html' / 'index.html'}")


@app.command()
def publish(profile: ProfileName = "quick", study_file: StudyFile = None) -> None:
    """Copy the results of a finished study to `results/`, with what is shown or shipped of them.

    `make book` reads them from there. From profile `quick` the README's pictures are drawn; of the
    broadest profiles (`cpu`, `paper`) the best networks go to `models/`, in half precision.
    Examples: `cbir publish --profile quick`, `cbir publish --profile cpu`
    """
    from cbir_lib import results

    root = project_root()
    found = results.read_all(root / "build" / profile, _run_ids(study_file, profile))
    target = root / "results" / profile
    for stale in target.glob("*.json"):
        if stale.stem not in {result.run for result in found}:
            stale.unlink()
    for result in found:
        results.write(target / f"{result.run}.json", result)
    print(f"{len(found)} results in results/{profile}/")
    if profile == "quick" and found[0].data.dataset == "phantom":  # whose images are ours
        _draw_pictures(found, root / "book" / "assets")
    if profile in results.BROADEST:
        _ship_models(found, root / "build" / profile, root / "models")


def _ship_models(found, work: Path, folder: Path) -> None:
    """Write the best run of each network, the best first, as long as the size allows it."""
    import itertools

    from cbir_lib.models import read_network, save_network

    for stale in folder.glob("*.safetensors"):
        stale.unlink()
    whole = [r for r in found if not r.parameters["classes"]]
    whole.sort(key=lambda r: (r.parameters["network"], -r.classification.validation_accuracy))
    best = [
        next(runs) for _, runs in itertools.groupby(whole, key=lambda r: r.parameters["network"])
    ]
    total = 0
    for result in sorted(best, key=lambda r: -r.classification.validation_accuracy):
        trained = read_network(work / "runs" / result.run / "model.safetensors")
        size = sum(2 * tensor.numel() for tensor in trained.module.state_dict().values())
        if total + size < SHIPPED_BYTES:
            total += size
            save_network(folder / f"{result.run}.safetensors", trained, half=True)
            print(f"models/{result.run}.safetensors: {size / 1e6:.1f} MB")


def _draw_pictures(found, folder: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from cbir_lib import figures, paper, results
    from cbir_lib.datasets import pictures, source

    best = results.best(found)
    chosen = [example for example in best.examples if example.choice == "median"]
    images = pictures(best.data.dataset, results.example_ids(best))
    drawn = {
        "ranking": figures.neighbours(chosen, images, best.data.class_names),
        "comparison": figures.comparison(
            results.table(found), paper.table_4(), source(best.data.dataset).CAPTION
        ),
    }
    for name, figure in drawn.items():
        with replacing(folder / f"{name}.png") as part:
            figure.savefig(part, format="png", dpi=120)
    print(f"pictures in {folder}")


@app.command()
def report(
    dataset: Annotated[str, typer.Option(help="On results of these images.")] = "phantom",
    profile: Annotated[
        str | None, typer.Option(help="On this profile's results alone; every one's by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    study_file: StudyFile = None,
) -> None:
    """Write the reproduction report on the results at hand: one HTML file that loads nothing else.

    The paper's ten claims with their rules and verdicts, and its tables beside these results, which
    are those in `build/`, otherwise those in `results/`. Who holds IRMA runs profile `paper` first.
    Examples: `cbir report`, `cbir report --dataset irma --out irma.html`
    """
    import tempfile

    from cbir_lib import claims
    from cbir_lib.datasets import source
    from cbir_lib.notebooks import NotebookFailedError, execute, quiet_kernel
    from cbir_lib.report import write_page
    from cbir_lib.study import read_study

    source(dataset)
    places = claims.places(dataset, profile, read_study(_study_file(study_file)))
    evidence = claims.gather(places)
    with tempfile.TemporaryDirectory() as folder:
        quiet_kernel(Path(folder))
        executed = Path(folder, "report.ipynb")
        try:
            execute(
                project_root() / "notebooks" / "report.md",
                executed,
                {"places": {name: str(place) for name, place in places.items()}},
                log=Path(folder, "log.ipynb"),
            )
        except NotebookFailedError as error:
            raise CbirError(
                f"the report cannot be written: {'; '.join(map(str.strip, error.lines))}",
                "look for a result file that another version wrote, and make it again",
            ) from None
        files = ", ".join(f"{len(found)} of profile {name}" for name, found in evidence.items())
        title = f"The reproduction report on {source(dataset).CAPTION}"
        footer = f"cbir {cbir_lib.__version__}, from result files: {files}."
        write_page(executed, out, title, footer)
    print(f"{sum(map(len, evidence.values()))} results on {dataset}: {out}")


@data_app.command("list")
def data_list() -> None:
    """The data sets, and whether each is here.

    Example: `cbir data list`
    """
    from cbir_lib.datasets import SOURCES

    for name, source in SOURCES.items():
        try:
            place = f"at {source.locate()}"
        except CbirError:
            place = f"not here; cbir data fetch {name}" if source.URL else "not here"
        print(f"{name:10} {source.TITLE}\n{'':10} {source.CREDIT}\n{'':10} {place}")


@data_app.command("fetch")
def data_fetch(
    name: DataName,
    url: Annotated[str | None, typer.Option(help="A mirror of the archive.")] = None,
) -> None:
    """Download a data set into `data/`, and check it.

    Example: `cbir data fetch mednist`
    """
    from cbir_lib.datasets import source

    module = source(name)
    archive = module.fetch(project_root() / "data" / name, url or module.URL)
    print(f"{archive}: the checksum is right")


@data_app.command("check")
def data_check(name: DataName, data_root: DataRoot = None) -> None:
    """Read every image of a data set: counts, sizes, faulty files, and whether a split leaks.

    A split leaks when a subject or an exact copy is on two sides, or when more than 1 % of the test
    images have a near copy in train or validation. Exit code 2 then, and when a file is at fault.

    Examples: `cbir data check phantom`, `cbir data check folder --data-root ~/radiographs`
    """
    from cbir_lib.datasets import load
    from cbir_lib.datasets.checking import check

    report = check(load(name, data_root))
    tables = {
        "": report.summary(),
        "images per class and split": report.counts.reset_index(),
        "size in pixels": report.sizes.reset_index(),
        "left out by a rule": report.dropped,
        "files at fault": report.lost[["file", "remark"]],
        "converted": report.remarks.drop(report.lost.index)["remark"].value_counts().reset_index(),
        "subjects in more than one split": report.subjects.reset_index(),
        "exact copies across splits": report.copies_across,
        "near copies across splits": report.near,
    }
    for title, table in tables.items():
        if len(table):
            print(f"\n{title}" if title else name)
            print(table.head(LONGEST_TABLE).to_string(index=False))
            if len(table) > LONGEST_TABLE:
                print(f"... and {len(table) - LONGEST_TABLE:,} more")
    print(f"\nSHA-256 of identifiers, labels and pixels: {report.checksum}")
    report.raise_faults()


@phantom_app.command("render")
def phantom_render(
    out: Annotated[Path, typer.Option(help="A new folder, or one that was begun.")],
    count: Annotated[int | None, typer.Option(help="Images in all.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed draws other subjects.")] = None,
    size: Annotated[int | None, typer.Option(help="Longer side in pixels.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; the images do not depend on it.")
    ] = None,
) -> None:
    """Draw a set of phantom radiographs; started again, it goes on where it was.

    Needs the extra `phantom`. The defaults draw the set that is part of the repository.

    Example: `cbir phantom render --count 1000 --seed 7 --size 256 --out my-phantom`
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from cbir_lib.datasets.phantom.recipe import COUNT, SEED, SIZE_PX
    from cbir_lib.datasets.phantom.rendering import render_set

    count, seed, size = (
        default if given is None else given
        for given, default in ((count, COUNT), (seed, SEED), (size, SIZE_PX))
    )
    columns = "images", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as bar:
        task = bar.add_task("images", total=count)
        render_set(out, count, seed, size, workers, lambda images: bar.advance(task, images))
    print(f"{count} images in {out}; use them: load('phantom', '{out}')")


@app.command()
def search(
    image: Annotated[Path, typer.Argument(help="A PNG, JPEG, TIFF, WebP or DICOM file.")],
    run: Annotated[str, typer.Option(help="The run to search with, e.g. phantom-C-s0.")],
    k: Annotated[int, typer.Option("-k", help="How many images to find.")] = 10,
    profile: ProfileName = "quick",
    out: Annotated[
        Path | None, typer.Option(help="Where to write the picture; beside you by default.")
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Find the images most like one image: a table, and a picture of the ranking.

    Example: `cbir search knee.png --run phantom-C-s0 -k 10`
    """
    from cbir_lib.search import search_image

    if data_root:
        os.environ["CBIR_DATA"] = str(data_root.resolve())
    found, picture = search_image(image, run, profile, k, out or Path(f"{image.stem}-ranking.png"))
    print(found.to_string(index=False))
    print(f"picture: {picture}")


@job_app.command("run")
def job_run(
    run_id: str,
    work: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    study_file: StudyFile = None,
    published: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Execute the notebook of one run."""
    import shutil

    from cbir_lib.study import read_study

    run = read_study(_study_file(study_file)).run(profile, run_id)
    folder = work / "runs" / run_id
    if published:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(published, folder / "result.json")
    parameters = run.model_dump() | {"folder": str(folder)}
    _job(work, run_id, run.notebook, folder / "notebook.ipynb", parameters, run.title, published)


@job_app.command("chapter")
def job_chapter(
    chapter: str,
    work: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    study_file: StudyFile = None,
) -> None:
    """Execute the notebook of one chapter."""
    runs = _run_ids(study_file, profile)
    target = work / "chapters" / f"{chapter}.ipynb"
    _job(work, f"chapter-{chapter}", chapter, target, {"folder": str(work), "runs": runs})


def _job(work, name, notebook, target, parameters, title=None, published=None) -> None:
    """Execute a notebook and tell the conductor."""
    from cbir_lib.notebooks import NotebookFailedError, execute, quiet_kernel

    def say(line: str) -> None:
        print(f"[{name}] {line}", flush=True)

    quiet_kernel(Path("build"))
    log = work / "logs" / f"{name.removeprefix('chapter-')}.ipynb"
    say("start")
    started = time.monotonic()
    try:
        execute(
            project_root() / "notebooks" / f"{notebook}.md",
            target,
            parameters,
            log=log,
            title=title,
            published=published,
            echo=say,
        )
    except NotebookFailedError as error:
        for line in [*error.lines, f"  the notebook as it stands: {log}"]:
            say(f"| {line}")
        say("failed")
        raise typer.Exit(1) from None
    say(f"done in {time.monotonic() - started:.0f} s")


@job_app.command("book")
def job_book(
    work: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    study_file: StudyFile = None,
) -> None:
    """Build the book from the executed notebooks."""
    from cbir_lib import book

    runs = _run_ids(study_file, profile)
    print("[book] start", flush=True)
    started = time.monotonic()
    try:
        book.build(work, runs, work / "logs" / "book.txt")
    except CbirError as error:
        for line in str(error).splitlines():
            print(f"[book] | {line}", flush=True)
        print("[book] failed", flush=True)
        raise typer.Exit(1) from None
    print(f"[book] done in {time.monotonic() - started:.0f} s", flush=True)


@job_app.command("check-book")
def job_check_book(
    html: Path,
    profile: ProfileName = "quick",
    study_file: StudyFile = None,
) -> None:
    """Check a built book: every page is there, no link is dead, nothing is from elsewhere."""
    from cbir_lib import book

    runs = _run_ids(study_file, profile)
    faults = book.missing_pages(html, runs) + book.check(html)
    for fault in faults:
        print(fault)
    if faults:
        raise CbirError(f"{len(faults)} faults in {html}", "build the book again: make study")
    print(f"{html}: every page is there, no dead link, nothing from another host")


def main() -> None:
    """Run the command; what a user can mend is two lines and exit code 2."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
        if code == 130:  # typer's word for Ctrl-C
            raise INTERRUPTED
    except CbirError as error:
        print(error, file=sys.stderr)
        code = 2
    except RunsFailedError as error:
        print(error, file=sys.stderr)
        code = 1
    except typer.BadParameter.__base__ as error:  # typer's name for every misuse of the command
        command = error.ctx.command_path if error.ctx else "cbir"
        print(CbirError(error.format_message(), f"{command} --help"), file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()

"""The `cbir` command."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

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
index_app = typer.Typer(help="An archive of your own: build, search, look into it, push it.")
phantom_app = typer.Typer(help="The simulated radiographs: draw them.")
effects_app = typer.Typer(help="What a study alone cannot measure: other data, images drawn anew.")
job_app = typer.Typer(hidden=True, help="What the Snakefile calls.")
app.add_typer(data_app, name="data")
app.add_typer(index_app, name="index")
app.add_typer(phantom_app, name="phantom")
app.add_typer(effects_app, name="effects")
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
LONGEST_LIST = 5  # files at fault shown
AnswerForm = Literal["table", "json", "html"]
SHIPPED_BYTES = 29e6  # of all networks in the repository
ArchivePlace = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the archive.")]
Collection = Annotated[
    str | None, typer.Option(help="Name of the collection; by default that of the descriptor.")
]
DataName = Annotated[str, typer.Argument(help="Name of the data set, as `cbir data list` has it.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cbir {cbir_lib.__version__}")
        raise typer.Exit


def _study_file(given: Path | None) -> Path:
    return given.resolve() if given else project_root() / "study.yml"


def _study(study_file: Path | None):
    from cbir_lib.study import read_study

    return read_study(_study_file(study_file))


def _run_ids(study_file: Path | None, profile: str) -> list[str]:
    return [run.id for run in _study(study_file).runs(profile)]


def _unpublished(study_file: Path | None, profile: str) -> list[str]:
    """Return the runs of a profile of which ``results/`` has no result with the same parameters."""
    from cbir_lib import results

    published = {r.run: r.parameters for r in results.read_published(profile)}
    runs = _study(study_file).runs(profile)
    return [run.id for run in runs if published.get(run.id) != run.model_dump()]


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
    from cbir_lib import workflow

    runs = run or []
    if missing:
        runs = _unpublished(study_file, profile)
        if not runs:
            print(f"results/{profile}/ has every run of the profile")
            return

    if data_root:
        os.environ["CBIR_DATA"] = str(data_root.resolve())
    work = workflow.conduct(
        _study_file(study_file),
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


@app.command()
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

    from cbir_lib import results, verification, workflow
    from cbir_lib.datasets import load
    from cbir_lib.study import read_study

    if publish and run:
        raise CbirError("a verification of one run is not published", "leave out --run")
    if data_root:
        os.environ["CBIR_DATA"] = str(data_root.resolve())
    study_file, root = _study_file(study_file), project_root()
    study = read_study(study_file)
    names = {one.id for one in study.runs(profile)}
    published = verification.published(profile, run)
    work = root / "build" / (profile + "-fresh" * fresh)
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
            workflow.conduct(study_file, profile, book=False, runs=todo, fresh=fresh, cores=cores)
        except RunsFailedError as error:
            if not error.undone:  # none could be begun
                raise
            failures += str(error).splitlines()
            undone = set(error.undone)
    now = {
        name: results.read(work / "runs" / name / "result.json")
        for name in todo
        if name not in undone
    }
    found = verification.conclude(profile, published, now, checksum, fresh=fresh, failures=failures)
    verification.write(target, found)
    print(verification.report(found, everything))
    print(f"every value that differs: {target}")
    if publish:
        kept = root / "results" / verification.FOLDER / f"{profile}.json"
        verification.write(kept, verification.without_values(found))
        print(f"for the book: {kept}")
    if found.verdict in (verification.DIFFERENT, verification.MISSING):
        raise typer.Exit(1)


@app.command()
def publish(profile: ProfileName = "quick", study_file: StudyFile = None) -> None:
    """Copy the finished results of a study to `results/`, with what is shown or shipped of them.

    `make book` reads them from there. Of a profile that is still being trained, what is finished is
    published, and what was published before stays. From profile `full` the README's pictures are
    drawn, and the best network of each kind goes to `models/`, in half precision.
    Examples: `cbir publish --profile quick`, `cbir publish --profile full`
    """
    from cbir_lib import effects, evidence, results

    root = project_root()
    work, target = root / "build" / profile, root / "results" / profile
    planned = _run_ids(study_file, profile)
    finished = [name for name in planned if (work / "runs" / name / "result.json").is_file()]
    found = results.read_all(work, finished) if finished else []
    if not found:
        raise CbirError(f"no finished run in {work}", f"cbir study --profile {profile}")
    for result in found:
        results.write(target / f"{result.run}.json", result)
    for stale in target.glob("*.json"):
        if stale.stem not in planned:
            stale.unlink()
    for path in sorted((work / "effects").glob("*.json")):
        effects.write(target / "effects" / path.name, effects.read(path))
    missing = _unpublished(study_file, profile)
    print(f"{len(found)} results in results/{profile}/, {len(missing)} of the profile are missing")
    if found[0].data.dataset != "phantom":  # whose images are ours
        return
    best = evidence.on("phantom", None, _study(study_file))
    if best.profile == profile:
        _draw_pictures(best.results, root / "book" / "assets")
        _ship_models(work, root / "models")


def _ship_models(work: Path, folder: Path) -> None:
    """Write the best published run of each network, the best first, as long as the size allows it.

    Weights are those made here, otherwise those shipped already; of a run that has neither, no
    network of its kind is shipped.
    """
    from cbir_lib import results
    from cbir_lib.models import read_network, save_network

    kinds: dict[str, list] = {}
    for result in results.read_published(work.name):
        network = result.parameters.get("network")
        if network and not result.parameters["classes"]:
            kinds.setdefault(network, []).append(result)
    best = [max(of, key=lambda r: r.classification.validation_accuracy) for of in kinds.values()]
    total, shipped = 0, []
    for result in sorted(best, key=lambda r: -r.classification.validation_accuracy):
        target = folder / f"{result.run}.safetensors"
        made = work / "runs" / result.run / "model.safetensors"
        if not made.is_file() and not target.is_file():
            continue  # trained elsewhere
        trained = read_network(made if made.is_file() else target)
        size = sum(2 * tensor.numel() for tensor in trained.module.state_dict().values())
        if total + size < SHIPPED_BYTES:
            total += size
            save_network(target, trained, half=True)
            shipped.append(target)
            print(f"models/{target.name}: {size / 1e6:.1f} MB")
    for stale in set(folder.glob("*.safetensors")) - set(shipped):
        stale.unlink()


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
            results.table(results.as_in_the_paper(found)),
            paper.table_4(),
            source(best.data.dataset).CAPTION,
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
        str | None, typer.Option(help="On this profile's results; by default the evidence.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    study_file: StudyFile = None,
) -> None:
    """Write the reproduction report on the results at hand: one HTML file that loads nothing else.

    The paper's ten claims with their rules and verdicts, and its tables beside these results: those
    in `results/`, otherwise those in `build/`. If you hold IRMA, run profile `paper` first.
    Examples: `cbir report`, `cbir report --dataset irma --out irma.html`
    """
    import tempfile

    from cbir_lib import evidence
    from cbir_lib.datasets import source
    from cbir_lib.notebooks import NotebookFailedError, execute, quiet_kernel
    from cbir_lib.report import write_page
    from cbir_lib.study import read_study

    source(dataset)
    found = evidence.on(dataset, profile, read_study(_study_file(study_file)))
    with tempfile.TemporaryDirectory() as folder:
        quiet_kernel(Path(folder))
        executed = Path(folder, "report.ipynb")
        try:
            execute(
                project_root() / "notebooks" / "report.md",
                executed,
                {"dataset": dataset, "profile": profile},
                log=Path(folder, "log.ipynb"),
            )
        except NotebookFailedError as error:
            raise CbirError(
                f"the report cannot be written: {'; '.join(map(str.strip, error.lines))}",
                "look for a result file that another version wrote, and make it again",
            ) from None
        title = f"The reproduction report on {source(dataset).CAPTION}"
        files = f"{len(found.results)} of profile {found.profile}"
        footer = f"cbir {cbir_lib.__version__}, from result files: {files}."
        write_page(executed, out, title, footer)
    print(f"{len(found.results)} results of profile {found.profile} on {dataset}: {out}")


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


@contextmanager
def _counting(what: str):
    """A bar on a terminal, elsewhere a line for each thousand; yields its (done, total)."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:

        def say(done: int, total: int) -> None:
            if done % 1000 == 0 or done == total:
                print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)

        yield say


@index_app.command("build")
def index_build(
    folder: Annotated[Path, typer.Argument(help="Images, in sub-folders of any depth.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The archive: a new folder, or itself.")],
    descriptor: Annotated[
        str | None,
        typer.Option(help="A descriptor's name, or the run of a trained network. For a new one."),
    ] = None,
    distance: Annotated[
        str | None, typer.Option(help="Another distance than the descriptor's. For a new one.")
    ] = None,
) -> None:
    """Describe the images of a folder, to be searched; again, what is new, changed or gone.

    Interrupted or killed, it goes on where it was. Files that cannot be read are listed in
    `faults.csv` of the archive.

    Examples: `cbir index build radiographs --descriptor phantom-F-augment-s0 --out archive`,
    `cbir index build radiographs --out archive`
    """
    from cbir_lib.archiving import FAULTS, build

    with _counting("images") as progress:
        report = build(folder, out, descriptor, distance=distance, progress=progress)
    print(
        f"{report.added:,} added, {report.changed:,} changed, {report.removed:,} removed, "
        f"{report.unchanged:,} unchanged: {len(report.archive):,} images in {out}"
    )
    for what, count in sorted(report.passed_over.items()):
        print(f"passed over: {count:,} {what}")
    if report.faults:
        print(f"could not be read: {len(report.faults):,} files, all in {out / FAULTS}")
        for file, reason in list(report.faults.items())[:LONGEST_LIST]:
            print(f"  {file}: {reason}")


@index_app.command("search")
def index_search(
    place: ArchivePlace,
    images: Annotated[list[Path], typer.Argument(help="PNG, JPEG, TIFF, WebP or DICOM files.")],
    k: Annotated[
        int | None, typer.Option("-k", help="How many to find for each; 10, or all of fewer.")
    ] = None,
    form: Annotated[AnswerForm, typer.Option("--format", help="How to write it.")] = "table",
    out: Annotated[
        Path | None, typer.Option(help="A file to write to; similar.html for HTML.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where the images lie, if they were moved.")
    ] = None,
    milvus: Annotated[
        str | None, typer.Option(help="Search there: http://host:19530, or a path with .db.")
    ] = None,
    collection: Collection = None,
    method: Annotated[
        str, typer.Option(help="exact; or hnsw, ivf-pq: faster for many images, approximate.")
    ] = "exact",
) -> None:
    """Find the images of an archive most like some others; an image does not find itself.

    The HTML page has small pictures inside, and loads nothing from elsewhere.

    Examples: `cbir index search archive knee.png`,
    `cbir index search archive knee.png hand.dcm -k 20 --format html --out similar.html`
    """
    from contextlib import nullcontext

    from cbir_lib.archive import Archive

    archive = Archive(place, folder)
    queries = list(dict.fromkeys(map(str, images)))
    if milvus:
        there = _milvus_index(archive, milvus, collection, filled=True)
    else:
        there = nullcontext(archive.engine(method))
    with there as engine:
        found = archive.search(queries, k, engine)
        count = len(engine)
    if method != "exact" and not milvus:
        print(f"{method} finds {engine.index.recall}; exact finds all", file=sys.stderr)
    if form == "table":
        text = found.to_string(index=False, float_format="{:.4g}".format)
    elif form == "json":
        text = json.dumps(found.to_dict("records"), ensure_ascii=False, indent=1)
    else:
        from cbir_lib import result_page
        from cbir_lib.search import read_image

        about = (
            f"{count:,} images, described by {archive.description.descriptor}, "
            f"compared by the distance {archive.description.distance}"
        )
        pictures = {query: read_image(Path(query)) for query in queries}
        text = result_page.page(result_page.sections(found, pictures, archive.folder), about)
        out = out or Path("similar.html")
    if out is None:
        print(text)
    else:
        with replacing(out) as part:
            part.write_text(text + "\n", encoding="utf-8")
        print(f"{len(found)} results in {out}")


@index_app.command("info")
def index_info(place: ArchivePlace) -> None:
    """Say what an archive holds.

    Example: `cbir index info archive`
    """
    from cbir_lib.archive import Archive
    from cbir_lib.archiving import FAULTS, read_faults

    archive = Archive(place)
    described = archive.description
    faults = len(read_faults(place / FAULTS))
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    for what, value in (
        ("descriptor", described.descriptor),
        ("distance", described.distance),
        ("images", f"{len(archive):,} of {archive.folder}"),
        ("faults", f"{faults:,} files, in {place / FAULTS}" if faults else "none"),
        *((method, f"finds {recall}") for method, recall in archive.recalls().items()),
        ("on disk", f"{size / 1e6:,.1f} MB"),
    ):
        print(f"{what:11} {value}")


@index_app.command("push")
def index_push(
    place: ArchivePlace,
    to: Annotated[
        str, typer.Option(metavar="URI", help="http://host:19530, or a local path with .db.")
    ],
    collection: Collection = None,
    method: Annotated[
        str, typer.Option(help="exact, or hnsw: faster and approximate. For a new collection.")
    ] = "exact",
) -> None:
    """Make a collection in Milvus hold what an archive holds; only what differs travels.

    Needs the extra `milvus`. Interrupted or killed, it goes on where it was.

    Examples: `cbir index push archive --to http://localhost:19530`,
    `cbir index push archive --to archive.db`
    """
    from cbir_lib.archive import Archive
    from cbir_lib.milvus import push

    archive = Archive(place)
    with (
        _milvus_index(archive, to, collection, method=method) as index,
        _counting("images") as progress,
    ):
        pushed = push(archive, index, progress)
        print(
            f"{pushed.added:,} added or changed, {pushed.removed:,} removed, "
            f"{pushed.unchanged:,} unchanged: {len(index):,} images in {index.collection}"
        )


def _milvus_index(archive, uri: str, collection: str | None, **options):
    from cbir_lib.milvus import MilvusIndex, collection_of

    described = archive.description
    name = collection or collection_of(archive)
    return MilvusIndex(uri, name, described.distance, described.identity, **options)


@effects_app.command("transfer")
def effects_transfer(
    study_file: StudyFile = None,
    out: Annotated[
        Path | None, typer.Option(help="The file; by default that of results/transfer/.")
    ] = None,
) -> None:
    """Train a network on each of two data sets, use each on both, and write what was measured.

    The phantom and MedNIST (`cbir data fetch mednist`), as `grid.effects.transfer` of the study
    file has it; some minutes. No image is written.

    Example: `cbir effects transfer`
    """
    from cbir_lib import transfer

    _write_effects("transfer", transfer.measure, study_file, out)


@effects_app.command("redrawn")
def effects_redrawn(
    study_file: StudyFile = None,
    out: Annotated[
        Path | None, typer.Option(help="The file; by default that of results/redrawn/.")
    ] = None,
) -> None:
    """Draw queries of the phantom with other exposures, search with them, and write the measures.

    Needs the extra `phantom`; as `grid.effects.redrawn` of the study file has it; some minutes.

    Example: `cbir effects redrawn`
    """
    from cbir_lib import redrawn

    _write_effects("redrawn", redrawn.measure, study_file, out)


def _write_effects(name: str, measure, study_file: Path | None, out: Path | None) -> None:
    """Measure what ``grid.effects`` of the study file has under this name, and write it."""
    from cbir_lib import effects
    from cbir_lib.study import read_study

    grid = read_study(_study_file(study_file)).grid
    if (plan := getattr(grid.effects, name)) is None:
        raise CbirError(f"the study has no grid.effects.{name}", "enter it in study.yml")
    path = out or effects.published_path(name, name)
    effects.write(path, measure(plan, grid.descriptors, lambda line: print(line, flush=True)))
    print(f"the effects: {path}")


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


@job_app.command("effects")
def job_effects(
    name: str,
    work: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    study_file: StudyFile = None,
    published: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Execute the notebook of one set of effects."""
    import shutil

    from cbir_lib.study import read_study

    run = next(r for r in read_study(_study_file(study_file)).effects(profile) if r.name == name)
    target = work / "effects" / f"{name}.ipynb"
    if published:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(published, target.with_suffix(".json"))
    parameters = run.model_dump() | {"folder": str(work)}
    _job(work, run.id, run.notebook, target, parameters, run.title, published, "effects")


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


def _job(
    work, name, notebook, target, parameters, title=None, published=None, reader="results"
) -> None:
    """Execute a notebook and tell the conductor."""
    from functools import partial

    from cbir_lib import messages
    from cbir_lib.notebooks import NotebookFailedError, execute, quiet_kernel

    say = partial(messages.say, name)

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
            reader=reader,
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
    from cbir_lib.messages import say

    runs = _run_ids(study_file, profile)
    say("book", "start")
    started = time.monotonic()
    try:
        book.build(work, runs, work / "logs" / "book.txt")
    except CbirError as error:
        for line in str(error).splitlines():
            say("book", f"| {line}")
        say("book", "failed")
        raise typer.Exit(1) from None
    say("book", f"done in {time.monotonic() - started:.0f} s")


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

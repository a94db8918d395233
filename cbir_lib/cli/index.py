"""The commands that build, search, inspect and push an archive of your own images."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cbir_lib.cli.progress import counting
from cbir_lib.errors import CbirError, collecting_warnings, show_in_one_line
from cbir_lib.files import check_writable, expand, is_stream, replacing, resolve, show_name

if TYPE_CHECKING:
    import numpy as np

app = typer.Typer(help="An archive of your own: build, search, inspect, push.")

LONGEST_LIST = 5  # faulty files shown
OUTDATED = "this version may read some differently; build again: cbir index build {} --out {}"
AWAY = ", which is no folder here"
AnswerForm = Literal["table", "json", "html"]
ArchivePlace = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the archive.")]
Collection = Annotated[
    str | None,
    typer.Option(help="Name of the collection; by default from the descriptor and the archive."),
]


@app.command("build")
def index_build(
    folder: Annotated[Path, typer.Argument(help="The folder of the images, at any depth.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The archive: a new folder, or an existing one.")
    ],
    descriptor: Annotated[
        str | None,
        typer.Option(
            help="For a new archive: `pretrained`, the first to try on images without labels; "
            "another descriptor; hf:owner/name, a model of Hugging Face; or the run of a network."
        ),
    ] = None,
    distance: Annotated[
        str | None, typer.Option(help="For a new archive: a distance to use, not the default.")
    ] = None,
) -> None:
    """Build an archive of the images in a folder, or update it with new, changed and missing ones.

    If it is interrupted or killed, start it again and it continues. Files that cannot be read are
    listed in `faults.csv` in the archive.

    Examples: `cbir index build radiographs --descriptor pretrained --out archive`,
    `cbir index build radiographs --out archive`
    """
    from cbir_lib.archive.scan import FAULTS
    from cbir_lib.archive.update import build

    with counting("images") as progress:
        report = build(folder, out, descriptor, distance=distance, progress=progress)
    print(
        f"{report.added:,} added, {report.changed:,} changed, {report.removed:,} removed, "
        f"{report.unchanged:,} unchanged: {len(report.archive):,} images in {out}"
    )
    for what, count in sorted(report.skipped.items()):
        print(f"skipped: {count:,} {what}")
    if report.faults:
        print(f"could not be read: {len(report.faults):,} files, all in {out / FAULTS}")
        for file, reason in list(report.faults.items())[:LONGEST_LIST]:
            print(f"  {show_in_one_line(file)}: {reason}")


@app.command("search")
def index_search(
    place: ArchivePlace,
    images: Annotated[list[Path], typer.Argument(help="PNG, JPEG, TIFF, WebP or DICOM files.")],
    k: Annotated[
        int | None, typer.Option("-k", help="Results per query; by default 10, or all if fewer.")
    ] = None,
    form: Annotated[AnswerForm, typer.Option("--format", help="Format of the results.")] = "table",
    out: Annotated[
        Path | None, typer.Option(help="The file to write; for HTML by default similar.html.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where the images are, if they were moved.")
    ] = None,
    milvus: Annotated[
        str | None, typer.Option(help="Search in Milvus: http://host:19530, or a .db file.")
    ] = None,
    collection: Collection = None,
    method: Annotated[
        str, typer.Option(help="exact; hnsw or ivf-pq: approximate, faster with many images.")
    ] = "exact",
) -> None:
    """Find the images of an archive most similar to some images; no image finds itself.

    DIR may also be a finished run of the study, to search its training images. The HTML page
    contains small pictures and loads nothing from the network.

    Examples: `cbir index search archive knee.png`,
    `cbir index search build/quick/runs/phantom-C-s0 knee.png`,
    `cbir index search archive knee.png hand.dcm -k 20 --format html --out similar.html`
    """
    from cbir_lib.archive import page
    from cbir_lib.images.decoding import read_image

    if out is None and form == "html":
        out = Path("similar.html")
    if out is not None:
        _check_out(out, place, images)
    images = list(dict.fromkeys(images))
    names = [show_name(image) for image in images]
    shown: dict[str, np.ndarray] = {}  # of each query, by name, what the page shows

    def read() -> Iterator[np.ndarray]:
        """Read each query once, for it may be a pipe."""
        for name, image in zip(names, images, strict=True):
            pixels = read_image(expand(image))
            if form == "html":
                shown[name] = page.make_thumbnail(pixels)
            yield pixels

    if (place / "result.json").is_file():
        from cbir_lib.study.gallery import RunGallery

        if folder or milvus or collection or method != "exact":
            raise CbirError(
                f"{place} is a run of the study, whose gallery is searched exactly",
                "leave out --folder, --milvus, --collection and --method",
            )
        gallery = RunGallery(place)
        results = gallery.search(read(), k, names=names)
        picture = gallery.read_picture
        about = f"{len(gallery):,} images, described by {gallery.run}"
    else:
        results, picture, about = _search_archive(
            place, folder, read(), names, k, milvus, collection, method
        )
    if form == "table":
        plain = {name: results[name].map(show_in_one_line) for name in ("query", "path")}
        text = results.assign(**plain).to_string(index=False, float_format="{:.4g}".format)
    elif form == "json":
        # What a terminal cannot show would be escaped as JSON does not know it.
        escaped = out is None and (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8")
        text = json.dumps(results.to_dict("records"), ensure_ascii=escaped, indent=1)
    else:
        text = page.render_page(page.render_sections(results, shown, picture), about)
    if out is None:
        print(text)
    else:
        said = sys.stderr if is_stream(out) else sys.stdout  # which may be what it was written to
        with replacing(out) as part:
            part.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        print(f"{len(results)} results in {show_in_one_line(str(out))}", file=said)


def _check_out(out: Path, place: Path, images: list[Path]) -> None:
    """Refuse to write results over a query, another image, or a file of the archive."""
    from cbir_lib.datasets.folder import IMAGE_SUFFIXES

    if is_stream(out):
        return
    if any(out.exists() and image.exists() and out.samefile(image) for image in images):
        raise CbirError(f"{out} is one of the images to search with", "name another file")
    if out.suffix.lower() in IMAGE_SUFFIXES:
        raise CbirError(
            f"{out} has the name of an image, and the results are text",
            "name another file, such as similar.html or similar.json",
        )
    if resolve(out).is_relative_to(resolve(place)):
        raise CbirError(f"{out} lies in {place}", "name a file in another folder")
    check_writable(out)


def _search_archive(place, folder, images, names, k, milvus, collection, method):
    """Return the results, a function that reads their images, and a line describing the archive."""
    from contextlib import nullcontext

    from cbir_lib.archive.page import make_picture_reader

    archive = _open_archive(place, folder)
    if not archive.folder.is_dir():
        print(f"{place}: {archive.folder}{AWAY}; name it: --folder", file=sys.stderr)
    if milvus and method != "exact":
        raise CbirError(
            "a collection of Milvus is searched by the method it was pushed with",
            "leave out --method; for another, push to another collection: "
            "cbir index push --method NAME --collection NAME",
        )
    if collection and not milvus:
        raise CbirError("a collection is in Milvus", "name its address, too: --milvus")
    if milvus:
        there = _open_milvus(archive, milvus, collection, filled=True)
    else:
        there = nullcontext(archive.engine(method))
    with there as engine, collecting_warnings() as warned:
        results = archive.search(images, k, engine, names=names)
        count = len(engine)
    for text in warned:
        print(text, file=sys.stderr)
    if method != "exact" and not milvus:
        print(f"{method} finds {engine.index.recall}; exact finds all", file=sys.stderr)
    described = archive.description
    about = (
        f"{count:,} images, described by {described.descriptor}, "
        f"compared by the distance {described.distance}"
    )
    return results, make_picture_reader(archive.folder), about


@app.command("info")
def index_info(place: ArchivePlace) -> None:
    """Show what an archive contains.

    Example: `cbir index info archive`
    """
    from cbir_lib.archive.scan import FAULTS, read_faults
    from cbir_lib.archive.store import Archive

    archive = Archive(place)
    described = archive.description
    listed, count = place / FAULTS, len(archive)
    faults = f"{len(known):,} files, in {listed}" if (known := read_faults(listed)) else "none"
    if not known and listed.exists():
        faults = f"not known: another program has changed {listed}; a build lists them again"
    size = 0
    for file in place.rglob("*"):
        with suppress(FileNotFoundError):  # a build has just removed it
            size += file.stat().st_size if file.is_file() else 0
    for what, value in (
        ("descriptor", described.descriptor),
        ("distance", described.distance),
        ("images", f"{count:,} of {archive.folder}{'' if archive.folder.is_dir() else AWAY}"),
        ("faults", faults),
        *((method, f"finds {recall}") for method, recall in archive.read_recalls().items()),
        *([("files", OUTDATED.format(archive.folder, place))] if archive.is_outdated else []),
        *([("incomplete", gap)] if (gap := archive.find_gap(count)) else []),
        ("on disk", f"{size / 1e6:,.1f} MB"),
    ):
        print(f"{what:11} {value}")


@app.command("push")
def index_push(
    place: ArchivePlace,
    to: Annotated[str, typer.Option(metavar="URI", help="http://host:19530, or a local .db file.")],
    collection: Collection = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="For a new collection: exact, the default, or hnsw: approximate and faster."
        ),
    ] = None,
) -> None:
    """Copy an archive to a collection in Milvus, or update it; only differences are sent.

    Needs the extra `milvus`. If it is interrupted or killed, start it again and it continues.

    Examples: `cbir index push archive --to http://localhost:19530`,
    `cbir index push archive --to archive.db`
    """
    from cbir_lib.archive.milvus import push

    archive = _open_archive(place)
    if gap := archive.find_gap(len(archive)):
        print(f"{place}: {gap}", file=sys.stderr)
    with (
        _open_milvus(archive, to, collection, method=method) as index,
        counting("images") as progress,
    ):
        pushed = push(archive, index, progress)
        print(
            f"{pushed.added:,} added or changed, {pushed.removed:,} removed, "
            f"{pushed.unchanged:,} unchanged: {len(index):,} images in {index.collection}"
        )


def _open_archive(place: Path, folder: Path | None = None):
    """Return an archive; say so if its files may be read differently now."""
    from cbir_lib.archive.store import Archive

    archive = Archive(place, folder)
    if archive.is_outdated:
        print(f"{place}: {OUTDATED.format(archive.folder, place)}", file=sys.stderr)
    return archive


def _open_milvus(archive, uri: str, collection: str | None, **options):
    from cbir_lib.archive.milvus import MilvusIndex, name_collection

    described = archive.description
    name = collection or name_collection(archive)
    return MilvusIndex(
        *(uri, name, described.distance, described.identity),
        archive=archive.get_own_identity(),
        **options,
    )

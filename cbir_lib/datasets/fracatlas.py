"""FracAtlas: 4,083 radiographs of hand, leg, hip and shoulder, from three hospitals in Bangladesh.

Abedeen et al., Scientific Data 10, 521 (2023), doi:10.1038/s41597-023-02432-4; the data are at
doi:10.6084/m9.figshare.22363012, CC BY 4.0. One archive, with one table::

    FracAtlas/dataset.csv
    FracAtlas/images/Fractured/IMG0000019.jpg ...
    FracAtlas/images/Non_fractured/IMG0000000.jpg ...

Some images lie in both folders; the one that the table's column ``fractured`` names is used. About
sixty are truncated in the archive itself.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path, PurePosixPath

from cbir_lib import paths
from cbir_lib.datasets.cache import load_cached
from cbir_lib.datasets.fetching import download
from cbir_lib.datasets.listing import (
    LARGEST_FILE,
    Entry,
    Reader,
    classify_litter,
    read_file,
    read_images,
    walk_files,
)
from cbir_lib.datasets.radiographs import RadiographSet, build_set
from cbir_lib.datasets.splits import split_by_digest
from cbir_lib.datasets.tables import read_table
from cbir_lib.errors import CbirError

TITLE = "FracAtlas: 4,083 real radiographs of hand, leg, hip and shoulder"
CREDIT = "FracAtlas, I. Abedeen et al. 2023, doi:10.6084/m9.figshare.22363012, CC BY 4.0"
CAPTION = "FracAtlas"
CAVEAT = "Four regions, none of them the chest; patients are unknown, so the splits may share them."
ARCHIVE = "FracAtlas.zip"
# The only file of the record, 338,436,460 bytes; a new version gets a new number. Number, length
# and checksum are those that independent public programs state.
URL = "https://ndownloader.figshare.com/files/65518038"
CHECKSUM = "md5:fe9da2c7c285915ebee69dfdab8fd396"
CLASSES = ("hand", "leg", "hip", "shoulder")
COLUMNS = ("image_id", *CLASSES, "mixed", "fractured")
INSIDE = PurePosixPath("FracAtlas")  # the folder in the archive
TABLE = "dataset.csv"
FETCH_HINT = "fetch it again: cbir data fetch fracatlas"


def locate(root: Path | str | None = None) -> Path:
    """Find the archive, or the folder that holds ``dataset.csv`` and ``images``.

    If ``root`` or ``CBIR_DATA`` is given, only that place is searched, else ``data/fracatlas/``.
    Either may lie at any depth.

    Raises
    ------
    CbirError
        When neither is found.
    """
    named = root or os.environ.get("CBIR_DATA")
    places = [Path(named), Path(named) / "fracatlas"] if named else [paths.data_folder("fracatlas")]
    for place in places:
        for source in (place, place / INSIDE, place / ARCHIVE):
            if source.is_file() or (source / TABLE).is_file():
                return source
    for place in places:
        if deeper := _find_below(place):
            return deeper
    raise CbirError(
        f"no FracAtlas data at {' or '.join(str(place) for place in places)}, or below",
        "fetch it: cbir data fetch fracatlas, or name its place: --data-root, CBIR_DATA",
    )


def _find_below(place: Path) -> Path | None:
    """Find the archive, or the folder with the table and the images, anywhere below."""
    for folder, folders, files in os.walk(place):
        folders[:] = sorted(name for name in folders if not classify_litter(PurePosixPath(name)))
        if TABLE in files and "images" in folders:
            return Path(folder)
        if ARCHIVE in files:
            return Path(folder, ARCHIVE)
    return None


def load(root: Path | str | None = None, size: int = 128) -> RadiographSet:
    """Load the radiographs of a single region, fitted to squares of ``size`` pixels; decoded once.

    The class is the region. Images of several regions, or of none, are left out and counted in
    ``dropped``. An image's split depends only on its pixels, so exact copies always lie in the same
    split; the published splits cover only the fractured images. Subjects are unknown: views of one
    patient may well be in train and test.
    """
    source = locate(root)
    if source.is_dir():
        for _ in walk_files(source):  # checks links and names before the cache reads the files
            pass
    return load_cached(f"fracatlas-{size}", source, lambda place: read(place, size))


def read(source: Path, size: int = 128) -> RadiographSet:
    """Read the archive or the folder, image by image; nothing is unpacked to disk.

    Raises
    ------
    CbirError
        When it is damaged or not a zip archive, or the table is missing or faulty.
    """
    if source.is_dir():
        return _read(lambda path: read_file(source / path), source, size)
    try:
        archive = zipfile.ZipFile(source)
    except Exception as error:  # zipfile passes on whatever its parsing raises
        raise CbirError(
            f"{source} is damaged, or not a zip archive: {error}", FETCH_HINT
        ) from error
    with archive:
        # In a folder of its own, unless somebody has packed it again.
        tables = [name for name in archive.namelist() if PurePosixPath(name).name == TABLE]
        inside = PurePosixPath(min(tables, key=len)).parent if tables else INSIDE
        return _read(lambda path: _read_member(archive, inside / path), source, size)


def _read_member(archive: zipfile.ZipFile, path: PurePosixPath) -> tuple[bytes | None, str]:
    """Read the bytes of a member; or None, and why. A link is read as text."""
    try:
        member = archive.getinfo(str(path))
        if member.file_size > LARGEST_FILE:
            return None, f"{member.file_size:,} bytes, too large"
        return archive.read(member), ""
    except KeyError:
        return None, "no such file"
    except Exception as error:  # wrong checksum, broken stream, password: a type for each
        return None, f"damaged: {error}"


def _read(files: Reader, source: Path, size: int) -> RadiographSet:
    data, reason = files(PurePosixPath(TABLE))
    if data is None:
        raise CbirError(f"{source}: {TABLE}: {reason}", FETCH_HINT)
    listed = _parse_table(data)
    entries = [entry for entry in listed if entry.class_name]
    left_out = len(listed) - len(entries)
    images, records, contents, remarks = read_images(entries, CLASSES, files, size)
    records["split"] = [split_by_digest(digest) for digest in contents]
    dropped = {"several regions, or none": left_out} if left_out else {}
    hint = f"complete {source}, or {FETCH_HINT}"
    return build_set("fracatlas", CLASSES, images, records, remarks, dropped, hint=hint)


def _parse_table(data: bytes) -> list[Entry]:
    """Parse the table into sorted entries; the class is empty for several regions or none."""
    entries: dict[str, Entry] = {}
    for number, cells in read_table(data, TABLE, COLUMNS).rows:
        name = cells["image_id"]
        image_id = PurePosixPath(name).stem
        if image_id in entries or PurePosixPath(name).name != name or name in ("", ".."):
            raise CbirError(
                f"{TABLE}, row {number}: {name!r} is no name, or there twice", FETCH_HINT
            )
        if any(cells[column] not in ("0", "1") for column in COLUMNS[1:]):
            raise CbirError(f"{TABLE}, row {number}: a flag is neither 0 nor 1", FETCH_HINT)
        regions = [region for region in CLASSES if cells[region] == "1"]
        region = regions[0] if len(regions) == 1 and cells["mixed"] == "0" else ""
        folder = "Fractured" if cells["fractured"] == "1" else "Non_fractured"
        file = PurePosixPath("images", folder, name)
        entries[image_id] = Entry(image_id, file, region)
    return sorted(entries.values())


def fetch(folder: Path, url: str = URL, known_hash: str = CHECKSUM) -> Path:
    """Download the archive into ``folder`` and verify it; an interrupted download starts over.

    Raises
    ------
    CbirError
        When the server cannot be reached or sends something else.
    """
    return download(url, known_hash, folder / ARCHIVE)

"""FracAtlas: 4,083 radiographs of hand, leg, hip and shoulder, from three hospitals in Bangladesh.

Abedeen et al., Scientific Data 10, 521 (2023), doi:10.1038/s41597-023-02432-4; the data are at
doi:10.6084/m9.figshare.22363012, CC BY 4.0. One archive, with one table::

    FracAtlas/dataset.csv
    FracAtlas/images/Fractured/IMG0000019.jpg ...
    FracAtlas/images/Non_fractured/IMG0000000.jpg ...

Some images lie in both folders; the one that the table's column ``fractured`` names is taken. Some
sixty are truncated in the archive itself.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path, PurePosixPath

from cbir_lib import paths
from cbir_lib.datasets.cache import cached
from cbir_lib.datasets.fetching import download
from cbir_lib.datasets.listing import (
    LARGEST_FILE,
    Entry,
    Reader,
    litter,
    read_file,
    read_images,
    read_table,
    walk,
)
from cbir_lib.datasets.radiographs import RadiographSet, gather
from cbir_lib.datasets.splits import split_of
from cbir_lib.errors import CbirError

TITLE = "FracAtlas: 4,083 real radiographs of hand, leg, hip and shoulder"
CREDIT = "FracAtlas, I. Abedeen et al. 2023, doi:10.6084/m9.figshare.22363012, CC BY 4.0"
CAPTION = "FracAtlas"
CAVEAT = "Four regions, none of them the chest; patients are unknown, so the splits may share them."
ARCHIVE = "FracAtlas.zip"
# The one file of the record, 338,436,460 bytes; a new version gets a new number. Number, length and
# checksum are those that independent public programs state for it.
URL = "https://ndownloader.figshare.com/files/65518038"
CHECKSUM = "md5:fe9da2c7c285915ebee69dfdab8fd396"
CLASSES = ("hand", "leg", "hip", "shoulder")
COLUMNS = ("image_id", *CLASSES, "mixed", "fractured")
INSIDE = PurePosixPath("FracAtlas")  # the folder in the archive
TABLE = "dataset.csv"
AGAIN = "fetch it again: cbir data fetch fracatlas"


def locate(root: Path | str | None = None) -> Path:
    """The archive, or the folder that holds ``dataset.csv`` and ``images``.

    Looked for at ``root`` or ``CBIR_DATA`` if one is given, and nowhere else then; otherwise in
    ``data/fracatlas/``. Either may lie at any depth.

    Raises
    ------
    CbirError
        When there is none.
    """
    given = root or os.environ.get("CBIR_DATA")
    places = [Path(given), Path(given) / "fracatlas"] if given else [paths.data_folder("fracatlas")]
    for place in places:
        for found in (place, place / INSIDE, place / ARCHIVE):
            if found.is_file() or (found / TABLE).is_file():
                return found
    for place in places:
        if deeper := _below(place):
            return deeper
    raise CbirError(
        f"no FracAtlas data at {' or '.join(str(place) for place in places)}, or below",
        "fetch it: cbir data fetch fracatlas, or name its place: --data-root, CBIR_DATA",
    )


def _below(place: Path) -> Path | None:
    """The archive, or the folder with the table and the images, anywhere below."""
    for folder, folders, files in os.walk(place):
        folders[:] = sorted(name for name in folders if not litter(PurePosixPath(name)))
        if TABLE in files and "images" in folders:
            return Path(folder)
        if ARCHIVE in files:
            return Path(folder, ARCHIVE)
    return None


def load(root: Path | str | None = None, size: int = 128) -> RadiographSet:
    """The radiographs of one region, each fitted on a square of ``size`` pixels; decoded once.

    The class is the region. Images of several regions, or of none, are left out and counted in
    ``dropped``. An image's split follows from its pixels, so exact copies never lie on two sides;
    the published splits are of the fractured images alone. Subjects are unknown: views of one
    patient may well be in train and test.
    """
    source = locate(root)
    if source.is_dir():
        for _ in walk(source):  # links and names, before the cache looks at the files
            pass
    return cached(f"fracatlas-{size}", source, lambda place: read(place, size))


def read(source: Path, size: int = 128) -> RadiographSet:
    """Read the archive or the folder, image by image; nothing is unpacked to disk.

    Raises
    ------
    CbirError
        When it is no zip archive or damaged, or the table is missing or faulty.
    """
    if source.is_dir():
        return _read(lambda path: read_file(source / path), source, size)
    try:
        archive = zipfile.ZipFile(source)
    except Exception as error:  # zipfile raises what its parsing ran into
        raise CbirError(f"{source} is damaged, or no zip archive: {error}", AGAIN) from error
    with archive:
        return _read(lambda path: _member(archive, path), source, size)


def _member(archive: zipfile.ZipFile, path: PurePosixPath) -> tuple[bytes | None, str]:
    """The bytes of a member; or None, and why. A link is read as the text it is."""
    try:
        member = archive.getinfo(str(INSIDE / path))
        if member.file_size > LARGEST_FILE:
            return None, f"{member.file_size:,} bytes, too large"
        return archive.read(member), ""
    except KeyError:
        return None, "no such file"
    except Exception as error:  # a wrong sum, a broken stream, a password: a type for each
        return None, f"damaged: {error}"


def _read(files: Reader, source: Path, size: int) -> RadiographSet:
    data, reason = files(PurePosixPath(TABLE))
    if data is None:
        raise CbirError(f"{source}: {TABLE}: {reason}", AGAIN)
    listed = _table(data)
    entries = [entry for entry in listed if entry.class_name]
    left_out = len(listed) - len(entries)
    images, records, contents, remarks = read_images(entries, CLASSES, files, size)
    records["split"] = [split_of(digest) for digest in contents]
    dropped = {"several regions, or none": left_out} if left_out else {}
    mend = f"complete {source}, or {AGAIN}"
    return gather("fracatlas", CLASSES, images, records, remarks, dropped, mend=mend)


def _table(data: bytes) -> list[Entry]:
    """The images of the table, sorted; the class is empty for several regions or none."""
    found: dict[str, Entry] = {}
    for number, cells in read_table(data, TABLE, COLUMNS):
        name = cells["image_id"]
        image_id = PurePosixPath(name).stem
        if image_id in found or PurePosixPath(name).name != name or name in ("", ".."):
            raise CbirError(f"{TABLE}, row {number}: {name!r} is no name, or there twice", AGAIN)
        if any(cells[column] not in ("0", "1") for column in COLUMNS[1:]):
            raise CbirError(f"{TABLE}, row {number}: a flag is neither 0 nor 1", AGAIN)
        regions = [region for region in CLASSES if cells[region] == "1"]
        region = regions[0] if len(regions) == 1 and cells["mixed"] == "0" else ""
        folder = "Fractured" if cells["fractured"] == "1" else "Non_fractured"
        file = PurePosixPath("images", folder, name)
        found[image_id] = Entry(image_id, file, region)
    return sorted(found.values())


def fetch(folder: Path, url: str = URL, known_hash: str = CHECKSUM) -> Path:
    """Download the archive into ``folder``, checked; an interrupted download starts anew.

    Raises
    ------
    CbirError
        When the server cannot be reached or sends something else.
    """
    return download(url, known_hash, folder / ARCHIVE)

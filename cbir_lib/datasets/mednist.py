"""MedNIST: 58,954 real images of 64 x 64 pixels in six classes.

Gathered from The Cancer Imaging Archive, the RSNA Bone Age Challenge and the NIH chest X-ray set;
made available by Dr. Bradley J. Erickson, Department of Radiology, Mayo Clinic, CC BY-SA 4.0.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from cbir_lib import paths
from cbir_lib.datasets.cache import load_cached
from cbir_lib.datasets.fetching import download
from cbir_lib.datasets.listing import classify_litter, read_file, walk_files
from cbir_lib.datasets.radiographs import RadiographSet, build_set
from cbir_lib.datasets.splits import split_by_content
from cbir_lib.errors import CbirError
from cbir_lib.images.decoding import decode

TITLE = "MedNIST: 58,954 real images, 64 x 64, six classes (CT, MR, X-ray)"
CREDIT = "MedNIST, Dr. Bradley J. Erickson, Mayo Clinic, CC BY-SA 4.0"
CAPTION = "MedNIST"
CAVEAT = (
    "MedNIST is saturated: a descriptor that ignores where every pixel is comes close to the "
    "ceiling. It cannot rank methods. Its patients are unknown, and "
    "neighbouring slices of one may be in training and test."
)
ARCHIVE = "MedNIST.tar.gz"
URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/" + ARCHIVE
# The public archive first; then the same images, packed again.
CHECKSUMS = (
    "md5:0bc7306e7427e00ad1c5526a6677552d",
    "sha256:8a8314b067794e5ccd5449df79cce01390acf9ce6c670078acbb5dad48e1564b",
)
SIZE_PX = 64
# Images per class, as published.
CLASSES = {
    "AbdomenCT": 10000,
    "BreastMRI": 8954,
    "CXR": 10000,
    "ChestCT": 10000,
    "Hand": 10000,
    "HeadCT": 10000,
}
LARGEST_MEMBER = 16 * 2**20
LARGEST_ARCHIVE = 4 * 2**30
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")


def locate(root: Path | str | None = None) -> Path:
    """Find the archive, or the folder of class folders.

    If ``root`` or ``CBIR_DATA`` is given, only that place is searched, else ``data/mednist/`` and,
    beside the project, ``shared/data/``.

    Raises
    ------
    CbirError
        When neither is found.
    """
    named = root or os.environ.get("CBIR_DATA")
    places = (
        [Path(named), Path(named) / "mednist"]
        if named
        else [paths.data_folder("mednist"), paths.project_root().parent / "shared" / "data"]
    )
    for place in places:
        for source in (place, place / ARCHIVE, place / "MedNIST"):
            if source.is_file() or any((source / name).is_dir() for name in CLASSES):
                return source
    for place in places if named else ():
        if deeper := _find_below(place):
            return deeper
    raise CbirError(
        f"no MedNIST data at {' or '.join(str(place) for place in places)}",
        "fetch it: make data (cbir data fetch mednist), or name its place: --data-root, CBIR_DATA",
    )


def _find_below(place: Path) -> Path | None:
    """Find the archive, or the folder of class folders, anywhere below."""
    for folder, folders, files in os.walk(place):
        folders[:] = sorted(name for name in folders if not classify_litter(PurePosixPath(name)))
        if CLASSES.keys() <= {*folders}:
            return Path(folder)
        if ARCHIVE in files:
            return Path(folder, ARCHIVE)
    return None


def load(root: Path | str | None = None) -> RadiographSet:
    """Load all of MedNIST, decoded once and then read from the array cache.

    MedNIST has no official splits. Here an image's split depends only on the hash of its pixels, so
    that exact copies, of which the set has some hundred, always lie in the same split. Subjects
    are unknown: neighbouring slices of one patient may well be in train and test.
    """
    return load_cached("mednist", locate(root), read)


def read(source: Path, checksums: tuple[str, ...] = CHECKSUMS) -> RadiographSet:
    """Read an archive (checked against ``checksums``) or a folder, image by image."""
    files = read_archive(source, checksums) if source.is_file() else read_folder(source)
    images, labels, ids, splits, remarks = [], [], [], [], []
    class_names = tuple(CLASSES)
    for name, data in files:
        image, remark = decode(data)
        if image is not None and image.shape != (SIZE_PX, SIZE_PX):
            import cv2

            height, width = image.shape
            image = cv2.resize(image, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)
            remark = ", ".join(filter(None, [remark, f"{width} x {height} pixels, resized"]))
        if remark:
            remarks.append((str(name), remark, image is not None))
        if image is not None:
            images.append(image)
            labels.append(class_names.index(name.parent.name))
            ids.append(f"{name.parent.name}/{name.stem}")
            splits.append(split_by_content(image))
    records = pd.DataFrame(
        {"image_id": ids, "label": labels, "split": splits, "subject_id": "", "irma_code": ""}
    )
    hint = f"complete {source}, or fetch it again: cbir data fetch mednist"
    for label, (class_name, published) in enumerate(CLASSES.items()):
        if (count := labels.count(label)) != published:
            remark = f"{count:,} images, where the published set has {published:,}"
            remarks.append((f"the class {class_name}", remark, True))
    return build_set("mednist", class_names, images, records, remarks, hint=hint)


def read_folder(folder: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield name and bytes of each image in the class folders, sorted by name.

    Raises
    ------
    CbirError
        When a class's folder is a link, a link leads out of it, or a file cannot be read.
    """
    for class_name in CLASSES:
        place = folder / class_name
        if place.is_symlink():
            raise CbirError(
                f"{place} is a link, and changes behind it would not be noticed",
                "copy the folder to where the link is",
            )
        for file in walk_files(place) if place.is_dir() else ():
            if len(file.parts) == 1 and file.suffix.lower() in IMAGE_SUFFIXES:
                data, reason = read_file(place / file)
                if data is None:
                    raise CbirError(f"{place / file}: {reason}", "replace it, or get it again")
                yield PurePosixPath(class_name, file.name), data


def read_archive(archive: Path, checksums: tuple[str, ...]) -> list[tuple[PurePosixPath, bytes]]:
    """Read name and bytes of each image in the archive, sorted by name, without unpacking to disk.

    Raises
    ------
    CbirError
        When the archive has none of the checksums, is truncated, or has a member that is a link,
        leaves the folder, or is far too large.
    """
    hint = "remove it and fetch it again: cbir data fetch mednist"
    for known in checksums:
        algorithm, _, value = known.partition(":")
        with archive.open("rb") as file:
            if hashlib.file_digest(file, algorithm).hexdigest() == value:
                break
    else:
        raise CbirError(f"{archive} is not the published archive: wrong checksum", hint)
    files, total = [], 0
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                name = PurePosixPath(member.name)
                total += member.size
                if name.is_absolute() or ".." in name.parts:
                    raise CbirError(f"{archive}: member {member.name!r} leaves its folder", hint)
                if not (member.isfile() or member.isdir()):
                    raise CbirError(f"{archive}: member {member.name!r} is a link", hint)
                if member.size > LARGEST_MEMBER or total > LARGEST_ARCHIVE:
                    raise CbirError(f"{archive}: member {member.name!r} is too large", hint)
                if name.suffix.lower() in IMAGE_SUFFIXES and name.parent.name in CLASSES:
                    files.append((name, members.extractfile(member).read()))
            while members.fileobj.read(LARGEST_MEMBER):  # to gzip's checksum, at its end
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise CbirError(f"{archive} is damaged: {error}", hint) from error
    return sorted(files)


def fetch(folder: Path, url: str = URL, known_hash: str = CHECKSUMS[0]) -> Path:
    """Download the public archive into ``folder`` and verify it; interrupted, it starts over.

    Raises
    ------
    CbirError
        When the server cannot be reached or sends something else.
    """
    return download(url, known_hash, folder / ARCHIVE)

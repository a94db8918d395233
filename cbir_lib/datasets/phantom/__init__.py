"""The phantom: simulated radiographs that are part of this repository.

Reading the embedded set needs nothing but the library; drawing one needs the extra ``phantom``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cbir_lib import paths
from cbir_lib.datasets.cache import load_cached
from cbir_lib.datasets.phantom.contents import (
    CHECKSUMS_FILE,
    COUNT,
    TRAIN,
    compute_split_sizes,
)
from cbir_lib.datasets.radiographs import SPLITS, RadiographSet, build_set
from cbir_lib.errors import CbirError, first_line
from cbir_lib.files import compute_file_checksum
from cbir_lib.images.decoding import decode, fit_to_square

TITLE = "Phantom: 14,410 simulated radiographs, five body regions, full IRMA codes"
CREDIT = "Simulated images of this project, CC BY 4.0; bone shapes: MyoSim, OpenSim"
CAPTION = "the phantom (simulated images)"
CAVEAT = (
    "These are simulated images. No result on them is a result on patients, and two methods may "
    "rank differently on real radiographs."
)
URL = None
# Images a class, in all splits.
CLASSES = {
    name: sum(split[name] for split in compute_split_sizes(COUNT).values()) for name in TRAIN
}
LARGEST_PX = 1024  # longer side
LARGEST_SHARD = 2**28  # bytes, unpacked
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    MemoryError,
)
COLUMNS = ("image_id", "split", "class", "irma_code", "subject_id", "view", "width_px", "height_px")
RESTORE_HINT = (
    "get it again: git checkout data/phantom, or draw it: cbir phantom render --out FOLDER"
)


def locate(root: Path | str | None = None) -> Path:
    """Find the shards: in ``root``, in ``CBIR_DATA`` if it holds some, or in ``data/phantom``.

    Raises
    ------
    CbirError
        When there is none.
    """
    embedded = paths.data_folder("phantom")
    named = os.environ.get("CBIR_DATA")
    places = [Path(root)] if root else [Path(named)] if named else []
    places += [place / "phantom" for place in places] + ([] if root else [embedded])
    for place in places:
        if (place / CHECKSUMS_FILE).is_file():
            return place
    raise CbirError(f"no phantom images at {' or '.join(map(str, places))}", RESTORE_HINT)


def load(root: Path | str | None = None) -> RadiographSet:
    """Load all of the phantom, decoded once and read from the array cache afterwards.

    Images lie in the middle of a black square; their own size is in ``width_px`` and ``height_px``.
    ``records`` has all of ``labels.csv``: the view, and the settings that make an image hard.
    """
    return load_cached("phantom", locate(root), read)


def read(folder: Path) -> RadiographSet:
    """Read shards and labels, each checked against ``SHA256SUMS``.

    Raises
    ------
    CbirError
        When a file is missing, changed or damaged, or the labels lack a column or an image.
    """
    listed = read_checksums(folder / CHECKSUMS_FILE)
    for name, value in listed.items():
        path = folder / name
        if not path.is_file():
            raise CbirError(f"{path} is missing", RESTORE_HINT)
        if compute_file_checksum(path) != value:
            raise CbirError(f"{path} is not what was published: wrong checksum", RESTORE_HINT)
    encoded: dict[str, bytes] = {}
    for name in listed:
        if name.endswith(".parquet"):
            encoded |= read_shard(folder / name)
    try:
        labels = pd.read_csv(folder / "labels.csv", dtype={"image_id": str}, keep_default_na=False)
    except UNREADABLE as error:
        raise _damaged_error(folder / "labels.csv", error) from error
    _check_labels(folder / "labels.csv", labels)
    if set(labels["image_id"]) != set(encoded):
        raise CbirError(f"{folder}: labels and shards name different images", RESTORE_HINT)
    return decode_set(labels, encoded)


def read_shard(path: Path) -> dict[str, bytes]:
    """Read the encoded images of one shard, by identifier.

    Raises
    ------
    CbirError
        When the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Names and bytes of a foreign shard may be of any type, and its text no text.
    try:
        groups = pq.read_metadata(path)
        size = sum(groups.row_group(i).total_byte_size for i in range(groups.num_row_groups))
        if size > LARGEST_SHARD:
            raise ValueError(f"{size:,} bytes, too large")
        shard = pq.read_table(path, columns=["image_id", "image"])
        names = shard["image_id"].to_pylist()
        pictures = shard["image"].combine_chunks().field("bytes").to_pylist()
        if not all(isinstance(name, str) for name in names):
            raise ValueError("an identifier is no text")
        if not all(isinstance(picture, bytes) for picture in pictures):
            raise ValueError("an image has no bytes")
    except (pa.ArrowException, *UNREADABLE) as error:
        raise _damaged_error(path, error) from error
    return dict(zip(names, pictures, strict=True))


def read_checksums(sums: Path) -> dict[str, str]:
    """Read the checksums by file name, as ``sha256sum`` writes them.

    Raises
    ------
    CbirError
        When the file is damaged, or names one outside its folder.
    """
    try:
        lines = [line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged_error(sums, error) from error
    listed = {line[1]: line[0] for line in lines if len(line) == 2}
    if outside := [name for name in listed if "/" in name or "\\" in name]:
        raise CbirError(f"{sums} names {outside[0]}, which leaves the folder", RESTORE_HINT)
    if "labels.csv" not in listed or len(listed) < len(lines):
        raise CbirError(f"{sums} is damaged: a line without a file, or no labels.csv", RESTORE_HINT)
    return listed


def _check_labels(path: Path, labels: pd.DataFrame) -> None:
    for column in COLUMNS:
        if column not in labels:
            raise CbirError(f"{path} has no column {column!r}", RESTORE_HINT)
    for column, known in {"class": tuple(CLASSES), "split": SPLITS}.items():
        strange = labels.loc[~labels[column].isin(known), column]
        if len(strange):
            raise CbirError(f"{path}: unknown {column} {strange.iloc[0]!r}", RESTORE_HINT)
    if labels["image_id"].duplicated().any():
        raise CbirError(f"{path} has an image twice", RESTORE_HINT)
    for column in ("width_px", "height_px"):
        if not pd.api.types.is_integer_dtype(labels[column]):
            raise CbirError(f"{path}: {column} is not a whole number everywhere", RESTORE_HINT)
        if not labels[column].between(1, LARGEST_PX).all():
            raise CbirError(f"{path}: {column} is not 1 to {LARGEST_PX} everywhere", RESTORE_HINT)


def decode_set(labels: pd.DataFrame, encoded: Mapping[str, bytes]) -> RadiographSet:
    """Decode the images that rows of ``labels.csv`` describe, and build a set of them.

    Images lie in the middle of a black square, of the largest image's longer side.
    """
    size = int(labels[["width_px", "height_px"]].to_numpy().max())
    decoded = [decode(encoded[image_id]) for image_id in labels["image_id"]]
    kept = [d.image is not None for d in decoded]
    remarks = [
        (f"{image_id}.jpg", d.remark, d.image is not None)
        for image_id, d in zip(labels["image_id"], decoded, strict=True)
        if d.remark
    ]
    records = labels[kept].rename(columns={"class": "label"})
    records["label"] = records["label"].map(list(CLASSES).index)
    images = [fit_to_square(d.image, size) for d in decoded if d.image is not None]
    return build_set("phantom", tuple(CLASSES), images, records, remarks, hint=RESTORE_HINT)


def _damaged_error(path: Path, error: Exception) -> CbirError:
    return CbirError(f"{path} is damaged: {first_line(error)}", RESTORE_HINT)


def fetch(folder: Path, url: str | None = None) -> Path:
    """Refuse: there is nothing to fetch, the set is part of the repository."""
    raise CbirError("the phantom is part of the repository and not fetched", RESTORE_HINT)

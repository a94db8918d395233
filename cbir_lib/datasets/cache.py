"""A cache of decoded data sets: each is decoded once, then read from one array file."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from cbir_lib import paths
from cbir_lib.datasets.listing import classify_litter, may_pass
from cbir_lib.datasets.radiographs import REMARK_TYPES, RadiographSet
from cbir_lib.errors import CbirError
from cbir_lib.files import compute_file_checksum, remove_own, replacing, resolve
from cbir_lib.images.grey import RULES
from cbir_lib.tensors import compute_array_checksum

FORMAT = 5
KEPT = 3  # caches of one set, of several copies of it


def load_cached(name: str, source: Path, read: Callable[[Path], RadiographSet]) -> RadiographSet:
    """Return ``read(source)``, from the cache if it was made from the same files before.

    Images are returned as a read-only memory map. A damaged cache (its checksum is compared) is
    made again; where none can be written, the set is returned as it was read, and so is one that
    lacks an image which could not be read just now. Nothing is cached inside ``source``, where it
    would count as part of the set. The ``KEPT`` newest caches of a set stay, each of another copy
    of it.
    """
    if resolve(paths.cache_folder()).is_relative_to(resolve(source)):
        return read(source)
    version = f"{name}-v{FORMAT}.{RULES}-"
    folder = paths.cache_folder() / f"{version}{compute_fingerprint(source)[:16]}"
    try:
        return _read(folder)
    except Exception:  # a damaged cache raises whatever its parsing raises
        data = read(source)
    if any(map(may_pass, data.remarks.loc[~data.remarks["kept"], "remark"])):
        return data
    try:
        _write(folder, data)
        # Those without images are being written. Of other names, they are not ours.
        own = re.compile(rf"{re.escape(name)}-v[\d.]+-[0-9a-f]{{16}}")
        there = [other for other in paths.cache_folder().iterdir() if own.fullmatch(other.name)]
        written = [other for other in there if (other / IMAGES).exists()]
        copies = [other for other in written if other.name.startswith(version)]
        copies.sort(key=lambda other: (other / IMAGES).stat().st_mtime_ns)
        for other in written:
            if other not in (folder, *copies[-KEPT:]):
                remove_own(other, {IMAGES, RECORDS, DESCRIPTION}.__contains__)
        return _read(folder)
    except (
        OSError,
        CbirError,
        ValueError,
    ):  # no permission or space, or removed by another process
        return data


IMAGES, RECORDS, DESCRIPTION = "images.npy", "records.parquet", "set.json"
_checked: set[tuple] = set()  # the states of files whose checksum was compared


def _write(folder: Path, data: RadiographSet) -> None:
    # Images are written last: where they exist, the rest does.
    with replacing(folder / RECORDS) as part:
        data.records.assign(label=data.labels).to_parquet(part)
        records = part.read_bytes()
    described = {
        "name": data.name,
        "class_names": data.class_names,
        "checksum": data.checksum,
        "remarks": data.remarks.to_dict("list"),
        "dropped": dict(data.dropped),
    }
    described["sha256"] = _compute_checksum(described, records, data.images)
    with replacing(folder / DESCRIPTION) as part:
        part.write_text(json.dumps(described))
    with replacing(folder / IMAGES) as part, part.open("wb") as file:
        np.save(file, data.images)


def check_cached(name: str) -> None:
    """Check what is cached of a set: neither this process nor a fork of it will do so again.

    Starts no thread, which a fork would lack.
    """
    for folder in paths.cache_folder().glob(f"{name}-v{FORMAT}.*"):
        with suppress(Exception):  # a damaged one is made again by who needs it
            _check(folder)


def _check(folder: Path) -> tuple[dict, np.ndarray]:
    """Return a cache's description and images; refuse them if the checksum differs."""
    files = [(folder / name).stat() for name in (IMAGES, DESCRIPTION, RECORDS)]
    state = (folder, *((file.st_ino, file.st_mtime_ns, file.st_size) for file in files))
    images = np.lib.format.open_memmap(folder / IMAGES, mode="r")
    described = json.loads((folder / DESCRIPTION).read_text())
    checksum = described.pop("sha256")
    if state not in _checked:
        if checksum != _compute_checksum(described, (folder / RECORDS).read_bytes(), images):
            raise ValueError("its checksum differs")
        _checked.add(state)
    return described, images


def _read(folder: Path) -> RadiographSet:
    described, images = _check(folder)
    records = pd.read_parquet(folder / RECORDS)
    return RadiographSet(
        name=described["name"],
        images=images,
        labels=records.pop("label").to_numpy(),
        class_names=tuple(described["class_names"]),
        records=records,
        remarks=pd.DataFrame(described["remarks"]).astype(REMARK_TYPES),
        checksum=described["checksum"],
        dropped=described["dropped"],
    )


def _compute_checksum(described: dict, records: bytes, images: np.ndarray) -> str:
    """Compute the SHA-256 of everything in a cache."""
    arrays = {"images": images, "records": np.frombuffer(records, np.uint8)}
    return compute_array_checksum(json.dumps(described, sort_keys=True), arrays)


def compute_fingerprint(source: Path) -> str:
    """Compute the SHA-256 of a file's bytes, or of the names, sizes and times of a folder's files.

    Litter (:func:`cbir_lib.datasets.listing.classify_litter`) is ignored.
    """
    if source.is_file():
        return compute_file_checksum(source)
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if classify_litter(PurePosixPath(inside.as_posix())):
            continue
        try:
            state = path.stat()
        except OSError:  # just removed
            continue
        # ctime differs where an archive has set mtime, and after a change of permissions.
        times = f"{state.st_mtime_ns} {state.st_ctime_ns}"
        digest.update(os.fsencode(inside) + f" {state.st_size} {times}\n".encode())
    return digest.hexdigest()

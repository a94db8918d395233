"""Decoded once, then read from one array file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from cbir_lib.datasets.radiographs import REMARK_TYPES, RadiographSet
from cbir_lib.files import cache_folder, replacing

VERSION = 2  # of the cache's form and of the decoding rules


def cached(name: str, source: Path, read: Callable[[Path], RadiographSet]) -> RadiographSet:
    """What ``read(source)`` gives, from the cache where it was made before from the same files.

    Images come back as a read-only memory map. A damaged cache is made again.
    """
    folder = cache_folder() / f"{name}-v{VERSION}-{fingerprint(source)[:16]}"
    try:
        return _read(folder)
    except (OSError, ValueError, KeyError, TypeError):
        data = read(source)
    # images.npy goes last: where it is, the rest is.
    with replacing(folder / "records.parquet") as part:
        data.records.assign(label=data.labels).to_parquet(part)
    with replacing(folder / "set.json") as part:
        described = {
            "name": data.name,
            "class_names": data.class_names,
            "checksum": data.checksum,
            "remarks": data.remarks.to_dict("list"),
            "dropped": dict(data.dropped),
        }
        part.write_text(json.dumps(described))
    with replacing(folder / "images.npy") as part, part.open("wb") as file:
        np.save(file, data.images)
    for other in cache_folder().glob(f"{name}-v*"):
        if other != folder:  # made from another copy, or by another version
            shutil.rmtree(other, ignore_errors=True)
    return _read(folder)


def _read(folder: Path) -> RadiographSet:
    images = np.lib.format.open_memmap(folder / "images.npy", mode="r")
    records = pd.read_parquet(folder / "records.parquet")
    described = json.loads((folder / "set.json").read_text())
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


def fingerprint(source: Path) -> str:
    """SHA-256 of a file's bytes, or of the names, sizes and times of a folder's files."""
    if source.is_file():
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        state = path.stat()
        digest.update(f"{path.relative_to(source)} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()

"""Drawing a whole phantom set: on several processes, in parts that a killed run leaves finished."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cbir_lib.datasets.phantom import read_checksums, recipe
from cbir_lib.datasets.phantom.card import write_card
from cbir_lib.datasets.phantom.changes import check_changes
from cbir_lib.datasets.phantom.contents import CHECKSUMS_FILE, COUNT, TRAIN
from cbir_lib.datasets.phantom.parameters import require_packages
from cbir_lib.errors import CbirError, check_integer
from cbir_lib.files import compute_file_checksum, is_part, remove_own, replacing

JPEG_QUALITY = 90
IMAGES_PER_PART = 100  # images between two writes
SHARD_BYTES = 12 * 2**20
FEWEST_IMAGES = 200  # so that every class is in every split
MOST_IMAGES = 10_000_000
RECORDED_PACKAGES = (
    "mujoco",
    "musclemimic-models",
    "numba",
    "numpy",
    "opencv-python-headless",
    "pillow",
)


def encode_jpeg(grey: np.ndarray) -> bytes:
    """Encode a (H, W) uint8 image as JPEG."""
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "jpeg", quality=JPEG_QUALITY, optimize=True)
    return file.getvalue()


def render_set(
    out: Path,
    count: int = COUNT,
    seed: int = recipe.SEED,
    size: int = recipe.SIZE_PX,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda finished, count: None,
    changes: Sequence[str] = (),
) -> Path:
    """Draw ``count`` images and write them as a data set; what a killed run left is kept.

    Parameters
    ----------
    out
        A folder that is empty, new, or was begun with the same count, seed, size and changes.
    size
        Longer side in pixels, 32 to 1024.
    workers
        Processes; as many as cores by default. The images do not depend on it.
    progress
        Called with how many images are done, and of how many, at first with those there already.
    changes
        Of :mod:`cbir_lib.datasets.phantom.changes`, by name.

    Raises
    ------
    CbirError
        When a number is out of range, or ``out`` holds something else.
    """
    check_integer("count", count, FEWEST_IMAGES, MOST_IMAGES)
    check_integer("size", size, 32, 1024)
    check_integer("seed", seed, 0, 2**32 - 1)
    described = {
        "version": recipe.VERSION,
        "count": int(count),
        "seed": int(seed),
        "size": int(size),
        "jpeg_quality": JPEG_QUALITY,
    }
    if changes := check_changes(changes):
        described["changes"] = [*changes]
    parts, done = out / "parts", out / ".parts-done"
    remove_own(done, _is_ours)
    if _is_finished(out, described):
        progress(count, count)
        return out
    _claim_folder(out, described)
    planned = recipe.plan_images(count, seed)
    todo, finished = [], 0
    for first in range(0, count, IMAGES_PER_PART):
        path, entries = parts / f"{first:05d}.parquet", planned[first : first + IMAGES_PER_PART]
        if _is_whole(path):
            finished += len(entries)
        else:
            todo.append((path, entries))
    if todo:
        require_packages()
    if finished:
        progress(finished, count)
    with closing(_draw_parts(todo, workers or os.cpu_count() or 1, seed, size, changes)) as drawn:
        for images in drawn:
            finished += images
            progress(finished, count)
    described["drawn_with"] = {name: version(name) for name in RECORDED_PACKAGES}
    tables = [pd.read_parquet(path) for path in sorted(parts.glob("*.parquet"))]
    write_set(out, pd.concat(tables, ignore_index=True), described)
    parts.rename(done)  # in one step: a half-removed folder of parts would look like one begun
    remove_own(done, _is_ours)
    return out


def _is_ours(name: str) -> bool:
    """Tell whether a file in the folder of parts is one of ours, by its name."""
    return re.fullmatch(r"\d{5,}\.parquet|recipe\.json", name, re.ASCII) is not None


def _is_finished(out: Path, described: dict) -> bool:
    """Tell whether the folder holds the complete set with these settings.

    Raises
    ------
    CbirError
        When it does, but a file is missing or was changed since.
    """
    if (out / "parts").exists() or not (out / CHECKSUMS_FILE).is_file():
        return False
    try:
        finished = json.loads((out / "recipe.json").read_text())
        same_changes = finished.get("changes") == described.get("changes")
        same = same_changes and described.items() <= finished.items()
    except (OSError, ValueError, AttributeError):
        return False
    for name, known in read_checksums(out / CHECKSUMS_FILE).items() if same else ():
        file = out / name
        if not file.is_file() or compute_file_checksum(file) != known:
            raise CbirError(
                f"{file} is missing or was changed since the set was drawn",
                f"remove {out} and draw it again, or name another folder: --out",
            )
    return same


def _is_whole(part: Path) -> bool:
    """Tell whether a part has been drawn, and is as it was written."""
    try:
        pq.read_table(part, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return False
    return True


def _draw_parts(todo: list, workers: int, *how) -> Iterator[int]:
    """Draw parts, on several processes if wanted; the number of images of each as it is done."""
    if workers == 1:
        for path, entries in todo:
            yield _draw_part(path, entries, *how)
        return
    # Forked processes would inherit locks of torch's or OpenMP's threads, and wait for ever.
    fresh = multiprocessing.get_context("spawn")
    size_of_pool = min(workers, max(1, len(todo)))
    with ProcessPoolExecutor(size_of_pool, mp_context=fresh, initializer=_end_with_parent) as pool:
        jobs = [pool.submit(_draw_part, *job, *how) for job in todo]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let this process end when the one that started it is killed, and not wait for ever.

    And at Ctrl-C without a word: the one that started it says what happened.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _claim_folder(out: Path, described: dict) -> None:
    """Make the folder ours, or refuse it."""
    begun = out / "parts" / "recipe.json"
    if begun.is_file():
        try:
            same = json.loads(begun.read_text()) == described
        except ValueError:
            same = False
        if not same:
            raise CbirError(
                f"{out} was begun with other settings",
                f"go on with the same, remove {begun.parent}, or name another folder: --out",
            )
        return
    # A kill may have left a folder of parts with no more than what was being written.
    others = [] if not out.is_dir() else [path.name for path in out.iterdir()]
    foreign = set(others) - {"parts"}
    if begun.parent.is_dir():
        inside = {path.name for path in begun.parent.iterdir()}
        foreign |= {name for name in inside if not (_is_ours(name) or is_part(name))}
    if (out.exists() and not out.is_dir()) or foreign:
        raise CbirError(f"{out} is not an empty folder", "name a new one: --out")
    with replacing(begun) as part:
        part.write_text(json.dumps(described))


def _draw_part(
    path: Path,
    entries: list[recipe.PlannedImage],
    seed: int,
    size: int,
    changes: Sequence[str] = (),
) -> int:
    import cv2

    cv2.setNumThreads(1)  # one process a core
    rows = []
    for planned in entries:
        grey, record = recipe.draw_image(planned, seed, size, changes)
        rows.append(record | {"jpeg": encode_jpeg(grey)})
    with replacing(path) as part:
        pd.DataFrame(rows).to_parquet(part, write_page_checksum=True)
    return len(rows)


def write_set(out: Path, table: pd.DataFrame, described: dict) -> None:
    """Write shards, labels, checksums and the card from one row an image."""
    names = list(TRAIN)
    for split, rows in table.groupby("split", sort=False):
        shards = -(-rows["jpeg"].map(len).sum() // SHARD_BYTES)
        for i, shard in enumerate(np.array_split(np.arange(len(rows)), shards)):
            with replacing(out / f"{split}-{i:05d}-of-{shards:05d}.parquet") as part:
                pq.write_table(
                    _build_arrow_table(rows.iloc[shard], names), part, compression="none"
                )
    with replacing(out / "labels.csv") as part:
        table.drop(columns="jpeg").to_csv(part, index=False)
    with replacing(out / "recipe.json") as part:
        part.write_text(json.dumps(described, indent=2) + "\n")
    write_card(out, table.drop(columns="jpeg"), described)


def _build_arrow_table(rows: pd.DataFrame, names: list[str]) -> pa.Table:
    """Rows as Hugging Face ``datasets`` reads them: images decoded, classes named."""
    texts = ("image_id", "irma_code", "subject_id", "view")
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": names},
        **{name: {"_type": "Value", "dtype": "string"} for name in texts},
    }
    images = [
        {"bytes": jpeg, "path": f"{image_id}.jpg"}
        for image_id, jpeg in zip(rows["image_id"], rows["jpeg"], strict=True)
    ]
    columns = {
        "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "label": pa.array(rows["class"].map(names.index), pa.int64()),
        **{name: pa.array(rows[name], pa.string()) for name in texts},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table(columns).replace_schema_metadata(metadata)

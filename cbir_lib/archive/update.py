"""Build an archive from a folder and keep it up to date, shard by shard."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np
from filelock import Timeout

from cbir_lib import paths
from cbir_lib.archive.scan import (
    FAULTS,
    Fault,
    Scan,
    State,
    read_faults,
    read_state,
    scan_folder,
    write_faults,
)
from cbir_lib.archive.store import (
    SHARD,
    SIZE_PX,
    Archive,
    Description,
    Row,
    compute_identity,
    compute_rows_digest,
    format_description,
)
from cbir_lib.datasets.listing import (
    UNREADABLE,
    classify_litter,
    map_ahead,
    may_pass,
    open_pool,
    read_file,
)
from cbir_lib.datasets.splits import hash_pixels
from cbir_lib.descriptors import (
    DESCRIPTORS,
    Descriptor,
    build_descriptor,
    is_descriptor,
    needs_weights,
)
from cbir_lib.errors import CbirError, unknown_name_error
from cbir_lib.files import compute_file_checksum, expand, find_lock, replacing, resolve
from cbir_lib.images.decoding import RULES, TOO_LITTLE_MEMORY, decode, fit_to_square
from cbir_lib.images.dicom import INSTALL_COMMAND
from cbir_lib.images.memory import reserve, reserving
from cbir_lib.sampling import space_evenly

SAMPLE = 1000  # images that a descriptor is fitted on, evenly spread over the sorted paths
FEW = 16  # images that show whether the descriptor's vectors can be compared
LOCK = ".lock"
OURS = {FAULTS, "descriptor.safetensors", "network.safetensors"}  # before archive.json


class FileRead(NamedTuple):
    """A file after reading."""

    path: str
    state: State
    image: np.ndarray | None  # (size, size) uint8
    content: str
    remark: str  # why there is no image

    @property
    def row(self) -> Row:
        return Row(self.path, *self.state, self.content)


@dataclass
class Report:
    """What a build did, as numbers of images."""

    archive: Archive
    added: int = 0
    changed: int = 0  # described again
    removed: int = 0  # their files are gone or can no longer be read
    unchanged: int = 0
    faults: dict[str, str] = field(default_factory=dict)  # file: reason
    skipped: Counter[str] = field(default_factory=Counter)


Progress = Callable[[int, int], None]  # files read, and files to read in total


def build(
    folder: Path | str,
    place: Path | str,
    descriptor: str | None = None,
    *,
    distance: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Build the archive of a folder, or update it.

    Only new and changed files are described, and missing ones are removed. A build that was
    interrupted or killed continues where it stopped and loses less than a shard. If another version
    of the library may have read files differently, all are read again, and those whose pixels
    differ are described again.

    Parameters
    ----------
    folder
        PNG, JPEG, TIFF, WebP and DICOM files, in sub-folders of any depth.
    place
        The folder of the archive; a new one, or an existing archive.
    descriptor
        One of :data:`cbir_lib.descriptors.DESCRIPTORS`, with its default settings, a model of
        Hugging Face (``hf:owner/name``), or the run of a trained network; by default that of the
        existing archive. If it learns, it is fitted once, on 1000 images
        evenly spread over the sorted paths, and stored.
    distance
        One of :data:`cbir_lib.retrieval.distances.DISTANCES`; by default that of the descriptor.
    progress
        Called after each file, new or changed.

    Raises
    ------
    CbirError
        When the folder is missing or has no images, the archive has another descriptor, its vectors
        cannot be compared by the distance, or another process is building it.
    """
    folder, place = expand(folder), expand(place)
    if not folder.is_dir():
        raise CbirError(f"no folder {folder}", "name the folder that holds the images")
    _check(place, descriptor, distance)  # before anything is written
    try:
        place.mkdir(parents=True, exist_ok=True)
        with find_lock(place / LOCK).acquire(timeout=0):
            _check(place, descriptor, distance)  # another build may just have ended
            return _build(resolve(folder), resolve(place), descriptor, distance, progress)
    except Timeout as error:
        raise CbirError(
            f"another build of {place} is running", "wait for it; you can search meanwhile"
        ) from error
    except OSError as error:
        raise CbirError(
            f"cannot read or write {error.filename or place}: {error.strerror or error}",
            "fix its permissions and start again; what is finished is kept",
        ) from error


def _check(place: Path, descriptor: str | None, distance: str | None) -> None:
    if (place / "archive.json").exists():
        _check_same(Archive(place).description, descriptor, distance)
    else:
        _check_new(place, descriptor, distance)


def _check_same(there: Description, descriptor: str | None, distance: str | None) -> None:
    for kind, own, asked in (
        ("descriptor", there.descriptor, descriptor),
        ("distance", there.distance, distance),
    ):
        if asked not in (None, own):
            raise CbirError(
                f"the archive was built with {kind} {own}, not {asked}",
                f"leave out --{kind}, or name a new folder for another archive",
            )
    network = paths.trained_networks().get(there.descriptor) if descriptor else None
    if there.network and network and compute_file_checksum(network) != there.identity:
        raise CbirError(
            f"the archive was built with another training of {descriptor}",
            "leave out --descriptor to keep the old one, or name a new folder",
        )


def _check_new(place: Path, descriptor: str | None, distance: str | None) -> None:
    from cbir_lib.retrieval.distances import DISTANCES

    networks = paths.trained_networks()
    names = (
        f"one of {', '.join(DESCRIPTORS)}, or a network: {', '.join(sorted(networks))}; "
        "or a model of Hugging Face: hf:owner/name"
    )
    if descriptor is None:
        raise CbirError(f"the new archive {place} needs a descriptor", f"--descriptor {names}")
    if not is_descriptor(descriptor) and descriptor not in networks:
        raise unknown_name_error("descriptor", descriptor, [*DESCRIPTORS, *sorted(networks)])
    if distance is not None and distance not in DISTANCES:
        raise unknown_name_error("distance", distance, DISTANCES)
    if needs_weights(descriptor):  # loads them, once, or says what is missing
        build_descriptor(descriptor).fit(np.zeros((1, SIZE_PX, SIZE_PX), np.uint8))
    if place.exists() and not place.is_dir():
        raise CbirError(f"{place} is a file", "name a folder for the archive")
    there = [path.name for path in place.glob("*")]
    others = [name for name in there if not (name in OURS or classify_litter(PurePosixPath(name)))]
    if others:
        raise CbirError(
            f"{place} is not an archive, and contains {sorted(others)[0]}",
            "name a new folder for the archive",
        )


def _build(
    folder: Path, place: Path, descriptor: str | None, distance: str | None, progress: Progress
) -> Report:
    scan = scan_folder(folder)
    if not (place / "archive.json").exists():
        if not scan.images:
            raise CbirError(
                f"{folder} has no images", "name a folder with PNG, JPEG, TIFF, WebP or DICOM files"
            )
        _create(folder, place, descriptor, distance, scan)
    archive = Archive(place)
    known = {row.path: row for shard in archive.shards() for row in archive.read_rows(shard)}
    if known and not any(path in scan.images or scan.is_hidden(path) for path in known):
        raise CbirError(
            f"none of the {len(known)} images of {place} is in {folder}",
            "is it the right folder, and is its drive connected? Use a new archive for another one",
        )
    _point_to(archive, folder)
    tried = {
        path: fault
        for path, fault in read_faults(place / FAULTS).items()
        if scan.images.get(path) == fault.state
        and not archive.is_outdated
        and not (may_pass(fault.reason) or _is_readable_now(fault.reason))
    }
    report = Report(Archive(place), skipped=scan.skipped)
    faults = tried | scan.faults
    update = _Update(report, folder, scan, faults, known, progress)
    update.run()
    described = report.archive.description
    now = {
        "decoding": RULES,
        "images": len(update.rows),
        "rows": compute_rows_digest(update.rows),
        "archive": described.archive or secrets.token_hex(16),
    }
    if described != (ended := described.model_copy(update=now)):
        _write(place, ended)
        report.archive = Archive(place)
    report.faults = {path: fault.reason for path, fault in sorted(faults.items())}
    return report


@dataclass
class _Update:
    """One update of an archive."""

    report: Report
    folder: Path
    scan: Scan
    faults: dict[str, Fault]
    known: dict[str, Row]  # what is in the archive, by path
    progress: Progress
    rows: list[Row] = field(default_factory=list)  # what is in the archive afterwards
    done: int = 0  # files read, and files to read
    total: int = 0

    @property
    def archive(self) -> Archive:
        return self.report.archive

    def run(self) -> None:
        new = [p for p in self.scan.images if p not in self.known and p not in self.faults]
        self.total = sum(map(self.is_touched, self.known.values())) + len(new)
        with open_pool() as pool:
            self.update_shards(pool)
            self.add(pool, new)
        write_faults(self.archive.place / FAULTS, self.faults)

    def update_shards(self, pool: ThreadPoolExecutor) -> None:
        """Remove missing images from the shards, and describe changed ones again.

        A changed image keeps its place: its old vector stays until the shard with the new one
        replaces the shard. Of an image that two shards have, as where one was copied, the first
        place stays.
        """
        seen_before: set[str] = set()
        for shard in self.archive.shards():
            rows = self.archive.read_rows(shard)
            touched = [r.path for r in rows if self.is_touched(r)]
            now = {seen.path: seen for seen in self.read_all(pool, touched)}
            kept, changed = {}, {}  # by place in the shard
            for place, row in enumerate(rows):
                if row.path in seen_before:
                    continue
                seen_before.add(row.path)
                seen = now.get(row.path)
                if seen is None and (row.path in self.scan.images or self.scan.is_hidden(row.path)):
                    kept[place] = row
                elif seen is None:
                    self.report.removed += 1
                elif seen.content == row.content:  # only its modification time has changed
                    kept[place] = seen.row
                elif seen.image is None:
                    self.faults[seen.path] = Fault(seen.remark, seen.state)
                    if may_pass(seen.remark):
                        kept[place] = row
                    else:
                        self.report.removed += 1
                else:
                    changed[place] = seen
            self.report.unchanged += len(kept)
            if list(kept.values()) == rows:
                self.rows += rows
                continue
            _, vectors = self.archive.read_shard(shard)
            for place, vector in zip(changed, self.describe([*changed.values()]), strict=True):
                if vector is None:
                    self.report.removed += 1
                else:
                    kept[place], vectors[place] = changed[place].row, vector
                    self.report.changed += 1
            places = sorted(kept)
            rows = [kept[place] for place in places]
            self.archive.write_shard(shard, rows, vectors[places])
            self.rows += rows

    def is_touched(self, row: Row) -> bool:
        """Return whether a file is there whose pixels may differ from those described."""
        state = self.scan.images.get(row.path)
        return state is not None and (self.archive.is_outdated or state != row[1:3])

    def add(self, pool: ThreadPoolExecutor, paths: list[str]) -> None:
        """Read files, describe them, and fill the shards one by one."""
        shard, free = self.find_shard()
        batch: list[FileRead] = []
        for seen in self.read_all(pool, paths):
            if seen.image is None:
                self.faults[seen.path] = Fault(seen.remark, seen.state)
            else:
                batch.append(seen)
            if len(batch) == free:
                self.fill_shard(shard, batch)
                batch = []
                shard, free = self.find_shard()
        if batch:
            self.fill_shard(shard, batch)

    def find_shard(self) -> tuple[Path, int]:
        """Return the shard to fill, and how many vectors it has room for."""
        shards = self.archive.shards()
        if shards and (free := SHARD - len(self.archive.read_rows(shards[-1]))) > 0:
            return shards[-1], free
        number = int(shards[-1].stem) + 1 if shards else 1
        return self.archive.place / "shards" / f"{number:06}.safetensors", SHARD

    def fill_shard(self, shard: Path, batch: list[FileRead]) -> None:
        """Describe images and add them to a shard."""
        described = list(zip(batch, self.describe(batch), strict=True))
        rows = [seen.row for seen, vector in described if vector is not None]
        vectors = [vector for _, vector in described if vector is not None]
        self.report.added += len(rows)
        self.rows += rows
        if rows:
            if shard.exists():
                before, others = self.archive.read_shard(shard)
                rows, vectors = [*before, *rows], [*others, *vectors]
            self.archive.write_shard(shard, rows, np.stack(vectors))
        write_faults(self.archive.place / FAULTS, self.faults)

    def describe(self, batch: list[FileRead]) -> list[np.ndarray | None]:
        """Return the vector of each image; None, and a fault, where there can be none."""
        if not batch:
            return []
        vectors = self.archive.descriptor.transform(np.stack([seen.image for seen in batch]))
        good = check_vectors(self.archive.description.distance, vectors)
        for seen, fault in zip(batch, good, strict=True):
            if fault:
                self.faults[seen.path] = Fault(fault, seen.state)
        return [None if fault else vector for vector, fault in zip(vectors, good, strict=True)]

    def read_all(self, pool: ThreadPoolExecutor, paths: Iterable[str]) -> Iterator[FileRead]:
        """Read files in threads, and report the progress after each."""
        read = partial(read_image_file, self.folder, size=self.archive.description.size)
        for seen in map_ahead(pool, read, paths):
            self.done += 1
            self.progress(self.done, self.total)
            yield seen


def read_image_file(folder: Path, path: str, size: int) -> FileRead:
    """Read a file and fit its image to a square of ``size`` pixels."""
    try:
        # Before reading, so that a change meanwhile is noticed next time.
        state = read_state(folder / path)
    except OSError as error:
        return FileRead(path, State(-1, -1), None, "", f"{UNREADABLE}: {error.strerror}")
    try:
        with reserving():
            reserve(state.bytes)
            data, remark = read_file(folder / path)
            image = None
            if data is not None:
                image, remark = decode(data)
            if image is not None:
                content, image = hash_pixels(image).hex(), fit_to_square(image, size)
                return FileRead(path, state, image, content, "")
    except (MemoryError, cv2.error):  # OpenCV's own, if there is none for the smaller image
        remark = TOO_LITTLE_MEMORY
    return FileRead(path, state, None, "", remark)


def _is_readable_now(reason: str) -> bool:
    """Return whether a file only lacked a package that is installed now."""
    return INSTALL_COMMAND in reason and importlib.util.find_spec("gdcm") is not None


def check_vectors(distance: str, vectors: np.ndarray) -> list[str]:
    """Return for each vector why the distance cannot be computed; empty if it can."""
    from cbir_lib.retrieval.distances import pairwise

    def fault(some: np.ndarray) -> str:
        try:
            pairwise(distance, some[:1], some)
        except CbirError as error:
            return error.what
        return ""

    if not fault(vectors):
        return [""] * len(vectors)
    return [fault(vector[None]) for vector in vectors]


def _create(folder: Path, place: Path, name: str, distance: str | None, scan: Scan) -> None:
    """Start an archive: fit and save the descriptor, then write its description."""
    is_network, few = not is_descriptor(name), _draw_sample(folder, scan, FEW)
    if is_network:
        from cbir_lib.descriptors.learned import LearnedDescriptor

        source = paths.trained_networks()[name]
        described = compute_file_checksum(source)
        descriptor = LearnedDescriptor.from_file(source)
        _check_distance(distance or descriptor.distance, descriptor, few)
        with replacing(place / "network.safetensors") as part:
            shutil.copyfile(source, part)
    else:
        from cbir_lib.descriptors.fitted import collect_learnt, save_descriptor

        descriptor = build_descriptor(name)
        if _needs_fitting(name, few[:1]):
            descriptor.fit(_draw_sample(folder, scan, SAMPLE))
        described = compute_identity(
            name, SIZE_PX, descriptor.get_params(), collect_learnt(descriptor)
        )
        _check_distance(distance or descriptor.distance, descriptor, few)
        save_descriptor(place / "descriptor.safetensors", name, descriptor)
    _write(
        place,
        Description(
            descriptor=name,
            network=is_network,
            identity=described,
            distance=distance or descriptor.distance,
            size=SIZE_PX,
            folder=Path(os.path.relpath(folder, place)).as_posix(),
            decoding=RULES,
            images=0,
            archive=secrets.token_hex(16),
        ),
    )


def _check_distance(distance: str, descriptor: Descriptor, few: np.ndarray) -> None:
    """Refuse a distance that the vectors of none of a few images can have."""
    from cbir_lib.retrieval.distances import pairwise

    vectors = descriptor.transform(few)
    if all(check_vectors(distance, vectors)):
        pairwise(distance, vectors[:1], vectors[:1])  # raises


def _needs_fitting(name: str, image: np.ndarray) -> bool:
    """Return whether the descriptor learns anything, tried on one image, which may be too few."""
    from cbir_lib.descriptors.fitted import collect_learnt

    try:
        return bool(collect_learnt(build_descriptor(name).fit(image)))
    except CbirError:
        return True


def _draw_sample(folder: Path, scan: Scan, most: int) -> np.ndarray:
    """Read at most ``most`` images, evenly spread over the sorted paths: (N, size, size) uint8.

    Any of the other files, in an order that is the same every time, replace faulty ones.
    """
    paths = list(scan.images)
    chosen = space_evenly(len(paths), most)
    others = np.setdiff1d(np.arange(len(paths)), chosen)
    order = [*chosen, *np.random.default_rng(0).permutation(others)]
    images: list[np.ndarray] = []
    with open_pool() as pool:
        read = partial(read_image_file, folder, size=SIZE_PX)
        for seen in map_ahead(pool, read, (paths[place] for place in order)):
            if seen.image is not None:
                images.append(seen.image)
            if len(images) == most:
                break
    if not images:
        raise CbirError(
            f"none of the {len(paths)} files in {folder} can be read",
            "name a folder with PNG, JPEG, TIFF, WebP or DICOM files of radiographs",
        )
    return np.stack(images)


def _point_to(archive: Archive, folder: Path) -> None:
    """Store where the images are now."""
    now = Path(os.path.relpath(folder, archive.place)).as_posix()
    if now != archive.description.folder:
        _write(archive.place, archive.description.model_copy(update={"folder": now}))


def _write(place: Path, description: Description) -> None:
    with replacing(place / "archive.json") as part:
        part.write_text(format_description(description), encoding="utf-8")

"""An archive: the vectors of all images of a folder, kept on disk and searched.

::

    DIR/archive.json               description of the vectors; where the images are
    DIR/descriptor.safetensors     the fitted descriptor, or network.safetensors
    DIR/shards/000001.safetensors  up to 512 vectors, and the file that each belongs to
    DIR/faults.csv                 the files that could not be read, and why

Each file is written under another name and then renamed, and a vector is always stored with the
name of its file: the archive is consistent at every moment. Each file has a checksum that is
checked on reading, and its paths must stay inside the folder of the images.
:mod:`cbir_lib.archive.update` builds and updates an archive.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import save

from cbir_lib.datasets.splits import hash_pixels
from cbir_lib.errors import CbirError, choose_hint, explain_trouble, find_reason, first_line
from cbir_lib.files import compute_file_checksum, expand, replacing, show_name
from cbir_lib.images.grey import RULES
from cbir_lib.schema import StrictModel, compute_json_checksum, describe_first_error
from cbir_lib.tensors import compute_array_checksum, opening

if TYPE_CHECKING:
    import pandas as pd

    from cbir_lib.descriptors import Descriptor
    from cbir_lib.retrieval.approximate import Recall
    from cbir_lib.retrieval.index import Index

Result = TypeVar("Result")

FORMAT = "cbir_lib archive 3"
SIZE_PX = 128  # side of the square that images are fitted to
SHARD = 512  # vectors per file; a killed build loses at most these
SHARD_NAME = re.compile(r"\d{6,}\.safetensors", re.ASCII)  # not of copies: "000001 (1).safetensors"
DEFAULT_K = 10
DIGITS = 64  # of a SHA-256, hexadecimal
AGAIN = "build it again in a new folder: cbir index build FOLDER --descriptor NAME --out DIR"


class Description(StrictModel):
    """The description of the vectors of an archive."""

    format: Literal["cbir_lib archive 3"] = FORMAT
    descriptor: str  # a name for build_descriptor, or the run of a trained network
    network: bool
    identity: str  # SHA-256 of its settings and learnt arrays
    distance: str
    size: int  # px
    folder: str  # of the images, relative to the archive
    decoding: int | None = None  # the rules by which its files were read; None: not recorded
    images: int | None = None  # that the last finished build left; None: not recorded
    rows: str | None = None  # SHA-256 of their paths and contents; None: not recorded
    archive: str | None = None  # its identity, drawn at random; None: from an earlier version


class Row(NamedTuple):
    """One image of an archive."""

    path: str  # relative to the folder of the images, with /
    bytes: int
    modified_ns: int
    content: str  # SHA-256 of the pixels, hexadecimal


class Hits(NamedTuple):
    """The answer of an engine to Q queries, nearest first."""

    ids: np.ndarray  # (Q, K) str, "" if there are fewer candidates
    distances: np.ndarray  # (Q, K) float32, infinite there


class Engine(Protocol):
    """A search engine for an archive's vectors: an index in memory, or Milvus."""

    def __len__(self) -> int: ...

    def search(self, vectors: np.ndarray, k: int, contents: Sequence[str]) -> Hits:
        """Return the k nearest images of each vector, none with the content of the query."""

    def find_gap(self, archive: Archive) -> str:
        """Say so if the engine lacks images of the archive, or has others; else ""."""


class InMemory:
    """An engine with all vectors of an archive in an index; its subjects are the contents."""

    def __init__(self, index: Index):
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def search(self, vectors: np.ndarray, k: int, contents: Sequence[str]) -> Hits:
        """Search as described in :class:`Engine`."""
        ranking = self.index.search(vectors, k, subjects=contents)
        return Hits(np.where(ranking.rows < 0, "", self.index.ids[ranking.rows]), ranking.distances)

    def find_gap(self, archive: Archive) -> str:
        """Compare with the last finished build: see :meth:`Archive.find_gap`."""
        return archive.find_gap(len(self))


class Archive:
    """An existing archive, to be searched.

    Parameters
    ----------
    place
        Its folder, as given to ``cbir index build --out``.
    folder
        Where the images are, if they have moved since the last build.

    Raises
    ------
    CbirError
        When there is none, it is damaged or from another version, or ``folder`` is missing.
    """

    def __init__(self, place: Path | str, folder: Path | str | None = None):
        self.place = expand(place)
        self.description = read_description(self.place)
        if folder is None:
            self.folder = _find_folder(self.place, self.description.folder)
        else:
            self.folder = expand(folder)
            if not self.folder.is_dir():
                raise CbirError(f"no folder {self.folder}", "name the folder that holds the images")
        self._engines: dict[str, tuple] = {}  # by method: the state of the shards, and the engine

    def __len__(self) -> int:
        return sum(map(len, self.read_each(self.read_rows)))

    @property
    def is_outdated(self) -> bool:
        """Whether this version may read some of its files differently; a build mends that."""
        return self.description.decoding != RULES

    def find_gap(self, count: int) -> str:
        """Say so if ``count`` images are not those that the last finished build left; else "".

        A build is running, or was stopped; or a shard was lost, as in an incomplete copy.
        """
        left = read_description(self.place).images  # a build may have ended since it was opened
        if left in (None, count):
            return ""
        return (
            f"its last finished build left {left:,} images, now there are {count:,}; unless a "
            f"build is running, {self._again}"
        )

    def get_own_identity(self) -> str:
        """Return what tells this archive from others of the same descriptor; copies share it.

        Raises
        ------
        CbirError
            When an earlier version built it, and no build has given it one since.
        """
        if self.description.archive is None:
            raise CbirError(
                f"{self.place} was built by an earlier version and has no identity of its own",
                self._again,
            )
        return self.description.archive

    def shards(self) -> list[Path]:
        """Return the files with the vectors, in the order in which they were started.

        Raises
        ------
        CbirError
            When their folder cannot be read.
        """
        folder = self.place / "shards"
        try:
            return sorted(file for file in folder.iterdir() if SHARD_NAME.fullmatch(file.name))
        except FileNotFoundError:  # before the first
            return []
        except OSError as error:
            raise explain_trouble(error) from error

    def read_each(self, read: Callable[[Path], Result]) -> Iterator[Result]:
        """Yield what ``read`` returns for each shard, but for one that a build has just removed.

        A build removes a shard when all its images are gone.
        """
        for shard in self.shards():
            try:
                result = read(shard)
            except FileNotFoundError as error:
                if shard.is_symlink():
                    raise CbirError(f"the link {shard} leads nowhere", self._hint) from error
                if os.path.lexists(shard):  # another error of the system, to safetensors
                    raise CbirError(f"cannot read {shard}", "check the drive") from error
                continue
            yield result

    @property
    def _hint(self) -> str:
        return f"delete it and {self._again}"

    @property
    def _again(self) -> str:
        return f"build again: cbir index build {self.folder} --out {self.place}"

    def read_rows(self, shard: Path) -> list[Row]:
        """Read the rows of a shard: the images whose vectors it has."""
        return self.read_shard(shard, vectors=False)[0]

    def read_shard(self, shard: Path, vectors: bool = True) -> tuple[list[Row], np.ndarray | None]:
        """Read the N rows of a shard and, if wanted, its (N, D) float32 vectors.

        Raises
        ------
        CbirError
            When the file is damaged or from another archive.
        """
        try:
            with opening(shard) as file:
                written = file.metadata()["shard"]
                known, text = written[:DIGITS], written[DIGITS:]
                if known != compute_array_checksum(text, {}):
                    raise ValueError("its checksum differs")
                described = json.loads(text)
                rows = [_check_row(Row(*row)) for row in described["rows"]]
                stored = file.get_slice("vectors")
                if stored.get_dtype() != "F32" or len(stored.get_shape()) != 2:
                    raise ValueError("its vectors are not a float32 matrix")
                if stored.get_shape()[0] != len(rows):
                    raise ValueError("rows and vectors differ in number")
                matrix = file.get_tensor("vectors") if vectors else None
                if vectors and described["vectors"] != _compute_checksum(matrix):
                    raise ValueError("its checksum differs")
                identity = described["identity"]
        except FileNotFoundError:
            raise
        except (OSError, MemoryError) as error:
            raise explain_trouble(error) from error
        except (
            *(SafetensorError, KeyError, TypeError, ValueError, AttributeError),
            RecursionError,
        ) as error:
            raise CbirError(f"{shard} is damaged: {first_line(error)}", self._hint) from error
        if identity != self.description.identity:
            raise CbirError(f"{shard} is from another archive", self._hint)
        return rows, matrix

    def write_shard(self, shard: Path, rows: Sequence[Row], vectors: np.ndarray) -> None:
        """Write N rows and (N, D) float32; an empty shard is removed."""
        if not rows:
            shard.unlink(missing_ok=True)
            return
        # A single entry: safetensors writes several of them in varying order.
        vectors = np.ascontiguousarray(vectors, np.float32)
        described = {
            "identity": self.description.identity,
            "vectors": _compute_checksum(vectors),
            "rows": rows,
        }
        text = json.dumps(described)
        with replacing(shard) as part:
            known = compute_array_checksum(text, {})
            part.write_bytes(save({"vectors": vectors}, {"shard": known + text}))

    @cached_property
    def descriptor(self) -> Descriptor:
        """Read the fitted descriptor.

        Raises
        ------
        CbirError
            When its file is missing, damaged, or does not belong to the vectors.
        """
        described = self.description
        if described.network:
            from cbir_lib.descriptors.learned import LearnedDescriptor

            file = self.place / "network.safetensors"
            try:
                same = compute_file_checksum(file) == described.identity
            except OSError as error:
                raise CbirError(
                    f"cannot read {file}: {error.strerror}", choose_hint(error, AGAIN)
                ) from error
            descriptor = LearnedDescriptor.from_file(file) if same else None
        else:
            from cbir_lib.descriptors import build_descriptor, is_descriptor
            from cbir_lib.descriptors.fitted import collect_learnt, load_descriptor

            file, name = self.place / "descriptor.safetensors", described.descriptor
            try:
                descriptor = load_descriptor(file, summed=False)
                same = (
                    is_descriptor(name)
                    and type(descriptor) is type(build_descriptor(name))
                    and compute_identity(
                        name, described.size, descriptor.get_params(), collect_learnt(descriptor)
                    )
                    == described.identity
                )
            except CbirError as error:
                raise CbirError(error.what, choose_hint(error.__cause__ or error, AGAIN)) from error
            except Exception as error:  # a foreign file has names and types of any kind
                raise CbirError(f"{file} is damaged: {first_line(error)}", AGAIN) from error
        if not same:
            raise CbirError(
                f"{file} is damaged, or the vectors of {self.place} were made with another one",
                AGAIN,
            )
        return descriptor

    def read_vectors(self) -> tuple[list[Row], np.ndarray]:
        """Read all N rows, sorted by path, and their (N, D) float32 vectors."""
        parts = list(self.read_each(self.read_shard))
        rows = [row for part, _ in parts for row in part]
        if not rows:
            return [], np.empty((0, 0), np.float32)
        if len({vectors.shape[1] for _, vectors in parts}) > 1:
            raise CbirError(f"{self.place} has vectors of several lengths", AGAIN)
        order = sorted(range(len(rows)), key=lambda i: rows[i].path)
        for one, other in pairwise(order):
            if rows[one].path == rows[other].path:
                raise CbirError(
                    f"{self.place} has {rows[one].path} twice",
                    self._again,
                )
        place_of = np.empty(len(rows), np.int64)
        place_of[order] = np.arange(len(rows))
        gathered = np.empty((len(rows), parts[0][1].shape[1]), np.float32)
        start = 0
        for part, vectors in parts:
            gathered[place_of[start : start + len(part)]] = vectors
            start += len(part)
        return [rows[i] for i in order], gathered

    def engine(self, method: str = "exact") -> Engine:
        """Return all vectors as an engine in memory; read again when a build has changed them.

        The index of an approximate method is stored with them, such as ``hnsw.safetensors``.

        Parameters
        ----------
        method
            One of :data:`cbir_lib.retrieval.approximate.METHODS`.
        """
        state = self._state()
        if self._engines.get(method, (None,))[0] != state:
            self._engines[method] = state, InMemory(self._read_index(method, state))
        return self._engines[method][1]

    def _read_index(self, method: str, state: list) -> Index:
        from cbir_lib.retrieval.index import Index

        kept = self.place / f"{method}.safetensors"
        checksum = self._state_digest(state)
        index = Index(self.description.distance, method, checksum)
        if method != "exact" and kept.exists():
            with suppress(CbirError):  # of an earlier state of the archive, or damaged
                stored = Index.load(kept, checksum)
                if (stored.method, stored.distance) == (method, self.description.distance):
                    return stored
        rows, vectors = self.read_vectors()
        if rows:
            index.add(vectors, [row.path for row in rows], [row.content for row in rows])
            if method != "exact":
                index.build()
                with suppress(OSError, CbirError):  # not every folder can be written to
                    index.save(kept)
        return index

    def _state(self) -> list:
        return list(self.read_each(lambda shard: (shard.name, shard.stat().st_mtime_ns)))

    def _state_digest(self, state: list) -> str:
        return compute_array_checksum(json.dumps([self.description.identity, state]), {})

    def read_recalls(self) -> dict[str, Recall]:
        """Read the recall of each approximate index that matches the present archive."""
        from cbir_lib.retrieval.approximate import METHODS
        from cbir_lib.retrieval.index import read_recall

        checksum = self._state_digest(self._state())
        recalls = {
            method: read_recall(self.place / f"{method}.safetensors", checksum)
            for method in METHODS
        }
        return {method: recall for method, recall in recalls.items() if recall is not None}

    def search(
        self,
        images: Iterable[Path | str | np.ndarray],
        k: int | None = None,
        engine: Engine | None = None,
        names: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Find the images most similar to each of some images.

        Parameters
        ----------
        images
            Files, or (H, W) uint8 arrays, read and made small one by one. An image does not find
            images with exactly its pixels.
        k
            Results per query, 1 to the size of the archive; 10 by default, or all if fewer.
        engine
            The engine to search with, from :meth:`engine` or Milvus; by default exact search in
            memory.
        names
            Of the queries; by default their paths, or "image 1" for an array.

        Returns
        -------
        DataFrame
            ``query`` (its name), ``rank`` from 1, ``path`` relative to
            :attr:`folder`, ``distance``; k rows per query, or fewer if there are no more.

        Raises
        ------
        CbirError
            When a query cannot be read, the archive is empty, or k is out of range.

        Warns
        -----
        UserWarning
            When images are missing because a build was not finished, a shard was lost, or the
            collection in Milvus is of another state of the archive.
        """
        import pandas as pd

        from cbir_lib.images.decoding import fit_to_square

        queries = read_queries(images, names)
        engine = self.engine() if engine is None else engine  # an empty engine is falsy
        if not len(engine):
            raise CbirError(
                f"the archive {self.place} has no images", "add some to its folder, and build again"
            )
        k = min(DEFAULT_K, len(engine)) if k is None else k
        if not 1 <= k <= len(engine):
            raise CbirError(
                f"k = {k} is out of range", f"use 1 to {len(engine)}, the size of the archive"
            )
        if gap := engine.find_gap(self):
            warnings.warn(f"{self.place}: {gap}", stacklevel=2)
        names, fitted, contents = [], [], []
        for name, pixels in queries:
            names.append(name)
            fitted.append(fit_to_square(pixels, self.description.size))
            contents.append(hash_pixels(pixels).hex())
        if not names:
            return pd.DataFrame(columns=["query", "rank", "path", "distance"])
        ranking = engine.search(self.descriptor.transform(np.stack(fitted)), k, contents)
        for path in {str(path) for paths in ranking.ids for path in paths if path}:
            self._check_place(path)
        return pd.DataFrame(
            [
                (name, rank, path, float(distance))
                for name, paths, distances in zip(names, *ranking, strict=True)
                for rank, (path, distance) in enumerate(zip(paths, distances, strict=True), start=1)
                if path
            ],
            columns=["query", "rank", "path", "distance"],
        )

    def _check_place(self, path: str) -> None:
        """Refuse a path that leads out of the folder of the images, by name or through a link."""
        if fault := find_path_fault(path):
            raise CbirError(f"an image of {self.place} {fault}", AGAIN)
        try:
            inside = (self.folder / path).resolve().is_relative_to(self.folder.resolve())
        except (OSError, RuntimeError):  # a link to itself: there is nothing to show
            return
        if not inside:
            raise CbirError(
                f"{self.folder / path} is a link that leads out of the folder",
                self._again,
            )


def _find_folder(place: Path, folder: str) -> Path:
    """Find the folder of the images from what an archive records, which is relative to itself.

    Where the archive is reached through a link, ``..`` leads elsewhere than the names say.
    """
    as_named = Path(os.path.normpath(place / folder))
    real = Path(os.path.normpath(place.resolve() / folder))
    return as_named if as_named.resolve() == real.resolve() else real


def read_queries(
    images: Iterable[Path | str | np.ndarray], names: Sequence[str] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Return an iterator over the name and the pixels of each file or (H, W) uint8 array.

    Each is read when it is asked for: a thousand photographs need not be held at once. Their names
    are by default their own.

    Raises
    ------
    CbirError
        When ``images`` is a single one; later, when a file cannot be read or an array is no image.
    """
    single = isinstance(images, str | os.PathLike)
    if single or (isinstance(images, np.ndarray) and images.ndim < 3):
        raise CbirError("a single image is no list of images", "give a list: [image]")
    return _read_each_query(images, names)


def _read_each_query(
    images: Iterable[Path | str | np.ndarray], names: Sequence[str] | None
) -> Iterator[tuple[str, np.ndarray]]:
    from cbir_lib.images.decoding import read_image
    from cbir_lib.images.preprocessing import check_images

    for number, image in enumerate(images):
        is_array = isinstance(image, np.ndarray)
        own = f"image {number + 1}" if is_array else show_name(image)
        pixels = check_images(image[None])[0] if is_array else read_image(expand(image))
        yield own if names is None else names[number], pixels


def find_path_fault(path: str) -> str:
    """Return why a path cannot be an image inside a folder; empty if it can."""
    pure = PurePath(path)
    if pure.is_absolute() or pure.drive or ".." in pure.parts:
        return f"has the path {path!r}, which leaves the folder"
    return "" if pure.name and "\0" not in path else f"has the invalid path {path!r}"


def _check_row(row: Row) -> Row:
    """Check the types of a row, and that its path stays inside the folder."""
    if [type(value) for value in row] != [str, int, int, str]:
        raise ValueError("a row has wrong types")
    if fault := find_path_fault(row.path):
        raise ValueError(f"a row {fault}")
    return row


def compute_rows_digest(rows: Iterable[Row]) -> str:
    """Compute the SHA-256 of the paths and contents of rows, in whatever order they come."""
    pairs = sorted((row.path, row.content) for row in rows)
    return compute_array_checksum(json.dumps(pairs), {})


def _compute_checksum(vectors: np.ndarray) -> str:
    return compute_array_checksum("", {"vectors": vectors})


def format_description(description: Description) -> str:
    """Return the text of archive.json: the description and its checksum."""
    fields = description.model_dump()
    return json.dumps(fields | {"sha256": compute_json_checksum(fields)}, indent=1) + "\n"


def read_description(place: Path) -> Description:
    """Read the description of an archive.

    Raises
    ------
    CbirError
        When there is no archive, or it is damaged or from another version.
    """
    file = place / "archive.json"
    try:
        text = file.read_text(encoding="utf-8")
        written = json.loads(text)
        if not isinstance(written, dict):
            raise ValueError("it has no description")
        if written.get("format") != FORMAT:
            raise CbirError(
                f"{file} has format {written.get('format')!r}, this version reads {FORMAT!r}", AGAIN
            )
        known = written.pop("sha256", None)
        description = Description.model_validate(written)
        if known != compute_json_checksum(written):
            raise CbirError(f"{file} is damaged: its checksum differs", AGAIN)
        return description
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CbirError(
            f"{place} is not an archive",
            "build one: cbir index build FOLDER --descriptor NAME --out DIR",
        ) from error
    except ValidationError as error:
        raise CbirError(f"{file} is damaged: {describe_first_error(error)}", AGAIN) from error
    except (OSError, ValueError, RecursionError) as error:
        reason = find_reason(error)
        raise CbirError(f"cannot read {file}: {reason}", choose_hint(error, AGAIN)) from error


def compute_identity(name: str, size: int, settings: dict, learnt: dict[str, np.ndarray]) -> str:
    """Compute the SHA-256 of a descriptor: its name, its settings, and its learnt arrays."""
    return compute_array_checksum(json.dumps([name, size, settings], sort_keys=True), learnt)

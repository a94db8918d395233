"""An archive in Milvus: the same vectors, searched by an engine that scales beyond one machine.

A collection has one row per image: ``id`` (SHA-256 of the path, the primary key), ``path``,
``content`` (SHA-256 of the pixels) and ``vector``; its properties name the descriptor, the archive,
and the state of the archive that the last finished push left.
"""

from __future__ import annotations

import hashlib
import json
import logging
import logging.config
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cbir_lib.addresses import hide_credentials, scrub
from cbir_lib.archive.store import Archive, Hits, compute_rows_digest, read_description
from cbir_lib.errors import CbirError, first_line, unknown_name_error
from cbir_lib.files import expand, resolve

# The Milvus names of our distances, and how to convert its values to ours: its L2 is squared, and
# its cosine is a similarity. It does not have our other distances.
METRICS = {
    "L2": ("L2", lambda values: np.sqrt(np.maximum(values, 0))),
    "cosine": ("COSINE", lambda values: np.clip(1 - values, 0, 2)),
    "inner product": ("IP", np.negative),
}
METHODS = {
    "exact": ("FLAT", {}),
    "hnsw": ("HNSW", {"M": 16, "efConstruction": 200}),
}
# Properties of a collection.
DESCRIPTOR, ARCHIVE, STATE = "cbir.descriptor", "cbir.archive", "cbir.state"
LARGEST_DIMENSION = 32768
MOST_RESULTS = 16384
LONGEST_PATH = 4096  # bytes
BATCH_BYTES = 8 * 2**20  # of vectors per call; a server accepts 64 MiB
LISTED = 1000  # rows listed or removed per call
CONNECT_S = 5
CALL_S = 60
INSTALL = 'pip install "cbir_lib[milvus]"'

_open_files: Counter[str] = Counter()  # users of each embedded database in this process


class Pushed(NamedTuple):
    """What a push did, as numbers of images."""

    added: int  # or changed
    removed: int
    unchanged: int


class MilvusIndex:
    """A collection in Milvus: a gallery of vectors, like :class:`cbir_lib.retrieval.index.Index`.

    Parameters
    ----------
    uri
        ``http://host:19530`` of a server or cluster, with ``user:password@`` if it requires them;
        or a local path that ends with ``.db``, for the embedded database.
    collection
        Its name; the first :meth:`add` creates it.
    distance
        ``L2``, ``cosine`` or ``inner product``.
    descriptor
        Identity of the descriptor of the vectors; a collection of another one is refused.
    method
        ``exact`` (FLAT) or ``hnsw``; by default that of the collection, and exact for a new one.
    archive
        Identity of the archive that the vectors are from; a collection of another one is refused.
    filled
        Refuse a collection that is missing or empty.

    Raises
    ------
    CbirError
        When the server does not answer within 5 seconds, the collection is of another descriptor,
        archive, distance or method, or pymilvus is missing.
    """

    def __init__(
        self,
        uri: str,
        collection: str,
        distance: str,
        descriptor: str,
        method: str | None = None,
        archive: str = "",
        filled: bool = False,
    ):
        if distance not in METRICS:
            raise CbirError(
                f"Milvus has no distance {distance}",
                "build an archive with --distance L2 or --distance cosine, or search without it",
            )
        if method is not None and method not in METHODS:
            raise unknown_name_error("method in Milvus", method, METHODS)
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", collection):
            raise CbirError(
                f"{collection!r} is not a valid name of a collection", "use letters, digits and _"
            )
        self.uri, self.collection = uri, collection
        self.address = hide_credentials(uri)
        self.distance, self.descriptor, self.method = distance, descriptor, method
        self.archive, self.state = archive, ""
        if filled and _is_local(uri) and not expand(uri).exists():
            raise self._missing_error()  # a new database would be made
        self._client = _connect(uri)
        try:
            with self._telling():
                self.dimension = self._look() if self._call("has_collection") else None
            if filled and not len(self):
                raise self._missing_error()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> MilvusIndex:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; another process may then open an embedded database."""
        self._client.close()
        if _is_local(self.uri):
            _release(self.uri)

    def __len__(self) -> int:
        if self.dimension is None:
            return 0
        with self._telling():
            return self._call("query", filter="", output_fields=["count(*)"])[0]["count(*)"]

    def contents(self) -> dict[str, str]:
        """Return the content of every row, by id."""
        if self.dimension is None:
            return {}
        with self._telling():
            rows = self._call(
                "query_iterator", batch_size=LISTED, filter="", output_fields=["id", "content"]
            )
            content_by_id = {}
            while batch := rows.next():
                content_by_id |= {row["id"]: row["content"] for row in batch}
            rows.close()
        return content_by_id

    def add(self, vectors: np.ndarray, paths: Sequence[str], contents: Sequence[str]) -> None:
        """Add (N, D) float32 vectors; replace the row of a path that exists already.

        Raises
        ------
        CbirError
            When the dimension is not that of the collection, or the server fails.
        """
        for path in paths:
            if len(path.encode()) > LONGEST_PATH:
                raise CbirError(f"{path[:80]}... is too long for Milvus", "shorten the path")
        with self._telling():
            if self.dimension is None:
                self._create(vectors.shape[1])
            self.check_dimension(vectors)
            step = max(1, BATCH_BYTES // (4 * self.dimension))
            for start in range(0, len(vectors), step):
                part = slice(start, start + step)
                rows = zip(paths[part], contents[part], vectors[part], strict=True)
                self._call(
                    "upsert",
                    data=[
                        {"id": compute_id(path), "path": path, "content": content, "vector": vector}
                        for path, content, vector in rows
                    ],
                )

    def remove(self, ids: Sequence[str]) -> None:
        """Remove rows by id (:func:`compute_id`); missing ones are ignored."""
        with self._telling():
            for start in range(0, len(ids), LISTED):
                self._call("delete", ids=list(ids[start : start + LISTED]))

    def search(self, vectors: np.ndarray, k: int, contents: Sequence[str] | None = None) -> Hits:
        """Return the k nearest rows of each of (Q, D) vectors, none with the content of the query.

        Raises
        ------
        CbirError
            When the collection is missing, the dimensions differ, or the server fails.
        """
        if self.dimension is None:
            raise self._missing_error()
        if k > MOST_RESULTS:
            raise CbirError(f"k = {k} is out of range", f"Milvus returns at most {MOST_RESULTS}")
        self.check_dimension(vectors)
        to_ours = METRICS[self.distance][1]
        ids = np.full((len(vectors), k), "", dtype=object)
        distances = np.full((len(vectors), k), np.inf, np.float32)
        own = contents or [""] * len(vectors)
        with self._telling():
            for query, (vector, content) in enumerate(zip(vectors, own, strict=True)):
                hits = self._call(
                    "search",
                    data=[vector],
                    limit=k,
                    # Finds what this client has added, as Strong does, which waits 0.2 s a query.
                    consistency_level="Session",
                    filter=f"content != {json.dumps(content)}" if content else "",
                    output_fields=["path"],
                    search_params={"params": {"ef": max(100, 2 * k)}},
                )[0]
                values = to_ours(np.array([hit["distance"] for hit in hits], np.float32))
                paths = np.array([hit["entity"]["path"] for hit in hits], dtype=object)
                order = np.lexsort((paths.astype(str), values))  # equal distances: by path
                ids[query, : len(hits)] = paths[order]
                distances[query, : len(hits)] = values[order]
        return Hits(ids, distances)

    def find_gap(self, archive: Archive) -> str:
        """Say so if it has not what the last finished build of the archive left; else ""."""
        if self.state == read_description(archive.place).rows:
            return ""
        return (
            f"the collection {self.collection} of {self.address} has not all its images, or other "
            f"ones; push again: cbir index push {archive.place} --to {self.address}"
        )

    def set_state(self, digest: str) -> None:
        """Note the state of the archive that the collection has; empty while it changes."""
        if self.dimension is not None:
            with self._telling():
                self._call("alter_collection_properties", properties={STATE: digest})
            self.state = digest

    def _missing_error(self) -> CbirError:
        return CbirError(
            f"{self.address} has no collection {self.collection}, or an empty one",
            f"fill it: cbir index push DIR --to {self.address}",
        )

    def _create(self, dimension: int) -> None:
        from pymilvus import DataType, MilvusClient

        if dimension > LARGEST_DIMENSION:
            raise CbirError(
                f"vectors of {dimension} values are too long for Milvus",
                f"it accepts at most {LARGEST_DIMENSION}; search without it",
            )
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("path", DataType.VARCHAR, max_length=LONGEST_PATH)
        schema.add_field("content", DataType.VARCHAR, max_length=64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        index = MilvusClient.prepare_index_params()
        kind, settings = METHODS[self.method or "exact"]
        index.add_index(
            "vector", index_type=kind, metric_type=METRICS[self.distance][0], params=settings
        )
        self._call(
            "create_collection",
            schema=schema,
            index_params=index,
            consistency_level="Strong",  # so that counts and lists are of what was just added
            properties={DESCRIPTOR: self.descriptor, ARCHIVE: self.archive},
        )
        self.dimension = dimension

    def _look(self) -> int:
        """Return the dimension of the collection after checking that it is the one wanted."""
        described = self._call("describe_collection")
        properties = described["properties"]
        index = self._call("describe_index", index_name="vector")
        metric, wanted = index["metric_type"], METRICS[self.distance][0]
        kind, asked = index["index_type"], METHODS[self.method][0] if self.method else None
        faults = {
            "is of another descriptor": properties.get(DESCRIPTOR) != self.descriptor,
            "is of another archive": properties.get(ARCHIVE, "") != self.archive,
            f"compares by {metric}, not by {wanted}": metric != wanted,
            f"is searched by {kind}, not by {asked}": asked not in (None, kind),
        }
        for fault, found in faults.items():
            if found:
                raise CbirError(
                    f"the collection {self.collection} of {self.address} {fault}",
                    f"name another collection than {self.collection}: --collection NAME",
                )
        self.state = properties.get(STATE, "")
        self._call("load_collection")  # a restarted server may not have done so
        field = next(field for field in described["fields"] if field["name"] == "vector")
        return int(field["params"]["dim"])

    def check_dimension(self, vectors: np.ndarray) -> None:
        """Refuse vectors that do not fit the collection, if it exists."""
        if self.dimension is not None and vectors.shape[1:] != (self.dimension,):
            raise CbirError(
                f"vectors of shape {vectors.shape} do not fit a collection of {self.dimension}",
                "use the descriptor the collection was filled with",
            )

    def _call(self, name: str, **arguments):
        return getattr(self._client, name)(self.collection, timeout=CALL_S, **arguments)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn an error of the server into a two-line error."""
        from grpc import RpcError
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, RpcError) as error:
            raise CbirError(
                f"Milvus at {self.address} failed: {scrub(first_line(error), [self.uri])}",
                "check that it is running, and start again; what it has received is kept",
            ) from error


def compute_id(path: str) -> str:
    """Compute the primary key of a path: its SHA-256, which needs no escaping."""
    return hashlib.sha256(path.encode()).hexdigest()


def push(
    archive: Archive, index: MilvusIndex, progress: Callable[[int, int], None] = lambda *_: None
) -> Pushed:
    """Update a collection from an archive; only differences are sent.

    A push that was interrupted continues where it stopped. ``progress`` is called with the number
    of images that were checked, and of all images.
    """
    for _, vectors in islice(archive.read_each(archive.read_shard), 1):
        index.check_dimension(vectors)  # before anything is removed
    there = index.contents()
    listed = [row for rows in archive.read_each(archive.read_rows) for row in rows]
    wanted = {compute_id(row.path) for row in listed}
    gone = [id for id in there if id not in wanted]
    index.set_state("")
    index.remove(gone)
    added = done = 0
    sent = []
    for rows, vectors in archive.read_each(archive.read_shard):
        new = [i for i, row in enumerate(rows) if there.get(compute_id(row.path)) != row.content]
        if new:
            index.add(vectors[new], [rows[i].path for i in new], [rows[i].content for i in new])
        added += len(new)
        done += len(rows)
        sent += rows
        progress(done, len(wanted))
    len(index)  # waits until all that was sent is there for the searches of other clients
    if sent == listed:  # no build meanwhile
        index.set_state(compute_rows_digest(sent))
    return Pushed(added, len(gone), len(wanted) - added)


def name_collection(archive: Archive) -> str:
    """Return the default name of an archive's collection: its descriptor, and which archive it is.

    Raises
    ------
    CbirError
        When the archive has no identity: see
        :meth:`cbir_lib.archive.store.Archive.get_own_identity`.
    """
    name = f"cbir_{archive.description.descriptor}_{archive.get_own_identity()[:8]}"
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def _connect(uri: str):
    local = _is_local(uri)
    try:
        with _importing():
            import pymilvus
            from pymilvus.exceptions import MilvusException

            if local:
                import milvus_lite  # noqa: F401
    except ImportError as error:
        raise CbirError(f"{error.name} is missing", INSTALL) from error
    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # their errors are shown in two lines
    if local and not uri.endswith(".db"):
        raise CbirError(
            f"{hide_credentials(uri)} is not an address of Milvus",
            "use http://host:19530, or a local path ending in .db",
        )
    if local and not expand(uri).parent.is_dir():
        raise CbirError(f"no folder {Path(uri).parent}", "create it, or name another")
    if local:
        _open_files[_place(uri)] += 1
    try:
        # Dedicated, so that another client's broken connection is not reused.
        place = _place(uri) if local else uri
        return pymilvus.MilvusClient(place, timeout=CONNECT_S, dedicated=True)
    except (MilvusException, ValueError) as error:
        if local:
            _release(uri)
            raise CbirError(
                f"cannot open {uri}: {first_line(error)}",
                "is another process using it, or did another version of milvus-lite create it?",
            ) from error
        raise CbirError(
            f"no Milvus answers at {hide_credentials(uri)}",
            "check that it is running and the address is correct; nothing was changed",
        ) from error


def _is_local(uri: str) -> bool:
    return "://" not in uri and not uri.startswith("unix:")


@contextmanager
def _importing() -> Iterator[None]:
    """Keep pymilvus, when it is imported, from what it does to the rest of the process.

    It reads MILVUS_URI, and fails if that is a file; and it configures logging, which closes the
    handlers that others have set up.
    """
    address, configure = os.environ.pop("MILVUS_URI", None), logging.config.dictConfig
    logging.config.dictConfig = lambda config: None
    try:
        yield
    finally:
        logging.config.dictConfig = configure
        if address is not None:
            os.environ["MILVUS_URI"] = address


def _place(uri: str) -> str:
    return str(resolve(expand(uri)))


def _release(uri: str) -> None:
    """Stop an embedded database when nothing in this process uses it any more."""
    from milvus_lite.server_manager import server_manager_instance

    _open_files[_place(uri)] -= 1
    if _open_files[_place(uri)] <= 0:
        server_manager_instance.release_server(_place(uri))

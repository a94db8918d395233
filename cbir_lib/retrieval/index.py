"""Search: vectors in, rankings out; exact, or approximate by faiss.

The k nearest by L2, cosine or inner product are found by :mod:`cbir_lib.retrieval.exact`; for all
other distances, and for whole rankings, :mod:`cbir_lib.retrieval.distances` is used in blocks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from cbir_lib.errors import (
    CbirError,
    check_integer,
    choose_hint,
    find_reason,
    is_integer,
    unknown_name_error,
)
from cbir_lib.files import replacing
from cbir_lib.retrieval import exact
from cbir_lib.retrieval.approximate import (
    APPROXIMATE_FOR,
    METHODS,
    Recall,
    build_structure,
    from_arrays,
    get_faiss_metric,
    hash_rows,
    number_distinct,
    to_arrays,
)
from cbir_lib.retrieval.distances import DISTANCES, check_device, pairwise
from cbir_lib.retrieval.ranking import Ranking
from cbir_lib.sampling import space_evenly
from cbir_lib.tensors import compute_array_checksum, opening

FORMAT = "cbir_lib index 3"
BLOCK_QUERIES = 256
BLOCK_GALLERY = 8192  # unless whole rankings are wanted
FAST_FROM = 4096  # vectors in a gallery that are worth making ready for exact.search
LARGEST_NAMES = 2**30  # bytes that the identifiers in a file may take in memory
# Recall is measured on so many vectors of the gallery, evenly spread, each looking for its nearest.
RECALL_AT, RECALL_QUERIES = 10, 100


class Index:
    """A gallery of vectors to search.

    Parameters
    ----------
    distance
        One of :data:`cbir_lib.retrieval.distances.DISTANCES`; for approximate methods L2, cosine or
        inner product.
    method
        ``exact``, or by faiss ``hnsw`` (a graph) or ``ivf-pq`` (cells, and codes of few bytes).
        These are built at the first search after a change, so removing costs as much as building.
        Equal vectors share a place in them, and a query finds what equals it. The distances of
        what they find are exact; what they miss is measured when they are built: ``recall``.
    descriptor
        What the vectors are of: any text; :meth:`load` can insist on it.
    settings
        Of the method, as :data:`METHODS` has them. ``device`` of the exact one is torch's, as
        ``cuda``, and is not saved; without it the processor computes.

    Notes
    -----
    ``ivf-pq`` is the same for the same vectors, seed and machine. ``hnsw`` is only if built on one
    thread (``OMP_NUM_THREADS=1``): on several its nodes are linked in any order.

    Examples
    --------
    >>> index = Index("L2").add(np.array([[0, 0], [3, 4]], np.float32), np.array(["hand", "chest"]))
    >>> ranking = index.search(np.array([[0, 1]], np.float32), 2)
    >>> index.ids[ranking.rows].tolist(), ranking.distances.round(2)[0, 0].item()
    ([['hand', 'chest']], 1.0)
    """

    def __init__(self, distance: str, method: str = "exact", descriptor: str = "", **settings):
        if distance not in DISTANCES:
            raise unknown_name_error("distance", distance, DISTANCES)
        if method not in METHODS:
            raise unknown_name_error("method", method, METHODS)
        for name, value in settings.items():
            if name not in METHODS[method]:
                raise unknown_name_error(f"setting of {method}", name, METHODS[method])
            by_size = value is None and METHODS[method][name] is None
            if name != "device" and not by_size:
                check_integer(name, value, 0 if name == "seed" else 1)
                settings[name] = int(value)  # for JSON, which knows no number of NumPy
        if method != "exact" and distance not in APPROXIMATE_FOR:
            raise CbirError(
                f"{method} cannot search by the distance {distance!r}",
                f"choose method exact, or one of {', '.join(APPROXIMATE_FOR)}",
            )
        if settings.get("device") is not None:
            check_device(settings["device"])
        self.distance, self.method, self.descriptor = distance, method, descriptor
        self.settings = METHODS[method] | settings
        self.vectors = np.empty((0, 0), np.float32)  # (G, D)
        self.ids = np.empty(0, str)  # (G,)
        self.subjects = np.empty(0, str)  # (G,), "" of whom nothing is known
        self.recall: Recall | None = None  # of an approximate method, once it is built
        self._built = None  # what a search needs besides, made when it is needed

    def __len__(self) -> int:
        return len(self.ids)

    def add(
        self, vectors: np.ndarray, ids: np.ndarray, subjects: np.ndarray | None = None
    ) -> Index:
        """Add (N, D) float32 vectors with (N,) unique identifiers; returns itself.

        ``subjects`` (N,) says whom each is of, "" where that is not known.

        Raises
        ------
        CbirError
            When the dimension is not that of the gallery, or an identifier is there already.
        """
        vectors, ids = np.asarray(vectors, np.float32), np.asarray(ids, dtype=str)
        if vectors.ndim != 2 or len(vectors) != len(ids):
            raise CbirError(
                f"{len(ids)} identifiers do not fit vectors of shape {vectors.shape}",
                "give (N, D) vectors and N identifiers",
            )
        subjects = np.full(len(ids), "") if subjects is None else np.asarray(subjects, dtype=str)
        if subjects.shape != ids.shape:
            raise CbirError(
                f"{len(subjects)} subjects do not fit {len(ids)} identifiers",
                'give one of each vector, "" where it is not known',
            )
        if len(self) and vectors.shape[1] != self.vectors.shape[1]:
            raise CbirError(
                f"vectors of {vectors.shape[1]} values do not fit a gallery of "
                f"{self.vectors.shape[1]}",
                "use the descriptor the index was built with",
            )
        all_ids = np.concatenate([self.ids, ids])
        names, counts = np.unique(all_ids, return_counts=True)
        if (counts > 1).any():
            twice = str(names[counts > 1][0])
            raise CbirError(f"{twice!r} is in the index twice", "give each image its own name")
        self.vectors = np.concatenate([self.vectors, vectors]) if len(self) else vectors
        self.ids, self.subjects = all_ids, np.concatenate([self.subjects, subjects])
        self._built = self.recall = None
        return self

    def remove(self, ids: np.ndarray) -> Index:
        """Take vectors out, by their identifiers; returns itself.

        Raises
        ------
        CbirError
            When an identifier is not there; then nothing is removed.
        """
        ids = np.atleast_1d(np.asarray(ids, dtype=str))
        missing = ids[~np.isin(ids, self.ids)]
        if len(missing):
            raise CbirError(
                f"{str(missing[0])!r} is not in the index", "give identifiers that were added"
            )
        kept = ~np.isin(self.ids, ids)
        self.vectors, self.ids, self.subjects = (
            array[kept] for array in (self.vectors, self.ids, self.subjects)
        )
        self._built = self.recall = None
        return self

    def search(
        self,
        vectors: np.ndarray,
        k: int | None = None,
        ids: np.ndarray | None = None,
        subjects: np.ndarray | None = None,
    ) -> Ranking:
        """Rank the gallery for each query.

        Parameters
        ----------
        vectors : (Q, D) float32
        k
            How many to return, 1 to the size of the gallery; all by default.
        ids : (Q,) str
            Identifiers of the queries: a query that is in the gallery does not find itself.
        subjects : (Q,) str
            Of the queries: none finds what is of its own subject; "" excludes nothing.

        Raises
        ------
        CbirError
            When the gallery is empty, k out of range, or the dimensions differ.
        """
        if not len(self):
            raise CbirError("the gallery is empty", "add vectors before searching")
        k = len(self) if k is None else k
        if not is_integer(k) or not 1 <= k <= len(self):
            raise CbirError(f"k = {k} is out of range", f"give 1 to {len(self)}, the gallery")
        vectors = np.asarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.vectors.shape[1]:
            pairwise(self.distance, vectors, self.vectors)  # refuses them
        for what, names in (("identifiers", ids), ("subjects", subjects)):
            if names is not None and len(names) != len(vectors):
                raise CbirError(
                    f"{len(names)} {what} do not fit {len(vectors)} queries", "give one of each"
                )
        own, of_queries, codes = self._find_excluded(len(vectors), ids, subjects)
        excluded = own, of_queries, codes
        if self.method != "exact":
            return self._search_approximately(vectors, k, *excluded)
        fast = (
            self.distance in exact.KINDS
            and self.settings["device"] is None
            and len(self) >= FAST_FROM
            and k <= exact.CAPACITY // 4
        )
        return (self._search_exactly if fast else self._search_blocks)(vectors, k, *excluded)

    def _find_excluded(
        self, count: int, ids, subjects
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The row of each query itself and the number of its subject, (Q,), and those of (G,)."""
        own, of_queries = (np.full(count, -1, np.int64) for _ in range(2))
        codes = np.full(len(self), -1, np.int64)
        if ids is not None:
            order = np.argsort(self.ids, kind="stable")
            ids = np.asarray(ids, dtype=str)
            places = np.minimum(np.searchsorted(self.ids, ids, sorter=order), len(self) - 1)
            own = np.where(self.ids[order[places]] == ids, order[places], -1)
        if subjects is not None:
            names = np.concatenate([self.subjects, np.asarray(subjects, dtype=str)])
            _, numbers = np.unique(names, return_inverse=True)
            numbers = np.where(names == "", -1, numbers)
            codes, of_queries = numbers[: len(self)], numbers[len(self) :]
        return own, of_queries, codes

    def _search_blocks(self, vectors, k, own, subjects, codes) -> Ranking:
        """By the matrix of distances, of few queries and, unless all are wanted, few vectors."""
        rows = np.empty((len(vectors), k), np.int64)
        nearest = np.empty((len(vectors), k), np.float32)
        size = len(self) if k == len(self) else max(BLOCK_GALLERY, k)
        for start in range(0, len(vectors), BLOCK_QUERIES):
            block = slice(start, start + BLOCK_QUERIES)
            best = None
            for first in range(0, len(self), size):
                part = slice(first, first + size)
                distances = pairwise(
                    self.distance, vectors[block], self.vectors[part], self.settings.get("device")
                )
                here = np.arange(first, first + distances.shape[1])
                distances[own[block, None] == here] = np.inf
                if (subjects[block] >= 0).any():
                    same = subjects[block, None] == codes[part]
                    distances[same & (subjects[block, None] >= 0)] = np.inf
                ranking = Ranking.of(distances, k)
                these = np.where(ranking.rows < 0, -1, ranking.rows + first)
                if best is None:
                    best = these, ranking.distances
                    continue
                # Those before stand first, so that equal ones keep the gallery's order.
                both = [
                    np.hstack(pair) for pair in zip(best, (these, ranking.distances), strict=True)
                ]
                order = np.argsort(both[1], axis=1, kind="stable")[:, :k]
                best = tuple(np.take_along_axis(array, order, axis=1) for array in both)
            rows[block], nearest[block] = best
        return Ranking(rows, nearest)

    def _search_exactly(self, vectors, k, own, subjects, codes) -> Ranking:
        """By :mod:`cbir_lib.retrieval.exact`, and by blocks where that decides nothing."""
        from cbir_lib.networks import precision  # which imports torch

        vectors, gallery = self._check_finite(vectors), np.ascontiguousarray(self.vectors)
        rows = np.empty((len(vectors), k), np.int64)
        distances = np.empty((len(vectors), k), np.float32)
        left = np.arange(len(vectors))
        self._built = self._built or {}
        for half in (True, False) if precision.has_bfloat16() else (False,):
            if not len(left):
                break
            if half not in self._built:
                self._built[half] = exact.prepare(self.distance, self._check_finite(gallery), half)
            undecided = []
            for part, *block, decided in exact.search(
                self._built[half], gallery, vectors[left], k, own[left], subjects[left], codes
            ):
                rows[left[part]], distances[left[part]] = block
                undecided.append(left[part][~decided])
            left = np.concatenate(undecided)
        if len(left):
            other = self._search_blocks(vectors[left], k, own[left], subjects[left], codes)
            rows[left], distances[left] = other.rows, other.distances
        return Ranking(rows, distances)

    def build(self) -> Index:
        """Make what an approximate search needs, and measure its recall; returns itself.

        The first search does it too. Recall is measured as a search goes: a vector finds neither
        itself nor what is of its subject.
        """
        if self.method == "exact" or self._built is not None or not len(self):
            return self
        faiss_index, place_of = self._build()
        self._built = build_structure(faiss_index, place_of, self._convert_for_faiss(self.vectors))
        k = min(RECALL_AT, len(self))
        places = len(self._built.starts) - 1
        some = space_evenly(places, RECALL_QUERIES)
        rows = self._built.rows[self._built.starts[some]]
        shares = measure_recall(self, self.vectors[rows], k, self.ids[rows], self.subjects[rows])
        self.recall = Recall(float(shares.mean()), k, len(rows))
        return self

    def _search_approximately(self, vectors, k, own, subjects, codes) -> Ranking:
        """By faiss: more than k candidates, of which the k nearest are measured."""
        vectors = self._check_finite(vectors)
        structure = self.build()._built
        places = len(structure.starts) - 1
        wanted = k * self.settings.get("rerank", 1) + self._count_excluded(own, subjects, codes)
        if wanted >= places:  # nothing to be saved
            return self._search_blocks(vectors, k, own, subjects, codes)
        if self.method == "hnsw":
            structure.index.hnsw.efSearch = min(places, max(self.settings["efSearch"], wanted))
        rows = np.empty((len(vectors), k), np.int64)
        distances = np.empty((len(vectors), k), np.float32)
        for start in range(0, len(vectors), BLOCK_GALLERY):
            block = slice(start, start + BLOCK_GALLERY)
            asked = self._convert_for_faiss(vectors[block])
            matches = structure.index.search(asked, wanted)[1]
            equal = self._find_equal(asked)[:, None]
            matches = np.hstack(
                [matches, np.where((matches == equal).any(1, keepdims=True), -1, equal)]
            )
            there = self._take_rows(matches, own[block], subjects[block], codes, k)
            rows[block], distances[block] = exact.measure_rows(
                self.distance, vectors[block], np.ascontiguousarray(self.vectors), there, k
            )
        # A graph may be cut: whoever lacks neighbours is answered exactly.
        if len(short := np.flatnonzero(rows[:, -1] < 0)):
            whole = self._search_blocks(vectors[short], k, own[short], subjects[short], codes)
            rows[short], distances[short] = whole.rows, whole.distances
        return Ranking(rows, distances)

    def _count_excluded(self, own, subjects, codes) -> int:
        """How many places may hold nothing but what a query must not find."""
        beyond = int((own >= 0).any())
        if (subjects >= 0).any():
            asked = np.zeros(max(codes.max(), subjects.max()) + 1, bool)
            asked[subjects[subjects >= 0]] = True
            members = np.flatnonzero((codes >= 0) & asked[codes])
            pairs = np.unique(np.stack([codes[members], self._built.place_of[members]]), axis=1)
            beyond += int(np.bincount(pairs[0], minlength=1).max())
        return beyond

    def _find_equal(self, asked: np.ndarray) -> np.ndarray:
        """(Q,) int64: the place whose vector a query has, as faiss takes it; -1 for none."""
        structure = self._built
        hashes = hash_rows(asked)
        at = np.minimum(np.searchsorted(structure.hashes, hashes), len(structure.hashes) - 1)
        places = structure.hashed[at]
        same = structure.hashes[at] == hashes
        there = self._convert_for_faiss(self.vectors[structure.rows[structure.starts[places]]])
        return np.where(same & (there == asked).all(axis=1), places, -1)

    def _take_rows(self, places, own, subjects, codes, k) -> np.ndarray:
        """(Q, C) rows of the gallery, -1 for none: of each place at most the first k allowed."""
        structure = self._built
        starts = structure.starts[:-1]
        several = (places >= 0) & (np.diff(structure.starts)[places] > 1)
        rows = np.where((places >= 0) & ~several, structure.rows[starts[places]], -1)
        same = (codes[rows] == subjects[:, None]) & (subjects[:, None] >= 0)
        rows[same | (rows == own[:, None])] = -1
        further: list[list[np.ndarray]] = [[] for _ in rows]
        for query, column in np.argwhere(several):
            place = places[query, column]
            members = structure.rows[structure.starts[place] : structure.starts[place + 1]]
            allowed = members != own[query]
            if subjects[query] >= 0:
                allowed &= codes[members] != subjects[query]
            further[query].append(members[allowed][:k])
        most = max((sum(map(len, lists)) for lists in further), default=0)
        more = np.full((len(rows), most), -1, np.int64)
        for query, lists in enumerate(further):
            if lists:
                joined = np.concatenate(lists)
                more[query, : len(joined)] = joined
        return np.hstack([rows, more])

    def _check_finite(self, vectors: np.ndarray) -> np.ndarray:
        """The vectors, row by row in memory, if all values are finite."""
        if not np.isfinite(vectors).all():
            pairwise(self.distance, vectors, vectors[:1])  # refuses them
        return np.ascontiguousarray(vectors)

    def _convert_for_faiss(self, vectors: np.ndarray) -> np.ndarray:
        """As faiss takes them: for the cosine, of length 1."""
        if self.distance == "cosine":
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.where(norms > 0, norms, 1)
        return np.ascontiguousarray(vectors, np.float32)

    def _build(self):
        """A faiss index of the distinct vectors of the gallery; and the place of each row."""
        import faiss

        gallery = self._convert_for_faiss(self._check_finite(self.vectors))
        place_of = number_distinct(gallery)
        _, first = np.unique(place_of, return_index=True)
        distinct = gallery if len(first) == len(gallery) else gallery[first]
        count, dimensions = distinct.shape
        metric = get_faiss_metric(self.distance)
        said = self.settings
        if self.method == "hnsw":
            index = faiss.IndexHNSWFlat(dimensions, said["M"], metric)
            index.hnsw.efConstruction = said["efConstruction"]
        else:
            cells = said["nlist"] or max(1, min(int(4 * count**0.5), count // 39))
            parts = said["m"] or next(
                m for m in range(max(1, dimensions // 8), 0, -1) if dimensions % m == 0
            )
            if dimensions % parts or said["nbits"] > 12:
                raise CbirError(
                    f"ivf-pq cannot code {dimensions} values in {parts} parts of "
                    f"{said['nbits']} bits",
                    "give an m that divides the values of a vector, and nbits up to 12",
                )
            minimum = max(cells, 2 ** said["nbits"])
            if len(self) < minimum:
                raise CbirError(
                    f"a gallery of {len(self)} is too small to train ivf-pq: it needs {minimum}",
                    "choose exact or hnsw, or fewer nlist or nbits",
                )
            coarse = faiss.IndexFlat(dimensions, metric)
            index = faiss.IndexIVFPQ(coarse, dimensions, cells, parts, said["nbits"], metric)
            index.nprobe = min(cells, said["nprobe"] or max(8, cells // 16))
            for training in (index.cp, index.pq.cp):
                training.seed = said["seed"]
                training.min_points_per_centroid = 1  # a small gallery is no warning
            # Copies are learnt from only where there is too little else.
            index.train(distinct if count >= minimum else gallery)
        index.add(distinct)
        return index, place_of

    def save(self, path: Path | str) -> None:
        """Write the gallery, and what faiss built of it, to one safetensors file."""
        described = {
            "format": FORMAT,
            "distance": self.distance,
            "method": self.method,
            "settings": json.dumps({n: v for n, v in self.settings.items() if n != "device"}),
            "descriptor": self.descriptor,
            "ids": json.dumps(self.ids.tolist()),
            "subjects": json.dumps(self.subjects.tolist()),
        }
        arrays = {"vectors": np.ascontiguousarray(self.vectors)}
        if self.method != "exact" and len(self):
            kept, numbers = to_arrays(self.method, self.build()._built.index)
            arrays |= kept
            described["structure"] = json.dumps(numbers)
            described["recall"] = json.dumps(self.recall)
        described["head_sha256"] = _compute_digest(described, {})
        described["sha256"] = _compute_digest(described, arrays)
        with replacing(path) as part:
            part.write_bytes(save(arrays, described))

    @classmethod
    def load(cls, path: Path | str, descriptor: str | None = None) -> Index:
        """Read what :meth:`save` wrote. Nothing in it is executed.

        A SHA-256 over all of it is compared first. It is no signature: anyone who rewrites a file
        can write its sum too. So the numbers of an approximate index are checked one by one before
        faiss is given them.

        Parameters
        ----------
        path
        descriptor
            What the vectors have to be of; anything by default.

        Raises
        ------
        CbirError
            When the file is missing, damaged, not an index of this library or version, or of
            another descriptor.
        """
        again = "build it again: a study writes index.safetensors beside each result"
        try:
            with opening(path) as file:
                described = dict(file.metadata() or {})
                version = described.get("format", "")
                if version != FORMAT and version.startswith("cbir_lib index "):
                    raise CbirError(
                        f"{path} is of another version: {version!r}, not {FORMAT!r}", again
                    )
                if version != FORMAT:
                    raise CbirError(f"{path} is not an index of this library", again)
                arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
            if described.pop("sha256") != _compute_digest(described, arrays):
                raise CbirError(f"{path} is damaged: its checksum differs", again)
            index = cls(
                described["distance"],
                described["method"],
                described["descriptor"],
                **json.loads(described["settings"]),
            )
            ids, subjects = (json.loads(described[name]) for name in ("ids", "subjects"))
            for names in (ids, subjects):
                if not all(isinstance(name, str) for name in names):
                    raise ValueError("an identifier is no text")
                if 4 * len(names) * max(map(len, names), default=0) > LARGEST_NAMES:
                    raise ValueError("an identifier is too long")
            if arrays["vectors"].dtype != np.float32:
                raise ValueError(f"vectors of type {arrays['vectors'].dtype}")
            if ids:
                index.add(arrays["vectors"], np.array(ids, str), np.array(subjects, str))
            if "structure" in described:
                prepared = index._convert_for_faiss(index._check_finite(index.vectors))
                numbers = json.loads(described["structure"])
                built, place_of = from_arrays(
                    index.method, index.distance, index.settings, prepared, arrays, numbers
                )
                index._built = build_structure(built, place_of, prepared)
                share, k, queries = json.loads(described["recall"])
                index.recall = Recall(float(share), int(k), int(queries))
        except (
            *(OSError, ValueError, KeyError, TypeError, AttributeError, IndexError),
            *(RuntimeError, RecursionError, OverflowError, MemoryError, SafetensorError),
        ) as error:
            reason = find_reason(error)
            raise CbirError(
                f"cannot read the index {path}: {reason}", choose_hint(error, again)
            ) from error
        if descriptor is not None and descriptor != index.descriptor:
            raise CbirError(
                f"{path} is an index of {index.descriptor!r}, not of {descriptor!r}",
                "search it with the descriptor it was built with",
            )
        return index


def read_recall(path: Path | str, descriptor: str) -> Recall | None:
    """Read the recall noted in an index's file; none where it is damaged or of another descriptor.

    Only the head of the file is read.
    """
    try:
        with opening(path) as file:
            described = dict(file.metadata() or {})
        described.pop("sha256")
        if described.pop("head_sha256") != _compute_digest(described, {}):
            return None
        if (described["format"], described["descriptor"]) != (FORMAT, descriptor):
            return None
        share, k, queries = json.loads(described["recall"])
        return Recall(float(share), int(k), int(queries))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError):
        return None


def _compute_digest(described: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    return compute_array_checksum(json.dumps(dict(described), sort_keys=True), arrays)


def measure_recall(
    index: Index,
    vectors: np.ndarray,
    k: int = 10,
    ids: np.ndarray | None = None,
    subjects: np.ndarray | None = None,
) -> np.ndarray:
    """Measure the share of each query's exact k nearest that an index finds: (Q,) float64, 0 to 1.

    What is as near as the kth counts as found in its place, so ties cost nothing.
    """
    exact = Index(index.distance).add(index.vectors, index.ids, index.subjects)
    truth = exact.search(vectors, k, ids, subjects)
    answers = index.search(vectors, k, ids, subjects)
    there = (truth.rows >= 0).sum(axis=1)
    farthest = np.where(np.isinf(truth.distances), -np.inf, truth.distances).max(axis=1)
    right = ((answers.distances <= farthest[:, None]) & (answers.rows >= 0)).sum(axis=1)
    return np.where(there > 0, np.minimum(right, there) / np.maximum(there, 1), 1.0)

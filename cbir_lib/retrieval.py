"""Exact search: vectors in, rankings out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cbir_lib.distances import DISTANCES, pairwise
from cbir_lib.errors import CbirError, unknown
from cbir_lib.files import replacing

FORMAT = "cbir_lib index 1"
BLOCK_QUERIES = 256


@dataclass(frozen=True)
class Ranking:
    """The gallery of each query, nearest first.

    ``rows`` (Q, K) int64 are rows of the gallery, ``distances`` (Q, K) float32. Equal distances
    keep the gallery's order. Where a query has fewer than K candidates, because it was left out
    itself, its last entry is row -1 at distance infinity.
    """

    rows: np.ndarray
    distances: np.ndarray

    @classmethod
    def of(cls, distances: np.ndarray, k: int | None = None) -> Ranking:
        """The first k of every row of (Q, G) distances; infinite ones are no candidates."""
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        nearest = np.take_along_axis(distances, order, axis=1)
        return cls(np.where(np.isinf(nearest), -1, order), nearest)


class Index:
    """A gallery of vectors, searched exactly.

    Parameters
    ----------
    distance
        One of :data:`cbir_lib.distances.DISTANCES`.
    """

    def __init__(self, distance: str):
        if distance not in DISTANCES:
            raise unknown("distance", distance, DISTANCES)
        self.distance = distance
        self.vectors = np.empty((0, 0), np.float32)  # (G, D)
        self.ids = np.empty(0, str)  # (G,)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, vectors: np.ndarray, ids: np.ndarray) -> Index:
        """Add (N, D) float32 vectors with (N,) unique identifiers; returns itself.

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
        self.ids = all_ids
        return self

    def search(
        self, vectors: np.ndarray, k: int | None = None, ids: np.ndarray | None = None
    ) -> Ranking:
        """Rank the gallery for each query.

        Parameters
        ----------
        vectors : (Q, D) float32
        k
            How many to return, 1 to the size of the gallery; all by default.
        ids : (Q,) str
            Identifiers of the queries: a query that is in the gallery does not find itself.

        Raises
        ------
        CbirError
            When the gallery is empty, k out of range, or the dimensions differ.
        """
        if not len(self):
            raise CbirError("the gallery is empty", "add vectors before searching")
        k = len(self) if k is None else k
        if not 1 <= k <= len(self):
            raise CbirError(f"k = {k} is out of range", f"give 1 to {len(self)}, the gallery")
        rows = np.empty((len(vectors), k), np.int64)
        nearest = np.empty((len(vectors), k), np.float32)
        for start in range(0, len(vectors), BLOCK_QUERIES):
            block = slice(start, start + BLOCK_QUERIES)
            distances = pairwise(self.distance, vectors[block], self.vectors)
            if ids is not None:
                distances[np.asarray(ids[block])[:, None] == self.ids] = np.inf
            part = Ranking.of(distances, k)
            rows[block], nearest[block] = part.rows, part.distances
        return Ranking(rows, nearest)

    def save(self, path: Path | str) -> None:
        """Write the gallery to one safetensors file."""
        described = {
            "format": FORMAT,
            "distance": self.distance,
            "ids": json.dumps(self.ids.tolist()),
        }
        with replacing(path) as part:
            part.write_bytes(save({"vectors": self.vectors}, described))

    @classmethod
    def load(cls, path: Path | str) -> Index:
        """Read what :meth:`save` wrote. Nothing in it is executed.

        Raises
        ------
        CbirError
            When the file is missing, damaged, or not an index of this library.
        """
        again = "run the study again: it writes index.safetensors beside each result"
        try:
            with safe_open(path, framework="numpy") as file:
                described = file.metadata() or {}
                if described.get("format") != FORMAT:
                    raise CbirError(f"{path} is not an index of this library", again)
                index = cls(described["distance"])
                ids, vectors = json.loads(described["ids"]), file.get_tensor("vectors")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise CbirError(f"cannot read the index {path}: {error}", again) from error
        return index.add(vectors, ids)

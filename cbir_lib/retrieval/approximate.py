"""Approximate search by faiss: graphs (HNSW) and cells with codes (IVF-PQ), built and stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cbir_lib.retrieval import exact

# What each method can be told, with what it does unless told; None: by the size of the gallery.
METHODS = {
    "exact": {"device": None},
    # Neighbours of a node, candidates when building and when searching (Malkov, Yashunin, IEEE
    # TPAMI 42(4), 2020, DOI 10.1109/TPAMI.2018.2889473).
    "hnsw": {"M": 32, "efConstruction": 80, "efSearch": 64},
    # Cells, parts of a vector, bits of a part, cells visited (Jegou, Douze, Schmid, IEEE TPAMI
    # 33(1), 2011, DOI 10.1109/TPAMI.2010.57); of `rerank` times k, the distances are measured.
    "ivf-pq": {"nlist": None, "m": None, "nbits": 8, "nprobe": None, "rerank": 8, "seed": 0},
}
APPROXIMATE_FOR = tuple(exact.KINDS)
BLOCK = 8192  # vectors hashed or compared at once

# What is kept of a structure of faiss, beside the vectors. Its own format is never read: faiss
# trusts what it reads, and a foreign file decides nothing but data.
KEPT = {
    "hnsw": {"levels": np.int32, "neighbors": np.int32},
    "ivf-pq": {
        "coarse": np.float32,
        "codebooks": np.float32,
        "cells": np.int32,
        "codes": np.uint8,
    },
}


class Recall(NamedTuple):
    """What share of the exact k nearest an index finds, mean over some vectors of its gallery."""

    share: float
    k: int
    queries: int

    def __str__(self) -> str:
        return (
            f"{100 * self.share:.1f} % of the {self.k} nearest "
            f"(measured with {self.queries} of its own images)"
        )


class Structure(NamedTuple):
    """A structure of faiss, of the distinct vectors of a gallery: equal ones share a place.

    Copies would fill the lists of neighbours of a graph and cut it.
    """

    index: object  # faiss's, with P vectors
    place_of: np.ndarray  # (G,) int64: the place of each row
    rows: np.ndarray  # (G,) int64: all rows, ordered by place, ascending within one
    starts: np.ndarray  # (P + 1,) int64: where the rows of each place begin
    hashes: np.ndarray  # (P,) uint64, ascending
    hashed: np.ndarray  # (P,) int64: the place of each hash


def get_faiss_metric(distance: str) -> int:
    """Return faiss's metric; between vectors of length 1, L2 and the cosine rank alike."""
    import faiss

    return faiss.METRIC_INNER_PRODUCT if distance == "inner product" else faiss.METRIC_L2


def hash_rows(vectors: np.ndarray) -> np.ndarray:
    """Hash (N, D) float32 to (N,) uint64: equal vectors have equal ones; 0.0 and -0.0 are equal."""
    odd = np.random.default_rng(0).integers(0, 2**64, vectors.shape[1], dtype=np.uint64) | 1
    hashes = np.empty(len(vectors), np.uint64)
    for start in range(0, len(vectors), BLOCK):
        block = np.ascontiguousarray(vectors[start : start + BLOCK] + np.float32(0))
        words = block.view(np.uint32).astype(np.uint64)
        words ^= words >> np.uint64(15)
        hashes[start : start + BLOCK] = words @ odd  # modulo 2^64
    return hashes


def number_distinct(vectors: np.ndarray) -> np.ndarray:
    """Number the distinct vectors of (N, D) float32 in order of appearance: (N,) int64."""
    hashes = hash_rows(vectors)
    order = np.argsort(hashes, kind="stable")
    equal = np.zeros(len(vectors), bool)  # to the one before it in this order
    close = 1 + np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    for start in range(0, len(close), BLOCK):
        at = close[start : start + BLOCK]
        equal[at] = (vectors[order[at]] == vectors[order[at - 1]]).all(axis=1)
    first = order[~equal]  # of each group its first row: the order is stable
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    places = np.empty(len(vectors), np.int64)
    places[order] = number[np.cumsum(~equal) - 1]
    return places


def build_structure(faiss_index, place_of: np.ndarray, prepared: np.ndarray) -> Structure:
    """Build what a search needs beside faiss's index; ``prepared`` is the gallery faiss takes."""
    rows = np.argsort(place_of, kind="stable")
    starts = np.searchsorted(place_of[rows], np.arange(place_of.max() + 2))
    hashes = hash_rows(prepared[rows[starts[:-1]]])
    hashed = np.argsort(hashes, kind="stable")
    return Structure(faiss_index, place_of, rows, starts, hashes[hashed], hashed)


def to_arrays(method: str, faiss_index) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Return the arrays and numbers that :func:`from_arrays` makes the same index of."""
    import faiss

    if method == "hnsw":
        graph = faiss_index.hnsw
        arrays = {name: faiss.vector_to_array(getattr(graph, name)) for name in KEPT[method]}
        return arrays, {"entry": graph.entry_point}
    count, cells = faiss_index.ntotal, faiss_index.nlist
    cell_of, codes = np.empty(count, np.int32), np.empty((count, faiss_index.code_size), np.uint8)
    for cell in range(cells):
        size = faiss_index.invlists.list_size(cell)
        if size:
            ids = faiss.rev_swig_ptr(faiss_index.invlists.get_ids(cell), size)
            codes_here = faiss.rev_swig_ptr(
                faiss_index.invlists.get_codes(cell), size * faiss_index.code_size
            )
            cell_of[ids], codes[ids] = cell, codes_here.reshape(size, -1)
    arrays = {
        # Something may have imported faiss.contrib.torch_utils, which makes this a tensor.
        "coarse": np.asarray(faiss_index.quantizer.reconstruct_n(0, cells)),
        "codebooks": faiss.vector_to_array(faiss_index.pq.centroids),
        "cells": cell_of,
        "codes": codes,
    }
    return arrays, {"parts": faiss_index.pq.M, "nprobe": faiss_index.nprobe}


def from_arrays(
    method: str,
    distance: str,
    settings: Mapping[str, int],
    gallery: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    numbers: Mapping[str, int],
) -> tuple[object, np.ndarray]:
    """Rebuild a faiss index from its arrays, whatever they hold; return it and each row's place.

    ``gallery`` is (N, D) float32, as faiss takes it.

    Raises
    ------
    ValueError
        When an array or a number does not fit the gallery.
    """
    import faiss

    for name, kind in KEPT[method].items():
        if arrays[name].dtype != kind:
            raise ValueError(f"{name} of type {arrays[name].dtype}")
    if not all(type(number) is int for number in numbers.values()):
        raise ValueError("a number of the structure is none")
    place_of = number_distinct(gallery)
    _, first = np.unique(place_of, return_index=True)
    distinct = np.ascontiguousarray(gallery[first])
    count, dimensions = distinct.shape
    metric, said = get_faiss_metric(distance), settings
    if method == "hnsw":
        levels, neighbors, entry = arrays["levels"], arrays["neighbors"], numbers["entry"]
        if not 2 <= said["M"] <= 2**16:
            raise ValueError(f"M {said['M']}")
        built = faiss.IndexHNSWFlat(dimensions, said["M"], metric)
        upto = faiss.vector_to_array(built.hnsw.cum_nneighbor_per_level)
        if levels.shape != (count,) or not (levels > 0).all() or not (levels < len(upto)).all():
            raise ValueError("levels of another gallery")
        offsets = np.append(0, np.cumsum(upto[levels].astype(np.int64)))
        if neighbors.shape != (offsets[-1],) or not ((neighbors >= -1) & (neighbors < count)).all():
            raise ValueError("neighbours of another gallery")
        if not 0 <= entry < count or levels[entry] != levels.max():
            raise ValueError("an entry of another gallery")
        # Whom a list of a level names has lists on that level.
        level_of = np.empty(len(neighbors), np.int32)
        for level in range(int(levels.max())):
            tall = np.flatnonzero(levels > level)
            width = int(upto[level + 1] - upto[level])
            at = offsets[tall, None] + int(upto[level]) + np.arange(width)
            level_of[at] = level
        if (levels[neighbors] <= level_of)[neighbors >= 0].any():
            raise ValueError("neighbours of another level")
        built.storage.add(distinct)
        faiss.copy_array_to_vector(np.ascontiguousarray(levels), built.hnsw.levels)
        faiss.copy_array_to_vector(offsets.astype(np.uint64), built.hnsw.offsets)
        faiss.copy_array_to_vector(np.ascontiguousarray(neighbors), built.hnsw.neighbors)
        built.hnsw.entry_point, built.hnsw.max_level = entry, int(levels.max()) - 1
        built.hnsw.efConstruction = said["efConstruction"]
        built.ntotal = count
        return built, place_of
    coarse, codebooks, cells, codes = (arrays[name] for name in KEPT["ivf-pq"])
    parts, bits, probes = numbers["parts"], said["nbits"], numbers["nprobe"]
    if not (1 <= bits <= 12 and 1 <= parts <= dimensions and dimensions % parts == 0):
        raise ValueError(f"{dimensions} values in {parts} parts of {bits} bits")
    if coarse.ndim != 2 or coarse.shape[1] != dimensions or not 1 <= probes <= len(coarse):
        raise ValueError("cells of another gallery")
    if cells.shape != (count,) or not ((cells >= 0) & (cells < len(coarse))).all():
        raise ValueError("cells of another gallery")
    if codebooks.shape != (dimensions * 2**bits,) or codes.shape != (count, -(-parts * bits // 8)):
        raise ValueError("codes of another gallery")
    if not (np.isfinite(coarse).all() and np.isfinite(codebooks).all()):
        raise ValueError("not finite")
    quantizer = faiss.IndexFlat(dimensions, metric)
    built = faiss.IndexIVFPQ(quantizer, dimensions, len(coarse), parts, bits, metric)
    quantizer.add(np.ascontiguousarray(coarse))
    faiss.copy_array_to_vector(np.ascontiguousarray(codebooks), built.pq.centroids)
    built.is_trained, built.nprobe = True, probes
    built.precompute_table()
    order = np.argsort(cells, kind="stable")
    starts = np.searchsorted(cells[order], np.arange(len(coarse) + 1))
    for cell in range(len(coarse)):
        ids = order[starts[cell] : starts[cell + 1]].astype(np.int64)
        if len(ids):
            own = np.ascontiguousarray(codes[ids])
            built.invlists.add_entries(cell, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(own))
    built.ntotal = count
    return built, place_of

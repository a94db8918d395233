"""Search against faiss and SciPy, of all images of MedNIST.

The vectors are Tamura histograms of 512 bins, of the real images, in an order drawn once. Ours and
theirs are timed in turn, in one run. ``python benchmarks/retrieval.py`` measures everything,
``exact``, ``whole``, ``memory``, ``distances``, ``approximate`` or ``rankings`` only that.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context

import faiss
import numpy as np
import psutil
import torch
from scipy.spatial.distance import cdist

from cbir_lib import Preprocessing, load
from cbir_lib.descriptors import build_descriptor
from cbir_lib.errors import CbirError, unknown_name_error
from cbir_lib.retrieval.hashing import compute_hamming_distances
from cbir_lib.retrieval.index import Index, measure_recall
from cbir_lib.retrieval.ranking import Ranking

K = 10
RUNS = 3
SOME = 4096  # queries of the repeated comparison
FEW = (200, 8000)  # queries and gallery of the slow distances
ASKED = 1000  # queries of approximate search
MIB = 2**20


def described() -> np.ndarray:
    """(N, 512) float32 of all images."""
    images = Preprocessing(size=64, clahe=False).transform(load("mednist").images)
    vectors = build_descriptor("tamura-histogram").fit(images[:100]).transform(images)
    return vectors[np.random.default_rng(0).permutation(len(vectors))]


def names(vectors: np.ndarray) -> np.ndarray:
    return np.arange(len(vectors)).astype(str)


def seconds(function: Callable) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def flat(distance: str, vectors: np.ndarray) -> tuple[faiss.Index, np.ndarray]:
    """faiss's exact index, and the vectors as it takes them."""
    if distance == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    index = (faiss.IndexFlatL2 if distance == "L2" else faiss.IndexFlatIP)(vectors.shape[1])
    index.add(vectors)
    return index, vectors


def bound(vectors: np.ndarray) -> float:
    """Seconds that the products of all with all take in float32, were there nothing else."""
    some = torch.from_numpy(vectors[:SOME])
    part = min(seconds(lambda: some @ some.T) for _ in range(RUNS + 1))
    return part * (len(vectors) / SOME) ** 2


def exact(vectors: np.ndarray) -> None:
    print(f"Exact, k = {K}: {SOME:,} queries, {len(vectors):,} x {vectors.shape[1]} in the gallery")
    for distance in ("L2", "cosine", "inner product"):
        index = Index(distance).add(vectors, names(vectors))
        theirs, prepared = flat(distance, vectors)
        index.search(vectors[:SOME], K)
        pairs = []
        for _ in range(RUNS):
            ours = seconds(lambda i=index: i.search(vectors[:SOME], K))
            pairs.append((ours, seconds(lambda t=theirs, p=prepared: t.search(p[:SOME], K))))
        ratios = [a / b for a, b in pairs]
        same = (theirs.search(prepared[:SOME], K)[1] == index.search(vectors[:SOME], K).rows).mean()
        print(
            f"  {distance:15} ours {np.median(ratios):.2f} of faiss flat's time "
            f"({min(ratios):.2f} to {max(ratios):.2f}); {same:.2%} of the rows are the same",
            flush=True,
        )


def whole(vectors: np.ndarray) -> None:
    for distance in ("L2", "cosine"):
        index = Index(distance).add(vectors, names(vectors))
        index.search(vectors[:1], K)
        took = seconds(lambda i=index: i.search(vectors, K, i.ids))
        print(f"All against all, {distance}: {took:.1f} s on {torch.get_num_threads()} threads")
    print(f"The products alone, by torch in float32: {bound(vectors):.1f} s", flush=True)


def memory(vectors: np.ndarray) -> None:
    """Most MiB beyond the vectors, in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        print(f"Memory beyond the vectors: {pool.apply(_memory, (vectors,)):.0f} MiB", flush=True)


def _memory(vectors: np.ndarray) -> float:
    index = Index("L2").add(vectors, names(vectors))
    few = Index("L2").add(vectors[:SOME], names(vectors[:SOME]))
    few.search(vectors[:2], K)  # loads the libraries
    own = psutil.Process(os.getpid())
    before, most, done = own.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, own.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    index.search(vectors[: 2 * SOME], K)  # blocks are as large as for all
    done.set()
    watcher.join()
    return (most - before) / MIB


def summing_to_one(vectors: np.ndarray) -> np.ndarray:
    return vectors / vectors.sum(axis=1, keepdims=True)


# What one would write with SciPy; it has no chi-square: its nearest, Canberra, sums |p - q| /
# (|p| + |q|).
WRITTEN = {
    "L1": lambda a, b: cdist(a, b, "cityblock"),
    "chi-square": lambda a, b: cdist(a, b, "canberra"),
    "Jensen-Shannon": lambda a, b: cdist(a, b, "jensenshannon"),
    "intersection": lambda a, b: cdist(summing_to_one(a), summing_to_one(b), "cityblock"),
    "earth mover": lambda a, b: cdist(a.cumsum(1), b.cumsum(1), "cityblock"),
}


def distances(vectors: np.ndarray) -> None:
    queries, gallery = vectors[: FEW[0]], vectors[-FEW[1] :]
    print(f"Other distances, {FEW[0]} queries, {FEW[1]:,} vectors, beside cdist and argpartition")
    for distance, write in WRITTEN.items():
        index = Index(distance).add(gallery, names(gallery))
        ratios = []
        for _ in range(RUNS):
            ours = seconds(lambda i=index: i.search(queries, K))
            theirs = seconds(lambda w=write: np.argpartition(w(queries, gallery), K, axis=1))
            ratios.append(ours / theirs)
        print(
            f"  {distance:15} ours {np.median(ratios):.2f} of SciPy's time "
            f"({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


def approximate(vectors: np.ndarray) -> None:
    gallery, queries = vectors[ASKED:], vectors[:ASKED]
    truth = Index("L2").add(gallery, names(gallery))
    truth.search(queries, K)
    print(f"Approximate, L2, {ASKED:,} queries that are not in the gallery of {len(gallery):,}")
    for method in ("hnsw", "ivf-pq"):
        index = Index("L2", method).add(gallery, names(gallery))
        built = seconds(lambda i=index: i.search(queries[:1], K))
        recall = measure_recall(index, queries, K).mean()
        pairs = [
            (
                seconds(lambda: truth.search(queries, K)),
                seconds(lambda i=index: i.search(queries, K)),
            )
            for _ in range(RUNS)
        ]
        times = np.median([a / b for a, b in pairs])
        print(
            f"  {method:7} recall@{K} {recall:.3f}, {times:.1f} times the queries per second of "
            f"exact; building took {built / np.median([a for a, _ in pairs]):.0f} such searches",
            flush=True,
        )


def rankings(vectors: np.ndarray) -> None:
    """Whole rankings of some distances, and distances of codes of 128 bits."""
    queries, gallery = vectors[: FEW[0]], vectors[-FEW[1] :]
    distances = cdist(queries, gallery, "cityblock").astype(np.float32)
    codes = np.packbits(vectors[:, :128] > np.median(vectors[:, :128], axis=0), axis=1)
    queried, binary = codes[: FEW[0]], faiss.IndexBinaryFlat(128)
    binary.add(codes[-FEW[1] :])
    print(f"Whole rankings, {FEW[0]} queries, {FEW[1]:,} vectors")
    for name, ours, theirs in (
        (
            "sorted, beside argsort and take_along_axis",
            lambda: Ranking.of(distances),
            lambda: np.take_along_axis(distances, distances.argsort(1, kind="stable"), 1),
        ),
        (
            "Hamming distances, beside faiss",
            lambda: compute_hamming_distances(queried, codes[-FEW[1] :]),
            lambda: binary.search(queried, FEW[1]),
        ),
    ):
        ratios = [seconds(ours) / seconds(theirs) for _ in range(RUNS)]
        print(f"  {name}: {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


PARTS = {part.__name__: part for part in (exact, whole, memory, distances, approximate, rankings)}


def main(chosen: list[str]) -> None:
    try:
        for name in chosen:
            if name not in PARTS:
                raise unknown_name_error("part", name, PARTS)
        vectors = described()
    except CbirError as error:
        sys.exit(str(error))
    for name in chosen or PARTS:
        PARTS[name](vectors)


if __name__ == "__main__":
    main(sys.argv[1:])

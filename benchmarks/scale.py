"""What a search costs from ten thousand vectors to a million: ``python benchmarks/scale.py``.

Vectors are the activations of a shipped network for the simulated radiographs, reduced to 128
values by a PCA. The repository has 14,410 of them; larger galleries are filled up with points
between neighbours (:func:`cbir_lib.study.scaling.interpolate_vectors`). Queries are images of the
test split, which no gallery holds.

Every method and size is measured in a process of its own: the time from vectors to the first
answer, the memory it takes beyond the process without it, the median time of one query alone, the
rate of many at once, and the recall of the exact ten nearest. Milvus goes up to 100,000 vectors.
Its embedded form keeps a collection on disk: its memory is that of the files. Its server is that of
the package ``milvus``, on this machine; it is left out where that is missing. Its memory is what
its process takes beyond that without vectors; its building ends when its graph is there.

All takes a quarter of an hour on two idle cores, less with ``--largest 100000``. The
result is ``results/scale/scale.json``, which the chapter on scale shows.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from sklearn.decomposition import PCA

import cbir_lib
from cbir_lib import CbirError, paths
from cbir_lib.descriptors.learned import load_network
from cbir_lib.retrieval.index import Index, measure_recall
from cbir_lib.study import results, scaling

RUN = "phantom-F-augment-s0"
DIMENSIONS, K, NEIGHBOURS = 128, 10, 10
SIZES = (12_000, 40_000, 100_000, 300_000, 1_000_000)
MILVUS_UP_TO = 100_000
ALONE, AT_ONCE = 50, 500  # queries
METHODS = {
    "exact": ("exact", {}),
    "HNSW": ("hnsw", {}),
    "IVF-PQ": ("ivf-pq", {}),
    "Milvus, embedded": ("milvus", {}),
    "Milvus, server": ("milvus-server", {}),
}


def describe(folder: Path) -> dict:
    """Galleries of every size wanted and queries, as files; what the file says of them."""
    data = cbir_lib.load("phantom")
    descriptor = load_network(RUN)
    gallery = data.images[data.records["split"] != "test"]
    descriptor.transform(gallery[:256])  # warms up
    start = time.perf_counter()
    vectors = descriptor.transform(gallery)
    seconds = time.perf_counter() - start
    pca = PCA(DIMENSIONS, random_state=0).fit(vectors)
    vectors = pca.transform(vectors).astype(np.float32)
    queries = pca.transform(descriptor.transform(data.split("test").images)).astype(np.float32)
    near = Index("L2").add(vectors, np.arange(len(vectors)).astype(str))
    neighbours = near.search(vectors, NEIGHBOURS, ids=near.ids).rows
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "neighbours.npy", neighbours)
    np.save(folder / "queries.npy", np.random.default_rng(0).permutation(queries)[:AT_ONCE])
    return {"real_vectors": len(vectors), "describe_per_s": len(vectors) / seconds}


def resident() -> int:
    """Bytes of memory that this process has."""
    return psutil.Process().memory_info().rss


def measure(pipe, folder: Path, method: str, settings: dict, count: int) -> None:
    """One point, sent to the parent."""
    vectors, neighbours, queries = (
        np.load(folder / f"{name}.npy") for name in ("vectors", "neighbours", "queries")
    )
    gallery = scaling.interpolate_vectors(vectors, count, neighbours)
    ids = np.arange(count).astype(str)
    if method.startswith("milvus"):
        there = measure_milvus if method == "milvus" else measure_milvus_server
        pipe.send(there(folder, gallery, ids, queries))
        return
    small = Index("L2", method, **settings).add(gallery[:10_000], ids[:10_000])
    small.search(queries[:1], K)  # compiles and loads what is needed; kept, as what it
    # gave back would be taken again unseen
    before, start = resident(), time.perf_counter()
    index = Index("L2", method, **settings).add(gallery, ids)
    index.search(queries[:1], K)
    built = time.perf_counter() - start
    grown = max(0, resident() - before)  # less, where it found room that was free
    size = grown + gallery.nbytes  # what add() keeps is the gallery itself
    alone = [clocked(lambda q=q: index.search(q[None], K))[0] for q in queries[:ALONE]]
    at_once, _ = clocked(lambda: index.search(queries, K))
    share = float(measure_recall(index, queries, K).mean())
    pipe.send((built, size, alone, AT_ONCE / at_once, share))


def measure_milvus(folder: Path, gallery: np.ndarray, ids: np.ndarray, queries: np.ndarray):
    """The same of a collection in the embedded form of Milvus, searched by its graph."""
    with TemporaryDirectory(dir=folder) as place:
        built, *measured = fill_and_search(str(Path(place) / "scale.db"), gallery, ids, queries)
        size = sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file())
    return built, size, *measured


def measure_milvus_server(folder: Path, gallery: np.ndarray, ids: np.ndarray, queries: np.ndarray):
    """The same of a collection in the server of Milvus, in a process of its own."""
    from milvus import MilvusServer
    from pymilvus import MilvusClient

    with TemporaryDirectory(dir=folder) as place:
        server = MilvusServer(data_dir=place)
        server.start()
        try:
            memory = psutil.Process(server.server_proc.pid).memory_info
            before, address = memory().rss, f"http://127.0.0.1:{server.listen_port}"
            client = MilvusClient(address)

            def wait() -> None:
                client.flush("scale")  # only what is flushed gets a graph
                while client.describe_index("scale", "vector")["pending_index_rows"]:
                    time.sleep(0.1)

            built, *measured = fill_and_search(address, gallery, ids, queries, wait)
            size = memory().rss - before
        finally:
            server.server_proc.kill()
            server.server_proc.wait()
            server.stop()
    return built, size, *measured


def fill_and_search(
    address: str,
    gallery: np.ndarray,
    ids: np.ndarray,
    queries: np.ndarray,
    wait: Callable = lambda: None,
):
    """Seconds until a collection answers, those of queries alone, queries per second, recall."""
    from cbir_lib.archive.milvus import MilvusIndex

    start = time.perf_counter()
    with MilvusIndex(address, "scale", "L2", "scale", method="hnsw") as index:
        index.add(gallery, list(ids), list(ids))
        wait()
        index.search(queries[:1], K)
        built = time.perf_counter() - start
        alone = [clocked(lambda q=q: index.search(q[None], K))[0] for q in queries[:ALONE]]
        few = queries[:ALONE]  # it takes them one by one anyway
        at_once, answers = clocked(lambda: index.search(few, K))
    truth = Index("L2").add(gallery, ids).search(few, K)
    pairs = zip(answers.ids.astype(int), truth.rows, strict=True)
    share = float(np.mean([len(np.intersect1d(*pair)) / K for pair in pairs]))
    return built, alone, len(few) / at_once, share


def clocked(work) -> tuple[float, object]:
    """Seconds that ``work`` takes, and what it returns."""
    start = time.perf_counter()
    done = work()
    return time.perf_counter() - start, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="vectors in a gallery")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--out", type=Path, default=paths.results_folder("scale") / "scale.json")
    chosen = parser.parse_args()
    started, points = time.perf_counter(), []
    context = get_context("spawn")
    with TemporaryDirectory() as folder:
        about = describe(Path(folder))
        print(f"{'method':18}{'vectors':>10}{'build s':>9}{'MiB':>8}{'ms':>9}{'1/s':>9}  recall")
        for count in (size for size in SIZES if size <= chosen.largest):
            for name in chosen.methods:
                method, settings = METHODS[name]
                if method.startswith("milvus") and count > MILVUS_UP_TO:
                    continue
                if method == "milvus-server" and not importlib.util.find_spec("milvus"):
                    print(f"{name}: left out, pip install milvus==2.3.*")
                    continue
                here, there = context.Pipe(duplex=False)
                child = context.Process(
                    target=measure, args=(there, Path(folder), method, settings, count)
                )
                child.start()
                there.close()
                try:
                    built, size, alone, rate, share = here.recv()
                except EOFError:
                    sys.exit(f"{name} failed at {count:,} vectors")
                child.join()
                point = scaling.Point(
                    method=name,
                    settings=settings,
                    vectors=count,
                    build_s=round(built, 3),
                    bytes=int(size),
                    latency_ms=round(1000 * float(np.median(alone)), 4),
                    queries_per_s=round(rate, 1),
                    recall=round(share, 4),
                )
                points.append(point)
                print(
                    f"{name:18}{count:10,}{point.build_s:9.1f}{point.bytes / 2**20:8.0f}"
                    f"{point.latency_ms:9.2f}{point.queries_per_s:9.0f}  {point.recall:.3f}",
                    flush=True,
                )
    scaling.write(
        chosen.out,
        scaling.Scaling(
            dimensions=DIMENSIONS,
            k=K,
            descriptor=RUN,
            points=points,
            circumstances=results.record_circumstances({"all": time.perf_counter() - started}),
            **about,
        ),
    )
    print(f"written: {chosen.out}")


if __name__ == "__main__":
    try:
        main()
    except CbirError as error:
        print(error, file=sys.stderr)
        sys.exit(2)

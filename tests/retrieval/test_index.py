"""The index: against a naive search, what it refuses, and what it keeps on disk."""

import json
import pickle
import tracemalloc

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from cbir_lib.errors import CbirError
from cbir_lib.networks import precision
from cbir_lib.retrieval import approximate, exact, exact_loops
from cbir_lib.retrieval import index as retrieval
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.retrieval.index import Index, measure_recall

unhurried = settings(deadline=None)  # a busy machine is no failure


def names(count, prefix="g"):
    return np.array([f"{prefix}{i}" for i in range(count)])


def filled(gallery, distance="L1"):
    return Index(distance).add(np.asarray(gallery, np.float32), names(len(gallery)))


def naive(gallery, query, leave_out=()):
    """Rows and L1 distances, nearest first, equal ones in the order of the gallery."""
    pairs = [
        (sum(abs(x - y) for x, y in zip(vector, query, strict=True)), row)
        for row, vector in enumerate(gallery)
        if row not in leave_out
    ]
    return [row for _, row in sorted(pairs)], [distance for distance, _ in sorted(pairs)]


# Few small whole numbers: sums are exact, and many distances are equal.
@st.composite
def searches(draw):
    dimensions = draw(st.integers(1, 3))
    vectors = st.lists(st.integers(-2, 2), min_size=dimensions, max_size=dimensions)
    gallery = draw(st.lists(vectors, min_size=1, max_size=12))
    queries = draw(st.lists(vectors, min_size=1, max_size=8))
    return gallery, queries, draw(st.integers(1, len(gallery)))


@unhurried
@given(searches())
def test_search_is_the_naive_search(case):
    gallery, queries, k = case
    ranking = filled(gallery).search(np.array(queries), k)
    assert ranking.rows.shape == ranking.distances.shape == (len(queries), k)
    assert ranking.rows.dtype == np.int64
    assert ranking.distances.dtype == np.float32
    for nearest, distances, query in zip(ranking.rows, ranking.distances, queries, strict=True):
        rows, expected = naive(gallery, query)
        assert nearest.tolist() == rows[:k]
        assert distances.tolist() == expected[:k]


@unhurried
@given(searches(), st.data())
def test_a_query_never_finds_itself(case, data):
    gallery, _, k = case
    own = data.draw(st.lists(st.integers(0, len(gallery) - 1), min_size=1, unique=True))
    ids = np.append(names(len(gallery))[own], "elsewhere")  # the last is not in the gallery
    queries = np.array([gallery[row] for row in own] + [gallery[0]])
    ranking = filled(gallery).search(queries, k, ids)
    for i, query in enumerate(queries):
        rows, distances = naive(gallery, query, leave_out=own[i : i + 1])
        missing = len(gallery) - len(rows)
        assert ranking.rows[i].tolist() == (rows + [-1] * missing)[:k]
        assert ranking.distances[i].tolist() == (distances + [np.inf] * missing)[:k]


@pytest.mark.parametrize("distance", retrieval.DISTANCES)
@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("device", [None, "cpu"])
def test_every_distance_and_block_gives_the_same_ranking(distance, block, device, monkeypatch):
    rng = np.random.default_rng(0)
    gallery, queries = rng.random((30, 9)), rng.random((20, 9))
    ids = np.concatenate([names(3), names(17, "q")])  # the first three are in the gallery
    monkeypatch.setattr(retrieval, "BLOCK_QUERIES", block)
    monkeypatch.setattr(retrieval, "BLOCK_GALLERY", block)
    index = Index(distance, device=device).add(gallery, names(30))
    ranking, first = index.search(queries, ids=ids), index.search(queries, 4, ids)
    assert np.array_equal(first.rows, ranking.rows[:, :4])
    matrix = retrieval.pairwise(distance, queries, gallery)
    for i, row in enumerate(matrix):
        order = [j for j in np.argsort(row) if not (i < 3 and i == j)]
        assert ranking.rows[i, : len(order)].tolist() == order
        np.testing.assert_allclose(ranking.distances[i, : len(order)], row[order], atol=1e-6)
    assert (ranking.rows[:, -1] == -1).tolist() == [True] * 3 + [False] * 17


def test_equal_distances_keep_the_order_of_the_gallery():
    many = 500  # NumPy's unstable sort would keep a short list in order
    ranking = filled(np.tile([[1.0], [2.0]], (many, 1))).search([[1.0]])
    assert ranking.rows[0].tolist() == [*range(0, 2 * many, 2), *range(1, 2 * many, 2)]


@unhurried
@given(searches(), st.integers(1, 5), st.data())
def test_blocks_of_the_gallery_keep_its_order_and_leave_out_the_own_subject(case, block, data):
    gallery, queries, k = case
    whose = st.sampled_from(["", "p", "q", "r"])
    subjects = data.draw(st.lists(whose, min_size=len(gallery), max_size=len(gallery)))
    own = data.draw(st.lists(whose, min_size=len(queries), max_size=len(queries)))
    index = Index("L1").add(np.array(gallery), names(len(gallery)), subjects)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "BLOCK_GALLERY", block)
        ranking = index.search(np.array(queries), k, subjects=own)
    for i, query in enumerate(queries):
        left_out = [row for row, name in enumerate(subjects) if own[i] and name == own[i]]
        rows, distances = naive(gallery, query, left_out)
        missing = len(gallery) - len(rows)
        assert ranking.rows[i].tolist() == (rows + [-1] * missing)[:k]
        assert ranking.distances[i].tolist() == (distances + [np.inf] * missing)[:k]


def gaussian(rng, count, dimensions):
    return rng.normal(size=(count, dimensions))


def clustered(rng, count, dimensions):
    centres = 50 * rng.normal(size=(7, dimensions))
    return centres[np.sort(rng.integers(0, 7, count))] + rng.normal(size=(count, dimensions))


def copied(rng, count, dimensions):
    """Few of many are different, one is there more often than candidates are kept, some zero."""
    few = np.vstack([np.zeros(dimensions), rng.normal(size=(count // 20, dimensions))])
    rows = rng.integers(0, len(few), count)
    rows[: count // 3] = 1
    return few[rows]


def histograms(rng, count, dimensions):
    values = rng.random((count, dimensions)) ** 8
    return values / values.sum(axis=1, keepdims=True)


def far_off(rng, count, dimensions):
    return 1e4 + rng.normal(size=(count, dimensions))


def of_all_sizes(rng, count, dimensions):
    return gaussian(rng, count, dimensions) * 10.0 ** rng.integers(-30, 15, (count, 1))


KINDS_OF_VECTORS = (gaussian, clustered, copied, histograms, far_off, of_all_sizes)


@pytest.mark.parametrize("distance", exact.KINDS)
@pytest.mark.parametrize("kind", KINDS_OF_VECTORS)
@pytest.mark.parametrize("half", [True, False], ids=["rounded", "as it is"])
def test_looking_in_bfloat16_finds_what_float64_finds(distance, kind, half, monkeypatch):
    rng = np.random.default_rng(0)
    count, dimensions, asked, k = 2000, 33, 150, 10
    vectors = kind(rng, count, dimensions).astype(np.float32)
    ids = names(count)
    subjects = rng.integers(0, 300, count).astype(str)
    queries, some = np.roll(vectors, -3, axis=0)[::13][:asked], np.arange(3, count, 13)[:asked]
    queries = np.vstack([queries, kind(rng, asked, dimensions).astype(np.float32)])
    query_ids = np.append(ids[some], names(asked, "q"))
    of_queries = np.append(subjects[some], np.full(asked, ""))
    monkeypatch.setattr(retrieval, "FAST_FROM", 1)
    monkeypatch.setattr(exact, "BLOCK_QUERIES", 77)
    monkeypatch.setattr(exact, "BLOCK_GALLERY", 333)
    monkeypatch.setattr(precision, "has_bfloat16", lambda: half)
    index = Index(distance).add(vectors, ids, subjects)
    ranking = index.search(queries, k, query_ids, of_queries)
    monkeypatch.setattr(retrieval, "FAST_FROM", count + 1)
    expected = index.search(queries, k, query_ids, of_queries)
    # Sums in another order differ in the 16th digit, which may be another float32.
    scale = np.maximum(np.abs(expected.distances).max(axis=1, keepdims=True), 1e-30)
    np.testing.assert_allclose(ranking.distances / scale, expected.distances / scale, rtol=3e-7)
    differ = ranking.rows != expected.rows
    assert differ.mean() < 1e-3
    at = np.nonzero(differ)[0]
    measured = pairwise(distance, queries[at], vectors)[np.arange(len(at)), ranking.rows[differ]]
    np.testing.assert_allclose(measured, expected.distances[differ], rtol=3e-7)


def test_a_search_rounds_where_a_training_would(monkeypatch):
    monkeypatch.setattr(retrieval, "FAST_FROM", 1)
    rounded = []
    for limit in ("AVX2", "ALL"):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        index = Index("L2").add(np.eye(9, dtype=np.float32), names(9))
        index.search(index.vectors, 3)
        rounded.append(next(iter(index._built)))
        assert rounded[-1] == precision.has_bfloat16()
    assert not rounded[0]


# One query or one vector is multiplied in another way than many, and few by torch's own loops.
@pytest.mark.parametrize(
    "shape", [(1, 1, 700), (1, 7, 512), (1, 3000, 17), (40, 1, 7), (40, 90, 9)]
)
@pytest.mark.parametrize("distance", exact.KINDS)
@pytest.mark.parametrize("half", [True, False], ids=["bfloat16", "float32"])
def test_scores_are_off_by_no_more_than_is_said(distance, shape, half):
    asked, count, dimensions = shape
    for seed in range(5):
        rng = np.random.default_rng(seed)
        gallery = (5 + 30 * rng.normal(size=(count, dimensions))).astype(np.float32)
        queries = gallery[rng.integers(0, count, asked)] + rng.integers(-1, 2, (asked, dimensions))
        queries = queries.astype(np.float32)
        prepared = exact.prepare(distance, gallery, half)
        x, reach, slack = exact._prepare_queries(prepared, queries)
        gallery, queries = gallery.astype(float), queries.astype(float)
        if distance == "cosine":
            gallery, queries = (v / np.linalg.norm(v, axis=1)[:, None] for v in (gallery, queries))
        centre = prepared.centre / prepared.scale
        gallery, queries = (v / prepared.scale - centre for v in (gallery, queries))
        bias = -(gallery**2).sum(axis=1) / 2 if distance == "L2" else gallery @ centre
        true = queries @ gallery.T + bias
        level = exact._set_level(x, np.sort(true, axis=1)[:, -min(5, count)])
        products = (x @ prepared.rounded.T).double().numpy()
        off = reach[:, None] * prepared.lengths + slack[:, None]
        off += np.abs(level)[:, None] * x.shape[1] * exact.SUM
        off += exact_loops.ROUNDED * half * np.abs(products)
        assert (np.abs(products + level[:, None] - true) <= off).all()


@pytest.mark.parametrize(("kind", "half"), [(histograms, True), (clustered, False)])
def test_looking_leaves_few_to_decide(kind, half):
    # Of clusters far apart, bfloat16 leaves whole ones.
    vectors = kind(np.random.default_rng(0), 5000, 64).astype(np.float32)
    none = np.full(5000, -1)
    prepared = exact.prepare("L2", vectors, half)
    searched = exact.search(prepared, vectors, vectors, 10, none, none, none)
    assert all(decided.all() for *_, decided in searched)


@pytest.mark.parametrize("distance", exact.KINDS)
def test_finds_what_faiss_finds(distance):
    vectors = gaussian(np.random.default_rng(0), retrieval.FAST_FROM, 48).astype(np.float32)
    queries = vectors[:100]
    ours = Index(distance).add(vectors, names(len(vectors))).search(queries, 5)
    if distance == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = vectors[:100]
    theirs = (faiss.IndexFlatL2 if distance == "L2" else faiss.IndexFlatIP)(48)
    theirs.add(vectors)
    values, rows = theirs.search(queries, 5)
    expected = {"L2": values**0.5, "cosine": 1 - values, "inner product": -values}[distance]
    assert (ours.rows == rows).mean() > 0.999  # theirs is float32
    np.testing.assert_allclose(ours.distances, expected, rtol=1e-5, atol=2e-3)


def test_memory_does_not_grow_with_the_matrix():
    count = 3 * retrieval.BLOCK_GALLERY
    vectors = np.random.default_rng(0).random((count, 4), dtype=np.float32)
    index = Index("L1").add(vectors, names(count))
    tracemalloc.start()
    index.search(vectors[:1200], 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    block = retrieval.BLOCK_QUERIES * retrieval.BLOCK_GALLERY
    assert peak < 20 * block < 4 * 1200 * count  # bytes; the last is the whole matrix


APPROXIMATE = [("hnsw", {}, 0.95), ("ivf-pq", {"nlist": 16, "nprobe": 8, "m": 8}, 0.85)]


@pytest.mark.parametrize("distance", exact.KINDS)
@pytest.mark.parametrize(("method", "options", "minimum"), APPROXIMATE)
def test_approximate_search(method, options, minimum, distance, tmp_path):
    rng = np.random.default_rng(0)
    vectors = clustered(rng, 1500, 16).astype(np.float32)
    subjects = rng.integers(0, 500, 1500).astype(str)
    index = Index(distance, method, "d", **options)
    index.add(vectors[:900], names(1500)[:900], subjects[:900])
    index.add(vectors[900:], names(1500)[900:], subjects[900:])
    queries = vectors[::10] + rng.normal(size=(150, 16)).astype(np.float32) / 10
    assert measure_recall(index, queries, 5).mean() > minimum
    # Distances are those of exact search; nobody finds himself or his own.
    asked = queries, 5, index.ids[::10], subjects[::10]
    ranking = index.search(*asked)
    assert (ranking.rows >= 0).all()
    assert not (index.subjects[ranking.rows] == subjects[::10, None]).any()
    expected = np.take_along_axis(pairwise(distance, queries, vectors), ranking.rows, axis=1)
    np.testing.assert_allclose(ranking.distances, expected, rtol=1e-5, atol=1e-6)
    assert (np.diff(ranking.distances, axis=1) >= 0).all()
    # What is saved is the structure, not only the vectors.
    index.save(tmp_path / "index")
    again = Index.load(tmp_path / "index", "d")
    assert again._built is not None
    assert (again.method, again.settings) == (method, index.settings)
    again_ranked = again.search(*asked)
    assert np.array_equal(again_ranked.rows, ranking.rows)
    assert np.array_equal(again_ranked.distances, ranking.distances)
    # Removed is not found.
    gone = index.ids[ranking.rows[0]]
    assert not np.isin(index.remove(gone).ids[index.search(queries[:1], 5).rows], gone).any()


# Equal vectors


@pytest.mark.parametrize("distance", exact.KINDS)
@pytest.mark.parametrize(("method", "options", "minimum"), APPROXIMATE)
def test_copies_change_nothing_for_the_others(method, options, minimum, distance):
    rng = np.random.default_rng(0)
    alone = clustered(rng, 900, 16).astype(np.float32)
    copies = np.repeat(alone[[5]], 1500, axis=0)
    gallery = np.concatenate([alone[:400], copies, alone[400:]])
    without = Index(distance, method, **options).add(alone, names(900))
    index = Index(distance, method, **options).add(gallery, names(2400))
    queries = (alone[400::10] + rng.normal(size=(50, 16)) / 10).astype(np.float32)
    original = np.append(np.arange(400), np.arange(1900, 2400))
    one, other = without.search(queries, 5), index.search(queries, 5)
    among = np.isin(other.rows, np.arange(400, 1900)) | (other.rows == 5)
    assert np.array_equal(original[one.rows][~among.any(1)], other.rows[~among.any(1)])
    assert measure_recall(index, queries, 5).mean() > minimum
    # A copy finds the copies, in the gallery's order, and as many as are asked for.
    nearest_to_copy = index.search(alone[[5]], 40)
    if distance != "inner product":  # there, longer ones are nearer
        assert nearest_to_copy.rows[0].tolist() == [5, *range(400, 439)]
    assert (nearest_to_copy.rows >= 0).all()
    # Nobody finds himself or his own, also among equal ones.
    subjects = np.where(np.arange(2400) % 3, "", "p")
    index = Index(distance, method, **options).add(gallery, names(2400), subjects)
    answers = index.search(alone[[5, 5]], 30, [names(2400)[401], "elsewhere"], ["", "p"])
    assert not (answers.rows[0] == 401).any() and not (subjects[answers.rows[1]] == "p").any()
    assert (answers.rows >= 0).all()


@pytest.mark.parametrize("method", ["hnsw", "ivf-pq"])
@settings(deadline=None, max_examples=40)
@given(case=st.data())
def test_there_are_k_rows_where_there_are_k(method, case):
    rng = np.random.default_rng(case.draw(st.integers(0, 9)))
    few = rng.integers(-3, 4, (case.draw(st.integers(1, 60)), 2))
    gallery = few[rng.integers(0, len(few), 90)].astype(np.float32)
    whose = np.array(["", *"pqr"])[rng.integers(0, 4, 90)]
    options = {} if method == "hnsw" else {"nlist": 4, "nbits": 2, "m": 1, "nprobe": 1}
    index = Index("L2", method, **options).add(gallery, names(90), whose)
    k = case.draw(st.integers(1, 90))
    own = case.draw(st.sampled_from(["", "p", "q"]))
    row = case.draw(st.integers(0, 89))
    query = gallery[[row]]
    ranking = index.search(query, k, names(90)[[row]], [own])
    expected = Index("L2").add(gallery, names(90), whose).search(query, k, names(90)[[row]], [own])
    assert ((ranking.rows >= 0) == (expected.rows >= 0)).all()
    kept = ranking.rows[ranking.rows >= 0]
    assert len(set(kept)) == len(kept) and row not in kept
    assert not own or not (whose[kept] == own).any()
    assert (np.diff(ranking.distances[0][: len(kept)]) >= 0).all()
    assert ranking.distances[0, 0] == expected.distances[0, 0] or expected.distances[0, 0] > 0
    if (
        method == "hnsw"
    ):  # of so few nothing nearer is missed; which of different ones as near, may be
        assert np.array_equal(ranking.distances, expected.distances)
        nearer = expected.distances < expected.distances[0, max(len(kept), 1) - 1]
        assert np.array_equal(ranking.rows[nearer], expected.rows[nearer])


def test_equal_vectors_share_a_place():
    rng = np.random.default_rng(0)
    vectors = rng.integers(0, 2, (500, 4)).astype(np.float32)
    vectors[::7] *= np.float32(-0.0)  # equal to 0
    places = approximate.number_distinct(vectors)
    numbers: dict[tuple, int] = {}
    expected = [numbers.setdefault(tuple(v), len(numbers)) for v in vectors.tolist()]
    assert places.tolist() == expected
    index = Index("L2", "hnsw").add(vectors, names(500))
    assert index._build()[0].ntotal == len(numbers) <= 16


def test_vectors_of_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(approximate, "hash_rows", lambda vectors: np.zeros(len(vectors), np.uint64))
    vectors = np.random.default_rng(0).integers(0, 5, (200, 1)).astype(np.float32)
    places = approximate.number_distinct(vectors)
    for place in range(places.max() + 1):
        assert len(np.unique(vectors[places == place])) == 1
    ranking = Index("L2", "hnsw").add(vectors, names(200)).search(np.float32([[3]]), 9)
    assert (vectors[ranking.rows[0]] == 3).all()


@pytest.mark.parametrize("distance", ["L2", "cosine"])
def test_a_copy_finds_its_original_first_however_poor_the_graph(distance):
    rng = np.random.default_rng(0)
    vectors = clustered(rng, 2000, 12).astype(np.float32)
    index = Index(distance, "hnsw", M=2, efConstruction=1, efSearch=1).add(vectors, names(2000))
    ranking = index.search(vectors, 1)
    assert index.recall.share < 0.9
    assert ranking.rows[:, 0].tolist() == list(range(2000)) and (ranking.distances == 0).all()


def test_a_cut_graph_is_answered_exactly(monkeypatch):
    vectors = gaussian(np.random.default_rng(0), 300, 8).astype(np.float32)
    index = Index("L2", "hnsw").add(vectors, names(300)).build()
    cut = np.full(faiss.vector_to_array(index._built.index.hnsw.neighbors).shape, -1, np.int32)
    faiss.copy_array_to_vector(cut, index._built.index.hnsw.neighbors)
    expected = Index("L2").add(vectors, names(300)).search(vectors[:20], 10)
    assert np.array_equal(index.search(vectors[:20], 10).rows, expected.rows)


def test_recall_is_measured_when_it_is_built_and_kept(tmp_path):
    vectors = gaussian(np.random.default_rng(0), 1200, 24).astype(np.float32)
    ids = names(1200)
    for method in ("hnsw", "ivf-pq"):
        index = Index("L2", method, "d").add(vectors, ids)
        assert index.recall is None
        index.search(vectors[:1], 3)
        rows = np.linspace(0, 1199, 100).astype(int)
        expected = Index("L2").add(vectors, ids).search(vectors[rows], 10, ids[rows]).rows
        nearest = index.search(vectors[rows], 10, ids[rows]).rows
        shares = [len(set(a) & set(b)) / 10 for a, b in zip(expected, nearest, strict=True)]
        assert index.recall == (pytest.approx(np.mean(shares)), 10, 100)
        index.save(tmp_path / method)
        assert Index.load(tmp_path / method).recall == index.recall
        assert retrieval.read_recall(tmp_path / method, "d") == index.recall
        assert retrieval.read_recall(tmp_path / method, "e") is None
        assert index.remove(["g3"]).recall is None
    assert index.build().recall.share < 0.99  # of ivf-pq: a share that differs from one
    assert Index("L2").add(vectors, ids).build().recall is None
    assert retrieval.read_recall(tmp_path / "nowhere", "d") is None


def test_recall_is_what_it_says():
    index = Index("L2", "hnsw").add(np.arange(20.0)[:, None], names(20))
    assert measure_recall(index, np.array([[0.1]]), 4).tolist() == [1]
    index.search(np.zeros((1, 1)), 4)
    half = index.search(np.array([[0.1]]), 4)
    half.rows[0, 2:], half.distances[0, 2:] = [18, 19], [17.9, 18.9]
    index.search = lambda *_: half
    assert measure_recall(index, np.array([[0.1]]), 4).tolist() == [2 / 4]


def test_built_twice_on_one_thread_is_the_same():
    vectors = gaussian(np.random.default_rng(0), 600, 16).astype(np.float32)
    for method in ("hnsw", "ivf-pq"):
        one, other = (Index("L2", method).add(vectors, names(600))._build()[0] for _ in range(2))
        assert np.array_equal(faiss.serialize_index(one), faiss.serialize_index(other))


def test_removed_is_as_if_never_added():
    vectors = np.random.default_rng(0).random((9, 4)).astype(np.float32)
    index = filled(vectors).remove(["g8", "g3"])
    assert index.ids.tolist() == ["g0", "g1", "g2", "g4", "g5", "g6", "g7"]
    kept = [0, 1, 2, 4, 5, 6, 7]
    other = Index("L1").add(vectors[kept], names(9)[kept])
    assert np.array_equal(index.search(vectors).rows, other.search(vectors).rows)


def test_added_in_two_steps_is_added_at_once():
    vectors = np.random.default_rng(0).random((9, 4)).astype(np.float32)
    once = filled(vectors)
    twice = Index("L1").add(vectors[:4], names(9)[:4]).add(vectors[4:], names(9)[4:])
    assert len(once) == len(twice) == 9
    assert np.array_equal(once.vectors, twice.vectors)
    assert np.array_equal(once.ids, twice.ids)


def test_what_was_saved_is_what_is_read(tmp_path):
    index = Index("cosine").add(np.random.default_rng(0).random((5, 3)), ["a", "é", "c/d", "", "e"])
    index.save(tmp_path / "new" / "index.safetensors")
    again = Index.load(tmp_path / "new" / "index.safetensors")
    assert again.distance == index.distance
    assert again.vectors.dtype == np.float32
    assert np.array_equal(again.vectors, index.vectors)
    assert again.ids.tolist() == index.ids.tolist()
    one, other = index.search(index.vectors), again.search(index.vectors)
    assert np.array_equal(one.rows, other.rows)
    assert np.array_equal(one.distances, other.distances)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Index("L3"), "unknown distance 'L3'"),
        (lambda: Index("L2", "hnws"), "unknown method 'hnws'"),
        (lambda: Index("L2", "hnsw", nlist=3), "unknown setting of hnsw 'nlist'"),
        (lambda: Index("L2", "hnsw", M=0), "M 0 is out of range"),
        (lambda: Index("L2", "hnsw", efSearch=None), "efSearch None is out of range"),
        (lambda: Index("L1", "hnsw"), "hnsw cannot search by the distance 'L1'"),
        (lambda: Index("L1", device="nowhere"), "no device 'nowhere'"),
        (
            lambda: Index("L2", "ivf-pq").add(np.ones((9, 8)), names(9)).search(np.ones((1, 8)), 1),
            "9 is too small to train ivf-pq: it needs 256",
        ),
        (
            lambda: Index("L2", "ivf-pq", m=3).add(np.ones((9, 8)), names(9)).save("nowhere"),
            "8 values in 3 parts",
        ),
        (lambda: filled(np.ones((3, 2))).remove(["g1", "no"]), "'no' is not in the index"),
        (lambda: Index("L1").add(np.ones((1, 2)), ["a"], ["p", "q"]), "2 subjects do not fit 1"),
        (
            lambda: filled(np.ones((3, 2))).search(np.ones((1, 2)), ids=["a", "b"]),
            "2 identifiers do not fit 1 queries",
        ),
        (
            lambda: Index("L2", "hnsw").add([[np.nan]], ["a"]).search([[1.0]], 1),
            "not finite",
        ),
        (lambda: Index("L1").search(np.ones((1, 2))), "the gallery is empty"),
        (lambda: filled(np.ones((3, 2))).search(np.ones((1, 2)), 0), "k = 0 is out of range"),
        (lambda: filled(np.ones((3, 2))).search(np.ones((1, 2)), -1), "k = -1 is out of range"),
        (lambda: filled(np.ones((3, 2))).search(np.ones((1, 2)), 4), "k = 4 is out of range"),
        (lambda: filled(np.ones((3, 2))).search(np.ones((1, 2)), 2.5), "k = 2.5 is out of range"),
        (lambda: filled(np.ones((3, 2))).search(np.ones((1, 2)), True), "k = True is out of range"),
        (lambda: filled(np.ones((3, 2))).search(np.ones((1, 5))), "cannot be compared"),
        (lambda: filled(np.ones((3, 2))).add(np.ones((1, 5)), ["new"]), "vectors of 5 values"),
        (
            lambda: filled(np.ones((3, 2))).add(np.ones((1, 2)), ["g1"]),
            "'g1' is in the index twice",
        ),
        (lambda: Index("L1").add(np.ones((2, 2)), ["a", "a"]), "'a' is in the index twice"),
        (lambda: Index("L1").add(np.ones((2, 2)), ["a"]), "1 identifiers do not fit"),
        (lambda: Index("L1").add(np.ones(2), ["a", "b"]), "do not fit vectors of shape"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, said):
    with pytest.raises(CbirError, match=said):
        wrong()


def test_a_refused_addition_changes_nothing():
    index = filled(np.ones((3, 2)))
    with pytest.raises(CbirError):
        index.add(np.ones((2, 2)), ["new", "g1"])
    assert index.ids.tolist() == ["g0", "g1", "g2"]
    assert index.vectors.shape == (3, 2)


def truncated(path):
    filled(np.ones((30, 20))).save(path)
    path.write_bytes(path.read_bytes()[:-100])


def described(**changes):
    """Writes a file that is an index but for these entries of its description."""
    entries = {"format": retrieval.FORMAT, "distance": "L1", "ids": '["a"]'} | changes
    kept = {name: value for name, value in entries.items() if value is not None}
    return lambda path: save_file({"vectors": np.ones((1, 2), np.float32)}, path, kept)


DAMAGED = {
    "missing": lambda path: None,
    "empty": lambda path: path.touch(),
    "folder": lambda path: path.mkdir(),
    "truncated": truncated,
    "not described": lambda path: save_file({"vectors": np.ones((1, 2), np.float32)}, path),
    "other": described(format=None),
    "earlier": described(format="cbir_lib index 1"),
    "its sum is another": described(method="exact", descriptor="", settings="{}", sha256="0"),
    "later": described(format=retrieval.FORMAT + "0"),
    "without distance": described(distance=None),
    "without ids": described(ids=None),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"vectors": [[1.0]]})),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_file_that_is_no_index_is_refused(damage, tmp_path):
    path = tmp_path / "index.safetensors"
    DAMAGED[damage](path)
    with pytest.raises(CbirError) as caught:
        Index.load(path)
    assert str(path) in caught.value.what
    assert len(str(caught.value).splitlines()) == 2


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of an index of each method."""
    path = tmp_path_factory.mktemp("written") / "index"
    vectors = np.random.default_rng(0).random((40, 8), dtype=np.float32)
    bytes_of = {}
    for method, options in (
        ("exact", {}),
        ("hnsw", {"M": 4}),
        ("ivf-pq", {"nbits": 3, "nlist": 2}),
    ):
        Index("L2", method, "d", **options).add(vectors, names(40)).save(path)
        bytes_of[method] = path.read_bytes()
    return path, bytes_of


@unhurried
@given(st.data())
def test_no_damage_goes_unseen(written, data):
    path, files = written
    content = bytearray(files[data.draw(st.sampled_from(sorted(files)))])
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        content = content[:place]
    path.write_bytes(content)
    try:
        index = Index.load(path)
    except CbirError as error:
        assert len(str(error).splitlines()) == 2
    else:  # a byte that means nothing, as white space
        assert index.descriptor == "d" and len(index) == 40


def arrays_of(path):
    with safe_open(path, "numpy") as file:
        return dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def signed(path, described, arrays):
    """Write a file as somebody would who wishes it to be taken for a whole one."""
    described = {k: v for k, v in described.items() if k not in ("sha256", "head_sha256")}
    described["head_sha256"] = retrieval._compute_digest(described, {})
    described["sha256"] = retrieval._compute_digest(described, arrays)
    save_file(arrays, path, described)


@unhurried
@given(st.sampled_from(["hnsw", "ivf-pq"]), st.data())
def test_foreign_numbers_are_only_data(written, method, data):
    path, files = written
    path.write_bytes(files[method])
    described, arrays = arrays_of(path)
    name = data.draw(st.sampled_from([*sorted(arrays), "structure", "settings", "ids"]))
    numbers = st.sampled_from([-(2**31), -2, -1, 0, 1, 2, 7, 39, 40, 41, 1000, 2**31 - 1])
    if name in arrays:
        array = arrays[name].copy()
        way = data.draw(st.sampled_from(["value", "shorter", "shape", "type", "gone"]))
        if way == "value":
            place = data.draw(st.integers(0, array.size - 1))
            array.reshape(-1)[place] = np.array(data.draw(numbers)).astype(array.dtype)
        elif way == "shorter":
            array = array[: data.draw(st.integers(0, len(array) - 1))]
        elif way == "shape":
            array = array.reshape(data.draw(st.sampled_from([(-1,), (1, -1), (-1, 1)])))
        elif way == "type":
            array = array.astype(data.draw(st.sampled_from(["f8", "i8", "u1", "i2"])))
        arrays[name] = np.ascontiguousarray(array)
        if way == "gone":
            del arrays[name]
    else:
        values = json.loads(described[name])
        if isinstance(values, dict):
            key = data.draw(st.sampled_from(sorted(values)))
            values[key] = data.draw(st.one_of(numbers, st.sampled_from([None, "x", [1], 1e9])))
        else:
            values = data.draw(st.sampled_from([[], {}, ["a"] * 40, [1] * 40, "x" * 40]))
        described[name] = json.dumps(values)
    signed(path, described, arrays)
    try:
        index = Index.load(path)
        if len(index):
            assert index.search(np.zeros((3, 8), np.float32), 2).rows.max() < 40
    except CbirError as error:
        assert len(str(error).splitlines()) == 2


def test_faiss_never_reads_a_file(written, monkeypatch):
    path, files = written
    for name in ("deserialize_index", "read_index"):
        monkeypatch.setattr(faiss, name, lambda *_: 1 / 0)
    for method, content in files.items():
        path.write_bytes(content)
        assert Index.load(path).method == method


def test_another_descriptor_is_refused(written):
    path, files = written
    path.write_bytes(files["hnsw"])
    assert len(Index.load(path, "d")) == 40
    with pytest.raises(CbirError, match="is an index of 'd', not of 'e'"):
        Index.load(path, "e")


def test_an_empty_index_is_kept_too(tmp_path):
    for method in approximate.METHODS:
        Index("L2", method).save(tmp_path / method)
        assert len(Index.load(tmp_path / method)) == 0

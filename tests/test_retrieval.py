"""The index: against a naive search, what it refuses, and what it keeps on disk."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from cbir_lib import retrieval
from cbir_lib.errors import CbirError
from cbir_lib.retrieval import Index

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
    for found, distances, query in zip(ranking.rows, ranking.distances, queries, strict=True):
        rows, expected = naive(gallery, query)
        assert found.tolist() == rows[:k]
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
def test_every_distance_and_block_gives_the_same_ranking(distance, block, monkeypatch):
    rng = np.random.default_rng(0)
    gallery, queries = rng.random((30, 9)), rng.random((20, 9))
    ids = np.concatenate([names(3), names(17, "q")])  # the first three are in the gallery
    monkeypatch.setattr(retrieval, "BLOCK_QUERIES", block)
    ranking = filled(gallery, distance).search(queries, ids=ids)
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
        (lambda: Index("L1").search(np.ones((1, 2))), "the gallery is empty"),
        (lambda: filled(np.ones((3, 2))).search(np.ones((1, 2)), 0), "k = 0 is out of range"),
        (lambda: filled(np.ones((3, 2))).search(np.ones((1, 2)), -1), "k = -1 is out of range"),
        (lambda: filled(np.ones((3, 2))).search(np.ones((1, 2)), 4), "k = 4 is out of range"),
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

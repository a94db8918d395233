"""Measures: by hand with the fractions visible, against a naive count, and by their properties."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise, permutations
from math import sqrt
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn import metrics

from cbir_lib import irma_code
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.errors import CbirError
from cbir_lib.evaluation import intervals, measures, summary
from cbir_lib.evaluation.intervals import compute_bootstrap_interval, compute_paired_interval
from cbir_lib.evaluation.measures import (
    average_over_ties,
    average_precision,
    compute_curve_by_rank,
    find_relevant,
    ndcg,
    precision_at,
    precision_recall,
    r_precision,
    recall_at,
)
from cbir_lib.retrieval.index import Index
from cbir_lib.retrieval.ranking import Ranking

unhurried = settings(deadline=None)  # a busy machine is no failure


def rankings(*written):
    """``"X.X"`` is a ranking whose first and third items are relevant."""
    return np.array([[mark == "X" for mark in ranking] for ranking in written])


def random_rankings(seed, queries=50, length=40):
    """Rankings with anything from no to only relevant items."""
    rng = np.random.default_rng(seed)
    return rng.random((queries, length)) < np.linspace(0, 1, queries)[:, None]


def with_a_relevant_item(relevant):
    """The same, with the last item relevant where none was."""
    relevant = relevant.copy()
    relevant[~relevant.any(axis=1), -1] = True
    return relevant


relevances = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=15)).map(
    with_a_relevant_item
)


# Classes


def test_classification_counts_as_a_loop_does():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    measured = summary.summarise_classification(labels, predicted, 4)
    counts = [[0] * 4 for _ in range(4)]
    for label, answer in zip(labels, predicted, strict=True):
        counts[label][answer] += 1
    assert measured["confusion"] == counts
    assert measured["accuracy"] == sum(counts[c][c] for c in range(4)) / 200
    recalls = [counts[c][c] / sum(counts[c]) for c in range(4)]
    assert measured["balanced_accuracy"] == pytest.approx(sum(recalls) / 4)
    assert measured["accuracy"] == metrics.accuracy_score(labels, predicted)
    assert measured["balanced_accuracy"] == metrics.balanced_accuracy_score(labels, predicted)


def test_classification_by_hand():
    measured = summary.summarise_classification([0, 0, 0, 1], [0, 0, 1, 1], 3)  # nothing of class 2
    assert measured["accuracy"] == 3 / 4
    assert measured["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 1) / 2)
    assert measured["confusion"] == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (1, 2), (7, 10), (900, 1000)])
def test_accuracy_interval_is_wilson_s(right, n):
    labels = np.arange(n) % 2
    measured = summary.summarise_classification(
        labels, np.where(np.arange(n) < right, labels, 1 - labels), 2
    )
    z, p = NormalDist().inv_cdf(0.975), right / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert measured["accuracy_interval"] == pytest.approx([middle - half, middle + half], abs=1e-9)
    assert measured["accuracy"] == p


def test_balanced_interval_is_that_of_drawing_images():
    rng = np.random.default_rng(1)
    labels = rng.choice(3, 240, p=[0.6, 0.3, 0.1])
    predicted = np.where(rng.random(240) < 0.8, labels, (labels + 1) % 3)
    interval = summary.summarise_classification(labels, predicted, 3)["balanced_accuracy_interval"]
    drawn = []
    for _ in range(2000):
        rows = rng.integers(0, 240, 240)
        drawn.append(metrics.balanced_accuracy_score(labels[rows], predicted[rows]))
    # Two bootstraps of 2,000 draws each differ by chance in their quantiles.
    np.testing.assert_allclose(interval, np.quantile(drawn, [0.025, 0.975]), atol=0.012)


def test_balanced_interval_of_all_right_and_of_an_empty_class():
    assert intervals.compute_balanced_interval(np.diag([5, 9])) == [1, 1]
    low, high = intervals.compute_balanced_interval(np.array([[3, 1, 0], [0, 6, 0], [0, 0, 0]]))
    assert 0 < low < (3 / 4 + 1) / 2 < high <= 1


@pytest.mark.parametrize(("labels", "predicted"), [([], []), ([0, 1], [0])])
def test_classification_wants_one_answer_an_image(labels, predicted):
    with pytest.raises(CbirError, match=f"{len(predicted)} answers for {len(labels)} images"):
        summary.summarise_classification(labels, predicted, 2)


# Rankings, by hand

BY_HAND = [
    # ranking, average precision, precision at 2, R-precision
    ("X", 1 / 1, 1 / 2, 1 / 1),
    ("X.X", (1 / 1 + 2 / 3) / 2, 1 / 2, 1 / 2),
    (".X", (1 / 2) / 1, 1 / 2, 0 / 1),
    ("..XX", (1 / 3 + 2 / 4) / 2, 0 / 2, 0 / 2),
    ("XX..", (1 / 1 + 2 / 2) / 2, 2 / 2, 2 / 2),
    (".X.XX", (1 / 2 + 2 / 4 + 3 / 5) / 3, 1 / 2, 1 / 3),
    ("XXX", 1, 1, 1),  # nothing but relevant items
]


@pytest.mark.parametrize(("written", "ap", "p_at_2", "r_prec"), BY_HAND)
def test_rankings_by_hand(written, ap, p_at_2, r_prec):
    relevant = rankings(written)
    assert average_precision(relevant) == pytest.approx([ap])
    assert precision_at(relevant, 2) == pytest.approx([p_at_2])
    assert r_precision(relevant) == pytest.approx([r_prec])


def test_precision_recall_by_hand():
    curve = precision_recall(rankings("X.XX."))[0]
    # A third is found at rank 1; two thirds at rank 3, with 2/3; all at rank 4, with 3/4, and the
    # highest precision from there on counts for two thirds as well.
    assert curve[:34] == pytest.approx([1 / 1] * 34)  # recall 0 to 0.33
    assert curve[34:] == pytest.approx([3 / 4] * 67)
    # 0.07 * 100 is 7.000000000000001 in floating point: seven of a hundred are recall 0.07.
    seven = precision_recall(rankings("X" * 7 + "." * 93 + "X" * 93))[0]
    assert seven[:8] == pytest.approx([1] * 8)
    assert seven[8] < 1


def test_a_query_without_relevant_item_has_no_value():
    relevant = rankings("...", "X..")
    for measured in (average_precision, r_precision, precision_recall):
        assert np.isnan(measured(relevant)[0]).all()
        assert np.isfinite(measured(relevant)[1]).all()


# Rankings, by brute force


def naive_average_precision(ranking):
    hits, total = 0, Fraction(0)
    for rank, relevant in enumerate(ranking, 1):
        if relevant:
            hits += 1
            total += Fraction(hits, rank)
    return float(total / hits) if hits else np.nan


def naive_curve(ranking):
    """The highest precision among all ranks that reach a recall, in exact fractions."""
    ranking, points = ranking.tolist(), []
    for rank in range(1, len(ranking) + 1):
        hits = sum(ranking[:rank])
        if sum(ranking):
            points.append((Fraction(hits, sum(ranking)), Fraction(hits, rank)))
    return [
        float(max((p for recall, p in points if recall >= Fraction(level, 100)), default="nan"))
        for level in range(101)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_rankings_as_a_loop_measures_them(seed):
    relevant = random_rankings(seed)
    r = [sum(ranking) for ranking in relevant.tolist()]
    expected = [naive_average_precision(ranking) for ranking in relevant.tolist()]
    np.testing.assert_allclose(average_precision(relevant), expected)
    for k in (1, 5, 10, 60):  # 60: more than there are, none of them relevant
        expected = [sum(ranking[:k]) / k for ranking in relevant.tolist()]
        np.testing.assert_allclose(precision_at(relevant, k), expected)
    expected = [sum(x[:n]) / n if n else np.nan for x, n in zip(relevant.tolist(), r, strict=True)]
    np.testing.assert_allclose(r_precision(relevant), expected)
    expected = [naive_curve(ranking) for ranking in relevant]
    np.testing.assert_allclose(precision_recall(relevant), expected)


def test_average_precision_is_scikit_learn_s_where_there_are_no_ties():
    relevant = with_a_relevant_item(random_rankings(0))  # scikit-learn calls none 0, with a warning
    scores = -np.arange(relevant.shape[1])  # it takes scores, no ranking
    expected = [metrics.average_precision_score(ranking, scores) for ranking in relevant]
    np.testing.assert_allclose(average_precision(relevant), expected)


# Rankings, by their properties


@unhurried
@given(relevances)
def test_measures_stay_in_range(relevant):
    ap = average_precision(relevant)
    assert ((ap > 0) & (ap <= 1)).all()
    assert (ap[relevant.all(axis=1)] == 1).all()
    for values in (r_precision(relevant), precision_at(relevant, 3), precision_recall(relevant)):
        assert ((values >= 0) & (values <= 1)).all()


@unhurried
@given(relevances)
def test_interpolated_precision_never_rises_with_recall(relevant):
    curve = precision_recall(relevant)
    assert (np.diff(curve, axis=1) <= 0).all()
    # At recall 1 at the latest it is the precision of the whole ranking, or better.
    assert (curve[:, -1] >= relevant.mean(axis=1) - 1e-12).all()


@unhurried
@given(st.lists(st.booleans(), min_size=2, max_size=15), st.data())
def test_a_relevant_item_further_forward_raises_average_precision(ranking, data):
    back = data.draw(st.integers(1, len(ranking) - 1))
    front = data.draw(st.integers(0, back - 1))
    worse, better = np.array([ranking, ranking])
    worse[[front, back]] = False, True
    better[[front, back]] = True, False
    assert average_precision(better[None]) > average_precision(worse[None])
    assert r_precision(better[None]) >= r_precision(worse[None])


# Averages over queries


def test_queries_without_relevant_item_are_left_out_and_counted():
    relevant = rankings("X.X", "...", ".XX", "...")
    measured = summary.summarise_retrieval(relevant)
    assert measured["queries"] == 4
    assert measured["queries_without_relevant"] == 2
    first, third = (1 / 1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2
    assert measured["mean_average_precision"] == pytest.approx((first + third) / 2)
    assert measured["mean_average_precision_interval"] == pytest.approx([third, first])
    assert measured["precision_at_1"] == pytest.approx((1 / 1 + 0 / 1) / 2)
    assert measured["precision_at_5"] == pytest.approx((2 / 5 + 2 / 5) / 2)
    assert measured["precision_at_10"] == pytest.approx((2 / 10 + 2 / 10) / 2)
    assert measured["r_precision"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    # Rounded to five places, in the order of the queries.
    assert measured["average_precisions"] == [0.83333, None, 0.58333, None]
    kept = relevant[[0, 2]]
    np.testing.assert_allclose(measured["precision_recall"], precision_recall(kept).mean(axis=0))


@pytest.mark.parametrize("tied", [False, True])
def test_the_precisions_of_each_query_are_those_at_its_ranks(tied):
    relevant = random_rankings(5)
    rng = np.random.default_rng(5)
    distances = np.sort(rng.integers(0, 9, relevant.shape), axis=1) if tied else None
    measured = summary.summarise_retrieval(relevant, distances=distances)
    known = relevant.any(axis=1)
    assert 0 < known.sum() < len(known)
    for name, values in (
        ("average_precisions", average_precision(relevant, distances)),
        ("precisions_at_1", precision_at(relevant, 1, distances)),
        ("precisions_at_10", precision_at(relevant, 10, distances)),
    ):
        assert [value is not None for value in measured[name]] == known.tolist()
        of_known = [value for value in measured[name] if value is not None]
        np.testing.assert_allclose(of_known, values[known], atol=5.1e-6)  # rounded to 5 places
    for name, mean in (
        ("precisions_at_1", "precision_at_1"),
        ("precisions_at_10", "precision_at_10"),
    ):
        assert measured[mean] == pytest.approx(
            np.mean([v for v in measured[name] if v is not None]), abs=1e-5
        )


def measured_in_blocks(block, monkeypatch):
    """All that is measured of some rankings with ties, classes, subjects and gains."""
    relevant = random_rankings(6, queries=53, length=30)
    rng = np.random.default_rng(6)
    options = {
        "distances": np.sort(rng.integers(0, 12, relevant.shape), axis=1).astype(np.float32),
        "classes": rng.choice(list("abc"), 53),
        "subjects": rng.integers(0, 20, 53),
        "gains": rng.random(relevant.shape),
    }
    monkeypatch.setattr(summary, "BLOCK", block)
    return [
        summary.summarise_retrieval(relevant, **options),
        summary.summarise_retrieval(
            relevant, 3, distances=options["distances"], classes=options["classes"]
        ),
        summary.summarise_retrieval(relevant),
    ]


def assert_alike(one, other, place=""):
    """The same keys and lengths, the same None, numbers within a few last bits."""
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert list(one) == list(other), place
        for key in one:
            assert_alike(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), place
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_alike(*pair, f"{place}.{i}")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-12, abs=1e-14), place
    else:
        assert one == other, place


@pytest.mark.parametrize("block", [1, 2, 7, 51, 52, 53, 1000])
def test_measures_are_the_same_in_blocks_of_any_size(block, monkeypatch):
    whole = measured_in_blocks(256, monkeypatch)
    assert whole[0]["queries_without_relevant"] > 0
    assert_alike(measured_in_blocks(block, monkeypatch), whole)


def test_never_more_queries_than_a_block_are_measured_at_once(monkeypatch):
    seen, measure = [], summary._compute_measures
    monkeypatch.setattr(
        summary,
        "_compute_measures",
        lambda some, *more: seen.append(len(some)) or measure(some, *more),
    )
    measured_in_blocks(16, monkeypatch)
    answerable = int(random_rankings(6, queries=53, length=30).any(axis=1).sum())
    assert max(seen) == 16
    assert sum(seen) == 3 * answerable  # each query once, those without an answer never


def test_no_query_with_a_relevant_item_is_an_error():
    with pytest.raises(CbirError, match="no query has a relevant image"):
        summary.summarise_retrieval(rankings("...", "..."))


def test_only_relevant_items_give_one_everywhere():
    everything = np.ones((4, 12), bool)
    measured = summary.summarise_retrieval(
        everything, gains=everything, classes=list("aabb"), subjects=[0, 0, 1, 2]
    )
    assert measured.pop("queries") == 4
    assert measured.pop("queries_without_relevant") == 0
    for name in ("hierarchical_error", "hierarchical_error_by_chance"):
        assert measured.pop(name) == 0
    assert measured.pop("hierarchical_error_interval") == [0, 0]
    for k in (1, 5, 10):
        assert measured.pop(f"recall_at_{k}") == k / 12
    ranks = measured.pop("ranks")
    assert ranks == [*range(1, 13)]
    np.testing.assert_allclose(measured.pop("recall_by_rank"), np.array(ranks) / 12, atol=1e-5)
    for of_class in measured.pop("per_class").values():
        assert of_class.pop("queries") == 2
        assert of_class.pop("hierarchical_error") == 0
        assert all(value == pytest.approx(1) for value in of_class.values() if np.isscalar(value))
        assert np.all(np.array(of_class["precision_recall"]) == 1)
    for name, value in measured.items():
        np.testing.assert_allclose(value, 1, err_msg=name)


def test_a_query_in_the_gallery_does_not_count_itself():
    rng = np.random.default_rng(0)
    vectors, labels = rng.random((30, 4)), rng.integers(0, 3, 30)
    ids = np.array([f"{i:02}" for i in range(30)])
    ranking = Index("L2").add(vectors, ids).search(vectors, ids=ids)
    relevant = find_relevant(ranking, labels, labels)
    # The same as searching a gallery that lacks the query; its own entry comes last and counts not.
    for i in range(30):
        others = np.arange(30) != i
        alone = Index("L2").add(vectors[others], ids[others]).search(vectors[i : i + 1])
        expected = find_relevant(alone, labels[i : i + 1], labels[others])[0]
        assert relevant[i].tolist() == [*expected.tolist(), False]
    assert (relevant.sum(axis=1) == [(labels == label).sum() - 1 for label in labels]).all()
    # Were it counted, it would be the first, and right.
    naive = find_relevant(Index("L2").add(vectors, ids).search(vectors), labels, labels)
    assert average_precision(naive).mean() > average_precision(relevant).mean()


def test_relevance_compares_classes():
    ranking = Ranking(np.array([[2, 0, 1], [1, 2, -1]]), np.zeros((2, 3), np.float32))
    gallery_labels = np.array([5, 6, 5])  # row -1 is no row: it must not count as the last
    relevant = find_relevant(ranking, [5, 5], gallery_labels)
    assert relevant.tolist() == [[True, True, False], [False, True, False]]


# Equal distances

MEASURES = {
    "average precision": average_precision,
    "R-precision": r_precision,
    "precision at 2": lambda relevant, distances=None: precision_at(relevant, 2, distances),
    "recall at 3": lambda relevant, distances=None: recall_at(relevant, 3, distances),
    "nDCG": ndcg,
    "nDCG at 2": lambda relevant, distances=None: ndcg(relevant, distances, 2),
    "precision by rank": lambda relevant, distances=None: compute_curve_by_rank(
        relevant, np.arange(1, relevant.shape[1] + 1), distances
    )[0],
    "recall by rank": lambda relevant, distances=None: compute_curve_by_rank(
        relevant, np.arange(1, relevant.shape[1] + 1), distances
    )[1],
}


def orders(relevant, distances):
    """(P, K) relevance in every order in which the distances are still sorted, each as often."""
    return np.array(
        [
            [relevant[item] for item in order]
            for order in permutations(range(len(relevant)))
            if all(distances[a] <= distances[b] for a, b in pairwise(order))
        ]
    )


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@unhurried
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_equal_distances_are_the_mean_over_all_their_orders(measure, items):
    distances, relevant = (np.array(part) for part in zip(*sorted(items), strict=True))
    values = measure(relevant[None], distances[None].astype(np.float32))
    every = measure(orders(relevant, distances))
    if relevant.any():
        np.testing.assert_allclose(values[0], every.mean(axis=0), atol=1e-12)
    else:
        np.testing.assert_array_equal(values[0], every[0])  # NaN or 0


@unhurried
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=6))
def test_graded_gain_of_equal_distances_is_the_mean_over_all_their_orders(items):
    distances, gains = (np.array(part) for part in zip(*sorted(items), strict=True))
    every = orders(gains, distances)
    for k in (None, 1, 3):
        gain = ndcg(gains[None] / 4, distances[None], k)[0]
        assert gain == pytest.approx(ndcg(every / 4, k=k).mean(), abs=1e-12, nan_ok=True)
    np.testing.assert_allclose(
        average_over_ties(gains[None], distances[None])[0], every.mean(axis=0)
    )


@unhurried
@given(relevances, st.integers(0, 10**6))
def test_queries_do_not_touch_each_other(relevant, seed):
    distances = np.sort(np.random.default_rng(seed).integers(0, 4, relevant.shape), axis=1)
    for measure in (*MEASURES.values(), precision_recall):
        one_by_one = [
            measure(relevant[q : q + 1], distances[q : q + 1])[0] for q in range(len(relevant))
        ]
        np.testing.assert_allclose(measure(relevant, distances), one_by_one, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_without_equal_distances_nothing_changes(seed):
    relevant = random_rankings(seed)
    distances = np.cumsum(np.random.default_rng(seed).random(relevant.shape) + 0.01, axis=1)
    for measure in (*MEASURES.values(), precision_recall):  # to the last bit
        np.testing.assert_array_equal(measure(relevant, distances), measure(relevant))


def test_the_order_of_the_gallery_is_no_advantage():
    # The gallery sorted by class, every distance equal: in that order, class a would be perfect.
    labels = np.repeat([0, 1], 10)
    ranking = Ranking.of(np.ones((2, 20), np.float32))
    relevant = find_relevant(ranking, [0, 1], labels)
    assert average_precision(relevant)[0] == 1
    luckless = average_precision(relevant, ranking.distances)
    assert luckless[0] == pytest.approx(luckless[1])
    measured = summary.summarise_retrieval(relevant, distances=ranking.distances)
    assert measured["precision_at_1"] == pytest.approx(1 / 2)
    assert measured["mean_average_precision"] == pytest.approx(luckless[0])
    assert measured["mean_average_precision_by_chance"] == pytest.approx(luckless[0])


def test_interpolation_of_equal_distances_by_hand():
    # Two equal items, one relevant: precision 1/2 at either rank, as expected at each. Interpolated
    # first and averaged then it would be (1 + 1/2) / 2.
    curve = precision_recall(rankings("X.", ".X"), np.zeros((2, 2)))
    assert curve == pytest.approx(np.full((2, 101), 1 / 2))


def test_items_left_out_are_no_equals_of_others():
    # The last two are missing: at distance infinity, never relevant.
    relevant = rankings("X.X..")
    distances = np.array([[1.0, 2, 3, np.inf, np.inf]])
    for measure in MEASURES.values():
        np.testing.assert_array_equal(measure(relevant, distances), measure(relevant))


# Other libraries

OURS = {
    "map": average_precision,
    "precision@5": lambda relevant, distances=None: precision_at(relevant, 5, distances),
    "recall@5": lambda relevant, distances=None: recall_at(relevant, 5, distances),
    "r-precision": r_precision,
    "ndcg": ndcg,
    "ndcg@5": lambda relevant, distances=None: ndcg(relevant, distances, 5),
}
# ranx compiles for a minute what it then does in a moment: in a process of its own it need not.
RANX = """
import json, sys
from ranx import Qrels, Run, evaluate
answers = []
for measures, gains, scores in json.load(sys.stdin):
    qrels = {f"q{q:04}": {f"d{d}": gain for d, gain in enumerate(row) if gain} or {"none": 0}
             for q, row in enumerate(gains)}
    run = {f"q{q:04}": {f"d{d}": score for d, score in enumerate(scores)}
           for q in range(len(gains))}
    found = evaluate(Qrels(qrels), Run(run), measures, return_mean=False)
    answers.append({name: values.tolist() for name, values in found.items()})
json.dump(answers, sys.stdout)
"""
ALIKE = [[1, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0], [0] * 6, [3, 0, 1, 0, 2, 0]]


def cases_for_ranx():
    """Measures, (Q, K) gains of items as they are given, and their K scores."""
    relevant = random_rankings(0, 30, 20)
    relevant[1] = relevant[0] = False  # none relevant; one relevant
    relevant[1, 7] = True
    gains = np.random.default_rng(1).integers(0, 5, (20, 12))
    yield [*OURS], relevant.astype(int), -np.arange(20)
    yield ["ndcg", "ndcg@5"], gains, -np.arange(12)
    for items in ALIKE:  # every order of them, all at the same score
        names = ["ndcg", "ndcg@5"] if max(items) > 1 else [*OURS]
        yield names, np.array([*permutations(items)]), np.zeros(len(items))


@pytest.fixture(scope="module")
def ranx():
    """What ranx says of each case: by measure, (Q,) values."""
    cases = [[names, *(part.tolist() for part in arrays)] for names, *arrays in cases_for_ranx()]
    done = subprocess.run(
        [sys.executable, "-c", RANX],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        check=True,
    )
    answers = json.loads(done.stdout)
    return [{name: np.array(values) for name, values in answer.items()} for answer in answers]


def test_measures_are_those_of_ranx(ranx):
    for (names, gains, _), theirs in zip(cases_for_ranx(), ranx[:2], strict=False):
        for name in names:
            ours = OURS[name](gains if gains.max() > 1 else gains.astype(bool))
            # Where nothing is relevant ranx counts 0; here there is no value.
            np.testing.assert_allclose(np.nan_to_num(ours), theirs[name], atol=1e-6, err_msg=name)
            assert theirs[name].std() > 0.01


@pytest.mark.parametrize("case", range(len(ALIKE)))
def test_equal_distances_are_ranx_s_mean_over_the_orders_of_its_input(case, ranx):
    items, theirs = np.array([ALIKE[case]]), ranx[2 + case]
    for name, values in theirs.items():
        ours = OURS[name](items if items.max() > 1 else items.astype(bool), np.zeros(items.shape))
        assert np.nan_to_num(ours)[0] == pytest.approx(values.mean(), abs=1e-6), name
    assert (theirs["ndcg"].std() > 0) == items.any()  # it keeps the order of equals


def of_metric_learning(queries, labels, gallery=None, gallery_labels=None):
    """Precision at 1, R-precision and mAP of the calculator, on all of the gallery."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    names = ("precision_at_1", "r_precision", "mean_average_precision")
    calculator = AccuracyCalculator(include=names, k=None)  # with another k the others are wrong
    accuracies = calculator.get_accuracy(queries, labels, gallery, gallery_labels)
    return [accuracies[name] for name in names]


def ours_on(queries, labels, gallery, gallery_labels, itself=False):
    ids = np.array([f"g{i}" for i in range(len(gallery))])
    index = Index("L2").add(gallery, ids)
    ranking = index.search(queries, ids=ids if itself else None)
    measured = summary.summarise_retrieval(
        find_relevant(ranking, labels, gallery_labels), distances=ranking.distances
    )
    return [measured[k] for k in ("precision_at_1", "r_precision", "mean_average_precision")]


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_measures_are_those_of_pytorch_metric_learning(classes):
    # With 40 classes some have one relevant item, some queries have none: both leave these out.
    rng = np.random.default_rng(classes)
    queries, gallery = rng.random((30, 3), np.float32), rng.random((50, 3), np.float32)
    labels, gallery_labels = rng.integers(0, classes, 30), rng.integers(0, classes, 50)
    assert ours_on(queries, labels, gallery, gallery_labels) == pytest.approx(
        of_metric_learning(queries, labels, gallery, gallery_labels), abs=1e-6
    )
    assert ours_on(gallery, gallery_labels, gallery, gallery_labels, itself=True) == pytest.approx(
        of_metric_learning(gallery, gallery_labels), abs=1e-6
    )


def test_equal_distances_are_metric_learning_s_mean_over_the_orders_of_the_gallery():
    gallery_labels = [0, 0, 1, 2, 1]
    query, gallery = np.zeros((2, 2), np.float32), np.ones((5, 2), np.float32)
    labels = np.array([0, 2])  # of the second, one is relevant
    every = {*permutations(gallery_labels)}  # each as often, as equals are alike
    theirs = [of_metric_learning(query, labels, gallery, np.array(order)) for order in every]
    ours = ours_on(query, labels, gallery, np.array(gallery_labels))
    assert ours == pytest.approx(np.mean(theirs, axis=0), abs=1e-6)
    assert np.std(theirs, axis=0).min() > 0


# Codes, classes, curves

CODES = np.array(["1121-127-700-500", "1121-120-700-500", "1121-120-942-700"])


def test_agreement_is_one_less_the_hierarchical_error():
    gallery_codes = CODES[[0, 1, 2, 2]]
    ranking = Ranking(np.array([[2, 0, 1, 3], [1, 0, 3, -1]]), np.zeros((2, 4), np.float32))
    agreement = measures.compute_code_agreement(ranking, CODES[[0, 1]], gallery_codes)
    branching = irma_code.Branching.from_codes(gallery_codes)
    for query in range(2):
        for rank, row in enumerate(ranking.rows[query]):
            wrong = irma_code.compute_hierarchical_error(
                CODES[query], gallery_codes[row], branching
            )
            assert agreement[query, rank] == pytest.approx(1 - wrong if row >= 0 else 0)
    assert agreement[0, 1] == agreement[1, 0] == 1  # the same code
    assert (
        0 < agreement[0, 0] < agreement[0, 2] < 1
    )  # another anatomy as well, another direction only


def test_graded_measures_by_hand():
    # Gains 1/2, 1, 0 at distances 1, 2, 2: the second and third are expected to gain 1/2 each.
    gains, distances = np.array([[0.5, 1.0, 0.0]]), np.array([[1.0, 2.0, 2.0]])
    measured = summary.summarise_retrieval(rankings("X.."), distances=distances, gains=gains)
    best = 1 / np.log2(2) + 0.5 / np.log2(3)
    assert measured["ndcg"] == pytest.approx(
        (0.5 / np.log2(2) + 0.5 / np.log2(3) + 0.5 / np.log2(4)) / best
    )
    assert measured["hierarchical_error"] == pytest.approx(1 - 0.5)
    assert measured["hierarchical_error_by_chance"] == pytest.approx(1 - (0.5 + 1 + 0) / 3)


def test_raw_curve_by_hand():
    precision, recall = compute_curve_by_rank(rankings("X.X.", "..X."), np.array([1, 3, 4]))
    np.testing.assert_allclose(precision, [[1 / 1, 2 / 3, 2 / 4], [0 / 1, 1 / 3, 1 / 4]])
    np.testing.assert_allclose(recall, [[1 / 2, 2 / 2, 2 / 2], [0 / 1, 1 / 1, 1 / 1]])
    measured = summary.summarise_retrieval(np.tile(rankings("X" * 60 + "." * 1440), (2, 1)))
    ranks = measured["ranks"]
    assert ranks[0] == 1 and ranks[-1] == 1500 and len(ranks) <= summary.RANKS
    assert measured["recall_by_rank"][-1] == 1
    assert measured["precision_by_rank"][-1] == pytest.approx(60 / 1500)


def test_classes_count_alike_in_the_macro_mean():
    relevant = rankings("X.", ".X", ".X", "X.", "..")
    measured = summary.summarise_retrieval(relevant, classes=np.array(["a", "b", "b", "b", "b"]))
    of_a, of_b = 1 / 1, (1 / 2 + 1 / 2 + 1 / 1) / 3  # the last has nothing relevant
    assert measured["macro_mean_average_precision"] == pytest.approx((of_a + of_b) / 2)
    assert measured["mean_average_precision"] == pytest.approx((of_a + 3 * of_b) / 4)
    assert measured["per_class"]["a"]["queries"] == 1
    assert measured["per_class"]["b"]["queries"] == 3
    assert measured["per_class"]["b"]["mean_average_precision"] == pytest.approx(of_b)
    curve = precision_recall(relevant[1:4]).mean(axis=0)
    np.testing.assert_allclose(
        measured["per_class"]["b"]["precision_recall"], curve[::10], atol=1e-5
    )


def test_owners():
    def numbers(*names):
        return intervals.number_subjects(pd.DataFrame({"subject_id": names}))

    assert numbers("s2", "s1", "s2").tolist() == [0, 1, 0]
    assert numbers("s2", "", "s2", "").tolist() == [0, 1, 0, 2]  # unknown: each its own
    assert numbers("", "") is None
    assert intervals.number_subjects(pd.DataFrame({"image_id": ["a"]})) is None


# The interval of the mean


def test_bootstrap_interval_contains_the_mean_and_shrinks_with_n():
    values = np.random.default_rng(0).random(4000)
    widths = []
    for n in (10, 100, 1000):
        low, high = compute_bootstrap_interval(values[:n])
        assert low < values[:n].mean() < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    # For a mean of 1000 the percentile interval is close to the normal one.
    normal = 2 * 1.96 * values[:1000].std(ddof=1) / sqrt(1000)
    assert widths[-1] == pytest.approx(normal, rel=0.1)


def test_bootstrap_interval_follows_from_its_seed():
    values = np.random.default_rng(0).random(50)
    assert compute_bootstrap_interval(values, 1) == compute_bootstrap_interval(values, 1)
    assert compute_bootstrap_interval(values, 1) != compute_bootstrap_interval(values, 2)


@pytest.mark.parametrize("values", [[0.25], [1.0] * 7])
def test_bootstrap_interval_of_a_constant_is_that_value(values):
    assert compute_bootstrap_interval(np.array(values)) == [values[0]] * 2


def compute_drawn_interval(values, subjects=None, groups=None):
    """The interval that the summary of a test split has over subjects, and of means by class."""
    shares = intervals.draw_rows(len(values), np.random.default_rng(0), subjects)
    return intervals.compute_percentile_interval(intervals.draw_means(shares, values, groups))


def test_interval_over_subjects_is_that_of_drawing_subjects():
    rng = np.random.default_rng(0)
    subjects = rng.integers(0, 30, 120)
    values = rng.normal(0, 1, 30)[subjects] + rng.normal(0, 0.3, 120)
    interval = compute_drawn_interval(values, subjects)
    images = [np.flatnonzero(subjects == s) for s in np.unique(subjects)]
    drawn = []
    for _ in range(4000):
        rows = np.concatenate([images[s] for s in rng.integers(0, len(images), len(images))])
        drawn.append(values[rows].mean())
    np.testing.assert_allclose(
        interval, np.quantile(drawn, [0.025, 0.975]), atol=0.2 * np.std(drawn)
    )
    alone = compute_bootstrap_interval(values)
    assert interval[1] - interval[0] > 1.3 * (alone[1] - alone[0])
    # Each its own subject: as over queries, but for chance.
    own = compute_drawn_interval(values, np.arange(120))
    np.testing.assert_allclose(own, alone, atol=0.2 * values.std() / sqrt(120))


def test_interval_of_groups_is_that_of_drawing_queries():
    rng = np.random.default_rng(1)
    groups = rng.choice(list("aab"), 80)
    values = rng.random(80) + (groups == "b")
    interval = compute_drawn_interval(values, groups=groups)
    drawn = []
    for _ in range(4000):
        rows = rng.integers(0, 80, 80)
        drawn.append(np.mean([values[rows][groups[rows] == g].mean() for g in "ab"]))
    np.testing.assert_allclose(
        interval, np.quantile(drawn, [0.025, 0.975]), atol=0.2 * np.std(drawn)
    )


@pytest.mark.parametrize("of_subjects", [False, True])
def test_the_interval_holds_the_mean_in_about_95_of_100_cases(of_subjects):
    rng, held = np.random.default_rng(2), 0
    subjects = np.repeat(np.arange(60), 4)
    for _ in range(120):
        values = rng.normal(0, 1, 60)[subjects] + rng.normal(0, 0.5, 240)
        low, high = compute_drawn_interval(values, subjects if of_subjects else None)
        held += low <= 0 <= high
    # 95 % of 120 are 114, give or take 2.4; as if independent, it holds far more seldom.
    assert held >= 107 if of_subjects else held < 95


# The interval of a difference


def test_paired_interval_over_subjects_is_that_of_drawing_subjects():
    rng = np.random.default_rng(3)
    subjects = rng.integers(0, 15, 60)
    differences = rng.normal(0, 0.5, 15)[subjects] + rng.normal(0.1, 0.3, (4, 60))
    interval = compute_paired_interval(differences, subjects=subjects)
    images = [np.flatnonzero(subjects == s) for s in np.unique(subjects)]
    drawn = []
    for _ in range(4000):
        columns = np.concatenate([images[s] for s in rng.integers(0, len(images), len(images))])
        drawn.append(differences[rng.integers(0, 4, 4)][:, columns].mean())
    np.testing.assert_allclose(
        interval, np.quantile(drawn, [0.025, 0.975]), atol=0.2 * np.std(drawn)
    )
    alone = compute_paired_interval(differences)
    assert interval[1] - interval[0] > 1.2 * (alone[1] - alone[0])


def test_paired_interval_is_that_of_drawing_seeds_and_images():
    rng = np.random.default_rng(2)
    # Differences of -1, 0 and 1, with a share that depends on the seed and on the image.
    lean = rng.normal(0, 0.3, (5, 1)) + rng.normal(0.1, 0.3, (1, 60))
    differences = np.sign((rng.normal(lean, 0.5)).round())
    interval = compute_paired_interval(differences)
    drawn = []
    for _ in range(4000):
        seeds, images = rng.integers(0, 5, 5), rng.integers(0, 60, 60)
        drawn.append(np.mean([differences[s, i] for s in seeds for i in images]))
    drawn = np.array(drawn)
    # Quantiles of two bootstraps of 2,000 and 4,000 draws differ by chance.
    np.testing.assert_allclose(interval, np.quantile(drawn, [0.025, 0.975]), atol=0.2 * drawn.std())
    # One that drew images alone would be narrower.
    alone = compute_paired_interval(differences.mean(axis=0, keepdims=True))
    assert alone[1] - alone[0] < 0.9 * (interval[1] - interval[0])


@pytest.mark.parametrize("images", [400, 2000])
def test_paired_interval_of_one_seed_is_close_to_the_normal_one(images):
    differences = np.random.default_rng(3).choice([-1, 0, 0, 0, 1, 1], (1, images))
    low, high = compute_paired_interval(differences)
    half = NormalDist().inv_cdf(0.975) * differences.std() / sqrt(images)
    expected = [differences.mean() - half, differences.mean() + half]
    np.testing.assert_allclose([low, high], expected, atol=0.15 * half)


def test_paired_interval_of_one_image_is_that_of_the_seeds():
    # Four seeds, one image: the mean of four draws from (0, 0, 0, 4) is a number of them in 0..4,
    # binomial(4, 1/4): 0 with (3/4)^4 = 0.32, 3 or more with 0.051, 4 with 0.004.
    assert compute_paired_interval(np.array([[0], [0], [0], [4]])) == [0, 3]


@pytest.mark.parametrize("shape", [(1, 1), (3, 7)])
def test_paired_interval_of_a_constant_is_that_value(shape):
    assert compute_paired_interval(np.full(shape, 0.25)) == pytest.approx([0.25, 0.25])


def test_paired_interval_follows_from_its_seed_and_changes_its_sign_with_the_order():
    differences = np.random.default_rng(0).choice([-1, 0, 1], (3, 50))
    assert compute_paired_interval(differences, 1) == compute_paired_interval(differences, 1)
    assert compute_paired_interval(differences, 1) != compute_paired_interval(differences, 2)
    low, high = compute_paired_interval(differences)
    assert compute_paired_interval(-differences) == pytest.approx([-high, -low])


# Examples


def radiographs(labels, prefix):
    records = pd.DataFrame({"image_id": [f"{prefix}{i}" for i in range(len(labels))]})
    images = np.zeros((len(labels), 8, 8), np.uint8)
    remarks = pd.DataFrame()
    return RadiographSet("toy", images, np.array(labels), ("a", "b"), records, remarks, "")


def test_examples_obey_their_rule():
    gallery = radiographs([0, 1, 0, 1], "g")
    orders = {  # of the gallery's rows, with the average precision for class a
        "XX..": [0, 2, 1, 3],  # (1/1 + 2/2) / 2
        "X.X.": [0, 1, 2, 3],  # (1/1 + 2/3) / 2
        ".XX.": [1, 0, 2, 3],  # (1/2 + 2/3) / 2
        "..XX": [1, 3, 0, 2],  # (1/3 + 2/4) / 2
    }
    # Class a: from the lowest, "..XX" twice, "X.X." three times; the median is "X.X.". Class b is
    # one query, to which "..XX" is "XX..".
    written = ["X.X.", "..XX", "X.X.", "..XX", "X.X.", "..XX"]
    queries = radiographs([0, 0, 0, 0, 0, 1], "q")
    rows = np.array([orders[ranking] for ranking in written])
    distances = np.tile(np.float32([0.5, 1, 2, 3]), (6, 1))
    examples = summary.choose_examples(Ranking(rows, distances), queries, gallery, neighbours=3)
    # Of equal values the first query is taken, for the median as for the lowest.
    assert [(e["choice"], e["label"], e["query"]) for e in examples] == [
        ("median", 0, "q0"),
        ("median", 1, "q5"),
        ("lowest", 0, "q1"),
        ("lowest", 1, "q5"),
    ]
    median, lowest = examples[0], examples[2]
    assert median["average_precision"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert lowest["average_precision"] == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert lowest["neighbours"] == ["g1", "g3", "g0"]
    assert lowest["neighbour_labels"] == [1, 1, 0]
    assert lowest["distances"] == [0.5, 1, 2]


def test_examples_leave_out_what_cannot_be_shown():
    # The only query of class b has no relevant item; the others are the gallery itself, whose last
    # entry, the query, is missing.
    vectors, ids = np.array([[0.0], [1.0], [5.0]]), np.array(["q0", "q1", "q2"])
    queries = radiographs([0, 0, 1], "q")
    ranking = Index("L1").add(vectors, ids).search(vectors, ids=ids)
    examples = summary.choose_examples(ranking, queries, queries)
    assert {e["label"] for e in examples} == {0}
    for example in examples:
        assert example["query"] not in example["neighbours"]
        assert len(example["neighbours"]) == len(example["distances"]) == 2
        assert len(example["neighbour_labels"]) == 2
        assert np.isfinite(example["distances"]).all()

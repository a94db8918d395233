"""Measures: by hand with the fractions visible, against a naive count, and by their properties."""

from fractions import Fraction
from math import sqrt
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn import metrics

from cbir_lib import evaluation
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.errors import CbirError
from cbir_lib.evaluation import (
    average_precision,
    bootstrap_interval,
    paired_interval,
    precision_at,
    precision_recall,
    r_precision,
    relevance,
)
from cbir_lib.retrieval import Index, Ranking

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
    found = evaluation.classification(labels, predicted, 4)
    counts = [[0] * 4 for _ in range(4)]
    for label, answer in zip(labels, predicted, strict=True):
        counts[label][answer] += 1
    assert found["confusion"] == counts
    assert found["accuracy"] == sum(counts[c][c] for c in range(4)) / 200
    recalls = [counts[c][c] / sum(counts[c]) for c in range(4)]
    assert found["balanced_accuracy"] == pytest.approx(sum(recalls) / 4)
    assert found["accuracy"] == metrics.accuracy_score(labels, predicted)
    assert found["balanced_accuracy"] == metrics.balanced_accuracy_score(labels, predicted)


def test_classification_by_hand():
    found = evaluation.classification([0, 0, 0, 1], [0, 0, 1, 1], 3)  # nothing of class 2
    assert found["accuracy"] == 3 / 4
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 1) / 2)
    assert found["confusion"] == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (1, 2), (7, 10), (900, 1000)])
def test_accuracy_interval_is_wilson_s(right, n):
    labels = np.arange(n) % 2
    found = evaluation.classification(labels, np.where(np.arange(n) < right, labels, 1 - labels), 2)
    z, p = NormalDist().inv_cdf(0.975), right / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert found["accuracy_interval"] == pytest.approx([middle - half, middle + half], abs=1e-9)
    assert found["accuracy"] == p


def test_balanced_interval_is_that_of_drawing_images():
    rng = np.random.default_rng(1)
    labels = rng.choice(3, 240, p=[0.6, 0.3, 0.1])
    predicted = np.where(rng.random(240) < 0.8, labels, (labels + 1) % 3)
    found = evaluation.classification(labels, predicted, 3)["balanced_accuracy_interval"]
    drawn = []
    for _ in range(2000):
        rows = rng.integers(0, 240, 240)
        drawn.append(metrics.balanced_accuracy_score(labels[rows], predicted[rows]))
    # Two bootstraps of 2,000 draws each differ by chance in their quantiles.
    np.testing.assert_allclose(found, np.quantile(drawn, [0.025, 0.975]), atol=0.012)


def test_balanced_interval_of_all_right_and_of_an_empty_class():
    assert evaluation.balanced_interval(np.diag([5, 9])) == [1, 1]
    low, high = evaluation.balanced_interval(np.array([[3, 1, 0], [0, 6, 0], [0, 0, 0]]))
    assert 0 < low < (3 / 4 + 1) / 2 < high <= 1


@pytest.mark.parametrize(("labels", "predicted"), [([], []), ([0, 1], [0])])
def test_classification_wants_one_answer_an_image(labels, predicted):
    with pytest.raises(CbirError, match=f"{len(predicted)} answers for {len(labels)} images"):
        evaluation.classification(labels, predicted, 2)


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
    found = evaluation.retrieval(relevant)
    assert found["queries"] == 4
    assert found["queries_without_relevant"] == 2
    first, third = (1 / 1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2
    assert found["mean_average_precision"] == pytest.approx((first + third) / 2)
    assert found["mean_average_precision_interval"] == pytest.approx([third, first])
    assert found["precision_at_1"] == pytest.approx((1 / 1 + 0 / 1) / 2)
    assert found["precision_at_5"] == pytest.approx((2 / 5 + 2 / 5) / 2)
    assert found["precision_at_10"] == pytest.approx((2 / 10 + 2 / 10) / 2)
    assert found["r_precision"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    # Rounded to five places, in the order of the queries.
    assert found["average_precisions"] == [0.83333, None, 0.58333, None]
    kept = relevant[[0, 2]]
    np.testing.assert_allclose(found["precision_recall"], precision_recall(kept).mean(axis=0))


def test_no_query_with_a_relevant_item_is_an_error():
    with pytest.raises(CbirError, match="no query has a relevant image"):
        evaluation.retrieval(rankings("...", "..."))


def test_only_relevant_items_give_one_everywhere():
    found = evaluation.retrieval(np.ones((4, 12), bool))
    assert found.pop("queries") == 4
    assert found.pop("queries_without_relevant") == 0
    for value in found.values():
        assert np.all(np.array(value) == 1)


def test_a_query_in_the_gallery_does_not_count_itself():
    rng = np.random.default_rng(0)
    vectors, labels = rng.random((30, 4)), rng.integers(0, 3, 30)
    ids = np.array([f"{i:02}" for i in range(30)])
    ranking = Index("L2").add(vectors, ids).search(vectors, ids=ids)
    relevant = relevance(ranking, labels, labels)
    # The same as searching a gallery that lacks the query; its own entry comes last and counts not.
    for i in range(30):
        others = np.arange(30) != i
        alone = Index("L2").add(vectors[others], ids[others]).search(vectors[i : i + 1])
        expected = relevance(alone, labels[i : i + 1], labels[others])[0]
        assert relevant[i].tolist() == [*expected.tolist(), False]
    assert (relevant.sum(axis=1) == [(labels == label).sum() - 1 for label in labels]).all()
    # Were it counted, it would be the first, and right.
    naive = relevance(Index("L2").add(vectors, ids).search(vectors), labels, labels)
    assert average_precision(naive).mean() > average_precision(relevant).mean()


def test_relevance_compares_classes():
    ranking = Ranking(np.array([[2, 0, 1], [1, 2, -1]]), np.zeros((2, 3), np.float32))
    gallery_labels = np.array([5, 6, 5])  # row -1 is no row: it must not count as the last
    found = relevance(ranking, [5, 5], gallery_labels)
    assert found.tolist() == [[True, True, False], [False, True, False]]


# The interval of the mean


def test_bootstrap_interval_contains_the_mean_and_shrinks_with_n():
    values = np.random.default_rng(0).random(4000)
    widths = []
    for n in (10, 100, 1000):
        low, high = bootstrap_interval(values[:n])
        assert low < values[:n].mean() < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    # For a mean of 1000 the percentile interval is close to the normal one.
    normal = 2 * 1.96 * values[:1000].std(ddof=1) / sqrt(1000)
    assert widths[-1] == pytest.approx(normal, rel=0.1)


def test_bootstrap_interval_follows_from_its_seed():
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, 1) == bootstrap_interval(values, 1)
    assert bootstrap_interval(values, 1) != bootstrap_interval(values, 2)


@pytest.mark.parametrize("values", [[0.25], [1.0] * 7])
def test_bootstrap_interval_of_a_constant_is_that_value(values):
    assert bootstrap_interval(np.array(values)) == [values[0]] * 2


# The interval of a difference


def test_paired_interval_is_that_of_drawing_seeds_and_images():
    rng = np.random.default_rng(2)
    # Differences of -1, 0 and 1, with a share that depends on the seed and on the image.
    lean = rng.normal(0, 0.3, (5, 1)) + rng.normal(0.1, 0.3, (1, 60))
    differences = np.sign((rng.normal(lean, 0.5)).round())
    found = paired_interval(differences)
    drawn = []
    for _ in range(4000):
        seeds, images = rng.integers(0, 5, 5), rng.integers(0, 60, 60)
        drawn.append(np.mean([differences[s, i] for s in seeds for i in images]))
    drawn = np.array(drawn)
    # Quantiles of two bootstraps of 2,000 and 4,000 draws differ by chance.
    np.testing.assert_allclose(found, np.quantile(drawn, [0.025, 0.975]), atol=0.2 * drawn.std())
    # One that drew images alone would be narrower.
    alone = paired_interval(differences.mean(axis=0, keepdims=True))
    assert alone[1] - alone[0] < 0.9 * (found[1] - found[0])


@pytest.mark.parametrize("images", [400, 2000])
def test_paired_interval_of_one_seed_is_close_to_the_normal_one(images):
    differences = np.random.default_rng(3).choice([-1, 0, 0, 0, 1, 1], (1, images))
    low, high = paired_interval(differences)
    half = NormalDist().inv_cdf(0.975) * differences.std() / sqrt(images)
    expected = [differences.mean() - half, differences.mean() + half]
    np.testing.assert_allclose([low, high], expected, atol=0.15 * half)


def test_paired_interval_of_one_image_is_that_of_the_seeds():
    # Four seeds, one image: the mean of four draws from (0, 0, 0, 4) is a number of them in 0..4,
    # binomial(4, 1/4): 0 with (3/4)^4 = 0.32, 3 or more with 0.051, 4 with 0.004.
    assert paired_interval(np.array([[0], [0], [0], [4]])) == [0, 3]


@pytest.mark.parametrize("shape", [(1, 1), (3, 7)])
def test_paired_interval_of_a_constant_is_that_value(shape):
    assert paired_interval(np.full(shape, 0.25)) == pytest.approx([0.25, 0.25])


def test_paired_interval_follows_from_its_seed_and_changes_its_sign_with_the_order():
    differences = np.random.default_rng(0).choice([-1, 0, 1], (3, 50))
    assert paired_interval(differences, 1) == paired_interval(differences, 1)
    assert paired_interval(differences, 1) != paired_interval(differences, 2)
    low, high = paired_interval(differences)
    assert paired_interval(-differences) == pytest.approx([-high, -low])


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
    found = evaluation.examples(Ranking(rows, distances), queries, gallery, neighbours=3)
    # Of equal values the first query is taken, for the median as for the lowest.
    assert [(e["choice"], e["label"], e["query"]) for e in found] == [
        ("median", 0, "q0"),
        ("median", 1, "q5"),
        ("lowest", 0, "q1"),
        ("lowest", 1, "q5"),
    ]
    median, lowest = found[0], found[2]
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
    found = evaluation.examples(ranking, queries, queries)
    assert {e["label"] for e in found} == {0}
    for example in found:
        assert example["query"] not in example["neighbours"]
        assert len(example["neighbours"]) == len(example["distances"]) == 2
        assert len(example["neighbour_labels"]) == 2
        assert np.isfinite(example["distances"]).all()

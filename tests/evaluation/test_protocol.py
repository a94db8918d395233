"""The rule of the comparison: what is chosen on which split, and what is said of it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import ParameterGrid
from sklearn.neighbors import KNeighborsClassifier

from cbir_lib.datasets.radiographs import SPLITS, RadiographSet
from cbir_lib.descriptors import build_descriptor
from cbir_lib.descriptors.combination import combine
from cbir_lib.evaluation import classifiers, intervals, measures, protocol
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.retrieval.index import Index
from cbir_lib.retrieval.ranking import Ranking
from cbir_lib.sampling import space_evenly
from cbir_lib.study import results

COUNTS = {"train": 60, "validation": 30, "test": 40}


@pytest.fixture(scope="module")
def data():
    """Drawings of three classes, told apart by where they are bright, with much noise."""
    rng = np.random.default_rng(0)
    count = sum(COUNTS.values())
    labels = np.arange(count) % 3
    images = rng.normal(110, 45, (count, 32, 32))
    for image, label in zip(images, labels, strict=True):
        image[:, 10 * label : 10 * label + 12] += 45
    return RadiographSet(
        name="drawings",
        images=images.clip(0, 255).astype(np.uint8),
        labels=labels,
        class_names=("left", "middle", "right"),
        records=pd.DataFrame(
            {
                "image_id": [f"d{i:03}" for i in range(count)],
                "split": np.repeat(list(COUNTS), list(COUNTS.values())),
            }
        ),
        remarks=pd.DataFrame(),
        checksum="00",
    )


@pytest.fixture(scope="module")
def prepared(data):
    return {split: data.split(split).images for split in SPLITS}


@pytest.fixture(scope="module")
def labels(data):
    return {split: data.split(split).labels for split in SPLITS}


# Nearest neighbours


@given(
    rows=st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=1, max_size=5),
    k=st.integers(1, 4),
)
def test_vote_is_the_most_frequent_class_of_equals_the_nearest(rows, k):
    gallery = np.array([0, 0, 1, 1, 2, 2])
    answers = classifiers.vote(Ranking(np.array(rows), np.zeros((len(rows), 4))), gallery, k)
    for row, answer in zip(rows, answers, strict=True):
        named = [gallery[r] for r in row[:k]]
        most = max(named.count(label) for label in named)
        assert answer == next(label for label in named if named.count(label) == most)


def test_a_missing_neighbour_does_not_vote():
    ranking = Ranking(np.array([[2, -1, -1]]), np.array([[0.5, np.inf, np.inf]]))
    assert classifiers.vote(ranking, np.array([0, 1, 2]), 3).tolist() == [2]


def test_votes_are_those_of_scikit_learn(data, prepared, labels):
    vectors = {split: images.reshape(len(images), -1) / 255 for split, images in prepared.items()}
    ranking = Ranking.of(pairwise("L2", vectors["test"], vectors["train"]))
    for k in (1, 5):
        reference = KNeighborsClassifier(k).fit(vectors["train"], labels["train"])
        answers = classifiers.vote(ranking, labels["train"], k)
        neighbours = labels["train"][reference.kneighbors(vectors["test"])[1]]
        counts = np.stack([(neighbours == label).sum(1) for label in range(3)], axis=1)
        clear = np.sort(counts, axis=1)[:, -1] > np.sort(counts, axis=1)[:, -2]  # no tie
        assert clear.sum() > 20
        np.testing.assert_array_equal(
            answers[clear], reference.predict(vectors["test"])[clear], err_msg=str(k)
        )


def test_k_is_chosen_on_the_validation_split():
    # Of each query's 25 neighbours the first is of class 1, the rest of class 0.
    gallery = np.array([1] + [0] * 24)
    ranking = Ranking(np.arange(25)[None].repeat(4, 0), np.zeros((4, 25)))
    for truth, k in ((np.zeros(4, int), 3), (np.ones(4, int), 1)):
        labels = {"train": gallery, "validation": truth, "test": 1 - truth}
        one, several = classifiers.classify_by_neighbours(ranking, ranking, labels)
        assert one.settings == {"neighbours": 1}
        assert several.settings == {"neighbours": k}
        assert several.validation_accuracy == 1
        assert set(several.predicted) == set(truth)  # although wrong on the test split


# Logistic regression, and an RBF kernel


@pytest.fixture(scope="module", params=["each", "together"])
def few(request, labels):
    """Vectors for which the one or the other scaling is the better one.

    Two values tell the classes; the many others tell nothing and vary much, or hardly at all.
    """
    rng = np.random.default_rng({"each": 8, "together": 6}[request.param])
    noise, number, length, off = {"each": (300, 10, 2, 0.4), "together": (0.01, 58, 1, 0.2)}[
        request.param
    ]
    vectors = {}
    for split, own in labels.items():
        telling = length * np.eye(3)[own][:, :2] + rng.normal(0, off, (len(own), 2))
        others = rng.normal(0, noise, (len(own), number))
        vectors[split] = np.hstack([telling, others]).astype("f4")
    return vectors


def scaled_by_hand(vectors, per_dimension):
    """Centred, of mean squared length 1; float64, which the library's are not."""
    train = vectors["train"].astype(float)
    mean, deviation = train.mean(axis=0), train.std(axis=0) if per_dimension else 1.0
    length = np.sqrt((((train - mean) / deviation) ** 2).sum(axis=1).mean())
    return {split: (v - mean) / deviation / length for split, v in vectors.items()}


def best_by_hand(candidates, labels):
    """Of (settings, vectors) the answer of the regression that is best on the validation split.

    The first of equals, in the order in which they are given.
    """
    best = None
    for settings, vectors in candidates:
        regression = LogisticRegression(C=settings["C"], max_iter=5000)
        regression.fit(vectors["train"], labels["train"])
        right = (regression.predict(vectors["validation"]) == labels["validation"]).mean()
        if best is None or right > best[1]:
            best = settings, right, regression.predict(vectors["test"])
    return best


@pytest.fixture
def to_the_end(monkeypatch):
    """L-BFGS may go on until it has converged."""
    monkeypatch.setattr(classifiers, "ITERATIONS", 5000)


def test_logistic_regression_is_the_best_of_the_grid_by_hand(few, labels, to_the_end, request):
    answer = classifiers.classify_linearly(few, labels)["logistic regression"]
    assert answer.settings["scaled"] == request.node.callspec.params["few"]
    candidates = [
        ({"scaled": name, "C": penalty}, scaled_by_hand(few, name == "each"))
        for name in ("together", "each")
        for penalty in classifiers.PENALTIES
    ]
    settings, right, predicted = best_by_hand(candidates, labels)
    assert answer.settings == settings
    assert answer.validation_accuracy == right > 0.5
    assert (answer.predicted == predicted).mean() >= 1 - 1 / COUNTS["test"]  # one on the edge
    assert answer.predicted.dtype == np.int64


def test_a_regression_minimises_the_penalised_loss_of_the_training_split(few, labels, to_the_end):
    # The gradient of sum of losses + |W|^2 / 2C vanishes at the minimum; intercepts are free.
    vectors = scaled_by_hand(few, per_dimension=False)["train"]
    kept = []

    class Kept(LogisticRegression):
        def fit(self, *data):
            kept.append(super().fit(*data))
            return self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "LogisticRegression", Kept)
        patch.setattr(classifiers, "PENALTIES", (10.0,))
        classifiers.classify_linearly(few, labels)
    scores = vectors @ kept[0].coef_.T + kept[0].intercept_
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    off = shares - np.eye(3)[labels["train"]]
    assert np.abs(kept[0].coef_ / 10).max() > 0.1  # what the penalty has to be balanced by
    # L-BFGS stops where no value of the gradient, of the mean over images, is above 1e-4.
    gradient = off.T @ vectors + kept[0].coef_ / 10
    assert max(np.abs(gradient).max(), np.abs(off.sum(axis=0)).max()) < 1.01e-4 * COUNTS["train"]
    assert len(kept) == 2 + len(classifiers.GAMMAS)  # both scalings, then the kernel's widths


def test_with_every_training_image_a_landmark_the_kernel_is_the_exact_one(
    few, labels, to_the_end, monkeypatch
):
    assert COUNTS["train"] < classifiers.LANDMARKS
    learnt_from, regression = [], classifiers._make_regression
    monkeypatch.setattr(
        classifiers,
        "_make_regression",
        lambda v, *more: learnt_from.append(v) or regression(v, *more),
    )
    answers = classifiers.classify_linearly(few, labels)
    name = answers["logistic regression"].settings["scaled"]
    moved = scaled_by_hand(few, name == "each")
    candidates = []
    for gamma in classifiers.GAMMAS:
        # Vectors whose products are the kernel's values, exactly: K = U S U', so K U S^(-1/2).
        values, axes = np.linalg.eigh(rbf_kernel(moved["train"], gamma=gamma))
        onto = axes / np.sqrt(np.maximum(values, 1e-12))
        mapped = {s: rbf_kernel(v, moved["train"], gamma=gamma) @ onto for s, v in moved.items()}
        kernel = rbf_kernel(moved["test"], moved["train"], gamma=gamma)
        learnt = learnt_from[2 + classifiers.GAMMAS.index(gamma)]  # after both scalings
        for vectors, off in ((mapped, 1e-6), (learnt, 2e-3)):  # float64, float32
            np.testing.assert_allclose(vectors["test"] @ vectors["train"].T, kernel, atol=off)
        for penalty in classifiers.PENALTIES:
            candidates.append(({"scaled": name, "gamma": gamma, "C": penalty}, mapped))
    settings, right, predicted = best_by_hand(candidates, labels)
    kernel = answers["RBF kernel"]
    assert kernel.settings == settings
    assert kernel.validation_accuracy == right
    assert (kernel.predicted == predicted).mean() >= 1 - 1 / COUNTS["test"]


def test_of_equals_the_first_of_the_grid_is_taken():
    rng = np.random.default_rng(0)
    labels = {split: np.arange(count) % 3 for split, count in COUNTS.items()}
    apart = {s: 9 * np.eye(3)[own] + rng.normal(0, 0.1, (len(own), 3)) for s, own in labels.items()}
    answers = classifiers.classify_linearly(apart, labels)
    linear, kernel = answers["logistic regression"], answers["RBF kernel"]
    assert linear.validation_accuracy == kernel.validation_accuracy == 1
    assert linear.settings == {"scaled": "together", "C": classifiers.PENALTIES[0]}
    assert kernel.settings == linear.settings | {"gamma": classifiers.GAMMAS[0]}


def rings(count, seed):
    """Points of two classes, one around the other, which no plane parts."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    angles, radii = rng.uniform(0, 2 * np.pi, count), 1 + 2 * labels + rng.normal(0, 0.1, count)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1), labels


@pytest.mark.parametrize("landmarks", [30, 500])
def test_the_kernel_parts_what_a_plane_cannot(landmarks, monkeypatch):
    monkeypatch.setattr(classifiers, "LANDMARKS", landmarks)
    splits = {split: rings(count, seed) for seed, (split, count) in enumerate(
        {"train": 200, "validation": 60, "test": 100}.items()
    )}  # fmt: skip
    vectors, labels = ({split: pair[i] for split, pair in splits.items()} for i in (0, 1))
    answers = classifiers.classify_linearly(vectors, labels)
    assert (answers["logistic regression"].predicted == labels["test"]).mean() < 0.7
    assert (answers["RBF kernel"].predicted == labels["test"]).mean() == 1
    again = classifiers.classify_linearly(vectors, labels)["RBF kernel"]
    np.testing.assert_array_equal(again.predicted, answers["RBF kernel"].predicted)


def test_a_classifier_chooses_by_the_validation_split_and_never_sees_the_test_s_labels(few, labels):
    answers = classifiers.classify_linearly(few, labels)
    unseen = labels | {"test": np.zeros_like(labels["test"])}
    for rule, answer in classifiers.classify_linearly(few, unseen).items():
        np.testing.assert_array_equal(answer.predicted, answers[rule].predicted)
        assert answer[1:] == answers[rule][1:]


def test_long_vectors_are_projected_on_the_principal_axes_of_the_training_split(
    labels, monkeypatch
):
    monkeypatch.setattr(classifiers, "LONGEST", 8)
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(50, 50)))[0]  # of values that vary less and less
    points = {s: rng.normal(labels[s][:, None], 1, (count, 50)) for s, count in COUNTS.items()}
    vectors = {s: (3 + p * 0.7 ** np.arange(50) @ turn).astype("f4") for s, p in points.items()}
    short = classifiers.project_on_main_axes(vectors)
    exact = PCA(8, svd_solver="full").fit(vectors["train"].astype(float))
    for split, projected in short.items():
        assert projected.dtype == np.float32
        by_hand = exact.transform(vectors[split].astype(float))
        signs = np.sign((short["train"] * exact.transform(vectors["train"])).sum(axis=0))
        np.testing.assert_allclose(
            projected * signs, by_hand, atol=5e-3
        )  # an axis has no direction
    assert np.abs(short["test"]).max() > 1
    changed = classifiers.project_on_main_axes(vectors | {"test": vectors["test"] + 9})
    np.testing.assert_array_equal(changed["validation"], short["validation"])
    # So they are before they are classified.
    projected = classifiers.classify_linearly(vectors, labels)
    for rule, answer in classifiers.classify_linearly(short, labels).items():
        np.testing.assert_array_equal(answer.predicted, projected[rule].predicted)
        assert answer[1:] == projected[rule][1:]


@pytest.mark.parametrize(("images", "values"), [(20, 12), (12, 40), (30, 5)])
def test_vectors_are_left_as_they_are_where_they_are_not_too_long(images, values, monkeypatch):
    monkeypatch.setattr(classifiers, "LONGEST", 12)
    vectors = {split: np.ones((images, values), np.float32) for split in SPLITS}
    assert classifiers.project_on_main_axes(vectors) is vectors


def test_scale_uses_the_training_split_alone(prepared):
    vectors = {s: v.reshape(len(v), -1).astype("f4") for s, v in prepared.items()}
    for per_dimension in (False, True):
        moved = classifiers.scale_vectors(vectors, per_dimension)
        np.testing.assert_allclose(moved["train"].mean(0), 0, atol=1e-7)
        assert (moved["train"] ** 2).sum(1).mean() == pytest.approx(1)
        assert {v.dtype for v in moved.values()} == {np.dtype(np.float32)}
        for split, by_hand in scaled_by_hand(vectors, per_dimension).items():
            np.testing.assert_allclose(moved[split], by_hand, atol=2e-6)
        changed = classifiers.scale_vectors(vectors | {"test": vectors["test"] + 9}, per_dimension)
        np.testing.assert_array_equal(changed["validation"], moved["validation"])
    flat = classifiers.scale_vectors({s: np.ones((4, 3)) for s in SPLITS}, per_dimension=True)
    assert all(np.isfinite(v).all() and not v.any() for v in flat.values())


# Choosing settings


def test_settings_are_the_best_on_the_validation_split(data, prepared):
    grid = {"bins": [256, 4], "grid": [1, 4]}
    choice = protocol.choose_settings("grey-histogram", grid, prepared, data)
    descriptor, index, tried = choice.descriptor, choice.index, choice.candidates
    assert [c["settings"] for c in tried] == [*ParameterGrid(grid)]
    train, validation = data.split("train"), data.split("validation")
    for candidate in tried:
        method = build_descriptor("grey-histogram", **candidate["settings"])
        vectors = method.transform(train.images), method.transform(validation.images)
        distances = pairwise(method.distance, *vectors[::-1])
        right = train.labels[distances.argmin(axis=1)] == validation.labels
        assert candidate["accuracy"] == right.mean()
        assert candidate["values"] == vectors[0].shape[1]
    best = max(tried, key=lambda c: (c["accuracy"], c["mean_average_precision"]))
    assert best["settings"].items() <= descriptor.get_params().items()
    np.testing.assert_array_equal(index.vectors, descriptor.transform(train.images))
    np.testing.assert_array_equal(choice.validation, descriptor.transform(validation.images))
    again = index.search(choice.validation, ids=validation.image_ids)
    np.testing.assert_array_equal(choice.ranking.rows, again.rows)
    np.testing.assert_array_equal(choice.ranking.distances, again.distances)
    assert best["accuracy"] > tried[0]["accuracy"]  # the plain histogram cannot see places


def test_settings_that_share_their_work_are_judged_as_each_alone(data, prepared):
    grid = {"layer": ["head", "stage4"], "pooling": ["average", "maximum"], "size": [32]}
    choice = protocol.choose_settings("pretrained", grid, prepared, data)
    index, tried = choice.index, choice.candidates
    alone = [
        protocol.choose_settings(
            "pretrained", {k: [v] for k, v in c["settings"].items()}, prepared, data
        )
        for c in tried
    ]
    assert tried == [one.candidates[0] for one in alone]
    best = max(range(4), key=lambda n: (tried[n]["accuracy"], tried[n]["mean_average_precision"]))
    np.testing.assert_array_equal(index.vectors, alone[best].index.vectors)


LOCAL = {"features": ["sift-keypoints", "patches", "sift-dense"], "words": [4, 2], "sample": [300]}


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("gabor-vector", {"bank": ["octaves", "manjunath-ma"], "scaled": [True, False]}),
        ("bag-of-words", LOCAL),
        ("vlad", LOCAL),
        ("pretrained", {"layer": ["head", "stage4"], "size": [32]}),
    ],
)
def test_shared_work_changes_no_bit(name, grid, data, prepared):
    train, other = prepared["train"], prepared["validation"]
    settings = [*ParameterGrid(grid)]
    descriptors = [build_descriptor(name, **one) for one in settings]
    labels = data.split("train").labels
    together = protocol.describe_by_each(descriptors, train, labels, other)
    for one, descriptor, vectors in zip(settings, descriptors, together, strict=True):
        alone = build_descriptor(name, **one).fit(train)
        for images, shared in zip((train, other), vectors, strict=True):
            np.testing.assert_array_equal(shared, alone.transform(images))
            np.testing.assert_array_equal(shared, descriptor.transform(images))


def test_the_test_split_is_never_looked_at_to_choose(data, prepared):
    grid = {"bins": [256, 4], "grid": [1, 4]}
    images = {split: prepared[split] for split in ("train", "validation")}
    assert protocol.choose_settings("grey-histogram", grid, images, data).candidates


def test_weights_are_at_least_as_good_as_equal_ones_and_as_each_alone(data, prepared):
    names = ("thumbnail", "grey-histogram", "zernike")
    distances, scales = {}, {}
    for name in names:
        method = build_descriptor(name)
        vectors = {split: method.fit(v).transform(v) for split, v in prepared.items()}
        distances[name] = pairwise(method.distance, vectors["validation"], vectors["train"])
        scales[name] = distances[name].mean()
    weights, tried = protocol.choose_weights(distances, scales, data)
    assert tried[0]["settings"] == dict.fromkeys(names, 1.0)
    assert [c["settings"] for c in tried[1:4]] == [
        {n: float(n == name) for n in names} for name in names
    ]
    by_weights = {tuple(c["settings"].values()): c["accuracy"] for c in tried}
    assert by_weights[tuple(weights.values())] == max(by_weights.values())
    nearest = combine(distances, scales, weights).argmin(axis=1)
    right = data.split("train").labels[nearest] == data.split("validation").labels
    assert by_weights[tuple(weights.values())] == right.mean()
    assert weights == choose_by_whole_rankings(distances, scales, data)


def choose_by_whole_rankings(distances, scales, data):
    """The same search, every weight measured in full."""
    labels, gallery_labels = (data.split(split).labels for split in ("validation", "train"))

    def score(weights):
        if not any(weights.values()):
            return (0.0, 0.0)
        ranking = Ranking.of(combine(distances, scales, weights))
        relevant = measures.find_relevant(ranking, labels, gallery_labels)
        return tuple(protocol.measure_quality(relevant, ranking.distances).values())

    chosen = dict.fromkeys(distances, 1.0)
    for name in [*distances] * protocol.ROUNDS:
        tried = [chosen, *(chosen | {name: value} for value in protocol.WEIGHTS)]
        chosen = max(tried, key=score)  # of equals the first
    return chosen


# What a result says


def test_what_is_judged_fits_a_result(data, prepared):
    method, index, _, ranking, candidates = protocol.choose_settings(
        "thumbnail", {"size": [8]}, prepared, data
    )
    vectors = {split: method.transform(images) for split, images in prepared.items()}
    judged = protocol.judge_vectors(vectors, index, data, ranking)
    assert judged == protocol.judge_vectors(vectors, index, data)  # the ranking of its own search
    result = results.Result(
        run="drawings-thumbnail",
        parameters={"descriptor": "thumbnail"},
        data=results.describe_data(data),
        settings=method.get_params(),
        candidates=candidates,
        training=None,
        circumstances=results.record_circumstances({}),
        **judged,
    )
    assert [r.rule for r in result.rules] == [
        *("nearest neighbour", "k nearest neighbours", "logistic regression", "RBF kernel")
    ]
    assert result.classification.rule == "nearest neighbour"
    assert result.distances[0].distance == method.distance
    assert result.distances[0].accuracy == candidates[0]["accuracy"]
    assert {d.distance for d in result.distances} == set(protocol.DISTANCES_TRIED)
    assert len(result.embedding.places) == len(result.embedding.labels) == COUNTS["test"]
    assert np.abs(result.embedding.places).max() == 1
    assert len({c.label for c in result.confused} | {0, 1, 2}) == 3


CODES = np.array(["1121-110-213-700", "1121-120-310-700", "1121-120-942-700"])


def with_records(data, **columns):
    return replace(data, records=data.records.assign(**columns))


@pytest.fixture(scope="module")
def rankings(data):
    """Distances with many equals, of a descriptor that sees a little."""
    rng, train = np.random.default_rng(0), data.split("train").labels
    ranking_of = {}
    for split in ("validation", "test"):
        other = data.split(split).labels[:, None] != train
        ranking_of[split] = Ranking.of((other + rng.integers(0, 3, other.shape)).astype(np.float32))
    return ranking_of


def test_what_is_known_of_the_images_is_measured(data, rankings):
    known = with_records(
        data, irma_code=CODES[data.labels], subject_id=[f"s{i // 4}" for i in range(len(data))]
    )
    measured = protocol.judge_rankings(rankings, "L1", known)["retrieval"]
    test, train = known.split("test"), known.split("train")
    relevant = measures.find_relevant(rankings["test"], test.labels, train.labels)
    distances = rankings["test"].distances
    precisions = measures.average_precision(relevant, distances)
    assert measured["mean_average_precision"] == pytest.approx(precisions.mean())
    # Equal distances by expectation: the order of the gallery, class by class, counts for nothing.
    assert precisions.mean() != pytest.approx(measures.average_precision(relevant).mean())
    subjects = test.records["subject_id"].to_numpy()
    shares = intervals.draw_rows(len(precisions), np.random.default_rng(0), subjects)
    assert measured["mean_average_precision_interval_of_subjects"] == pytest.approx(
        intervals.compute_percentile_interval(intervals.draw_means(shares, precisions))
    )
    gains = measures.compute_code_agreement(
        rankings["test"], CODES[test.labels], CODES[train.labels]
    )
    assert measured["ndcg"] == pytest.approx(measures.ndcg(gains, distances).mean())
    # The nearest of all items at the least distance, each as likely.
    errors = [np.mean(1 - gains[q][distances[q] == distances[q, 0]]) for q in range(len(relevant))]
    assert measured["hierarchical_error"] == pytest.approx(np.mean(errors))
    assert set(measured["per_class"]) == set(data.class_names)
    for label, name in enumerate(data.class_names):
        own = precisions[test.labels == label].mean()
        assert measured["per_class"][name]["mean_average_precision"] == pytest.approx(own)
    results.Retrieval(**measured)  # the schema takes them all


@pytest.mark.parametrize("missing", [{}, {"irma_code": "", "subject_id": ""}])
def test_what_is_not_known_of_the_images_is_not_measured(data, rankings, missing):
    measured = protocol.judge_rankings(rankings, "L1", with_records(data, **missing))
    retrieval = results.Retrieval(**measured["retrieval"])
    assert retrieval.ndcg is retrieval.hierarchical_error is retrieval.ndcg_interval is None
    assert retrieval.mean_average_precision_interval_of_subjects is None
    assert retrieval.macro_mean_average_precision is not None


def test_one_image_without_a_code_is_enough(data, rankings):
    codes = CODES[data.labels]
    codes[0] = ""  # of the training split
    known = with_records(data, irma_code=codes)
    assert (
        protocol.grade_by_code(rankings["test"], known.split("test"), known.split("train")) is None
    )


def test_distances_that_vectors_do_not_allow_are_left_out(data):
    rng = np.random.default_rng(0)
    vectors = {split: rng.normal(size=(n, 5)).astype("f4") for split, n in COUNTS.items()}
    index = Index("L1").add(vectors["train"], data.split("train").image_ids)
    own = index.search(vectors["validation"])
    rows = protocol.try_distances(vectors, index, own, data)
    assert [f["distance"] for f in rows] == ["L1", "L2", "cosine"]  # no histograms


def test_confused_pairs_are_the_surest_mistakes():
    def images(ids, labels):
        return SimpleNamespace(image_ids=np.array(ids), labels=np.array(labels))

    gallery = images(["a", "b", "c"], [0, 1, 2])
    queries = images(["p", "q", "r", "s"], [0, 0, 1, 3])
    distances = np.array(
        [
            [8.0, 4.0, 9.0],  # p, of 0: b is nearer by a factor of 2
            [8.0, 2.0, 9.0],  # q, of 0: b is nearer by a factor of 4
            [5.0, 1.0, 9.0],  # r is right
            [1.0, 2.0, 3.0],  # s: nothing of its class is there
        ]
    )
    mistakes = protocol.list_confusions(Ranking.of(distances), queries, gallery)
    assert mistakes == [
        {
            "query": "q",
            "label": 0,
            "nearest": "b",
            "nearest_label": 1,
            "distance": 2.0,
            "nearest_of_own_class": "a",
            "distance_of_own_class": 8.0,
        }
    ]


def test_an_embedding_brings_together_what_is_near(data):
    rows = space_evenly(COUNTS["test"], protocol.PLOTTED)
    labels = data.split("test").labels[rows]
    points = np.random.default_rng(0).normal(size=(len(rows), 4)) + 20 * labels[:, None]
    between = pairwise("L2", points, points)
    embedding = protocol.embed_images(between, data)
    places = np.array(embedding["places"])
    nearest = pairwise("L2", places, places) + 9 * np.eye(len(places), dtype="f4")
    same = labels[nearest.argmin(axis=1)] == labels
    assert same.mean() > 0.9
    assert embedding["labels"] == labels.tolist()
    assert protocol.embed_images(between, data) == embedding  # the same seed, the same picture
    alike = protocol.embed_images(np.zeros_like(between), data)  # of a descriptor that is constant
    assert np.isfinite(alike["places"]).all()


@pytest.mark.parametrize(
    ("affordable", "tried"), [(10**12, 20), (60 * 5 * 13, 13), (60 * 5 * 3, 8), (1, 8)]
)
def test_other_distances_are_tried_on_as_many_images_as_can_be_afforded(
    affordable, tried, data, monkeypatch
):
    monkeypatch.setattr(protocol, "TRIED", (8, 20))
    monkeypatch.setattr(protocol, "VALUES_TRIED", affordable)
    rng = np.random.default_rng(1)
    labels = {split: data.split(split).labels for split in COUNTS}
    vectors = {s: rng.normal(labels[s][:, None], 1.5, (n, 5)) for s, n in COUNTS.items()}
    index = Index("L1").add(vectors["train"], data.split("train").image_ids)
    own = index.search(vectors["validation"])
    measured = protocol.try_distances(vectors, index, own, data)
    rows = np.linspace(0, COUNTS["validation"] - 1, tried).astype(int)
    for row in measured:
        between = pairwise(row["distance"], vectors["validation"][rows], vectors["train"])
        right = labels["train"][between.argmin(axis=1)] == labels["validation"][rows]
        assert row["accuracy"] == pytest.approx(right.mean())
        relevant = measures.find_relevant(
            Ranking.of(between), labels["validation"][rows], labels["train"]
        )
        assert row["mean_average_precision"] == pytest.approx(
            measures.average_precision(relevant).mean()
        )
    assert [row["distance"] for row in measured] == ["L1", "L2", "cosine"]

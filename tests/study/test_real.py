"""Real radiographs as queries, against a search written out; films stand in for real ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cbir_lib import paths
from cbir_lib.descriptors import DESCRIPTORS, build_descriptor
from cbir_lib.descriptors.learned import LearnedDescriptor
from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks.adaptation import adapt_statistics
from cbir_lib.networks.modules import TrainedNetwork, build_network
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.study import effects, real, results
from cbir_lib.study.config import Real

PLAN = Real(queries=6, size=32, regions={"clinic": {"CXR": "chest", "Hand": "upper extremity"}})
HISTOGRAM = {"bins": 16, "grid": 2}


@pytest.fixture(scope="module")
def gallery(phantom_set):
    return phantom_set.split("train").take(slice(0, 60))


@pytest.fixture
def films(phantom_set):
    """Ten chests, ten hands and five heads, with the class names of another source."""
    test = phantom_set.split("test")
    names = ("chest", "upper extremity", "cranium")
    rows = [np.flatnonzero(test.labels == test.class_names.index(name)) for name in names]
    taken = np.concatenate([some[:n] for some, n in zip(rows, (10, 10, 5), strict=True)])
    labels = np.repeat([0, 1, 2], (10, 10, 5))
    return replace(test.take(taken), name="clinic", labels=labels, class_names=("CXR", "Hand", "X"))


@pytest.fixture
def small_gallery(gallery, monkeypatch):
    whole = replace(gallery, records=gallery.records.assign(split="train"))
    monkeypatch.setattr(real, "load", lambda name: whole)
    return whole


def test_films_are_taken_evenly_and_others_are_left_out(films, gallery):
    queries, labels = real.select_films(PLAN, films, gallery.class_names)
    assert len(queries) == 12
    for name, rows in (
        ("chest", [0, 1, 3, 5, 7, 9]),
        ("upper extremity", [10, 11, 13, 15, 17, 19]),
    ):
        taken = queries.image_ids[labels == gallery.class_names.index(name)]
        assert taken.tolist() == films.image_ids[rows].tolist()


def test_a_class_may_have_the_name_of_a_region(films, gallery):
    named = replace(films, name="folder", class_names=(" Chest", "knee", "Upper_extremity"))
    _, labels = real.select_films(PLAN, named, gallery.class_names)
    assert {gallery.class_names[label] for label in labels} == {"chest", "upper extremity"}


def test_simulated_films_and_classes_that_are_no_region_are_refused(films, gallery):
    with pytest.raises(CbirError, match="are simulated"):
        real.select_films(PLAN, replace(films, name="phantom"), gallery.class_names)
    with pytest.raises(CbirError, match="no class of other is a region") as caught:
        real.select_films(PLAN, replace(films, name="other"), gallery.class_names)
    assert "chest" in caught.value.hint


def test_classes_that_are_left_out_are_named(films, small_gallery):
    lines = []
    real.measure(PLAN, films, {}, {}, lines.append)
    assert lines == ["no region of the simulated radiographs, left out: X"]


def test_precisions_are_those_of_a_search_written_out(films, small_gallery):
    measured = real.measure(PLAN, films, {"grey-histogram": HISTOGRAM}, {}).effects
    queries, labels = real.select_films(PLAN, films, small_gallery.class_names)
    prepare = Preprocessing(size=32, clahe=False).transform
    descriptor = build_descriptor("grey-histogram", **HISTOGRAM)
    vectors = descriptor.fit(prepare(small_gallery.images)).transform(prepare(small_gallery.images))
    own = descriptor.transform(prepare(queries.images))
    halves = real.split_films(labels)
    for effect in measured:
        label = small_gallery.class_names.index(effect.level)
        of_rows = labels == label
        if effect.settings:
            of_rows &= halves == real.HALVES.index(effect.settings["half"])
        first, ten = [], []
        for query in own[of_rows].astype(np.float64):
            # Jensen-Shannon divergence, as the descriptor is meant to be compared.
            middle = (query + vectors) / 2
            with np.errstate(divide="ignore", invalid="ignore"):
                parts = np.nan_to_num(query * np.log2(query / middle))
                parts += np.nan_to_num(vectors * np.log2(vectors / middle))
            order = np.argsort(parts.sum(axis=1))
            relevant = small_gallery.labels[order] == label
            first.append(relevant[0])
            ten.append(relevant[:10].mean())
        assert effect.method == DESCRIPTORS["grey-histogram"].title
        assert effect.queries == of_rows.sum() and effect.accuracy is None
        assert effect.precision_at_1 == pytest.approx(np.mean(first))
        assert effect.precision_at_10 == pytest.approx(np.mean(ten))
        low, high = effect.precision_at_1_interval
        assert low <= effect.precision_at_1 <= high
    assert {effect.level for effect in measured} == {"chest", "upper extremity"}
    assert [effect.queries for effect in measured] == [6, 6, 3, 3, 3, 3]


def test_networks_are_means_over_their_seeds_and_have_their_own_answers(films, small_gallery):
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = build_network("G", np.zeros((32, 32), np.float32), classes=5).eval()
        with torch.no_grad():
            module.scores.bias[:] = 0
            module.scores.weight[:] = 0
            module.scores.bias[small_gallery.class_names.index("chest")] = 1  # always this answer
        names = small_gallery.class_names
        networks.append(TrainedNetwork("G", {}, names, Preprocessing(size=32), module))
    both = real.measure(PLAN, films, {}, {"Network G": networks}).effects
    alone = [real.measure(PLAN, films, {}, {"Network G": [one]}).effects for one in networks]
    assert len(both) == 3 * 2  # all films and two halves of them, two regions
    for mean_of, *ones in zip(both, *alone, strict=True):
        assert mean_of.seeds == 2
        assert mean_of.queries == (3 if mean_of.settings else 6)
        assert mean_of.accuracy == (mean_of.level == "chest")
        for key in ("mean_average_precision", "precision_at_1", "precision_at_10"):
            mean = np.mean([getattr(one, key) for one in ones])
            assert getattr(mean_of, key) == pytest.approx(mean)


def build_small(**options):
    torch.manual_seed(0)
    return build_network("G", np.full((32, 32), 90, np.float32), classes=5, **options).eval()


def normalised(names):
    return TrainedNetwork("G", {}, names, Preprocessing(size=32), build_small(batch_norm=True))


def test_batch_normalisation_is_measured_with_the_statistics_of_the_films_as_well(
    films, small_gallery
):
    network = normalised(small_gallery.class_names)
    measured = real.measure(PLAN, films, {}, {"Network G": [network]})
    of_run = results.read(paths.results_folder("full") / "phantom-G-normalised-s0.json")
    assert real.list_missing(measured, {"Network G": [of_run]}) == []
    queries, labels = real.select_films(PLAN, films, small_gallery.class_names)
    adapted = adapt_statistics(network, queries.images[real.split_films(labels) == 0])
    own = LearnedDescriptor(network).transform(small_gallery.images)
    for statistics, one in ((None, network), ("films", adapted)):
        nearest = pairwise("cosine", LearnedDescriptor(one).transform(queries.images), own)
        right = small_gallery.labels[nearest.argmin(1)] == labels
        table = real.tabulate(measured, "judging", statistics).droplevel("method")
        for region, row in table.iterrows():
            rows = (real.split_films(labels) == 1) & (
                labels == small_gallery.class_names.index(region)
            )
            assert row["P@1"] == pytest.approx(100 * right[rows].mean())
            both = real.tabulate_statistics(measured)[region].loc["Network G"]
            assert both[statistics or "training"] == pytest.approx(row["P@1"])
    plain = real.measure(PLAN, films, {}, {"Network G": [replace(network, module=build_small())]})
    assert real.tabulate_statistics(plain).empty
    assert len(plain.effects) == 6 and len(measured.effects) == 12


def test_halves_are_taken_in_turn_within_each_region():
    assert real.split_films(np.array([3, 1, 3, 3, 1, 3])).tolist() == [0, 0, 1, 0, 1, 1]


def build_measured(precisions, accuracy=0.9):
    """Measurements of networks: by method, the precision at 1 of the two halves."""
    rows = [
        effects.Effect(
            factor="region",
            level="chest",
            method=method,
            settings={"half": half} if half else {},
            queries=4,
            mean_average_precision=0.5,
            mean_average_precision_interval=[0.4, 0.6],
            precision_at_1=value,
            precision_at_1_interval=[value, value],
            precision_at_10=0.5,
            accuracy=accuracy,
        )
        for method, halves in precisions.items()
        for half, value in zip((None, *real.HALVES), (0.0, *halves), strict=True)
    ]
    circumstances = results.record_circumstances({"measuring": 1.0})
    return effects.Effects(
        name="clinic", parameters={}, data=[], effects=rows, circumstances=circumstances
    )


def test_what_is_measured_anew_replaces_what_was_and_the_rest_stays():
    before = build_measured({"Network A": (0.1, 0.2), "Network B": (0.3, 0.4)})
    merged = real.merge(before, build_measured({"Network B": (0.5, 0.6), "Network C": (0.7, 0.8)}))
    judged = real.tabulate(merged, "judging")["P@1"]
    assert judged.droplevel("region").to_dict() == pytest.approx(
        {"Network A": 20, "Network B": 60, "Network C": 80}
    )
    plain, with_norm = (
        results.read(paths.results_folder("full") / f"phantom-G-{name}s0.json")
        for name in ("", "normalised-")
    )
    wanted = {f"Network {name}": [plain] for name in "ABD"} | {"Network C": [plain, plain]}
    assert real.list_missing(merged, wanted) == ["Network D", "Network C"]
    assert real.list_missing(merged, {"Network A": [with_norm]}) == ["Network A"]
    of_three = [effect.model_copy(update={"seeds": 3}) for effect in merged.effects]
    more = merged.model_copy(update={"effects": of_three})
    assert real.list_missing(more, {"Network A": [plain, plain]}) == []


def test_to_measurements_of_another_search_nothing_is_added(films, small_gallery, tmp_path):
    effects.write(tmp_path / "films.json", real.measure(PLAN, films, {}, {}))
    before = effects.read(tmp_path / "films.json")
    real.check_same(before, PLAN, films)
    with pytest.raises(CbirError, match="of other parameters"):
        real.check_same(before, PLAN.model_copy(update={"queries": 7}), films)
    with pytest.raises(CbirError, match="of other data"):
        real.check_same(before, PLAN, films.take(np.arange(1, len(films.labels))))


def test_the_rule_chooses_by_one_half_and_by_what_is_lost_on_simulated_images():
    one = results.read(paths.results_folder("full") / "phantom-B-normalised-s0.json")

    def train(variations, validation):
        rule = one.classification.model_copy(update={"validation_accuracy": validation})
        parameters = one.parameters | {"variations": variations}
        return one.model_copy(update={"parameters": parameters, "rules": [rule]})

    trained = [train([], 0.95), train(["blur"], 0.94), train(["noise"], 0.92)]
    names = [results.name_method(result) for result in trained]
    measured = build_measured(dict(zip(names, [(0.5, 0.9), (0.7, 0.6), (0.9, 0.8)], strict=True)))
    table = real.tabulate_variations(measured, trained)
    assert table["choosing"].to_list() == pytest.approx([50, 70, 90])
    assert table["chest"].to_list() == pytest.approx([90, 60, 80])  # judged on the others
    assert table["chosen"].to_list() == [False, True, False]  # noise costs three points
    assert table["variations"].to_list() == ["", "blur", "noise"]
    assert real.list_reaching_aim(measured) == []
    better = build_measured({"Network A": (0.95, 0.9), "Network B": (0.94, 1.0)})
    assert real.list_reaching_aim(better) == ["Network A"]

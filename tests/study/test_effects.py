"""Effects: the file, the factors against references, changes that change nothing, the plan."""

import json
import shutil

import faiss
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from cbir_lib import paths
from cbir_lib.datasets.phantom import recipe
from cbir_lib.descriptors import build_descriptor
from cbir_lib.descriptors.combination import combine, compute_mean_distance
from cbir_lib.descriptors.learned import LearnedDescriptor
from cbir_lib.errors import CbirError
from cbir_lib.evaluation import intervals, summary
from cbir_lib.evaluation import measures as evaluation
from cbir_lib.images.perturbations import PERTURBATIONS, perturb
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks.modules import TrainedNetwork, build_network, save_network
from cbir_lib.reproduction import evidence
from cbir_lib.reproduction.evidence import Evidence
from cbir_lib.retrieval.distances import pairwise
from cbir_lib.retrieval.hashing import BinaryHash, compute_hamming_distances
from cbir_lib.retrieval.index import Index
from cbir_lib.study import effects, representation, results, robustness
from cbir_lib.study.config import read_study
from cbir_lib.study.effects import Search
from cbir_lib.study.representation import Vectors
from cbir_lib.study.robustness import Method

RNG = np.random.default_rng(0)
LABELS, GALLERY_LABELS = RNG.integers(3, size=30), RNG.integers(3, size=90)
SUBJECTS = RNG.integers(12, size=30)
CENTRES = RNG.normal(size=(3, 20))
QUERIES, GALLERY = (
    (CENTRES[labels] + RNG.normal(size=(len(labels), 20))).astype(np.float32)
    for labels in (LABELS, GALLERY_LABELS)
)
SEARCH = Search(LABELS, GALLERY_LABELS, SUBJECTS)
VECTORS = Vectors("toy", "cosine", GALLERY, QUERIES)
IMAGES = RNG.integers(0, 256, (6, 33, 40), np.uint8)


@pytest.fixture(scope="module")
def small(phantom_set):
    return phantom_set.sample({"train": 60, "validation": 30, "test": 40}, 0)


@pytest.fixture(scope="module")
def network(small):
    torch.manual_seed(3)
    module = build_network("G", np.full((32, 32), 90.0, np.float32), classes=5).eval()
    return TrainedNetwork("G", {}, small.class_names, Preprocessing(size=32), module)


def by_level(effects_found, **settings):
    chosen = [e for e in effects_found if settings.items() <= e.settings.items()]
    return {e.level: e for e in chosen}


# The measures


def test_scores_are_those_of_the_retrieval_measures():
    effect = SEARCH.build_effect(
        SEARCH.score(VECTORS.distances()), factor="a", level="b", method="c"
    )
    ranking = Index("cosine").add(GALLERY, np.arange(90).astype(str)).search(QUERIES)
    relevant = evaluation.find_relevant(ranking, LABELS, GALLERY_LABELS)
    measures = summary.summarise_retrieval(relevant, distances=ranking.distances)
    for name in ("mean_average_precision", "precision_at_1", "precision_at_10"):
        assert getattr(effect, name) == pytest.approx(measures[name])
    low, high = effect.mean_average_precision_interval
    assert low < effect.mean_average_precision < high
    assert effect.difference is None and effect.queries == 30


def test_a_row_of_seeds_is_their_mean_and_compared_query_by_query():
    scores = SEARCH.score(VECTORS.distances())
    worse = scores * np.linspace(0.5, 0.9, 30)
    row = SEARCH.build_effect(np.stack([scores, worse]), scores, factor="a", level="b", method="c")
    both = np.stack([scores[0], worse[0]])
    assert row.seeds == 2
    assert row.mean_average_precision == pytest.approx(both.mean())
    assert row.difference == pytest.approx((both - scores[0]).mean())
    assert row.difference_interval == intervals.compute_paired_interval(
        both - scores[0], subjects=SUBJECTS
    )


def test_queries_without_a_relevant_image_are_left_out():
    lone = Search(np.r_[LABELS, 7], GALLERY_LABELS)
    scores = lone.score(np.vstack([VECTORS.distances(), np.ones((1, 90), np.float32)]))
    row = lone.build_effect(scores, scores, factor="a", level="b", method="c")
    assert row.queries == 30
    assert row.mean_average_precision == pytest.approx(scores[0, :30].mean())


# Vectors


def test_activations_are_those_of_the_learned_descriptor(network, small):
    images = small.images[:20]
    activations = representation.compute_activations(network, images)
    for layer in ("pool1", "pool4", "relu_fc1", "relu_fc2", "scores"):
        expected = LearnedDescriptor(network, layer).transform(images)
        assert np.array_equal(activations[layer], expected), layer
    maps = activations["pool2"].reshape(len(images), 20, -1)
    assert np.allclose(activations["pool2, mean"], maps.mean(axis=2), atol=1e-4)
    assert np.allclose(activations["softmax"].sum(axis=1), 1)


def test_layers_too_large_are_only_averaged(network, small, monkeypatch):
    monkeypatch.setattr(representation, "MOST_VALUES", 2000)
    activations = representation.compute_activations(network, small.images[:3])
    assert "pool1" not in activations and "pool1, mean" in activations and "pool2" in activations


def test_an_untrained_network_has_other_weights_and_the_same_mean_image(network, small):
    state = torch.get_rng_state()
    blank = representation.reset_weights(network, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(blank.module.centre.mean_image, network.module.centre.mean_image)
    again, other = (
        representation.reset_weights(network, 1),
        representation.reset_weights(network, 2),
    )
    weights = [n.module.fc1.weight for n in (blank, again, other, network)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[3])


def test_the_last_hidden_layer_is_the_reference_of_layers(network, small):
    train, test = small.split("train"), small.split("test")
    search = Search.from_sets(test, train)
    effect_of = by_level(
        representation.measure_layers("G", network, train.images, test.images, search)
    )
    assert effect_of["relu_fc2"].difference == 0
    own = LearnedDescriptor(network)
    plain = pairwise("cosine", own.transform(test.images), own.transform(train.images))
    assert effect_of["relu_fc2"].mean_average_precision == pytest.approx(
        search.score(plain)[0].mean()
    )
    assert effect_of["scores"].values == 5 and effect_of["scores"].bytes == 20


def test_normalised_vectors_are_what_their_names_say():
    # The mean of 0.1 in float32 is not 0.1.
    gallery = np.c_[GALLERY, np.full(90, 4.0), np.full(90, 0.1)]
    queries = QUERIES[:, [*range(20), 0, 0]]
    values, others = representation.normalise("standardised", gallery, queries)
    assert np.allclose(values[:, :20].mean(axis=0), 0, atol=1e-6)
    assert np.allclose(values[:, :20].std(axis=0), 1, atol=1e-5)
    assert not values[:, 20:].any() and not others[:, 20:].any()  # never varied in the gallery
    (lengths,) = representation.normalise("L2", GALLERY)
    assert np.allclose(np.linalg.norm(lengths, axis=1), 1)
    (power,) = representation.normalise("power", np.array([[4.0, -9.0], [0.0, 0.0]]))
    assert np.allclose(power, [[2 / 13**0.5, -3 / 13**0.5], [0, 0]])
    assert np.array_equal(representation.normalise("none", GALLERY)[0], GALLERY)


def test_cosine_and_l2_agree_on_vectors_of_length_one():
    rows = representation.measure_normalisations(VECTORS, SEARCH)
    effect_of = {(e.level, e.settings["distance"]): e for e in rows}
    assert len(effect_of) == 8 and effect_of["none", "cosine"].difference == 0
    assert effect_of["L2", "L2"].difference == pytest.approx(0, abs=1e-9)
    assert effect_of["L2", "cosine"].difference == pytest.approx(0, abs=1e-9)


def test_components_are_those_of_scikit_learn():
    reduced = [*representation.reduce_dimensions(GALLERY, QUERIES, [3, 8])]
    assert [row[:2] for row in reduced] == [(False, 3), (False, 8), (True, 3), (True, 8)]
    for whitened, count, gallery, queries in reduced:
        reference = PCA(count, whiten=whitened, svd_solver="full").fit(GALLERY.astype(float))
        assert np.allclose(gallery, reference.transform(GALLERY.astype(float)), atol=1e-4)
        assert np.allclose(queries, reference.transform(QUERIES.astype(float)), atol=1e-4)


def test_whitened_components_by_the_closed_form_of_two_values():
    # Covariance diag(9, 1): axes are the coordinates, whitened by their deviations 3 and 1.
    corners = np.array([[3, 1], [3, -1], [-3, 1], [-3, -1]], np.float32) * 3**0.5 / 2
    _, (whitened, _, gallery, _) = representation.reduce_dimensions(corners, corners, [2])
    assert whitened and np.allclose(np.abs(gallery), 3**0.5 / 2)


def test_components_that_are_rounding_errors_are_left_out():
    def counts_of(vectors, counts):
        return [row[:2] for row in representation.reduce_dimensions(vectors, vectors, counts)]

    flat = np.c_[GALLERY[:, :4], GALLERY[:, :4] @ np.ones((4, 16))].astype(np.float32)
    assert counts_of(flat, [2, 4, 8, 16]) == [(False, 2), (False, 4), (True, 2), (True, 4)]
    assert counts_of(GALLERY, [8, 4096]) == [(False, 8), (True, 8)]


def test_all_components_by_l2_order_as_the_vectors_do():
    (_, _, gallery, queries), _ = representation.reduce_dimensions(GALLERY, QUERIES, [20])
    assert np.allclose(cdist(queries, gallery), cdist(QUERIES, GALLERY), atol=1e-4)


# Bits


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_hamming_distances_are_those_counted_bit_by_bit(size, queries, gallery, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 256, (n, size), np.uint8) for n in (queries, gallery))
    expected = (np.unpackbits(a, axis=1)[:, None] != np.unpackbits(b, axis=1)).sum(axis=2)
    assert np.array_equal(compute_hamming_distances(a, b), expected)


def test_bits_are_signs_of_projections_of_centred_vectors():
    centred = GALLERY - GALLERY.mean(axis=0)
    axes = PCA(8, svd_solver="full").fit_transform(GALLERY.astype(float))
    codes = np.unpackbits(BinaryHash("PCA", 8).fit(GALLERY).transform(GALLERY), axis=1)
    agree = (codes == (axes > 0)).mean(axis=0)
    assert np.all((agree > 0.98) | (agree < 0.02))  # an axis has no direction
    turn = faiss.RandomRotationMatrix(20, 16)
    turn.init(5)
    codes = BinaryHash("random", 16, seed=5).fit(GALLERY).transform(QUERIES)
    own = turn.apply(np.ascontiguousarray(QUERIES - GALLERY.mean(axis=0)))
    assert np.array_equal(codes, np.packbits(own > 0, axis=1))
    assert centred.shape == GALLERY.shape


def test_itq_loses_less_than_the_axes_it_turns():
    def loss(method):
        coder = BinaryHash(method, 16).fit(GALLERY)
        return np.unpackbits(coder.transform(GALLERY), axis=1)

    lengths = GALLERY - GALLERY.mean(axis=0)
    lengths /= np.linalg.norm(lengths, axis=1, keepdims=True)
    cosines = lengths @ lengths.T
    agreement = {
        m: np.corrcoef((2.0 * loss(m) - 1) @ (2.0 * loss(m) - 1).T, cosines) for m in ("PCA", "ITQ")
    }
    means = {m: np.diag(a[: len(GALLERY), len(GALLERY) :]).mean() for m, a in agreement.items()}
    assert means["ITQ"] > means["PCA"]


def test_bits_that_cannot_be_are_refused():
    for method, bits in (("PCA", 24), ("ITQ", 24), ("random", 12), ("LSH", 8)):
        with pytest.raises(CbirError):
            BinaryHash(method, bits).fit(GALLERY)


def test_hashed_rows_name_their_bytes_and_seeds():
    rows = representation.measure_hashing(VECTORS, SEARCH, [8, 64], 3, ["random", "ITQ"])
    random = by_level(rows, hash="random")
    assert random[8.0].seeds == 3 and random[64.0].bytes == 8
    assert random[64.0].mean_average_precision > random[8.0].mean_average_precision
    itq = by_level(rows, hash="ITQ")
    assert list(itq) == [8.0] and itq[8.0].seeds == 1  # 64 bits are more than 20 values
    assert by_level(rows, hash="none")["all"].bytes == 80


def test_short_codes_of_principal_axes_are_those_fitted_alone():
    effect_of = by_level(
        representation.measure_hashing(VECTORS, SEARCH, [8, 16], 1, ["PCA"]), hash="PCA"
    )
    coder = BinaryHash("PCA", 8).fit(GALLERY)
    alone = SEARCH.score(
        compute_hamming_distances(coder.transform(QUERIES), coder.transform(GALLERY))
    )
    assert effect_of[8.0].mean_average_precision == pytest.approx(alone[0].mean())
    assert effect_of[8.0].mean_average_precision != effect_of[16.0].mean_average_precision


# Fusion


def test_fusion_with_one_weight_is_the_single_method(small):
    train, validation, test = (small.split(name) for name in ("train", "validation", "test"))
    search = Search.from_sets(test, train)
    prepared = {
        p: Preprocessing(size=32).transform(s.images)
        for p, s in zip("gvt", (train, validation, test), strict=True)
    }
    both, of_validation = [], {}
    for name in ("hog", "grey-histogram"):
        d = build_descriptor(name).fit(prepared["g"])
        both.append(
            Vectors(name, d.distance, d.transform(prepared["g"]), d.transform(prepared["t"]))
        )
        of_validation[name] = d.transform(prepared["v"])
    effect_of = by_level(
        representation.measure_fusions(both[0], [both[1]], of_validation, small, search)
    )
    for vectors, level in zip(both, ("alone", "grey-histogram alone"), strict=True):
        expected = search.score(vectors.distances())[0].mean()
        assert effect_of[level].mean_average_precision == pytest.approx(expected)
    weights = effect_of["with grey-histogram"].settings["weights"]
    scales = {
        v.method: compute_mean_distance(pairwise(v.distance, v.gallery, v.gallery)) for v in both
    }
    total = combine({v.method: v.distances() for v in both}, scales, weights)
    expected = search.score(total)[0].mean()
    assert effect_of["with grey-histogram"].mean_average_precision == pytest.approx(expected)
    assert effect_of["with grey-histogram"].difference == pytest.approx(
        expected - effect_of["alone"].mean_average_precision
    )
    # A partner that is always equally far leaves every ranking as it was.
    still = Vectors(
        "still",
        "L1",
        np.ones((len(train), 1), np.float32) * np.arange(len(train))[:, None] % 2,
        np.full((len(test), 1), 0.5, np.float32),
    )
    weights = {"hog": 1.0, "still": 4.0}
    distances = {"hog": both[0].distances(), "still": still.distances()}
    total = combine(distances, {"hog": 1.0, "still": 0.5}, weights)
    assert np.allclose(search.score(total), search.score(both[0].distances()))


# Changed queries


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_neutral_level_changes_nothing(name):
    assert np.array_equal(perturb(IMAGES, name, PERTURBATIONS[name].neutral), IMAGES)


def test_turns_by_quarters_move_pixels_and_by_360_degrees_none():
    square = IMAGES[:, :, :33]
    assert np.array_equal(perturb(IMAGES, "rotation", 360), IMAGES)
    for turns in (1, 2, 3):
        expected = np.rot90(square, turns, axes=(1, 2))
        assert np.array_equal(perturb(square, "rotation", 90 * turns), expected)


def test_changes_do_what_their_units_say():
    grey = np.full((1, 40, 40), 128, np.uint8)
    noise = perturb(grey, "noise", 10).astype(float) - 128
    assert noise.std() == pytest.approx(10, rel=0.1) and abs(noise.mean()) < 1
    ramp = np.tile(np.arange(78, 178, dtype=np.uint8), (2, 50, 1))
    flat = perturb(ramp, "contrast", 0.5)
    assert (
        np.ptp(flat.astype(int)) == pytest.approx(50, abs=1) and abs(flat.mean() - ramp.mean()) < 1
    )
    assert perturb(grey, "gamma", 2)[0, 0, 0] == round(255 * (128 / 255) ** 2)
    marked = np.zeros((1, 40, 40), np.uint8)
    marked[:, 10:30, 10:30] = 200
    assert (perturb(marked, "crop", 0.5) == 200).all()


def test_changes_out_of_range_are_refused():
    wrong = [("crop", 0.0), ("noise", -1.0), ("gamma", 0.0), ("blur", 1.0)]
    for name, level in [*wrong, ("noise", float("nan")), ("noise", True), ("noise", "3")]:
        with pytest.raises(CbirError):
            perturb(IMAGES, name, level)


def test_unchanged_queries_give_the_plain_retrieval(small):
    train, test = small.split("train"), small.split("test")
    preparation = Preprocessing(size=32)
    hog = build_descriptor("hog").fit(preparation.transform(train.images))

    def describe(images):
        return hog.transform(preparation.transform(images))

    method = Method("HOG", hog.distance, describe, describe(train.images))
    search = Search.from_sets(test, train)
    levels = {"rotation": [0.0, 90.0, 360.0], "gamma": [1.0, 3.0]}
    measured = robustness.measure_robustness([method], test.images, search, levels)
    expected = search.score(pairwise(hog.distance, describe(test.images), method.gallery))
    rows = {(e.factor, e.level): e for e in measured}
    for at in (("rotation", 0.0), ("rotation", 360.0), ("gamma", 1.0)):
        assert rows[at].mean_average_precision == pytest.approx(expected[0].mean(), abs=1e-12)
        assert rows[at].difference == 0 and rows[at].difference_interval == [0, 0]
    assert rows["rotation", 90.0].difference < 0


def test_images_drawn_anew_unchanged_are_those_of_the_set(small):
    pytest.importorskip("mujoco")
    pytest.importorskip("musclemimic_models")
    from cbir_lib.study import rerendered

    test = small.split("test").take(np.arange(2))
    for name, (_, _, neutral) in rerendered.EXPOSURES.items():
        again = rerendered.rerender(test.image_ids[:1], name, neutral)
        assert np.abs(again.astype(int) - test.images[:1]).mean() < 0.5, name
    fewer = rerendered.rerender(test.image_ids, "photons", 0.05)
    assert np.abs(fewer.astype(int) - test.images).mean() > 1
    assert (
        recipe.draw_scene(recipe.plan_images()[0])[0]
        == recipe.draw_scene(recipe.plan_images()[0])[0]
    )


# The file


@pytest.fixture
def measured(small):
    return effects.Effects(
        name="toy",
        parameters={"bits": [8]},
        data=[results.describe_data(small)],
        effects=representation.measure_hashing(VECTORS, SEARCH, [8], 2, ["random", "PCA"])
        + representation.measure_normalisations(VECTORS, SEARCH),
        circumstances=results.record_circumstances({"measuring": 1.0}),
    )


def test_a_file_is_read_as_it_was_written(measured, tmp_path):
    effects.write(tmp_path / "toy.json", measured)
    again = effects.read(tmp_path / "toy.json")
    assert again == measured and results.list_differences(again, measured) == []
    table = effects.tabulate(again, "bits")
    assert list(table["mAP"]) == [100 * e.mean_average_precision for e in measured.effects[:3]]
    assert list(table["hash"]) == ["none", "random", "PCA"]


def test_a_file_that_does_not_fit_is_refused(measured, tmp_path):
    path = tmp_path / "toy.json"
    effects.write(path, measured)
    content = json.loads(path.read_text())
    for spoil in ({"colour": 1}, {"format": 2}, {"effects": [{"factor": "bits"}]}):
        path.write_text(json.dumps(content | spoil))
        with pytest.raises(CbirError, match="not a result file"):
            effects.read(path)


def test_a_study_shows_the_effects_of_the_evidence_else_its_own_else_those_of_quick(
    measured, tmp_path, monkeypatch
):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    monkeypatch.setattr(evidence, "find_study_evidence", lambda folder: Evidence("full", [], 0))
    folder = "build/mine-published"
    with pytest.raises(CbirError, match="no effects file toy in build/mine-published") as caught:
        evidence.read_effects(folder, "toy")
    assert "cbir study" in caught.value.hint
    # Each goes before those written until then.
    for place, profile in (
        ("results/quick", "quick"),
        (folder, "mine"),
        ("results/full", "full"),
    ):
        told_apart = measured.model_copy(update={"parameters": {"of": profile}})
        effects.write(tmp_path / place / "effects" / "toy.json", told_apart)
        assert evidence.read_effects(folder, "toy") == (profile, told_apart)


def test_a_study_has_effects_where_it_has_networks_and_descriptors(tmp_path):
    study = read_study(paths.project_root() / "study.yml")
    named = {run.name: run for run in study.effects("quick")}
    assert list(named) == ["representation", "robustness"]
    runs = {run.id for run in study.runs("quick")}
    for run in named.values():
        assert {*run.networks, *run.descriptor_runs} <= runs
    assert study.effects("search") == []  # without the handcrafted
    text = yaml.safe_load((paths.project_root() / "study.yml").read_text())
    text["grid"]["effects"]["robustness"]["levels"]["blur"] = [1.0]
    (tmp_path / "study.yml").write_text(yaml.safe_dump(text))
    with pytest.raises(CbirError, match="unknown perturbation 'blur'"):
        read_study(tmp_path / "study.yml")


def test_published_effects_fit_the_schema_and_hold_no_image():
    files = sorted(paths.project_root().glob("results/*/effects/*.json"))
    for path in files:
        assert effects.read(path).name == path.stem
        assert path.stat().st_size < 500_000


def test_training_is_worth_something_where_it_was_trained():
    path = effects.published_path("transfer", "transfer")
    if not path.is_file():
        pytest.skip("not measured yet")
    table = effects.tabulate(effects.read(path)).set_index(["level", "trained on"])["mAP"]
    for name in ("phantom", "mednist"):
        assert table[name, name] > table[name, "nothing"]


def test_the_best_network_is_read_where_it_was_trained_or_published(tmp_path, network, monkeypatch):
    models, published, work = tmp_path / "models", tmp_path / "published", tmp_path / "full"
    monkeypatch.setattr(paths, "models_folder", lambda: models)
    monkeypatch.setattr(paths, "results_folder", lambda profile: published)
    runs = ["phantom-B-s0", "phantom-G-s0", "phantom-F-augment-s0"]
    for place, run in zip((published, published, work / "runs" / runs[2]), runs, strict=True):
        place.mkdir(parents=True, exist_ok=True)
        name = "result.json" if work in place.parents else f"{run}.json"
        shutil.copy(paths.project_root() / "results" / "full" / f"{run}.json", place / name)
    best = max(
        (results.read(published / f"{run}.json") for run in runs[:2]),
        key=lambda result: result.classification.validation_accuracy,
    )

    assert effects.list_networks_to_train(work, runs) == [best.run, runs[2]]
    with pytest.raises(CbirError, match="is neither in") as caught:
        effects.select_best_networks(work, runs)
    assert caught.value.hint.endswith(f"--profile full --run {best.run}")

    models.mkdir()
    save_network(models / f"{best.run}.safetensors", network)
    save_network(paths.model_file(work, runs[2]), network)
    assert effects.list_networks_to_train(work, runs) == []
    chosen = [result.run for result, _ in effects.select_best_networks(work, runs)]
    assert chosen == [best.run, runs[2]]
    assert effects.select_best_network(work, runs)[0].run == runs[2]


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("redrawn", "redrawn/effects/redrawn.json"),
        ("transfer", "transfer/effects/transfer.json"),
        ("real", "real/effects/mednist.json"),
        ("real", "gap/mednist.json"),
        ("labels", "labels/phantom.json"),
    ],
)
def test_what_is_published_beside_the_profiles_follows_the_study_file(name, published):
    """Nothing repeats these measurements when their plan changes, so a page could show the old."""
    plan = getattr(read_study(paths.project_root() / "study.yml").grid.effects, name)
    written = json.loads((paths.project_root() / "results" / published).read_text())["parameters"]
    asked = plan.model_dump(mode="json")
    assert {key: written.get(key) for key in asked} == asked

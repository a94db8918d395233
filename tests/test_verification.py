"""Published against now: every verdict, where the tolerance comes from, and the command."""

import json
import re
import shutil

import numpy as np
import pytest
from test_results import changed

from cbir_lib import cli, results, verification
from cbir_lib.errors import CbirError
from cbir_lib.results import Result
from cbir_lib.verification import (
    DIFFERENT,
    LEVEL,
    MISSING,
    SAME,
    WITHIN,
    Measured,
    Rerun,
    Reruns,
    Spread,
)

VERSIONS = {"circumstances__versions": {"torch": "2.0"}}
IMAGES = 300
NOTHING = Measured({}, "nothing")


def described(run="toy-hog", **values):
    """A handcrafted result with 300 test images, all answered with class 0."""
    common = {
        "run": run,
        "parameters": {"descriptor": "hog", "dataset": "toy"},
        "training": None,
        "answers": [0] * IMAGES,
        "data__test_labels": [0] * IMAGES,
        "retrieval__average_precisions": [0.5] * IMAGES,
        **VERSIONS,
    }
    return Result(**changed(**common | values))


def trained(network="A", seed=0, accuracy=0.8, **values):
    parameters = {"network": network, "seed": seed, "dataset": "toy", "sample_seed": 0, "size": 64}
    return described(
        f"toy-{network}-s{seed}",
        parameters=parameters,
        training=changed()["training"],
        rules__0__accuracy=accuracy,
        **values,
    )


def judge(published, now, seeds=NOTHING, reruns=NOTHING):
    (run,), _ = verification.compare(
        {published.run: published},
        {} if now is None else {now.run: now},
        seeds,
        Reruns(reruns, reruns, frozenset(), ""),
    )
    return run


def verdicts(run):
    return {number.key: number.verdict for number in run.numbers if number.verdict != SAME}


def measured(of, *sizes):
    return Measured({of: np.array([(size, 1.0) for size in sizes])}, "measured")


# Verdicts


@pytest.mark.parametrize("make", [described, trained])
def test_the_same_is_the_same(make):
    run = judge(make(), make(circumstances__processor="quill", embedding=None))
    assert run.verdict == SAME and verdicts(run) == {} and run.values == {}
    assert run.others > 10 and run.others_that_differ == 0
    for number in run.numbers:
        assert number.difference == 0 and number.tolerance == 0


def test_one_image_more_than_is_tolerated_is_different():
    key = "rules.softmax.accuracy"
    one = 1 / IMAGES
    published, now = described(rules__0__accuracy=0.8), described(rules__0__accuracy=0.8 - one)
    run = judge(published, now)  # nothing measured: nothing is tolerated
    assert run.verdict == DIFFERENT and verdicts(run) == {key: DIFFERENT}
    number = next(n for n in run.numbers if n.key == key)
    assert (number.published, number.now, number.source) == (0.8, 0.8 - one, "reruns")
    assert number.difference == pytest.approx(-one)
    assert run.values == {"rules.0.accuracy": [0.8, 0.8 - one]}
    # Reruns that were an image off now and then let it pass, and two images not.
    reruns = measured(key, *[0.0] * 50, one)
    assert judge(published, now, reruns=reruns).verdict == WITHIN
    more = described(rules__0__accuracy=0.8 - 2 * one)
    assert verdicts(judge(published, more, reruns=reruns)) == {key: DIFFERENT}


def test_the_last_bit_counts():
    now = described(retrieval__ndcg=np.nextafter(0.9487, 1))
    assert verdicts(judge(described(), now)) == {"retrieval.ndcg": DIFFERENT}
    reruns = measured("retrieval.ndcg", 1e-12, 0.0)
    assert verdicts(judge(described(), now, reruns=reruns)) == {"retrieval.ndcg": WITHIN}


@pytest.mark.parametrize(
    ("place", "value", "key"),
    [
        ("settings", {"bins": 256, "clip": 0.25, "weight": 0.0}, "settings"),
        ("rules__1__settings", {"scaled": "each", "C": 1.0}, "rules.RBF SVM.settings"),
        ("retrieval__r_precision", 0.65, "retrieval.r_precision"),
        ("candidates__1__accuracy", 0.44, "candidates.2.accuracy"),
        ("distances__0__mean_average_precision", 0.3, "distances.L2.mean_average_precision"),
        ("answers", [1] + [0] * (IMAGES - 1), "answers"),
        ("retrieval__average_precisions", [0.4] + [0.5] * (IMAGES - 1),
         "retrieval.average_precisions"),
    ],
)  # fmt: skip
def test_every_published_number_is_judged(place, value, key):
    assert verdicts(judge(described(), described(**{place: value}))) == {key: DIFFERENT}


@pytest.mark.parametrize(
    ("place", "value", "key"),
    [
        ("data__checksum", "f0", "data.checksum"),
        ("data__class_names", ["hand", "foot"], "data.class_names"),
        ("data__images", {"train": 611, "validation": 71, "test": 306}, "data.images"),
        ("data__test_labels", [1] + [0] * (IMAGES - 1), "data.test_labels"),
        ("parameters", {"descriptor": "lbp", "dataset": "toy"}, "parameters"),
    ],
)
def test_other_data_or_parameters_are_different_whatever_is_tolerated(place, value, key):
    run = judge(described(), described(**{place: value}), reruns=measured(key, 1.0))
    assert verdicts(run) == {key: DIFFERENT}
    number = next(n for n in run.numbers if n.key == key)
    assert (number.source, number.tolerance) == ("must be equal", 0)


def test_curves_end_and_best_epoch_of_a_network_are_judged():
    now = trained(training__train_loss=[1.5, 0.8], training__best_epoch=1)
    found = verdicts(judge(trained(), now))
    assert found == {"training.train_loss": DIFFERENT, "training.best_epoch": DIFFERENT}
    inner = judge(trained(), trained(training__train_loss=[1.6, 0.7]))
    assert verdicts(inner) == {}
    assert inner.others_that_differ == 1 and inner.verdict == WITHIN
    assert inner.values == {"training.train_loss.0": [1.5, 1.6]}


def test_a_run_that_is_not_there_is_missing():
    run = judge(described(), None)
    assert run.verdict == MISSING and run.now_on is None
    assert {number.verdict for number in run.numbers} == {MISSING}
    assert {number.now for number in run.numbers} == {None}


def test_what_the_published_version_did_not_have_is_no_difference():
    older = described(retrieval__ndcg=None, retrieval__per_class=None)
    run = judge(older, described())
    assert run.verdict == SAME
    assert "retrieval.ndcg" not in {number.key for number in run.numbers}
    gone = judge(described(), older)
    assert verdicts(gone) == {"retrieval.ndcg": MISSING}
    # A parameter that a later version adds with its default is no other run.
    added = described().model_copy(update={"settings": described().settings | {"new": 1}})
    assert judge(described(), added).verdict == SAME
    whole = trained(parameters__network="A")
    full = verification._decided(whole.parameters)
    assert len(full) > len(whole.parameters)
    assert judge(whole, whole.model_copy(update={"parameters": full})).verdict == SAME


def test_counted_numbers_say_how_many_differ():
    answers = [1] * 30 + [0] * (IMAGES - 30)
    precisions = [None, *[0.5] * (IMAGES - 1)]
    published = described(retrieval__average_precisions=precisions)
    now = described(
        answers=answers, retrieval__average_precisions=[None, 0.4, *[0.5] * (IMAGES - 2)]
    )
    found = {n.key: n for n in judge(published, now).numbers}
    assert (found["answers"].published, found["answers"].now) == ("300 images", "30 differ")
    assert found["answers"].difference == pytest.approx(0.1)
    assert found["retrieval.average_precisions"].now == "1 differ"
    assert found["retrieval.average_precisions"].difference == pytest.approx(0.1 / 299)
    fewer = judge(described(), described(answers=[0] * 299))
    assert {n.key: n.difference for n in fewer.numbers}["answers"] == 1


# Tolerances


SEEDS = [
    trained(network, seed, accuracy)
    for network, accuracies in {"A": (0.80, 0.82), "B": (0.70, 0.70), "C": (0.5, 0.48)}.items()
    for seed, accuracy in enumerate(accuracies)
]


def test_a_network_may_differ_as_another_seed_does_and_a_descriptor_may_not():
    seeds = verification.between_seeds(SEEDS, "toy")
    assert seeds.said == "3 pairs of seeds of 3 networks, profile toy"
    key = "rules.softmax.accuracy"
    found = judge(trained(accuracy=0.8), trained(accuracy=0.78), seeds=seeds)
    assert verdicts(found) == {key: WITHIN}
    judged = [n for n in found.numbers if n.source != "must be equal"]
    tolerance = seeds.tolerance(key, LEVEL / len(judged))  # Bonferroni: as many as are judged
    assert [n.tolerance for n in judged if n.key == key] == [tolerance]
    found = judge(trained(accuracy=0.8), trained(accuracy=0.1), seeds=seeds)
    assert verdicts(found) == {key: DIFFERENT}
    now = described(rules__0__accuracy=0.8125 - 0.001)
    assert verdicts(judge(described(), now, seeds=seeds)) == {key: DIFFERENT}


def test_the_mean_square_of_pairs_is_twice_the_pooled_variance():
    # By definition: sum of squares about each network's mean, over the degrees of freedom.
    rng = np.random.default_rng(0)
    accuracies = [rng.uniform(size=k) for k in (2, 3, 5)]
    found = [
        trained(name, seed, float(accuracy))
        for name, own in zip("ABC", accuracies, strict=True)
        for seed, accuracy in enumerate(own)
    ]
    sizes, weights = (
        verification.between_seeds(found, "toy").differences["rules.softmax.accuracy"].T
    )
    freedom = sum(len(own) - 1 for own in accuracies)
    variance = sum(((own - own.mean()) ** 2).sum() for own in accuracies) / freedom
    assert weights.sum() == pytest.approx(freedom)
    assert np.average(sizes**2, weights=weights) == pytest.approx(2 * variance)


def test_the_tolerance_of_one_difference_is_student_s():
    # Table of Student's t: 5 degrees of freedom, 2.5 % above 2.571.
    found = measured("rules.softmax.accuracy", 1, 1, 1, 1, 1)
    assert found.tolerance("rules.softmax.accuracy", 0.05) == pytest.approx(2.571, abs=5e-4)
    mean = found.tolerance("rules.softmax.accuracy", 0.05, 9)
    assert mean == pytest.approx(2.571 / 3, abs=5e-4)


def test_a_tolerance_is_no_less_than_what_was_measured():
    found = measured("retrieval.ndcg", *[0.0] * 200, 1.0)
    assert found.tolerance("retrieval.ndcg", 0.05) == 1
    assert measured("settings", 0, 0, 1).tolerance("settings", LEVEL) == 1
    assert measured("settings", 0, 0, 0).tolerance("settings", LEVEL) == 0


def test_a_kind_that_was_not_measured_takes_the_tolerance_beside_it():
    found = Measured(
        {
            "retrieval.r_precision": np.array([(0.1, 1.0)] * 9),
            "retrieval.average_precisions": np.array([(0.9, 1.0)] * 9),  # a count, and no relative
            "rules.softmax.accuracy": np.array([(0.7, 1.0)] * 9),
        },
        "",
    )
    beside = found.tolerance("retrieval.r_precision", 0.01)
    assert found.tolerance("retrieval.ndcg", 0.01) == beside
    assert found.tolerance("training.train_loss", 0.01) == 0


@pytest.mark.parametrize("networks", [4, 42])
def test_all_numbers_stay_within_their_tolerances_as_often_as_promised(networks):
    # Runs that differ by their seeds alone. With independent numbers 1 - (1 - p / M)^M of the
    # verifications find one different, which is a little less than p.
    rng = np.random.default_rng(1)
    trials, numbers, seeds, level = 600, 8, 3, 0.1
    runs = rng.normal(size=(trials, numbers, networks, seeds))
    pairs = np.stack([runs[..., i] - runs[..., j] for i, j in ((0, 1), (0, 2), (1, 2))], axis=-1)
    new = rng.normal(scale=np.sqrt(2), size=(trials, numbers))
    outside = []
    for trial in range(trials):
        worst = []
        for number in range(numbers):
            sizes = np.abs(pairs[trial, number]).ravel()
            found = Measured({"k": np.column_stack([sizes, np.full(len(sizes), 2 / seeds)])}, "")
            # Of a mean of four, times two: without the largest one measured, which only widens it.
            worst.append(abs(new[trial, number]) > 2 * found.tolerance("k", level / numbers, 4))
        outside.append(any(worst))
    share = np.mean(outside)
    error = 3 * np.sqrt(level * (1 - level) / trials)
    assert abs(share - (1 - (1 - level / numbers) ** numbers)) < error


def test_the_mean_of_networks_finds_what_no_single_one_shows():
    rng = np.random.default_rng(2)
    names = "ABCDEFG"
    seeds = verification.between_seeds(
        [trained(n, s, 0.7 + 0.02 * rng.normal()) for n in names for s in range(3)], "toy"
    )
    published = {n: trained(n, 0, 0.7) for n in names}
    now = {n: trained(n, 0, 0.6) for n in names}
    nothing = verification.between_reruns(None)
    runs, networks = verification.compare(published, now, seeds, nothing)
    assert {run.verdict for run in runs} == {WITHIN}
    (mean,) = (n for n in networks if n.verdict != SAME)
    assert mean.key == "rules.softmax.accuracy" and mean.verdict == DIFFERENT
    assert mean.difference == pytest.approx(-0.1)
    assert mean.tolerance < 0.1
    _, networks = verification.compare({"A": published["A"]}, now, seeds, nothing)
    assert networks == []


def spread_of(**differences):
    """A spread of one rerun a run: ``toy_hog={"answers": 0.5}``."""
    return Spread(
        profile="toy",
        measured="2020",
        processor="abacus",
        versions={},
        circumstances={"as in the study": {}, "other": {"OMP_NUM_THREADS": "2"}},
        kinds=["retrieval.ndcg", "retrieval.r_precision", "answers"],
        reruns=[
            Rerun(
                run=run.replace("_", "-"),
                trained=run.endswith("s0"),
                circumstances="other",
                values_that_differ=len(sizes),
                differences=sizes,
            )
            for run, sizes in differences.items()
        ],
    )


def test_methods_that_answer_otherwise_and_networks_are_no_tolerance_of_the_others():
    spread = spread_of(
        toy_hog={"retrieval.ndcg": 0.125},
        toy_lbp={},
        toy_vlad={"retrieval.ndcg": 0.25, "answers": 0.01},
        toy_A_s0={"retrieval.ndcg": 0.5, "answers": 0.1},
    )
    found = verification.between_reruns(spread)
    assert found.said.startswith("3 reruns (other; 1 of them of methods")
    for run in ("toy-hog", "other-lbp"):  # on other data the same method
        sizes = found.of(run).differences
        assert sizes["retrieval.ndcg"].tolist() == [[0.125, 1], [0, 1]]
        assert not sizes["answers"][:, 0].any()
    for run in ("toy-vlad", "toy-new"):
        assert found.of(run).differences["retrieval.ndcg"].tolist() == [[0.25, 1]]
    table = verification.spread_table(spread)
    assert table["trained"].tolist() == [False, False, False, True]
    nothing = verification.between_reruns(None)
    assert nothing.of("toy-hog").tolerance("retrieval.ndcg", LEVEL) == 0


# What is said, and files


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder, and a way to publish in it."""
    for module in (verification, results, cli):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)

    def put(place, *found):
        for result in found:
            results.write(tmp_path / place / f"{result.run}.json", result)

    put.root = tmp_path
    return put


def concluded(published, now, checksum="0f", **more):
    return verification.conclude(
        "toy", {r.run: r for r in published}, {r.run: r for r in now}, checksum, **more
    )


def test_a_verification_says_first_what_makes_all_else_moot(project):
    found = concluded([described(), trained()], [], checksum="f0")
    assert found.verdict == DIFFERENT and found.other_data == ["toy-A-s0", "toy-hog"]
    (number,) = found.runs[0].numbers
    assert (number.key, number.published, number.now) == ("data.checksum", "0f", "f0")
    lines = verification.report(found).splitlines()
    first = next(i for i, line in enumerate(lines) if "OTHER DATA OR PARAMETERS" in line)
    assert first < next(i for i, line in enumerate(lines) if line.startswith("run "))
    assert "  toy-hog" in lines


def test_the_report_names_what_is_not_the_same_in_100_columns(project):
    published = [described("toy-" + "very-" * 20 + "long"), described(), trained(), trained("B")]
    now = [
        published[0],
        described(rules__0__accuracy=0.5, settings={"bins": 7} | {"x" * 90: 1.0}),
        trained(accuracy=0.7),
    ]
    found = concluded(published, now, failures=["toy-B-s0: cell 3 failed"])
    text = verification.report(found)
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(r"accuracy, softmax +0.8125 +0.5 +-0.31 +0 +different", text)
    assert re.search(r"settings chosen +0 +different\n +published: bins 16.*\n +now: +bins 7", text)
    assert re.search(r"toy-B-s0 +0 +0 +0 +\d+ +missing", text)
    assert "toy-B-s0: cell 3 failed" in text and text.endswith("toy: MISSING")
    assert "precision at 1 " not in text
    assert "precision at 1 " in verification.report(found, everything=True)
    table = verification.table(found)
    assert set(table["run"]) == {r.run for r in published}
    assert (verification.summary(found).loc["toy-B-s0", "verdict"]) == MISSING


def test_a_verification_is_written_read_and_nothing_else_is(project, tmp_path):
    found = concluded([described()], [described(rules__0__accuracy=0.5)], fresh=True)
    path = tmp_path / "verification.json"
    verification.write(path, found)
    assert verification.read(path) == found
    assert found.runs[0].values and not verification.without_values(found).runs[0].values
    text = json.loads(path.read_text())
    for foreign in (
        text | {"format": 2},
        text | {"runs": [text["runs"][0] | {"verdict": "fine"}]},
        text | {"more": 1},
        described().model_dump(),
        [],
    ):
        path.write_text(json.dumps(foreign))
        with pytest.raises(CbirError, match="is not a verification") as caught:
            verification.read(path)
        assert len(str(caught.value).splitlines()) == 2
    with pytest.raises(CbirError, match="cannot read"):
        verification.read(tmp_path / "none.json")
    assert verification.read_spread() is None
    (tmp_path / "results" / "verification").mkdir(parents=True)
    shutil.copy(path, tmp_path / "results" / "verification" / "spread.json")
    with pytest.raises(CbirError, match="is not a spread"):
        verification.read_spread()


def test_a_verification_of_earlier_results_says_so(project):
    project("results/toy", described(), trained())
    found = concluded([described(), trained()], [described(), trained()])
    assert verification.outdated(found) == []
    project("results/toy", described(circumstances__processor="quill"))
    assert verification.outdated(found) == ["toy-hog"]
    (project.root / "results" / "toy" / "toy-A-s0.json").write_text("{}")
    assert verification.outdated(found) == ["toy-A-s0", "toy-hog"]


def test_what_is_published_is_read_or_refused_in_two_lines(project):
    with pytest.raises(CbirError, match="no results of profile toy") as caught:
        verification.published("toy")
    assert caught.value.hint == "cbir publish --profile toy"
    project("results/other", described())
    with pytest.raises(CbirError) as caught:
        verification.published("toy")
    assert caught.value.hint == "published are other"
    project("results/toy", described(), trained())
    assert list(verification.published("toy")) == ["toy-A-s0", "toy-hog"]
    assert list(verification.published("toy", "toy-hog")) == ["toy-hog"]
    with pytest.raises(CbirError, match="toy-hgo") as caught:
        verification.published("toy", "toy-hgo")
    assert "did you mean 'toy-hog'" in caught.value.hint
    path = project.root / "results" / "toy" / "toy-hog.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(CbirError, match="toy-hog.json is not a result file") as caught:
        verification.published("toy")
    assert "another version" in caught.value.hint and len(str(caught.value).splitlines()) == 2


def test_the_spread_of_the_project_is_of_its_published_kinds():
    spread = verification.read_spread()
    if spread is None:
        pytest.skip("not measured")
    assert {"retrieval.mean_average_precision", "answers", "settings"} <= set(spread.kinds)
    assert {rerun.circumstances for rerun in spread.reruns} < set(spread.circumstances)
    for rerun in spread.reruns:
        assert all(size > 0 for size in rerun.differences.values())
        assert bool(rerun.values_that_differ) >= bool(rerun.differences)

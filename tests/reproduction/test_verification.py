"""Published against now: every verdict, where the tolerance comes from, and planted faults."""

import dataclasses
import json
import re
import shutil

import jupytext
import numpy as np
import pytest
import torch

import cbir_lib
from cbir_lib import paths
from cbir_lib.datasets.radiographs import build_set
from cbir_lib.errors import CbirError
from cbir_lib.networks import training
from cbir_lib.reproduction import gaps, tolerances, verification, verification_report
from cbir_lib.reproduction.tolerances import Measured, Rerun, Reruns, Spread
from cbir_lib.reproduction.verification import DIFFERENT, MISSING, SAME, WITHIN
from cbir_lib.study import results
from cbir_lib.study.results import Result
from cbir_lib.workflow.graph import DECIDING
from tests.study.test_results import changed

VERSIONS = {"circumstances__versions": {"torch": "2.0"}}
IMAGES = 300
NOTHING = Measured({})


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


def judge(published, now, reruns=NOTHING):
    """The verdict on one run, its reruns measured as ``reruns``, whatever kind of run it is."""
    measured = reruns if isinstance(reruns, Reruns) else Reruns(reruns, reruns, reruns)
    now = {} if now is None else {now.run: now}
    (run,), _ = verification.compare({published.run: published}, now, measured)
    return run


def verdicts(run):
    return {number.key: number.verdict for number in run.numbers if number.verdict != SAME}


def rerun(published, now, circumstances="other"):
    """A rerun as ``benchmarks/spread.py`` keeps it, with every kind of number."""
    return Rerun(
        run=published.run,
        trained="network" in published.parameters,
        circumstances=circumstances,
        values_that_differ=len(results.list_differences(published, now)),
        differences=gaps.find_largest(gaps.compare_results(published, now)),
    )


def spread_of(*reruns):
    kinds = {kind for rerun in reruns for kind in rerun.differences}
    return Spread(
        profile="toy",
        measured="2020",
        processor="abacus",
        versions={},
        circumstances={"as in the study": {}, "other": {"OMP_NUM_THREADS": "2"}},
        kinds=sorted(kinds),
        reruns=list(reruns),
    )


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
    assert (number.published, number.now) == (0.8, 0.8 - one)
    assert number.difference == pytest.approx(-one)
    assert run.values == {"rules.0.accuracy": [0.8, 0.8 - one]}
    # Where a rerun was an image off, one image passes and two do not.
    reruns = Measured({key: one})
    assert judge(published, now, reruns=reruns).verdict == WITHIN
    more = described(rules__0__accuracy=0.8 - 2 * one)
    assert verdicts(judge(published, more, reruns=reruns)) == {key: DIFFERENT}


def test_the_last_bit_counts():
    now = described(retrieval__ndcg=np.nextafter(0.9487, 1))
    assert verdicts(judge(described(), now)) == {"retrieval.ndcg": DIFFERENT}
    reruns = Measured({"retrieval.ndcg": 1e-12})
    assert verdicts(judge(described(), now, reruns=reruns)) == {"retrieval.ndcg": WITHIN}


@pytest.mark.parametrize(
    ("place", "value", "key"),
    [
        ("settings", {"bins": 256, "clip": 0.25, "weight": 0.0}, "settings"),
        ("rules__1__settings", {"scaled": "each", "C": 1.0}, "rules.RBF kernel.settings"),
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


def test_accuracies_of_a_classifier_with_other_settings_are_not_compared():
    other = {"rules__1__settings": {"scaled": "each", "C": 1.0}, "rules__1__accuracy": 0.1}
    compared = gaps.compare_results(described(), described(**other))
    assert compared["rules.RBF kernel.settings"].difference == 1
    assert "rules.RBF kernel.accuracy" not in compared
    same = gaps.compare_results(described(), described(rules__1__accuracy=0.1))
    assert same["rules.RBF kernel.accuracy"].difference < 0


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
    run = judge(described(), described(**{place: value}), reruns=Measured({key: 1.0}))
    assert verdicts(run) == {key: DIFFERENT}
    number = next(n for n in run.numbers if n.key == key)
    assert number.tolerance == 0


def test_curves_and_the_epoch_of_a_network_are_judged():
    now = trained(training__train_loss=[1.6, 0.8], training__best_epoch=1)
    first, last = "training.train_loss.first", "training.train_loss.last"
    assert verdicts(judge(trained(), now)) == {
        **dict.fromkeys((first, last), DIFFERENT),
        "training.best_epoch": DIFFERENT,
    }
    labels = [gaps.label_number(key) for key in (first, last, "training.best_epoch")]
    assert labels == ["training loss, first epoch", "training loss, last epoch", "epoch kept"]
    curves = {f"training__{name}": [1.5, 0.7, 0.5] for name in ("train_loss", "validation_loss")}
    other = {"training__validation_loss": [1.4, 0.7, 0.5]}
    inner = judge(trained(**curves), trained(**curves | other))
    assert verdicts(inner) == {}
    assert inner.others_that_differ == 1 and inner.verdict == WITHIN
    assert inner.values == {"training.validation_loss.0": [1.5, 1.4]}


def test_the_precision_is_said_and_not_judged():
    run = judge(trained(training__precision="bfloat16"), trained(training__precision="float32"))
    assert run.verdict == SAME and run.others_that_differ == 0 and run.values == {}
    assert run.published_on.endswith("bfloat16") and run.now_on.endswith("float32")


@pytest.mark.parametrize("name", ["recall_at_1", "ndcg_by_chance"])
def test_what_follows_from_other_numbers_is_compared_and_not_judged(name):
    run = judge(described(), described(**{f"retrieval__{name}": 0.5}))
    assert verdicts(run) == {}
    assert run.others_that_differ == 1 and run.verdict == WITHIN


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
    full = gaps._fill_defaults(whole.parameters)
    assert len(full) > len(whole.parameters)
    assert judge(whole, whole.model_copy(update={"parameters": full})).verdict == SAME


def test_counted_numbers_say_how_many_differ():
    answers = [1] * 30 + [0] * (IMAGES - 30)
    precisions = [None, *[0.5] * (IMAGES - 1)]
    published = described(retrieval__average_precisions=precisions)
    now = described(
        answers=answers, retrieval__average_precisions=[None, 0.4, *[0.5] * (IMAGES - 2)]
    )
    numbers = {n.key: n for n in judge(published, now).numbers}
    assert (numbers["answers"].published, numbers["answers"].now) == ("300 images", "30 differ")
    assert numbers["answers"].difference == pytest.approx(0.1)
    assert numbers["retrieval.average_precisions"].now == "1 differ"
    assert numbers["retrieval.average_precisions"].difference == pytest.approx(0.1 / 299)
    fewer = judge(described(), described(answers=[0] * 299))
    assert {n.key: n.difference for n in fewer.numbers}["answers"] == 1


# Tolerances


NETWORKS = Measured({"rules.accuracy": 0.01}, 2, trained=True)


def test_the_tolerance_is_a_stated_factor_of_the_largest_rerun():
    measured = Measured({"retrieval.ndcg": 0.25, "rules.nearest neighbour.accuracy": 0.5})
    assert measured.tolerance("retrieval.ndcg") == tolerances.FACTOR * 0.25
    assert measured.tolerance("rules.nearest neighbour.accuracy") == tolerances.FACTOR * 0.5
    assert f"{tolerances.FACTOR} times" in " ".join(verification.__doc__.split())


def test_an_accuracy_of_a_network_may_never_differ_by_more_than_three_points():
    key = "rules.softmax.accuracy"
    assert NETWORKS.tolerance(key) == pytest.approx(0.015)
    wild = Measured({"rules.accuracy": 0.4}, trained=True)
    assert wild.tolerance(key) == wild.tolerance("rules.RBF kernel.balanced_accuracy") == 0.03
    assert f"{100 * tolerances.LARGEST_TOLERANCE:g} percentage points" in verification.__doc__
    reruns = Reruns(networks=wild)
    judged = judge(trained(accuracy=0.8), trained(accuracy=0.76), reruns)
    assert verdicts(judged) == {key: DIFFERENT}
    judged = judge(trained(accuracy=0.8), trained(accuracy=0.78), reruns)
    assert verdicts(judged) == {key: WITHIN}


def test_accuracies_of_networks_are_one_kind_of_number():
    one = Rerun(
        run="toy-A-s0",
        trained=True,
        circumstances="other",
        values_that_differ=2,
        differences={"rules.softmax.accuracy": 0.001, "rules.RBF kernel.accuracy": 0.01},
    )
    of_networks = tolerances.measure_reruns(spread_of(one)).networks
    assert of_networks.tolerance("rules.softmax.balanced_accuracy") == pytest.approx(0.015)
    plain = one.model_copy(update={"trained": False, "run": "toy-hog"})
    steady = tolerances.measure_reruns(spread_of(plain)).steady
    assert steady.tolerance("rules.softmax.accuracy") == pytest.approx(0.0015)


def test_a_network_can_be_held_against_the_reruns_of_the_others():
    sizes = {"A": 0.1, "B": 0.01, "C": 0.011}
    reruns = [
        Rerun(
            run=name,
            trained=True,
            circumstances="other",
            values_that_differ=1,
            differences={"retrieval.ndcg": size},
        )
        for name, size in sizes.items()
    ]
    expected = {"A": ["retrieval.ndcg"], "B": [], "C": []}
    assert tolerances.cross_check_networks(spread_of(*reruns)) == expected
    assert tolerances.cross_check_networks(spread_of(reruns[0])) == {}


def test_what_a_network_may_a_method_without_training_may_not():
    now = described(rules__0__accuracy=0.8125 - 0.001)
    judged = judge(described(), now, Reruns(networks=NETWORKS))
    assert verdicts(judged) == {"rules.softmax.accuracy": DIFFERENT}


def test_what_never_differed_must_be_equal():
    assert Measured({"retrieval.ndcg": 0.0}, 50).tolerance("retrieval.ndcg") == 0
    assert Measured({"retrieval.ndcg": 0.0}, 50, trained=True).tolerance("retrieval.ndcg") == 0


def test_a_choice_may_differ_where_a_rerun_chose_differently():
    assert Measured({"settings": 1.0}).tolerance("settings") == 1
    assert Measured({"settings": 0.0}).tolerance("settings") == 0


def test_a_kind_that_was_not_measured_takes_the_tolerance_beside_it():
    measured = Measured(
        {
            "retrieval.r_precision": 0.1,
            "retrieval.average_precisions": 0.9,  # a count, and no relative
            "rules.softmax.accuracy": 0.2,
            "rules.softmax.settings": 1.0,  # a choice, likewise
        }
    )
    assert measured.tolerance("retrieval.ndcg") == measured.tolerance("retrieval.r_precision")
    rule = measured.tolerance("rules.RBF kernel.accuracy")
    assert rule == measured.tolerance("rules.softmax.accuracy")
    assert measured.tolerance("training.train_loss.last") == 0


def test_the_mean_of_networks_finds_what_no_single_one_shows():
    published = {n: trained(n, 0, 0.7) for n in "ABCDEFG"}
    now = {n: trained(n, 0, 0.7 - 0.012) for n in "ABCDEFG"}
    reruns = Reruns(networks=NETWORKS)
    runs, networks = verification.compare(published, now, reruns)
    assert {run.verdict for run in runs} == {WITHIN}
    (mean,) = (n for n in networks if n.verdict != SAME)
    assert mean.key == "rules.softmax.accuracy" and mean.verdict == DIFFERENT
    assert mean.difference == pytest.approx(-0.012)
    assert mean.tolerance == pytest.approx(0.015 / 7**0.5)
    _, networks = verification.compare({"A": published["A"]}, now, reruns)
    assert networks == []
    # What was trained otherwise is in no mean, and in no number of networks.
    for name in "CDEFG":
        now[name] = now[name].model_copy(update={"parameters": {"network": name, "epochs": 1}})
    _, networks = verification.compare(published, now, reruns)
    (mean,) = (n for n in networks if n.verdict != SAME)
    assert mean.tolerance == pytest.approx(0.015 / 2**0.5)


def test_each_kind_of_run_has_tolerances_of_its_own():
    def of(run, trained=False, **sizes):
        differences = {name.replace("__", "."): size for name, size in sizes.items()}
        return Rerun(
            run=run,
            trained=trained,
            circumstances="other",
            values_that_differ=len(sizes),
            differences=differences,
        )

    spread = spread_of(
        of("toy-hog", retrieval__ndcg=0.125),
        of("toy-lbp"),
        of("toy-vlad", retrieval__ndcg=0.25, answers=0.01),
        of("toy-A-s0", trained=True, retrieval__ndcg=0.5, answers=0.1),
    )
    reruns = tolerances.measure_reruns(spread)
    assert (
        "1 of networks, 2 of methods with steady" in reruns.description
        and "other" in reruns.description
    )
    for run in ("toy-hog", "other-lbp"):  # on other data the same method
        assert reruns.select(described(run)).largest == {"retrieval.ndcg": 0.125, "answers": 0}
    for run in ("toy-vlad", "toy-new"):
        assert reruns.select(described(run)).largest == {"retrieval.ndcg": 0.25, "answers": 0.01}
    assert reruns.select(trained("B")).largest == {"retrieval.ndcg": 0.5, "answers": 0.1}
    assert reruns.select(trained("B")).trained and not reruns.select(described()).trained
    assert verification_report.tabulate_spread(spread)["trained"].tolist() == [
        False,
        False,
        False,
        True,
    ]
    nothing = tolerances.measure_reruns(None)
    for run in (described(), trained()):
        assert nothing.select(run).tolerance("retrieval.ndcg") == 0


# Planted faults: real trainings of a few seconds, by the cells of the notebook that trains

TINY = {
    "images": {"train": 300, "validation": 100, "test": 300},
    "classes": ["chest", "lower extremity"],
    **{"size": 32, "network": "G", "epochs": 2, "batch_size": 32},
}


@pytest.fixture(scope="module")
def train(phantom_set, tmp_path_factory):
    """Train and judge a network as its notebook does; ``planted`` are settings it does not know."""
    source = paths.project_root() / "notebooks" / "run_network.md"
    cells = [c for c in jupytext.read(source).cells if c.cell_type == "code"]
    fit = training.fit

    def train(data=phantom_set, seed=0, threads=1, **planted):
        def faulty(*arguments, **options):
            *others, settings = arguments
            return fit(*others, dataclasses.replace(settings, **planted), **options)

        names = {}
        folder = {"folder": str(tmp_path_factory.mktemp("run"))}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cbir_lib, "load", lambda name: data)
            patch.setattr(training, "fit", faulty)
            torch.set_num_threads(threads)
            for cell in cells:
                tags = cell.metadata.get("tags", [])
                if DECIDING & set(tags):
                    exec(cell.source, names)
                if "parameters" in tags:
                    names |= TINY | folder | {"seed": seed}
        torch.set_num_threads(1)
        return names["result"]

    return train


@pytest.fixture(scope="module")
def published(train):
    return train(precision="bfloat16")


@pytest.fixture(scope="module")
def tolerated(train):
    """The reruns of the project, and of other seeds of this small network in float32."""
    small = [
        rerun(train(seed=seed, precision="bfloat16"), train(seed=seed, precision="float32"))
        for seed in (1, 2, 3)
    ]
    of_project = tolerances.read_spread()
    measured = [r for r in of_project.reruns if r.trained] if of_project else []
    return tolerances.measure_reruns(spread_of(*small, *measured))


def different(run):
    return {number.key for number in run.numbers if number.verdict == DIFFERENT}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_faithful_rerun_in_float32_or_with_two_threads_is_not_reported(
    train, published, tolerated, threads, monkeypatch
):
    # The cap is for networks trained to the end: of this one, two epochs old, any rounding shows.
    monkeypatch.setattr(tolerances, "LARGEST_TOLERANCE", 0.1)
    now = train(threads=threads, precision="bfloat16" if threads == 2 else "float32")
    run = judge(published, now, tolerated)
    assert different(run) == set(), [n for n in run.numbers if n.verdict == DIFFERENT]
    assert run.verdict == WITHIN or threads == 2  # which may give the same bits


def test_a_wrong_learning_rate_shows_in_the_curves(train, published, tolerated):
    now = train(precision="bfloat16", learning_rate=0.02)
    assert now.parameters == published.parameters  # nothing says so
    keys = different(judge(published, now, tolerated))
    assert "training.train_loss.last" in keys


def test_a_wrong_split_shows_in_the_labels_of_the_test_images(
    phantom_set, train, published, tolerated
):
    moved = phantom_set.records.copy()
    rows = np.flatnonzero(moved["split"] == "train")[::100]
    moved.loc[rows, "split"] = "test"
    now = train(dataclasses.replace(phantom_set, records=moved), precision="bfloat16")
    assert now.data.checksum == published.data.checksum  # of the images, whatever their split
    run = judge(published, now, tolerated)
    assert "data.test_labels" in different(run)
    # Where all images are taken, as in the evidence, their number says it too.
    whole, other = (
        results.describe_data(dataclasses.replace(phantom_set, records=records))
        for records in (phantom_set.records, moved)
    )
    run = judge(
        published.model_copy(update={"data": whole}), now.model_copy(update={"data": other})
    )
    assert {"data.images", "data.test_labels"} <= different(run)


def test_a_swapped_label_shows_in_the_checksum(phantom_set, train, published, tolerated):
    labels = phantom_set.labels.copy()
    trained_on = np.flatnonzero(phantom_set.records["split"] == "train")
    one = trained_on[0]
    other = next(row for row in trained_on if labels[row] != labels[one])
    labels[[one, other]] = labels[[other, one]]
    records = phantom_set.records.assign(label=labels)
    names = phantom_set.class_names
    swapped = build_set("phantom", names, phantom_set.images, records, hint="")
    whole = build_set(
        "phantom", names, phantom_set.images, records.assign(label=phantom_set.labels), hint=""
    )
    assert whole.checksum == phantom_set.checksum
    now = train(swapped, precision="bfloat16")
    assert "data.checksum" in different(judge(published, now, tolerated))
    outcome = verification.conclude("quick", {now.run: published}, {}, swapped.checksum)
    assert outcome.other_data == [now.run]


# What is said, and files


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder, and a way to publish in it."""
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)

    def put(place, *to_publish):
        for result in to_publish:
            results.write(tmp_path / place / f"{result.run}.json", result)

    put.root = tmp_path
    return put


def concluded(published, now, checksum="0f", **more):
    return verification.conclude(
        "toy", {r.run: r for r in published}, {r.run: r for r in now}, checksum, **more
    )


def test_a_verification_says_first_what_makes_all_else_moot(project):
    outcome = concluded([described(), trained()], [], checksum="f0")
    assert outcome.verdict == DIFFERENT and outcome.other_data == ["toy-A-s0", "toy-hog"]
    (number,) = outcome.runs[0].numbers
    assert (number.key, number.published, number.now) == ("data.checksum", "0f", "f0")
    lines = verification_report.format_report(outcome).splitlines()
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
    outcome = concluded(published, now, failures=["toy-B-s0: cell 3 failed"])
    text = verification_report.format_report(outcome)
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(r"accuracy, softmax +0.8125 +0.5 +-0.31 +0 +different", text)
    assert re.search(r"settings chosen +0 +different\n +published: bins 16.*\n +now: +bins 7", text)
    assert re.search(r"toy-B-s0 +0 +0 +0 +\d+ +missing", text)
    assert "toy-B-s0: cell 3 failed" in text and text.endswith("toy: MISSING")
    assert "precision at 1 " not in text
    assert "precision at 1 " in verification_report.format_report(outcome, everything=True)
    table = verification_report.tabulate(outcome)
    assert set(table["run"]) == {r.run for r in published}
    assert (verification_report.summarise(outcome).loc["toy-B-s0", "verdict"]) == MISSING


def test_a_verification_is_written_read_and_nothing_else_is(project, tmp_path):
    outcome = concluded([described()], [described(rules__0__accuracy=0.5)], fresh=True)
    path = tmp_path / "verification.json"
    verification.write(path, outcome)
    assert verification.read(path) == outcome
    assert outcome.runs[0].values and not verification.drop_values(outcome).runs[0].values
    text = json.loads(path.read_text())
    for foreign in (
        text | {"format": 1},
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
    assert tolerances.read_spread() is None
    (tmp_path / "results" / "verification").mkdir(parents=True)
    shutil.copy(path, tmp_path / "results" / "verification" / "spread.json")
    with pytest.raises(CbirError, match="is not a spread"):
        tolerances.read_spread()


def test_a_verification_of_earlier_results_says_so(project):
    project("results/toy", described(), trained())
    outcome = concluded([described(), trained()], [described(), trained()])
    assert verification.find_outdated(outcome) == []
    project("results/toy", described(circumstances__processor="quill"))
    assert verification.find_outdated(outcome) == ["toy-hog"]
    (project.root / "results" / "toy" / "toy-A-s0.json").write_text("{}")
    assert verification.find_outdated(outcome) == ["toy-A-s0", "toy-hog"]


def test_what_is_published_is_read_or_refused_in_two_lines(project):
    with pytest.raises(CbirError, match="no results of profile toy") as caught:
        verification.read_published("toy")
    assert caught.value.hint == "cbir publish --profile toy"
    project("results/other", described())
    with pytest.raises(CbirError) as caught:
        verification.read_published("toy")
    assert caught.value.hint == "published profiles: other"
    project("results/toy", described(), trained())
    assert list(verification.read_published("toy")) == ["toy-A-s0", "toy-hog"]
    assert list(verification.read_published("toy", "toy-hog")) == ["toy-hog"]
    with pytest.raises(CbirError, match="toy-hgo") as caught:
        verification.read_published("toy", "toy-hgo")
    assert "did you mean 'toy-hog'" in caught.value.hint
    path = project.root / "results" / "toy" / "toy-hog.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(CbirError, match="toy-hog.json is not a result file") as caught:
        verification.read_published("toy")
    assert "another version" in caught.value.hint and len(str(caught.value).splitlines()) == 2


def test_the_spread_of_the_project_is_of_its_published_kinds():
    spread = tolerances.read_spread()
    if spread is None:
        pytest.skip("not measured")
    assert {"retrieval.mean_average_precision", "answers", "settings"} <= set(spread.kinds)
    assert {rerun.circumstances for rerun in spread.reruns} < set(spread.circumstances)
    for rerun in spread.reruns:
        assert all(size > 0 for size in rerun.differences.values())
        assert bool(rerun.values_that_differ) >= bool(rerun.differences)


def test_labels_exchanged_within_the_sample_show_in_its_checksum(phantom_set, train, published):
    """The source is as it was: what went wrong happened between loading and training."""
    labels = phantom_set.labels.copy()
    sample = phantom_set.select_classes(TINY["classes"]).sample(TINY["images"], 0)
    trained_on = np.flatnonzero(np.isin(phantom_set.image_ids, sample.split("train").image_ids))
    one = trained_on[0]
    other = next(row for row in trained_on if labels[row] != labels[one])
    labels[[one, other]] = labels[[other, one]]
    now = train(dataclasses.replace(phantom_set, labels=labels), precision="bfloat16")
    assert now.data.checksum == published.data.checksum
    assert now.data.test_labels == published.data.test_labels
    assert "data.sample_checksum" in different(judge(published, now))

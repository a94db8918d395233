"""The result file: what is written is what is read, and nothing else is accepted."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cbir_lib import paths
from cbir_lib.errors import CbirError
from cbir_lib.evaluation import intervals
from cbir_lib.evaluation.significance import run_permutation_test
from cbir_lib.reproduction import paper, tables
from cbir_lib.study import pairwise, results, summaries, wording
from cbir_lib.study.results import Result

# Every number is another, so that each can be found again in a text.
WRITTEN = {
    "format": 5,
    "run": "toy-A-s0",
    "parameters": {
        "dataset": "toy",
        "images": {"train": 3},
        "sample_seed": 0,
        "size": 64,
        "network": "A",
        "classes": [],
        "dropout": 0.0,
        "epochs": 2,
        "budget": 1,
        "learning_rate": 0.01,
        "seed": 0,
    },
    "data": {
        "dataset": "toy",
        "checksum": "0f",
        "sample_checksum": "5a",
        "class_names": ["hand", "hé"],
        "images": {"train": 611, "validation": 71, "test": 307},
        "test_labels": [0, 0, 1, 1],
        "test_subjects": [0, 1, 2, 2],
    },
    "settings": {"bins": 16, "clip": 0.25, "weight": 0.0},
    "candidates": [
        {
            "settings": {"bins": 256},
            "values": 256,
            "accuracy": 0.41,
            "mean_average_precision": 0.32,
        },
        {"settings": {"bins": 16}, "values": 16, "accuracy": 0.43, "mean_average_precision": 0.31},
    ],
    "rules": [
        {
            "rule": "softmax",
            "settings": {},
            "validation_accuracy": 0.8411,
            "accuracy": 0.8125,
            "accuracy_interval": [0.7656, 0.8508],
            "balanced_accuracy": 0.7917,
            "balanced_accuracy_interval": [0.7488, 0.8377],
            "confusion": [[3, 1], [0, 4]],
        },
        {
            "rule": "RBF kernel",
            "settings": {"scaled": "each", "gamma": 4.0, "C": 10.0},
            "validation_accuracy": 0.8522,
            "accuracy": 0.8633,
            "accuracy_interval": [0.8155, 0.9066],
            "balanced_accuracy": 0.8244,
            "balanced_accuracy_interval": [0.7799, 0.8688],
            "confusion": [[4, 0], [1, 3]],
        },
    ],
    "answers": [0, 1, 1, 1],
    "retrieval": {
        "distance": "L2",
        "queries": 307,
        "queries_without_relevant": 1,
        "mean_average_precision": 0.1 + 0.2,  # 0.30000000000000004: every digit is kept
        "mean_average_precision_interval": [0.254, 0.347],
        "precision_at_1": 0.91,
        "precision_at_5": 0.82,
        "precision_at_10": 0.7353,
        "r_precision": 0.64,
        "precision_recall": [1.0, 0.5, 1 / 3],
        "average_precisions": [0.5, None, 0.25, 0.75],
        "precisions_at_1": [1.0, None, 0.0, 1.0],
        "precisions_at_10": [0.4, None, 0.3, 0.9],
        "mean_average_precision_interval_of_subjects": [0.241, 0.359],
        "mean_average_precision_by_chance": 0.181,
        "macro_mean_average_precision": 0.336,
        "macro_mean_average_precision_interval": [0.322, 0.351],
        "precision_at_10_interval": [0.7212, 0.7488],
        "r_precision_interval": [0.631, 0.652],
        "recall_at_1": 0.0031,
        "recall_at_5": 0.0122,
        "recall_at_10": 0.0218,
        "ndcg": 0.9487,
        "ndcg_interval": [0.9471, 0.9501],
        "ndcg_by_chance": 0.9254,
        "ndcg_at_10": 0.7317,
        "ndcg_at_10_interval": [0.7204, 0.7429],
        "ndcg_at_10_by_chance": 0.4973,
        "hierarchical_error": 0.1813,
        "hierarchical_error_interval": [0.1637, 0.1977],
        "hierarchical_error_by_chance": 0.5054,
        "ranks": [1, 2, 611],
        "precision_by_rank": [0.905, 0.885, 0.215],
        "recall_by_rank": [0.003, 0.006, 1.0],
        "per_class": {
            "hand": {
                "queries": 150,
                "mean_average_precision": 0.377,
                "mean_average_precision_interval": [0.366, 0.388],
                "precision_at_10": 0.722,
                "r_precision": 0.644,
                "ndcg": 0.941,
                "ndcg_at_10": 0.742,
                "hierarchical_error": None,
                "precision_recall": [0.95, 0.105],
            }
        },
    },
    "distances": [{"distance": "L2", "accuracy": 0.43, "mean_average_precision": 0.31}],
    "confused": [
        {
            "query": "hand/1",
            "label": 0,
            "nearest": "hé/4",
            "nearest_label": 1,
            "distance": 0.125,
            "nearest_of_own_class": "hand/5",
            "distance_of_own_class": 0.5,
        }
    ],
    "embedding": {"places": [[0.5, -1.0], [1.0, 0.25]], "labels": [0, 1]},
    "training": {
        "train_loss": [1.5, 0.7],
        "validation_loss": [1.6, 0.9],
        "validation_accuracy": [0.4, 0.8],
        "best_epoch": 2,
        "batch_size": 32,
        "precision": "bfloat16",
    },
    "examples": [
        {
            "choice": "median",
            "query": "hand/1",
            "label": 0,
            "average_precision": 0.6,
            "neighbours": ["hand/2", "hé/3"],
            "neighbour_labels": [0, 1],
            "distances": [0.25, 1.0],
        }
    ],
    "circumstances": {
        "finished": "2020-02-02T02:02:02+00:00",
        "seconds": {"training": 1.25},
        "processor": "abacus",
        "cores": 2,
        "accelerator": "cpu",
        "python": "3.11",
        "versions": {"numpy": "2.1"},
    },
}


def changed(**replaced):
    """The result with other values: ``changed(retrieval__queries=2, rules__0__accuracy=1.0)``."""
    written = json.loads(json.dumps(WRITTEN))
    for place, value in replaced.items():
        *parents, key = place.split("__")
        inner = written
        for parent in parents:
            inner = inner[int(parent) if isinstance(inner, list) else parent]
        inner[key] = value
    return written


@pytest.fixture
def result():
    return Result.model_validate(WRITTEN)


def methods(subjects=(0, 1, 2, 2)):
    """Three methods on four images, two of which are of one subject."""
    answers = {"right": [0, 0, 1, 1], "half": [0, 1, 1, 0], "wrong": [1, 1, 0, 0]}
    precisions = {
        "right": [0.9, 0.8, 0.7, None], "half": [0.5, 0.9, 0.6, 0.1], "wrong": [0.1, 0.2, 0.3, 0.4]
    }  # fmt: skip
    return {
        name: Result.model_validate(
            changed(
                run=name,
                answers=answers[name],
                retrieval__average_precisions=precisions[name],
                data__test_subjects=subjects and list(subjects),
            )
        )
        for name in answers
    }


def test_every_method_is_tested_against_one():
    table = pairwise.run_paired_tests(methods(), "accuracy", "right")
    assert [*table.index] == ["half", "wrong"]
    assert table["difference"].tolist() == [50, 100]
    # One is right alone on 2 and on 4 images: 2 / 2^2 and 2 / 2^4, the smaller one twice.
    np.testing.assert_allclose(table["p"], [2 / 2**2, 2 / 2**4])
    np.testing.assert_allclose(table["holm"], [2 / 2**2, 2 * 2 / 2**4])
    assert (table["low"] <= table["difference"]).all()
    assert (table["high"] >= table["difference"]).all()


@pytest.mark.parametrize("subjects", [(0, 1, 2, 2), (0, 1, 1, 2), None])
def test_precisions_are_tested_over_subjects(subjects):
    table = pairwise.run_paired_tests(methods(subjects), "mAP", "right")
    gaps = [0.9 - 0.5, 0.8 - 0.9, 0.7 - 0.6]  # the last query has no average precision
    assert table.loc["half", "difference"] == pytest.approx(100 * sum(gaps) / 3)
    known = None if subjects is None else np.array(subjects[:3])
    assert table.loc["half", "p"] == run_permutation_test(np.array(gaps), subjects=known)
    assert table.loc["wrong", "p"] == (2 / 4 if subjects == (0, 1, 1, 2) else 2 / 8)


def test_methods_on_different_images_are_not_tested():
    result_of = methods()
    result_of["wrong"] = Result.model_validate(changed(data__checksum="1f"))
    with pytest.raises(CbirError, match="different images"):
        pairwise.run_paired_tests(result_of, "accuracy", "right")


def test_ranks_are_means_over_subjects():
    ranks, critical, blocks = pairwise.compute_mean_ranks(methods())
    # Of the third subject, one image has no value for one method, and counts for none.
    assert blocks == 3
    means = {"right": [0.9, 0.8, 0.7], "half": [0.5, 0.9, 0.6], "wrong": [0.1, 0.2, 0.3]}
    expected = stats.rankdata(-np.array([*means.values()]), axis=0).mean(axis=1)
    np.testing.assert_allclose(ranks[[*means]], expected)
    assert critical > 0
    ranks, critical_of_queries, blocks = pairwise.compute_mean_ranks(methods(None))
    assert blocks == 3  # the query without a value is left out
    assert critical_of_queries == critical


@pytest.mark.parametrize(("p", "words"), [(0.0004, "< 0.001"), (0.001, "0.001"), (1.0, "1.000")])
def test_p_in_words(p, words):
    assert wording.format_p(p) == words


@pytest.mark.parametrize("training", [WRITTEN["training"], None])
def test_what_was_written_is_what_is_read(training, tmp_path):
    result = Result.model_validate(changed(training=training))
    path = tmp_path / "new" / "result.json"
    results.write(path, result)
    assert results.read(path) == result
    written = json.loads(path.read_text(encoding="utf-8"))
    assert len(written.pop("sha256")) == 64
    assert written == changed(training=training)
    first = path.read_bytes()
    results.write(path, results.read(path))
    assert path.read_bytes() == first
    assert first.endswith(b"}\n")
    assert [left.name for left in path.parent.iterdir()] == ["result.json"]


def refused(path):
    with pytest.raises(CbirError) as caught:
        results.read(path)
    assert str(path) in caught.value.what
    assert len(str(caught.value).splitlines()) == 2
    return caught.value.what


@pytest.mark.parametrize(
    ("written", "where"),
    [
        (changed(extra=1), "extra"),
        (changed(retrieval__precision_at_7=0.5), "retrieval.precision_at_7"),
        (changed(retrieval__queries="307"), "retrieval.queries"),
        (changed(retrieval__queries=307.5), "retrieval.queries"),
        (changed(rules__0__accuracy=None), "rules.0.accuracy"),
        (changed(rules__1__rule="majority"), "rules.1.rule"),
        (changed(format=4), "format"),  # without the first answers of each query
        (changed(rules__1__rule="RBF SVM"), "rules.1.rule"),
        (changed(answers=[0.5]), "answers.0"),
        (changed(training__batch_size=None), "training.batch_size"),
        (changed(training__precision="float16"), "training.precision"),
        (changed(examples=[{"choice": "best"}]), "examples.0.choice"),
        ({name: value for name, value in WRITTEN.items() if name != "data"}, "data"),
        ([WRITTEN], "the file"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused_by_its_key(written, where, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(written))
    assert f" {where}: " in refused(path)


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_truncated_json_is_refused_and_not_repeated(part, result, tmp_path):
    path = tmp_path / "result.json"
    results.write(path, result)
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: int(part * len(text))], encoding="utf-8")
    said = refused(path)
    assert "Invalid JSON" in said
    assert "checksum" not in said  # the error is no copy of the file


def test_a_flipped_bit_anywhere_is_refused(result, tmp_path):
    path = tmp_path / "result.json"
    results.write(path, result)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    accepted = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            assert results.read(path) == result, place  # one blank became another
            accepted += 1
        except CbirError as error:
            assert len(str(error).splitlines()) == 2
    assert accepted < len(whole) / 100


def test_a_file_from_before_there_were_checksums_is_read(result, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(changed()), encoding="utf-8")
    assert results.read(path) == Result(**changed())


PUBLISHED = sorted((Path(__file__).parents[2] / "results").rglob("*.json"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_published_has_its_checksum(path):
    text = path.read_text(encoding="utf-8")
    assert list(json.loads(text))[-1] == "sha256"


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    assert "No such file" in refused(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(bytes(range(256)))
    assert "Invalid JSON" in refused(tmp_path / "binary.json")


def test_a_copy_of_a_published_result_does_not_count_twice(result, tmp_path, monkeypatch):
    """As programs that keep folders in step make them; what systems leave is passed over."""
    monkeypatch.setattr(paths, "results_folder", lambda profile: tmp_path)
    file = tmp_path / f"{result.run}.json"
    results.write(file, result)
    (tmp_path / f"._{file.name}").write_bytes(b"\0\5\26\7")
    assert [one.run for one in results.read_published("quick")] == [result.run]
    (tmp_path / f"{result.run} (1).json").write_bytes(file.read_bytes())
    with pytest.raises(CbirError, match=rf"\(1\).json is the result of {result.run}") as caught:
        results.read_published("quick")
    assert "remove it" in caught.value.hint


def test_results_of_a_study_are_read_by_run(result, tmp_path):
    for name in ("b", "a"):
        results.write(tmp_path / "runs" / name / "result.json", Result(**changed(run=name)))
    assert [result_read.run for result_read in results.read_all(tmp_path)] == ["a", "b"]
    assert [result_read.run for result_read in results.read_all(tmp_path, ["b"])] == ["b"]
    with pytest.raises(CbirError, match=re.escape(str(tmp_path / "runs" / "c"))):
        results.read_all(tmp_path, ["a", "c"])
    with pytest.raises(CbirError, match="no result in"):
        results.read_all(tmp_path / "runs" / "a")


def test_a_descriptor_that_the_study_has_not_is_named(result):
    hog, lbp = (Result(**changed(run=n, parameters={"descriptor": n})) for n in ("hog", "lbp"))
    selected = summaries.select_descriptors([result, hog, lbp], ["lbp", "hog"])
    assert list(selected.items()) == [("lbp", lbp), ("hog", hog)]  # in the order of the names
    with pytest.raises(CbirError, match="no result of gabor-vector, vlad") as caught:
        summaries.select_descriptors([result, hog], ["gabor-vector", "hog", "vlad"])
    assert len(str(caught.value).splitlines()) == 2


def test_one_descriptor_is_selected_by_name(result):
    hog, lbp = (Result(**changed(run=n, parameters={"descriptor": n})) for n in ("hog", "lbp"))
    assert summaries.select_descriptor([result, hog, lbp], "lbp") == lbp
    with pytest.raises(CbirError, match="no result of vlad"):
        summaries.select_descriptor([result, hog], "vlad")


def test_rules_of_methods_are_next_to_one_another(result):
    hog = Result(**changed(parameters={"descriptor": "hog"}))
    hog.rules.pop()
    table = summaries.tabulate_rules_of_methods([hog, result])
    assert table.index.tolist() == [results.name_method(hog), results.name_method(result)]
    assert table["softmax (%)"].tolist() == ["81.2 (76.6 to 85.1)"] * 2
    assert table["RBF kernel (%)"].tolist() == ["\N{EN DASH}", "86.3 (81.5 to 90.7)"]
    assert table.columns[-1] == "mAP (%)"
    assert table["mAP (%)"].tolist() == ["30.0 (25.4 to 34.7)"] * 2


def test_widths_of_intervals_are_compared_by_their_median(result):
    # 0.241 to 0.359 over subjects, 0.254 to 0.347 over queries.
    twice = Result(**changed(retrieval__mean_average_precision_interval=[0.3, 0.359]))
    assert summaries.compare_interval_widths([result]) == pytest.approx(0.118 / 0.093)
    assert summaries.compare_interval_widths([result, twice]) == pytest.approx(
        (0.118 / 0.093 + 2) / 2
    )


def test_circumstances_and_pictures_are_no_difference(result):
    other = changed(
        circumstances__seconds={"training": 9.5},
        circumstances__processor="quill",
        embedding=None,
    )
    assert results.list_differences(result, Result(**other)) == []


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("retrieval__r_precision", 0.65, "retrieval.r_precision: 0.64, 0.65"),
        (
            "retrieval__precision_recall",
            [1.0, 0.5, 0.3],
            f"retrieval.precision_recall.2: {1 / 3}, 0.3",
        ),
        ("rules__0__confusion", [[3, 1], [1, 4]], "rules.0.confusion.1.0: 0, 1"),
        ("parameters__learning_rate", 5e-4, "parameters.learning_rate: 0.01, 0.0005"),
        ("answers", [0, 1, 0, 1], "answers.2: 1, 0"),
        ("data__checksum", "f0", "data.checksum: 0f, f0"),
        ("retrieval__precision_recall", [1.0, 0.5], f"retrieval.precision_recall.2: {1 / 3}, None"),
    ],
)
def test_a_single_changed_number_is_found(place, value, said, result):
    other = Result(**changed(**{place: value}))
    assert results.list_differences(result, other) == [said]
    assert len(results.list_differences(other, result)) == 1


def test_the_sentence_has_the_numbers_of_the_result(result):
    said = wording.describe_result(result)
    for number in (
        *("**81.2 %**", "307 test images", "76.6 to 85.1 %", "79.2 %"),  # naming
        *("611 training images", "L2", "**30.0 %**", "25.4 to 34.7 %", "73.5 %"),  # searching
    ):
        assert number in said
    assert said.startswith("By the highest score")
    assert wording.describe_result(
        Result(**changed(rules__0__rule="nearest neighbour"))
    ).startswith("By the nearest neighbour")


def test_the_table_has_one_row_a_result_in_percent(result):
    described = Result(**changed(parameters={"descriptor": "grey-histogram"}))
    table = summaries.tabulate_methods([result, described])
    assert table.index.tolist() == ["Network A", "Grey histogram"]
    row = table.loc["Network A"]
    assert row["accuracy"] == pytest.approx(81.25)
    assert row["balanced accuracy low"] == pytest.approx(74.88)
    assert row["mAP"] == pytest.approx(30)
    assert row["P@10"] == pytest.approx(73.53)
    assert row["seconds"] == 1.25


def test_examples_name_their_images(result):
    assert results.list_example_ids(result) == {"hand/1", "hand/2", "hé/3", "hé/4", "hand/5"}


def test_what_is_shown_of_rules_and_candidates_is_theirs(result):
    rules = summaries.tabulate_rules(result)
    assert rules.index.tolist() == ["softmax", "RBF kernel"]
    assert rules.loc["RBF kernel"].tolist() == [
        *("86.3 (81.5 to 90.7)", "82.4 (78.0 to 86.9)", "85.2", "scaled each, gamma 4, C 10"),
    ]
    candidates = summaries.tabulate_candidates(result)
    assert candidates.index.tolist() == ["bins 256", "bins 16"]
    assert candidates["accuracy (%)"].tolist() == ["41.0", "43.0"]
    assert candidates["chosen"].tolist() == ["", "\N{CHECK MARK}"]
    said = wording.describe_choice(result)
    assert "**43.0 %**" in said and "bins 16" in said and "71 validation images" in said


def test_the_row_of_the_paper_is_named_where_there_is_one():
    for parameters, number in (({"network": "A"}, "43.1"), ({"descriptor": "hog"}, None)):
        said = paper.describe_paper_result(parameters)
        assert (number in said) if number else ("no number" in said)


def test_circumstances_name_the_versions():
    circumstances = results.record_circumstances({"training": 1.23456})
    assert circumstances.seconds == {"training": 1.23}
    assert circumstances.cores >= 1
    assert set(circumstances.versions) == set(results.VERSIONED)


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        ("fpu avx2 avx512f avx512_bf16", "Abacus 7 with AVX-512 and bfloat16"),
        ("fpu avx2 avx512f", "Abacus 7 with AVX-512"),
        ("fpu avx avx2", "Abacus 7 with AVX2"),
        ("fpu sse2", "Abacus 7"),
    ],
)
def test_generations_of_one_name_differ_by_their_instructions(tmp_path, flags, shown):
    core = f"model name\t: Abacus 7\nflags\t\t: {flags}\n\n"
    (tmp_path / "cpuinfo").write_text(core + core.replace(flags, "another core's"))
    assert results._find_processor(tmp_path / "cpuinfo") == shown


def test_a_system_that_does_not_describe_its_processor_names_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert results._find_processor(tmp_path / "not there") == "arm64"
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: asimd\n")  # of an ARM
    assert results._find_processor(tmp_path / "cpuinfo") == "arm64"


def test_a_variant_is_named_with_its_network():
    variant = Result(**changed(parameters__dropout=0.5, parameters__augment=True))
    assert results.name_variant(variant) == "dropout-augment"
    assert results.name_method(variant) == "Network A with dropout and augmentation"


# The text of the file


def test_numbers_of_a_list_stand_on_one_line_and_are_read_back_equal(tmp_path):
    rng = np.random.default_rng(0)
    many = changed(
        answers=rng.integers(0, 9, 600).tolist(),
        retrieval__average_precisions=[*rng.random(5).tolist(), None, 1e-300, -0.0],
        retrieval__precision_recall=[],
        rules__0__confusion=[[], [7]],
        embedding__places=rng.normal(size=(50, 2)).tolist(),
    )
    path = tmp_path / "result.json"
    results.write(path, Result(**many))
    assert results.read(path) == Result(**many)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == many | {"sha256": json.loads(text)["sha256"]}
    answers = ", ".join(map(str, many["answers"]))
    assert f'"answers": [ {answers} ]' in text or f'"answers": [{answers}]' in text
    assert '"confusion": [\n' in text  # lists of lists stay apart
    assert len(text.splitlines()) < 300


@pytest.mark.parametrize(
    "name", ["[1,  2]", "a [ 3 ]  b", "scan [1   2].png", "[  ]", "[", "]", "[\n1\n]", "[a,  b]"]
)
def test_brackets_in_a_name_are_no_list(name, tmp_path):
    odd = Result(**changed(data__class_names=[name, "b"], circumstances__processor=name))
    results.write(tmp_path / "result.json", odd)
    assert results.read(tmp_path / "result.json") == odd


# Networks side by side


def run(network="A", seed=0, *, answers=(0, 1, 1, 1), precisions=(0.5, None, 0.25, 0.75), **more):
    """A result with these answers (the labels are 0, 0, 1, 1) and average precisions."""
    variant = {f"parameters__{name}": value for name, value in more.items()}
    return Result(
        **changed(
            run=f"toy-{network}-{'-'.join(more)}-s{seed}",
            parameters__network=network,
            parameters__seed=seed,
            answers=list(answers),
            retrieval__average_precisions=list(precisions),
            **variant,
        )
    )


def test_the_table_of_networks_has_one_row_a_run():
    other = changed(run="toy-B-dropout-s3", parameters__network="B", parameters__dropout=0.5)
    other["parameters"]["seed"] = 3
    table = summaries.tabulate_networks([run(), Result(**other)])
    assert table.index.tolist() == ["toy-A--s0", "toy-B-dropout-s3"]
    assert table["network"].tolist() == ["A", "B"]
    assert table["variant"].tolist() == ["", "dropout"]
    assert table["seed"].tolist() == [0, 3]
    measures = ["accuracy", "balanced accuracy", "validation accuracy", "mAP"]
    for _, row in table.iterrows():
        assert row[measures].tolist() == pytest.approx([81.25, 79.17, 84.11, 30])
        assert (row["best epoch"], row["epochs"], row["training s"]) == (2, 2, 1.25)
    assert set(table.columns) - set(measures) == {
        *("network", "variant", "seed", "best epoch", "epochs", "training s"),
    }


# Labels 0, 0, 1, 1. Right: with dropout 3 and 4 of four, plain 2 and 2; seed 5 has no counterpart.
PLAIN = [run(seed=0, answers=(0, 1, 0, 1)), run(seed=1, answers=(1, 1, 1, 1))]
DROPPED = [
    run(seed=0, answers=(0, 0, 0, 1), precisions=(0.75, None, 0.5, 0.5), dropout=0.5),
    run(seed=1, answers=(0, 0, 1, 1), precisions=(1.0, None, 1.0, 0.75), dropout=0.5),
    run(seed=5, answers=(1, 1, 0, 0), dropout=0.5),
]


def test_the_difference_is_image_by_image_and_seed_by_seed():
    difference = pairwise.compute_difference([*DROPPED, *PLAIN], ("A", "dropout"), ("A", ""))
    # Seed 0: right where the plain one is not for one image of four; seed 1: for two.
    assert difference["lowest"] == 25
    assert difference["highest"] == 50
    assert difference["difference"] == pytest.approx(37.5)
    assert difference["seeds"] == 2
    # Row by row (0, 1, 0, 0) and (1, 1, 0, 0): all means of four images lie in 0 to 100.
    assert 0 <= difference["low"] < 37.5 < difference["high"] <= 100
    back = pairwise.compute_difference([*DROPPED, *PLAIN], ("A", ""), ("A", "dropout"))
    assert back["difference"] == pytest.approx(-37.5)
    assert [back["low"], back["high"]] == pytest.approx([-difference["high"], -difference["low"]])
    assert (back["lowest"], back["highest"]) == (-50, -25)


def test_the_difference_of_mean_average_precision_leaves_out_what_has_none():
    difference = pairwise.compute_difference([*DROPPED, *PLAIN], ("A", "dropout"), ("A", ""), "mAP")
    # Seed 0: (0.25, 0.25, -0.25), seed 1: (0.5, 0.75, 0), of the three queries that have one.
    assert difference["lowest"] == pytest.approx(100 * 0.25 / 3)
    assert difference["highest"] == pytest.approx(100 * 1.25 / 3)
    assert difference["difference"] == pytest.approx(100 * 1.5 / 6)


def test_the_difference_of_a_run_to_itself_is_none_at_all():
    difference = pairwise.compute_difference(PLAIN, ("A", ""), ("A", ""))
    assert [difference[name] for name in ("difference", "low", "high", "lowest", "highest")] == [
        0
    ] * 5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("A", "dropout"), ("B", "")),  # no such network
        (("A", "raw"), ("A", "")),
        (("A", ""), ("A", "raw")),
    ],
)
def test_without_a_seed_in_common_there_is_no_difference(one, other):
    assert pairwise.compute_difference([*PLAIN, *DROPPED], one, other) is None
    assert pairwise.compute_difference([*PLAIN, DROPPED[2]], ("A", "dropout"), ("A", "")) is None


@pytest.mark.parametrize(
    "where", ["data__checksum", "data__class_names", "data__images", "data__test_labels"]
)
def test_results_on_different_images_have_no_difference(where):
    value = {
        "data__checksum": "f0",
        "data__class_names": ["hand", "foot"],
        "data__images": {"train": 611, "validation": 71, "test": 306},
        "data__test_labels": [0, 0, 0, 1],
    }[where]
    other = Result(**changed(run="other", parameters__dropout=0.5, **{where: value}))
    with pytest.raises(CbirError, match="other and toy-A--s0 were measured on different images"):
        pairwise.compute_difference([PLAIN[0], other], ("A", "dropout"), ("A", ""))


# Several seeds of a network


def test_the_table_averages_the_seeds_of_a_network():
    other = changed(
        run="other",
        parameters__seed=1,
        answers=[1, 1, 1, 1],
        rules__0__accuracy=0.5,
        rules__0__balanced_accuracy=0.25,
        rules__0__balanced_accuracy_interval=[0.2, 0.8],
        retrieval__mean_average_precision=0.5,
        retrieval__average_precisions=[0.25, None, 0.5, 1.0],
        retrieval__precision_at_10=0.5,
        circumstances__seconds={"training": 2.0, "search": 1.75},
    )
    table = summaries.tabulate_methods([run(), Result(**other), run(dropout=0.5)])
    assert table.index.tolist() == ["Network A", "Network A with dropout"]
    row = table.loc["Network A"]
    assert table["seeds"].tolist() == [2, 1]
    assert row["accuracy"] == pytest.approx((81.25 + 50) / 2)
    assert row["balanced accuracy"] == pytest.approx((79.17 + 25) / 2)
    assert row["mAP"] == pytest.approx((30 + 50) / 2)
    assert row["P@10"] == pytest.approx((73.53 + 50) / 2)
    assert row["seconds"] == pytest.approx((1.25 + 3.75) / 2)
    # The widest of the seeds' own intervals.
    low, high = row["balanced accuracy low"], row["balanced accuracy high"]
    assert (low, high) == pytest.approx((20, 83.77))
    # Both drawn, seeds and subjects: 0 and 1, and 2 with two images.
    owners = np.array([0, 1, 2, 2])
    right = np.array([[1, 0, 1, 1], [0, 0, 1, 1]])
    expected = 100 * np.array(intervals.compute_paired_interval(right, subjects=owners))
    assert [row["accuracy low"], row["accuracy high"]] == pytest.approx(expected)
    precisions = np.array([[0.5, 0.25, 0.75], [0.25, 0.5, 1.0]])  # the second query has none
    expected = 100 * np.array(
        intervals.compute_paired_interval(precisions, subjects=owners[[0, 2, 3]])
    )
    assert [row["mAP low"], row["mAP high"]] == pytest.approx(expected)


def test_one_seed_keeps_the_intervals_of_its_result():
    row = summaries.tabulate_methods([run()]).loc["Network A"]
    assert [row["accuracy low"], row["accuracy high"]] == pytest.approx([76.56, 85.08])
    assert [row["mAP low"], row["mAP high"]] == pytest.approx([25.4, 34.7])
    described = Result(**changed(parameters={"descriptor": "hog"}))
    assert summaries.tabulate_methods([described])["seeds"].tolist() == [0]


def test_runs_of_one_method_are_told_apart_by_their_seeds():
    described = Result(**changed(run="hog", parameters={"descriptor": "hog"}))
    by_name = summaries.index_by_name([run(), run(seed=3), run(dropout=0.5), described])
    assert [*by_name] == [
        *("Network A, seed 0", "Network A, seed 3", "Network A with dropout"),
        results.name_method(described),
    ]
    assert by_name["Network A, seed 3"].parameters["seed"] == 3


HOG = Result(**changed(run="hog", parameters={"descriptor": "hog"}))
# Table 4 has A as it is, B with dropout, E with both; and no H.
AS_PUBLISHED = [
    run(seed=1),
    run(),
    run("B"),
    run("B", 2, dropout=0.5),
    run("B", 1, dropout=0.5),
    run("E", augment=True, dropout=0.5),
    run("G"),
    HOG,
]
OTHERS = [
    run(dropout=0.5),
    run("B", augment=True),
    run("B", augment=True, dropout=0.5),
    run("B", budget=2),
    run("B", dropout=0.5, budget=2),
    run("B", precision="float32"),
    run("G", classes=["a", "b"]),
    run("H"),
]


@pytest.mark.parametrize("seed", range(4))
def test_what_stands_beside_table_4_is_trained_plainly_or_as_there(seed):
    shuffled = [*AS_PUBLISHED, *OTHERS]
    shuffled = [shuffled[i] for i in np.random.default_rng(seed).permutation(len(shuffled))]
    kept = tables.select_table_4(shuffled)
    assert kept == [r for r in shuffled if r in AS_PUBLISHED]
    one = tables.select_one_run_per_method(shuffled)
    chosen = {r.parameters.get("network", "hog"): r for r in one}
    assert len(one) == len(chosen)
    # B with dropout, as in Table 4, and of two seeds the lower; G, which was not, plainly.
    assert chosen == {
        "A": AS_PUBLISHED[1],
        "B": AS_PUBLISHED[4],
        "E": AS_PUBLISHED[5],
        "G": AS_PUBLISHED[6],
        "hog": HOG,
    }


def test_a_measure_of_each_query_is_the_one_of_its_name(result):
    assert pairwise.score_queries(result, "accuracy").tolist() == [1, 0, 1, 1]
    for measure, expected in (
        ("mAP", [0.5, np.nan, 0.25, 0.75]),
        ("P@1", [1, np.nan, 0, 1]),
        ("P@10", [0.4, np.nan, 0.3, 0.9]),
    ):
        np.testing.assert_array_equal(pairwise.score_queries(result, measure), expected)


def test_published_results_are_read_by_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    for profile, of_profile in (("full", [DROPPED[0], PLAIN[0]]), ("quick", [PLAIN[1]])):
        for one in of_profile:
            results.write(tmp_path / "results" / profile / f"{one.run}.json", one)
    assert results.read_published("full") == [PLAIN[0], DROPPED[0]]  # in the order of their names
    assert results.read_published("paper") == []


def test_a_caption_says_on_what_was_measured():
    described_results = [
        run(network=network, seed=seed, dataset="mednist") for network in "AB" for seed in (0, 2)
    ]
    described_results = [
        r.model_copy(update={"data": r.data.model_copy(update={"dataset": "mednist"})})
        for r in described_results
    ]
    said = wording.describe_profile("full", described_results)
    assert said.startswith("Profile full: ")
    size = "64 px, 611 training, 71 validation and 307 test images"
    assert said.endswith(f"{size}; 2 epochs, 2 seeds")
    assert wording.describe_profile("full", described_results[:1]).endswith("; 2 epochs, 1 seed")
    longer = run(network="A", budget=2, epochs=700)
    longer = longer.model_copy(update={"data": described_results[0].data})
    # Of one run there is one seed, of others two; the longest training has 2 times 700 epochs.
    assert wording.describe_profile("full", [*described_results, longer]).endswith(
        "; 2 to 1,400 epochs, 1 to 2 seeds"
    )
    handcrafted = HOG.model_copy(
        update={"data": described_results[0].data, "parameters": {"descriptor": "hog", "size": 64}}
    )
    assert wording.describe_profile("full", [handcrafted]).endswith(size)


@pytest.mark.parametrize(
    ("points", "text"),
    [(1.25, "+1.2"), (-0.34, "\N{MINUS SIGN}0.3"), (-0.04, "+0.0"), (0, "+0.0"), (12, "+12.0")],
)
def test_points_have_a_sign_and_no_zero_has_a_minus(points, text):
    assert wording.format_points(points) == text


def test_points_with_two_decimals():
    difference = {"difference": 0.0612, "low": -0.374, "high": 0.4949}
    expected = "+0.06 (\N{MINUS SIGN}0.37 to +0.49)"
    assert wording.format_difference(difference, decimals=2) == expected


def test_differences_and_lists_in_words():
    difference = {"difference": 1.0, "low": -2.0, "high": 4.0}
    assert wording.format_difference(difference) == "+1.0 (\N{MINUS SIGN}2.0 to +4.0)"
    assert wording.format_difference(difference | {"difference": np.nan}) == "\N{EN DASH}"
    assert [wording.join_words("ABC"[:n]) for n in range(4)] == ["", "A", "A and B", "A, B and C"]

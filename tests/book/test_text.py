"""Tables for display: every number of a table is that of its result, in its row and column."""

import re

import numpy as np
import pandas as pd
import pytest

from cbir_lib import irma_code
from cbir_lib.book import text
from cbir_lib.datasets.phantom.parameters import Exposure
from cbir_lib.networks.classifier import METRIC_LOSSES
from cbir_lib.reproduction import ablations, paper, remedies, tables
from cbir_lib.study import pairwise, results, summaries
from cbir_lib.study.results import Result, name_method
from tests.reproduction.test_verdicts import made
from tests.study.test_results import changed, methods


def test_codes_are_put_into_words():
    codes = ["1121-120-942-700", "1123-127-500-000"]
    table = text.tabulate_codes(codes)
    assert table.index.tolist() == codes and table.columns.tolist() == list(irma_code.AXES)
    for code in codes:
        parsed = irma_code.parse_code(code)
        for axis in irma_code.AXES:
            words = irma_code.describe_axis(axis, getattr(parsed, axis))
            assert table.loc[code, axis] == ", ".join(words)


@pytest.mark.parametrize("name", ["gamma", "photons", "rotation_deg"])
def test_a_parameter_of_the_exposure_is_described_with_its_range(name):
    said = text.describe_exposure_parameter(name)
    low, high = Exposure.at(name, 0), Exposure.at(name, 1)
    assert (
        f"from {low:,g} to {high:,g}".replace("-", "\N{MINUS SIGN}") in said and "imulated" in said
    )


def test_the_descriptor_advised_is_the_one_with_the_best_beginnings():
    measured = {"Tamura histogram": (0.7, 0.9, 0.5), "Gabor histogram": (0.8, 0.5, 0.6)}
    found = []
    for side, (accuracy, precision, ten) in (
        measured | {("B", "dropout"): (0.9, 0.95, 0.9)}
    ).items():
        result = made(side, accuracy)
        better = {"mean_average_precision": precision, "precision_at_10": ten}
        searched = result.retrieval.model_copy(update=better)
        found.append(result.model_copy(update={"retrieval": searched}))
    said = text.advise_on_descriptor(found, "where")
    assert "Of the 2 descriptors that need no labels, take **`gabor-histogram`** first" in said
    assert "of ten neighbours 60.0 %" in said
    assert "next best, Tamura histogram, 50.0 %" in said
    assert found[0].classification == found[1].classification  # a tie
    assert "nearest neighbour alone the best is Gabor histogram" in said
    assert "over whole rankings it is Tamura histogram, mAP 90.0 %" in said
    assert "Network B with dropout, trained on such images and their labels, has 90.0 %" in said
    assert said.endswith("*where.*")
    assert "trained on" not in text.advise_on_descriptor(found[:2], "where")


def test_the_learned_metric_is_stated_with_cross_entropy_beside_it():
    networks = [r for r in results.read_published("full") if "network" in r.parameters]
    measured = {r.run: 100 * r.retrieval.mean_average_precision for r in networks}
    (said,) = text.describe_learned_metric(networks)
    learned = {run for run in measured if run.split("-", 2)[2].rpartition("-s")[0] in METRIC_LOSSES}
    of_seeds = {run.rpartition("-s")[0]: [] for run in sorted(learned)}
    for run in learned:
        of_seeds[run.rpartition("-s")[0]].append(measured[run])
    best, values = max(of_seeds.items(), key=lambda item: np.mean(item[1]))
    letter = best.split("-")[1]
    plain = np.mean([v for run, v in measured.items() if re.fullmatch(f"phantom-{letter}-s.", run)])
    assert f"Network {letter} with the " in said
    assert f" has a mAP of {np.mean(values):.1f} %" in said
    assert f"by cross-entropy a mAP of {plain:.1f} %" in said
    assert text.describe_learned_metric([r for r in networks if r.run not in learned]) == []


def test_what_codes_change_is_said_of_the_better_loss():
    published = results.read_published("full")
    (said,) = text.describe_fine_grades(published)
    errors = {
        r.run: 100 * r.retrieval.hierarchical_error
        for r in published
        if re.fullmatch(r"phantom-G-(code-tree-|codes-|)s\d", r.run)
    }

    def mean(start):
        return np.mean([v for run, v in errors.items() if re.fullmatch(rf"{start}s\d", run)])

    best = min(("code-tree", "codes"), key=lambda loss: mean(f"phantom-G-{loss}-"))
    assert f"({mean(f'phantom-G-{best}-'):.1f} % by {best})" in said
    assert f"taught the class ({mean('phantom-G-'):.1f} %)" in said
    other = [r for r in published if "network" not in r.parameters]
    other = min(other, key=lambda r: r.retrieval.hierarchical_error)
    title = text.name_in_sentence(results.name_method(other))
    error = 100 * other.retrieval.hierarchical_error
    assert f"; with {title}, the best of the other methods, it is {error:.1f} %" in said
    assert text.describe_fine_grades([r for r in published if "code" not in r.run]) == []
    without = [r for r in published if not re.fullmatch(r"phantom-G-s\d", r.run)]
    assert text.describe_fine_grades(without) == []


def test_accuracies_are_in_order_and_next_to_the_paper():
    measured = [made(("B", "dropout"), 0.8), made(("A", ""), 0.6), made("Tamura histogram", 0.7)]
    published = tables.find_comparable_rows(measured)
    assert published == {
        "Network B with dropout": "B",
        "Network A": "A",
        name_method(measured[2]): "Tamura histogram",
    }
    methods_table = summaries.tabulate_methods(measured)
    table = text.tabulate_accuracies(methods_table, published)
    by_accuracy = methods_table["accuracy"].sort_values(ascending=False)
    assert table.index.tolist() == by_accuracy.index.tolist()
    for name, row in table.iterrows():
        assert row["accuracy (%)"].startswith(f"{methods_table.loc[name, 'accuracy']:.1f} (")
        assert row["paper (%)"] == paper.TABLE_4[published[name]]


def test_a_network_trained_otherwise_has_no_row_of_the_paper():
    [row] = tables.find_comparable_rows([made(("B", ""), 0.8)]).values()
    assert row is None
    table = summaries.tabulate_methods([made(("B", ""), 0.8)])
    assert text.tabulate_accuracies(table, {"Network B": None})["paper (%)"].tolist() == [text.DASH]


def test_rankings_have_their_measures_and_chance():
    named = {"one": Result(**changed()), "other": Result(**changed(retrieval__ndcg_at_10=0.5))}
    table = text.tabulate_rankings(named)
    assert table.index.tolist() == ["one", "other", "by chance"]
    # The interval over subjects, which stays on one line.
    assert table.loc["one", "mAP (%)"] == "30.0 (24.1\xa0to\xa035.9)"
    assert table.loc["other", "nDCG@10 (%)"].startswith("50.0 (")
    assert table.loc["by chance", ["mAP (%)", "nDCG@10 (%)"]].tolist() == ["18.1", "49.7"]
    assert table.loc["by chance", ["P@10 (%)", "distance"]].tolist() == [text.DASH] * 2
    assert table.loc["one", "distance"] == "L2"


def test_a_measure_that_one_result_lacks_is_left_out():
    named = {"one": Result(**changed()), "other": Result(**changed(retrieval__ndcg_at_10=None))}
    assert "nDCG@10 (%)" not in text.tabulate_rankings(named)


def test_paired_tests_keep_their_rows():
    tests = pairwise.run_paired_tests(methods(), "mAP", "right")
    table = text.tabulate_paired_tests(tests, "mAP")
    assert table.index.tolist() == tests.index.tolist()
    for name, row in tests.iterrows():
        shown = f"{row['difference']:.1f} ({row['low']:.1f} to {row['high']:.1f})"
        assert table.loc[name, "mAP behind (points)"] == shown.replace("-", "\N{MINUS SIGN}")


def test_effects_have_their_settings_and_true_minus_signs():
    rows = pd.DataFrame(
        {
            "method": ["one", "other"],
            "level": ["none", 2.0],
            "hash": ["random", "PCA"],
            "bits": [None, 8],
            **{"mAP": [50.0, 40.04], "low": [45.0, 38.0], "high": [55.0, 42.0]},
            "difference": [0.0, -9.96],
            "difference low": [0.0, -12.0],
            "difference high": [0.0, -0.04],
            **{"P@1": [60.0, 50.0], "P@10": [55.0, 45.0]},
        }
    )
    table = text.tabulate_effects(rows)
    assert table.columns.tolist() == [
        *("level", "hash", "mAP (%)", "difference", "P@1 (%)", "P@10 (%)"),
    ]
    assert table["mAP (%)"].tolist() == ["50.0 (45.0 to 55.0)", "40.0 (38.0 to 42.0)"]
    minus = "\N{MINUS SIGN}"
    assert table["difference"].tolist() == [
        *("+0.0 (+0.0 to +0.0)", f"{minus}10.0 ({minus}12.0 to +0.0)"),
    ]


def test_changes_have_their_title_their_parameters_and_their_differences():
    trained = [made((name, ""), share) for name, share in zip("ABE", (0.6, 0.7, 0.8), strict=True)]
    changes = [
        ablations.Ablation("filters", "5 x 5 for 3 x 3", ("E", ""), ("A", "")),
        ablations.Ablation("decay", "none", ("B", ""), ("B", "")),
    ]
    assert [c.title for c in changes] == ["5 x 5 for 3 x 3, A → E", "none, B"]
    measured = ablations.measure_ablations(trained, changes)
    millions = {("A", ""): 12.34, ("B", ""): 0.5, ("E", ""): 56.0}
    table = text.tabulate_ablations(measured, millions)
    assert table["million"].tolist() == ["12.3 → 56.0", "0.50 → 0.50"]
    assert table["accuracy"].iloc[0].startswith("+20.0 (")
    panels = ablations.split_measures(measured)
    assert list(panels) == ["accuracy", "mAP"]
    for measure, panel in panels.items():
        assert panel.index.tolist() == [c.title for c in changes]
        for (_, row), m in zip(panel.iterrows(), measured, strict=True):
            assert row["difference"] == m.differences[measure]["difference"]


def test_a_remedy_is_next_to_the_papers_numbers():
    plain = [made(("B", ""), 0.7), made(("B", ""), 0.9, seed=1)]  # of which one has no pair
    trained = [*plain, made(("B", "dropout"), 0.8), made(("A", ""), 0.6)]
    differences = remedies.measure_remedies(trained)
    table = text.tabulate_remedy(differences["dropout"], "dropout")
    assert table.index.tolist() == ["B"]
    row = table.loc["B"]
    assert row["here (%)"] == "70.0 → 80.0"
    assert row["paper (%)"] == "{:.2f} → {:.2f}".format(*paper.TABLE_5_DROPOUT["B"])
    assert row["difference (95 % interval)"].startswith("+10.0 (")
    assert text.tabulate_remedy({}, "both").empty
    assert np.isfinite(differences["dropout"]["B"]["difference"])


@pytest.mark.parametrize(
    ("method", "named"),
    [
        ("Network B with dropout", "Network B with dropout"),
        ("Thumbnail, distorted", "thumbnail, distorted"),
        ("Pretrained features", "pretrained features"),
        ("Fourier-Mellin", "Fourier-Mellin"),
        ("VLAD", "VLAD"),
    ],
)
def test_methods_have_names_for_sentences(method, named):
    assert text.name_in_sentence(method) == named

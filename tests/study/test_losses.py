"""Runs that differ in their loss: which are compared, their means, and their differences."""

import pytest

from cbir_lib.networks.classifier import CODE_LOSSES
from cbir_lib.study import losses, pairwise
from cbir_lib.study.results import name_method
from tests.reproduction.test_verdicts import made, series

SHARES = {
    ("G", ""): 0.5,
    ("G", "triplet"): 0.7,
    ("G", "arcface"): 0.4,
    ("G", "dropout"): 0.9,
    ("G", "dropout-arcface"): 0.9,
    ("B", ""): 0.6,
}
RESULTS = series(SHARES, seeds=range(2))


def measured(result, nearest, precision, at_10):
    """The result with an accuracy of the nearest neighbour, mAP and precision among ten."""
    rule = result.rules[1].model_copy(update={"rule": "nearest neighbour", "accuracy": nearest})
    own = result.rules[0].model_copy(update={"accuracy": 0.25})
    found = {"mean_average_precision": precision, "precision_at_10": at_10}
    searched = result.retrieval.model_copy(update=found)
    return result.model_copy(update={"rules": [own, rule], "retrieval": searched})


def test_only_the_loss_differs_and_only_networks_with_another_loss_are_there():
    names = {name_method(r) for r in losses.select_losses(RESULTS)}
    of_losses = {f"Network G with the {loss} loss" for loss in ("triplet", "ArcFace")}
    assert names == {"Network G"} | of_losses
    assert len(losses.select_losses(RESULTS)) == 6
    asking = series({("G", "codes"): 0.8, ("F", "code-tree"): 0.7}, seeds=range(2))
    assert losses.select_losses([*RESULTS, *asking]) == losses.select_losses(RESULTS)
    assert losses.select_losses([*asking, *series({("F", ""): 0.8}, seeds=range(2))]) == []
    plain = [r for r in RESULTS if "loss" not in r.parameters]
    assert losses.select_losses(plain) == []


def test_rows_are_means_of_the_seeds_with_the_highest_map_first():
    table = losses.tabulate_losses(
        [
            measured(made(("G", ""), 0.5, 0), 0.90, 0.30, 0.80),
            measured(made(("G", "arcface"), 0.5, 0), 0.80, 0.50, 0.70),
            measured(made(("G", "arcface"), 0.5, 1), 0.90, 0.60, 0.72),
        ]
    )
    assert list(table.index) == [("G", "arcface"), ("G", "cross-entropy")]
    first = table.iloc[0]
    expected = {"nearest neighbour": 85, "own answer": 25, "P@10": 71, "mAP": 55, "seeds": 2}
    assert first[list(expected)].to_dict() == pytest.approx(expected)
    assert table.loc[("G", "cross-entropy"), "seeds"] == 1
    empty = losses.tabulate_losses([])
    assert empty.empty and list(empty) == list(table)


def test_differences_are_those_from_plain_training_of_the_same_network():
    panels = losses.compare_losses(losses.select_losses(RESULTS))
    triplet, arcface = "G with the triplet loss", "G with the ArcFace loss"
    assert list(panels) == list(losses.MEASURES)
    for measure, rows in panels.items():
        assert set(rows.index) == {triplet, arcface}
        expected = pairwise.compute_difference(RESULTS, ("G", "triplet"), ("G", ""), measure)
        assert rows.loc[triplet].to_dict() == pytest.approx(expected)
    assert panels["mAP"].loc[triplet, "low"] > 0 > panels["mAP"].loc[arcface, "high"]


def test_a_loss_without_a_plain_run_of_its_seed_is_not_compared():
    results = [made(("G", "triplet"), 0.7, 1), made(("G", ""), 0.5, 0)]
    assert all(rows.empty for rows in losses.compare_losses(results).values())
    assert all(rows.empty for rows in losses.compare_losses([]).values())


def graded(result, error):
    """The result with this hierarchical error of the nearest neighbour."""
    found = {"hierarchical_error": error, "ndcg": 0.9}
    return result.model_copy(update={"retrieval": result.retrieval.model_copy(update=found)})


def test_fine_grades_show_every_loss_of_the_network_beside_the_best_of_each_other_family():
    assert losses.ASKING_FOR_CODES == CODE_LOSSES
    results = [
        graded(made(("G", ""), 0.5, 0), 0.06),
        graded(made(("G", "codes"), 0.5, 0), 0.05),
        graded(made(("G", "codes"), 0.5, 1), 0.03),
        graded(made(("G", "arcface"), 0.5, 0), 0.14),
        graded(made(("G", "dropout"), 0.5, 0), 0.01),  # differs in more than the loss
        graded(made(("F", "arcface"), 0.5, 0), 0.01),  # has no training on codes
        graded(made("Gabor histogram", 0.5), 0.20),
        graded(made("Tamura histogram", 0.5), 0.10),
    ]
    assert list(losses.select_fine_grades(results)) == [
        "Network G with IRMA codes for classes, seed 1",
        "Network G with IRMA codes for classes, seed 0",
        "Network G",
        "Tamura histogram",
        "Network G with the ArcFace loss",
    ]
    assert losses.select_fine_grades([r for r in results if "codes" not in r.run]) == {}

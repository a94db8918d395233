"""What the trainings of a study show, on results made by hand."""

import numpy as np
import pytest

from cbir_lib.networks.modules import build_network
from cbir_lib.study import learning
from cbir_lib.study.config import NetworkRun
from cbir_lib.study.results import Result
from tests.study.test_results import changed


def training(network="B", precision="auto", used="bfloat16", epochs=10, accuracy=0.5, **options):
    run = NetworkRun(
        dataset="phantom",
        network=network,
        sample_seed=0,
        epochs=epochs,
        size=64,
        precision=precision,
        **options,
    )
    names = ("train_loss", "validation_loss", "validation_accuracy")
    curves = {name: [1.0, 0.5] for name in names}
    others = {"best_epoch": 2, "batch_size": 64, "precision": used}
    return Result(
        **changed(
            run=run.id,
            parameters=run.model_dump(),
            rules__0__validation_accuracy=accuracy,
            training=curves | others,
        )
    )


def test_twice_the_epochs_are_a_row_per_training():
    pairs = [
        (training(accuracy=0.8), training(epochs=20, accuracy=0.85)),
        (training(augment=True, accuracy=0.7), training(augment=True, epochs=20, accuracy=0.9)),
    ]
    table = learning.tabulate_doubled_epochs(pairs)
    assert table.index.tolist() == ["Network B", "Network B with augmentation"]
    assert table["10 epochs"].tolist() == pytest.approx([80, 70])
    assert table["20 epochs"].tolist() == pytest.approx([85, 90])
    assert table["gain"].tolist() == pytest.approx([5, 20])


def test_without_pairs_there_is_no_gain():
    assert learning.tabulate_doubled_epochs([])["gain"].tolist() == []


def test_trainings_in_float32_for_lack_of_bfloat16_are_left_out():
    asked = training(precision="float32", used="float32")
    usual, forced = training(), training(used="float32")
    assert learning.select_bfloat16_comparison([asked, usual, forced]) == [asked, usual]


def test_sides_of_a_comparison_of_precisions():
    assert learning.list_precision_pairs("BG", ["", "dropout"]) == [
        (("B", "float32"), ("B", "")),
        (("B", "dropout-float32"), ("B", "dropout")),
        (("G", "float32"), ("G", "")),
        (("G", "dropout-float32"), ("G", "dropout")),
    ]
    named = training(precision="float32", dropout=0.5)
    sides = {side for pair in learning.list_precision_pairs("B", ["dropout"]) for side in pair}
    assert ("B", NetworkRun(**named.parameters).variant) in sides


@pytest.mark.parametrize("options", [{}, {"augment": True}, {"batch_norm": True}, {"bits": 48}])
def test_millions_are_those_of_the_module(options):
    result = training(network="G", **options)
    run = NetworkRun(**result.parameters)
    module = build_network("G", np.zeros((64, 64), np.float32), classes=2, **run.options)
    weights = sum(p.numel() for key, p in module.named_parameters() if "norm" not in key)
    [(side, millions)] = learning.count_millions([result]).items()
    assert side == ("G", run.variant)
    assert millions == pytest.approx(weights / 1e6, rel=0.01)


def test_learnt_bits_stand_beside_the_vector_of_the_same_network():
    results = [
        training(network="G"),
        training(network="G", bits=16),
        training(network="G", bits=16, seed=1),
        training(network="G", bits=64, dropout=0.5),  # differs in more than the bits
        training(network="B"),
    ]
    found = [
        r.model_copy(update={"retrieval": r.retrieval.model_copy(update={"precision_at_1": p})})
        for r, p in zip(results, (0.9, 0.7, 0.8, 0.1, 0.2), strict=True)
    ]
    table = learning.tabulate_learnt_bits(found)
    assert table["vector"].tolist() == ["16 bits", "800 numbers"]
    assert table["bytes"].tolist() == [2, 3200]
    assert table["P@1"].tolist() == pytest.approx([75, 90])
    assert table["seeds"].tolist() == [2, 1]
    assert learning.tabulate_learnt_bits(found[:1]).empty

"""Tables of results."""

from __future__ import annotations

import pytest

from cbir_lib.study import summaries
from cbir_lib.study.config import NetworkRun
from cbir_lib.study.results import Result
from tests.study.test_results import changed


def test_core_hours_are_estimated_by_network_and_precision():
    def measure(network, epochs, training, judging, precision="auto"):
        parameters = {"network": network, "precision": precision}
        seconds = {"training": training, "judging": judging}
        written = changed(parameters=parameters, circumstances__seconds=seconds)
        written["training"]["train_loss"] = [0.5] * epochs
        return Result.model_validate(written)

    measured = [
        measure("A", epochs=10, training=3600, judging=720),
        measure("A", epochs=20, training=3600, judging=360),  # the same network on idle cores
        measure("A", epochs=10, training=36000, judging=360, precision="float32"),
        measure("B", epochs=10, training=7200, judging=360),
    ]
    planned = [
        NetworkRun(
            dataset="phantom", network=network, epochs=10, budget=budget, sample_seed=0, size=64
        )
        for network, budget in [("A", 1), ("A", 2), ("B", 1), ("G", 1)]  # none is there of G
    ]
    hours = summaries.estimate_hours(planned, measured)
    # A's epoch takes 180 s at least and 270 s in the median, B's 720 s.
    assert hours["least"] == pytest.approx((30 * 180 + 2 * 360 + 10 * 720 + 360) / 3600)
    assert hours["median"] == pytest.approx((30 * 270 + 2 * 540 + 10 * 720 + 360) / 3600)

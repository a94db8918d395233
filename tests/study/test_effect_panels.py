"""Panels of effects: every row is in its panel, with its own numbers."""

import numpy as np
import pandas as pd
import pytest

from cbir_lib import paths
from cbir_lib.study import effect_panels, effects


def published(profile, name):
    return effects.read(effects.published_path(profile, name))


@pytest.fixture(scope="module")
def tables():
    measured = published("quick", "representation")
    return {factor: effects.tabulate(measured, factor) for factor in ("PCA", "bits", "fusion")}


def rows_of(panel):
    return {(row.level, row.method, row.value, row.low, row.high) for row in panel.itertuples()}


def test_components_are_plain_and_whitened(tables):
    pca = tables["PCA"]
    panels = effect_panels.split_components(pca)
    assert list(panels) == list(pca["method"].unique())
    for method, panel in panels.items():
        expected = {
            (float(r.level), "whitened" if r.whitened else "plain", r.mAP, r.low, r.high)
            for r in pca.itertuples()
            if r.method == method and r.level != "all"
        }
        assert len(expected) > 4 and rows_of(panel) == expected


@pytest.mark.parametrize(("factor", "column"), [("PCA", "values"), ("bits", "bytes")])
def test_the_whole_vector_is_one_point(tables, factor, column):
    whole = effect_panels.select_whole_vectors(tables[factor], column)
    assert list(whole) == list(tables[factor]["method"].unique())
    for method, [(size, value)] in whole.items():
        own = tables[factor][tables[factor]["method"] == method]
        assert size == own[column].max()
        assert value == own.loc[own["difference"] == 0, "mAP"].iloc[0]


def test_codes_and_components_are_measured_in_bytes(tables):
    bits, pca = tables["bits"], tables["PCA"]
    for method, panel in effect_panels.split_codes(bits, pca).items():
        codes = {
            (r.bytes, f"{r.hash} bits", r.mAP, r.low, r.high)
            for r in bits.itertuples()
            if r.method == method and r.hash != "none"
        }
        components = {
            (r.bytes, "components", r.mAP, r.low, r.high)
            for r in pca.itertuples()
            if r.method == method and r.level != "all" and not r.whitened
        }
        assert codes and components and rows_of(panel) == codes | components


def test_a_fusion_is_next_to_the_descriptor_alone(tables):
    fusion = effect_panels.split_fusion(tables["fusion"])
    joined, single = (fusion[fusion["method"] == m] for m in ("with the network", "without"))
    assert set(joined["level"]) == set(single["level"]) | {"all of them"}
    original = tables["fusion"].set_index("level")["mAP"]
    for name in single["level"]:
        assert joined.set_index("level")["mAP"][name] == original[f"with {name}"]
        assert single.set_index("level")["mAP"][name] == original[f"{name} alone"]


def test_exposures_leave_changed_pixels_out():
    again = effects.tabulate(published("redrawn", "redrawn"))
    panels = effect_panels.split_exposures(again, ["photons", "rotation"])
    for factor, panel in panels.items():
        expected = again[(again["factor"] == factor) & (again["changed"] == "exposure")]
        assert len(expected) == len(panel) > 3
        assert panel["value"].to_list() == expected["mAP"].to_list()
        assert panel["level"].to_list() == expected["level"].astype(float).to_list()


def test_a_transfer_names_what_was_trained_on():
    rows = pd.DataFrame(
        {
            "method": ["Network B", "Network B", "HOG"],
            "trained on": ["phantom", "nothing", np.nan],
            "level": ["mednist", "mednist", "phantom"],
            "mAP": [1.0, 2, 3],
            "low": [0.5, 1, 2],
            "high": [1.5, 3, 4],
        }
    )
    lines = ["Network B, trained on phantom", "Network B, trained on nothing", "HOG"]
    assert effect_panels.name_transfers(rows)["line"].to_list() == lines
    panels = effect_panels.split_transfers(rows)
    assert list(panels) == ["searching in mednist", "searching in phantom"]
    first, second = panels.values()
    assert first["level"].to_list() == lines[:2] and second["level"].to_list() == lines[2:]
    assert first["method"].to_list() == ["Networks"] * 2
    assert second["method"].to_list() == ["Handcrafted"]
    assert first["value"].to_list() == [1, 2] and second["high"].to_list() == [4]


def test_the_published_transfer_has_a_panel_per_set():
    path = paths.effects_file(paths.results_folder("transfer"), "transfer")
    carried = effects.tabulate(effects.read(path))
    panels = effect_panels.split_transfers(carried)
    assert sum(map(len, panels.values())) == len(carried)

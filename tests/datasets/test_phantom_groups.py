"""Parts of the phantom by what its records say, and series rendered along one parameter."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cbir_lib.datasets.phantom import selection, series, settings
from cbir_lib.datasets.phantom.parameters import Exposure
from cbir_lib.datasets.phantom.render import Scene, render
from cbir_lib.datasets.phantom.views import VIEWS
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.errors import CbirError


@pytest.fixture(scope="module")
def test_split(phantom_set):
    return phantom_set.split("test")


def test_upright_images_are_not_rotated_inverted_or_collimated(test_split):
    upright = selection.select_upright(test_split)
    kept = set(upright.image_ids)
    assert 0 < len(kept) < len(test_split)
    for _, row in test_split.records.iterrows():
        plain = row.quarter_turns == 0 and not row.inverted and row.collimation < 0
        assert (row.image_id in kept) == plain


def test_a_view_is_selected_by_name(test_split):
    hands = selection.select_view(test_split, "hand, from behind")
    assert len(hands) == (test_split.records["view"] == "hand, from behind").sum() > 0
    assert set(hands.records["view"]) == {"hand, from behind"}
    with pytest.raises(CbirError, match="'hand, from behnid'"):
        selection.select_view(test_split, "hand, from behnid")


def test_examples_are_of_one_region_and_of_different_views(test_split):
    region = "upper extremity"
    examples = selection.select_examples(test_split, region, 6)
    everything = test_split.select_classes([region]).records
    assert len(examples) == 6 and set(examples.records["image_id"]) <= set(everything["image_id"])
    assert examples.records["view"].value_counts().max() <= 2
    of_views = examples.records["view"].to_list()
    assert of_views == sorted(of_views, key=of_views.index)  # view by view
    assert len(set(of_views)) >= 3
    many = selection.select_examples(test_split, region, 10_000)
    assert len(many) == everything["view"].value_counts().clip(upper=2).sum()


def drawn(grey_of_rim, width=10, height=12, **records):
    """A set of one film of a size in a black square of 16 pixels, with this grey at its edge."""
    image = np.zeros((1, 16, 16), np.uint8)
    top, left = (16 - height) // 2, (16 - width) // 2
    film = np.full((height, width), 100)
    film[[0, -1]] = film[:, [0, -1]] = grey_of_rim
    image[0, top : top + height, left : left + width] = film
    record = {"image_id": "a", "split": "test", "width_px": width, "height_px": height}
    return RadiographSet(
        "drawn",
        image,
        np.zeros(1, np.int64),
        ("only",),
        pd.DataFrame([record | {"collimation": 0.1, "inverted": False} | records]),
        pd.DataFrame(),
        "",
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (drawn(235), "white"),
        (drawn(6), "black"),
        (drawn(235, inverted=True), "black"),
        (drawn(235, collimation=-0.1), "none"),
        (drawn(6, width=16, height=5), "black"),
        (drawn(235, width=7, height=16), "white"),
    ],
)
def test_the_margin_is_seen_at_the_edge_of_the_film(data, expected):
    groups = settings.group_by_margin(data)
    assert {name: bool(mask[0]) for name, mask in groups.items()} == {
        name: name == expected for name in ("none", "black", "white")
    }


def test_the_rim_is_one_pixel_wide_around_the_film():
    rim = settings.find_rim(pd.DataFrame({"width_px": [10], "height_px": [12]}), 16)[0]
    assert rim.sum() == 2 * 10 + 2 * 10
    assert rim[2, 3:13].all() and rim[13, 3:13].all() and rim[2:14, 3].all() and rim[2:14, 12].all()


def test_every_image_is_in_one_group_of_each_setting(test_split):
    for setting, groups in settings.group_by_settings(test_split).items():
        assert (sum(mask.astype(int) for mask in groups.values()) == 1).all(), setting


def test_quartiles_are_quarters_named_by_their_end(test_split):
    values = test_split.records["photons"]
    groups = settings.group_by_quartile(values)
    assert len(groups) == 4
    ends = [values[mask].max() for mask in groups.values()]
    assert ends == sorted(ends)
    for (name, mask), end in zip(groups.items(), ends, strict=True):
        assert mask.mean() == pytest.approx(0.25, abs=0.02)
        assert float(name.removeprefix("to ")) == pytest.approx(end, rel=0.05)


def test_a_series_is_each_value_rendered_alone():
    rendered = series.render_series("knee, frontal", "gamma", (0, 1), size=48, blur_px=0.5)
    scene = Scene.middle(next(view for view in VIEWS if view.name == "knee, frontal"))
    assert list(rendered) == [Exposure.at("gamma", 0), Exposure.at("gamma", 1)]
    for gamma, image in rendered.items():
        exposure = scene.exposure.with_(gamma=gamma, blur_px=0.5)
        film = render(replace(scene, exposure=exposure), 48, np.random.default_rng(5))
        assert (image == film.grey).all()
    one, other = rendered.values()
    assert (one != other).any()


@pytest.mark.parametrize(
    ("arguments", "options", "what"),
    [
        (("knee, frontl", "gamma"), {}, "'knee, frontl'"),
        (("knee, frontal", "gama"), {}, "'gama'"),
        (("knee, frontal", "gamma"), {"blurr_px": 1.0}, "'blurr_px'"),
    ],
)
def test_names_that_do_not_exist_are_refused(arguments, options, what):
    with pytest.raises(CbirError) as caught:
        series.render_series(*arguments, size=32, **options)
    assert what in caught.value.what


def test_the_steps_end_in_the_film_and_bone_absorbs():
    scene = series.get_scene("knee, frontal")
    steps = series.render_steps(scene, 48)
    assert list(steps)[-1] == "film"
    assert (steps["film"] == render(scene, 48, np.random.default_rng(1)).grey).all()
    bone, exposure = steps["bone (length)"], steps["exposure (log)"]
    tissue = steps["soft tissue (length)"]
    assert all((step >= 0).all() and step.shape == bone.shape for step in (bone, tissue, exposure))
    thick = bone > np.quantile(bone, 0.9)
    alike = (tissue > 0) & (bone == 0)
    assert exposure[thick].mean() > exposure[alike].mean() > exposure[(tissue + bone) == 0].mean()

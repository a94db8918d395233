"""What another version of the phantom could change: drawn on request, and only then."""

import json

import cv2
import numpy as np
import pytest

from cbir_lib.datasets import phantom
from cbir_lib.datasets.phantom import changes, generation, recipe
from cbir_lib.errors import CbirError

OPEN = np.ones((24, 20))


def film(seed=0, highest=200):
    values = np.random.default_rng(seed).random(OPEN.shape)
    return (highest * cv2.GaussianBlur(values, (0, 0), 2)).astype(np.uint8)


def test_without_changes_nothing_changes():
    planned = recipe.plan_images(200, 5)[3]
    plain, record = recipe.draw_image(planned, 5, 40)
    again, same = recipe.draw_image(planned, 5, 40, ())
    assert np.array_equal(plain, again) and record == same
    assert np.array_equal(changes.change_film(film(), OPEN, ("close",)), film())


def test_closer_is_a_smaller_field_straighter_and_nearer_to_the_middle():
    scene, _ = recipe.draw_scene(recipe.plan_images(200, 5)[3], 5)
    before, after = scene.exposure, changes.change_scene(scene, ("close", "window")).exposure
    assert after.field == pytest.approx(changes.FIELD * before.field)
    assert abs(after.rotation_deg) < abs(before.rotation_deg)
    assert abs(after.shift_x) < abs(before.shift_x) and abs(after.shift_y) < abs(before.shift_y)
    assert changes.change_scene(scene, ("window", "sharpen")) is scene
    planned = recipe.plan_images(200, 5)[3]
    near, record = recipe.draw_image(planned, 5, 40, ("close",))
    assert record["field"] == pytest.approx(after.field, abs=1e-4)
    assert not np.array_equal(near, recipe.draw_image(planned, 5, 40)[0])


def test_a_window_makes_its_share_white_and_keeps_the_order():
    values = np.random.default_rng(0).permutation(np.arange(480) % 200).reshape(OPEN.shape)
    shown = changes.change_film(values.astype(np.uint8), OPEN, ("window",))
    assert (shown == 255).mean() == pytest.approx(changes.WHITE, abs=0.01)
    order = np.argsort(values, axis=None)
    assert (np.diff(shown.ravel()[order].astype(int)) >= 0).all()
    assert shown.mean() > values.mean()
    # What is outside the collimator does not count.
    closed = OPEN.copy()
    closed[:, :10] = 0
    bright = np.where(closed > 0.5, values // 2, 255).astype(np.uint8)
    of_open = changes.change_film(bright, closed, ("window",))[closed > 0.5]
    assert (of_open == 255).mean() == pytest.approx(changes.WHITE, abs=0.02)
    black = changes.change_film(np.zeros(OPEN.shape, np.uint8), OPEN, ("window",))
    assert (black == 0).all()


def test_sharpening_adds_what_a_blur_takes_away():
    values = film().astype(np.float32)
    blurred = cv2.GaussianBlur(values, (0, 0), changes.EDGE_PX)
    expected = np.clip(np.rint(values + changes.EDGES * (values - blurred)), 0, 255)
    np.testing.assert_array_equal(changes.change_film(film(), OPEN, ("sharpen",)), expected)
    assert expected.std() > values.std()


def test_a_set_says_what_was_changed_and_is_not_taken_for_another(tmp_path, monkeypatch):
    _, record = recipe.draw_image(recipe.plan_images(200, 3)[0], 3, 32)
    monkeypatch.setattr(
        recipe,
        "draw_image",
        lambda planned, seed, size, names: (
            np.full((size, size), 40 * len(names), np.uint8),
            record
            | {"image_id": planned.image_id, "split": planned.split, "width_px": size}
            | {"height_px": size, "subject_id": planned.subject_id},
        ),
    )
    out = tmp_path / "set"
    generation.render_set(out, 200, 3, 32, 1, changes=("window", "close"))
    assert changes.read_changes(out) == ["close", "window"]
    assert json.loads((out / "recipe.json").read_text())["changes"] == ["close", "window"]
    card = (out / "README.md").read_text()
    assert "changed: close, window" in card and "--change close --change window --out" in card
    assert generation.render_set(out, 200, 3, 32, 1, changes=("close", "window")) == out  # finished
    for other in ((), ("close",)):
        with pytest.raises(CbirError, match="is not an empty folder"):
            generation.render_set(out, 200, 3, 32, 1, changes=other)


@pytest.mark.parametrize(
    ("names", "said"),
    [(("blur",), "unknown change of the phantom 'blur'"), (("close", "close"), "named twice")],
)
def test_changes_that_there_are_not(names, said, tmp_path):
    with pytest.raises(CbirError, match=said):
        generation.render_set(tmp_path, 200, changes=names)
    (tmp_path / "recipe.json").write_text(json.dumps({"changes": names}))
    with pytest.raises(CbirError, match=said):
        changes.read_changes(tmp_path)


@pytest.mark.parametrize("text", [None, "", "[1]", '{"changes": 3}'])
def test_a_folder_without_a_recipe(text, tmp_path):
    if text is not None:
        (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(CbirError, match="has no recipe of a phantom"):
        changes.read_changes(tmp_path)
    assert changes.read_changes(phantom.locate()) == []

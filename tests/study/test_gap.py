"""What separates real radiographs from simulated ones, against closed forms and planted images."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cbir_lib.errors import CbirError
from cbir_lib.study import gap, real
from cbir_lib.study.config import Real
from cbir_lib.study.gap import compute_quantities

SIDE = 32
RNG = np.random.default_rng(3)


def draw_wave(cycles):
    """One image of a wave along x."""
    x = np.arange(SIDE) / SIDE
    wave = np.tile(127.5 + 100 * np.cos(2 * np.pi * cycles * x), (SIDE, 1))
    return wave.round().astype(np.uint8)[None]


@pytest.mark.parametrize(("cycles", "octave"), [(3, "2 to 4"), (6, "4 to 8"), (12, "8 to 16")])
def test_the_energy_of_a_wave_is_in_its_octave(cycles, octave):
    row = compute_quantities(draw_wave(cycles)).filter(like="cycles").iloc[0]
    assert row.idxmax() == f"{octave} cycles"


def test_grey_values_are_counted_as_written_out():
    images = RNG.integers(0, 256, (5, SIDE, SIDE), dtype=np.uint8)
    table = compute_quantities(images)
    for image, (_, row) in zip(images, table.iterrows(), strict=True):
        values = [int(v) for v in image.ravel()]
        assert row["mean grey"] == pytest.approx(sum(values) / len(values))
        assert row["black"] == sum(v <= 8 for v in values) / len(values)
        assert row["white"] == sum(v >= 247 for v in values) / len(values)
        inner = image[2:-2, 2:-2]
        rest = (sum(values) - inner.sum()) / (image.size - inner.size)
        assert row["grey of the border"] == pytest.approx(rest)
        mirrored = np.corrcoef(image.ravel(), image[:, ::-1].ravel())[0, 1]
        assert row["symmetry"] == pytest.approx(mirrored)
    flat = compute_quantities(np.full((1, SIDE, SIDE), 7, np.uint8)).iloc[0]
    assert flat["symmetry"] == 1 and np.isfinite(flat).all()


def test_differences_are_in_pooled_standard_deviations():
    a, b = RNG.normal(3, 2, 400), RNG.normal(1, 2, 300)
    (row,) = gap.compare_sides("chest", pd.DataFrame({"x": a}), pd.DataFrame({"x": b}))
    assert row.difference == pytest.approx(
        (a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    )
    same = pd.DataFrame({"x": [1.0, 1.0]})
    assert gap.compare_sides("chest", same, same)[0].difference == 0


def test_sides_that_differ_are_told_apart_and_equal_ones_are_not():
    real_side, like = (pd.DataFrame(RNG.normal(size=(300, 2)), columns=["x", "y"]) for _ in "ab")
    equal = gap.separate_sides("chest", real_side, like)
    assert equal.auc_interval[0] < 0.5 < equal.auc_interval[1]
    apart = gap.separate_sides("chest", real_side.assign(x=real_side["x"] + 5), like)
    assert apart.auc > 0.99 and apart.weights["x"] > abs(apart.weights["y"])


def test_the_deviation_of_an_area_is_that_of_repeated_draws():
    areas = []
    for _ in range(300):
        a, b = RNG.normal(1, 1, 60), RNG.normal(0, 1, 60)
        areas.append((a[:, None] > b).mean())
    wanted = gap.compute_auc_deviation(float(np.mean(areas)), 60, 60)
    assert np.std(areas) == pytest.approx(wanted, rel=0.25)


def test_typical_films_find_their_copies():
    simulated = RNG.integers(0, 256, (50, 8, 8), dtype=np.uint8)
    films = simulated[[3, 9, 20, 31]]
    assert set(gap.find_nearest(films, simulated)) == {3, 9, 20, 31}


def test_measured_are_regions_of_both_sides_and_nothing_but_numbers(
    phantom_set, tmp_path, monkeypatch
):
    whole = phantom_set.split("train").take(slice(0, 200))
    monkeypatch.setattr(gap, "load", lambda name: whole)
    test = phantom_set.split("test").take(slice(0, 200))
    films = replace(test, name="clinic")
    plan = Real(queries=40, size=SIDE, regions={})
    measured = gap.measure(plan, films)
    path = tmp_path / "clinic.json"
    gap.write(path, measured)
    assert gap.read(path) == measured
    assert path.stat().st_size < 40_000
    table = gap.tabulate(measured)
    _, labels = real.select_films(plan, films, whole.class_names)
    for region, names in measured.neighbours.items():
        label = whole.class_names.index(region)
        of_names = whole.labels[np.isin(whole.image_ids, names)]
        assert set(of_names) == {label}
        (one,) = [s for s in measured.separations if s.region == region]
        assert one.images == min((whole.labels == label).sum(), (labels == label).sum())
        assert table[region, "real"].notna().all()
    assert set(gap.rank_large_differences(measured)) <= set(gap.CHANGES)
    with pytest.raises(CbirError, match="are simulated"):
        gap.measure(plan, phantom_set)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("short", ["films", "plan", "phantom"])
def test_a_region_with_too_few_images_is_refused_before_anything_is_measured(
    phantom_set, monkeypatch, short, count
):
    def refuse(*arguments):
        raise AssertionError("measured")

    monkeypatch.setattr(gap, "compute_quantities", refuse)
    films = replace(phantom_set.split("test").take(slice(0, 200)), name="clinic")
    whole = phantom_set.split("train").take(slice(0, 200))
    few = "films" if short == "plan" else short
    if short == "films":
        films = keep_of_last_region(films, count)
    if short == "phantom":
        whole = keep_of_last_region(whole, count)
    monkeypatch.setattr(gap, "load", lambda name: whole)
    plan = Real(queries=count if short == "plan" else 40, size=SIDE, regions={})
    with pytest.raises(CbirError, match=f"{count} {few}.*, fewer than 5") as caught:
        gap.measure(plan, films)
    assert ("queries" in caught.value.hint) == (short != "phantom")


def keep_of_last_region(data, count):
    last = data.labels.max()
    rows = np.flatnonzero(data.labels == last)[:count]
    return data.take(np.sort(np.r_[np.flatnonzero(data.labels != last), rows]))


def test_changes_of_the_phantom_stand_beside_the_embedded_one(phantom_set, tmp_path, monkeypatch):
    whole = phantom_set.split("train").take(slice(0, 200))
    monkeypatch.setattr(gap, "load", lambda name: whole)
    monkeypatch.setattr(gap.paths, "results_folder", lambda name: tmp_path)
    films = replace(phantom_set.split("test").take(slice(0, 200)), name="clinic")
    plan = Real(queries=40, size=SIDE, regions={})
    embedded = gap.measure(plan, films)
    brighter = replace(whole, images=255 - (255 - whole.images) // 2)
    for names in (("close", "window"), ("window",)):
        changed = gap.measure(plan, films, brighter, names)
        gap.write(gap.find_published_path("clinic", names), changed)
    gap.write(gap.find_published_path("clinic"), embedded)
    read = gap.read_changed("clinic")
    assert [one.parameters["changes"] for one in read] == [["window"], ["close", "window"]]
    table = gap.tabulate_changes(embedded, read)
    assert list(table.index) == ["none", "window", "close, window"]
    for region in {separation.region for separation in embedded.separations}:
        sizes = gap.tabulate(embedded)[region, "difference"].abs()
        assert table.loc["none", (region, "difference")] == pytest.approx(sizes.mean())
        # The films are of the embedded phantom: a brighter one is farther from them.
        assert table.loc["window", (region, "difference")] > sizes.mean()
        assert table.loc["window", (region, "AUC")] > table.loc["none", (region, "AUC")]


def test_every_quantity_has_a_change_that_it_asks_for():
    quantities = list(compute_quantities(np.zeros((1, 64, 64), np.uint8)))
    assert list(gap.CHANGES) == quantities

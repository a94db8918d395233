"""Figures show what was measured, where it belongs, and nothing covers anything."""

import ast
import itertools
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cbir_lib.book import figures
from cbir_lib.book.figures import comparison, palette, style
from cbir_lib.reproduction import verdicts
from cbir_lib.study import results
from cbir_lib.study.results import Result
from tests.study.test_results import changed


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def method(**replaced):
    return Result.model_validate(changed(**replaced))


def handcrafted(**replaced):
    return method(parameters={"descriptor": "lbp"}, **replaced)


LEVELS = np.linspace(0, 1, 101)


def test_parameters_are_drawn_in_order_and_no_accuracy_is_above_100():
    for result in results.read_published("quick"):
        grid = result.parameters.get("grid", {})
        varied = {name: values for name, values in grid.items() if len(values) > 1}
        if not varied:
            continue
        figure = figures.plot_parameter_effect(result)
        for axes, (name, values) in zip(figure.axes, varied.items(), strict=True):
            said = [label.get_text().replace("\n", "") for label in axes.get_xticklabels()]
            ordered = values if isinstance(values[0], str) else sorted(values)
            assert said == [str(value) for value in ordered] and axes.get_xlabel() == (
                name.replace("_", " ")
            )
            low, high = axes.get_ylim()
            assert high <= 101 and all(low < 100 * c.accuracy < high for c in result.candidates)
        plt.close(figure)


def test_families_keep_their_colours_as_series():
    assert palette.colour_series(["Handcrafted", "Networks"]) == {
        "Handcrafted": palette.HANDCRAFTED,
        "Networks": palette.LEARNED,
    }


@pytest.mark.parametrize(
    ("factor", "said"), [(5861.0, "5,860"), (100.0, "100"), (29.94, "29.9"), (0.5, "0.5")]
)
def test_a_factor_has_no_exponent(factor, said):
    assert style.format_factor(factor) == said


def test_every_curve_is_drawn_and_carries_a_tag_that_the_key_explains():
    curves = {"one": 1 - LEVELS, "two": 1 - LEVELS**2, "three": (1 - LEVELS) ** 2}
    result_of = {
        name: method(retrieval__precision_recall=curve.tolist(), parameters__network=letter)
        if letter
        else handcrafted(retrieval__precision_recall=curve.tolist())
        for (name, curve), letter in zip(curves.items(), ("B", "", ""), strict=True)
    }
    axes = figures.plot_precision_recall_of_all_methods(
        {"one": result_of["one"]}, {name: result_of[name] for name in ("two", "three")}
    ).axes[0]
    drawn = [line.get_ydata() for line in axes.lines]
    for curve in curves.values():
        assert any(len(line) == 101 and np.allclose(line, curve) for line in drawn)
    words = [text.get_text() for text in axes.texts]
    assert [words.count(tag) for tag in ("B", "1", "2")] == [2, 2, 2]  # on the curve, in the key
    for name, result in result_of.items():
        measured = 100 * result.retrieval.mean_average_precision
        assert f"{name}: {measured:.1f}" in words


@settings(deadline=None, max_examples=30)
@given(arrays(float, (9, 101), elements=st.floats(0, 1)))
def test_a_tag_lies_on_its_curve(values):
    curves = {str(n): np.sort(curve)[::-1] for n, curve in enumerate(values)}
    for tag, (place, height) in style.place_tags(curves, LEVELS).items():
        assert height == curves[tag][round(100 * place)]


def test_tags_keep_apart_where_there_is_room():
    curves = {str(n): np.linspace(1, 0.1 * n, 101) for n in range(9)}
    places = style.place_tags(curves, LEVELS).values()
    for (x, y), (other_x, other_y) in itertools.combinations(places, 2):
        assert np.hypot((x - other_x) / 2, y - other_y) > 0.03


def test_the_best_of_either_kind_is_named_in_each_class():
    of_hand = changed()["retrieval"]["per_class"]["hand"]
    measured = {
        name: {"hand": of_hand | {"mean_average_precision": value}}
        for name, value in (("better", 0.7), ("worse", 0.2))
    }
    others = {
        name: handcrafted(retrieval__per_class=per_class) for name, per_class in measured.items()
    }
    networks = {"net": method(retrieval__per_class=measured["worse"])}
    figure = figures.plot_precision_recall_by_class(networks, others)
    hand, other = figure.axes[:2]
    assert hand.get_title() == "hand"
    assert [text.get_text() for text in hand.texts] == ["net: 20", "better: 70"]
    assert len(hand.lines) == 3
    assert not other.lines and not other.texts  # no query of that class


def test_families_have_colours_of_their_own_and_a_key():
    pretrained = method(parameters={"descriptor": "pretrained"})
    name = results.name_method(pretrained)
    assert [
        results.find_family(n) for n in ("Network B with dropout", name, "VLAD", "Combination")
    ] == [*("network", "pretrained", "handcrafted", "handcrafted")]
    columns = ("accuracy", "accuracy low", "accuracy high")
    table = pd.DataFrame(
        {"Network B": (90, 89, 91), name: (95, 94, 96), "VLAD": (97, 96, 98)}, index=columns
    ).T
    figure = figures.plot_accuracies_beside_paper(
        table, {"Network B": 92.0, "Tamura": 60.0}, "here"
    )
    titles = dict(palette.FAMILIES.values())
    assert {text.get_text() for text in figure.legends[0].texts} == set(titles)
    for bars in figure.axes[0].containers:
        (place,) = bars[0].get_ydata()
        of = palette.FAMILIES[
            results.find_family(figure.axes[0].get_yticklabels()[place].get_text())
        ]
        assert (bars[0].get_color(), bars.get_label()) == (of[1], of[0])
    networks = {"net": method(parameters__network="B")}
    axes = figures.plot_precision_recall_of_all_methods(
        networks, {name: pretrained, "VLAD": handcrafted()}
    ).axes[0]
    words = [text.get_text() for text in axes.texts]
    assert [word for word in words if word.endswith("mAP (%)")] == [f"{t}: mAP (%)" for t in titles]
    assert [words.count(tag) for tag in ("B", "1", "2")] == [2, 2, 2]


def test_the_ruler_is_the_critical_difference():
    ranks = pd.Series({"Network B": 1.2, "a": 2.0, "b": 2.8, "c": 4.0})
    axes = figures.plot_critical_difference(ranks, 1.0).axes[0]
    assert any(np.ptp(line.get_xdata()) == pytest.approx(1.0) for line in axes.lines)
    bars = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 3]
    # a is as near to Network B as to b; those two are not near, and c is near to none.
    assert sorted(sorted(bar) for bar in bars) == [[1.2, 2.0], [2.0, 2.8]]


@pytest.mark.parametrize("seed", range(3))
def test_thumbnails_stand_at_their_places_and_cover_none(seed):
    rng = np.random.default_rng(seed)
    places, labels = rng.normal(0, 0.3, (60, 2)), rng.integers(0, 2, 60)
    result = method(embedding={"places": places.tolist(), "labels": labels.tolist()})
    pictures = [np.full((8, 6), n, np.uint8) for n in range(60)]
    axes = figures.plot_embedding_with_images(result, pictures).axes[0]
    boxes = np.array([image.get_extent() for image in axes.images])  # left, right, bottom, top
    assert 5 < len(boxes) < 60
    for image, (left, right, bottom, top) in zip(axes.images, boxes, strict=True):
        number = int(image.get_array().max())  # which picture it is
        np.testing.assert_allclose([(left + right) / 2, (bottom + top) / 2], places[number])
    for one, other in itertools.combinations(boxes, 2):
        assert one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
    # None that is left out would have had room.
    shown = {int(image.get_array().max()) for image in axes.images}
    side = boxes[0, 1] - boxes[0, 0]
    for number in set(range(60)) - shown:
        before = places[[n for n in shown if n < number]]
        assert (np.abs(before - places[number]).max(axis=1) < 1.04 * side).any()
    assert sum(len(points.get_offsets()) for points in axes.collections) == 60
    low, high = np.array(axes.get_xlim()), np.array(axes.get_ylim())
    assert low[0] < boxes[:, 0].min() and boxes[:, 1].max() < low[1]
    assert high[0] < boxes[:, 2].min() and boxes[:, 3].max() < high[1]


def trained(losses, best_epoch, **replaced):
    curves = dict.fromkeys(("train_loss", "validation_loss", "validation_accuracy"), losses)
    others = {"best_epoch": best_epoch, "batch_size": 64, "precision": "float32"}
    return method(training=curves | others, **replaced)


@pytest.mark.parametrize(("best", "kept"), [(2, [2, 2]), (3, None)])
def test_the_epoch_kept_is_drawn_if_it_is_not_the_last(best, kept):
    for axes in figures.plot_learning_curves(trained([0.9, 0.5, 0.7], best)).axes:
        lines = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
        assert lines.get("weights kept") == kept
        assert lines["validation"] == [1, 2, 3]


def test_the_curves_of_a_loss_that_compares_images_have_its_name_and_the_map():
    result = trained([0.9, 0.5, 0.7], 2, parameters__loss="triplet")
    curve = [0.2, 0.6, 0.4]
    training = result.training.model_copy(update={"validation_mean_average_precision": curve})
    loss, accuracy = figures.plot_learning_curves(
        result.model_copy(update={"training": training})
    ).axes
    assert loss.get_ylabel() == "triplet loss"
    lines = {line.get_label(): list(line.get_ydata()) for line in accuracy.lines}
    assert lines["validation, mAP"] == pytest.approx([20, 60, 40])


def test_pulls_are_arrows_at_the_points_of_each_class():
    points = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    arrows = np.array([[0.0, 1.0], [0.5, 0.0], [0.0, 0.0]])
    (axes,) = figures.plot_pulls(points, np.array([0, 0, 1]), {"triplet": arrows}).axes
    assert axes.get_title() == "triplet"
    *classes, quiver = axes.collections
    assert [own.get_offsets().tolist() for own in classes] == [
        points[:2].tolist(),
        points[2:].tolist(),
    ]
    np.testing.assert_allclose(quiver.get_offsets(), points)
    np.testing.assert_allclose(np.column_stack([quiver.U, quiver.V]), 0.6 * arrows)


def test_the_search_has_a_line_a_network_and_their_mean():
    rates = {0.01: (0.9, 0.7), 0.1: (0.8, 0.4)}
    results = []
    for rate, accuracies in rates.items():
        for name, accuracy in zip("BG", accuracies, strict=True):
            run = {"run": f"{name}{rate}", "parameters__network": name}
            values = {"parameters__learning_rate": rate, "rules__0__validation_accuracy": accuracy}
            results.append(method(**run, **values))
    axes = figures.plot_learning_rate_search(results, 0.01).axes[0]
    lines = {line.get_label(): np.array(line.get_xydata()) for line in axes.lines}
    np.testing.assert_allclose(lines["Network B"], [[0.01, 90], [0.1, 80]])
    np.testing.assert_allclose(lines["Network G"], [[0.01, 70], [0.1, 40]])
    np.testing.assert_allclose(lines["mean"], [[0.01, 80], [0.1, 60]])
    assert any(set(line.get_xdata()) == {0.01} for line in axes.lines)


def test_a_series_is_a_group_with_its_values_above():
    images = [np.full((8, 6), grey, np.uint8) for grey in (10, 20, 30, 40)]
    series = {"knee": {0.5: images[0], 1200.0: images[1]}, "hand": {2.0: images[2], 3.0: images[3]}}
    figure = figures.plot_series(series)
    assert [part.get_suptitle() for part in figure.subfigs] == ["knee", "hand"]
    shown = [axes for part in figure.subfigs for axes in part.axes]
    assert [axes.get_title() for axes in shown] == ["0.5", "1,200", "2", "3"]
    assert [axes.images[0].get_array().max() for axes in shown] == [10, 20, 30, 40]


def test_steps_of_a_rendering_are_scaled_but_not_the_film():
    film = np.array([[10, 200]], np.uint8)
    steps = {"knee": {"bone": np.array([[0.0, 7.0]]), "film": film}}
    (panel,) = figures.plot_rendering_steps(steps).axes
    bone, last = panel.images
    assert [text.get_text() for text in panel.texts] == ["knee", "bone", "film"]
    assert bone.get_array().tolist() == [[0, 255]]
    assert (last.get_array() == film).all()


def test_images_of_a_sheet_keep_their_shape_apart_from_each_other_and_from_texts():
    images = [np.full((8, 6), 10, np.uint8), np.full((4, 8), 20, np.uint8), np.zeros((8, 8))]
    for figure in (
        figures.plot_image_grid({"hand": images, "knee": images[:2]}, ["one", "two", "three"]),
        figures.plot_captioned_images([*images, *images], ["a caption of two lines"] * 6, across=4),
    ):
        figure.draw_without_rendering()
        (panel,) = figure.axes
        pictures = [image.get_window_extent() for image in panel.images]
        for image, box in zip(panel.images, pictures, strict=True):
            height, width = image.get_array().shape
            assert box.width / box.height == pytest.approx(width / height, rel=1e-3)
        boxes = [*pictures, *(text.get_window_extent() for text in panel.texts)]
        overlaps = [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
        assert len(pictures) in (5, 6) and not overlaps


# However many series there are, each is drawn


MANY = [f"n{number:02d}" for number in range(13)]
CURVE = [1.0, 2.0, 3.0]


def draw_costs(names):
    rows = [{"method": n, "vectors": 10**k} for n in names for k in (3, 4, 5)]
    points = pd.DataFrame(rows).assign(latency_ms=1.0, bytes=1e6, build_s=1.0)
    return figures.plot_search_cost(points, {})


def draw_accuracies_against_cost(names):
    row = {"network": "C", "accuracy": 90.0, "parameters": 1.0, "training s": 9.0}
    return figures.plot_accuracy_against_cost(pd.DataFrame([row | {"kind": n} for n in names]))


def draw_grey_histograms(names):
    images = np.zeros((1, 8, 8), np.uint8)
    return figures.plot_grey_histograms(images, dict.fromkeys(names, np.ones((1, 4))), {}, ["a"])


def draw_shifts(names):
    return figures.plot_shift_tolerance(CURVE, dict.fromkeys(names, np.ones((2, 3))))


def draw_real_films(names):
    index = pd.MultiIndex.from_product([["VLAD", "LBP"], names], names=["method", "region"])
    columns = {"P@1": 50.0, "low": 40.0, "high": 60.0}
    return figures.plot_real_films(pd.DataFrame(columns, index), {"VLAD": 90.0, "LBP": 80.0})


def draw_reruns(names):
    table = pd.DataFrame({"run": "a", "circumstances": names, "trained": True, "mAP": 0.1})
    return figures.plot_rerun_spread(table, {"mAP": 0.5})


def draw_receptive_fields(names):
    fields = {name: 3 + number for number, name in enumerate(names)}
    return figures.plot_receptive_fields(np.zeros((2, 32, 32), np.uint8), ["a", "b"], fields)


def draw_loss_gaps(names):
    return figures.plot_loss_gaps({name: [method(parameters__network="C")] for name in names})


DRAWN = {
    draw.__name__: draw
    for draw in (
        draw_costs,
        draw_accuracies_against_cost,
        draw_grey_histograms,
        draw_shifts,
        draw_real_films,
        draw_reruns,
        draw_receptive_fields,
        draw_loss_gaps,
    )
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_no_series_is_left_out_however_many_there_are(draw):
    figure = draw(MANY)
    shown = [text.get_text() for legend in figure.legends for text in legend.texts]
    for axes in figure.axes:
        if axes.get_legend():
            shown += [text.get_text() for text in axes.get_legend().texts]
    assert {name for name in MANY for text in shown if name in text} == set(MANY)


def test_every_row_of_maps_has_its_squares():
    images = [np.zeros((16, 16), np.uint8)] * 2
    rows = dict.fromkeys(MANY, [np.ones((4, 4))] * 2)
    squares = dict.fromkeys(MANY, (np.full((2, 2), 8.0), 4.0))
    figure = figures.plot_stage_maps(images, rows, squares, ["a", "b"])
    assert [len(axes.patches) for axes in figure.axes[:2]] == [len(MANY)] * 2


def test_every_kind_of_filter_has_a_frame():
    weights = np.ones((len(MANY), 3, 3))
    figure = figures.plot_first_filters(weights, MANY, [50.0] * len(MANY))
    assert [text.get_text() for text in figure.legends[0].texts] == MANY


def test_more_methods_than_shades_have_colours():
    names = [f"Network {name}" for name in MANY * 3] + MANY * 3
    named = [f"{name} {number}" for number, name in enumerate(names)]
    assert len(palette.colour_methods(named)) == len(named)


def test_panels_without_a_label_are_refused():
    rows = pd.DataFrame([{"level": 1.0, "method": "a", "value": 1.0, "low": 0.5, "high": 1.5}])
    with pytest.raises(ValueError, match="shorter"):
        figures.plot_level_curves({"one": rows, "two": rows}, ["only one"], "y")


SOURCES = sorted((Path(figures.__file__).parent).glob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_only_looks_may_be_fewer_than_what_is_drawn(source):
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "zip":
            (strict,) = [k.value.value for k in node.keywords if k.arg == "strict"]
            looks = [ast.unparse(part).startswith("cycle(") for part in node.args]
            assert strict or looks.count(False) == 1, node.lineno


def test_every_outcome_that_is_measured_has_a_mark_and_no_other():
    assert {*comparison.OUTCOME_MARKS} == {*verdicts.OUTCOMES} - {"not run"}

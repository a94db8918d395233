"""What a figure says in words and numbers is what it draws; a colour has one meaning."""

import ast
import itertools
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest

from cbir_lib.book import figures
from cbir_lib.book.figures import described, palette
from tests.fixtures import execute_cells

FOLDER = Path(figures.__file__).parent


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def accuracies():
    rows = {"Network C": (90.0, 88.0, 91.0), "Tamura": (60.5, 55.0, 66.0)}
    columns = ["accuracy", "accuracy low", "accuracy high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def test_the_numbers_of_a_figure_are_those_drawn_with_their_names():
    figure = figures.plot_accuracies_beside_paper(accuracies(), {"Network C": 92.5}, "phantom")
    table = described.tabulate(figure)
    here = table[table["panel"] == "here, on phantom"].set_index("y")
    assert here.loc["Tamura", ["x", "low", "high"]].tolist() == pytest.approx([60.5, 55, 66])
    assert here.loc["Network C", "x"] == 90
    paper = table[table["panel"] == "the paper's Table 4"]
    assert paper[["x", "y"]].to_numpy().tolist() == [[92.5, "Network C"]]


def test_a_description_names_panels_axes_and_ends():
    figure = figures.plot_accuracies_beside_paper(accuracies(), {"Network C": 92.5}, "phantom")
    words = described.describe(figure)
    assert words.startswith("The accuracies measured here, with intervals, beside those of the")
    assert "Horizontal axis: accuracy (%)." in words
    assert "highest Network C (90), lowest Tamura (60.5)" in words


def test_without_docstrings_a_description_begins_with_the_function_s_name():
    def plot_class_shares():  # as `python -OO` leaves it
        return plt.figure()

    assert described.described(plot_class_shares)().get_label() == "Class shares"


def test_a_description_of_pictures_counts_and_names_them():
    images = np.zeros((3, 8, 8), np.uint8)
    words = described.describe(figures.plot_captioned_images(images, ["hand", "knee", "hand"]))
    assert "3 pictures. Captions: hand, knee." in words
    assert len(described.tabulate(figures.plot_captioned_images(images, ["a"] * 3))) == 0


def test_bars_matrices_and_curves_are_tabulated():
    counts = pd.DataFrame({"train": [30, 10], "test": [3, 1]}, ["hand", "foot"])
    table = described.tabulate(figures.plot_class_shares(counts)).set_index(["series", "y"])
    assert table.loc[("train (40 images)", "hand"), "x"] == pytest.approx(75)
    curves = {"Network A": [1.0, 0.5, 0.2]}
    line = described.tabulate(figures.plot_precision_recall(curves))
    assert line["series"].unique().tolist() == ["Network A"]
    assert line[["x", "y"]].to_numpy().tolist() == [[0, 1], [0.5, 0.5], [1, 0.2]]


def test_every_figure_function_describes_what_it_draws():
    for path in FOLDER.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("plot_"):
                decorators = [ast.unparse(each) for each in node.decorator_list]
                assert decorators == ["described"], f"{path.name}: {node.name}"


def test_a_notebook_shows_vectors_or_pixels_with_words():
    """In a kernel that has imported the figures before it is one, too: see ``kernels.py``."""
    late = "import IPython, cbir_lib.book.figures.described as d; d.get_ipython = lambda: None"
    sources = [
        f"{late}\nfrom cbir_lib.book import figures\nimport numpy as np",
        "d.get_ipython = IPython.get_ipython\n"
        "figures.plot_precision_recall({'Network A': [1.0, 0.5]});",
        "figures.plot_captioned_images(np.zeros((1, 8, 8), np.uint8), ['hand']);",
        "figures.plot_precision_recall({'Network A': [1.0, 0.5]})",
    ]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = execute_cells(nbformat.v4.new_notebook(cells=cells))
    _, curves, picture, again = ([o for o in c.outputs if "data" in o] for c in notebook.cells)
    for output in (*curves, *again):
        assert "image/svg+xml" in output.data and "image/png" not in output.data
        told = output.metadata["image/svg+xml"]
        assert told["alt"].startswith("Mean interpolated precision against recall")
        assert told["csv"].splitlines()[:2] == ["panel,series,x,y", ",Network A,0.0,1.0"]
    [output] = picture
    assert "image/png" in output.data and "image/svg+xml" not in output.data
    assert "1 picture. Captions: hand." in output.metadata["image/png"]["alt"]
    assert len(curves) == 1 and again


# Colours


def test_colours_are_defined_in_the_palette_alone():
    for path in FOLDER.glob("*.py"):
        if path.name == "palette.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                written = node.value.startswith("#") and len(node.value) == 7
                assert not written, f"{path.name} has a colour of its own: {node.value}"


def test_no_group_has_the_colour_of_a_kind_of_method():
    kinds = {palette.LEARNED, palette.HANDCRAFTED, palette.PAPER}
    others = {*palette.CLASS_COLOURS, *palette.SPLITS.values(), palette.RIGHT, palette.WRONG}
    others |= {colour for _, colour in palette.RULE_MARKS.values()}
    assert len(kinds) == 3 and not kinds & others
    networks = {*palette.NETWORK_COLOURS.values()}
    assert not networks & {*palette.HANDCRAFTED_COLOURS, palette.PAPER}


def test_networks_are_blue_and_handcrafted_methods_brown():
    colours = palette.colour_series(["Network C", "Tamura", "Network F", "LBP"])
    assert len({*colours.values()}) == 4
    for name, colour in colours.items():
        red, blue = int(colour[1:3], 16), int(colour[5:], 16)
        assert (blue > red) == name.startswith("Network")
    alone = palette.colour_series(["plain", "whitened"])
    assert [*alone.values()] == list(palette.CLASS_COLOURS[:2])


def test_colours_of_classes_differ():
    def parts(colour):
        return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])

    for one, other in itertools.combinations(palette.CLASS_COLOURS, 2):
        assert np.abs(parts(one) - parts(other)).sum() > 60

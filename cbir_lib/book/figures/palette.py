"""The colours of all figures, one for each meaning; for the colour blind, too, and never alone."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

from cbir_lib.study.results import find_family

# Kinds of methods, and whose number it is.
LEARNED = "#4477aa"  # networks: blue
HANDCRAFTED = "#aa6644"  # handcrafted descriptors: brown
PRETRAINED = "#228833"  # networks trained on photographs: green
PAPER = "#aa3377"  # the paper's numbers: purple
# By cbir_lib.study.results.find_family: the name of a family of methods, and its colour.
FAMILIES = {
    "network": ("Networks", LEARNED),
    "handcrafted": ("Handcrafted", HANDCRAFTED),
    "pretrained": ("Pretrained on photographs", PRETRAINED),
}
# Outcomes.
RIGHT, WRONG, OPEN = "#1b7837", "#b2182b", "#b8860b"
# Parts of the data.
SPLITS = {"train": "#009988", "validation": "#ee7733", "test": "#bbbbbb"}
# Parts of a drawing.
INK, QUIET, LINE, CHOSEN, MARKED = "#333333", "#888888", "#555555", "#000000", "#ee7733"
COVERED, UNCOVERED = (238, 119, 51), (0, 153, 238)  # falls and rises of an occlusion map, RGB

# Classes of images and other groups: neither blue, brown nor purple; marks distinguish them, too.
CLASS_COLOURS = (
    *("#44aa99", "#cc6677", "#ddcc77", "#117733", "#88ccee", "#999933", "#bbbbbb", "#000000"),
)
# Networks are blue, each a shade of its own; handcrafted methods brown.
NETWORK_COLOURS = dict(
    zip(
        "ABCDEFGH",
        ("#88bbdd", "#5599cc", "#4477aa", "#2f66a8", "#3344aa", "#222288", "#6677cc", "#001144"),
        strict=True,
    )
)
HANDCRAFTED_COLOURS = ("#aa6644", "#dd9955", "#663311", "#cc8877", "#997744", "#552211", "#bb7722")
MARKS = "osD^vPX*"  # of what is told apart, such as methods, classes or regions
NETWORK_MARKS = dict(zip("ABCDEFGH", MARKS, strict=True))
RULE_MARKS = {
    "softmax": ("D", "#000000"),
    "nearest neighbour": ("o", "#44aa99"),
    "k nearest neighbours": ("s", "#88ccee"),
    "logistic regression": ("^", "#ddcc77"),
    "RBF kernel": ("v", "#cc6677"),
}
# Ways of training a network, from plain on.
WAY_COLOURS = ("#000000", "#4477aa", "#88bbdd", "#222288")
LAYER_COLOURS = {"c3": "#88bbdd", "c5": "#5599cc", "P": "#bbbbbb", "fc": "#ddcc77"}


def is_network(method: str) -> bool:
    """Say whether a method, by its name, is a network."""
    return find_family(method) == "network"


def colour_kind(method: str) -> str:
    """Return the colour of a method's family."""
    return FAMILIES[find_family(method)][1]


def colour_methods(methods: Iterable[str]) -> dict[str, str]:
    """Return a colour for each method, a shade of the colour of its family."""
    names = list(dict.fromkeys(methods))
    shades = {
        "network": cycle(("#4477aa", "#88bbdd", "#222288", "#6677cc", "#001144", "#5599cc")),
        "handcrafted": cycle(HANDCRAFTED_COLOURS),
        "pretrained": cycle((PRETRAINED,)),
    }
    return {name: next(shades[find_family(name)]) for name in names}


def colour_series(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each series: those of methods where there is a network among them.

    Series that are families of methods have the colours of the families.
    """
    distinct, families = list(dict.fromkeys(names)), dict(FAMILIES.values())
    if families.keys() >= set(distinct):
        return {name: families[name] for name in distinct}
    if any(map(is_network, distinct)):
        return colour_methods(distinct)
    return {name: CLASS_COLOURS[n % len(CLASS_COLOURS)] for n, name in enumerate(distinct)}

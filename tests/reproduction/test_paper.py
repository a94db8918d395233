"""The published numbers, against the text of the paper and against one another."""

import re
from pathlib import Path

import numpy as np
import pytest

from cbir_lib.networks.architectures import NETWORKS
from cbir_lib.reproduction import formula, paper
from cbir_lib.study.config import read_study

ROOT = Path(__file__).parents[2]
TEXT = ROOT.parent / "shared" / "paper" / "paper.txt"

# The text has Cyrillic letters in its tables, and spells two rows in its own way.
LATIN = str.maketrans(
    "\N{CYRILLIC CAPITAL LETTER VE}\N{CYRILLIC CAPITAL LETTER ES}\N{CYRILLIC CAPITAL LETTER IE}",
    "BCE",
)
SPELLING = {"Fourier Mellin": "Fourier-Mellin", "Color histogram": "Colour histogram"}


def table(number):
    """The rows below a table's title: name → numbers, None where the paper has a dash."""
    if not TEXT.is_file():
        pytest.skip("the text of the paper is not part of the repository")
    text = TEXT.read_text(encoding="utf-8")
    lines = re.search(rf"(?im)^table {number}\. .*\n+.*\t.*\n((?:.*\t.*\n)+)", text)[1].splitlines()
    rows = {}
    for line in lines:
        name, *cells = line.strip().split("\t")
        name = SPELLING.get(name, name.removeprefix("Network ").translate(LATIN))
        rows[name] = tuple(None if cell == "-" else float(cell) for cell in cells)
    return rows


@pytest.mark.parametrize(
    ("number", "published"),
    [
        (4, {name: (value,) for name, value in paper.TABLE_4.items()}),
        (5, paper.TABLE_5_DROPOUT),
        (6, paper.TABLE_6_AUGMENTATION),
        (7, {name: (value,) for name, value in paper.TABLE_7_BOTH.items()}),
    ],
)
def test_tables_are_those_of_the_paper(number, published):
    assert table(number) == published


def test_the_paper_is_named_by_its_title():
    if not TEXT.is_file():
        pytest.skip("the text of the paper is not part of the repository")
    title = paper.CITATION.split(": ")[1]
    assert title.lower() in " ".join(TEXT.read_text(encoding="utf-8").split()).lower()


def test_tables_agree_with_one_another():
    # Table 4 repeats the best of each network: A bare, B to D with dropout, E to G with both.
    assert paper.TABLE_4["A"] == paper.TABLE_5_DROPOUT["A"][0] == paper.TABLE_6_AUGMENTATION["A"][0]
    for name in "BCD":
        assert paper.TABLE_4[name] == paper.TABLE_5_DROPOUT[name][1]
    assert {name: paper.TABLE_4[name] for name in "EFG"} == paper.TABLE_7_BOTH
    # Without either, Tables 5 and 6 start from the same network.
    for name in "ABEF":
        assert paper.TABLE_5_DROPOUT[name][0] == paper.TABLE_6_AUGMENTATION[name][0]


def test_all_are_percentages_of_networks_and_descriptors():
    assert set(NETWORKS) < set(paper.TABLE_4)
    assert set(paper.TABLE_5_DROPOUT) == set(paper.TABLE_6_AUGMENTATION) < set(NETWORKS)
    pairs = [*paper.TABLE_5_DROPOUT.values(), *paper.TABLE_6_AUGMENTATION.values()]
    values = [*paper.TABLE_4.values(), *paper.TABLE_7_BOTH.values(), *(v for p in pairs for v in p)]
    assert all(40 < value < 95 for value in values if value is not None)


def test_every_row_of_table_4_stands_beside_a_run_of_the_study():
    runs = read_study(ROOT / "study.yml").runs("quick")
    assert {paper.find_row(run.model_dump()) for run in runs} - {None} == set(paper.TABLE_4)
    assert paper.find_row({"descriptor": "hog"}) is None


# The claims


def test_there_are_ten_claims_and_each_says_what_decides_it():
    assert [claim.number for claim in paper.CLAIMS] == list(range(1, 11))
    assert len({claim.title for claim in paper.CLAIMS}) == 10
    for claim in paper.CLAIMS:
        assert claim.says.endswith(".")
        assert claim.rule.endswith(".")
        assert claim.where
        assert len(set(claim.comparisons)) == len(claim.comparisons) > 0
        assert any(comparison.decides for comparison in claim.comparisons)


def test_the_papers_own_numbers_speak_for_its_claims():
    count = 0
    for claim in paper.CLAIMS:
        for comparison in claim.comparisons:
            difference = paper.get_published_difference(comparison)
            if difference is not None:
                assert difference > -comparison.allowance, (claim.title, comparison)
                count += 1
    assert count > 50


def test_the_networks_of_table_4_are_those_of_the_other_tables():
    for name, variant in paper.TRAINED.items():
        assert paper.get_published_accuracy((name, variant)) == paper.TABLE_4[name]
    assert (
        *("Local features", "Colour histogram", "Tamura histogram", "Gabor histogram"),
        "Fourier-Mellin",
    ) == paper.FAMILIES


@pytest.mark.parametrize(
    ("side", "value"),
    [
        (("E", ""), 86.18),
        (("E", "dropout"), 87.41),
        (("F", "augment"), 87.09),
        (("G", "dropout-augment"), 90.38),
        (("G", ""), None),
        (("B", "augment"), None),
        (("B", "normalised"), None),
        (("H", ""), None),
        ("Local features", 87.0),
        (paper.RANDOM, None),
        (paper.HALFWAY, 50 + 50 * 596 / (142 + 213 + 596 + 93 + 449)),
    ],
)
def test_a_sides_published_accuracy(side, value):
    assert paper.get_published_accuracy(side) == (None if value is None else pytest.approx(value))


# The formula of accuracy that the paper prints


def formula_by_counting(confusion):
    """(TP + TN) / all of each class against the rest, averaged: counted image by image, percent."""
    classes = len(confusion)
    answers = [
        (i, j) for i in range(classes) for j in range(classes) for _ in range(confusion[i][j])
    ]
    of_class = [
        sum((true == k) == (said == k) for true, said in answers) / len(answers)
        for k in range(classes)
    ]
    return 100 * sum(of_class) / classes


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 9])
def test_the_formula_per_class_is_a_function_of_the_share_alone(classes):
    rng = np.random.default_rng(classes)
    for _ in range(20):
        confusion = rng.integers(0, 9, (classes, classes)) * rng.integers(0, 2, (classes, classes))
        confusion[0, 1] += 1  # no empty matrix, and none without a wrong answer
        share = 100 * np.trace(confusion) / confusion.sum()
        value = formula.apply_paper_formula(share, classes)
        assert value == pytest.approx(formula_by_counting(confusion.tolist()))
        assert formula.invert_paper_formula(value + 1e-9, classes) == pytest.approx(share, abs=1e-6)


def test_the_formula_of_two_classes_is_the_share():
    assert formula.apply_paper_formula(73.0, 2) == formula.invert_paper_formula(73.0, 2) == 73.0


@pytest.mark.parametrize(("classes", "minimum"), [(3, 100 / 3), (4, 50), (5, 60)])
def test_the_formula_cannot_give_less_than_when_all_answers_are_wrong(classes, minimum):
    wrong = np.roll(7 * np.eye(classes, dtype=int), 1, axis=1).tolist()
    assert formula_by_counting(wrong) == pytest.approx(minimum)
    assert formula.apply_paper_formula(0, classes) == pytest.approx(minimum)
    assert formula.invert_paper_formula(minimum - 0.01, classes) is None
    assert formula.invert_paper_formula(minimum + 0.01, classes) == pytest.approx(0, abs=0.03)


def test_of_table_4_two_rows_exclude_the_formula_for_five_classes():
    behind = {row: formula.invert_paper_formula(value, 5) for row, value in paper.TABLE_4.items()}
    assert {row for row, share in behind.items() if share is None} == {"A", "Fourier-Mellin"}
    assert behind["C"] == pytest.approx(100 - 5 * (100 - 92.69) / 2)
    assert formula.invert_paper_formula(paper.TABLE_4["A"], 3) == pytest.approx(14.65)


def test_no_words_say_that_the_handcrafted_rows_are_of_irma():
    for name, row in paper.ROW_OF.items():
        network = len(name) == 1
        words = paper.describe_paper_result({"network" if network else "descriptor": name})
        assert f"{paper.TABLE_4[row]:g} %" in words
        assert ("IRMA" in words) is network
        assert ("Deselaers" in words) is not network
    assert "no number" in paper.describe_paper_result({"descriptor": "hog"})

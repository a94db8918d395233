"""The report as a page: on results of IRMA, made up and called so in a folder of their own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from cbir_lib.book import site
from cbir_lib.book.report_page import strip_book_markup, write_page
from cbir_lib.reproduction import formula, paper, tables
from cbir_lib.reproduction import verdicts as claims
from cbir_lib.study import results, wording
from cbir_lib.study.config import read_study
from tests.reproduction.test_verdicts import ROOT, series

SHARES = {
    **{(name, ""): 0.7 for name in "BCDEFG"},
    ("A", ""): 0.4,
    **{(name, paper.TRAINED[name]): 0.8 for name in "BDEFG"},
    ("C", "dropout"): 0.95,
    **dict.fromkeys(paper.FAMILIES, 0.6),
    "Fourier-Mellin": 0.75,
}
# Trained a second time, with twice the epochs: claim 4 is then supported.
LONGER = {("B", ""): 0.5, ("B", "dropout"): 0.9}


def project(folder, **published):
    """A checkout in a folder of its own, with these results by profile, and none of this one's."""
    shutil.copytree(ROOT / "cbir_lib", folder / "cbir_lib", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("study.yml", "notebooks", "book", "data", "models"):
        (folder / name).symlink_to(ROOT / name)
    for profile, results_of in published.items():
        for result in results_of:
            results.write(folder / "results" / profile / f"{result.run}.json", result)
    return folder


def environment_of(folder):
    """What makes a process use the project in another folder."""
    return os.environ | {"PYTHONPATH": str(folder), "IPYTHONDIR": str(folder / "ipython")}


def cbir_in(folder, *arguments, **environment):
    """Run the command of a project in another folder; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "cbir_lib.cli", *map(str, arguments)],
        cwd=folder,
        env=environment_of(folder) | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def on_irma(irma_results):
    return [
        r.model_copy(
            update={
                "run": r.run.replace("phantom", "irma"),
                "parameters": r.parameters | {"dataset": "irma"},
                "data": r.data.model_copy(update={"dataset": "irma"}),
            }
        )
        for r in irma_results
    ]


@pytest.fixture(scope="module")
def irma_results():
    return on_irma(series(SHARES, seeds=range(2)) + series(LONGER, seeds=range(2), budget=2))


@pytest.fixture(scope="module")
def page(tmp_path_factory, irma_results):
    """What `cbir report --dataset irma` writes, and what it prints."""
    folder = project(tmp_path_factory.mktemp("report"), paper=irma_results)
    out = folder / "page" / "irma.html"
    out.parent.mkdir()
    arguments = ("report", "--dataset", "irma", "--profile", "paper", "--out", out)
    return out, cbir_in(folder, *arguments)


def test_a_report_on_another_study_file_has_the_results_that_it_names(tmp_path, irma_results):
    """Of a profile that the project does not have; its own evidence would be profile paper."""
    mine = [r for r in irma_results if r.parameters.get("seed", 0) == 0]
    folder = project(tmp_path, paper=irma_results, mine=mine)
    study = yaml.safe_load((ROOT / "study.yml").read_text())
    measured = {r.parameters.get("descriptor") for r in mine}
    grid = study["grid"]
    grid["descriptors"] = {n: s for n, s in grid["descriptors"].items() if n in measured}
    del grid["combination"], grid["effects"]
    study["profiles"] = {"mine": study["profiles"]["paper"]}
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(study))
    planned = len(read_study(tmp_path / "mine.yml").runs("mine"))
    out = folder / "mine.html"
    command = ("report", "--dataset", "irma", "--study", tmp_path / "mine.yml", "--out", out)
    assert f"{len(mine)} results of profile mine on irma" in cbir_in(folder, *command)
    text = words(out)
    assert f"from result files: {len(mine)} of profile mine." in text
    assert "cbir study --profile mine" in text and "profile paper" not in text
    assert f"{len(mine)} of {planned} " in text


def words(path):
    """The text of a page, without its marks and pictures."""
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", path.read_text(encoding="utf-8"), flags=re.S)
    return " ".join(text.split())


def test_the_page_has_every_claim_and_its_verdict(page, irma_results):
    out, printed = page
    verdicts = claims.judge_all(irma_results)
    assert {v.word for v in verdicts} == set(paper.VERDICTS)
    text = words(out)
    assert f"{len(irma_results)} results of profile paper on irma: {out}" in printed
    counts = [sum(v.word == word for v in verdicts) for word in paper.VERDICTS]
    be = "is" if counts[0] == 1 else "are"
    assert "Of ten claims, {} {} supported, {} contradicted, and {} undecided".format(
        counts[0], be, *counts[1:]
    ) in text.replace(" .", ".")
    for verdict in verdicts:
        assert f"{verdict.claim.number}. {verdict.claim.title}" in text
        assert verdict.claim.rule in text.replace("&#39;", "'")
        assert text.count(verdict.reason) >= 2  # in the first table and in its own section
    for word in paper.VERDICTS:
        assert text.count(word) >= 2 * sum(v.word == word for v in verdicts)


def test_the_page_says_what_twice_the_epochs_change(page, irma_results):
    text = words(page[0])
    again = [v for v in claims.judge_all(irma_results) if len(v.doubled)]
    assert {v.claim.number for v in again} == {1, 3, 4}
    for verdict in again:
        number, changed = (
            len(verdict.doubled),
            verdict.doubled["before"] != verdict.doubled["outcome"],
        )
        noun = "comparison" if number == 1 else "comparisons"
        verb = "changes outcome" if changed.sum() == 1 else "change outcome"
        assert f"Of {number} {noun} measured again, {changed.sum()} {verb}" in text
    assert text.count("No comparison of this claim was measured with them") >= 4


def test_what_claim_9_reports_is_there_for_both_measures(page, irma_results):
    text, verdict = words(page[0]), claims.judge_all(irma_results)[8]
    assert set(verdict.reported["measure"]) == {"P@1", "P@10"}
    for _, row in verdict.reported.iterrows():
        assert wording.format_difference(row) in text
    assert "P@10, points" in text


def test_both_readings_of_every_row_of_table_4_are_there(page):
    text = words(page[0])
    for value in paper.TABLE_4.values():
        three = formula.invert_paper_formula(value, 3)
        assert f"{value:.2f} {three:.1f} " in text
    assert text.count("excluded excluded") == 2


def test_no_words_say_on_what_the_handcrafted_rows_were_measured(page):
    text = words(page[0])
    assert text.count("does not say on which images") >= 3
    assert "still learning" not in text
    assert "cut short" not in text


def test_the_numbers_are_those_of_the_results(page, irma_results):
    text = words(page[0])
    for row in tables.compare_table_4(irma_results).dropna(subset="here").itertuples():
        assert f"{row.paper:.2f} {row.here:.1f} ({row.low:.1f} to {row.high:.1f})" in text


def test_on_irma_the_page_says_that_the_images_are_the_papers(page):
    text = words(page[0])
    assert "number by number" in text
    assert "The paper's own images" in text.replace("&#39;", "'")
    assert "Not the same images" not in text
    assert "imulated" not in text
    assert "cbir study --profile paper --data-root FOLDER" in text


def test_the_page_loads_nothing_and_has_no_dead_link(page):
    assert site.find_faults(page[0].parent) == []
    text = page[0].read_text(encoding="utf-8")
    assert "<script" not in text
    # A picture a claim, but for the two of which nothing was run, and the curves of retrieval.
    figures = re.findall(r'<img alt="([^"]*)" src="data:image/svg\+xml;base64,', text)
    assert len(figures) == len(paper.CLAIMS) - 2 + 1
    assert all(len(words) > 20 for words in figures)
    assert "No description has been provided" not in text
    assert "output_stderr" not in text
    for place in (ROOT, Path.home(), page[0].parents[1]):
        assert str(place) not in text


def test_headings_of_the_chapter_are_the_titles_of_the_claims():
    text = (ROOT / "notebooks" / "report.md").read_text(encoding="utf-8")
    expected = [f"(claim-{c.number})=\n\n## {c.number}. {c.title}\n" for c in paper.CLAIMS]
    assert [place for place in expected if place not in text] == []
    assert re.findall(r"^show_claim\(judged\[(\d+)\]\)", text, re.M) == [
        str(c.number) for c in paper.CLAIMS
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            ":::{admonition} In short\n:class: tip\n**You** see.\n:::",
            "**In short.** **You** see.\n",
        ),
        ("trained {cite:p}`elmarakbey`.", "trained."),
        ("(claim-10)=\n\n## 10", '<a id="claim-10"></a>\n\n## 10'),
        ("in [the networks](networks), and", "in the networks, and"),
        ("[there](https://example.org) [here](#claim-1)",) * 2,
        ("`a[0](b)` ![x](data:image/png;base64,A)",) * 2,
    ],
)
def test_what_only_the_book_understands_becomes_plain(text, expected):
    assert strip_book_markup(text).strip() == expected.strip()


def test_cells_are_shown_without_code(tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# Title\n\n[book](other)"),
            nbformat.v4.new_code_cell(
                "secret = 1",
                outputs=[
                    nbformat.v4.new_output(
                        "display_data", {"text/plain": "<object>", "text/markdown": "**bold**"}
                    )
                ],
            ),
            nbformat.v4.new_code_cell("x", metadata={"tags": ["remove-cell"]}),
        ]
    )
    nbformat.write(notebook, tmp_path / "n.ipynb")
    write_page(tmp_path / "n.ipynb", tmp_path / "page.html", "a < b", "end & done")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<strong>bold</strong>" in text
    assert "<title>a &lt; b</title>" in text
    assert "end &amp; done" in text
    assert "secret" not in text
    assert "[book]" not in text
    assert "object" not in text
    assert site.find_faults(tmp_path) == []

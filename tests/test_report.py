"""The report as a page: on results of IRMA, made up and called so in a folder of their own."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from test_claims import ROOT, series, write

from cbir_lib import book, claims, paper
from cbir_lib.report import plain, write_page

SHARES = {
    **{(name, ""): 0.7 for name in "BCDEFG"},
    ("A", ""): 0.4,
    **{(name, paper.TRAINED[name]): 0.8 for name in "BDEFG"},
    ("C", "dropout"): 0.95,
    **dict.fromkeys(paper.FAMILIES, 0.6),
    "Fourier-Mellin": 0.75,
}


def on_irma(found):
    return [
        r.model_copy(
            update={
                "run": r.run.replace("phantom", "irma"),
                "parameters": r.parameters | {"dataset": "irma"},
                "data": r.data.model_copy(update={"dataset": "irma"}),
            }
        )
        for r in found
    ]


@pytest.fixture(scope="module")
def evidence():
    return {"paper": on_irma(series(SHARES, seeds=range(2)))}


@pytest.fixture(scope="module")
def page(tmp_path_factory, evidence):
    """What `cbir report --dataset irma` writes, and what it prints."""
    import contextlib
    import io
    import sys

    from cbir_lib import cli

    folder = tmp_path_factory.mktemp("report")
    write(folder / "results" / "paper", evidence["paper"])
    out = folder / "page" / "irma.html"
    out.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", os.environ.get("IPYTHONDIR", ""))  # put back at the end
        patch.setattr(claims, "project_root", lambda: folder)
        patch.setattr(sys, "argv", ["cbir", "report", "--dataset", "irma", "--out", str(out)])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as stop:
            cli.main()
    assert stop.value.code == 0
    return out, printed.getvalue()


def words(path):
    """The text of a page, without its marks and pictures."""
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", path.read_text(encoding="utf-8"), flags=re.S)
    return " ".join(text.split())


def test_the_page_has_every_claim_and_its_verdict(page, evidence):
    out, printed = page
    verdicts = claims.judge_all(evidence)
    assert {v.word for v in verdicts} == set(paper.VERDICTS)
    text = words(out)
    assert f"{len(evidence['paper'])} results on irma: {out}" in printed
    for verdict in verdicts:
        assert f"{verdict.claim.number}. {verdict.claim.title}" in text
        assert verdict.claim.rule in text.replace("&#39;", "'")
        assert text.count(verdict.reason) >= 2  # in the first table and in its own section
    for word in paper.VERDICTS:
        assert text.count(word) >= 2 * sum(v.word == word for v in verdicts)


def test_the_numbers_are_those_of_the_results(page, evidence):
    text = words(page[0])
    for row in claims.table_4(evidence).dropna(subset="here").itertuples():
        assert f"{row.paper:.2f} {row.here:.1f} ({row.low:.1f} to {row.high:.1f})" in text


def test_on_irma_the_page_says_that_the_images_are_the_papers(page):
    text = words(page[0])
    assert "number by number" in text
    assert "The paper's own images" in text.replace("&#39;", "'")
    assert "Not the same images" not in text
    assert "imulated" not in text
    assert "cbir study --profile paper --data-root FOLDER" in text


def test_the_page_loads_nothing_and_has_no_dead_link(page):
    assert book.check(page[0].parent) == []
    text = page[0].read_text(encoding="utf-8")
    assert "<script" not in text
    # A picture a claim, but for the two of which nothing was run, and the curves of retrieval.
    assert text.count("data:image/png;base64,") == len(paper.CLAIMS) - 2 + 1
    assert "No description has been provided" not in text
    assert "output_stderr" not in text
    for place in (ROOT, Path.home(), page[0].parents[1]):
        assert str(place) not in text


def test_headings_of_the_chapter_are_the_titles_of_the_claims():
    text = (ROOT / "notebooks" / "report.md").read_text(encoding="utf-8")
    expected = [f"(claim-{c.number})=\n\n## {c.number}. {c.title}\n" for c in paper.CLAIMS]
    assert [place for place in expected if place not in text] == []
    assert re.findall(r"verdict = section\((\d+)\)", text) == [str(c.number) for c in paper.CLAIMS]


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
    assert plain(text).strip() == expected.strip()


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
    assert book.check(tmp_path) == []

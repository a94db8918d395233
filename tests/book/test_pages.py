"""What is added to built pages and taken from them, on pages written by hand."""

import base64
import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont

from cbir_lib.book import pages
from cbir_lib.book.site import find_faults

SVG = "<svg>\n</svg>"
PNG = b"\x89PNG"


def output(kind, data, **told):
    return {"data": {kind: data}, "metadata": {kind: told}}


@pytest.fixture
def book(tmp_path):
    """A built book of one page with two figures, and its source."""
    site, html = tmp_path / "site", tmp_path / "html"
    (site / "chapters").mkdir(parents=True)
    outputs = [
        output("image/svg+xml", [SVG], alt='a curve of "C" < B', csv="x,y\n1,2\n"),
        output("image/png", base64.b64encode(PNG).decode(), alt="3 pictures"),
    ]
    cells = [{"cell_type": "code", "outputs": outputs}, {"cell_type": "markdown"}]
    (site / "chapters" / "data.ipynb").write_text(json.dumps({"cells": cells}))
    names = [f"{hashlib.sha256(data).hexdigest()}" for data in (SVG.encode(), PNG)]
    images = "".join(
        f'<img alt="../_images/{name}.{end}" src="../_images/{name}.{end}" />'
        for name, end in zip(names, ("svg", "png"), strict=True)
    )
    scripts = '<script src="../_static/searchtools.js?v=1"></script><script src="../a.js"></script>'
    (html / "chapters").mkdir(parents=True)
    (html / "_static").mkdir()
    (html / "chapters" / "data.html").write_text(f"<html>{scripts}{images}<p>text</p></html>")
    (html / "search.html").write_text(scripts)
    return html, site, names


def test_a_figure_says_what_it_shows_and_gives_its_numbers(book):
    html, site, (drawn, _) = book
    pages.finish(html, site)
    soup = BeautifulSoup((html / "chapters" / "data.html").read_text(), "html.parser")
    assert [image["alt"] for image in soup.select("img")] == ['a curve of "C" < B', "3 pictures"]
    assert [a["href"] for a in soup.select("a.figure-file")] == [
        image["src"] for image in soup.select("img")
    ]
    [link] = soup.select("a.figure-data")
    assert (html / "chapters" / link["href"]).resolve().read_text() == "x,y\n1,2\n"
    assert Path(link["href"]).stem == drawn
    assert soup.select_one("img").find_next("a") is link


def test_only_pictures_that_a_page_shows_stay(book):
    html, site, (drawn, _) = book
    (html / "_images").mkdir()
    for name in (f"{drawn}.svg", "of-the-page-before.svg"):
        (html / "_images" / name).write_text(SVG)
    pages.finish(html, site)
    assert [image.stem for image in (html / "_images").iterdir()] == [drawn]


def test_only_the_search_loads_the_index_of_the_search(book):
    html, site, _ = book
    pages.finish(html, site)
    assert "searchtools" not in (html / "chapters" / "data.html").read_text()
    assert "a.js" in (html / "chapters" / "data.html").read_text()
    assert "searchtools" in (html / "search.html").read_text()


@pytest.mark.parametrize(
    ("body", "stays"), [("<p>text</p>", False), ('<span class="math">x</span>', True)]
)
def test_only_a_page_with_a_formula_loads_what_draws_it(tmp_path, body, stays):
    script = '<script defer="defer" src="_static/mathjax/tex-chtml.js?v=1"></script>'
    (tmp_path / "page.html").write_text(f"<html>{script}{body}</html>")
    pages.finish(tmp_path, tmp_path)
    assert ("mathjax" in (tmp_path / "page.html").read_text()) == stays


TABLE = "<table><tr><td><p>1</p></td></tr></table>"


@pytest.mark.parametrize(
    ("after", "caption"),
    [
        ("<div><p><em>Below, with a <a href='#'>link</a>.</em></p></div>", "Below, with a link."),
        ("<p>Text, <em>not</em> a caption.</p><p><em>Later.</em></p>", "Heading"),
        (f"<p>Text.</p>{TABLE}<p><em>Of the second.</em></p>", "Heading"),
        (f"{TABLE}<p><em>Of the second.</em></p>", "Heading"),
        ("<img src='a'/><p><em>Of the figure.</em></p>", "Heading"),
        ("<pre>code</pre><p><em>Of what follows.</em></p>", "Heading"),
        ("", "Heading"),
    ],
)
def test_a_table_is_connected_with_its_caption(tmp_path, after, caption):
    page = f"<article><section><h2 id='h'>Heading</h2>{TABLE}{after}</section></article>"
    soup = BeautifulSoup(pages.finish_article(page), "html.parser")
    table = soup.find("table")
    assert soup.find(id=table["aria-labelledby"]).get_text() == caption
    (tmp_path / "page.html").write_text(str(soup))
    fault = "page.html has a table without a caption: 1"
    assert (fault in find_faults(tmp_path)) == (caption == "Heading")


def test_an_empty_corner_of_a_table_is_no_heading():
    page = "<article><table><tr><th> </th><th>mAP</th></tr></table></article>"
    soup = BeautifulSoup(pages.finish_article(page), "html.parser")
    assert [cell.name for cell in soup.select("tr > *")] == ["td", "th"]


def test_the_names_of_an_index_join_the_line_above():
    frame = pd.DataFrame({("chest", "P@1"): [1], ("chest", "mAP"): [2]}, index=["A"])
    frame = frame.rename_axis("method").rename_axis(["region", None], axis=1)
    page = f"<article><h2 id='h'>Heading</h2>{frame.to_html()}</article>"
    soup = BeautifulSoup(pages.finish_article(page), "html.parser")
    lines = [[cell.get_text() for cell in line.find_all(["th", "td"])] for line in soup("tr")]
    assert lines == [["region", "chest"], ["method", "P@1", "mAP"], ["A", "1", "2"]]


def test_a_header_of_two_levels_stays():
    frame = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("x", "a"), ("y", "b")]))
    page = f"<article><h2 id='h'>Heading</h2>{frame.to_html()}</article>"
    soup = BeautifulSoup(pages.finish_article(page), "html.parser")
    assert [cell.get_text() for cell in soup("tr")[1].find_all("th")] == ["a", "b"]


def test_no_line_ends_within_a_number():
    page = (
        "<article><p>1 to 97.7 % of 3 x 3, in <code>4 %</code><!-- 5 % --></p>"
        "<table><tr><td>97.7 (1 to \N{MINUS SIGN}2)</td></tr></table></article>"
    )
    assert pages.finish_article(page) == (
        "<article><p>1 to 97.7\xa0% of 3\xa0x\xa03, in <code>4 %</code><!-- 5 % --></p>"
        "<table><tr><td>97.7 (1\xa0to\xa0\N{MINUS SIGN}2)</td></tr></table></article>"
    )


def test_fonts_and_styles_keep_the_icons_that_are_used(tmp_path):
    fonts = tmp_path / "_static" / "vendor" / "fontawesome" / "webfonts"
    styles = tmp_path / "_static" / "styles"
    fonts.mkdir(parents=True)
    styles.mkdir()
    (tmp_path / "_static" / "scripts").mkdir()
    (tmp_path / "page.html").write_text('<i class="fa-solid fa-used"></i>')
    points = {0xF001: "used", 0xF002: "unused", 0xF003: "sign", 0xF004: "tip"}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *points.values()])
    builder.setupCharacterMap(points)
    pen = TTGlyphPen(None)
    glyph = pen.glyph()
    builder.setupGlyf(dict.fromkeys([".notdef", *points.values()], glyph))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *points.values()], (500, 0)))
    builder.setupHorizontalHeader()
    builder.setupPost()
    builder.setupNameTable({"familyName": "icons"})
    builder.setupOS2()
    builder.save(fonts / "fa-solid-900.ttf")
    folder = "../vendor/fontawesome/webfonts"
    (styles / "pydata-sphinx-theme.css").write_text(
        f'@font-face{{src:url({folder}/fa-solid-900.woff2) format("woff2"),'
        f'url({folder}/fa-solid-900.ttf) format("truetype")}}'
        '.fa-used,.fa-alias{--fa:"\\f001"}.fa-unused,.fa-other{--fa:"\\f002"}.note{content:"\\f003"}.tip{content:"\uf004"}'
    )
    pages.keep_used_icons(tmp_path)
    css = (styles / "pydata-sphinx-theme.css").read_text()
    assert css.endswith(
        '.fa-used,.fa-alias{--fa:"\\f001"}.note{content:"\\f003"}.tip{content:"\uf004"}'
    )
    assert f'src:url({folder}/fa-solid-900.woff) format("woff")}}' in css
    assert {*TTFont(fonts / "fa-solid-900.woff").getBestCmap()} == {0xF001, 0xF003, 0xF004}
    assert [path.name for path in fonts.iterdir()] == ["fa-solid-900.woff"]

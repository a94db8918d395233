"""A small built book as one PDF: each page of it, in order, with the right page numbers."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from pypdf import PdfReader

from cbir_lib.book import pdf
from cbir_lib.errors import CbirError
from tests.book.browsing import CHROMIUM

ROOT = Path(__file__).parents[2]
TOC = {
    "root": "index",
    "parts": [
        {"caption": "The study", "chapters": [{"file": "chapters/data"}, {"file": "gone"}]},
        {"caption": "Appendix", "chapters": [{"file": "runs", "sections": [{"glob": "runs/*"}]}]},
    ],
}
LONG = "".join(f"<p style='height: 90mm'>Paragraph {n} of many.</p>" for n in range(9))
PAGES = {
    "index": "<h1>A book</h1><p><a href='chapters/data.html#place'>to a place</a></p>",
    "chapters/data": f"<h1>The data</h1>{LONG}<p id='place'>The place.</p><img src='../i.svg'>"
    "<details><summary>Solution</summary><p>Folded text.</p></details>"
    "<p><a class='headerlink' href='#x'>#</a><a href='../elsewhere.html'>left out</a></p>",
    "runs": "<h1>Every run</h1><div id='search-page'>buttons</div>",
    "runs/a": "<h1>Run A</h1>",
    "runs/b": "<h1>Run B</h1>",
}


@pytest.fixture
def work(tmp_path):
    html = tmp_path / "html"
    for name, text in PAGES.items():
        page = html / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(
            f"<html><article>{text}</article><script src='x.js'></script>"
            "<p class='origin'>Profile quick.</p></html>"
        )
    (html / "elsewhere.html").write_text("<html><article><h1>Not listed</h1></article></html>")
    (html / "_static").mkdir()
    shutil.copy2(ROOT / "book" / "assets" / "print.css", html / "_static")
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(TOC))
    return tmp_path


def test_pages_are_listed_in_the_order_of_the_contents(work):
    listed = pdf.list_chapters(TOC, work / "html")
    assert listed == [
        pdf.Chapter("index", ""),
        pdf.Chapter("chapters/data", "The study"),
        pdf.Chapter("runs", "Appendix"),
        pdf.Chapter("runs/a", ""),
        pdf.Chapter("runs/b", ""),
    ]


def test_links_and_pictures_point_into_the_one_document(work):
    chapters = pdf.list_chapters(TOC, work / "html")
    title, text = pdf.read_article(work / "html", chapters[1], chapters)
    assert title == "The data"
    assert 'src="i.svg"' in text and 'id="c1-place"' in text and "headerlink" not in text
    assert "<a>left out</a>" in text and '<details open="">' in text
    assert 'href="#c1-place"' in pdf.read_article(work / "html", chapters[0], chapters)[1]
    assert "buttons" not in pdf.read_article(work / "html", chapters[2], chapters)[1]


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
def test_the_contents_name_the_pages_on_which_chapters_begin(work):
    before = sorted((work / "html").rglob("*"))
    count = pdf.print_book(work / "html", work / "_toc.yml", work / "book.pdf")
    texts = [page.extract_text() for page in PdfReader(work / "book.pdf").pages]
    assert len(texts) == count > 6
    contents = texts[0].split("\n")
    assert pdf.TITLE in contents and "Profile quick." in contents
    for title in ("A book", "The data", "Every run", "Run A", "Run B"):
        [first] = [n for n, text in enumerate(texts, 1) if text.startswith(f"{n}\n{title}")]
        assert f"{title} {first}" in contents
    whole = "".join(texts)
    assert "Folded text." in whole and "Not listed" not in whole
    assert sorted((work / "html").rglob("*")) == before


def test_what_is_missing_is_said_in_two_lines(work, monkeypatch):
    with pytest.raises(CbirError, match="no book in"):
        pdf.print_book(work / "nowhere" / "html", work / "_toc.yml", work / "book.pdf")
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    with pytest.raises(CbirError, match="no Chromium"):
        pdf.print_book(work / "html", work / "_toc.yml", work / "book.pdf")
    assert not (work / "book.pdf").exists()


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("#!/bin/sh\nexec sleep 60", "Chromium has not printed the book in 0.5 seconds"),
        ("#!/bin/sh\necho oh no >&2; exit 1", "Chromium does not print: oh no"),
        ("#!/gone", "chromium does not start"),
    ],
)
def test_a_chromium_that_fails_is_said_in_two_lines(work, monkeypatch, script, what):
    chromium = work / "chromium"
    chromium.write_text(script)
    chromium.chmod(0o755)
    monkeypatch.setattr(pdf.shutil, "which", lambda name: str(chromium))
    monkeypatch.setattr(pdf, "TIMEOUT_S", 0.5)
    with pytest.raises(CbirError, match=what):
        pdf.print_book(work / "html", work / "_toc.yml", work / "book.pdf")
    assert not (work / "book.pdf").exists()


def test_a_print_that_is_stopped_leaves_nothing(tmp_path, work):
    build = tmp_path / "build"
    whole = build / "quick-published"
    whole.mkdir(parents=True)
    shutil.move(work / "html", whole)
    (whole / "site").mkdir()
    shutil.move(work / "_toc.yml", whole / "site")
    chromium = tmp_path / "bin" / "chromium"
    chromium.parent.mkdir()
    chromium.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/started\nexec sleep 600")
    chromium.chmod(0o755)
    before = sorted(whole.rglob("*"))
    path = os.pathsep.join([str(chromium.parent), os.environ["PATH"]])
    process = subprocess.Popen(
        [sys.executable, "-m", "cbir_lib.cli", "job", "pdf"],
        env=os.environ | {"CBIR_BUILD": str(build), "PATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(1200):
        if (tmp_path / "started").is_file() and (tmp_path / "started").read_text():
            break
        time.sleep(0.1)
    process.terminate()
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert err.splitlines()[0].startswith("error: interrupted") and len(err.splitlines()) == 2
    assert not psutil.pid_exists(int((tmp_path / "started").read_text()))
    assert sorted(whole.rglob("*")) == before

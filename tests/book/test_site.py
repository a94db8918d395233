"""The check of a built book, on small sites written by hand, and the parts the book is made of."""

import doctest
import os
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from cbir_lib.book import site as book
from cbir_lib.errors import CbirError

ROOT = Path(__file__).parents[2]

CLEAN = {
    "index.html": """<!DOCTYPE html>
        <head>
          <link rel="canonical" href="https://example.org/index.html">
          <link rel="next" href="https://example.org/next">
          <link rel="stylesheet" href="style/book.css?v=1">
          <script src="style/book.js"></script>
        </head>
        <body id="top">
          <a href="sub/page.html">a page</a> <a href="sub/page.html#place">a place on it</a>
          <a href="sub/">a folder with an index</a> <a href="sub/a%20file.txt">a file</a>
          <a href="#top">this page</a> <a href="#">its top</a> <a href="">itself</a>
          <a href="https://example.org/">elsewhere</a> <a href="mailto:nobody@example.org">write</a>
          <img src="style/dot.png"> <img src="data:image/png;base64,AAAA">
          <p>Text may name https://cdn.example.org/x.js and "https://cdn.example.org/y.js".</p>
        </body>""",
    "sub/index.html": "<a href='../index.html#top'>back</a>",
    "sub/page.html": """<h2 id="place">A place</h2>
        <script>const home = "https://example.org/"; const own = "../style/book.js";</script>
        <style>body { background: url(../style/dot.png) }</style>""",
    "sub/a file.txt": "text",
    "style/book.css": "@import 'more.css'; body { background: url(data:image/png;base64,AAAA) }",
    "style/more.css": "/* https://example.org/ */ @font-face { src: url('own.woff2') }",
    "style/book.js": "",
    "style/dot.png": "",
}


def site(folder, **changed):
    """A site without fault, but for these files: ``index.html`` is given as ``index_html``."""
    for name, text in (CLEAN | changed).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_a_site_without_fault_has_none(tmp_path):
    assert book.find_faults(site(tmp_path)) == []


CDN = "https://cdn.example.org"


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ('<a href="gone.html">', "gone.html"),
        ('<a href="sub/gone.html#place">', "sub/gone.html#place"),
        ('<a href="style/">a folder without index</a>', "style/"),
        ('<a href="/sub/page.html">not below every address</a>', "/sub/page.html"),
        ('<a href="#gone">', "#gone"),
        ('<a href="sub/page.html#gone">', "sub/page.html#gone"),
        ('<img src="gone.png">', "gone.png"),
        ('<img src="gone.png"/>', "gone.png"),
        ('<script src="gone.js"></script>', "gone.js"),
        ('<link rel="stylesheet" href="gone.css">', "gone.css"),
        (f'<script src="{CDN}/x.js"></script>', f"{CDN}/x.js"),
        (f'<script async defer src="{CDN}/x.js"></script>', f"{CDN}/x.js"),
        ('<script src="//cdn.example.org/x.js"></script>', "//cdn.example.org/x.js"),
        (f'<link rel="stylesheet" href="{CDN}/x.css">', f"{CDN}/x.css"),
        (f'<link rel="preconnect" href="{CDN}">', CDN),
        (f'<img src="{CDN}/x.png">', f"{CDN}/x.png"),
        (f'<iframe src="{CDN}/x"></iframe>', f"{CDN}/x"),
        (f'<script>const URL = "{CDN}/x.js"; run()</script>', f"{CDN}/x.js"),
        (f"<script>import('{CDN}/x@1/y.min.js')</script>", f"{CDN}/x@1/y.min.js"),
        (f"<style>@font-face {{ src: url({CDN}/x.woff2) }}</style>", f"{CDN}/x.woff2"),
        (f"<style>@import url('{CDN}/css?family=Lato');</style>", f"{CDN}/css?family=Lato"),
        (f"<style>body {{ background: url({CDN}/x.png) }}</style>", f"{CDN}/x.png"),
    ],
)
def test_each_fault_of_a_page_is_found(written, address, tmp_path):
    faults = book.find_faults(site(tmp_path, **{"index.html": f'<body id="top">{written}</body>'}))
    assert len(faults) == 1
    assert faults[0].startswith("index.html ")
    assert address in faults[0]


@pytest.mark.parametrize(
    "written",
    [
        f"@font-face {{ src: url({CDN}/x) format('woff2') }}",
        f"@font-face {{ src: url( '{CDN}/x' ) }}",
        f"@import '{CDN}/x';",
        f'@import "{CDN}/x";',
        f"@import url({CDN}/x);",
        "body { background: url(//cdn.example.org/x) }",
    ],
)
def test_each_fault_of_a_stylesheet_is_found(written, tmp_path):
    faults = book.find_faults(site(tmp_path, **{"style/more.css": f"body {{}}\n{written}\n"}))
    assert len(faults) == 1
    assert faults[0].startswith("style/more.css loads ")
    assert "cdn.example.org/x " in faults[0]


def test_a_page_keeps_its_time_until_its_text_changes(tmp_path):
    sources = book.assemble(tmp_path, [])
    texts = {page.name: page.read_text() for page in sources.glob("*.md")}
    for page in sources.glob("*.md"):
        os.utime(page, (1, 1))
    pages = [*book.assemble(tmp_path, [], "omitted").glob("*.md")]
    changed = {page.name for page in pages if page.read_text() != texts[page.name]}
    assert {page.name for page in pages if page.stat().st_mtime != 1} == changed != set()


@pytest.fixture
def sphinx(monkeypatch):
    """A function that builds a book of these pages, as Sphinx would write them."""
    monkeypatch.setattr(book, "find_missing_pages", lambda html, runs: [])
    monkeypatch.setattr(book.pages, "finish", lambda html, sources: None)

    def build(work, **changed):
        def write(sources, out, log):
            site(out / "_build" / "html", **changed)
            return 0

        monkeypatch.setattr(book, "run_jupyter_book", write)
        return book.build(work, [], work / "logs" / "book.txt")

    return build


def test_a_book_with_a_fault_does_not_replace_the_one_before(tmp_path, sphinx):
    html = sphinx(tmp_path)
    with pytest.raises(CbirError, match=r"1 faults .* gone.html"):
        sphinx(tmp_path, **{"index.html": '<body id="top"><a href="gone.html">'})
    assert book.find_faults(html) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["html", "logs", "site", "sphinx"]


@pytest.mark.parametrize("broken", range(1, 4))
def test_a_kill_leaves_the_old_book_or_the_new_one(tmp_path, sphinx, monkeypatch, broken):
    sphinx(tmp_path)
    count, rename = [], Path.rename

    def break_off(path, target):
        count.append(path)
        if len(count) == broken:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", break_off)
    with suppress(KeyboardInterrupt):
        sphinx(tmp_path, **{"sub/a file.txt": "new"})
    assert (tmp_path / "html" / "sub" / "a file.txt").read_text() in ("text", "new")
    assert (tmp_path / "site" / "_config.yml").is_file()


def test_a_table_without_a_caption_is_a_fault(tmp_path):
    table = "<table aria-labelledby='{}'><tr><td>mAP</td><td>91.2</td></tr></table>"
    written = f"<article>{table.format('caption-0')}{table.format('a-heading')}</article>"
    [fault] = book.find_faults(site(tmp_path, **{"index.html": f'<body id="top">{written}</body>'}))
    assert fault == "index.html has a table without a caption: mAP 91.2"


def test_a_link_is_checked_from_the_folder_of_its_page(tmp_path):
    [fault] = book.find_faults(site(tmp_path, **{"sub/index.html": '<a href="index.html#top">'}))
    assert fault.startswith("sub/index.html points to index.html#top")


def test_a_folder_without_pages_is_a_fault(tmp_path):
    [fault] = book.find_faults(tmp_path)
    assert str(tmp_path) in fault


# What the book is made of


def listed(part):
    """Every ``file:`` entry of a table of contents."""
    if isinstance(part, dict):
        own = [part["file"]] if "file" in part else []
        return own + listed(list(part.values()))
    return [name for item in part for name in listed(item)] if isinstance(part, list) else []


def test_every_page_of_the_contents_has_its_source():
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    names = [contents["root"], *listed(contents)]
    assert len(names) > 5
    assert len(set(names)) == len(names)
    for name in names:
        notebook = name == "index" or name.startswith("chapters/")
        stem = name.removeprefix("chapters/")
        source = ROOT / ("notebooks" if notebook else "book") / f"{stem}.md"
        assert source.is_file(), f"_toc.yml lists {name}, but there is no {source.name}"


def test_the_configuration_names_files_that_are_there():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    sphinx = config["sphinx"]["config"]
    [assets] = sphinx["html_static_path"]
    for name in (
        *config["bibtex_bibfiles"],
        *(f"{assets}/{css}" for css in sphinx["html_css_files"]),
    ):
        assert (ROOT / "book" / name).is_file()


def test_the_configuration_executes_nothing_and_loads_nothing_from_elsewhere():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["execute"]["execute_notebooks"] == "off"
    assert config["sphinx"]["config"]["nb_ipywidgets_js"] == {}


def test_words_come_before_results_and_runs_after_everything():
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    first, *_, last = contents["parts"]
    assert first["chapters"][0]["file"] == "measures"
    assert last["caption"] == "Appendix"
    assert last["chapters"] == [{"file": "runs", "sections": [{"glob": "runs/*"}]}]
    assert "runs/*" not in str(contents["parts"][:-1])


def test_the_page_on_measures_computes_what_it_says():
    failed, attempted = doctest.testfile(str(ROOT / "book" / "measures.md"), module_relative=False)
    assert attempted == 6 and failed == 0

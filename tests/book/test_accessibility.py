"""axe finds nothing in the pages of a built book: on a desktop and a phone, light and dark.

The book is the folder that ``CBIR_BOOK`` names, such as ``build/quick/html``. Only what is ours is
looked at: the text of a page with its figures and tables, and the line below it. Nothing is wider
than the page, and a page loads little.
"""

import gzip
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.book.browsing import open_page, serve

BOOK = os.environ.get("CBIR_BOOK", "")
LIGHTEST = 300_000  # bytes, compressed, that a page without pictures may load
SIZES = {"desktop": (1366, 900), "phone": (390, 844)}
# The list of references is as docutils writes it.
OURS = {"include": [["article"], [".origin"]], "exclude": [[".citation-list"]]}
# Rules for whole pages, whose frame is the theme's.
PARTIAL = {"rules": {name: {"enabled": False} for name in ("region", "landmark-one-main")}}


@pytest.fixture(scope="module")
def address():
    if not BOOK:
        pytest.skip("no book to look at: CBIR_BOOK=build/quick/html")
    with serve(BOOK) as address:
        yield address


def list_pages():
    found = sorted(Path(BOOK).rglob("*.html")) if BOOK else []
    names = [path.relative_to(BOOK).as_posix() for path in found if "_static" not in path.parts]
    return [name for name in names if name not in ("genindex.html", "search.html")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_page_has_a_violation_that_is_ours(address, browser, size, scheme):
    axe = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    width, height = SIZES[size]
    faults = []
    names = list_pages()
    assert names
    page = open_page(
        browser,
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    for name in names:
        page.goto(address + name)
        if "search_in_page" in name:
            page.wait_for_selector("#search-page[data-ready]")
        wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if wider > 0:
            faults.append(f"{name}: {wider} px wider than the {size}")
        page.evaluate(script)
        found = page.evaluate("([what, how]) => axe.run(what, how)", [OURS, PARTIAL])
        for violation in found["violations"]:
            places = [node["target"][-1] for node in violation["nodes"]]
            faults.append(f"{name}: {violation['id']}, {len(places)} times: {places[:2]}")
    page.context.close()
    assert not faults, f"{size}, {scheme}:\n" + "\n".join(faults)


def weigh(page: Path) -> dict[str, int]:
    """The compressed size of what a page loads at first, in bytes by file, itself included.

    Fonts are counted whole if a style sheet names them; pictures are left out.
    """
    found = {page}
    text = page.read_text(encoding="utf-8")
    loads = r'<(?:script|link)[^>]*?\b(?:src|href)="([^"]+\.(?:js|mjs|css)(?:\?[^"]*)?)"'
    for address in re.findall(loads, text):
        found.add((page.parent / unquote(urlsplit(address).path)).resolve())
    for sheet in [path for path in found if path.suffix == ".css" and path.is_file()]:
        text = sheet.read_text(encoding="utf-8")
        for address in re.findall(r"url\(['\"]?([^)'\"]+\.woff2?)", text):
            found.add((sheet.parent / urlsplit(address).path).resolve())
    files = [path for path in sorted(found) if path.is_file()]
    return {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in files}


def test_a_page_weighs_what_it_loads(tmp_path):
    (tmp_path / "a.js").write_text("a" * 5000)
    (tmp_path / "a.css").write_text("@font-face{src:url(f.woff)}")
    (tmp_path / "f.woff").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "unused.css").write_text("b" * 5000)
    page = tmp_path / "page.html"
    page.write_text(
        '<link rel="stylesheet" href="a.css?v=1"><script src="a.js"></script><img src="i">'
    )
    found = weigh(page)
    assert set(found) == {"a.js", "a.css", "f.woff", "page.html"}
    assert 20 < found["a.js"] < 100  # compressed


def test_no_page_but_the_search_loads_more_than_it_should():
    if not BOOK:
        pytest.skip("no book to look at: CBIR_BOOK=build/quick/html")
    weights = {}
    for name in list_pages():
        loaded = weigh(Path(BOOK) / name)
        loaded.pop("tex-chtml.js", None)  # on pages with formulas
        weights[name] = sum(loaded.values())
    heavy = {name: weight for name, weight in weights.items() if weight > LIGHTEST}
    assert not heavy
    print(f"{min(weights.values())} to {max(weights.values())} bytes")

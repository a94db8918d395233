"""The built book as one PDF: its pages in one document, printed by headless Chromium.

It is printed twice: the first time tells on which page each chapter begins, the second has these
numbers in its table of contents.
"""

from __future__ import annotations

import posixpath
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import yaml
from bs4 import BeautifulSoup, Tag
from pypdf import PdfReader

from cbir_lib.errors import CbirError
from cbir_lib.files import replacing

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
INSTALL = "install it: apt-get install chromium"
TIMEOUT_S = 900
# What is of no use on paper.
SCREEN_ONLY = (
    ".headerlink, .copybtn, .figure-data, script, noscript, style, .prev-next-area, "
    ".toctree-wrapper, .tableofcontents-wrapper, #search-page"
)
STYLES = ("styles/theme.css", "styles/pydata-sphinx-theme.css", "pygments.css")
LATER_STYLES = ("styles/sphinx-book-theme.css", "sphinx-design.min.css", "book.css", "print.css")
TITLE = "Content-based retrieval of radiographs"
SEARCHED = "<p><em>This part of the page works in a browser only.</em></p>"


class Chapter(NamedTuple):
    """A page of the book: its name (``chapters/data``), and the caption of a part it begins."""

    name: str
    part: str


def list_chapters(toc: Mapping, html: Path) -> list[Chapter]:
    """List the pages of a table of contents that a built book has, in their order."""
    chapters = [Chapter(toc["root"], "")]
    for part in toc["parts"]:
        caption = part["caption"]
        for entry in part["chapters"]:
            for each in (entry, *entry.get("sections", [])):
                pattern = each.get("file") or each["glob"]
                for page in sorted(html.glob(f"{pattern}.html")):
                    name = page.relative_to(html).with_suffix("").as_posix()
                    chapters.append(Chapter(name, caption))
                    caption = ""
    return chapters


def print_book(html: Path, toc: Path, target: Path) -> int:
    """Print the pages of a built book as one PDF; return the number of its pages.

    Raises
    ------
    CbirError
        When there is no book, no Chromium, or Chromium fails or takes too long.
    """
    if not toc.is_file() or not (html / "index.html").is_file():
        raise CbirError(f"no book in {html.parent}", "build it: make book")
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        raise CbirError("no Chromium on this machine", INSTALL)
    chapters = list_chapters(yaml.safe_load(toc.read_text(encoding="utf-8")), html)
    origin = read_origin_line(html / f"{chapters[0].name}.html")
    read = [read_article(html, chapter, chapters) for chapter in chapters]
    titles, bodies = zip(*read, strict=True)
    numbers: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        # Beside links to the book's files: what is stopped here leaves no page in the book.
        beside, printed = Path(folder) / "beside", Path(folder) / "book.pdf"
        beside.mkdir()
        for part in html.iterdir():
            (beside / part.name).symlink_to(part.absolute())
        page = beside / "all pages.html"
        for _ in range(3):
            document = compose(chapters, titles, bodies, numbers, origin)
            page.write_text(document, encoding="utf-8")
            _print(chromium, page, printed)
            before, numbers = numbers, find_first_pages(printed, len(chapters))
            if numbers == before:
                break
        with replacing(target) as part:
            shutil.copyfile(printed, part)
    return len(PdfReader(target).pages)


def read_article(html: Path, chapter: Chapter, chapters: Sequence[Chapter]) -> tuple[str, str]:
    """Return the title of a page, and its text as HTML for a document with all others."""
    number = [c.name for c in chapters].index(chapter.name)
    text = (html / f"{chapter.name}.html").read_text(encoding="utf-8")
    article = BeautifulSoup(text, "html.parser").select_one("article")
    for place in article.select("#search-page"):
        place.insert_after(BeautifulSoup(SEARCHED, "html.parser"))
    for useless in article.select(SCREEN_ONLY):
        useless.decompose()
    for details in article.select("details"):
        details["open"] = ""
    folder = posixpath.dirname(chapter.name)
    places = {f"{c.name}.html": n for n, c in enumerate(chapters)}
    for element in article.find_all(True):
        _localise(element, folder, f"{chapter.name}.html", places, number)
    title = article.find("h1")
    return (title.get_text(strip=True) if title else chapter.name), str(article)


def _localise(element: Tag, folder: str, own: str, places: Mapping[str, int], number: int) -> None:
    """Let an element point to where the pages are in the one document."""
    element.attrs.pop("aria-labelledby", None)
    if "id" in element.attrs:
        element["id"] = f"c{number}-{element['id']}"
    if "src" in element.attrs and not urlsplit(element["src"]).scheme:
        element["src"] = posixpath.normpath(posixpath.join(folder, element["src"]))
    if "href" not in element.attrs:
        return
    parts = urlsplit(element["href"])
    if parts.scheme or parts.netloc:
        return
    page = posixpath.normpath(posixpath.join(folder, parts.path)) if parts.path else own
    if page not in places:
        del element["href"]
    elif parts.fragment:
        element["href"] = f"#c{places[page]}-{parts.fragment}"
    else:
        element["href"] = f"#c{places[page]}"


def compose(
    chapters: Sequence[Chapter],
    titles: Sequence[str],
    bodies: Sequence[str],
    numbers: Mapping[int, int],
    origin: str = "",
) -> str:
    """Compose the document: title, contents with page ``numbers`` where known, chapters.

    ``origin`` is the line under the title, as HTML.
    """
    lines = []
    for place, (chapter, title) in enumerate(zip(chapters, titles, strict=True)):
        if chapter.part:
            lines.append(f'<li class="part">{escape(chapter.part)}</li>')
        lines.append(
            f'<li><a href="#c{place}"><span class="name">{escape(title)}</span>'
            '<span class="dots"></span>'
            f'<span class="number">{numbers.get(place, 0)}</span></a></li>'
        )
    sheets = "".join(
        f'<link rel="stylesheet" href="_static/{name}">' for name in (*STYLES, *LATER_STYLES)
    )
    sections = "".join(
        f'<section class="chapter" id="c{place}">{body}</section>'
        for place, body in enumerate(bodies)
    )
    math = ""
    if 'class="math' in sections:
        math = '<script src="_static/mathjax/tex-chtml.js"></script>'
    title = f'<header class="title"><h1>{TITLE}</h1>{origin}</header>'
    contents = f'<nav class="contents"><h1>Contents</h1><ol>{"".join(lines)}</ol></nav>'
    return (
        '<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light">'
        '<head><meta charset="utf-8">'
        f"<title>{TITLE}</title>"
        f"{sheets}{math}</head><body>{title}{contents}{sections}</body></html>"
    )


def read_origin_line(page: Path) -> str:
    """Return the line at the foot of a built page that says what it was built from, as HTML."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    return str(soup.select_one("p.origin") or "")


def find_first_pages(pdf: Path, count: int) -> dict[int, int]:
    """Return the page on which each of ``count`` chapters begins, counted from 1."""
    reader = PdfReader(pdf)
    places = {name.lstrip("/"): place for name, place in reader.named_destinations.items()}
    return {
        chapter: 1 + reader.get_destination_page_number(places[f"c{chapter}"])
        for chapter in range(count)
        if f"c{chapter}" in places
    }


def _print(chromium: str, page: Path, target: Path) -> None:
    # Processes of a Chromium that was killed may still write there.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-pdf-header-footer", "--generate-pdf-document-outline"),
            *("--allow-file-access-from-files", "--virtual-time-budget=60000"),
            *(f"--user-data-dir={profile}", f"--print-to-pdf={target}", page.as_uri()),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise CbirError(
                f"Chromium has not printed the book in {TIMEOUT_S} seconds",
                "close other programs, and start again",
            ) from error
        except OSError as error:
            raise CbirError(f"{chromium} does not start: {error.strerror}", INSTALL) from error
    if done.returncode or not target.is_file():
        last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        raise CbirError(f"Chromium does not print: {last}", "try a newer one")

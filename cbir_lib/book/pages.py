"""What is added to the pages that Sphinx builds, and what is taken from them.

Added: what each figure shows, in words and as a CSV file; links from figures to their files; which
text is the caption of which table; links to the source. Taken: scripts that most pages do not need,
and icons that none has.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from bs4 import BeautifulSoup, NavigableString, Tag
from fontTools import subset
from fontTools.ttLib import TTFont

from cbir_lib.book import origin

# Every page would contain the CDN of a live-code library that is switched off.
THEBE = re.compile(
    r"<script>\s*const THEBE_JS_URL = [^<]*</script>|<script[^>]*/sphinx-thebe\.js[^>]*></script>"
)
# Icons as scripts, 1.5 MB a page: the theme's style sheet draws the same icons from its font.
ICONS = re.compile(r"<script[^>]*/fontawesome\.js[^>]*>(\s*</script>)?")
# The index of the search, which its own page alone needs.
INDEX = re.compile(r"<script[^>]*(?:searchtools|language_data|searchindex)\.js[^>]*></script>\s*")
FORMULAS = re.compile(r"<script[^>]*/mathjax/[^>]*></script>\s*")
IMAGE = re.compile(
    r'<img alt="[^"]*" src="(?P<src>[^"]*/(?P<name>[0-9a-f]{64}\.\w+))"(?P<rest>[^>]*?)\s*/?>'
)
BUTTONS = '<div class="article-header-buttons">'
# A rule of the theme's style that gives names to an icon: ``.fa-bars,.fa-navicon{--fa:"\\f0c9"}``.
CLASS = r"\.fa-[a-z0-9-]+(?::{1,2}before)?"
GLYPH = re.compile(rf"({CLASS}(?:,{CLASS})*)\{{(?:--fa|content):\"\\([0-9a-f]+)\";?\}}")
ARTICLE = re.compile(r"<article\b.*</article>", re.DOTALL)
HEADINGS = ["h1", "h2", "h3", "h4"]
# Spaces within a number and its unit or its interval, at which no line may end.
INSIDE_NUMBERS = re.compile(r"(?<=\d) (?=%)|(?<=\d) (?=x \d)|(?<=\d x) (?=\d)")
INSIDE_INTERVALS = re.compile(
    r"(?<=\d) (?=to [+\N{MINUS SIGN}-]?\d)|(?<=\d to) (?=[+\N{MINUS SIGN}-]?\d)"
)
VERBATIM = ("pre", "code", "script", "style")
FONTS = ("fa-solid-900", "fa-regular-400", "fa-brands-400")


class Picture(NamedTuple):
    """What a figure shows: in words, and its numbers as CSV, empty if it has none."""

    words: str
    csv: str


def finish(html: Path, site: Path) -> None:
    """Change the built pages in ``html``, whose sources are in ``site``."""
    pictures = dict(read_pictures(site))
    for name, picture in pictures.items():
        if picture.csv:
            file = html / "_static" / "figures" / f"{Path(name).stem}.csv"
            file.parent.mkdir(exist_ok=True)
            file.write_text(picture.csv, encoding="utf-8")
    came_from, shown = origin.read_origin(), set()
    for path in html.rglob("*.html"):
        if "_static" in path.parts:
            continue
        text = ICONS.sub("", THEBE.sub("", path.read_text(encoding="utf-8")))
        if path.name != "search.html":
            text = INDEX.sub("", text)
        if 'class="math' not in text:
            text = FORMULAS.sub("", text)
        text = IMAGE.sub(lambda found: _describe(found, pictures), text)
        is_chapter = path.parent.name == "chapters" or path.name == "index.html"
        if is_chapter and (links := origin.format_launchers(came_from, path.stem)):
            text = text.replace(BUTTONS, BUTTONS + links, 1)
        path.write_text(finish_article(text), encoding="utf-8")
        shown |= {unquote(name) for name in re.findall(r'_images/([^"?#]+)', text)}
    for image in html.glob("_images/*"):
        if image.name not in shown:  # of a page as it was
            image.unlink()
    keep_used_icons(html)


def read_pictures(site: Path) -> Iterator[tuple[str, Picture]]:
    """Return what the figures of the notebooks show, by the names of their files."""
    for path in site.rglob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                for kind, told in output.get("metadata", {}).items():
                    if isinstance(told, dict) and "alt" in told:
                        data = "".join(output["data"][kind])
                        # MyST-NB names a file by its bytes.
                        content = (
                            "\n".join(data.splitlines()).encode()
                            if "svg" in kind
                            else base64.b64decode(data)
                        )
                        name = hashlib.sha256(content).hexdigest()
                        ending = "svg" if "svg" in kind else "png"
                        yield f"{name}.{ending}", Picture(told["alt"], told.get("csv", ""))


def _describe(found: re.Match, pictures: dict[str, Picture]) -> str:
    picture = pictures.get(found["name"])
    if not picture:
        return found[0]
    shown = (  # a phone shows a wide figure small, so that it has to be opened and enlarged
        f'<a class="figure-file" href="{found["src"]}">'
        f'<img alt="{escape(picture.words)}" src="{found["src"]}"{found["rest"]}/></a>'
    )
    if not picture.csv:
        return shown
    up = found["src"].partition("_images/")[0]
    file = f"{up}_static/figures/{Path(found['name']).stem}.csv"
    return f'{shown}<a class="figure-data" href="{file}" download>The numbers (CSV)</a>'


def finish_article(text: str) -> str:
    """Return a page with each table connected with its caption, and no line ending in a number."""
    found = ARTICLE.search(text)
    if not found:
        return text
    article = BeautifulSoup(found[0], "html.parser")  # a third of a page is navigation
    name_captions(article)
    keep_numbers_together(article)
    return f"{text[: found.start()]}{article}{text[found.end() :]}"


def name_captions(article: BeautifulSoup) -> None:
    """Connect each table with its caption: the paragraph right after it, all in italics.

    A table without one keeps to the heading above it, and the check of the book finds it.
    """
    for empty in article.find_all("th"):
        if not empty.get_text(strip=True):
            empty.name = "td"  # the corner of a table heads nothing
    for number, table in enumerate(article.find_all("table")):
        join_header(table)
        if table.find("caption"):
            continue
        caption = find_caption(table)
        if caption is None:
            heading = table.find_previous(HEADINGS)
            caption = heading if heading and heading.find_parent("section") else None
        if caption is None:
            continue
        if caption.name == "p":
            caption["id"] = f"caption-{number}"
            caption["class"] = [*caption.get("class", []), "table-caption"]
        caption["id"] = caption.get("id") or f"heading-{number}"
        table["aria-labelledby"] = caption["id"]


def join_header(table: Tag) -> None:
    """Move the names of a table's index, which pandas puts in a line of their own, up by a line."""
    lines = table.select("thead > tr")
    if len(lines) < 2:
        return
    above, last = (line.find_all(["th", "td"]) for line in lines[-2:])
    names = [cell for cell in last if cell.get_text(strip=True)]
    if (
        not names
        or names != last[: len(names)]
        or len(above) < len(names)
        or len(above) != len(last)
    ):
        return
    for cell, name in zip(above[: len(names)], names, strict=True):
        cell.replace_with(name.extract())
    lines[-1].decompose()


def keep_numbers_together(article: BeautifulSoup) -> None:
    """Let no line end within ``97.7 %``, ``3 x 3``, or an interval in a table."""
    for words in article.find_all(string=True):
        joined = INSIDE_NUMBERS.sub("\N{NO-BREAK SPACE}", words)
        if " to " in words and words.find_parent("td"):
            joined = INSIDE_INTERVALS.sub("\N{NO-BREAK SPACE}", joined)
        is_text = type(words) is NavigableString  # and no comment
        if joined != words and is_text and not words.find_parent(is_verbatim):
            words.replace_with(joined)


def is_verbatim(tag: Tag) -> bool:
    """Say whether the text of an element is shown, or read by a program, as it is."""
    return tag.name in VERBATIM or "math" in tag.get("class", [])


def find_caption(table):
    """Return the paragraph in italics right after a table, or None."""
    for following in table.find_all_next(["p", "table", "img", "pre", *HEADINGS]):
        if table in following.parents:
            continue
        parts = [part for part in following.children if str(part).strip()]
        is_caption = following.name == "p" and len(parts) == 1 and parts[0].name == "em"
        return following if is_caption else None
    return None


def keep_used_icons(html: Path) -> None:
    """Leave in the theme's fonts and styles the icons that pages and scripts use."""
    styles = html / "_static" / "styles" / "pydata-sphinx-theme.css"
    if not styles.is_file():
        return
    css = styles.read_text(encoding="utf-8")
    texts = [path.read_text(encoding="utf-8") for path in html.rglob("*.html")]
    scripts = [p for p in html.glob("_static/**/*.js") if p.name != "fontawesome.js"]
    texts += [path.read_text(encoding="utf-8", errors="replace") for path in scripts]
    used = set().union(*(re.findall(r"fa-[a-z0-9-]+", text) for text in texts))
    # What other rules draw, as the signs of admonitions: written as codes or as they are.
    others = [path for path in html.glob("_static/**/*.css") if path != styles]
    rest = GLYPH.sub("", css) + "".join(path.read_text(encoding="utf-8") for path in others)
    points = {int(code, 16) for code in re.findall(r"\\([ef][0-9a-f]{3})\b", rest)}
    points |= {ord(letter) for letter in rest if "\ue000" <= letter <= "\uf8ff"}
    points |= {int(code, 16) for names, code in GLYPH.findall(css) if _is_used(names, used)}
    css = GLYPH.sub(lambda found: found[0] if _is_used(found[1], used) else "", css)
    fonts = html / "_static" / "vendor" / "fontawesome" / "webfonts"
    for name in FONTS:
        whole = fonts / f"{name}.ttf"
        if not whole.is_file():
            continue
        font = TTFont(whole)
        options = subset.Options(hinting=False, notdef_outline=True)
        cut = subset.Subsetter(options)
        cut.populate(unicodes=points)
        cut.subset(font)
        font.flavor = "woff"
        font.save(fonts / f"{name}.woff")
        for ending in ("ttf", "woff2"):
            (fonts / f"{name}.{ending}").unlink(missing_ok=True)
        folder = "../vendor/fontawesome/webfonts"
        before = (
            f'url({folder}/{name}.woff2) format("woff2"),'
            f'url({folder}/{name}.ttf) format("truetype")'
        )
        css = css.replace(before, f'url({folder}/{name}.woff) format("woff")')
    styles.write_text(css, encoding="utf-8")
    for script in html.glob("_static/scripts/*.map"):
        script.unlink()
    (html / "_static" / "scripts" / "fontawesome.js").unlink(missing_ok=True)


def _is_used(names: str, used: set[str]) -> bool:
    return not used.isdisjoint(re.findall(r"fa-[a-z0-9-]+", names))

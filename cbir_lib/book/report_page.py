"""The reproduction report as one self-contained HTML page, made from an executed notebook."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

import nbformat
from nbconvert.exporters.html import HTMLExporter
from traitlets.config import Config

from cbir_lib import paths
from cbir_lib.book.pages import finish_article
from cbir_lib.files import replacing

STYLES = ("book.css", "report.css")
# Markup of the book that plain Markdown does not have: boxes, citations, link targets, and links to
# other chapters, which become plain text.
BOOK_ONLY = (
    (re.compile(r"^:::\{admonition\} (.+)\n:class: \w+\n", re.M), r"**\1.** "),
    (re.compile(r"^:::\n?", re.M), ""),
    (re.compile(r" ?\{cite:p\}`[^`]*`"), ""),
    (re.compile(r"^\((claim-\d+)\)=\n", re.M), r'<a id="\1"></a>\n'),
    (re.compile(r"(?<![!\w])\[([^\]]+)\]\((?!https?:|#)[^)]*\)"), r"\1"),
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{styles}</style>
</head>
<body>
<article class="bd-article">
{body}
<footer>{footer}</footer>
</article>
</body>
</html>
"""


def write_page(notebook: Path, target: Path, title: str, footer: str) -> None:
    """Write an executed notebook without its code as one HTML file that loads nothing.

    Pictures are embedded. Formulas are not rendered, since that needs a script.
    """
    source = nbformat.read(notebook, as_version=4)
    cells = []
    for cell in source.cells:
        if "remove-cell" in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "markdown":
            cell.source = strip_book_markup(cell.source)
        for output in cell.get("outputs", []):
            if "image/svg+xml" in output.get("data", {}):
                output.data = {"text/html": _embed_figure(output)}
            if "text/markdown" in output.get("data", {}):
                output.data["text/markdown"] = strip_book_markup(output.data["text/markdown"])
                output.data.pop("text/plain", None)
        cells.append(cell)
    source.cells = cells
    settings = Config(
        HTMLExporter={
            "template_name": "basic",
            "exclude_input": True,
            "exclude_input_prompt": True,
            "exclude_output_prompt": True,
            "anchor_link_text": "",
        }
    )
    body, _ = HTMLExporter(config=settings).from_notebook_node(source)
    # The class name of the book, so that its styles apply.
    body = body.replace('class="output_wrapper"', 'class="cell_output"')
    assets = paths.book_folder() / "assets"
    styles = "".join((assets / name).read_text(encoding="utf-8") for name in STYLES)
    page = PAGE.format(
        title=html.escape(title), styles=styles, body=body, footer=html.escape(footer)
    )
    with replacing(target) as part:
        part.write_text(finish_article(page), encoding="utf-8")


def _embed_figure(output: nbformat.NotebookNode) -> str:
    """Return a figure as an image with its description: nbconvert would leave that out."""
    words = output.metadata.get("image/svg+xml", {}).get("alt", "")
    drawn = base64.b64encode(output.data["image/svg+xml"].encode()).decode()
    return f'<img alt="{html.escape(words)}" src="data:image/svg+xml;base64,{drawn}">'


def strip_book_markup(text: str) -> str:
    """Remove the markup that only the book understands from Markdown."""
    for pattern, words in BOOK_ONLY:
        text = pattern.sub(words, text)
    return text

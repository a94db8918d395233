"""Which pages of a book are written again after a change, on a small one that Sphinx builds."""

import json
import os
import subprocess
import sys

CONFIG = """
title: A book
only_build_toc_files: true
bibtex_bibfiles: [references.bib]
sphinx:
  extra_extensions: [cbir_lib.book.rewriting]
  config: {html_static_path: [assets]}
"""
SOURCES = {
    "_config.yml": CONFIG,
    "_toc.yml": "format: jb-book\nroot: index\nchapters: [{file: one}, {file: two}]",
    "references.bib": "@misc{key, title={A title}, author={An Author}, year=2001}",
    "index.md": "# Home\n\nTo [](two.md).",
    "one.md": "# First\n\nText.",
    "two.md": "# Second\n\nProse {cite}`key`.\n\n```{bibliography}\n```",
    "assets/book.css": "p {color: black}",
}
ALL = ["index", "one", "two"]
# The first page has the table of contents, and Sphinx writes it with each of its pages.
CHANGES = [
    ("two.md", "Prose", "More prose", ["index", "two"]),
    ("two.md", "# Second", "# Another title", ALL),
    ("one.md", "Text.", "Text {cite}`key`.", ALL),
    ("assets/book.css", "black", "grey", ALL),
    ("references.bib", "2001", "2002", ALL),
    ("one.md", "Text", "Other text", ["index", "one"]),
    ("one.md", "no such words", "", []),
]
# A process of its own, which is forked for each build.
BUILD = """
import json, sys
from pathlib import Path
from jupyter_book import sphinx
from cbir_lib.book.site import run_jupyter_book

def build():
    if run_jupyter_book(Path("site"), Path("out"), Path("log.txt")):
        sys.exit(Path("log.txt").read_text())
    return {page.stem: page.stat().st_mtime_ns for page in Path("out/_build/html").glob("*.html")}

pages, changes = json.loads(sys.argv[1])
before, written = build(), []
for name, old, new, _ in changes:
    path = Path("site", name)
    if old in (text := path.read_text()):
        path.write_text(text.replace(old, new))
    after = build()
    written.append(sorted(page for page in pages if after[page] != before[page]))
    before = after
print(json.dumps(written))
"""


def test_pages_that_show_what_has_changed_are_written_again(tmp_path):
    for name, text in SOURCES.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, json.dumps([ALL, CHANGES])],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    assert json.loads(done.stdout) == [expected for *_, expected in CHANGES]
    assert "Another title" in (tmp_path / "out" / "_build" / "html" / "index.html").read_text()

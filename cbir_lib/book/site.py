"""The book: gather its pages, build it, and check what was built."""

from __future__ import annotations

import filecmp
import json
import multiprocessing
import re
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import yaml
from nbconvert.filters import strip_ansi

from cbir_lib import paths
from cbir_lib.book import origin, pages
from cbir_lib.book.solutions import Shown, omit_solutions
from cbir_lib.errors import CbirError
from cbir_lib.files import replacing_folder

# Tags and attributes that make a browser load something.
LOADS = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("embed", "src"),
    ("object", "data"),
    ("video", "src"),
    ("audio", "src"),
    ("link", "href"),
}
# <link> relations that load nothing.
POINTERS = {"canonical", "next", "prev", "author", "license", "index", "search"}
CSS_LOAD = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])((?:https?:)?//[^'")\s]+)""")


def assemble(work: Path, runs: list[str], solutions: Shown = "folded", profile: str = "") -> Path:
    """Gather configuration, prose and executed notebooks in ``work/site``; return that folder.

    If ``solutions`` is ``omitted``, no page has a solution of an exercise or an answer of a quiz.
    ``profile`` is named in the footer; by default it is the name of the folder.
    """
    target = work / "site"
    with replacing_folder(target) as site:
        _gather(site, work, runs, solutions, profile or work.name)
        _keep_times(site, target)
    return target


def _gather(site: Path, work: Path, runs: list[str], solutions: Shown, profile: str) -> None:
    """Write the sources of the book into an empty folder."""
    root = paths.project_root()
    shutil.copytree(paths.book_folder(), site, dirs_exist_ok=True)
    came_from = origin.read_origin()
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    options = config["sphinx"]["config"]["html_theme_options"]
    options["extra_footer"] = origin.format_footer(came_from, profile)
    (site / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    if (work / "search").is_dir():
        shutil.copytree(work / "search", site / "assets" / "search" / "data")
    (site / "chapters").mkdir()
    for notebook in (work / "chapters").glob("*.ipynb"):
        folder = site if notebook.stem == "index" else site / "chapters"
        shutil.copy2(notebook, folder / notebook.name)
    (site / "runs").mkdir()
    notebooks = {run: paths.run_folder(work, run) / "notebook.ipynb" for run in runs}
    notebooks |= {f"effects-{file.stem}": file for file in (work / "effects").glob("*.ipynb")}
    for name, executed in notebooks.items():
        again = paths.refreshed_page(work, name)
        newer = again.is_file() and again.stat().st_mtime > executed.stat().st_mtime
        shutil.copy2(again if newer else executed, site / "runs" / f"{name}.ipynb")
    if solutions == "omitted":
        _omit_solutions(site)


def _keep_times(site: Path, before: Path) -> None:
    """Give each file that is as it was before its time of then, by which Sphinx finds it again."""
    for file in (path for path in site.rglob("*") if path.is_file()):
        old = before / file.relative_to(site)
        if old.is_file() and filecmp.cmp(file, old, shallow=False):
            shutil.copystat(old, file)
        else:
            file.touch()  # a copy has the time of its source, which may be long ago


def _omit_solutions(site: Path) -> None:
    """Take solutions out of the sources, so that neither a page nor the search index has them."""
    for page in site.glob("*.md"):
        page.write_text(omit_solutions(page.read_text(encoding="utf-8")), encoding="utf-8")
    for page in site.glob("chapters/*.ipynb"):
        notebook = nbformat.read(page, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = omit_solutions(cell.source)
        nbformat.write(notebook, page)


def build(
    work: Path, runs: list[str], log: Path, solutions: Shown = "folded", profile: str = ""
) -> Path:
    """Build the book from the output of a study in ``work``; return its folder, ``work/html``.

    ``solutions`` and ``profile`` as for :func:`assemble`.

    Raises
    ------
    CbirError
        When Sphinx warns, or the built pages load something from another host, have dead links or
        have tables without a caption.
    """
    site, out = assemble(work, runs, solutions, profile), work / "sphinx"
    # What is unchanged is not built again if it was built without a fault by the same libraries.
    versions = sorted({(one.name, one.version) for one in metadata.distributions()})
    names = sorted(str(path.relative_to(site)) for path in site.rglob("*"))
    stamp, complete = json.dumps([versions, names]), out / "complete.json"
    if not complete.is_file() or complete.read_text(encoding="utf-8") != stamp:
        shutil.rmtree(out, ignore_errors=True)
    complete.unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    code = run_jupyter_book(site, out, log)
    if code:
        text = strip_ansi(log.read_text(encoding="utf-8", errors="replace"))
        warnings = [line for line in text.splitlines() if re.search("WARNING|(?i:error)", line)]
        raise CbirError(
            "the book does not build: " + (" / ".join(warnings[:3]) or f"exit code {code}"),
            f"read {log}",
        )
    target = work / "html"
    with replacing_folder(target) as built:
        shutil.copytree(out / "_build" / "html", built, dirs_exist_ok=True)
        pages.finish(built, site)
        if faults := find_missing_pages(built, runs) + find_faults(built):
            raise CbirError(
                f"{len(faults)} faults in the built book: {' / '.join(faults[:3])}", str(log)
            )
    complete.write_text(stamp, encoding="utf-8")
    return target


def run_jupyter_book(site: Path, out: Path, log: Path) -> int:
    """Run the command in a process of its own, and return its exit code.

    The process is a fork where the system has them: Sphinx leaves traces in the one it runs in, and
    what it imports would take seconds to import again.
    """
    process = multiprocessing.Process(target=_run_jupyter_book, args=(site, out, log))
    process.start()
    process.join()
    return process.exitcode


def _run_jupyter_book(site: Path, out: Path, log: Path) -> None:
    from jupyter_book.cli.main import main

    arguments = ["build", str(site), "--path-output", str(out), "-W", "--keep-going", "-q"]
    with log.open("w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            main(arguments, standalone_mode=False)
        except RuntimeError:  # raised after the reason was told
            sys.exit(1)


def find_missing_pages(html: Path, runs: list[str]) -> list[str]:
    """Return pages of the table of contents and of these runs that are missing, one line each."""
    toc = yaml.safe_load((paths.book_folder() / "_toc.yml").read_text(encoding="utf-8"))
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    names = [toc["root"], *(entry["file"] for entry in entries if "file" in entry)]
    names += [f"runs/{run}" for run in runs]
    return [f"{name}.html was not built" for name in names if not (html / f"{name}.html").is_file()]


def find_faults(html: Path) -> list[str]:
    """Return the faults of a built book, one line each.

    Dead links, content from another host, tables without a caption.
    """
    # The theme has templates in _static/, which are not pages.
    files = [path for path in sorted(html.rglob("*.html")) if "_static" not in path.parts]
    read = {path: _Page(path.read_text(encoding="utf-8")) for path in files}
    faults = [] if read else [f"{html} has no page"]
    for path, page in read.items():
        name = path.relative_to(html)
        for words in page.uncaptioned:
            faults.append(f"{name} has a table without a caption: {words}")
        for address in page.loads:
            if urlsplit(address).netloc:
                faults.append(f"{name} loads {address} from another host")
        for address in page.links | page.loads:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                faults.append(f"{name} points to {address}, which does not exist")
            elif parts.fragment and target in read and target.suffix == ".html":
                anchors = read[target].anchors
                if unquote(parts.fragment) not in anchors:
                    faults.append(f"{name} points to {address}: no such place on that page")
    for path in sorted(html.rglob("*.css")):
        for address in CSS_LOAD.findall(path.read_text(encoding="utf-8", errors="replace")):
            faults.append(f"{path.relative_to(html)} loads {address} from another host")
    return faults


class _Page(HTMLParser):
    """A page: what it loads, what it links to, its anchors, and its tables without a caption."""

    def __init__(self, text: str):
        super().__init__()
        self.loads: set[str] = set()
        self.links: set[str] = set()
        self.anchors: set[str] = {""}
        self.uncaptioned: list[str] = []  # the first words of such tables
        self._code = False  # inside <script> or <style>
        self._in_article = False
        self._tables: list[tuple[bool, list[str]]] = []  # open: with a caption? and its words
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self._code = tag in ("script", "style")
        if tag == "article":
            self._in_article = True
        elif tag == "table":
            captioned = values.get("aria-labelledby", "").startswith("caption-")
            self._tables.append((captioned or not self._in_article, []))
        elif tag == "caption" and self._tables:
            self._tables[-1] = (True, [])
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if tag == "link" and set(values.get("rel", "").split()) & POINTERS:
            return
        for name, value in values.items():
            if (tag, name) in LOADS and not value.startswith("data:"):
                self.loads.add(value)

    def handle_endtag(self, tag: str) -> None:
        self._code = False
        if tag == "article":
            self._in_article = False
        elif tag == "table" and self._tables:
            captioned, words = self._tables.pop()
            if not captioned:
                self.uncaptioned.append(" ".join(words)[:60])

    def handle_data(self, data: str) -> None:
        if self._tables:
            self._tables[-1][1].extend(data.split())
        if self._code:  # a constant in a script or a rule in a style with another host
            addresses = re.findall(
                r"""["'(]((?:https?:)?//[\w.-]+\.[a-z]{2,}/[^"'\s)]*\.(?:js|css|woff2?))""", data
            )
            self.loads |= {*addresses, *CSS_LOAD.findall(data)}

"""The book: gather its pages, build it, and check what was built."""

from __future__ import annotations

import filecmp
import hashlib
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import yaml

from cbir_lib import paths
from cbir_lib.book.solutions import Shown, omit_solutions
from cbir_lib.errors import CbirError

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
# Every page would contain the CDN of a live-code library that is switched off.
THEBE = re.compile(r"<script>\s*const THEBE_JS_URL = [^<]*</script>")
# Icons as scripts, 1.5 MB a page: the theme's style sheet draws the same icons from its font.
ICONS = re.compile(r"<script[^>]*/fontawesome\.js[^>]*>(\s*</script>)?")

# Headings, labels and citations.
LANDMARK = re.compile(r"(?m)^#+ .*$|^\(.+\)=$|^:(?:name|label): .*$|\{cite[^}]*\}`[^`]*`")


def assemble(work: Path, runs: list[str], solutions: Shown = "folded") -> Path:
    """Gather configuration, prose and executed notebooks in ``work/site-new``; return that folder.

    If ``solutions`` is ``omitted``, no page has a solution of an exercise or an answer of a quiz.
    """
    root, site = paths.project_root(), work / "site-new"
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(paths.book_folder(), site)
    shutil.copy2(root / "_config.yml", site)
    if (work / "search").is_dir():
        shutil.copytree(work / "search", site / "assets" / "search" / "data")
    (site / "chapters").mkdir()
    for notebook in (work / "chapters").glob("*.ipynb"):
        folder = site if notebook.stem == "index" else site / "chapters"
        shutil.copy2(notebook, folder / notebook.name)
    (site / "runs").mkdir()
    pages = {run: paths.run_folder(work, run) / "notebook.ipynb" for run in runs}
    pages |= {f"effects-{file.stem}": file for file in (work / "effects").glob("*.ipynb")}
    for name, executed in pages.items():
        again = paths.refreshed_page(work, name)
        newer = again.is_file() and again.stat().st_mtime > executed.stat().st_mtime
        shutil.copy2(again if newer else executed, site / "runs" / f"{name}.ipynb")
    if solutions == "omitted":
        _omit_solutions(site)
    return site


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


def update_site(new: Path, site: Path) -> bool:
    """Bring the site that Sphinx reads up to date with one gathered in ``new``; remove that one.

    Unchanged files keep their times, by which Sphinx knows them.

    Returns
    -------
    bool
        Whether the only change is inside pages: no file came or went, and no page has other
        headings, labels or citations, which the side bars and other pages show.
    """
    names, before = ({p.relative_to(f) for p in f.rglob("*") if p.is_file()} for f in (new, site))
    inside = names == before
    for name in before - names:
        (site / name).unlink()
    for name in names:
        if name in before and filecmp.cmp(new / name, site / name, shallow=False):
            continue
        inside = inside and list_landmarks(new / name) == list_landmarks(site / name)
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(new / name, site / name)  # its time is now
    shutil.rmtree(new)
    return inside


def list_landmarks(page: Path) -> list[str]:
    """Return what other pages show of a page; all of a file that is no page."""
    text = page.read_bytes().decode(errors="replace")
    if page.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    elif page.suffix != ".md":
        return [text]
    return LANDMARK.findall(text)


def _describe_builder() -> str:
    """Describe what a site is built with: another one builds all pages again."""
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    packages = ("jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme")
    return " ".join([code, *map(version, packages)])


def build(work: Path, runs: list[str], log: Path, solutions: Shown = "folded") -> Path:
    """Build the book from the output of a study in ``work``; return its folder, ``work/html``.

    If only the inside of pages has changed since the last time, these pages alone are built.
    ``solutions`` as for :func:`assemble`.

    Raises
    ------
    CbirError
        When Sphinx warns, or the built pages load something from another host or have dead links.
    """
    site, out = work / "site", work / "sphinx"
    inside = update_site(assemble(work, runs, solutions), site)
    # Written when a book is finished: after a fault all pages are built, all warnings seen again.
    finished, builder = out / "finished", _describe_builder()
    afresh = not inside or not finished.is_file() or finished.read_text() != builder
    if afresh:
        shutil.rmtree(out, ignore_errors=True)
    finished.unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("jupyter-book")), "build", str(site)),
                *("--path-output", str(out), "-W", "--keep-going", "-q"),
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        ).returncode
    if code:
        text = log.read_text(encoding="utf-8", errors="replace")
        warnings = [line for line in text.splitlines() if "WARNING" in line or "ERROR" in line]
        raise CbirError(
            "the book does not build: " + (" / ".join(warnings[:3]) or f"exit code {code}"),
            f"read {log}",
        )
    built = out / "_build" / "html"
    for page in built.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if (light := ICONS.sub("", THEBE.sub("", text))) != text:
            page.write_text(light, encoding="utf-8")
    if faults := find_missing_pages(built, runs) + find_faults(built):
        raise CbirError(
            f"{len(faults)} faults in the built book: {' / '.join(faults[:3])}", str(log)
        )
    target, new, old = work / "html", work / "html-new", work / "html-old"
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(built, new)  # the next build goes on from what Sphinx has made
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    finished.write_text(builder)
    return target


def find_missing_pages(html: Path, runs: list[str]) -> list[str]:
    """Return pages of the table of contents and of these runs that are missing, one line each."""
    toc = yaml.safe_load((paths.book_folder() / "_toc.yml").read_text(encoding="utf-8"))
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    names = [toc["root"], *(entry["file"] for entry in entries if "file" in entry)]
    names += [f"runs/{run}" for run in runs]
    return [f"{name}.html was not built" for name in names if not (html / f"{name}.html").is_file()]


def find_faults(html: Path) -> list[str]:
    """Return the faults of a built book, one line each: dead links, content from another host."""
    # The theme has templates in _static/, which are not pages.
    paths = [path for path in sorted(html.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: _Page(path) for path in paths}
    faults = [] if pages else [f"{html} has no page"]
    for path, page in pages.items():
        name = path.relative_to(html)
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
            elif parts.fragment and target in pages and target.suffix == ".html":
                anchors = pages[target].anchors
                if unquote(parts.fragment) not in anchors:
                    faults.append(f"{name} points to {address}: no such place on that page")
    for path in sorted(html.rglob("*.css")):
        for address in CSS_LOAD.findall(path.read_text(encoding="utf-8", errors="replace")):
            faults.append(f"{path.relative_to(html)} loads {address} from another host")
    return faults


class _Page(HTMLParser):
    """A page: what it loads, what it links to, and its anchors."""

    def __init__(self, path: Path):
        super().__init__()
        self.loads: set[str] = set()
        self.links: set[str] = set()
        self.anchors: set[str] = {""}
        self._code = False  # inside <script> or <style>
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self._code = tag in ("script", "style")
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if tag == "link" and set(values.get("rel", "").split()) & POINTERS:
            return
        for name, value in values.items():
            if (tag, name) in LOADS and not value.startswith("data:"):
                self.loads.add(value)

    def handle_endtag(self, tag: str) -> None:
        self._code = False

    def handle_data(self, data: str) -> None:
        if self._code:  # a constant in a script or a rule in a style with another host
            addresses = re.findall(
                r"""["'(]((?:https?:)?//[\w.-]+\.[a-z]{2,}/[^"'\s)]*\.(?:js|css|woff2?))""", data
            )
            self.loads |= {*addresses, *CSS_LOAD.findall(data)}

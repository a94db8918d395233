"""A Sphinx extension: write a page again only if it, or what it shows of other pages, has changed.

Sphinx writes the pages whose source has changed. But every page has the titles of all in its side
bar, links and citations take their text from others, and style sheets are named by a checksum.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("env-updated", list_pages_to_write)
    return {"env_version": 1}


def list_pages_to_write(app: Sphinx, env: BuildEnvironment) -> Iterable[str]:
    """Return all pages if something that pages show of each other has changed, else none more."""
    files = [Path(app.srcdir, name) for name in app.config.bibtex_bibfiles]
    for folder in app.config.html_static_path:
        files += sorted(Path(app.srcdir, folder).rglob("*.*"))
    shared = repr(
        [
            sorted((page, headings.astext()) for page, headings in env.tocs.items()),
            sorted(env.domaindata["std"]["labels"].items()),
            sorted(env.domaindata["std"]["terms"].items()),
            sorted(
                (one.docname, *(target.key for target in one.targets))
                for one in env.domaindata["cite"]["citation_refs"]
            ),
            [(str(file), file.stat().st_mtime) for file in files],
        ]
    )
    changed = getattr(env, "cbir_shared", shared) != shared
    env.cbir_shared = shared
    return env.all_docs if changed else []

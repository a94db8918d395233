"""Where a book comes from: the address of its repository, and the commit that it was built from."""

from __future__ import annotations

import subprocess
import tomllib
from html import escape
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from cbir_lib import paths

BINDER = "https://mybinder.org/v2"


class Origin(NamedTuple):
    """An address without a slash at its end, and a commit in full; either is empty if unknown."""

    address: str
    commit: str
    changed: bool  # files differ from the commit

    @property
    def is_public(self) -> bool:
        """Whether others can get exactly these files."""
        return bool(self.address and self.commit and not self.changed)


def read_origin() -> Origin:
    """Read the address (``project.urls.Repository`` of ``pyproject.toml``), the commit from git."""
    project = paths.project_root() / "pyproject.toml"
    listed = tomllib.loads(project.read_text(encoding="utf-8")) if project.is_file() else {}
    address = listed.get("project", {}).get("urls", {}).get("Repository", "")
    commit = _ask_git("rev-parse", "HEAD")
    changed = bool(commit and _ask_git("status", "--porcelain", "--untracked-files=no"))
    return Origin(address.rstrip("/").removesuffix(".git"), commit, changed)


def _ask_git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=paths.project_root(),
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):  # no git here
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def format_footer(origin: Origin, profile: str) -> str:
    """Format the footer of every page as HTML: repository, commit, profile and licences."""
    parts = [f"Profile <code>{escape(profile)}</code>"]
    if origin.commit:
        commit = f"<code>{origin.commit[:10]}</code>"
        if origin.is_public:
            commit = f'<a href="{escape(origin.address)}/tree/{origin.commit}">{commit}</a>'
        parts.append(f"commit {commit}" + ", with changes" * origin.changed)
    if origin.address:
        name = urlsplit(origin.address).path.strip("/") or origin.address
        parts.insert(0, f'Repository <a href="{escape(origin.address)}">{escape(name)}</a>')
    return f'<p class="origin">{", ".join(parts)}. Text CC BY 4.0, code BSD-3-Clause.</p>'


def format_clone(origin: Origin) -> str:
    """Format the line that gets the repository; empty if nobody knows its address."""
    if not origin.address:
        return ""
    return f"git clone --depth 1 {origin.address}.git && cd {origin.address.rpartition('/')[2]}"


def format_launchers(origin: Origin, chapter: str) -> str:
    """Format links that open the text of a chapter, as HTML; empty if they would lead nowhere.

    Colab opens notebooks and no text, so that it has no link: it takes the downloaded notebook.
    """
    if not origin.is_public:
        return ""
    source = f"notebooks/{chapter}.md"
    host, place = urlsplit(origin.address).netloc, urlsplit(origin.address).path.strip("/")
    where = f"gh/{place}" if host == "github.com" else f"git/{quote(origin.address, safe='')}"
    links = {
        f"{BINDER}/{where}/{origin.commit}?urlpath=lab/tree/{source}": ("rocket", "in Binder"),
        f"{origin.address}/blob/{origin.commit}/{source}": ("code", "as text in the repository"),
    }
    return "".join(
        f'<a class="btn btn-sm" href="{escape(address)}" title="Open this chapter {how}" '
        f'aria-label="Open this chapter {how}"><i class="fas fa-{icon}"></i></a>'
        for address, (icon, how) in links.items()
    )

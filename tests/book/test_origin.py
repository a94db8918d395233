"""Where a book comes from: nothing is invented, and no link leads nowhere."""

import subprocess

import pytest

from cbir_lib import paths
from cbir_lib.book import origin

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PUBLIC = origin.Origin("https://github.com/owner/name", COMMIT, False)
ELSEWHERE = origin.Origin("https://git.example.org/owner/name", COMMIT, False)
UNKNOWN = origin.Origin("", COMMIT, False)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    return tmp_path


def git(folder, *arguments):
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_address_is_read_from_the_project_and_the_commit_from_git(project):
    (project / "pyproject.toml").write_text(
        '[project.urls]\nRepository = "https://github.com/owner/name.git/"\n'
    )
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "first")
    found = origin.read_origin()
    assert found == origin.Origin(PUBLIC.address, git(project, "rev-parse", "HEAD"), False)
    (project / "pyproject.toml").write_text("[project]\n")
    assert origin.read_origin() == origin.Origin("", found.commit, True)


def test_without_a_project_file_or_git_nothing_is_known(project, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    assert origin.read_origin() == origin.Origin("", "", False)
    assert origin.format_footer(origin.read_origin(), "quick").startswith(
        '<p class="origin">Profile <code>quick</code>. '
    )


def test_the_footer_names_repository_commit_and_profile():
    footer = origin.format_footer(PUBLIC, "<full>")
    assert 'href="https://github.com/owner/name">owner/name</a>' in footer
    assert f'href="https://github.com/owner/name/tree/{COMMIT}"' in footer
    assert "&lt;full&gt;" in footer and "<full>" not in footer
    changed = origin.format_footer(PUBLIC._replace(changed=True), "full")
    assert "with changes" in changed and "/tree/" not in changed
    assert "href" not in origin.format_footer(UNKNOWN, "full") and COMMIT[:10] in footer


def test_links_to_a_chapter_are_at_the_commit_of_the_book():
    links = origin.format_launchers(PUBLIC, "data")
    binder = f"https://mybinder.org/v2/gh/owner/name/{COMMIT}?urlpath=lab/tree/notebooks/data.md"
    assert f'href="{binder}"' in links
    assert f'href="https://github.com/owner/name/blob/{COMMIT}/notebooks/data.md"' in links
    other = origin.format_launchers(ELSEWHERE, "data")
    assert f"/v2/git/https%3A%2F%2Fgit.example.org%2Fowner%2Fname/{COMMIT}?" in other


@pytest.mark.parametrize("of", [UNKNOWN, PUBLIC._replace(commit=""), PUBLIC._replace(changed=True)])
def test_a_link_that_would_lead_nowhere_is_not_there(of):
    assert origin.format_launchers(of, "data") == ""


def test_the_first_page_says_how_to_clone():
    assert origin.format_clone(PUBLIC) == (
        "git clone --depth 1 https://github.com/owner/name.git && cd name"
    )
    assert origin.format_clone(UNKNOWN) == ""


def test_binder_installs_what_the_lock_pins():
    root = paths.project_root()
    lines = (root / "binder" / "requirements.txt").read_text().splitlines()
    [included] = [line for line in lines if not line.startswith("#")]
    lock = (root / "binder" / included.removeprefix("-r ")).resolve()
    assert lock == root / "requirements.lock"
    assert (root / "binder" / "runtime.txt").read_text().strip() == "python-3.11"
    assert "--no-deps --editable ." in (root / "binder" / "postBuild").read_text()

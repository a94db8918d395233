"""The files around the library: pins, commands, and what must not be in the repository."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def pins(lines) -> dict[str, str]:
    pinned = [line.partition("==") for line in lines if "==" in line]
    return {canonicalize_name(name.strip()): version.strip() for name, _, version in pinned}


def required() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = sum(project["optional-dependencies"].values(), project["dependencies"])
    return {canonicalize_name(r.name): r for r in map(Requirement, listed)}


def test_the_lock_satisfies_the_project():
    locked = pins((ROOT / "requirements.lock").read_text().splitlines())
    for name, requirement in required().items():
        assert requirement.specifier.contains(locked[name]), name


def test_conda_users_get_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    by_pip = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    locked = pins((ROOT / "requirements.lock").read_text().splitlines())
    assert pins(by_pip) == {name: locked[name] for name in required()}
    assert "--constraint requirements.lock" in by_pip


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("torch", r"2\.13\.0"),
        ("jupyter-book", r"1\.0\.4\.post1"),
        ("pytorch-lightning", r"2\.6\..*"),
        ("papermill", r"2\.7\..*"),
        ("snakemake", r"9\..*"),
    ],
)
def test_the_versions_the_design_asks_for(name, version):
    locked = pins((ROOT / "requirements.lock").read_text().splitlines())
    assert re.fullmatch(version, locked[name])


def test_every_make_command_in_the_texts_is_a_target():
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    assert {"study", "test", "data", "book", "lab", "lint", "clean", "help"} <= targets
    texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "book").glob("*.md")]
    for text in texts:
        used = set(re.findall(r"\bmake ([a-z]+)\b(?=`|\s+#|$)", text.read_text(), re.MULTILINE))
        assert used <= targets, text.name


def test_every_local_link_of_the_readme_is_there():
    for text in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / text).read_text()):
            assert "://" in target or (ROOT / target).exists(), f"{text}: {target}"


def test_no_path_of_a_machine_is_in_the_repository():
    foreign = re.compile(rb"/(?:home|Users|root|work)/[a-z]")
    for path in tracked():
        if path.suffix != ".png" and path.parent.name != "vendor":  # code of others
            assert not foreign.search(path.read_bytes()), path


def test_no_picture_but_our_own_is_in_the_repository():
    pictures = [p for p in tracked() if p.suffix in (".png", ".jpg", ".jpeg", ".npy", ".gz")]
    assert {p.relative_to(ROOT).as_posix() for p in pictures} == {
        "book/assets/comparison.png",
        "book/assets/ranking.png",
    }
    assert not [p for p in tracked() if p.suffix == ".ipynb"]

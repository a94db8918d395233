"""The files around the library: pins, commands, and what must not be in the repository."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from PIL import Image

from cbir_lib import paths
from tests.fixtures import drawing, shipped_network

ROOT = Path(__file__).resolve().parents[1]


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_a_study_fills_none_of_the_folders_that_git_keeps():
    folders = {path.relative_to(ROOT).parts[0] for path in tracked() if path.parent != ROOT}
    assert {name for name in folders if not name.startswith(".")} == {*paths.KEPT}
    for inside in ("", *paths.KEPT, "results/quick", "notebooks/../models"):
        assert paths.holds_sources(ROOT / inside)
    for beside in ("build", "build/results", "results-of-mine", "../elsewhere"):
        assert not paths.holds_sources(ROOT / beside)


def pins(lines) -> dict[str, str]:
    pinned = [line.partition("==") for line in lines if "==" in line]
    versions = {name.strip(): version.partition(";")[0].strip() for name, _, version in pinned}
    return {canonicalize_name(name): version for name, version in versions.items()}


def required() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = sum(project["optional-dependencies"].values(), project["dependencies"])
    return {canonicalize_name(r.name): r for r in map(Requirement, listed)}


def test_the_lock_satisfies_the_project():
    locked = pins((ROOT / "requirements.lock").read_text().splitlines())
    for name, requirement in required().items():
        assert requirement.specifier.contains(locked[name]), name


def test_what_is_locked_runs_on_the_oldest_python():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = f"{next(iter(SpecifierSet(project['requires-python']))).version}.0"
    locked = pins((ROOT / "requirements.lock").read_text().splitlines())
    for installed in metadata.distributions():
        needs = SpecifierSet(installed.metadata.get("Requires-Python", ""))
        if locked.get(canonicalize_name(installed.name)) == installed.version:
            assert needs.contains(oldest), f"{installed.name} needs Python {needs}"


def test_the_study_installs_one_extra_and_the_tests_every_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    makefile = (ROOT / "Makefile").read_text()
    rules = dict(
        re.findall(r"(?m)^(\.venv/\S+):.*\n(?:\t.*\n)*?\t\$\(INSTALL\) \"\.\[(.*)\]\"", makefile)
    )
    assert rules[".venv/ready"] == "book"
    # gdcm is the only one that some platforms lack.
    assert {*rules[".venv/ready-test"].split(",")} == project["optional-dependencies"].keys() - {
        "dicom"
    }
    needs = dict(re.findall(r"(?m)^(\w+): (\.venv/\S+)", makefile))
    assert needs["study"] == ".venv/ready" and needs["test"] == ".venv/ready-test"
    assert "make test\n" in (ROOT / ".ci" / "run").read_text()


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


def test_installed_by_pip_it_works_in_another_folder(tmp_path):
    """The wheel is built and installed in an environment that has the dependencies alone."""
    source, elsewhere, environment = (tmp_path / n for n in ("source", "a folder", "environment"))
    elsewhere.mkdir()
    shutil.copytree(ROOT / "cbir_lib", source / "cbir_lib")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    (source / "models").symlink_to(ROOT / "models")
    for number in range(3):
        picture = Image.fromarray(drawing(number, np.random.default_rng(0)))
        picture.save(elsewhere / f"{number}.png")

    def call(*command, folder=elsewhere, code=0):
        ours = ("PYTHONPATH", "CBIR_CACHE", "XDG_CACHE_HOME")
        clean = {name: value for name, value in os.environ.items() if name not in ours}
        done = subprocess.run(
            list(map(str, command)),
            cwd=folder,
            env=clean | {"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    call(sys.executable, "-c", build, tmp_path, folder=source)
    call(sys.executable, "-m", "venv", "--without-pip", environment)
    python, cbir = environment / "bin" / "python", environment / "bin" / "cbir"
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ("--python", python, "install", "-q", "--no-deps", "--no-index")
    call(sys.executable, "-m", "pip", *install, *tmp_path.glob("*.whl"))

    shutil.rmtree(source)
    assert "index" in call(cbir, "--help")
    code = (
        "import sys, cbir_lib, numpy as np\n"
        "from cbir_lib.archive import update\n"
        "from cbir_lib.descriptors import build_descriptor\n"
        "network = cbir_lib.load_network(sys.argv[1])\n"
        "images = np.zeros((2, 64, 64), np.uint8)\n"
        "print(network.transform(images).shape)\n"
        "print(build_descriptor('thumbnail').transform(images).shape)\n"
        "update.build('.', 'archive', sys.argv[1])\n"
        "print(cbir_lib.Archive('archive').search(['0.png'], 1)['path'].tolist())\n"
        "print(cbir_lib.__file__)\n"
    )
    printed = call(python, "-c", code, shipped_network("G")).splitlines()
    assert printed[:2] == ["(2, 800)", "(2, 1024)"]
    assert printed[2] in ("['1.png']", "['2.png']")
    assert Path(printed[3]).is_relative_to(packages)
    for command, hint in ((["study"], "need a checkout"), (["course", "--out", "x"], "a checkout")):
        lines = call(cbir, *command, code=2).splitlines()
        assert len(lines) == 2 and hint in lines[1]
    assert sorted(path.name for path in elsewhere.iterdir()) == [
        *(f"{i}.png" for i in range(3)),
        "archive",
    ]


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

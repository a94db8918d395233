"""The paths of a project, all defined here and nowhere else.

Call these through the module, ``paths.project_root()``, so that tests can point at another project.
A *work folder* holds what a study of one profile makes, ``build/<profile>/``. ``CBIR_BUILD`` names
another folder than ``build/``, for a checkout that may not be written to.
"""

from __future__ import annotations

import os
import site
import sysconfig
from pathlib import Path

from cbir_lib.files import expand, resolve

GPU_DRIVER = Path("/proc/driver/nvidia")  # of the machine: there if it has a GPU that torch can use


def project_root() -> Path:
    """Return the checkout this package runs from, or the current folder if it runs from none."""
    checkout = Path(__file__).resolve().parents[1]
    return checkout if (checkout / "study.yml").is_file() else Path.cwd()


def cache_folder() -> Path:
    """Return the folder of cached, decoded data sets.

    ``CBIR_CACHE``, or ``build/cache``; without a project, a folder in the user's cache.
    """
    if named := os.environ.get("CBIR_CACHE"):
        return expand(named)
    if os.environ.get("CBIR_BUILD") or has_project():
        return build_folder("cache")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    if cache.startswith("~"):  # a user without a home keeps none
        cache = os.devnull
    return Path(cache, "cbir_lib")


def has_project() -> bool:
    """Return whether there is a project: what the package runs from, or the current folder."""
    return study_file().is_file()


def study_file() -> Path:
    """Return the file that defines the profiles and the grid of runs, ``study.yml``."""
    return project_root() / "study.yml"


def data_folder(dataset: str) -> Path:
    """Return the folder where a data set is looked for first, ``data/<dataset>``."""
    return project_root() / "data" / dataset


def notebook_source(name: str) -> Path:
    """Return the text file of a notebook, ``notebooks/<name>.md``."""
    return project_root() / "notebooks" / f"{name}.md"


def book_folder() -> Path:
    """Return the folder with the book's prose, table of contents and styles."""
    return project_root() / "book"


def models_folder() -> Path:
    """Return the folder of the networks that the project ships, or that pip installed with it."""
    own, package = project_root() / "models", Path(__file__).resolve().parents[1]
    if has_project() or (package / "study.yml").is_file():
        return own
    roots = (package, sysconfig.get_path("data"), site.getuserbase())
    places = [Path(root, "share", "cbir_lib", "models") for root in roots]
    return next((place for place in places if place.is_dir()), own)


def results_folder(profile: str) -> Path:
    """Return the folder of a profile's published results, ``results/<profile>``."""
    return project_root() / "results" / profile


# Folders of results/ and of build/ that are no profile's.
OTHER_FOLDERS = (
    *("gap", "labels", "real", "redrawn", "scale", "transfer", "verification"),
    *("cache", "ipython", "lab"),
)
# Folders of the project that git keeps.
KEPT = (
    *("benchmarks", "binder", "book", "cbir_lib", "data", "models", "notebooks", "profiles"),
    *("results", "tests"),
)
# At the end of a work folder's name: built from results/ alone, and executed again for a check.
PUBLISHED, FRESH = "-published", "-fresh"


def build_folder(profile: str = "") -> Path:
    """Return the work folder of a profile; without a profile, the folder that holds them all.

    That is the absolute path of ``CBIR_BUILD``, or ``build/`` in the project.
    """
    named = os.environ.get("CBIR_BUILD")
    return (expand(named).absolute() if named else project_root() / "build") / profile


def holds_sources(folder: Path) -> bool:
    """Return whether a folder is the project, or in it and not one that a study may fill."""
    root, folder = resolve(project_root()), resolve(folder)
    return folder == root or any(folder.is_relative_to(root / name) for name in KEPT)


def shorten(path: Path) -> Path:
    """Return a path relative to the project if it is in it, and Snakemake works there."""
    inside = path.is_relative_to(project_root()) and working_folder() == project_root()
    return path.relative_to(project_root()) if inside else path


def working_folder() -> Path:
    """Return the folder where Snakemake works and keeps its records: the project, or CBIR_BUILD."""
    return build_folder() if os.environ.get("CBIR_BUILD") else project_root()


def run_folder(work: Path, run: str) -> Path:
    """Return the folder of one run in a work folder."""
    return work / "runs" / run


def result_file(work: Path, run: str) -> Path:
    """Return the result file of one run in a work folder."""
    return run_folder(work, run) / "result.json"


def model_file(work: Path, run: str) -> Path:
    """Return the file of the network that one run trained in a work folder."""
    return run_folder(work, run) / "model.safetensors"


def refreshed_page(work: Path, run: str) -> Path:
    """Return the page of a run, rendered again because its notebook's text changed since."""
    return work / "pages" / f"{run}.ipynb"


def effects_file(folder: Path, name: str) -> Path:
    """Return the file of an effect study, in a work folder or among published results."""
    return folder / "effects" / f"{name}.json"


def shipped_networks() -> dict[str, Path]:
    """Return the file of each network that the project ships (``models/``), by its run, sorted."""
    return {file.stem: file for file in sorted(models_folder().glob("*.safetensors"))}


def trained_networks() -> dict[str, Path]:
    """Return the file of each trained network of the project, by the name of its run.

    Networks that the project ships take precedence over those trained here, and among these the
    latest takes precedence, whatever its profile: the names of runs do not say it. For the weights
    of a measured result see :func:`cbir_lib.study.effects.find_network`.
    """
    here = build_folder().glob("*/runs/*/model.safetensors")
    files = {file.parent.name: file for file in sorted(here, key=lambda file: file.stat().st_mtime)}
    return files | shipped_networks()

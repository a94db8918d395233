"""The paths of a project, all defined here and nowhere else.

Call these through the module, ``paths.project_root()``, so that tests can point at another project.
A *work folder* holds what a study of one profile makes, ``build/<profile>/``.
"""

from __future__ import annotations

import os
from pathlib import Path


def project_root() -> Path:
    """Return the checkout this package runs from, or the current folder if it runs from none."""
    checkout = Path(__file__).resolve().parents[1]
    return checkout if (checkout / "study.yml").is_file() else Path.cwd()


def cache_folder() -> Path:
    """Return the folder of cached, decoded data sets: ``CBIR_CACHE``, or ``build/cache``."""
    named = os.environ.get("CBIR_CACHE")
    return Path(named) if named else build_folder("cache")


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
    """Return the folder of the networks that the project ships."""
    return project_root() / "models"


def results_folder(profile: str) -> Path:
    """Return the folder of a profile's published results, ``results/<profile>``."""
    return project_root() / "results" / profile


def build_folder(profile: str = "") -> Path:
    """Return the work folder of a profile; without a profile, the folder that holds them all."""
    return project_root() / "build" / profile


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


def trained_networks() -> dict[str, Path]:
    """Return the file of each trained network of the project, by the name of its run.

    Networks that the project ships (``models/``) take precedence over those trained here, and among
    these the latest takes precedence.
    """
    here = build_folder().glob("*/runs/*/model.safetensors")
    files = {file.parent.name: file for file in sorted(here, key=lambda file: file.stat().st_mtime)}
    return files | {file.stem: file for file in sorted(models_folder().glob("*.safetensors"))}

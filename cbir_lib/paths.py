"""Where things lie in a project: every path of it is spelled here and nowhere else.

Call these through the module, ``paths.project_root()``, so that another project can take its place.
A *work folder* is what a study of one profile makes, ``build/<profile>/``.
"""

from __future__ import annotations

import os
from pathlib import Path


def project_root() -> Path:
    """Return the checkout this package runs from, or the current folder if there is none."""
    checkout = Path(__file__).resolve().parents[1]
    return checkout if (checkout / "study.yml").is_file() else Path.cwd()


def cache_folder() -> Path:
    """Return the folder of decoded data sets: ``CBIR_CACHE``, or ``build/cache``."""
    given = os.environ.get("CBIR_CACHE")
    return Path(given) if given else build_folder("cache")


def study_file() -> Path:
    """Return the profiles and the grid of runs, ``study.yml``."""
    return project_root() / "study.yml"


def data_folder(dataset: str) -> Path:
    """Return where a data set is looked for first, ``data/<dataset>``."""
    return project_root() / "data" / dataset


def notebook_source(name: str) -> Path:
    """Return the text of a notebook, ``notebooks/<name>.md``."""
    return project_root() / "notebooks" / f"{name}.md"


def book_folder() -> Path:
    """Return the prose, table of contents and styles of the book."""
    return project_root() / "book"


def models_folder() -> Path:
    """Return the networks that are part of the project."""
    return project_root() / "models"


def results_folder(profile: str) -> Path:
    """Return the published results of a profile, ``results/<profile>``."""
    return project_root() / "results" / profile


def build_folder(profile: str = "") -> Path:
    """Return the work folder of a profile, or the folder of all of them."""
    return project_root() / "build" / profile


def run_folder(work: Path, run: str) -> Path:
    """Return what one run left in a work folder."""
    return work / "runs" / run


def result_file(work: Path, run: str) -> Path:
    """Return the result of one run in a work folder."""
    return run_folder(work, run) / "result.json"


def model_file(work: Path, run: str) -> Path:
    """Return the network that one run trained in a work folder."""
    return run_folder(work, run) / "model.safetensors"


def effects_file(folder: Path, name: str) -> Path:
    """Return the effects of this name, of a work folder or of a profile's published results."""
    return folder / "effects" / f"{name}.json"


def trained_networks() -> dict[str, Path]:
    """Return the file of each trained network of the project, by the name of its run.

    Those that the project ships (``models/``) go before those of studies done here, and of these
    the latest before the others.
    """
    here = build_folder().glob("*/runs/*/model.safetensors")
    found = {file.parent.name: file for file in sorted(here, key=lambda file: file.stat().st_mtime)}
    return found | {file.stem: file for file in sorted(models_folder().glob("*.safetensors"))}

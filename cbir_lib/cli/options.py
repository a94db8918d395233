"""Options and arguments that several commands share, and the objects they stand for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cbir_lib import paths
from cbir_lib.files import expand, resolve

StudyFile = Annotated[
    Path | None,
    typer.Option("--study", help="The study file; by default study.yml of the project."),
]
ProfileName = Annotated[str, typer.Option(help="A profile of the study file.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        callback=lambda path: path and expand(path),
        help="The data: an archive or a folder. By default CBIR_DATA, or looked for in data/ and "
        "next to it.",
    ),
]
DataName = Annotated[str, typer.Argument(help="Name of the data set, as in `cbir data list`.")]


def set_data_root(data_root: Path | None) -> None:
    """Have all jobs look for data at the given place, or at that of CBIR_DATA."""
    if named := data_root or os.environ.get("CBIR_DATA"):
        os.environ["CBIR_DATA"] = str(resolve(expand(named)))


def find_study_file(path: Path | None) -> Path:
    """Return the given study file, or that of the project."""
    return Path(os.path.abspath(path)) if path else paths.study_file()  # noqa: PTH100


def load_study(study_file: Path | None):
    """Read the given study file, or that of the project."""
    from cbir_lib.study.config import read_study

    return read_study(find_study_file(study_file))


def list_run_ids(study_file: Path | None, profile: str) -> list[str]:
    """Return the names of the runs of a profile."""
    return [run.id for run in load_study(study_file).runs(profile)]

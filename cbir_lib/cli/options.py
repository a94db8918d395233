"""Options and arguments that several commands share, and what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cbir_lib import paths

StudyFile = Annotated[
    Path | None, typer.Option("--study", help="The study file; study.yml of the project.")
]
ProfileName = Annotated[str, typer.Option(help="A profile of the study file.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        envvar="CBIR_DATA",
        help="Where the data lie: an archive or a folder. By default data/ and its neighbours.",
    ),
]
DataName = Annotated[str, typer.Argument(help="Name of the data set, as `cbir data list` has it.")]


def study_path(given: Path | None) -> Path:
    return given.resolve() if given else paths.study_file()


def study_of(study_file: Path | None):
    from cbir_lib.study.config import read_study

    return read_study(study_path(study_file))


def run_ids(study_file: Path | None, profile: str) -> list[str]:
    return [run.id for run in study_of(study_file).runs(profile)]

"""Measure what needs a second data set or the renderer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cbir_lib.cli.options import StudyFile, study_path
from cbir_lib.errors import CbirError

app = typer.Typer(help="Measurements outside a study: another data set, re-rendered images.")


@app.command("transfer")
def effects_transfer(
    study_file: StudyFile = None,
    out: Annotated[
        Path | None, typer.Option(help="The file; by default that of results/transfer/.")
    ] = None,
) -> None:
    """Train a network on each of two data sets, use each on both, and write what was measured.

    The phantom and MedNIST (`cbir data fetch mednist`), as `grid.effects.transfer` of the study
    file has it; some minutes. No image is written.

    Example: `cbir effects transfer`
    """
    from cbir_lib.study import transfer

    _write_effects("transfer", transfer.measure, study_file, out)


@app.command("redrawn")
def effects_redrawn(
    study_file: StudyFile = None,
    out: Annotated[
        Path | None, typer.Option(help="The file; by default that of results/redrawn/.")
    ] = None,
) -> None:
    """Draw queries of the phantom with other exposures, search with them, and write the measures.

    Needs the extra `phantom`; as `grid.effects.redrawn` of the study file has it; some minutes.

    Example: `cbir effects redrawn`
    """
    from cbir_lib.study import rerendered

    _write_effects("redrawn", rerendered.measure, study_file, out)


def _write_effects(name: str, measure, study_file: Path | None, out: Path | None) -> None:
    """Measure what ``grid.effects`` of the study file has under this name, and write it."""
    from cbir_lib.study import effects
    from cbir_lib.study.config import read_study

    grid = read_study(study_path(study_file)).grid
    if (plan := getattr(grid.effects, name)) is None:
        raise CbirError(f"the study has no grid.effects.{name}", "enter it in study.yml")
    path = out or effects.published_path(name, name)
    effects.write(path, measure(plan, grid.descriptors, lambda line: print(line, flush=True)))
    print(f"the effects: {path}")

"""Write the reproduction report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cbir_lib
from cbir_lib import paths
from cbir_lib.cli.options import StudyFile, study_path
from cbir_lib.errors import CbirError


def report(
    dataset: Annotated[str, typer.Option(help="On results of these images.")] = "phantom",
    profile: Annotated[
        str | None, typer.Option(help="On this profile's results; by default the evidence.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    study_file: StudyFile = None,
) -> None:
    """Write the reproduction report on the results at hand: one HTML file that loads nothing else.

    The paper's ten claims with their rules and verdicts, and its tables beside these results: those
    in `results/`, otherwise those in `build/`. If you hold IRMA, run profile `paper` first.
    Examples: `cbir report`, `cbir report --dataset irma --out irma.html`
    """
    import tempfile

    from cbir_lib.book.notebooks import NotebookFailedError, execute, quiet_kernel
    from cbir_lib.book.report_page import write_page
    from cbir_lib.datasets import source
    from cbir_lib.reproduction import evidence
    from cbir_lib.study.config import read_study

    source(dataset)
    found = evidence.on(dataset, profile, read_study(study_path(study_file)))
    with tempfile.TemporaryDirectory() as folder:
        quiet_kernel(Path(folder))
        executed = Path(folder, "report.ipynb")
        try:
            execute(
                paths.notebook_source("report"),
                executed,
                {"dataset": dataset, "profile": profile},
                log=Path(folder, "log.ipynb"),
            )
        except NotebookFailedError as error:
            raise CbirError(
                f"the report cannot be written: {'; '.join(map(str.strip, error.lines))}",
                "look for a result file that another version wrote, and make it again",
            ) from None
        title = f"The reproduction report on {source(dataset).CAPTION}"
        files = f"{len(found.results)} of profile {found.profile}"
        footer = f"cbir {cbir_lib.__version__}, from result files: {files}."
        write_page(executed, out, title, footer)
    print(f"{len(found.results)} results of profile {found.profile} on {dataset}: {out}")

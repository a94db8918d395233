"""The command that writes the reproduction report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import cbir_lib
from cbir_lib import paths
from cbir_lib.cli.options import StudyFile, load_study
from cbir_lib.errors import CbirError
from cbir_lib.files import check_writable, is_stream


def report(
    dataset: Annotated[str, typer.Option(help="The data set of the results.")] = "phantom",
    profile: Annotated[
        str | None, typer.Option(help="The profile of the results; by default the evidence.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    study_file: StudyFile = None,
) -> None:
    """Write the reproduction report for the available results as one self-contained HTML file.

    It has the paper's ten claims with rules and verdicts, and its tables next to the results: those
    in `results/`, or else those in `build/`. If you have IRMA, run profile `paper` first.
    Examples: `cbir report`, `cbir report --dataset irma --out irma.html`
    """
    import tempfile

    from cbir_lib.book.notebooks import NotebookFailedError, execute, quiet_kernel
    from cbir_lib.book.report_page import write_page
    from cbir_lib.datasets import get_source
    from cbir_lib.reproduction import evidence

    get_source(dataset)
    check_writable(out)
    study = load_study(study_file)
    basis = evidence.find_evidence(dataset, profile, study)
    # All that the notebook needs: the project's study file may not know this profile.
    runs = [run.id for run in study.runs(basis.profile)]
    with tempfile.TemporaryDirectory() as folder:
        quiet_kernel(Path(folder))
        executed = Path(folder, "report.ipynb")
        try:
            execute(
                paths.notebook_source("report"),
                executed,
                {"dataset": dataset, "profile": basis.profile, "runs": runs},
                log=Path(folder, "log.ipynb"),
            )
        except NotebookFailedError as error:
            raise CbirError(
                f"the report cannot be written: {'; '.join(map(str.strip, error.lines))}",
                "look for a result file of another version, and make it again",
            ) from None
        title = f"The reproduction report on {get_source(dataset).CAPTION}"
        files = f"{len(basis.results)} of profile {basis.profile}"
        footer = f"cbir {cbir_lib.__version__}, from result files: {files}."
        write_page(executed, out, title, footer)
    said = sys.stderr if is_stream(out) else sys.stdout  # which may be what it was written to
    print(f"{len(basis.results)} results of profile {basis.profile} on {dataset}: {out}", file=said)

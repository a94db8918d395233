"""The ``cbir`` command: its groups, its errors, its exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import cbir_lib
from cbir_lib.cli import course, data, effects, index, job, phantom, report, study
from cbir_lib.errors import INTERRUPTED, CbirError, RunsFailedError

app = typer.Typer(
    name="cbir",
    add_completion=False,
    rich_markup_mode="markdown",
    help="Content-based retrieval of radiographs: run the study, fetch its data, search.",
)
for command in (study.study, study.verify, study.publish, report.report, course.course):
    app.command()(command)
for name, group in (("data", data), ("index", index), ("phantom", phantom), ("effects", effects)):
    app.add_typer(group.app, name=name)
app.add_typer(job.app, name="job", hidden=True)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cbir {cbir_lib.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command; an error that the user can fix is two lines and exit code 2."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
        if code == 130:  # typer's code for Ctrl-C
            raise INTERRUPTED
    except CbirError as error:
        print(error, file=sys.stderr)
        code = 2
    except RunsFailedError as error:
        print(error, file=sys.stderr)
        code = 1
    except typer.BadParameter.__base__ as error:  # the base class of all usage errors
        command = error.ctx.command_path if error.ctx else "cbir"
        print(CbirError(error.format_message(), f"{command} --help"), file=sys.stderr)
        code = 2
    sys.exit(code)

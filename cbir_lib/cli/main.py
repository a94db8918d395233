"""The ``cbir`` command: its groups, its errors, its exit codes."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import re
import sys
import tempfile
import traceback
from contextlib import suppress
from typing import Annotated

import typer

import cbir_lib
from cbir_lib.addresses import scrub
from cbir_lib.cli import course, data, effects, index, job, phantom, report, study
from cbir_lib.cli.home import ensure_home
from cbir_lib.errors import (
    INTERRUPTED,
    CbirError,
    RunsFailedError,
    explain_trouble,
    first_line,
)
from cbir_lib.files import expand

app = typer.Typer(
    name="cbir",
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Content-based retrieval of radiographs: run the study, fetch its data, search.",
)
for command in (study.study, study.verify, study.publish, report.report, course.course):
    app.command()(command)
for name, group in (("data", data), ("index", index), ("phantom", phantom), ("effects", effects)):
    app.add_typer(group.app, name=name)
app.add_typer(job.app, name="job", hidden=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cbir {cbir_lib.__version__}")
        raise typer.Exit


@app.callback()
def _take_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command; an error that the user can fix is two lines and exit code 2.

    No exception escapes: a bug is two lines and a log to report, exit code 70.
    """
    atexit.register(gc.freeze)  # Python's last collection would go through all that was imported
    _fill_closed_streams()
    ensure_home()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # closed, or a notebook's
            stream.reconfigure(errors="backslashreplace")  # names may have any characters
    try:
        if "" in sys.argv[1:]:  # as a folder it would be the current one
            raise CbirError("an argument is empty", "is a variable of the shell not set?")
        _check_current_folder()
        code = app(_expand_homes(sys.argv[1:]) or ["--help"], standalone_mode=False) or 0
        if code == 130:  # typer's code for Ctrl-C
            raise INTERRUPTED
        sys.stdout.flush()  # a full disk behind a redirection shows here
    except BrokenPipeError:
        code = 1  # the reader of the output has closed it: not an error
        _close_output()
    except RunsFailedError as error:
        code = _complain(str(error), 1)
    except typer.BadParameter.__base__ as error:  # the base class of all usage errors
        command = error.ctx.command_path if error.ctx else "cbir"
        code = _complain(str(CbirError(error.format_message(), f"{command} --help")), 2)
    except Exception as error:
        if (trouble := explain_trouble(error)) is None:
            code = _complain(str(_report_fault(error)), 70)
        else:
            code = _complain(str(trouble), 2)
        if isinstance(error, OSError):
            _close_output()
    except KeyboardInterrupt:
        code = _complain(str(INTERRUPTED), 2)
    sys.exit(code)


def _expand_homes(arguments: list[str]) -> list[str]:
    """Expand ``~`` in ``--out=~/x``, where the shell does not."""
    parts = [re.fullmatch(r"(--[a-z-]+=)(~.*)", argument, re.DOTALL) for argument in arguments]
    return [
        f"{part[1]}{expand(part[2])}" if part else argument
        for part, argument in zip(parts, arguments, strict=True)
    ]


def _check_current_folder() -> None:
    """Refuse to start in a folder that was removed: libraries fail there in ways of their own."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError as error:
        raise CbirError("the current folder was removed", "go to another: cd FOLDER") from error


class _ClosedOutput(io.TextIOBase):
    """Standard output where there is none: what is written there is lost, and that is an error."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "it is closed", "standard output")


def _fill_closed_streams() -> None:
    """Keep the numbers of closed standard streams from the next files that are opened."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stdout is None:
        sys.stdout = _ClosedOutput()


def _complain(text: str, code: int) -> int:
    """Print a text to stderr, without the credentials in the command's addresses."""
    with suppress(OSError, AttributeError):  # closed
        print(scrub(text, _list_addresses()), file=sys.stderr)
    return code


def _list_addresses() -> list[str]:
    values = [
        value for argument in sys.argv[1:] for value in (argument, argument.partition("=")[2])
    ]
    values += [value for value in os.environ.values() if "@" in value and ":" in value]
    return [value for value in values if "://" in value or "@" in value]


def _report_fault(error: Exception) -> CbirError:
    """Write the traceback of a bug to a file; return the error to show."""
    lines = traceback.format_exception(error)
    lines += [f"cbir {cbir_lib.__version__}, Python {sys.version}, {sys.platform}\n"]
    what = f"a fault in cbir itself: {type(error).__name__}: {first_line(error)}"
    text = scrub("".join(lines), _list_addresses()).encode(errors="backslashreplace")
    try:
        with tempfile.NamedTemporaryFile(prefix="cbir-", suffix=".log", delete=False) as log:
            log.write(text)
    except OSError:
        return CbirError(what, "report it to those who gave you this checkout, with the command")
    return CbirError(what, f"report it to those who gave you this checkout, with {log.name}")


def _close_output() -> None:
    """Discard pending output, which Python would try to write again on exit."""
    with suppress(OSError, AttributeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

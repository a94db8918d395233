"""How far a command is, on the error stream: the output is its answer alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal, else a line per thousand.

    Yields
    ------
    The function to call with how many of ``what`` are done, and of how many.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        said = 0  # thousands

        def say(done: int, total: int) -> None:
            nonlocal said
            if done // 1000 > said or done == total:
                said = done // 1000
                print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)

        yield say

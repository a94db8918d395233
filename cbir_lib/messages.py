"""Messages from the jobs of a study to its conductor: whole lines, in a file of their own.

Standard output will not do: several jobs and Snakemake write to one pipe, a line and its end in two
writes, so one process's message can land in the middle of another's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHANNEL = "CBIR_MESSAGES"  # environment variable of a job: path of the file
WARM = "CBIR_WARM"  # the same: socket of the process that it is forked from (cbir_lib/cli/warm.py)
PLAN = "plan"  # in place of a job's name: the message names the jobs to do
PAUSE_S = 0.1


def send_message(job: str, message: str) -> None:
    """Send one line to the conductor, and print it for anyone who runs the job by hand."""
    line = f"[{job}] {message}\n"
    print(line, end="", flush=True)
    if path := os.environ.get(CHANNEL):
        # A single append: the system keeps those of several processes apart.
        with Path(path).open("ab", buffering=0) as file:
            file.write(line.encode())


@contextmanager
def receive_messages(path: Path, handle: Callable[[str], None]) -> Iterator[None]:
    """Call ``handle`` with every line that is sent to the file until the block ends."""
    path.write_bytes(b"")
    ended = threading.Event()

    def listen() -> None:
        rest = b""
        with path.open("rb") as file:
            while True:
                last = ended.is_set()  # before reading: all that was sent until then is in the file
                *lines, rest = (rest + file.read()).split(b"\n")
                for line in lines:
                    handle(line.decode(errors="replace"))
                if last:
                    return
                ended.wait(PAUSE_S)

    thread = threading.Thread(target=listen, name="messages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

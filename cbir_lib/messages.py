"""How a job speaks to the conductor of a study: whole lines, in a file of their own.

Standard output will not do: several jobs and Snakemake write to one pipe, a line and its end in two
pieces, and one process's message can fall into the middle of another's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHANNEL = "CBIR_MESSAGES"  # in the environment of a job: the file
PAUSE_S = 0.1


def say(job: str, message: str) -> None:
    """Tell the conductor one line, and print it, for whoever runs the job by hand."""
    line = f"[{job}] {message}\n"
    print(line, end="", flush=True)
    if path := os.environ.get(CHANNEL):
        # One write at the end of the file: the system keeps those of several processes apart.
        with Path(path).open("ab", buffering=0) as file:
            file.write(line.encode())


@contextmanager
def heard(path: Path, hear: Callable[[str], None]) -> Iterator[None]:
    """Call ``hear`` with each line that comes into the file, until the block ends, all of them."""
    path.write_bytes(b"")
    ended = threading.Event()

    def listen() -> None:
        rest = b""
        with path.open("rb") as file:
            while True:
                last = ended.is_set()  # before reading: what was said until then is in the file
                *lines, rest = (rest + file.read()).split(b"\n")
                for line in lines:
                    hear(line.decode(errors="replace"))
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

"""Jobs of a study as forks of one process that has imported the libraries.

Forty jobs would import the same libraries eighty times: in the process that executes a notebook,
and in its kernel. So the conductor starts one process that imports them, ``python -m
cbir_lib.cli.warm SOCKET``. ``python -m cbir_lib.cli job ...`` asks it, by the socket that the
environment names, to fork and do the job, and passes on its exit code. A job starts by itself
without that variable, where the process is gone, and if an import has started a thread, which a
fork would lack.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
import weakref
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TextIO

from cbir_lib.errors import CbirError
from cbir_lib.messages import WARM
from cbir_lib.paths import GPU_DRIVER

NOTEBOOKS = ("run", "effects", "chapter")  # jobs that execute one
# What notebooks and those who execute them import. A figure's backend is chosen by the kernel.
MODULES = (
    *("cbir_lib.cli.main", "cbir_lib.book.notebooks", "cbir_lib.book.kernels"),
    *("ipykernel.kernelapp", "matplotlib.backends.backend_agg"),
    *("cbir_lib.book.cells", "cbir_lib.study.summaries", "cbir_lib.reproduction.evidence"),
    *("cbir_lib.teaching.material", "cbir_lib.evaluation.protocol", "sklearn.linear_model"),
    *("statsmodels.api", "numba", "pyarrow.dataset", "ipykernel.debugger"),
    "tabulate",  # by torch, at its end
)
# These ask for a GPU when imported, and a fork cannot use one that its parent has seen.
MODULES_WITHOUT_GPU = ("cbir_lib.networks.training", "cbir_lib.descriptors.learned")
END = b"\n"  # of a request; JSON has none
BEFORE_IMPORTS = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # else pyarrow's allocator starts a thread
}


def ask(arguments: list[str]) -> int | None:
    """Let the warm process do a job; return its exit code, or None if there is no such process."""
    address = os.environ.get(WARM)
    if not address:
        return None
    request = {"arguments": arguments, "environment": dict(os.environ), "folder": str(Path.cwd())}
    text = json.dumps(request).encode() + END
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(address)
            socket.send_fds(line, [text[:1]], [0, 1, 2])
            line.sendall(text[1:])
            begun = line.recv(1)
        except OSError:
            begun = b""
        if not begun:
            return None
        with suppress(OSError):
            if code := line.recv(1):
                return code[0]
    return 1  # the warm process was ended, and with it the job


def serve(address: Path) -> list[str] | None:
    """Import, then fork for each request; return a job's arguments in a fork, None at the end.

    The end is that of the process that started this one, when standard input closes and the last
    job is done.
    """
    with socket.socket(socket.AF_UNIX) as door, selectors.DefaultSelector() as waits:
        beside = address.with_name(f"{address.name}.part")  # until somebody listens
        door.bind(str(beside))
        door.listen(64)  # jobs that come earlier wait here
        beside.replace(address)
        os.environ |= BEFORE_IMPORTS
        gc.disable()  # what is imported stays
        for name in MODULES + (() if GPU_DRIVER.exists() else MODULES_WITHOUT_GPU):
            import_module(name)
        _read_ahead()
        if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
            return None
        for finalizer in list(weakref.finalize._registry):
            finalizer.atexit = False  # what was imported needs no end, in each fork again
        gc.enable()
        gc.freeze()  # else every collection in a fork would go through all that was imported
        waits.register(door, selectors.EVENT_READ)
        waits.register(sys.stdin, selectors.EVENT_READ)
        jobs: dict[int, tuple[socket.socket, int]] = {}  # by the handle of the process
        closing = False
        while jobs or not closing:
            for key, _ in waits.select():
                if key.fileobj is door:
                    line = door.accept()[0]
                    if arguments := _begin(line, waits, jobs):
                        return arguments
                elif key.fileobj is sys.stdin:
                    closing = True
                    waits.unregister(sys.stdin)
                elif key.fileobj in jobs:
                    _finish(key.fileobj, waits, jobs)
                elif key.fileobj.fileno() >= 0:  # not just finished: its asker is gone
                    waits.unregister(key.fileobj)
                    with suppress(ProcessLookupError):
                        os.killpg(key.data, signal.SIGTERM)
    return None


def _read_ahead() -> None:
    """Read published results and the phantom, which most jobs need; what is faulty they name."""
    from cbir_lib import paths
    from cbir_lib.datasets.cache import check_cached
    from cbir_lib.study import results

    for folder in (paths.project_root() / "results").glob("*/"):
        with suppress(CbirError):
            results.read_published(folder.name)
    check_cached("phantom")


def _begin(line: socket.socket, waits: selectors.BaseSelector, jobs: dict) -> list[str] | None:
    """Fork for the request of a line; return the job's arguments in the fork."""
    line.settimeout(10)
    files = []
    try:
        text, files, _, _ = socket.recv_fds(line, 1, 3)
        while not text.endswith(END):
            if not (more := line.recv(65536)):
                raise ValueError("a request without its end")
            text += more
        request = json.loads(text)
        line.sendall(b"+")
    except (OSError, ValueError):
        for file in files:  # open here, they would keep others waiting for their end
            os.close(file)
        line.close()
        return None
    if pid := os.fork():
        for file in files:
            os.close(file)
        handle = os.pidfd_open(pid)
        jobs[handle] = line, pid
        waits.register(handle, selectors.EVENT_READ)
        waits.register(line, selectors.EVENT_READ, pid)  # nothing more is said: readable at its end
        return None
    os.setpgid(0, 0)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    # The streams of old believe that they write to what was there before.
    sys.stdout = sys.__stdout__ = _open_stream(1, sys.stdout)
    sys.stderr = sys.__stderr__ = _open_stream(2, sys.stderr)
    for other, _ in jobs.values():
        other.close()
    line.close()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    return request["arguments"]


def _open_stream(number: int, before: TextIO) -> TextIO:
    settings = {"encoding": before.encoding, "errors": before.errors, "closefd": False}
    return open(number, "w", buffering=1, **settings)


def _finish(handle: int, waits: selectors.BaseSelector, jobs: dict) -> None:
    """Send the exit code of a process that has ended to the job that asked for it."""
    line, pid = jobs.pop(handle)
    waits.unregister(handle)
    with suppress(KeyError):  # gone already
        waits.unregister(line)
    os.close(handle)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(OSError), line:
        line.sendall(bytes([code if code >= 0 else 128 - code]))


def main() -> None:
    """Serve at the socket that the command line names; in a fork, do the job."""
    arguments = serve(Path(sys.argv[1]))
    if arguments is None:
        return
    from cbir_lib.book import kernels
    from cbir_lib.cli.main import main

    kernels.reseed()
    if arguments[:1] == ["job"] and arguments[1] in NOTEBOOKS:
        kernels.prepare_kernel()
    sys.argv = ["cbir", *arguments]
    try:
        main()
    except SystemExit as leaving:
        kernels.leave(leaving.code)


if __name__ == "__main__":
    main()

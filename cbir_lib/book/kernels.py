"""Kernels forked from a process that has imported the libraries already.

A kernel of its own costs each notebook a new interpreter and every import. A job of a study that
is a fork itself (``cbir_lib/cli/warm.py``) forks its kernel as its first act, before a thread is
started; :class:`ForkedKernelManager` hands the fork the command that would have started a kernel.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from jupyter_client import AsyncKernelManager, KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

prepared: ForkedProcess | None = None  # the fork that waits for its command, at most one


def prepare_kernel() -> None:
    """Fork a process that waits, and becomes the kernel of the next notebook executed here.

    Returns in the calling process; the fork ends when its kernel is shut down.
    """
    global prepared
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        os.close(reading)
        prepared = ForkedProcess(pid, writing)
        return
    os.close(writing)
    os.setsid()  # as any kernel: a signal to its group reaches what it starts, and nothing else
    with os.fdopen(reading, encoding="utf-8") as pipe:
        text = pipe.read()
    if text:  # else the job ended without a notebook
        _become_kernel(**json.loads(text))
    leave(0)


def _become_kernel(command: list[str], environment: dict[str, str], folder: str) -> None:
    from ipykernel.kernelapp import IPKernelApp

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    reseed()
    if pandas := sys.modules.get("pandas"):  # it asked, when imported, whether it is in a terminal
        pandas.set_option("display.max_columns", 20)
    # The kernel's own options follow the module that starts it.
    options = command[command.index("ipykernel_launcher") + 1 :]
    sys.argv = ["ipykernel_launcher", *options]
    parent = f"--IPKernelApp.parent_handle={environment['JPY_PARENT_PID']}"  # ends if that one does
    IPKernelApp.launch_instance([*options, parent])


def leave(code: int) -> NoReturn:
    """End a fork as multiprocessing ends one.

    Python itself would take apart what the parent has imported, and so copy all its memory.
    """
    threading._shutdown()  # waits for threads
    gc.freeze()  # IPython's end collects garbage, and would go through all that was imported
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def reseed() -> None:
    """Give a fork random numbers of its own, as a new interpreter has."""
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()


class ForkedProcess:
    """What a provisioner needs of ``subprocess.Popen``, for a fork of this process."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, pipe: int):
        self.pid, self.pipe = pid, pipe
        self.returncode: int | None = None

    def start(self, command: list[str], environment: dict[str, str], folder: str) -> None:
        """Let the fork become the kernel of a command."""
        environment = environment | {"JPY_PARENT_PID": str(os.getpid())}
        request = {"command": command, "environment": environment, "folder": folder}
        with os.fdopen(self.pipe, "w", encoding="utf-8") as pipe:
            json.dump(request, pipe)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return self._wait(0)

    def _wait(self, how: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, how)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class ForkedProvisioner(LocalProvisioner):
    """Makes the prepared fork a kernel; a second kernel is started as any other."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        global prepared
        if prepared is None:
            return await super().launch_kernel(cmd, **kwargs)
        self.process, prepared = prepared, None
        self.pid = self.pgid = self.process.pid  # it leads a session
        self.cwd = kwargs.get("cwd") or Path.cwd()
        self.process.start(cmd, dict(kwargs.get("env") or os.environ), str(self.cwd))
        return self.connection_info


class ForkedKernelManager(AsyncKernelManager):
    """A manager whose kernel is the prepared fork."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.provisioner = ForkedProvisioner(
            kernel_id="forked", kernel_spec=self.kernel_spec, parent=self
        )


def choose_manager() -> dict[str, type[AsyncKernelManager]]:
    """Return papermill's option for the prepared kernel; none where none is prepared."""
    return {"kernel_manager_class": ForkedKernelManager} if prepared else {}

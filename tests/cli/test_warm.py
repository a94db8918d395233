"""Jobs as forks of a warm process: what they say and return, and what ends with what."""

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from cbir_lib.messages import WARM

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="forks need Linux")
# The process as it is, with these modules only, and with a command that takes its time.
SERVER = """
import sys, time
{before}
from cbir_lib.cli import main, warm

@main.app.command("wait")
def wait():
    print("waiting", flush=True)
    time.sleep(60)

warm.MODULES, warm.MODULES_WITHOUT_GPU = tuple({modules!r}.split()), ()
warm.main()
"""


class Server:
    def __init__(self, folder, modules="cbir_lib.cli.main", before="", **environment):
        self.address = folder / "warm"
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                SERVER.format(modules=modules, before=before),
                str(self.address),
            ],
            env=os.environ | environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
        )
        while not self.address.exists():
            assert self.process.poll() is None
            time.sleep(0.01)

    def ask(self, *arguments, **how):
        return subprocess.Popen(
            [sys.executable, "-m", "cbir_lib.cli", *arguments],
            env=os.environ | {WARM: str(self.address)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **how,
        )

    def jobs(self):
        return psutil.Process(self.process.pid).children()

    def end(self):
        self.process.stdin.close()
        return self.process.wait(timeout=300)


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    with server.process:
        yield server
        server.process.kill()


def test_a_job_prints_and_ends_as_if_it_were_started_here(server, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    plain = [sys.executable, "-m", "cbir_lib.cli"]
    for arguments in (["--version"], ["job", "check-book", "nowhere"]):
        here = subprocess.run(
            [*plain, *arguments], cwd=tmp_path / "elsewhere", capture_output=True, text=True
        )
        asked = server.ask(*arguments, cwd=tmp_path / "elsewhere")
        assert asked.communicate(timeout=300) == (here.stdout, here.stderr)
        assert asked.returncode == here.returncode
    assert server.jobs() == []
    assert server.end() == 0


def test_a_job_ends_with_whoever_asked_and_its_failure_is_one(server):
    asked = server.ask("wait")
    assert asked.stdout.readline() == "waiting\n"
    [job] = server.jobs()
    asked.kill()
    asked.communicate()
    psutil.wait_procs([job], timeout=300)
    assert not job.is_running()

    asked = server.ask("wait")
    assert asked.stdout.readline() == "waiting\n"
    server.jobs()[0].kill()
    asked.communicate(timeout=300)
    assert asked.returncode == 128 + 9

    asked = server.ask("wait")
    assert asked.stdout.readline() == "waiting\n"
    [job] = server.jobs()
    server.process.kill()  # nobody would know of the job's end
    assert asked.wait(timeout=300) == 1
    job.kill()
    asked.communicate()


def test_the_process_waits_for_its_last_job_and_then_is_not_missed(server, tmp_path):
    asked = server.ask("wait")
    assert asked.stdout.readline() == "waiting\n"
    server.process.stdin.close()
    time.sleep(0.3)
    assert server.process.poll() is None
    server.jobs()[0].terminate()
    asked.communicate(timeout=300)
    assert server.process.wait(timeout=300) == 0
    late = server.ask("--version")
    assert late.communicate(timeout=300)[0].startswith("cbir ") and late.returncode == 0


def test_a_process_with_a_thread_does_not_fork(tmp_path):
    # numpy's threads: with more than one, a lock of theirs could be held in a fork for ever.
    (tmp_path / "threaded.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    server = Server(tmp_path, modules="threaded", PYTHONPATH=str(tmp_path))
    asked = server.ask("--version")
    assert asked.communicate(timeout=300)[0].startswith("cbir ") and asked.returncode == 0
    server.end()


NOTEBOOK = """---
kernelspec: {name: python3, display_name: Python 3, language: python}
jupytext: {text_representation: {extension: .md, format_name: myst}}
---

# Draft

```{code-cell}
:tags: [parameters]

letters = "a"
```

```{code-cell}
import os, sys
import pandas as pd
import matplotlib.pyplot as plt
import numpy as np

print("to the conductor")
print("aside", file=sys.stderr)
plt.plot([1, 2]);
```

```{code-cell}
pd.DataFrame({letters * 9 + str(n): [n] for n in range(18)})
```

```{code-cell}
__name__, get_ipython().kernel.parent is not None, os.getcwd(), sorted(os.environ)
```

```{code-cell}
raise ValueError(letters)
```
"""
EXECUTE = """
import os, sys
from pathlib import Path
from cbir_lib.book import kernels
from cbir_lib.book.notebooks import NotebookFailedError, execute

folder, how = Path(sys.argv[1]), sys.argv[2]
if how == "forked":
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    import pandas, matplotlib.pyplot
    del os.environ["MPLBACKEND"]
    kernels.prepare_kernel()
    pid = kernels.prepared.pid
try:
    log = folder / how / "log.ipynb"
    execute(folder / "draft.md", folder / "executed.ipynb", {"letters": "b"}, log=log, echo=print)
except NotebookFailedError as error:
    print(error.lines)
if how == "forked":
    assert kernels.prepared is None and not Path(f"/proc/{pid}").exists()
"""


def test_a_forked_kernel_gives_what_a_kernel_of_its_own_gives(tmp_path):
    (tmp_path / "draft.md").write_text(NOTEBOOK)
    said, cells = {}, {}
    for how in ("forked", "plain"):
        done = subprocess.run(
            [sys.executable, "-c", EXECUTE, str(tmp_path), how],
            env=os.environ
            | {"JE_ARROW_MALLOC_CONF": "background_thread:false", "IPYTHONDIR": str(tmp_path)},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        said[how] = done.stdout.splitlines()
        cells[how] = nbformat.read(tmp_path / how / "log.ipynb", 4).cells
    assert said["forked"] == said["plain"]
    assert said["plain"][0] == "to the conductor" and "ValueError: b" in said["plain"][1]
    assert not (tmp_path / "executed.ipynb").exists()
    outputs = {how: [c.outputs for c in cells[how] if c.cell_type == "code"] for how in cells}
    assert outputs["forked"] == outputs["plain"]
    assert {*map(len, outputs["plain"])} >= {1, 3}
    assert any("image/png" in o.get("data", {}) for cell in outputs["plain"] for o in cell)


# What the process does before its first fork.
AHEAD = """
import os
from importlib import import_module
from cbir_lib.cli import warm

os.environ |= warm.BEFORE_IMPORTS
for name in warm.MODULES + warm.MODULES_WITHOUT_GPU:
    import_module(name)
warm._read_ahead()
from cbir_lib.datasets import cache
print(len(cache._checked), len(os.listdir("/proc/self/task")))
"""


def test_what_is_imported_and_read_beforehand_starts_no_thread(phantom_set, phantom_cache):
    done = subprocess.run(
        [sys.executable, "-c", AHEAD],
        env=os.environ | {"CBIR_CACHE": str(phantom_cache), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["1", "1"], done.stderr


def test_whoever_finds_the_address_is_heard(tmp_path):
    slow = "import socket; listen = socket.socket.listen; "
    slow += "socket.socket.listen = lambda *how: (time.sleep(0.5), listen(*how))"
    server = Server(tmp_path, before=slow)
    with server.process, socket.socket(socket.AF_UNIX) as line:
        line.connect(str(server.address))
        assert [*tmp_path.iterdir()] == [server.address]
        server.process.kill()


def test_a_request_without_its_end_leaves_nothing_open(server):
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(server.address))
        socket.send_fds(line, [b"{"], [writing])
        os.close(writing)
        line.shutdown(socket.SHUT_WR)
        assert line.recv(1) == b""
    assert select.select([reading], [], [], 30)[0] and os.read(reading, 1) == b""
    os.close(reading)

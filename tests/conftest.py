"""What several files of tests share: workers, caches of decoded data, the command line.

``pytest`` runs the tests on all cores, one file alone on one (``addopts`` in pyproject.toml);
``-n 0`` runs any in one process.
"""

import gc
import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

import cbir_lib
from cbir_lib.cli.main import main

# One worker a core, so one thread a worker: set before anything is imported that reads it.
os.environ |= dict.fromkeys(
    (
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
        *("NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"),
    ),
    "1",
)
# Where a test asks for two threads, one waits for the other without spinning.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
# Processes that tests start have Python's defaults: where a machine sets others, what fails on the
# machines of most would be seen on none of ours.
for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
    os.environ.pop(name, None)
# Files that take longest: begun last, they would keep one core from the others' end.
LONGEST = ("test_conductor.py",)

# A busy machine is no failure. What one change is judged by is the same for the next: the suite has
# fixed examples, and `--hypothesis-profile=search` looks for others.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile("suite")


def pytest_xdist_auto_num_workers(config) -> int:
    """For ``-n auto``: a worker a core, none besides for one file."""
    asked = {Path(argument.split("::")[0]) for argument in config.args}
    if len(asked) == 1 and not asked.pop().is_dir():
        return 0
    return os.cpu_count()


def pytest_collection_modifyitems(items) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    gc.freeze()  # no collection of garbage goes through what all the files have imported


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Every test keeps its cache of decoded data to itself."""
    monkeypatch.setenv("CBIR_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("CBIR_DATA", raising=False)


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A folder that all workers share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def phantom_cache(shared):
    """The folder of the embedded phantom, decoded once for all workers by ``phantom_set``."""
    return shared / "phantom"


@pytest.fixture(scope="session")
def phantom_set(phantom_cache):
    """The embedded phantom, decoded once for all tests that only read it; a read-only map."""
    with pytest.MonkeyPatch.context() as patch, FileLock(phantom_cache.with_suffix(".lock")):
        patch.setenv("CBIR_CACHE", str(phantom_cache))
        patch.delenv("CBIR_DATA", raising=False)
        return cbir_lib.load("phantom")


@pytest.fixture
def cbir(monkeypatch, capsys):
    """Run the command in this process; give its exit code, output and error lines."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cbir", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err.splitlines()

    return run

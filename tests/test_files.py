import os
import resource
import signal
import subprocess
import sys

import pytest

from cbir_lib import paths
from cbir_lib.files import replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "result.json"
    with replacing(path) as part:
        part.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["result.json"]


def test_readers_of_the_old_file_are_not_disturbed(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    with path.open() as reader:
        with replacing(path) as part:
            part.write_text("new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_exception_leaves_the_old_file_and_no_part(tmp_path, error):
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(error, match="stop"), replacing(path) as part:
        part.write_text("half")
        raise error("stop")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["result.json"]


@pytest.mark.parametrize("name", ["result.json", "result", "a.b.npy"])
def test_parts_of_dead_processes_are_removed(tmp_path, name):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = os.getppid()
    kept = [f".{name}.{alive}.part", f".other.{dead.pid}.part", f".{name}.backup.part"]
    for stale in [f".{name}.{dead.pid}.part", *kept]:
        (tmp_path / stale).write_text("half")
    with replacing(tmp_path / name) as part:
        part.write_text("whole")
    assert names(tmp_path) == sorted([name, *kept])


# The size limit of a process is a full disk that needs no disk: the system call fails half-way.
FULL = """
import sys
import numpy as np, pandas as pd
from cbir_lib.errors import CbirError
from cbir_lib.files import replacing
zeros = np.zeros(100_000)
try:
    with replacing(sys.argv[1]) as part:
        {write}
except CbirError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(
    "write",
    [
        "part.write_bytes(zeros.data)",
        "np.save(part.open('wb'), zeros)",
        "pd.DataFrame({'a': np.random.default_rng(0).random(100_000)}).to_parquet(part)",
    ],
    ids=["bytes", "numpy", "parquet"],
)
def test_full_disk_leaves_the_old_file_and_says_so(tmp_path, write):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    path = tmp_path / "result.json"
    path.write_text("old")
    script = [sys.executable, "-c", FULL.format(write=write), str(path)]
    ended = subprocess.run(script, preexec_fn=limit, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: no space left while writing {path}\nhint: free some")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["result.json"]


def test_project_root_is_the_checkout_or_the_current_folder(tmp_path, monkeypatch):
    assert (paths.project_root() / "pyproject.toml").is_file()
    installed = tmp_path / "site-packages" / "cbir_lib" / "paths.py"
    monkeypatch.setattr(paths, "__file__", str(installed))
    monkeypatch.chdir(tmp_path)
    assert paths.project_root() == tmp_path


def test_cache_folder_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("CBIR_CACHE", str(tmp_path))
    assert paths.cache_folder() == tmp_path
    monkeypatch.delenv("CBIR_CACHE")
    assert paths.cache_folder() == paths.project_root() / "build" / "cache"

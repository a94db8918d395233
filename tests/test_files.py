import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from cbir_lib import files, paths
from cbir_lib.errors import CbirError
from cbir_lib.files import (
    check_writable,
    expand,
    find_lock,
    replacing,
    replacing_folder,
    resolve,
)


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
    own = f".{name}.{files._get_host()}"
    kept = [f"{own}.{alive}.part", f".other.{dead.pid}.part", f".{name}.backup.part"]
    for stale in [f"{own}.{dead.pid}.part", *kept]:
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
    said = {  # NumPy does not tell the two apart
        f"error: no space left while writing {path}\nhint: free some",
        f"error: cannot write {path}: File too large\nhint: the system limits the size of files",
    }
    assert ended.stderr.startswith((*said,))
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


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "latest.json").symlink_to("real.json")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "dangling").symlink_to("elsewhere/new.json")
    for name in ("latest.json", "dangling"):
        with replacing(tmp_path / name) as part:
            part.write_text("new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == "new"
    assert (tmp_path / "real.json").read_text() == "new"
    assert names(tmp_path / "elsewhere") == ["new.json"]


def test_a_pipe_gets_the_content_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    with replacing(pipe) as part:
        part.write_text("whole")
    assert reader.communicate()[0] == b"whole"
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("way", ["> out", ">> out", "| cat > out"])
def test_standard_output_by_its_name(tmp_path, way):
    code = (
        "from cbir_lib.files import replacing\n"
        "print('before')\n"
        "with replacing('/dev/stdout') as part: part.write_text('whole\\n')\n"
    )
    (tmp_path / "out").write_text("old\n")
    command = f'"{sys.executable}" -c "$CODE" {way}'
    environment = os.environ | {"CODE": code, "PYTHONPATH": str(paths.project_root())}
    subprocess.run(command, shell=True, cwd=tmp_path, env=environment, check=True)
    expected = "old\n" * (way == ">> out") + "before\nwhole\n"
    assert (tmp_path / "out").read_text() == expected


def test_what_cannot_be_written_is_two_lines(tmp_path):
    (tmp_path / "file").write_text("")
    for path, reason in (
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "x.json", "file is not a folder"),
        ("/proc/x.html", "No such file"),
        ("/dev/full", "no space left"),
        (tmp_path / ("x" * 300), "File name too long\nhint: give it a shorter name"),
    ):
        with pytest.raises(CbirError, match=reason), replacing(path) as part:
            part.write_text("whole")
    assert names(tmp_path) == ["file"]


def test_that_a_file_can_be_written_is_found_out_without_touching_it(tmp_path):
    (tmp_path / "file").write_text("old")
    for path in (tmp_path / "file", tmp_path / "new", "/dev/full", "-"):
        check_writable(path)
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"
    for path in (tmp_path, tmp_path / "file" / "x.json", "/proc/x.html", tmp_path / ("x" * 300)):
        with pytest.raises(CbirError):
            check_writable(path)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["x" * 250, "[a-b]*?.json", "ü" * 120, " a 'b\" c", "a\nb"])
def test_any_name_that_the_system_allows(tmp_path, name):
    for text in ("old", "new"):
        with replacing(tmp_path / name) as part:
            part.write_text(text)
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "new"


def test_a_part_of_another_machine_is_left_until_it_is_old(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    foreign = tmp_path / f".result.json.0badcafe.{dead.pid}.part"
    for age, left in ((0, True), (8 * 24 * 3600, False)):
        foreign.write_text("half")
        os.utime(foreign, (time.time() - age,) * 2)
        with replacing(tmp_path / "result.json") as part:
            part.write_text("whole")
        assert foreign.exists() == left


def write_folder(path, text):
    with replacing_folder(path) as part:
        for name in "abc":
            (part / name).write_text(text)


@pytest.mark.parametrize("exchange", [True, False], ids=["at once", "in two steps"])
def test_a_folder_is_replaced_as_a_whole(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    place = tmp_path / "new" / "models"
    for text in ("old", "new"):
        write_folder(place, text)
        assert {file.read_text() for file in place.iterdir()} == {text}
    with pytest.raises(ValueError, match="stop"), replacing_folder(place) as part:
        (part / "a").write_text("half")
        raise ValueError("stop")
    assert {file.read_text() for file in place.iterdir()} == {"new"}
    assert names(place.parent) == ["models"]


@pytest.mark.parametrize("kind", ["file", "pipe", "link to a file"])
def test_what_is_no_folder_is_not_replaced_by_one(tmp_path, kind):
    path = tmp_path / "place"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        (tmp_path / "file").write_text("old")
        path.symlink_to("file") if kind.startswith("link") else path.write_text("old")
    before = names(tmp_path), path.lstat().st_ino
    with pytest.raises(CbirError, match="it is no folder"), replacing_folder(path):
        raise AssertionError
    assert (names(tmp_path), path.lstat().st_ino) == before


def test_names_of_nobody_and_links_in_a_circle_are_paths_as_any(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/mine")
    names_of = {"~/a": "/mine/a", "~nobody-of-this-name/a": "~nobody-of-this-name/a", "a": "a"}
    assert {name: str(expand(name)) for name in names_of} == names_of
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / one).symlink_to(other)
    assert resolve(tmp_path / "a").parent == resolve(tmp_path)


@pytest.mark.parametrize("target", ["models", "model.json", "/dev/null"])
def test_a_missing_input_is_not_blamed_on_what_is_written(tmp_path, target):
    write = replacing_folder if target == "models" else replacing
    with pytest.raises(FileNotFoundError, match="gone.png"), write(tmp_path / target) as part:
        shutil.copy(tmp_path / "gone.png", part)
    assert names(tmp_path) == []


@pytest.mark.parametrize("write", [replacing, replacing_folder])
def test_what_cannot_be_written_inside_is_blamed_on_what_is_written(tmp_path, write):
    with (
        pytest.raises(CbirError, match="cannot write .*models: No such"),
        write(tmp_path / "models") as part,
    ):
        Path(f"{part}/gone/a").write_text("x")


def test_a_disk_that_is_full_while_a_folder_is_copied_is_named(tmp_path):
    write_folder(tmp_path / "source", "x")
    with (
        pytest.raises(CbirError, match="no space left while writing .*models"),
        replacing_folder(tmp_path / "models") as part,
    ):
        shutil.copytree(tmp_path / "source", part, dirs_exist_ok=True, copy_function=fill)


def fill(source, target):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)


def test_what_a_kill_between_two_renames_left_is_completed(tmp_path):
    write_folder(tmp_path / "models", "old")
    (tmp_path / "models").rename(tmp_path / ".models.old")
    with pytest.raises(ValueError, match="stop"), replacing_folder(tmp_path / "models"):
        raise ValueError("stop")
    assert names(tmp_path) == ["models"]


def test_links_in_a_circle_are_refused_and_stay(tmp_path):
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    with pytest.raises(CbirError, match="symbolic links"), replacing(tmp_path / "one") as part:
        part.write_text("x")
    assert all(path.is_symlink() for path in tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_lock_where_the_drive_has_none(tmp_path, monkeypatch, number):
    """As on some network drives; a killed process's lock is nobody's."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with find_lock(tmp_path / "lock").acquire(timeout=0), pytest.raises(filelock.Timeout):
        find_lock(tmp_path / "lock").acquire(timeout=0)
    held = tmp_path / "lock.held"
    assert not held.exists()
    code = "import sys, os, filelock; lock = filelock.SoftFileLock(sys.argv[1]); lock.acquire()"
    subprocess.run([sys.executable, "-c", code + "; os.kill(os.getpid(), 9)", held], check=False)
    assert held.exists()
    with find_lock(tmp_path / "lock").acquire(timeout=5):
        pass


def test_a_lock_of_the_system_leaves_no_other_file(tmp_path):
    with find_lock(tmp_path / "lock").acquire(timeout=0):
        with pytest.raises(filelock.Timeout):
            find_lock(tmp_path / "lock").acquire(timeout=0)
        assert names(tmp_path) == ["lock"]

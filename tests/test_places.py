"""Any place: a checkout one may not write to, no home, a full disk, other users, two at once.

A user without rights is another one for root (``setpriv``), and permissions are taken away else.
"""

import errno
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from numba.core.caching import FunctionCache
from PIL import Image

from cbir_lib import compiling, paths
from cbir_lib.archive import update
from cbir_lib.cli import home
from cbir_lib.errors import CbirError
from cbir_lib.study import results
from tests.fixtures import drawing, write_mednist
from tests.workflow.test_conductor import Project

# A name that a shell would take apart, and YAML take for a mapping and a comment.
ODD = 'it\'s "odd": $(touch x) #2 ü'


@pytest.fixture(scope="session")
def stranger():
    """What to put before a command so that a user runs it who may read everything, write nothing.

    The system does not know this user's name or home.
    """
    if os.geteuid():
        return []
    capability = "+dac_read_search"
    command = [
        *("setpriv", "--reuid=65533", "--regid=65533", "--clear-groups"),
        *(f"--inh-caps={capability}", f"--ambient-caps={capability}", "--"),
    ]
    if not shutil.which("setpriv") or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("root cannot become another user here: no setpriv, or not allowed to")
    return command


def take_permissions(folder):
    """Let nobody but root write in a folder."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)


def give_permissions(folder):
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)


FULL = (100, 100)  # bytes that a file may have where the disk is full


@pytest.fixture
def open_folder():
    """A folder that any user may look into, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def run(command, folder, preexec=None, **environment):
    """Run a command; a variable that is None is not set."""
    everything = os.environ | {"PYTHONPATH": str(paths.project_root())} | environment
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={name: str(value) for name, value in everything.items() if value is not None},
        preexec_fn=preexec,
        capture_output=True,
        text=True,
    )


def run_on_full_disk(command, folder, **environment):
    def fill_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, FULL)

    # Python would keep what it could write of a module's code, and fail on it ever after.
    return run(command, folder, fill_disk, PYTHONDONTWRITEBYTECODE="1", **environment)


CBIR = [sys.executable, "-m", "cbir_lib.cli"]


def test_a_study_of_a_checkout_that_may_not_be_written_to(stranger, open_folder):
    """By a user without a home, with what it makes in a folder with an odd name."""
    project = Project(open_folder / "checkout", open_folder, open_folder / "cache")
    write_mednist(project.root / "data" / "mednist" / "MedNIST", per_class=60, seed=4)
    own = open_folder / ODD
    own.mkdir()
    if stranger:
        os.chown(own, 65533, 65533)
    take_permissions(project.root)
    without_home = {"HOME": None if stranger else "/proc/nowhere", "PYTHONPATH": project.root}
    without_home["CBIR_CACHE"] = None
    study = [*stranger, *CBIR, "study", "--profile", "2024"]
    study += ["--run", "mednist-grey-histogram", "--cores", "1"]
    plan = yaml.safe_load((project.root / "study.yml").read_text())
    plan["profiles"]["2024"] = plan["profiles"]["tiny"]
    (own / "my study.yml").write_text(yaml.safe_dump(plan))
    study += ["--study", own / "my study.yml"]
    try:
        before = sorted(project.root.rglob("*"))
        refused = run(study, project.root, **without_home)
        assert refused.returncode == 2
        assert "cannot write" in refused.stderr and "CBIR_BUILD=" in refused.stderr
        assert len(refused.stderr.splitlines()) == 2
        done = run(study, own, **without_home, CBIR_BUILD="build")
        log = own / "build/2024/study.log"
        assert done.returncode == 0, done.stdout + done.stderr + log.read_text()
        assert done.stderr == ""
        result = own / "build/2024/runs/mednist-grey-histogram/result.json"
        assert results.read(result).run == "mednist-grey-histogram"
        assert sorted(project.root.rglob("*")) == before  # nor is there a .snakemake
    finally:
        give_permissions(project.root)


def test_the_build_folder(monkeypatch, tmp_path):
    root = paths.project_root()
    monkeypatch.delenv("CBIR_BUILD", raising=False)
    assert paths.build_folder("quick") == root / "build" / "quick"
    assert paths.shorten(root / "build" / "x") == Path("build/x")
    monkeypatch.delenv("CBIR_CACHE")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBIR_BUILD", "elsewhere")
    assert paths.build_folder("quick") == tmp_path / "elsewhere" / "quick"
    assert paths.cache_folder() == tmp_path / "elsewhere" / "cache"
    assert paths.shorten(root / "study.yml") == root / "study.yml"  # Snakemake is elsewhere


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """An environment in which nothing is set, and a home."""
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path), "USER": "me"})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = []
    monkeypatch.setattr(home.atexit, "register", lambda *what: ended.append(what))
    yield os.environ
    for remove, *arguments in ended:
        remove(*arguments)
    assert not list(tmp_path.glob("cbir-home-*"))


def test_a_good_home_stays(environment):
    before = {**environment}
    home.ensure_home()
    assert {**environment} == before


@pytest.mark.parametrize("given", ["/proc/nowhere", "/dev/null", "file", ""])
def test_without_a_home_there_is_a_temporary_one(environment, tmp_path, monkeypatch, given):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # nor does the system know one
    (tmp_path / "file").touch()
    environment["HOME"] = str(tmp_path / "file") if given == "file" else given
    home.ensure_home()
    Path(environment["HOME"], "made").touch()
    assert Path(environment["HOME"]).name.startswith("cbir-home-")


def test_a_cache_of_another_user(environment, tmp_path, monkeypatch):
    (tmp_path / ".cache").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda at, how: at != tmp_path / ".cache" and access(at, how))
    home.ensure_home()
    assert environment["HOME"] == str(tmp_path)
    assert {name for name in environment if name.startswith("XDG_")} == {"XDG_CACHE_HOME"}
    assert Path(environment["XDG_CACHE_HOME"]).parts[-2].startswith("cbir-home-")


def test_a_user_without_a_name(environment, monkeypatch):
    def fail(number):
        raise KeyError(number)

    del environment["USER"]
    monkeypatch.setattr("pwd.getpwuid", fail)
    home.ensure_home()
    assert environment["USER"] == f"user{os.getuid()}"


# Loops that numba compiles


def write_module(folder):
    """Write a module with compiled loops; return the command that calls it with 1 to 4."""
    (folder / "loops.py").write_text(
        "from cbir_lib.compiling import compile_cached\n\n\n"
        "@compile_cached\ndef _square(x):\n    return x * x\n\n\n"
        "@compile_cached\ndef add(x):\n    total = 0\n"
        "    for one in x:\n        total += _square(one)\n    return total\n"
    )
    code = (
        "import loops, numpy; print(loops.add(numpy.arange(1, 5)), {*loops.add.stats.cache_hits})"
    )
    return [sys.executable, "-c", code]


def test_loops_are_compiled_wherever_they_are(tmp_path):
    command = write_module(tmp_path)
    full = run_on_full_disk(command, tmp_path)
    assert (full.stdout, full.stderr) == ("30 set()\n", "")
    assert run(command, tmp_path).stdout == "30 set()\n"
    kept = sorted((tmp_path / "__pycache__").glob("loops.*.nb*"))
    assert len(kept) == 4
    for file in kept:
        file.write_bytes(file.read_bytes()[:20])
    damaged = run(command, tmp_path)
    assert (damaged.stdout, damaged.stderr) == ("30 set()\n", "")


@pytest.mark.parametrize("fault", ["no place", "no space"])
def test_loops_without_a_place_for_a_cache(monkeypatch, fault):
    def fail(*arguments):
        if fault == "no place":
            raise RuntimeError("cannot cache function: no locator available")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FunctionCache, "__init__" if fault == "no place" else "save_overload", fail)
    with pytest.raises((RuntimeError, OSError)):  # numba's own
        compiling.njit(cache=True)(lambda x: x + 1)(1)
    assert compiling.compile_cached(lambda x: x + 1)(1) == 2


# A full disk


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Twelve images of two classes, and their archive."""
    folder, rng = tmp_path_factory.mktemp("full"), np.random.default_rng(0)
    for i in range(12):
        place = folder / "images" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawing(i % 2, rng)).save(place / f"{i}.png")
    update.build(folder / "images", folder / "archive", "thumbnail")
    return folder


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["data", "check", "folder", "--data-root", "images"], " 12\n"),
        (
            ["index", "search", "archive", "images/a/0.png", "--method", "hnsw", "-k", "3"],
            "a/6.png",
        ),
    ],
    ids=["check", "search"],
)
def test_a_full_disk_stops_no_answer(images, tmp_path, command, said):
    done = run_on_full_disk([*CBIR, *command], images, CBIR_CACHE=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("hnsw finds")] == []
    assert said in done.stdout
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_a_full_disk_stops_says_so(images):
    before = sorted(images.rglob("*"))
    command = ["index", "build", "images", "--descriptor", "thumbnail", "--out", "other"]
    done = run_on_full_disk([*CBIR, *command], images)
    assert done.returncode == 2
    assert "no space left" in done.stderr.lower() or "too large" in done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"]
    left = {*images.rglob("*")} - {*before}
    assert not [path for path in left if path.suffix in (".part", ".json")]


# Two at once


def test_two_studies_at_once_in_one_checkout(tmp_path):
    """The second is refused in two lines; with a folder of its own it runs."""
    from cbir_lib.workflow.conductor import hold_lock

    with hold_lock(tmp_path / "one"):
        with hold_lock(tmp_path / "two"):
            pass
        code = "from cbir_lib.workflow.conductor import hold_lock\nfrom pathlib import Path\n"
        code += f"with hold_lock(Path({str(tmp_path / 'one')!r})): pass"
        refused = run([sys.executable, "-c", code], tmp_path)
        assert "another study is running" in refused.stderr


@pytest.mark.parametrize("machine", [platform.node(), "elsewhere"])
def test_nothing_is_ended_by_the_number_that_a_lock_notes(tmp_path, machine):
    """It may be another machine's or a container's; and who is detached is not abandoned."""
    from cbir_lib.workflow.conductor import hold_lock

    with hold_lock(tmp_path), subprocess.Popen(["sleep", "100"]) as unrelated:
        (tmp_path / "study.pid").write_text(f"{unrelated.pid} {machine}")
        with pytest.raises(CbirError, match="another study is running") as refused:
            hold_lock(tmp_path).__enter__()
        assert unrelated.poll() is None and str(unrelated.pid) not in str(refused.value)
        assert (" on elsewhere" in str(refused.value)) == (machine == "elsewhere")
        unrelated.kill()


def test_a_study_that_ignores_a_closed_terminal_goes_on(tmp_path):
    """As nohup has it."""
    from cbir_lib.workflow.conductor import hold_lock

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with hold_lock(tmp_path):
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_two_processes_read_two_folders_at_once(images, tmp_path):
    """From one cache, of which each removes what another made."""
    shutil.copytree(images / "images", tmp_path / "A")
    shutil.copytree(images / "images", tmp_path / "B")
    (tmp_path / "B" / "a" / "0.png").unlink()
    environment = os.environ | {"CBIR_CACHE": str(tmp_path / "cache")}
    environment |= {"PYTHONPATH": str(paths.project_root())}
    code = "import sys; from cbir_lib.datasets import folder\n"
    code += "for i in range(15): assert len(folder.load(sys.argv[1]).images) == int(sys.argv[2])"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / name, count],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, count in (("A", "12"), ("B", "11"), ("A", "12"))
    ]
    ended = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended

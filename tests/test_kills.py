"""Killed at any moment: what is there is the old or the new, and started again it ends the same.

A job runs in a forked process that kills itself (SIGKILL) just before one of its file operations.
``CBIR_KILLS`` says how many of these moments are tried for each of the three jobs, evenly spread:
few in the suite; 17 make 51 kills, and "all" tries every one.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import yaml
from PIL import Image

from cbir_lib import paths
from cbir_lib.archive import update
from cbir_lib.archive.store import Archive
from cbir_lib.datasets import phantom
from cbir_lib.datasets.phantom import generation, recipe
from cbir_lib.datasets.phantom.views import VIEWS
from cbir_lib.descriptors import DESCRIPTORS
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks.modules import TrainedNetwork, build_network, read_network, save_network
from cbir_lib.study import results
from cbir_lib.study.config import read_study
from cbir_lib.workflow import publishing
from tests.fixtures import drawing, heed_ctrl_c, write_drawings
from tests.study.test_results import changed

KILLS = os.environ.get("CBIR_KILLS", "3")
EVENTS = {
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("shutil.copyfile", "shutil.rmtree", "ctypes.dlsym"),  # dlsym: renameat2
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def run(job, kill_at=None):
    """Run a job in a forked process; return its file operations, or None if it was killed."""
    count_file, own = os.pipe()
    pid = os.fork()
    if pid == 0:
        done = 0

        def count(event, arguments):
            nonlocal done
            if event in EVENTS or (event == "open" and (arguments[2] or 0) & WRITING):
                if done == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                done += 1

        code = 1
        try:
            signal.alarm(300)
            sys.addaudithook(count)
            job()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os.write(own, str(done).encode())
            os._exit(code)
    os.close(own)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(count_file) as file:
        done = file.read()
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    assert status == 0
    return int(done)


def moments(operations):
    if KILLS == "all":
        return range(operations)
    return sorted({int(at) for at in np.linspace(0, operations - 1, int(KILLS))})


def contents(folder, *others):
    """The content of each file, without hidden ones and those named, by its path."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith(".") and file.name not in others
    }


def copy(source, target):
    """Copy a folder; an archive knows its images by their times."""
    os.system(f"rm -rf '{target}' && cp -a '{source}' '{target}'")


# Publishing


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a published study, and the results and networks of a newer one."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.setattr(paths, "project_root", lambda: root)
    monkeypatch.setattr(publishing, "_draw_pictures", lambda shown, folder: "")
    study = {
        "profiles": {"full": {"dataset": "phantom", "size": 32}},
        "grid": {
            "networks": {"plain": {"network": ["G", "F"]}},
            "descriptors": {name: {} for name in list(DESCRIPTORS)[:4]},
        },
    }
    (root / "study.yml").write_text(yaml.safe_dump(study, sort_keys=False))
    read = read_study(root / "study.yml")
    work = root / "build" / "full"
    for accuracy in (0.5, 0.75):
        for planned in read.runs("full"):
            run_result = results.Result(
                **changed(
                    run=planned.id,
                    parameters=planned.model_dump(),
                    data__dataset="phantom",
                    rules__0__validation_accuracy=accuracy,
                )
            )
            results.write(work / "runs" / planned.id / "result.json", run_result)
            if letter := getattr(planned, "network", None):
                mean = np.full((32, 32), accuracy, np.float32)
                module = build_network(letter, mean, classes=5, reading="flattened")
                with torch.no_grad():
                    module.scores.bias[:] = accuracy
                options, names = {"reading": "flattened"}, tuple("abcde")
                trained = TrainedNetwork(letter, options, names, Preprocessing(size=32), module)
                save_network(work / "runs" / planned.id / "model.safetensors", trained)
        if accuracy == 0.5:
            publishing.publish(read, "full")
            (root / "results/full/phantom-left-the-study.json").write_bytes(
                (root / "results/full/phantom-F-s0.json").read_bytes()
            )
            (root / "models" / "README.md").write_text("what they are")
    return root


def test_publishing_killed_at_any_moment(project, tmp_path):
    def publish():
        publishing.publish(read_study(project / "study.yml"), "full")

    before = tmp_path / "before"
    copy(project, before)
    old = {name: contents(project / name) for name in ("results/full", "models")}
    operations = run(publish)
    new = {name: contents(project / name) for name in old}
    assert all(old[name] != new[name] for name in old)
    assert {*new["models"]} == {"README.md", *(f"phantom-{x}-s0.safetensors" for x in "FG")}
    seen = set()
    for at in moments(operations):
        copy(before, project)
        assert run(publish, at) is None
        for name, states in old.items():
            now = contents(project / name)
            assert now in (states, new[name]), (at, name)
            seen.add((name, now == states))
            for file in (project / "models").glob("*.safetensors"):
                read_network(file)
        run(publish)
        assert {name: contents(project / name) for name in old} == new
        left = [path for path in project.rglob(".*") if "build" not in path.parts]
        assert left == [], at
    assert len(seen) == 4 or len(moments(operations)) < 10  # of both the old and the new was seen


def test_a_failure_removes_nothing(project, monkeypatch):
    old = {name: contents(project / name) for name in ("results/full", "models")}
    network = project / "build/full/runs/phantom-F-s0/model.safetensors"
    network.write_bytes(network.read_bytes()[:-1])
    with pytest.raises(Exception, match="cannot read the network"):
        publishing.publish(read_study(project / "study.yml"), "full")
    assert contents(project / "models") == old["models"]


# An archive


@pytest.fixture
def folder(tmp_path):
    return write_drawings(tmp_path / "images", 12)


@pytest.mark.filterwarnings("ignore:.*its last finished build left:UserWarning")
def test_updating_an_archive_killed_at_any_moment(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(update, "SHARD", 4)
    place, before = tmp_path / "archive", tmp_path / "before"
    update.build(folder, place, "thumbnail")
    Archive(place).engine("hnsw")
    # Some are new, one is changed, one is gone, one is broken.
    rng = np.random.default_rng(1)
    for name in ("003", "020", "021", "022", "023", "024"):
        Image.fromarray(drawing(2, rng)).save(folder / f"{name}.png")
    (folder / "005.png").unlink()
    (folder / "007.png").write_bytes(b"broken")
    copy(place, before)

    def build():
        update.build(folder, place)

    def stored():
        archive, found = Archive(place), {}
        for shard in archive.shards():
            rows, vectors = archive.read_shard(shard)
            for row, vector in zip(rows, vectors, strict=True):
                assert row.path not in found
                found[row.path] = (row.content, vector.tobytes())
        return found

    old = stored()
    operations = run(build)
    whole, new = contents(place, "hnsw.safetensors"), stored()
    lasting = {*old} - {"005.png", "007.png"}
    assert {name for name in lasting if old[name] != new[name]} == {"003.png"}
    query = drawing(0, rng)
    for at in moments(operations):
        copy(before, place)
        assert run(build, at) is None
        answers = Archive(place).search([query], 3)  # at every moment
        assert len(answers) == 3
        now = stored()
        assert all(now[name] in (old[name], new[name]) for name in lasting), at
        run(build)
        assert contents(place, "hnsw.safetensors") == whole, at
        assert not list(place.rglob("*.part"))


# A set of phantom images


@pytest.fixture
def draw(monkeypatch):
    """Let a drawing stand for each image; its record is that of an image of the same view."""
    labels = paths.data_folder("phantom") / "labels.csv"
    labels = pd.read_csv(labels, dtype={"image_id": str}, keep_default_na=False)
    of_view = {name: rows.iloc[0].to_dict() for name, rows in labels.groupby("view")}

    def draw_image(planned, seed, size, changes):
        own = {"image_id": planned.image_id, "split": planned.split}
        own["subject_id"] = planned.subject_id
        grey = drawing(planned.view % 6, np.random.default_rng([seed, int(planned.image_id[1:])]))
        return grey, of_view[VIEWS[planned.view].name] | own

    monkeypatch.setattr(recipe, "draw_image", draw_image)
    monkeypatch.setattr(generation, "IMAGES_PER_PART", 50)


def test_rendering_killed_at_any_moment(draw, tmp_path):
    """While parts are drawn, and while the set is written from them."""
    out = tmp_path / "set"

    def render():
        generation.render_set(out, 200, 1, 32, 1)

    operations = run(render)
    whole = contents(out)
    assert len(phantom.read(out)) == 200
    begun = set()
    for at in moments(operations):
        shutil.rmtree(out, ignore_errors=True)
        assert run(render, at) is None
        begun.add(len(list(out.glob("parts/0*.parquet"))))
        run(render)
        assert contents(out) == whole, at
        assert [path for path in out.rglob("*") if path.name.startswith((".", "parts"))] == []
    assert begun > {0, 4} or len(moments(operations)) < 10  # also while parts are drawn


def test_a_damaged_part_is_drawn_again(draw, tmp_path):
    out, whole = (
        tmp_path / "set",
        contents(generation.render_set(tmp_path / "whole", 200, 1, 32, 1)),
    )

    def stop(finished, count):
        if len(list(out.glob("parts/0*.parquet"))) == 3:
            raise KeyboardInterrupt

    for at in (0.1, 0.5, 0.9):
        with pytest.raises(KeyboardInterrupt):
            generation.render_set(out, 200, 1, 32, 1, stop)
        part = out / "parts" / "00050.parquet"
        damaged = bytearray(part.read_bytes())
        damaged[int(at * len(damaged))] ^= 16
        part.write_bytes(damaged)
        generation.render_set(out, 200, 1, 32, 1)
        assert contents(out) == whole
        shutil.rmtree(out)


def start_pool(tmp_path) -> tuple[subprocess.Popen, psutil.Process]:
    """A process in a session of its own, and the worker that waits for its work."""
    code = (
        "import multiprocessing, os, sys, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from cbir_lib.datasets.phantom.generation import _end_with_parent\n"
        "if __name__ == '__main__':\n"
        "    fresh = multiprocessing.get_context('spawn')\n"
        "    pool = ProcessPoolExecutor(1, fresh, initializer=_end_with_parent)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(300)\n"
    )
    (tmp_path / "pool.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(paths.project_root())}
    process = subprocess.Popen(
        [sys.executable, "pool.py"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )
    return process, psutil.Process(int(process.stdout.readline()))


def test_processes_end_with_the_one_that_started_them(tmp_path):
    process, worker = start_pool(tmp_path)
    with process:
        process.kill()
    assert not psutil.wait_procs([worker], timeout=300)[1]


def test_processes_end_at_ctrl_c_without_a_word(tmp_path):
    process, worker = start_pool(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert b"KeyboardInterrupt" in said and b"SpawnProcess" not in said  # of the first alone
    assert not psutil.wait_procs([worker], timeout=300)[1]


def test_a_kill_is_one():
    started = time.monotonic()
    assert run(lambda: Path(os.devnull).open("w").close(), 0) is None
    assert run(lambda: Path(os.devnull).open("w").close()) == 1
    assert time.monotonic() - started < 280

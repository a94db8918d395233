"""The memory of several files that are read at the same time."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cbir_lib.archive import update
from cbir_lib.archive.store import Archive
from cbir_lib.images import memory


@pytest.fixture
def limit(monkeypatch):
    monkeypatch.setattr(memory, "find_memory_limit", lambda: 2000)


def test_all_readers_together_stay_below_the_share(limit):
    held, most = [], []

    def read(count):
        with memory.reserving():
            assert memory.reserve(count)
            with memory.reserving():  # as a decoder inside of a reader does
                assert memory.reserve(count // 2)  # what is reserved stays so
            held.append(count)
            most.append(sum(held))
            time.sleep(0.01)
            held.remove(count)

    counts = np.random.default_rng(0).integers(1, 1000, 60)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, counts.tolist()))
    assert 500 < max(most) <= 1000
    assert memory._reserved == {}


def test_two_that_both_want_more_do_not_wait_for_each_other(limit):
    both = threading.Barrier(2)

    def read(_):
        with memory.reserving():
            memory.reserve(400)
            both.wait(120)
            memory.reserve(900)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(read, range(2), timeout=300))


def test_more_than_the_share_is_refused(limit):
    assert not memory.reserve(1001)
    assert memory.reserve(1000)  # outside of a block nothing waits
    assert memory._reserved == {}


def test_a_picture_that_does_not_fit_is_set_aside_and_tried_again(tmp_path, monkeypatch):
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for name, size in (("a", 40), ("b", 40), ("large", 600)):
        Image.fromarray(rng.integers(0, 256, (size, size), np.uint8)).save(folder / f"{name}.png")
    with monkeypatch.context() as little:
        little.setattr(memory, "find_memory_limit", lambda: 2_000_000)
        report = update.build(folder, tmp_path / "archive", "grey-histogram")
    assert report.faults == {"large.png": "too little memory to read it"}
    assert report.added == 2
    report = update.build(folder, tmp_path / "archive")
    assert (report.added, report.faults) == (1, {})
    assert len(Archive(tmp_path / "archive")) == 3


BUILD = """
import resource, sys
import cv2
from cbir_lib.archive import update
cv2.setNumThreads(1)
update.build(sys.argv[1], sys.argv[2] + "-before", "grey-histogram")  # loads all libraries
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + 150_000_000  # less than the picture alone, wherever memory was freed before
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
report = update.build(sys.argv[1], sys.argv[2], "grey-histogram")
print(report.added, report.faults)
"""


def test_with_too_little_memory_one_file_is_set_aside_and_not_the_build(tmp_path):
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (40, 40), np.uint8)).save(folder / f"{name}.png")
    # A small file that is decoded to 200 MB, and takes three times as much.
    Image.fromarray(np.zeros((10_000, 10_000), np.uint16)).save(folder / "deep.png")
    assert (folder / "deep.png").stat().st_size < 1_000_000
    command = [sys.executable, "-c", BUILD, str(folder), str(tmp_path / "archive")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("3 {'deep.png': '"), ended.stdout
    assert "memory" in ended.stdout

"""What a step of the study costs besides its computing, in a process of its own and in a fork.

    python benchmarks/overhead.py           after `make book`

Executes the shortest chapter both ways, alternating, and builds the book whole and with one page
changed. Seconds of two cores with nothing else to do; the ratios are what counts.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # as in a study

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import nbformat

from cbir_lib import paths
from cbir_lib.messages import WARM

CHAPTER = "networks"
REPEATS = 3
work = paths.build_folder("quick-published")
if not (work / "html" / "index.html").is_file():
    sys.exit("first: make book")


def measure(*job: str, **environment: str) -> float:
    """Do a job of the study; return its seconds."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "cbir_lib.cli", "job", *job, "--work", work, "--profile", "quick"],
        env=os.environ | environment,
        cwd=paths.project_root(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - started


with tempfile.TemporaryDirectory() as folder:
    address = Path(folder, "warm")
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "cbir_lib.cli.warm", address],
        cwd=paths.project_root(),
        stdin=subprocess.PIPE,
    ):
        warm = {WARM: str(address)}
        while not address.exists():
            time.sleep(0.01)
        measure("chapter", CHAPTER, **warm)  # waits for the imports
        print(f"once for a study, imports of what jobs need: {time.perf_counter() - started:.1f} s")
        pairs = [
            (measure("chapter", CHAPTER), measure("chapter", CHAPTER, **warm))
            for _ in range(REPEATS)
        ]
        own, fork = (median(times) for times in zip(*pairs, strict=True))
        print(f"chapter {CHAPTER}: {own:.1f} s by itself, {fork:.1f} s forked, {fork / own:.2f}")
        shutil.rmtree(work / "sphinx", ignore_errors=True)
        whole = measure("book", **warm)
        page, changed = work / "chapters" / f"{CHAPTER}.ipynb", []
        kept = page.read_bytes()
        for number in range(REPEATS):
            notebook = nbformat.reads(kept, as_version=4)
            notebook.cells.append(nbformat.v4.new_markdown_cell(f"Change {number}.", id="change"))
            nbformat.write(notebook, page)
            changed.append(measure("book", **warm))
        page.write_bytes(kept)
        measure("book", **warm)
        again = median(changed)
        print(f"book: {whole:.1f} s whole, {again:.1f} s with a page changed, {again / whole:.2f}")

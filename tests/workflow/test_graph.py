"""A step of the study depends on the code that decides its numbers, and on no other."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cbir_lib import paths
from cbir_lib.study.config import read_study
from cbir_lib.workflow import graph

ROOT = Path(__file__).resolve().parents[2]
RUN_NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("run_*.md"))
MEASURED = ("network_run", "descriptor_run", "combination_run", "effects")


def modules(notebook, *others):
    return graph.find_imported_modules(
        graph.select_measuring_code(paths.notebook_source(notebook)), others
    )


def test_modules_behind_code_are_those_that_python_loads():
    code = "from cbir_lib.retrieval.index import Index"
    listed = {
        name for name in graph.find_imported_modules(code) if not name.endswith("__init__.py")
    }
    script = code + "; import sys; print(*[n for n in sys.modules if n.startswith('cbir_lib.')])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
    loaded = {name.replace(".", "/") + ".py" for name in out.split()}
    loaded = {name for name in loaded if (ROOT / name).is_file()}
    assert loaded and loaded <= listed  # imports inside functions are listed too


def test_what_the_graph_searches_for_is_where_it_searches():
    searched = re.findall(
        r'Path\(project\(("[^)]*")\)\)\.(r?glob)\("([^"]+)"\)', (ROOT / "Snakefile").read_text()
    )
    assert len(searched) >= 4
    for folders, method, pattern in searched:
        place = ROOT.joinpath(*re.findall(r'"(\w+)"', folders))
        assert [*getattr(place, method)(pattern)], (folders, pattern)


def test_a_lazy_name_of_the_package_leads_to_its_module():
    assert "cbir_lib/images/preprocessing.py" in graph.find_imported_modules(
        "from cbir_lib import Preprocessing"
    )


def test_no_run_depends_on_a_figure_a_command_or_an_archive():
    for run in {run.notebook: run for run in read_study(ROOT / "study.yml").runs("full")}.values():
        packages = {Path(name).parts[1] for name in modules(run.notebook)}
        assert not packages & {"book", "cli", "archive", "reproduction", "workflow"}
        assert {"datasets", "evaluation", "retrieval", "study"} <= packages


@pytest.mark.parametrize("notebook", RUN_NOTEBOOKS)
def test_no_run_depends_on_how_the_phantom_is_drawn_or_on_wording(notebook):
    behind = modules(notebook)
    drawing = {name for name in behind if "/phantom/" in name}
    assert drawing == {f"cbir_lib/datasets/phantom/{name}.py" for name in ("__init__", "contents")}
    assert "cbir_lib/study/wording.py" not in behind


def test_only_the_runs_of_a_descriptor_depend_on_it():
    hog, own = "cbir_lib/descriptors/hog.py", graph.name_descriptor_module("hog")
    assert hog in modules("run_descriptor", own)
    assert hog not in modules("run_descriptor", graph.name_descriptor_module("lbp"))
    assert hog not in modules("run_network")


def test_cells_have_their_tags_and_code(tmp_path):
    source = tmp_path / "toy.md"
    source.write_text(
        "# Toy\n\n```{code-cell}\n:tags: [parameters, remove-cell]\n\na = 1\n```\n\ntext\n\n"
        "```{code-cell}\nprint(a)\n```\n\n```{code-cell}\n:tags: [measure]\n\nb = a\n\nc = b\n```\n"
    )
    assert graph.read_cells(source) == [
        ({"parameters", "remove-cell"}, "a = 1\n"),
        (set(), "print(a)\n"),
        ({"measure"}, "b = a\n\nc = b\n"),
    ]
    assert graph.select_measuring_code(source) == "a = 1\n\nb = a\n\nc = b\n"


def test_a_file_that_holds_the_text_keeps_its_time(tmp_path):
    file = tmp_path / "code.py"
    graph.write_if_changed(file, "a")
    os.utime(file, (1, 1))
    graph.write_if_changed(file, "a")
    assert file.stat().st_mtime == 1
    graph.write_if_changed(file, "b")
    assert file.stat().st_mtime > 1 and file.read_text() == "b"


def test_checksums_of_files_change_with_what_a_file_holds_and_not_with_its_time(tmp_path):
    target = tmp_path / "checksums.txt"
    files = [tmp_path / "b", tmp_path / "a"]
    for file in files:
        file.write_text(f"{file.name}\n")

    def write(chosen):
        graph._compute_checksum.cache_clear()  # as in the next process
        return graph.write_checksums(target, chosen)

    write(files)
    listed = subprocess.run(["sha256sum", "--check", target], capture_output=True, text=True)
    assert listed.returncode == 0 and len(listed.stdout.splitlines()) == 2
    os.utime(target, (1, 1))
    os.utime(files[0], (5, 5))
    write([*files[::-1], str(files[0])])
    assert target.stat().st_mtime == 1
    files[0].write_text("c\n")
    write(files)
    assert target.stat().st_mtime > 1
    os.utime(target, (1, 1))
    write(files[:1])
    assert target.stat().st_mtime > 1


# The graph itself, in a copy of the project whose study is said to be finished


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A copy of the project in which every step of profile ``quick`` is up to date."""
    root = tmp_path_factory.mktemp("graph") / "project"
    names = ("cbir_lib", "notebooks", "book", "results", "models", "Snakefile", "study.yml")
    for name in (*names, "_config.yml", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, root / name) if (root.mkdir(exist_ok=True) or True) else None
    old = time.time() - 1000
    for file in root.rglob("*"):
        os.utime(file, (old, old))
    snakemake(root, "--touch")  # notes what is there; the outputs are made below
    study = read_study(root / "study.yml")
    work = root / "build" / "quick"
    for run in study.runs("quick"):
        folder = paths.run_folder(work, run.id)
        kinds = ("notebook.ipynb", "result.json", "index.safetensors", "queries.safetensors")
        for name in (*kinds, "model.safetensors", "descriptor.safetensors"):
            put(folder / name)
    for run in study.effects("quick"):
        put(work / "effects" / f"{run.name}.ipynb")
        put(work / "effects" / f"{run.name}.json")
    for notebook in (root / "notebooks").glob("*.md"):
        put(work / "chapters" / f"{notebook.stem}.ipynb")
    put(work / "search" / "search.json")
    put(work / "html" / ".buildinfo")
    snakemake(root, "--touch")
    assert steps(root) == {}
    return root


def put(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}")


def snakemake(root, *options):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", "profile=quick"]
    done = subprocess.run(
        [*command, *options],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 or "--touch" in options, done.stdout + done.stderr
    return done.stdout


def steps(root):
    """Return how many jobs of each rule would run, those of the book aside."""
    out = snakemake(root, "--dry-run", "--quiet", "rules")
    lines = [line.split() for line in out.splitlines()]
    counts = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}
    return {rule: n for rule, n in counts.items() if rule not in ("all", "total")}


def test_a_figure_a_command_and_an_archive_repeat_no_run(finished):
    files = ("book/figures/style.py", "cli/index.py", "archive/store.py")
    with contextlib.ExitStack() as stack:
        for file in files:
            stack.enter_context(edited(finished / "cbir_lib" / file))
        assert not set(steps(finished)) & set(MEASURED)


def test_a_sentence_on_a_page_is_shown_again_without_measuring(finished):
    with edited(finished / "notebooks" / "run_network.md", "\nOne more sentence.\n"):
        todo = steps(finished)
    assert not set(todo) & set(MEASURED)
    networks = [r for r in read_study(ROOT / "study.yml").runs("quick") if "network" in r.notebook]
    assert todo["page"] == len(networks)


def test_a_descriptor_repeats_its_runs_and_what_is_made_of_them(finished):
    with edited(finished / "cbir_lib" / "descriptors" / "hog.py"):
        todo = steps(finished)
    assert todo["descriptor_run"] == 1 and todo["combination_run"] == 1
    assert "network_run" not in todo and "page" not in todo


def test_how_networks_are_trained_repeats_the_networks_alone(finished):
    with edited(finished / "cbir_lib" / "networks" / "training.py"):
        todo = steps(finished)
    assert todo["network_run"] == 7 and "descriptor_run" not in todo


@contextlib.contextmanager
def edited(file, text="\n# One more comment.\n"):
    """Append to a file; afterwards put it back, and what Snakemake takes for its time."""
    root = next(folder for folder in file.parents if (folder / "Snakefile").is_file())
    kept = {file: file.read_text()}
    for folder in ("measuring", "showing"):
        kept |= {f: f.read_text() for f in (root / "build" / "quick" / folder).iterdir()}
    times = {f: f.stat().st_mtime for f in kept}
    file.write_text(kept[file] + text)
    try:
        yield
    finally:
        for changed, before in kept.items():
            changed.write_text(before)
            os.utime(changed, (times[changed], times[changed]))

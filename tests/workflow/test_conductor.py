"""A throwaway study on drawings: run, run again, broken, changed, interrupted, killed."""

import compileall
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from rich.console import Console

from cbir_lib import paths
from cbir_lib.book import site
from cbir_lib.errors import CbirError
from cbir_lib.reproduction import verification
from cbir_lib.study import results
from cbir_lib.study.config import NetworkRun, read_study
from cbir_lib.workflow import conductor
from cbir_lib.workflow.conductor import MARK, _find_reason
from tests.fixtures import heed_ctrl_c, write_mednist

ROOT = Path(__file__).resolve().parents[2]
RUNS = ["mednist-G-s0", "mednist-grey-histogram"]
STUDY = {
    "profiles": {
        "tiny": {
            "dataset": "mednist",
            "images": {"train": 48, "validation": 12, "test": 24},
            "size": 16,
            "training": {"epochs": 2, "batch_size": 16},
        }
    },
    "grid": {
        "networks": {"plain": {"network": ["G"]}},
        "descriptors": {"grey-histogram": {"bins": [256, 16]}},
    },
}
# Of the book's chapters those that show this study's runs; CI builds the whole book.
CHAPTERS = ["index", "comparison"]
JOBS = len(RUNS) + len(CHAPTERS) + 2  # and the book, and the page that searches
# Lets a test break one run from outside, or keep it from its end, without a change that would
# repeat the others.
BREAK = (
    "import os\nimport time\n\n"
    "assert os.environ.get('BREAK') != descriptor, 'broken on purpose'\n"
    "time.sleep(int(os.environ.get('PAUSE_S', 0)))\n\n"
)


def leave_out_chapters(root: Path) -> None:
    """Leave a copy of the project the few chapters, and no link to another."""
    snakefile = root / "Snakefile"
    text = re.sub(r"(?ms)^CHAPTERS = \[.*?^\]$", f"CHAPTERS = {CHAPTERS}", snakefile.read_text())
    snakefile.write_text(text)
    contents = root / "book" / "_toc.yml"
    toc = yaml.safe_load(contents.read_text())
    for part in toc["parts"]:
        files = [entry.get("file", "") for entry in part["chapters"]]
        kept = [Path(f).name in CHAPTERS or not f.startswith("chapters/") for f in files]
        part["chapters"] = [e for e, keep in zip(part["chapters"], kept, strict=True) if keep]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    contents.write_text(yaml.safe_dump(toc))
    others = {path.stem for path in (root / "notebooks").glob("*.md")} - {*CHAPTERS}
    other = rf"(?:\.\./)?(?:chapters/)?(?:{'|'.join(others)})(?:\.html)?"
    link = re.compile(rf"\[([^\[\]]+)\]\({other}\)|(?m:^:link: {other}\n:link-type: doc\n)")
    for folder in ("book", "notebooks"):
        for path in (root / folder).glob("*.md"):
            path.write_text(link.sub(lambda match: match[1] or "", path.read_text()))


class Project:
    """A copy of the project with a study of its own."""

    def __init__(self, root: Path, data: Path, cache: Path):
        self.root = root
        for name in ("cbir_lib", "notebooks", "book"):
            shutil.copytree(ROOT / name, root / name)
        # Every process of a study would compile the copied modules again.
        compileall.compile_dir(root / "cbir_lib", quiet=1)
        for name in ("Snakefile", "_config.yml"):
            shutil.copy2(ROOT / name, root)
        (root / "data").mkdir()
        # Chapters show the phantom and what a shipped network makes of it.
        (root / "data" / "phantom").symlink_to(ROOT / "data" / "phantom")
        (root / "models").symlink_to(ROOT / "models")
        (root / "results").mkdir()  # the first page says what real films change
        (root / "results" / "real").symlink_to(ROOT / "results" / "real")
        self.set_study(STUDY)
        leave_out_chapters(root)
        notebook = root / "notebooks" / "run_descriptor.md"
        before, cell, after = notebook.read_text().partition("from cbir_lib import Preprocessing")
        notebook.write_text(before + BREAK + cell + after)
        self.environment = os.environ | {"CBIR_DATA": str(data), "CBIR_CACHE": str(cache)}

    def set_study(self, study: dict) -> None:
        (self.root / "study.yml").write_text(yaml.safe_dump(study))

    def start(self, *options: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "cbir_lib.cli", "study", "--profile", "tiny", *options],
            cwd=self.root,
            env=self.environment | environment,
            preexec_fn=heed_ctrl_c,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def study(self, *options: str, code: int = 0, **environment: str) -> tuple[str, str]:
        process = self.start(*options, **environment)
        out, err = process.communicate(timeout=560)
        assert process.returncode == code, out + err
        return out, err

    def result(self, run: str) -> Path:
        return self.root / "build" / "tiny" / "runs" / run / "result.json"

    def times(self) -> dict[str, int]:
        return {run: self.result(run).stat().st_mtime_ns for run in RUNS}

    def processes(self) -> list[psutil.Process]:
        """The study's own processes that are alive, zombies aside."""
        alive = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get(MARK) == str(self.root / "build")
                if marked and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
            except psutil.Error:
                continue
        return alive

    def wait_for_log(self, text: str) -> None:
        log = self.root / "build" / "tiny" / "study.log"
        for _ in range(5600):
            if log.exists() and text in log.read_text():
                return
            time.sleep(0.1)
        raise AssertionError(f"{text!r} never came up in {log}")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_mednist(tmp_path_factory.mktemp("data") / "MedNIST", per_class=60, seed=4)


@pytest.fixture(scope="module")
def cache(phantom_set, phantom_cache):
    """The cache of all these studies, with the phantom that the page that searches decodes."""
    return phantom_cache


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data, cache):
    """A study run to its end, with its book."""
    project = Project(tmp_path_factory.mktemp("finished"), data, cache)
    project.output = project.study()[0]
    return project


def test_a_study_leaves_results_models_indexes_and_a_book(finished, monkeypatch):
    for run in RUNS:
        assert results.read(finished.result(run)).run == run
        folder = finished.result(run).parent
        assert (folder / "notebook.ipynb").exists() and (folder / "index.safetensors").exists()
        assert (folder / "model.safetensors").exists() == ("histogram" not in run)
    html = finished.root / "build" / "tiny" / "html"
    monkeypatch.setattr(paths, "project_root", lambda: finished.root)
    assert site.find_missing_pages(html, RUNS) == []
    assert site.find_faults(html) == []
    assert "Nearest neighbours" in (html / "runs" / "mednist-G-s0.html").read_text()
    pages = [path.read_text() for path in html.rglob("*.html") if "_static" not in path.parts]
    assert not [page for page in pages if re.search(r'<img alt="[^"]*_images/', page)]
    assert "figure-data" in (html / "chapters" / "comparison.html").read_text()


def test_progress_names_what_runs_and_what_is_left(finished):
    assert f"{JOBS} jobs to do" in finished.output
    for run in RUNS:
        assert f"{run}: starts" in finished.output
        assert f"{run}: done in" in finished.output
    assert f"{JOBS} of {JOBS} done" in finished.output
    assert "left" in finished.output


def test_the_next_start_reads_the_snakefile_of_now_and_has_nothing_to_do(finished):
    before = finished.times()
    snakefile, seen = finished.root / "Snakefile", finished.root / "seen"
    snakefile.write_text(f"{snakefile.read_text()}\nPath({str(seen)!r}).touch()\n")
    out, _ = finished.study()
    assert seen.exists() and "nothing to do" in out
    assert finished.times() == before


def test_a_changed_parameter_repeats_only_what_depends_on_it(finished, tmp_path):
    project = Project.__new__(Project)  # a second one that goes on from the finished one
    project.root = shutil.copytree(finished.root, tmp_path / "changed")
    project.environment = finished.environment
    before = project.times()
    study = yaml.safe_load(yaml.safe_dump(STUDY))
    study["profiles"]["tiny"]["training"]["epochs"] = 3
    project.set_study(study)
    out, _ = project.study("--no-book")
    after = project.times()
    assert "1 jobs to do" in out
    assert [run for run in RUNS if after[run] != before[run]] == ["mednist-G-s0"]


def test_the_book_comes_from_published_results_without_data_or_training(finished, monkeypatch):
    # Needs no data: MedNIST's pixels are not in the repository, and its pages say so.
    published = finished.root / "results" / "tiny"
    for run in RUNS:
        published.mkdir(parents=True, exist_ok=True)
        shutil.copy2(finished.result(run), published / f"{run}.json")
    work = finished.root / "build" / "tiny-published"
    # The page that searches does not depend on results: what was made of it stays.
    shutil.copytree(finished.root / "build" / "tiny" / "search", work / "search")
    finished.study("--published", CBIR_DATA=str(finished.root / "nowhere"))
    monkeypatch.setattr(paths, "project_root", lambda: finished.root)
    assert not list(work.rglob("*.safetensors"))
    assert site.find_missing_pages(work / "html", RUNS) == []
    for run in RUNS:
        page = (work / "html" / "runs" / f"{run}.html").read_text()
        page = page.replace("\N{NO-BREAK SPACE}", " ")
        accuracy = results.read(published / f"{run}.json").classification.accuracy
        assert f"{100 * accuracy:.1f} %" in page
        assert "pictures are not part of the repository" in page


def test_publishing_needs_every_result(finished):
    published = finished.root / "results" / "tiny"
    shutil.rmtree(published, ignore_errors=True)
    _, err = finished.study("--published", code=2)
    assert err.splitlines()[0].startswith(
        "error: results/tiny/ lacks, with the parameters of the study, mednist-G-s0,"
    )
    assert len(err.splitlines()) == 2


def test_interrupted_killed_broken_and_gone_on(tmp_path, data, cache, finished):
    project = Project(tmp_path, data, cache)

    first = project.start("--no-book", PAUSE_S="500")
    for run in RUNS:
        project.wait_for_log(f"[{run}] start")
    _, err = project.study("--no-book", code=2)  # a second one, while the first runs
    assert err.splitlines()[0].startswith("error: another study is running")
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=300)
    assert first.returncode == 2
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "hint"]
    assert project.processes() == []
    assert not list(tmp_path.rglob("*.part"))

    (tmp_path / "build" / "tiny" / "study.log").unlink()
    second = project.start("--no-book", PAUSE_S="500")
    for run in RUNS[1:]:
        project.wait_for_log(f"[{run}] start")
    second.kill()  # its children live on: the next start ends them
    second.communicate()

    # One that fails is named, and the others go on.
    _, err = project.study("--no-book", code=1, BREAK="grey-histogram")
    assert project.processes() == []
    assert "mednist-grey-histogram" in err and "AssertionError: broken on purpose" in err
    assert "assert os.environ.get('BREAK') != descriptor" in err
    assert "cell" in err and len(err.splitlines()) <= 6 and "Traceback" not in err
    assert project.result("mednist-G-s0").exists()
    assert not project.result("mednist-grey-histogram").exists()
    assert (tmp_path / "build" / "tiny" / "logs" / "mednist-grey-histogram.ipynb").exists()

    out, _ = project.study("--no-book")  # only that one is repeated
    assert "1 jobs to do" in out and "mednist-grey-histogram: done" in out
    for run in RUNS:
        undisturbed, killed = (results.read(p.result(run)) for p in (finished, project))
        assert results.list_differences(undisturbed, killed) == []


def test_a_verification_says_whether_it_is_what_was_published(finished):
    published = finished.root / "results" / "tiny"
    shutil.rmtree(published, ignore_errors=True)
    published.mkdir(parents=True)
    for run in RUNS:
        shutil.copy2(finished.result(run), published / f"{run}.json")

    def verify(*options: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "cbir_lib.cli", "verify", "--profile", "tiny", *options],
            cwd=finished.root,
            env=finished.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode < 2, done.stdout + done.stderr
        return done.returncode, done.stdout

    code, out = verify()
    assert code == 0 and "nothing to do" in out
    assert out.splitlines()[-2] == "tiny: SAME"

    result = results.read(published / f"{RUNS[1]}.json")
    rule = result.rules[0]
    one_image_off = rule.model_copy(update={"accuracy": rule.accuracy - 1 / 24})
    results.write(
        published / f"{RUNS[1]}.json",
        result.model_copy(update={"rules": [one_image_off, *result.rules[1:]]}),
    )
    before = finished.times()
    code, out = verify("--run", RUNS[1], "--fresh")  # in a folder of its own
    assert code == 1 and "1 jobs to do" in out
    assert finished.times() == before
    of_run, of_number = (line for line in out.splitlines() if line.endswith("different"))
    assert of_run.split()[0] == RUNS[1]
    assert of_number.split()[:3] == ["accuracy,", "nearest", "neighbour"]
    outcome = verification.read(finished.root / "build" / "tiny-fresh" / "verification.json")
    assert outcome.fresh and [run.run for run in outcome.runs] == [RUNS[1]]
    assert outcome.runs[0].values == {"rules.0.accuracy": [one_image_off.accuracy, rule.accuracy]}
    shutil.rmtree(published)


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        ("Building\nWorkflowError in file x, line 3:\nno rule\n", None),
        ("Building\nTraceback (most recent ...):\n  File x\nOSError: full\n", ["OSError: full"]),
        ("", []),
    ],
)
def test_why_snakemake_failed(printed, reason, tmp_path):
    log = tmp_path / "study.log"
    log.write_text(printed)
    heading, *lines = _find_reason(log)
    assert heading == f"Snakemake failed; the end of {log}:"
    assert lines == (printed.splitlines() if reason is None else reason)


def test_a_job_that_ends_without_a_word_is_named(tmp_path):
    study, log = read_study(ROOT / "study.yml"), tmp_path / "study.log"
    progress = conductor.Progress(study, "quick", log, Console(quiet=True))
    for line in (
        "[plan] one two three four",
        *("[one] start", "[two] start", "[three] start"),
        *("[one] done in 3 s", "[two] | two: cell 3 failed", "[two] failed"),
    ):
        progress.hear(line)
    lost = f"three: ended without a reason, as where memory runs out; log: {log}"
    assert progress.explain_failure() == ["two: cell 3 failed", lost]


def test_output_that_cannot_be_written_loses_no_message(tmp_path):
    """As where the disk behind it is full: the error is kept for the end."""
    study, log = read_study(ROOT / "study.yml"), tmp_path / "study.log"
    with suppress(OSError), Path("/dev/full").open("w", buffering=1) as full:  # on closing, too
        progress = conductor.Progress(study, "quick", log, Console(file=full))
        for line in (
            "[plan] one two",
            *("[one] start", "[one] done in 3 s", "[two] | two: cell 3 failed", "[two] failed"),
        ):
            progress.hear(line)
    assert progress.explain_failure() == ["two: cell 3 failed"]
    assert progress.list_undone() == ["two"]
    assert progress.trouble.errno == errno.ENOSPC


@pytest.mark.skipif(conductor.GPU_DRIVER.exists(), reason="there is a GPU")
def test_networks_share_a_gpu_where_there_is_one(monkeypatch, tmp_path):
    assert "--resources" not in conductor._Graph([], [], 1, 4).command
    with pytest.raises(CbirError, match="4 trainings cannot share a GPU: there is none"):
        conductor.conduct(ROOT / "study.yml", "quick", gpu_share=4)
    monkeypatch.setattr(conductor, "GPU_DRIVER", tmp_path)
    for share in (1, 4):
        command = conductor._Graph([], [], 1, share).command
        assert command[command.index("--resources") + 1] == f"gpu={share}"


def estimate(**parameters):
    """The seconds of one core that a training is taken for, without what every job takes."""
    common = {"dataset": "phantom", "sample_seed": 0, "size": 128, "network": "C", "epochs": 10}
    run = NetworkRun(**common | parameters)
    return conductor._estimate_cost(run, run.id) - conductor.START_S


def test_the_time_left_counts_all_epochs_and_all_layers():
    plain = estimate()
    assert estimate(budget=2) == pytest.approx(2 * plain)
    assert estimate(epochs=30) == pytest.approx(3 * plain)
    steps = 3 * conductor.ALL_IMAGES * 10 / conductor.MULTIPLY_ADDS_PER_S
    bits = 64 * 800 + (64 - 800) * 6  # a layer more, and less before the six classes
    assert estimate(bits=64) - plain == pytest.approx(steps * bits)
    two = estimate(classes=["chest", "spine"])
    assert plain - two == pytest.approx(steps * 800 * 4)

"""Conduct a study: let Snakemake run the graph, show progress, and clean up after a kill.

Only one study at a time runs in a project. The environment of each of its processes names the
folder of builds, so that the next start can find and end what a killed study left running.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import filelock
import psutil
from rich.console import Console
from rich.status import Status

from cbir_lib import paths
from cbir_lib.datasets import load
from cbir_lib.errors import INTERRUPTED, CbirError, RunsFailedError
from cbir_lib.files import find_lock
from cbir_lib.messages import CHANNEL, PLAN, WARM, receive_messages
from cbir_lib.networks.architectures import list_layers
from cbir_lib.paths import GPU_DRIVER
from cbir_lib.study.config import NetworkRun, Study, read_study

MARK = "CBIR_STUDY"  # in the environment of every process of a study
SAY = re.compile(r"^\[([\w.-]+)\] (.*)$")  # a message of a job to the conductor
EPOCH = re.compile(r"^epoch (\d+)/(\d+)")
GRACE_S = 5

# The cost of a job in seconds of one core, to estimate the time left: measured on two cores of a
# 2.5 GHz server. Once something has finished, only the proportions matter.
MULTIPLY_ADDS_PER_S = 12e9
ALL_IMAGES = 10_000  # roughly the training images of IRMA and the phantom
MOST_CLASSES = 6  # of the data sets
START_S = 15
DESCRIPTOR_S = 25
CHAPTER_S = 10
BOOK_S = 60


def conduct(
    study_file: Path,
    profile: str,
    *,
    published: bool = False,
    book: bool = True,
    runs: Sequence[str] = (),
    fresh: bool = False,
    cores: int | None = None,
    gpu_share: int | None = None,
) -> Path:
    """Run what is missing or changed in a profile, build the book, and return the output folder.

    Parameters
    ----------
    published
        Read ``results/<profile>/`` instead of training.
    book
        Build the chapters and the book after the runs.
    runs
        Do only these runs and effects and the runs they depend on, and build no book; effects then
        choose from the networks that are trained or published.
    fresh
        Use a separate folder instead of the study's.
    cores
        Number of simultaneous runs, each on one core; by default all cores.
    gpu_share
        Number of networks that are trained on a GPU at the same time; by default one. Small ones
        leave most of a large card idle, and each takes some GB of its memory.

    Raises
    ------
    CbirError
        When the study file is wrong, the data or the GPU to share are missing, another study is
        running, or the user interrupts.
    RunsFailedError
        When a run, a chapter or the book fails; the others are still executed.
    """
    if gpu_share and not GPU_DRIVER.exists():
        raise CbirError(
            f"{gpu_share} trainings cannot share a GPU: there is none",
            "leave out --gpu-share: runs share the cores",
        )
    console = Console(highlight=False, soft_wrap=True)
    study = read_study(study_file)
    named = f"{paths.build_folder()}{paths.project_root()}"
    if os.environ.get("CBIR_BUILD") and {*"{}"} & {*named}:
        raise CbirError(
            f"CBIR_BUILD={paths.build_folder()}: a path with {{ or }}, which Snakemake cannot read",
            "name another folder, and a checkout without these letters",
        )
    if paths.holds_sources(paths.build_folder()):
        raise CbirError(
            f"CBIR_BUILD={paths.build_folder()} is a place of the project's own files",
            "name another folder for what a study makes",
        )
    work = paths.build_folder(profile + (paths.PUBLISHED if published else paths.FRESH * fresh))
    config = [f"study={_encode(str(study_file))}", f"profile={_encode(profile)}"]
    config += [f"published={published}", f"fresh={fresh}"]
    if not published:
        config.append(f"data={_prepare_data(study, profile, console)}")
    else:
        _check_published(study, profile)
    if book and not runs and not study.profile(profile).descriptors:
        console.print(
            f"profile {profile} leaves out the handcrafted descriptors, so it has no book"
        )
        book = False
    planned_effects = {run.id for run in study.effects(profile)}
    for name in set(runs) - planned_effects:
        study.run(profile, name)  # refuses a name that is not there
    targets = [str(paths.shorten(find_target(work, name))) for name in runs]
    targets = targets or ["all" if book else "runs"]
    config.append(f"only={bool(runs)}")
    with hold_lock(paths.build_folder()), _start_warm_process() as warm:
        graph = _Graph(targets, config, cores or os.cpu_count() or 1, gpu_share or 1)
        log = work / "study.log"
        progress = Progress(study, profile, log, console)
        code = graph.run(log, progress, warm)
        if code:
            raise RunsFailedError("\n".join(progress.explain_failure()), progress.list_undone())
        if progress.trouble:
            raise progress.trouble
        if progress.total:
            console.print(f"all done in {_format_minutes(time.monotonic() - progress.started)}")
        else:
            console.print("nothing to do: everything is up to date")
    return work


def _check_published(study: Study, profile: str) -> None:
    """Refuse a profile of which a published result is missing or has other parameters."""
    from cbir_lib.workflow.publishing import unpublished_effects, unpublished_runs

    if missing := [*unpublished_runs(study, profile), *unpublished_effects(study, profile)]:
        raise CbirError(
            f"results/{profile}/ lacks, with the parameters of the study, {', '.join(missing)}",
            f"train them: cbir study --profile {profile}",
        )


def _encode(text: str) -> str:
    """Encode a text as in an address, with its first letter, for the Snakefile to decode.

    Snakemake reads values as YAML, for which a path may have a comment and a name be a number.
    """
    return f"%{ord(text[0]):02x}{quote(text[1:])}"  # "/" or a letter


def find_target(work: Path, name: str) -> Path:
    """Return the result file of a run or of effects (``effects-robustness``)."""
    if name.startswith("effects-"):
        return paths.effects_file(work, name.removeprefix("effects-"))
    return paths.result_file(work, name)


def _prepare_data(study: Study, profile: str, console: Console) -> str:
    """Decode the data set unless that has been done, and return its checksum."""
    name = study.profile(profile).dataset
    with console.status(f"reading {name} (decoded once, about half a minute)"):
        return load(name).checksum


@contextmanager
def hold_lock(build: Path) -> Iterator[None]:
    """Hold the project's lock, after ending the processes that an earlier, killed study left.

    Raises
    ------
    CbirError
        When another study is running.
    """
    try:
        build.mkdir(parents=True, exist_ok=True)
        lock, owner = find_lock(build / "study.lock"), build / "study.pid"
    except OSError as error:
        raise CbirError(
            f"cannot write {build}: {error.strerror}",
            "name another folder for what the study makes: CBIR_BUILD=FOLDER cbir study",
        ) from error
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        where, way = _describe_owner(owner)
        raise CbirError(
            f"another study is running in {build.parent}{where}",
            f"wait until it ends, or stop it with {way}",
        ) from None
    try:
        owner.write_text(f"{os.getpid()} {platform.node()}")
        end_processes(_find_study_processes(build))
        with raise_on_signals():
            yield
    finally:
        lock.release()


def _describe_owner(owner: Path) -> tuple[str, str]:
    """Describe the study that holds the lock, and how to stop it.

    Nothing is ended here: the number may be that of another machine's process, or of a container's,
    and a study whose terminal was closed may have been detached on purpose.
    """
    known = "", "Ctrl-C where it runs"
    try:
        pid, _, machine = owner.read_text().partition(" ")
        if machine != platform.node():
            return (f" on {machine}", known[1]) if machine else known
        command = psutil.Process(int(pid)).cmdline()
    except (OSError, ValueError, psutil.Error):
        return known
    if not any("cbir" in argument for argument in command):
        return known
    return f", process {pid}", f"{known[1]}, or: kill {pid}"


def _find_study_processes(build: Path) -> list[psutil.Process]:
    processes = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(build) and process.pid != os.getpid():
                processes.append(process)
        except psutil.Error:  # another user's, or it has ended
            continue
    return processes


def end_processes(processes: list[psutil.Process]) -> None:
    """Terminate processes, then kill those that are left."""
    for process in processes:
        try:
            process.terminate()
        except psutil.Error:
            continue
    for process in psutil.wait_procs(processes, timeout=GRACE_S)[1]:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(processes, timeout=GRACE_S)


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP act like Ctrl-C, unless they are ignored, as by nohup."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    old = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def make_environment() -> dict[str, str]:
    """Make the environment of a study's processes."""
    build = paths.build_folder()
    python_path = [path for path in (os.environ.get("PYTHONPATH"),) if path]
    environment = os.environ | {
        MARK: str(build),
        "PYTHONPATH": os.pathsep.join([str(paths.project_root()), *python_path]),
        "OMP_NUM_THREADS": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONUNBUFFERED": "1",
        # glibc keeps memory that training frees instead of requesting it again at every step.
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
    }
    if os.environ.get("CBIR_BUILD"):
        environment["CBIR_BUILD"] = str(build)  # wherever the jobs run
    return environment


@contextmanager
def _start_warm_process() -> Iterator[dict[str, str]]:
    """Keep the process that jobs are forked from; give the variable that names its socket.

    It imports while Snakemake plans, and ends at the latest with this process, when its standard
    input closes.
    """
    if not hasattr(os, "pidfd_open"):  # elsewhere than on Linux
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="cbir-") as folder:  # a socket's path must be short
        address = str(Path(folder) / "warm")
        with subprocess.Popen(
            [sys.executable, "-m", "cbir_lib.cli.warm", address],
            env=make_environment(),
            cwd=paths.project_root(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                yield {WARM: address}
            finally:
                process.kill()  # it may still import


class _Graph:
    """Snakemake on the project's Snakefile."""

    def __init__(self, targets: list[str], config: list[str], cores: int, gpu_share: int = 1):
        self.root, self.targets = paths.project_root(), ["--", *targets]
        # Its default, below the user's home, may belong to somebody else.
        self.sources = paths.working_folder() / ".snakemake" / "sources"
        # The lock is `hold_lock`; that of Snakemake would outlive a kill.
        self.command = [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(self.root / "Snakefile")),
            *("--directory", str(paths.working_folder()), "--cores", str(cores)),
            *("--nolock", "--rerun-incomplete", "--keep-going", "--nocolor"),
            *("--runtime-source-cache-path", str(self.sources)),
            *(("--resources", f"gpu={gpu_share}") if GPU_DRIVER.exists() else ()),
            *("--config", *config),
        ]
        self.environment = make_environment()

    def run(self, log: Path, progress: Progress, warm: dict[str, str]) -> int:
        """Run the jobs, pass their messages to ``progress``, and return Snakemake's exit code.

        ``warm`` names the process to fork them from.
        """
        shutil.rmtree(self.sources, ignore_errors=True)  # it would read an old Snakefile from there
        log.parent.mkdir(parents=True, exist_ok=True)
        messages = log.with_name("messages.txt")
        process = subprocess.Popen(
            [*self.command, *self.targets],
            env=self.environment | {CHANNEL: str(messages)} | warm,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # so that Ctrl-C only reaches this process, which ends the rest
            start_new_session=True,
        )
        try:
            with (
                log.open("w", encoding="utf-8") as file,
                progress,
                receive_messages(messages, progress.hear),
            ):
                for line in process.stdout:
                    file.write(line)
                    file.flush()
                return process.wait()
        except KeyboardInterrupt:
            raise INTERRUPTED from None
        finally:
            end_processes(_find_study_processes(Path(self.environment[MARK])))


class Progress:
    """The progress of a study: what is running, what is left, and about how long it takes."""

    def __init__(self, study: Study, profile: str, log: Path, console: Console):
        self.runs = {run.id: run for run in study.runs(profile)}
        self.log = log
        self.cost: dict[str, float] = {}  # of the jobs to do, empty until Snakemake has planned
        self.share: dict[str, float] = {}  # done part of each job, 0 to 1
        self.running: dict[str, str] = {}
        self.failures: list[str] = []
        self.console = console
        self.started = time.monotonic()
        self.status = Status("planning", console=console)
        self.trouble: OSError | None = None  # in writing what is printed

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.status.start()
        return self

    def __exit__(self, *reason) -> None:
        self.status.stop()

    @property
    def total(self) -> int:
        """The number of jobs to do."""
        return len(self.cost)

    def hear(self, line: str) -> None:
        """Process one message of a job, or the plan, which comes first."""
        match = SAY.match(line)
        if match and match[1] == PLAN:
            self._begin(match[2].split())
        if not match or match[1] not in self.cost:
            return
        job, message = match.groups()
        if message == "start":
            self.running[job] = "starts"
            self._print(f"  {job}: starts")
        elif message.startswith("done"):
            self.running.pop(job, None)
            self.share[job] = 1.0
            self._print(f"  {job}: {message}; {self.describe_remaining()}")
        elif message.startswith("failed"):
            self.running.pop(job, None)
            self._print(f"  {job}: failed")
        elif message.startswith("| "):
            self.failures.append(message[2:])
        elif epoch := EPOCH.match(message):
            self.running[job] = epoch[0]
            self.share[job] = 0.95 * int(epoch[1]) / int(epoch[2])
        names = ", ".join(f"{job} ({state})" for job, state in self.running.items())
        with self._going_on():
            self.status.update(f"{names}; {self.describe_remaining()}")

    def _begin(self, planned: list[str]) -> None:
        self.cost = {job: _estimate_cost(self.runs.get(job), job) for job in planned}
        self.share = dict.fromkeys(self.cost, 0.0)
        self.started = time.monotonic()
        self._print(f"{self.total} jobs to do; log: {self.log}")

    def list_undone(self) -> list[str]:
        """List the jobs that were planned and are not done."""
        return [job for job, share in self.share.items() if share < 1]

    def explain_failure(self) -> list[str]:
        """Explain in a few lines why jobs failed, those too that ended without saying so."""
        lost = [
            f"{job}: ended without a reason, as where memory runs out; log: {self.log}"
            for job in self.running
        ]
        return [*self.failures, *lost] or _find_reason(self.log)

    def describe_remaining(self) -> str:
        """Describe how many jobs are done, and about how long the rest takes."""
        finished = sum(share == 1.0 for share in self.share.values())
        whole = sum(self.cost.values())
        part = sum(self.cost[job] * share for job, share in self.share.items()) / whole
        if part < 0.03:
            return f"{finished} of {self.total} done"
        seconds = (time.monotonic() - self.started) * (1 - part) / part
        return f"{finished} of {self.total} done, about {_format_minutes(seconds)} left"

    def _print(self, text: str) -> None:
        with self._going_on():
            self.console.print(text, markup=False)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Keep the first error of writing for the end: the jobs and their messages go on."""
        try:
            yield
        except OSError as error:
            self.trouble = self.trouble or error


def _estimate_cost(run, job: str) -> float:
    if isinstance(run, NetworkRun):
        size = run.options["crop"] or run.size
        classes = len(run.classes) or MOST_CLASSES
        shape = {"classes": classes, "size": size, "reading": run.reading, "bits": run.bits}
        multiply_adds = sum(layer.multiply_adds for layer in list_layers(run.network, **shape))
        images = (run.images["train"] if run.images else ALL_IMAGES) * run.all_epochs
        return START_S + 3 * images * multiply_adds / MULTIPLY_ADDS_PER_S
    if run:
        return DESCRIPTOR_S
    return BOOK_S if job == "book" else CHAPTER_S


def _format_minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _find_reason(log: Path, lines: int = 12) -> list[str]:
    """Find why Snakemake failed in what it printed; of a traceback, only the last line."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    traceback = any(line.startswith("Traceback") for line in text)
    return [f"Snakemake failed; the end of {log}:", *text[-1 if traceback else -lines :]]

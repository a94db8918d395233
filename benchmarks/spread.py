"""How far reruns differ under other circumstances: threads, and instructions of the processor.

Repeats runs of a profile with the libraries told to leave out instructions that this processor has,
as a stand-in for other processors, and keeps the differences to the run as the study makes it in
``results/verification/spread.json``. A run that this machine's study has made is taken from there.
Finished reruns are kept: started again, it goes on. Differences that were measured elsewhere stay,
if profile and versions are the same, whichever two processors they lie between: a re-execution may
be on either. The cheapest runs come first.

The networks of profile quick take half an hour on two cores under each of the circumstances:
``python benchmarks/spread.py --kind networks``.

A study made on another processor is compared with the published results, on that processor and
without any rerun: ``make study`` there, then ``python benchmarks/spread.py --elsewhere``.
"""

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cbir_lib import paths
from cbir_lib.errors import CbirError
from cbir_lib.reproduction import gaps, tolerances
from cbir_lib.study import results
from cbir_lib.study.config import CombinationRun, NetworkRun, read_study
from cbir_lib.study.results import Result

THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"),
)
# What each library reads when it starts; unknown to those that are not on this processor.
SETTINGS = {
    tolerances.USUAL: {"OMP_NUM_THREADS": "1"},
    "AVX2 only": {  # so that bfloat16 is not native, and networks are trained in float32
        "OMP_NUM_THREADS": "1",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",
        "OPENCV_CPU_DISABLE": "AVX512-SKX",
        "OPENCV_IPP": "avx2",
    },
    "two threads": dict.fromkeys(THREADS, "2"),
    "without AVX": {
        "OMP_NUM_THREADS": "1",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "NUMBA_CPU_NAME": "nehalem",
        "NUMBA_CPU_FEATURES": "",
        "OPENCV_CPU_DISABLE": "AVX,FP16,AVX2,AVX512-SKX",
        "OPENCV_IPP": "sse42",
    },
}
CHEAP = ("AVX2 only", "two threads")  # without AVX a network takes several times as long


def folder(circumstances: str) -> Path:
    """Return where the reruns under these circumstances are, in the project."""
    return Path("build", "spread", circumstances.replace(" ", "-"))


def done(circumstances: str, run: str) -> bool:
    """Say whether a run has been executed under these circumstances."""
    return (paths.project_root() / folder(circumstances) / "runs" / run / "result.json").exists()


def take_from_study(profile: str, run: str) -> None:
    """Copy a run that the study has made on this processor, so that it is not made twice."""
    made = paths.build_folder(profile) / "runs" / run
    if done(tolerances.USUAL, run) or not (made / "result.json").exists():
        return
    here = results.record_circumstances({}).processor
    if results.read(made / "result.json").circumstances.processor == here:
        shutil.copytree(made, paths.project_root() / folder(tolerances.USUAL) / "runs" / run)


def rerun(profile: str, run: str, circumstances: str) -> None:
    """Execute a run's notebook, unless that has been done."""
    if done(circumstances, run):
        return
    command = [*(sys.executable, "-m", "cbir_lib.cli", "job", "run", run), "--profile", profile]
    ended = subprocess.run(
        [*command, "--work", str(folder(circumstances))],
        cwd=paths.project_root(),
        env=os.environ | SETTINGS[circumstances],
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        sys.exit(ended.stdout + ended.stderr)
    print(f"{circumstances}: {run}", flush=True)


def spread(profile: str, runs: list[str]) -> tolerances.Spread:
    """Return the differences of all that has been executed under each of the circumstances."""
    executed = {name: [run for run in runs if done(name, run)] for name in SETTINGS}
    read = {name: results.read_all(folder(name), some) for name, some in executed.items() if some}
    usual = {result.run: result for result in read[tolerances.USUAL]}
    reruns, kinds = [], set()
    for name, group in read.items():
        for result in group:
            if name != tolerances.USUAL and result.run in usual:
                reruns.append(measure(usual[result.run], result, name, kinds))
    occasion = read[tolerances.USUAL][-1].circumstances
    return tolerances.Spread(
        profile=profile,
        measured=max(r.circumstances.finished for group in read.values() for r in group),
        processor=occasion.processor,
        versions=occasion.versions,
        circumstances={name: SETTINGS[name] for name in read},
        kinds=sorted(kinds),
        reruns=reruns,
    )


def measure(usual: Result, result: Result, name: str, kinds: set[str]) -> tolerances.Rerun:
    """Return how a rerun differs from the usual run, and add the kinds of its numbers."""
    sizes = gaps.find_largest(gaps.compare_results(usual, result))
    kinds |= set(sizes)
    return tolerances.Rerun(
        run=result.run,
        trained="network" in result.parameters,
        circumstances=name,
        values_that_differ=len(results.list_differences(usual, result)),
        differences={kind: size for kind, size in sizes.items() if size},
    )


def spread_elsewhere(profile: str, earlier: tolerances.Spread) -> tolerances.Spread:
    """Return the differences of this machine's study from the published results."""
    kinds: set[str] = set()
    reruns, finished = [], []
    published = paths.results_folder(profile)
    for result in results.read_all(paths.build_folder(profile)):
        if result.circumstances.versions != earlier.versions:
            sys.exit(f"{result.run} was made with other versions than the reruns that are kept")
        if (file := published / f"{result.run}.json").exists():
            name = result.circumstances.processor
            reruns.append(measure(results.read(file), result, name, kinds))
            finished.append(result.circumstances.finished)
    if not reruns:
        sys.exit(f"nothing to compare: make study PROFILE={profile}")
    return earlier.model_copy(
        update={
            "measured": max(finished),
            "circumstances": {rerun.circumstances: {} for rerun in reruns},
            "kinds": sorted(kinds),
            "reruns": reruns,
        }
    )


def merge(earlier: tolerances.Spread | None, spread: tolerances.Spread) -> tolerances.Spread:
    """Return a spread with the earlier reruns that were not repeated, if they may be compared."""
    basis = ("profile", "versions")
    if not earlier or any(getattr(earlier, key) != getattr(spread, key) for key in basis):
        return spread
    repeated = {(rerun.run, rerun.circumstances) for rerun in spread.reruns}
    kept = [r for r in earlier.reruns if (r.run, r.circumstances) not in repeated]
    return spread.model_copy(
        update={
            "circumstances": earlier.circumstances | spread.circumstances,
            "kinds": sorted({*earlier.kinds, *spread.kinds}),
            "reruns": sorted([*kept, *spread.reruns], key=lambda r: (r.circumstances, r.run)),
        }
    )


def main() -> None:
    """Execute what is asked for, then write the differences of all that has been executed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--kind", choices=("networks", "untrained", "both"), default="both")
    parser.add_argument("--circumstances", nargs="+", default=CHEAP, choices=[*SETTINGS][1:])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    parser.add_argument("--collect", action="store_true", help="execute nothing more")
    parser.add_argument(
        "--elsewhere", action="store_true", help="compare this machine's study with results/"
    )
    options = parser.parse_args()
    if options.elsewhere:
        if (earlier := tolerances.read_spread()) is None:
            sys.exit("no reruns are kept to add to: leave out --elsewhere")
        keep(spread_elsewhere(options.profile, earlier))
        return
    runs = read_study(paths.study_file()).runs(options.profile)

    def cost(run) -> tuple[bool, float]:
        # A combination takes its members' vectors, so it comes last.
        made = paths.project_root() / folder(tolerances.USUAL) / "runs" / run.id / "result.json"
        seconds = results.read(made).circumstances.seconds.values() if made.exists() else [0]
        return isinstance(run, CombinationRun), sum(seconds)

    for run in runs:
        take_from_study(options.profile, run.id)
    chosen = [
        run
        for run in sorted(runs, key=cost)
        if options.kind in ("both", "networks" if isinstance(run, NetworkRun) else "untrained")
    ]
    for name in () if options.collect else (tolerances.USUAL, *options.circumstances):
        for last in (False, True):
            some = [run.id for run in chosen if isinstance(run, CombinationRun) == last]
            with ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(lambda run, name=name: rerun(options.profile, run, name), some))
    keep(spread(options.profile, [run.id for run in runs]))


def keep(measured: tolerances.Spread) -> None:
    """Write a spread, together with what was measured before and may be compared."""
    measured = merge(tolerances.read_spread(), measured)
    path = paths.results_folder(tolerances.FOLDER) / "spread.json"
    tolerances.write_spread(path, measured)
    print(f"{len(measured.reruns)} reruns: {path}")


if __name__ == "__main__":
    try:
        main()
    except CbirError as error:
        sys.exit(str(error))

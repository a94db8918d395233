"""How far reruns differ under other circumstances: threads, instruction sets, kernels of libraries.

Repeats runs of a profile with the libraries told to leave out instructions that this processor has,
as a stand-in for other processors, and keeps the differences to a run as the study makes it in
``results/verification/spread.json``. Finished reruns are kept: started again, it goes on. About two
hours on one core.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cbir_lib import results, verification
from cbir_lib.files import project_root
from cbir_lib.study import CombinationRun, NetworkRun, read_study

THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"),
)
# What each library reads when it starts; unknown to those that are not on this processor.
SETTINGS = {
    verification.USUAL: {"OMP_NUM_THREADS": "1"},
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
    "without AVX-512": {
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
    "plainest kernels": {
        "OMP_NUM_THREADS": "1",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Prescott",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "OPENCV_CPU_DISABLE": "SSE4.1,SSE4.2,AVX,FP16,AVX2,AVX512-SKX",
        "OPENCV_IPP": "disabled",
    },
}
NETWORKS = "GFB"  # the cheapest three


def folder(circumstances: str) -> Path:
    return Path("build", "spread", circumstances.replace(" ", "-"))


def rerun(profile: str, run: str, circumstances: str) -> None:
    """Execute a run's notebook, unless that has been done."""
    work = folder(circumstances)
    if (project_root() / work / "runs" / run / "result.json").exists():
        return
    command = [*(sys.executable, "-m", "cbir_lib.cli", "job", "run", run)]
    done = subprocess.run(
        [*command, "--work", str(work), "--profile", profile],
        cwd=project_root(),
        env=os.environ | SETTINGS[circumstances],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    print(f"{circumstances}: {run}", flush=True)


def spread(profile: str, runs: list[str]) -> verification.Spread:
    """The differences of all that has been executed under each of the circumstances."""
    executed = {
        name: [run for run in runs if (folder(name) / "runs" / run / "result.json").exists()]
        for name in SETTINGS
    }
    read = {name: results.read_all(folder(name), some) for name, some in executed.items() if some}
    usual = {result.run: result for result in read[verification.USUAL]}
    reruns, kinds = [], set()
    for name, found in read.items():
        for result in found:
            if name == verification.USUAL or result.run not in usual:
                continue
            sizes = verification.largest(verification.gaps(usual[result.run], result))
            trained = "network" in result.parameters
            kinds |= set() if trained else set(sizes)
            reruns.append(
                verification.Rerun(
                    run=result.run,
                    trained=trained,
                    circumstances=name,
                    values_that_differ=len(results.differences(usual[result.run], result)),
                    differences={of: size for of, size in sizes.items() if size},
                )
            )
    occasion = read[verification.USUAL][-1].circumstances
    return verification.Spread(
        profile=profile,
        measured=occasion.finished,
        processor=occasion.processor,
        versions=occasion.versions,
        circumstances={name: SETTINGS[name] for name in read},
        kinds=sorted(kinds),
        reruns=reruns,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--networks", default=NETWORKS, help=f"letters; {NETWORKS}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    parser.add_argument("--collect", action="store_true", help="execute nothing more")
    options = parser.parse_args()
    runs = read_study(project_root() / "study.yml").runs(options.profile)
    chosen = [r for r in runs if not isinstance(r, NetworkRun) or r.network in options.networks]
    # A combination takes its members' vectors; networks take longest.
    chosen.sort(key=lambda run: isinstance(run, NetworkRun))
    for name in () if options.collect else SETTINGS:
        for last in (False, True):
            some = [run.id for run in chosen if isinstance(run, CombinationRun) == last]
            with ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(lambda run, name=name: rerun(options.profile, run, name), some))
    found = spread(options.profile, [run.id for run in chosen])
    path = project_root() / "results" / verification.FOLDER / "spread.json"
    verification.write_spread(path, found)
    print(f"{len(found.reruns)} reruns: {path}")


if __name__ == "__main__":
    main()

"""The study's graph on a cluster: what Slurm would be asked for, without a cluster."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs the extra cluster")
ROOT = Path(__file__).resolve().parents[2]

# In place of Slurm's command: it writes down what it is asked for and fails, so that no job waits.
SBATCH = """#!/bin/sh
echo "$@" >> "$ASKED"
exit 1
"""


def test_a_network_asks_slurm_for_a_gpu_memory_and_time(tmp_path):
    bin, asked = tmp_path / "bin", tmp_path / "asked"
    bin.mkdir()
    for name in ("sbatch", "sacct", "squeue", "scancel", "sinfo", "sacctmgr", "scontrol"):
        command = bin / name
        command.write_text(SBATCH if name == "sbatch" else "#!/bin/sh\nexit 0\n")
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
    work = tmp_path / "project"
    work.mkdir()
    for name in ("cbir_lib", "notebooks", "book", "models", "profiles"):
        shutil.copytree(ROOT / name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "study.yml", "_config.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, work)
    (work / "data" / "phantom").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "phantom" / "SHA256SUMS", work / "data" / "phantom")
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--profile", "profiles/slurm"),
            *("--slurm-init-seconds-before-status-checks", "1"),
            *("--config", "profile=full", "data=any", "--"),
            "build/full/runs/phantom-G-s0/result.json",
        ],
        cwd=work,
        env=os.environ | {"PATH": f"{bin}:{os.environ['PATH']}", "ASKED": str(asked)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode, ended.stdout
    assert asked.exists(), ended.stdout + ended.stderr
    told = asked.read_text()
    assert "--mem 8000" in told and "-t 60" in told and "phantom-G-s0" in told
    assert "--gpus=1" in told or "--gpus 1" in told

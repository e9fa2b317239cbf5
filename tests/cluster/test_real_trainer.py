"""`fra-dist pretrain` itself with two gloo ranks under each launcher: undisturbed, and stopped on the way."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fra_dist.launch.ledger import read_state
from tests.cluster.real_runs import ROOT, STEPS, last_step, settings, weights
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.waiting import events, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(720)]


def test_torchrun_killed_worker(small_shards: Path, undisturbed: dict[str, str], run: Path) -> None:
    command = [str(ROOT / "launchers" / "torchrun.sh"), "--ranks-per-node", "2", *settings(small_shards, run)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHON": sys.executable}, cwd=ROOT)
    try:
        until(lambda: last_step(run) > 12, 90, "steps")
        holder = json.loads((run / "attempt.json").read_text())["process"]
        os.kill(holder, signal.SIGKILL)
        assert process.wait(360) == 0
    finally:
        process.terminate()
    assert len(events(run, "resume")) == 1
    assert weights(run) == undisturbed


def test_slurm_requeued_and_killed(
    slurm: SlurmCluster, small_shards: Path, undisturbed: dict[str, str], run: Path
) -> None:
    command = [sys.executable, str(ROOT / "launchers" / "slurm.py"), "--nodes", "2", "--time", "30"]
    command += ["--signal-lead", "60", *settings(small_shards, run)]
    said = subprocess.run(command, env=slurm.environment, capture_output=True, text=True, timeout=180, cwd=ROOT)
    assert said.returncode == 0, said.stderr
    job = re.findall(r"^job (\d+)$", said.stdout, re.M)[0]
    until(lambda: last_step(run) > 3, 90, "steps")
    slurm.command("scancel", "--signal=USR2", job)
    until(lambda: events(run, "stopped"), 60, "stop with a checkpoint")
    until(lambda: last_step(run) > 23, 90, "steps of the second attempt")
    os.kill(next(p for p, c in slurm.processes("n2").items() if "pretrain" in c and "task" not in c), signal.SIGKILL)
    until(lambda: read_state(run).get("state") == "complete", 120, lambda: f"end: {read_state(run)}")
    assert slurm.restarts(job) == 1
    assert "rank 1 on n2 was killed by SIGKILL" in events(run, "launch restart")[-1]["cause"]
    assert weights(run) == undisturbed


@pytest.mark.faults
def test_plain_sbatch(slurm: SlurmCluster, small_shards: Path, undisturbed: dict[str, str], run: Path) -> None:
    config, *overrides = settings(small_shards, run)[1:]
    env = {**slurm.environment, "PYTHON": sys.executable}
    words = ["sbatch", "-N2", "--time=30", f"-o{run.parent}/log", "launchers/slurm.sbatch", config, *overrides]
    said = subprocess.run(words, env=env, capture_output=True, text=True, timeout=180, cwd=ROOT)
    assert said.returncode == 0, said.stderr
    until(lambda: read_state(run).get("state") == "complete", 120, lambda: (run.parent / "log").read_text())
    assert weights(run) == undisturbed


@pytest.mark.faults
def test_following_a_job_to_its_end(slurm: SlurmCluster, small_shards: Path, run: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "launchers" / "slurm.py"),
        "--time",
        "30",
        "--follow",
        *settings(small_shards, run),
    ]
    said = subprocess.run(command, env=slurm.environment, capture_output=True, text=True, timeout=450, cwd=ROOT)
    assert said.returncode == 0, said.stderr
    assert f"step {STEPS}/{STEPS}" in said.stdout
    assert said.stdout.splitlines()[-1] == "fra-dist: complete"

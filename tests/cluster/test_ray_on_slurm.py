"""Ray inside a SLURM allocation, with the script that is documented for it, and Ray on this machine alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fra_dist.launch.ledger import read_state
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.waiting import events, processes_with, rows, until

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(840)]
ROOT = Path(__file__).parents[2]


def settings(shards: Path, run: Path, steps: int) -> list[str]:
    return [
        *("--config", str(ROOT / "configs" / "debug_cpu.yaml"), f"output={run}", f"data.shards={shards}"),
        *(f"train.steps={steps}", "train.global_batch=8", "log.heatmaps_every=0", "log.tensorboard=false"),
        *("data.pipeline=torch", "data.threads=1", "checkpoint.every_steps=10"),
    ]


def last_step(run: Path) -> int:
    return max((row["step"] for row in rows(run / "metrics.jsonl")), default=0)


def test_saves_requeues_and_goes_on(slurm: SlurmCluster, small_shards: Path, run: Path) -> None:
    env = {**slurm.environment, "PYTHON": sys.executable, "RAY_STORE_BYTES": "80000000"}
    words = ["sbatch", "--parsable", "-N2", "--cpus-per-task=1", "--time=30", f"-o{run.parent}/log"]
    words += ["launchers/ray_on_slurm.sbatch", "--workers", "2", *settings(small_shards, run, 60)]
    said = subprocess.run(words, env=env, capture_output=True, text=True, timeout=180, cwd=ROOT)
    assert said.returncode == 0, said.stderr
    job = said.stdout.strip()

    def log() -> str:
        return (run.parent / "log").read_text()

    until(lambda: last_step(run) > 5, 120, log)
    slurm.command("scancel", "--signal=USR2", "--batch", job)
    (stopped,) = until(lambda: events(run, "stopped"), 60, log)
    (resumed,) = until(lambda: events(run, "resume"), 120, log)
    assert resumed["step"] == stopped["step"]
    until(lambda: events(run, "complete"), 90, log)
    until(lambda: slurm.job(job) == "COMPLETED", 30, log)
    assert slurm.restarts(job) == 1
    assert read_state(run)["world"] == 2
    assert not list(Path("/tmp").glob("ray-" + "[0-9a-f]" * 16))


def test_ray_of_its_own_on_this_machine(small_shards: Path, run: Path) -> None:
    keep = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    env = {**keep, "RAY_TMPDIR": str(run.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fra_dist.cli.main", "launch", "ray", "--address", "local", "--workers", "1:2"]
    said = subprocess.run(
        [*command, *settings(small_shards, run, 12)], env=env, capture_output=True, text=True, timeout=450
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert read_state(run)["state"] == "complete"
    until(lambda: not processes_with(str(run.parent)), 20, "end of Ray's processes")

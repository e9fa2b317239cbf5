"""The real trainer on nodes that are taken away: it ends with the weights of a run that nothing happened to."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fra_dist.launch.ledger import read_state
from tests.cluster.ray_nodes import RayNodes
from tests.cluster.real_runs import ROOT, last_step, settings, weights
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.waiting import events, until

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(840)]


def submit(slurm: SlurmCluster, *words: str) -> str:
    command = [sys.executable, str(ROOT / "launchers" / "slurm.py"), "--nodes", "2", "--time", "30"]
    said = subprocess.run([*command, *words], env=slurm.environment, capture_output=True, text=True, timeout=180)
    assert said.returncode == 0, said.stderr
    return re.findall(r"^job (\d+)$", said.stdout, re.M)[0]


def complete(run: Path) -> None:
    until(lambda: read_state(run).get("state") == "complete", 150, lambda: f"end: {read_state(run)}")


def test_slurm_preempted(slurm: SlurmCluster, small_shards: Path, undisturbed: dict[str, str], run: Path) -> None:
    job = submit(slurm, "--partition", "main", *settings(small_shards, run))
    until(lambda: last_step(run) > 3, 90, "steps")
    slurm.command("sbatch", "-p", "urgent", "-N3", "--exclusive", "-o/dev/null", "--wrap=sleep 2")
    until(lambda: slurm.restarts(job) == 1, 30, "requeue")
    complete(run)
    assert weights(run) == undisturbed


def test_slurm_node_lost(slurm: SlurmCluster, small_shards: Path, undisturbed: dict[str, str], run: Path) -> None:
    job = submit(slurm, *settings(small_shards, run))
    until(lambda: last_step(run) > 12, 90, "steps")
    node = slurm.command("squeue", "-h", "-j", job, "-o", "%N")
    slurm.kill_node("n2" if node.startswith("n[1") else "n3")
    complete(run)
    assert slurm.restarts(job) == 1
    assert any("node lost" in row["cause"] for row in events(run, "launch restart"))
    assert weights(run) == undisturbed


def start_on(ray: RayNodes, run: Path, shards: Path) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", "fra_dist.cli.main", "launch", "ray", "--address", ray.address, "--workers", "2"]
    return subprocess.Popen([*words, *settings(shards, run)], env=ray.environment)


def test_ray_node_dies_and_another_joins(
    ray: RayNodes, small_shards: Path, undisturbed: dict[str, str], run: Path
) -> None:
    second = ray.add_node()
    process = start_on(ray, run, small_shards)
    until(lambda: last_step(run) > 12, 90, "steps")
    ray.kill_node(second)
    ray.add_node()
    assert process.wait(450) == 0
    assert events(run, "resume")
    assert weights(run) == undisturbed


def test_ray_driver_killed(ray: RayNodes, small_shards: Path, undisturbed: dict[str, str], run: Path) -> None:
    ray.add_node()
    process = start_on(ray, run, small_shards)
    until(lambda: last_step(run) > 12, 90, "steps")
    process.kill()
    process.wait(30)
    assert start_on(ray, run, small_shards).wait(450) == 0
    assert events(run, "resume")
    assert weights(run) == undisturbed

"""`fra-dist launch ... --doctor` on a real SLURM cluster and on a real Ray."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.real_runs import settings
from tests.cluster.slurm_cluster import SlurmCluster


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_every_node_of_slurm_is_examined_and_ranks_sum(slurm: SlurmCluster, run: Path, small_shards: Path) -> None:
    command = [sys.executable, "-m", "fra_dist.cli.main", "launch", "slurm", "--doctor", "--quick", "--json"]
    command += [*settings(small_shards, run), "--nodes", "2", "--ranks-per-node", "1"]
    env = {**slurm.environment, "GLOO_SOCKET_IFNAME": "lo"}  # the nodes of this cluster are 127.0.1.1, 127.0.1.2, ...
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert said.stdout, said.stderr
    checks = {one["name"]: one for one in json.loads(said.stdout)["checks"]}
    assert [one for one in checks.values() if one["verdict"] == "fail"] == []
    assert said.returncode == 0, said.stderr
    assert "2 of 2 nodes" in checks["Python"]["text"]
    assert "is UP" in checks["SLURM"]["text"]
    assert checks["all ranks"]["text"].startswith("2 ranks over gloo")
    assert not run.exists()  # nothing was begun


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_every_node_of_ray_is_examined(run: Path, small_shards: Path) -> None:
    command = [sys.executable, "-m", "fra_dist.cli.main", "launch", "ray", "--address", "local"]
    command += ["--doctor", "--quick", "--json", *settings(small_shards, run)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert said.stdout, said.stderr
    checks = {one["name"]: one for one in json.loads(said.stdout)["checks"]}
    assert "flock" in checks["run folder"]["text"], said.stderr
    assert said.returncode == 0, said.stdout

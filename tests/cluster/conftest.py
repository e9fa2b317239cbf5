"""Real clusters for the tests of this folder."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import ray_nodes, real_runs, slurm_cluster
from tests.cluster.waiting import processes_with, until


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[slurm_cluster.SlurmCluster]:
    reason = slurm_cluster.why_not()
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    partitions = (
        "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE\n"
        "PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF"
    )
    options = "PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE"
    try:
        with slurm_cluster.SlurmCluster(folder, nodes=3, gpus=2, options=options, partitions=partitions) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slurm(slurm_session: slurm_cluster.SlurmCluster, run: Path) -> Iterator[slurm_cluster.SlurmCluster]:
    """Idle before, idle after (and that before `run` looks for processes that were left)."""
    slurm_session.settle()
    yield slurm_session
    slurm_session.settle()


@pytest.fixture
def run() -> Iterator[Path]:
    """A run folder; afterwards no process may be left that works on it."""
    folder = Path(tempfile.mkdtemp(prefix="run-")) / "run"
    yield folder
    try:
        until(lambda: not processes_with(str(folder)), 10, f"end of the processes on {folder}")
    finally:
        shutil.rmtree(folder.parent)


@pytest.fixture(scope="session")
def small_shards() -> Iterator[Path]:
    """64 synthetic faces."""
    with tempfile.TemporaryDirectory(prefix="shards-") as folder:
        made = Path(folder) / "faces"
        real_runs.fra("shards", "make", "synthetic:64@48", "--out", str(made))
        yield made


@pytest.fixture(scope="session")
def undisturbed(small_shards: Path) -> Iterator[dict[str, str]]:
    """The final weights of a real run that nothing happened to, at two ranks."""
    with tempfile.TemporaryDirectory(prefix="calm-") as folder:
        run = Path(folder) / "run"
        real_runs.fra("launch", "torchrun", "--ranks-per-node", "2", *real_runs.settings(small_shards, run))
        yield real_runs.weights(run)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[ray_nodes.RayNodes]:
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path: Ray's socket names below it must stay short
    try:
        with ray_nodes.RayNodes(folder, cpus=1) as nodes:
            yield nodes
        until(lambda: not processes_with(str(folder)), 20, f"end of the processes of {folder}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ray(ray_session: ray_nodes.RayNodes, run: Path) -> Iterator[ray_nodes.RayNodes]:
    """The head alone, with one CPU."""
    yield ray_session
    for address in list(ray_session.nodes)[1:]:
        ray_session.kill_node(address)

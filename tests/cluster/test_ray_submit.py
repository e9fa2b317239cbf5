"""`ray job submit` from end to end, with the real trainer and a worker that is killed on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fra_dist.launch.ledger import read_state
from tests.cluster.ray_nodes import RAY, RayNodes
from tests.cluster.waiting import events, processes_with, rows, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(840)]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def ray_with_dashboard(run: Path) -> Iterator[RayNodes]:
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    try:
        with RayNodes(folder, cpus=2, dashboard=True) as nodes:
            yield nodes
        until(lambda: not processes_with(str(folder)), 20, f"end of the processes of {folder}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_job_submit_with_a_killed_worker_then_stop(ray_with_dashboard: RayNodes, run: Path) -> None:
    shards = run.parent / "shards"
    made = [sys.executable, "-m", "fra_dist.cli.main", "shards", "make", "synthetic:64@48", "--out", str(shards)]
    subprocess.run(made, check=True, timeout=300, capture_output=True)
    command = [str(ROOT / "launchers" / "ray_job.sh"), "--config", "configs/debug_cpu.yaml", "--workers", "1:2"]
    command += [f"output={run}", f"data.shards={shards}", "train.steps=100000", "train.global_batch=8"]
    command += ["log.heatmaps_every=0", "log.tensorboard=false", "data.pipeline=torch", "data.threads=1"]
    command += ["checkpoint.every_steps=10"]
    env = {**ray_with_dashboard.environment, "RAY_API_SERVER_ADDRESS": ray_with_dashboard.api}
    env |= {"RAY": RAY, "PYTHON": sys.executable}
    with (run.parent / "out").open("wb") as out:
        submit = subprocess.Popen(command, env=env, stdout=out, stderr=out)

    def said() -> str:
        return (run.parent / "out").read_text()

    def step() -> int:
        return max((row["step"] for row in rows(run / "metrics.jsonl")), default=0)

    until(lambda: step() > 12, 100, said)
    os.kill(json.loads((run / "attempt.json").read_text())["process"], signal.SIGKILL)
    (resumed,) = until(lambda: events(run, "resume"), 60, said)
    assert resumed["step"] >= 10
    seen = step()
    until(lambda: step() > seen + 12, 60, said)
    job = next(word for word in said().split() if word.strip("'").startswith("raysubmit_")).strip("'")
    subprocess.run([RAY, "job", "stop", job], env=env, check=True, timeout=300, capture_output=True)
    submit.wait(90)
    state = until(lambda: s if (s := read_state(run))["state"] == "stopped" else None, 30, said)
    assert state["attempt"] == 2
    (stopped,) = events(run, "stopped")
    assert (run / "checkpoints" / f"step-{stopped['step']:08d}").is_dir()

"""What can happen to workers and nodes of a Ray cluster, with a trainer that keeps the contract."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fra_dist.launch.ledger import read_state
from fra_dist.launch.trainer_command import Launch
from tests.cluster.ray_nodes import RayNodes
from tests.cluster.stub_trainer import expected
from tests.cluster.waiting import events, rows, until

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(540)]
STUB = Path(__file__).with_name("stub_trainer.py")
DRIVE = """
import pickle, sys
from fra_dist.errors import FraError
from fra_dist.launch.elastic import Pace, run_elastic
from fra_dist.launch.ray_cluster import Cluster, Need
from fra_dist.train.signals import StopFlag
launch, address, sizes = pickle.loads(bytes.fromhex(sys.argv[1]))
with Cluster(address, Need()) as cluster, StopFlag() as stop:
    try:
        sys.exit(run_elastic(launch, cluster, sizes, Pace(settle=2, grow_after=2), stop))
    except FraError as error:
        print(error)
        sys.exit(error.exit_status)
"""


def start(
    ray: RayNodes, run: Path, steps: int, *more: str, sizes: tuple[int, ...] = (1, 2)
) -> "subprocess.Popen[bytes]":
    launch = Launch(run, (sys.executable, str(STUB), str(run), str(steps), "0.05", *more), max_failures=1)
    text = pickle.dumps((launch, ray.address, sizes)).hex()
    return subprocess.Popen([sys.executable, "-c", DRIVE, text], env=ray.environment)


def steps_done(run: Path) -> int:
    return max((row["step"] for row in rows(run / "metrics.jsonl")), default=0)


def worlds(run: Path) -> list[int]:
    return [row["world"] for row in events(run, "start", "resume")]


def finished(process: "subprocess.Popen[bytes]", run: Path, steps: int) -> None:
    assert process.wait(360) == 0
    assert read_state(run)["state"] == "complete"
    (done,) = events(run, "complete")
    assert done["value"] == expected(steps)


def test_killed_worker_then_killed_agent(ray: RayNodes, run: Path) -> None:
    ray.add_node()
    process = start(ray, run, 150, sizes=(2,))
    until(lambda: steps_done(run) > 12, 60, "steps")
    os.kill(int((run / "pid-1").read_text()), signal.SIGKILL)
    until(lambda: len(worlds(run)) == 2, 60, "second attempt")
    seen = steps_done(run)
    until(lambda: steps_done(run) > seen + 12, 60, "steps")
    task = _parent(int((run / "pid-1").read_text()))
    os.kill(_parent(task), signal.SIGKILL)  # Ray's worker process
    finished(process, run, 150)
    first, second = (row["cause"] for row in events(run, "launch restart"))
    assert "rank 1" in first
    assert "SIGKILL" in first
    assert "the worker of rank 1 on 127.0.1." in second


def test_node_joins_drains_and_dies(ray: RayNodes, run: Path) -> None:
    process = start(ray, run, 4000)
    until(lambda: steps_done(run) > 3, 60, "steps")
    assert worlds(run) == [1]
    second = ray.add_node()
    until(lambda: worlds(run) == [1, 2], 60, "larger world")
    ray.drain(second)
    until(lambda: worlds(run) == [1, 2, 1], 60, "smaller world")
    third = ray.add_node()
    until(lambda: worlds(run) == [1, 2, 1, 2], 60, "larger world again")
    seen = steps_done(run)
    until(lambda: steps_done(run) > seen + 3, 60, "steps")
    ray.kill_node(third)
    until(lambda: worlds(run) == [1, 2, 1, 2, 1], 60, "smaller world after the node died")
    process.terminate()
    assert process.wait(180) == 75
    (value,) = (json.loads(path.read_text())["value"] for path in sorted(run.glob("checkpoints/*/state.json"))[-1:])
    assert value == expected(steps_done(run))
    lost = [row["steps_lost"] for row in events(run, "launch restart")]
    assert lost[:3] == [0, 0, 0]


def test_driver_stopped_then_killed(ray: RayNodes, run: Path) -> None:
    process = start(ray, run, 300)
    until(lambda: steps_done(run) > 3, 60, "steps")
    process.terminate()
    assert process.wait(180) == 75
    assert read_state(run)["state"] == "stopped"
    (stopped,) = events(run, "stopped")
    process = start(ray, run, 300)
    until(lambda: events(run, "resume"), 60, "resume")
    assert events(run, "resume")[0]["step"] == stopped["step"]
    seen = steps_done(run)
    until(lambda: steps_done(run) > seen + 3, 60, "steps")
    process.kill()
    process.wait(30)
    finished(start(ray, run, 300), run, 300)


def test_gives_up_and_refuses(ray: RayNodes, run: Path) -> None:
    assert start(ray, run, 60, "--fail-at", "5").wait(180) == 1
    state = read_state(run)
    assert (state["state"], state["attempt"]) == ("failed", 2)
    assert "told to fail at step 5" in state["reason"]
    assert start(ray, run, 60, "--bad-input").wait(180) == 1
    assert read_state(run)["reason"] == "stub: this input is bad"


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

"""torchrun with a trainer that keeps the contract."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.slurm_cluster import free_ports
from tests.cluster.stub_trainer import expected
from tests.cluster.waiting import events, processes_with, rows, until

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(360)]
STUB = Path(__file__).with_name("stub_trainer.py")
CODE = """
import pickle, sys
from fra_dist.launch.torchrun import Topology, run_torchrun
launch, topology = pickle.loads(bytes.fromhex(sys.argv[1]))
sys.exit(run_torchrun(launch, Topology(**topology)))
"""


def start(run: Path, steps: int, pace: float, *more: str, **topology: object) -> "subprocess.Popen[bytes]":
    import pickle

    from fra_dist.launch.trainer_command import Launch

    launch = Launch(run, (sys.executable, str(STUB), str(run), str(steps), str(pace), *more))
    text = pickle.dumps((launch, topology)).hex()
    return subprocess.Popen([sys.executable, "-c", CODE, text])


def steps_done(run: Path) -> int:
    return max((row["step"] for row in rows(run / "metrics.jsonl")), default=0)


def test_killed_worker(run: Path) -> None:
    process = start(run, 60, 0.05, ranks_per_node=2, max_restarts=1)
    try:
        until(lambda: steps_done(run) > 15, 40, "steps")
        os.kill(int((run / "pid-1").read_text()), signal.SIGKILL)
        assert process.wait(180) == 0
    finally:
        process.terminate()
    assert [row["event"] for row in events(run, "start", "resume")] == ["start", "resume"]
    (done,) = events(run, "complete")
    assert done["value"] == expected(60)


def test_asked_to_stop_saves_and_says_so(run: Path) -> None:
    process = start(run, 600, 0.05, ranks_per_node=2)
    until(lambda: steps_done(run) > 3, 40, "steps")
    process.terminate()
    assert process.wait(90) == 75
    (stopped,) = events(run, "stopped")
    assert (run / "checkpoints" / f"step-{stopped['step']:08d}").is_dir()


def test_bad_input_is_not_tried_again(run: Path) -> None:
    assert start(run, 60, 0.05, "--bad-input", ranks_per_node=2, max_restarts=9).wait(180) == 1  # by its traceback
    (folder,) = run.glob("launch/torchrun-*")
    logs = [path.read_text() for path in folder.glob("rank-*.log")]  # the first to fail ends the others
    assert any("this input is bad" in text for text in logs)


def test_nothing_outlives_a_launcher_that_is_killed(run: Path) -> None:
    process = start(run, 600, 0.05, ranks_per_node=2)
    until(lambda: steps_done(run) > 3, 60, "steps")
    process.kill()
    process.wait(30)
    until(lambda: not processes_with(str(run)), 10, "end of all processes")


def test_elastic_node_joins(run: Path) -> None:
    meet = {"nodes": "1:2", "rendezvous": f"127.0.0.1:{free_ports(1)[0]}", "run_id": run.parent.name}
    both = [start(run, 9000, 0.05, **meet)]
    try:
        until(lambda: steps_done(run) > 3, 60, "steps of one node")
        both.append(start(run, 9000, 0.05, **meet))
        until(lambda: [row["world"] for row in events(run, "start", "resume")] == [1, 2], 90, "larger world")
        (stopped,) = events(run, "stopped")
        assert events(run, "resume")[0]["step"] == stopped["step"]
        seen = steps_done(run)
        until(lambda: steps_done(run) > seen + 3, 30, "steps of both")
        both[0].terminate()  # all ranks agree
        assert [process.wait(180) for process in both] == [75, 75]
    finally:
        for process in both:
            process.terminate()
    value = json.loads(max(run.glob("checkpoints/*/state.json")).read_text())["value"]
    assert value == expected(steps_done(run))

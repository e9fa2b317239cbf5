"""torchrun with a trainer that keeps the contract."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_cluster import free_ports
from stub_trainer import expected
from waiting import events, processes_with, rows, until

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(120)]
STUB = Path(__file__).with_name("stub_trainer.py")
CODE = """
import pickle, sys
from fra_dist.launch.local import Topology, run_torchrun
launch, topology = pickle.loads(bytes.fromhex(sys.argv[1]))
sys.exit(run_torchrun(launch, Topology(**topology)))
"""


def start(run: Path, steps: int, pace: float, **topology: object) -> "subprocess.Popen[bytes]":
    import pickle

    from fra_dist.launch.prepare import Launch

    launch = Launch(run, (sys.executable, str(STUB), str(run), str(steps), str(pace)))
    text = pickle.dumps((launch, topology)).hex()
    return subprocess.Popen([sys.executable, "-c", CODE, text])


def trainers(run: Path) -> list[int]:
    """Processes of ranks, without the tasks above them."""
    found = []
    for pid in processes_with(str(run)):
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"fra_dist.launch.task" not in words and b"torch.distributed.run" not in words:
            found.append(pid)
    return found


def steps_done(run: Path) -> int:
    return max((row["step"] for row in rows(run / "metrics.jsonl")), default=0)


def test_killed_worker(run: Path) -> None:
    process = start(run, 60, 0.05, ranks_per_node=2, max_restarts=1)
    try:
        until(lambda: steps_done(run) > 15, 40, "steps")
        os.kill(int((run / "pid-1").read_text()), signal.SIGKILL)
        assert process.wait(60) == 0
    finally:
        process.terminate()
    assert [row["event"] for row in events(run, "start", "resume")] == ["start", "resume"]
    (done,) = events(run, "complete")
    assert done["value"] == expected(60)


def test_asked_to_stop_saves_and_says_so(run: Path) -> None:
    process = start(run, 600, 0.05, ranks_per_node=2)
    until(lambda: steps_done(run) > 3, 40, "steps")
    process.terminate()
    assert process.wait(30) == 75
    (stopped,) = events(run, "stopped")
    assert (run / "checkpoints" / f"step-{stopped['step']:08d}").is_dir()


def test_elastic_node_joins(run: Path) -> None:
    meet = {"nodes": "1:2", "rendezvous": f"127.0.0.1:{free_ports(1)[0]}", "run_id": run.parent.name}
    first = start(run, 150, 0.05, **meet)
    try:
        until(lambda: steps_done(run) > 3, 60, "steps of one node")
        second = start(run, 150, 0.05, **meet)
        assert first.wait(90) == 0
        assert second.wait(30) == 0
    finally:
        first.terminate()
    assert [row["world"] for row in events(run, "start", "resume")][-1] == 2
    (done,) = events(run, "complete")
    assert done["value"] == expected(150)

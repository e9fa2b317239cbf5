"""Ranks of the real trainer that stand still, two gloo ranks under torchrun: named, their stacks written, restarted."""

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
from tests.cluster.slurm_cluster import SlurmCluster, free_ports
from tests.cluster.waiting import events, rows, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(840)]
ROOT = Path(__file__).parents[2]
CODE = """
import pickle, sys
from fra_dist.launch.torchrun import Topology, run_torchrun
launch, ranks = pickle.loads(bytes.fromhex(sys.argv[1]))
sys.exit(run_torchrun(launch, Topology(ranks, max_restarts=1)))
"""


def start(run: Path, shards: Path, fault: str = "none:0:0", ranks: int = 2, *more: str) -> "subprocess.Popen[bytes]":
    settings = [str(ROOT / "configs" / "debug_cpu.yaml"), f"output={run}", f"data.shards={shards}", "train.steps=40"]
    settings += ["train.global_batch=8", "log.heatmaps_every=0", "log.tensorboard=false", "data.pipeline=torch"]
    settings += ["data.threads=1", "checkpoint.every_steps=10", "train.watchdog_seconds=4", *more]
    script = str(Path(__file__).with_name("faulty_trainer.py"))
    launch = Launch(run, (sys.executable, script, str(run), "pretrain", *settings))
    text = pickle.dumps((launch, ranks)).hex()
    return subprocess.Popen([sys.executable, "-c", CODE, text], env={**os.environ, "FAULT": fault})


def last_step(run: Path) -> int:
    return max((row["step"] for row in rows(run / "metrics.jsonl")), default=0)


def trainer(run: Path, rank: int) -> int:
    """The process of a rank, by its environment."""
    for entry in Path("/proc").iterdir():
        try:
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        ours = b"faulty_trainer" in command and b"launch.task" not in command and str(run).encode() in command
        if ours and f"\0RANK={rank}\0".encode() in environment:
            return int(entry.name)
    raise AssertionError(f"no process of rank {rank}")


def finished(process: "subprocess.Popen[bytes]", run: Path) -> str:
    """Wait for the end of a run that was restarted once; what the watchdog said."""
    try:
        assert process.wait(600) == 0
    finally:
        process.terminate()
    assert [row["event"] for row in events(run, "start", "resume", "complete")] == ["start", "resume", "complete"]
    return str([row["text"] for row in events(run, "watchdog")])


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=pytest.mark.faults)])
def test_stopped_process(small_shards: Path, run: Path, rank: int) -> None:
    process = start(run, small_shards, "none:0:0", 2, "train.steps=400")
    until(lambda: last_step(run) > 12, 60, "steps")
    os.kill(trainer(run, rank), signal.SIGSTOP)
    until(lambda: events(run, "watchdog"), 30, "word of the watchdog")
    until(lambda: events(run, "resume"), 60, "second attempt")
    (said,) = (row["text"] for row in events(run, "watchdog"))
    assert f"rank {rank} on {os.uname().nodename} gave no sign of life" in said
    stacks = (run / "stacks" / "attempt-0001" / f"rank-{1 - rank:05d}.txt").read_text()
    assert "all_reduce" in stacks
    assert "fra-loader" in stacks or "loader.py" in stacks
    process.terminate()
    assert process.wait(180) == 75


@pytest.mark.faults
def test_stuck_reader(small_shards: Path, run: Path) -> None:
    said = finished(start(run, small_shards, "reader:1:20"), run)
    assert "rank 1 on" in said
    assert "waiting for data" in said
    assert "faulty_prepare" in (run / "stacks" / "attempt-0001" / "rank-00001.txt").read_text()
    assert (run / "stacks" / "attempt-0001" / "rank-00000.txt").exists()


@pytest.mark.faults
def test_thread_that_keeps_the_interpreter(small_shards: Path, run: Path) -> None:
    said = finished(start(run, small_shards, "gil:1:20"), run)
    assert "rank 1 on" in said
    assert "gave no sign of life" in said


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["stopped", "gil", "reader"])
def test_one_rank_alone(small_shards: Path, run: Path, kind: str) -> None:
    """Nobody else looks: the task ends a process that does not run, the watchdog one that does."""
    process = start(run, small_shards, f"{kind}:0:20", 1)
    if kind == "stopped":
        until(lambda: last_step(run) > 12, 60, "steps")
        os.kill(trainer(run, 0), signal.SIGSTOP)
    try:
        assert process.wait(600) == 0
    finally:
        process.terminate()
    assert [row["event"] for row in events(run, "start", "resume")] == ["start", "resume"]
    (restart,) = events(run, "launch restart")
    word = {"stopped": "process was stopped", "gil": "kept the interpreter", "reader": "waiting for data"}[kind]
    assert word in restart["cause"]


@pytest.mark.faults
def test_long_checkpoint_is_no_alarm(small_shards: Path, run: Path) -> None:
    """Rank 0 stays in a hook for three times the time-out."""
    process = start(run, small_shards, "hook:0:20")
    try:
        assert process.wait(600) == 0
    finally:
        process.terminate()
    assert not events(run, "watchdog", "resume")
    assert json.loads((run / "ranks" / "00000.json").read_text())["name"] == "done"


@pytest.mark.faults
@pytest.mark.parametrize(("kind", "why"), [("slow", "compute"), ("late", "data")])
def test_slow_rank_is_named(small_shards: Path, run: Path, kind: str, why: str) -> None:
    process = start(run, small_shards, f"{kind}:1:0", 2, "train.steps=400", "train.watchdog_seconds=60")
    try:
        (row,) = until(lambda: events(run, "straggler"), 200, "word about rank 1")
        process.terminate()
        assert process.wait(180) == 75
    finally:
        process.terminate()
    assert (row["rank"], row["why"]) == (1, why)
    assert row["times"] > 1.5


@pytest.mark.faults
def test_folder_that_is_not_shared(small_shards: Path, run: Path) -> None:
    """Two nodes whose run folders have one name and are two folders."""
    port = free_ports(1)[0]
    words = [sys.executable, "-m", "fra_dist.cli.main", "launch", "torchrun", "--nodes", "2", "--ranks-per-node", "1"]
    words += ["--rendezvous", f"127.0.0.1:{port}", "--run-id", run.parent.name]
    words += [
        "--config",
        str(ROOT / "configs" / "debug_cpu.yaml"),
        "data.pipeline=torch",
        f"data.shards={small_shards}",
    ]
    both = [
        subprocess.Popen([*words, f"output={run.parent / name}"], stderr=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    said = [process.communicate(timeout=600)[1] for process in both]
    assert [process.returncode for process in both] == [2, 2], said
    for text in said:
        assert "rank 1 on" in text.splitlines()[-1]
        assert "do not see the run folder that rank 0 on" in text.splitlines()[-1]


@pytest.mark.faults
def test_stopped_process_under_slurm(slurm: SlurmCluster, small_shards: Path, run: Path) -> None:
    command = [sys.executable, str(ROOT / "launchers" / "slurm.py"), "--nodes", "2", "--time", "30", "--config"]
    command += [str(ROOT / "configs" / "debug_cpu.yaml"), f"output={run}", f"data.shards={small_shards}"]
    command += ["train.steps=60", "train.global_batch=8", "log.heatmaps_every=0", "log.tensorboard=false"]
    command += ["data.pipeline=torch", "data.threads=1", "checkpoint.every_steps=10", "train.watchdog_seconds=4"]
    subprocess.run(command, env=slurm.environment, check=True, timeout=180, capture_output=True, cwd=ROOT)
    until(lambda: last_step(run) > 12, 100, "steps")
    stopped = next(p for p, c in slurm.processes("n2").items() if "pretrain" in c and "task" not in c)
    os.kill(stopped, signal.SIGSTOP)
    until(lambda: read_state(run).get("state") == "complete", 150, lambda: f"end: {read_state(run)}")
    (restart,) = events(run, "launch restart")
    assert "rank 1 on n2 gave no sign of life" in restart["cause"]
    assert (run / "stacks" / "attempt-0001" / "rank-00000.txt").exists()

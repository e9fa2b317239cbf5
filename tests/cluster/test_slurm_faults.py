"""What SLURM can do to a run, with a trainer that keeps the contract and steps fast."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fra_dist.launch.ledger import read_state
from fra_dist.launch.trainer_command import Launch
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.stub_trainer import expected
from tests.cluster.waiting import events, rows, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(360)]
STUB = Path(__file__).with_name("stub_trainer.py")
SUBMIT = """
import pickle, sys
from fra_dist.launch.slurm import Resources, submit
launch, resources = pickle.loads(bytes.fromhex(sys.argv[1]))
print(submit(launch, Resources(**resources)).job_id)
"""


def start(slurm: SlurmCluster, run: Path, steps: int, pace: float, *more: str, **resources: object) -> str:
    """Submit a run of the stub over two ranks on two nodes, as a user on a login node would; its job number."""
    import pickle

    launch = Launch(run, (sys.executable, str(STUB), str(run), str(steps), str(pace), *more), max_failures=2)
    asked = {"nodes": 2, "cpus_per_task": 1, "signal_lead": 10, **resources}
    text = pickle.dumps((launch, asked)).hex()
    said = subprocess.run(
        [sys.executable, "-c", SUBMIT, text], env=slurm.environment, capture_output=True, text=True, timeout=180
    )
    assert said.returncode == 0, said.stderr
    return said.stdout.strip()


def steps_done(run: Path) -> int:
    return max((row["step"] for row in rows(run / "metrics.jsonl")), default=0)


def ends(slurm: SlurmCluster, run: Path, job: str, as_: str = "complete", seconds: float = 60) -> None:
    """Wait until the run has ended for good, the way that it should, and the job with it."""

    def ended() -> str:
        state = str(read_state(run).get("state"))
        return state if state in ("complete", "failed", "stopped") else ""

    state = until(ended, seconds, lambda: f"end; job {slurm.job(job)}, {read_state(run)}")
    assert state == as_, "\n".join(log.read_text() for log in run.glob("launch/slurm/*.out"))
    until(lambda: slurm.job(job) in ("COMPLETED", "FAILED", "CANCELLED"), 20, "end of the job")


def final_value(run: Path) -> str:
    (row,) = events(run, "complete")
    return row["value"]


def test_rank_killed_goes_on_in_the_same_job(slurm: SlurmCluster, run: Path) -> None:
    job = start(slurm, run, 60, 0.05)
    until(lambda: steps_done(run) > 15, 30, "steps")
    os.kill(_trainer(slurm, run, "n2"), signal.SIGKILL)
    ends(slurm, run, job)
    (restart,) = events(run, "launch restart")
    assert "rank 1 on n2 was killed by SIGKILL" in restart["cause"]
    assert 0 < restart["steps_lost"] <= 10
    assert [row["attempt"] for row in events(run, "start", "resume")] == [1, 2]
    assert final_value(run) == expected(60)
    assert slurm.restarts(job) == 0
    assert slurm.job(job) == "COMPLETED"


@pytest.mark.faults
def test_signal_requeues_twice(slurm: SlurmCluster, run: Path) -> None:
    job = start(slurm, run, 60, 0.05)
    for round_ in (1, 2):
        until(lambda n=round_: len(events(run, "start", "resume")) == n, 40, f"attempt {round_}")
        seen = steps_done(run)
        until(lambda n=seen: steps_done(run) > n + 3, 30, "steps")
        slurm.command("scancel", "--signal=USR2", job)
        until(lambda n=round_: len(events(run, "stopped")) == n, 20, "stop")
    ends(slurm, run, job)
    assert slurm.restarts(job) == 2
    resumed = [row["step"] for row in events(run, "resume")]
    assert resumed == [row["step"] for row in events(run, "stopped")]
    assert final_value(run) == expected(60)


@pytest.mark.faults
def test_preempted_by_a_higher_partition(slurm: SlurmCluster, run: Path) -> None:
    job = start(slurm, run, 80, 0.05, partition="main")
    until(lambda: steps_done(run) > 5, 30, "steps")
    slurm.command("sbatch", "-p", "urgent", "-N3", "--exclusive", "-o/dev/null", "--wrap=sleep 2")
    until(lambda: slurm.restarts(job) == 1, 30, "requeue")
    ends(slurm, run, job, seconds=90)
    assert final_value(run) == expected(80)
    assert read_state(run)["failures"] == 0


@pytest.mark.faults
@pytest.mark.timeout(990)
def test_time_limit(slurm: SlurmCluster, run: Path) -> None:
    """A real one: a minute, again and again. SLURM gives notice up to a minute late or early."""
    job = start(slurm, run, 1500, 0.05, time="1", signal_lead=25)
    ends(slurm, run, job, seconds=300)
    assert slurm.restarts(job) >= 1
    assert len(events(run, "stopped")) == slurm.restarts(job)
    assert final_value(run) == expected(1500)
    assert read_state(run)["failures"] == 0
    assert all(row["steps_lost"] == 0 for row in events(run, "launch restart"))


@pytest.mark.faults
def test_node_lost(slurm: SlurmCluster, run: Path) -> None:
    job = start(slurm, run, 80, 0.05)
    until(lambda: steps_done(run) > 15, 30, "steps")
    node = slurm.command("squeue", "-h", "-j", job, "-o", "%N")
    slurm.kill_node("n2" if node.startswith("n[1") else "n3")
    ends(slurm, run, job, seconds=90)
    assert slurm.restarts(job) == 1
    assert final_value(run) == expected(80)
    assert any("node lost" in row["cause"] for row in events(run, "launch restart"))


@pytest.mark.faults
def test_gives_up_after_failures_without_progress(slurm: SlurmCluster, run: Path) -> None:
    job = start(slurm, run, 60, 0.02, "--fail-at", "25")
    ends(slurm, run, job, "failed")
    state = read_state(run)
    # the first failure came after a new checkpoint and does not count
    assert state["attempt"] == 4
    assert "3 failures without a newer checkpoint" in state["reason"]
    assert "told to fail at step 25" in state["reason"]
    assert slurm.job(job) == "FAILED"


def test_bad_input_is_not_tried_again(slurm: SlurmCluster, run: Path) -> None:
    job = start(slurm, run, 60, 0.02, "--bad-input")
    ends(slurm, run, job, "failed")
    state = read_state(run)
    assert (state["attempt"], state["reason"]) == (1, "stub: this input is bad")


@pytest.mark.faults
def test_cancelled_run_saves_and_stays_stopped(slurm: SlurmCluster, run: Path) -> None:
    job = start(slurm, run, 600, 0.05)
    until(lambda: steps_done(run) > 5, 30, "steps")
    slurm.command("scancel", job)
    until(lambda: slurm.job(job) == "CANCELLED", 20, "cancellation")
    (stopped,) = until(lambda: events(run, "stopped"), 10, "checkpoint at the cancellation")
    assert (run / "checkpoints" / f"step-{stopped['step']:08d}").is_dir()
    assert slurm.restarts(job) == 0


@pytest.mark.faults
def test_second_launch_is_refused_with_the_first_ones_job(slurm: SlurmCluster, run: Path) -> None:
    job = start(slurm, run, 600, 0.05)
    with pytest.raises(AssertionError, match=f"slurm job {job} .* is at work on"):
        start(slurm, run, 600, 0.05)


def test_impossible_request_is_refused_in_one_line(slurm: SlurmCluster, run: Path) -> None:
    with pytest.raises(AssertionError, match=r"SLURM refused the job: .*More processors requested than permitted"):
        start(slurm, run, 10, 0.05, cpus_per_task=999)


@pytest.mark.faults
def test_each_rank_sees_the_gpus_of_its_node(slurm: SlurmCluster, run: Path) -> None:
    seen = run.parent / "gpus"
    script = f"import os; open({str(seen)!r}, 'a').write(os.environ['CUDA_VISIBLE_DEVICES'] + chr(10))"
    launch = Launch(run, (sys.executable, "-c", script))
    import pickle

    text = pickle.dumps((launch, {"nodes": 1, "gpus_per_node": 2})).hex()
    subprocess.run([sys.executable, "-c", SUBMIT, text], env=slurm.environment, check=True, timeout=180)
    until(lambda: read_state(run).get("state") == "complete", 30, lambda: f"end: {read_state(run)}")
    assert seen.read_text().split() == ["0,1", "0,1"]


def _trainer(slurm: SlurmCluster, run: Path, node: str) -> int:
    """The trainer's process on a node: the one whose parent is the task."""
    return next(
        pid
        for pid, command in slurm.processes(node).items()
        if "stub_trainer.py" in command and "fra_dist.launch" not in command
    )

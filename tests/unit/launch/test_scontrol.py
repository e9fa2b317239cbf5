"""What a job makes of SLURM's answers, with commands on PATH that answer as SLURM 23.11 does."""

import json
import os
import shlex
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.errors import LaunchError
from fra_dist.launch.ledger import Ledger, RunFailed, read_state
from fra_dist.launch.scontrol import parse_job, seconds_of, show_job
from fra_dist.launch.slurm import job_state, submit
from fra_dist.launch.slurm_job import REQUEUE_PAUSES, SlurmJob

SHOWN = """JobId=812 JobName={name}
   UserId=ann(1000) GroupId=ann(1000) MCS_label=N/A
   Priority=4294901759 Nice=0 Account=(null) QOS=(null)
   JobState={state} Reason=None Dependency=(null)
   Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=0:0
   RunTime=00:10:05 TimeLimit=1-02:00:00 TimeMin=N/A
   NodeList=n[1-2]
   NumNodes=2 NumCPUs=8 NumTasks=2 CPUs/Task=4 ReqB:S:C:T=0:0:*:*
   ReqTRES=cpu=8,mem=2G,node=2,billing=8
   Socks/Node=* NtasksPerN:B:S:C=1:0:*:* CoreSpec=*
   OverSubscribe=OK Contiguous=0 Licenses=(null) Network=(null)
   Command={command}
   WorkDir={folder}
   Comment={comment}
   StdErr={log}
   StdIn=/dev/null
   StdOut={log}
   Power=

"""
PLAIN = {"name": "fra", "state": "RUNNING", "command": "/a/run.sh", "folder": "/a", "comment": "-", "log": "/a/log"}
REFUSED = "slurm_requeue error: Unable to contact slurm controller (connect failure)"


def test_values_and_paths_with_spaces_are_whole() -> None:
    log = "/data/my runs/JobState=CANCELLED by  me/812 out.txt"
    found = parse_job(SHOWN.format(**{**PLAIN, "log": log, "folder": "/data/my runs", "name": "a Restarts=9"}))
    assert (found["StdOut"], found["StdErr"], found["WorkDir"]) == (log, log, "/data/my runs")
    assert (found["JobState"], found["Restarts"], found["JobName"]) == ("RUNNING", "2", "a Restarts=9")
    assert (found["TimeLimit"], found["RunTime"]) == ("1-02:00:00", "00:10:05")
    assert found["ReqTRES"] == "cpu=8,mem=2G,node=2,billing=8"
    assert (found["ReqB:S:C:T"], found["CPUs/Task"], found["Power"]) == ("0:0:*:*", "4", "")


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1).map(lambda text: "/" + text))
def test_any_path_is_read_as_it_is(path: str) -> None:
    assert parse_job(SHOWN.format(**{**PLAIN, "log": path}))["StdOut"] == path


def test_what_is_no_job_holds_nothing() -> None:
    assert parse_job("slurm_load_jobs error: Invalid job id specified") == {}
    assert (seconds_of("1-02:00:00"), seconds_of("00:10:05"), seconds_of("UNLIMITED")) == (93600, 605, float("inf"))


class Controller:
    """`scontrol` and `squeue` that fail so many times before they answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "slurm"
        self.folder.mkdir()
        self.state("RUNNING")
        fail = f'n=$(cat {self.folder}/fail-$1 2>/dev/null || echo 0); if [ "$n" -gt 0 ]; then '
        fail += f"echo $((n - 1)) > {self.folder}/fail-$1; echo {shlex.quote(REFUSED)} >&2; exit 1; fi"
        body = f'[ "$1" = show ] && cat {self.folder}/job'
        for name, script in (("scontrol", f"{fail}; {body}; exit 0"), ("squeue", f"set squeue; {fail}; echo RUNNING")):
            command = self.folder / name
            command.write_text(
                f"#!/bin/sh\necho {name} $1 >> {self.folder}/asked; echo $* >> {self.folder}/words\n{script}\n"
            )
            command.chmod(0o755)

    def state(self, state: str) -> None:
        (self.folder / "job").write_text(SHOWN.format(**{**PLAIN, "state": state, "log": "/my runs/log"}))

    def fail(self, word: str, times: int) -> None:
        (self.folder / f"fail-{word}").write_text(str(times))

    def asked(self, what: str) -> int:
        return (self.folder / "asked").read_text().splitlines().count(what)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Controller:
    controller = Controller(tmp_path)
    monkeypatch.setenv("PATH", f"{controller.folder}{os.pathsep}{os.environ['PATH']}")
    return controller


@pytest.fixture
def job() -> Any:
    kept = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR2)}
    yield SlurmJob({"SLURM_JOB_ID": "812", "SLURM_NTASKS": "2", "SLURM_RESTART_COUNT": "2"}, 120)
    for one, handler in kept.items():
        signal.signal(one, handler)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "run", "slurm job 812", state="waiting")


def test_the_job_asks_its_controller(slurm: Controller, job: SlurmJob) -> None:
    assert job.seconds_left() == 93600 - 605
    assert job.owner() == "us"
    assert job.shown()["StdOut"] == "/my runs/log"


def test_a_requeue_that_fails_is_asked_for_again(slurm: Controller, job: SlurmJob, ledger: Ledger, capfd: Any) -> None:
    slurm.fail("requeue", 3)
    job.requeue(ledger, pauses=(0.0,) * 3)
    assert slurm.asked("scontrol requeue") == 4
    assert ledger.state == "waiting"
    assert capfd.readouterr().out.count(f"asked again in 0 s: {REFUSED}") == 3


def test_a_requeue_that_goes_on_failing_is_a_clear_end(slurm: Controller, job: SlurmJob, ledger: Ledger) -> None:
    slurm.fail("requeue", 99)
    with pytest.raises(RunFailed, match=r"does not requeue the job: slurm_requeue error: .* submit it again to resume"):
        job.requeue(ledger, pauses=(0.0, 0.0))
    assert slurm.asked("scontrol requeue") == 3
    assert read_state(ledger.run)["state"] == "stopped"
    assert 60 < sum(REQUEUE_PAUSES) < job.signal_lead


@pytest.mark.parametrize("state", ["PENDING", "REQUEUED", "COMPLETING"])
def test_a_requeue_whose_answer_was_lost_is_done(slurm: Controller, job: SlurmJob, ledger: Ledger, state: str) -> None:
    slurm.fail("requeue", 99)
    slurm.state(state)
    job.requeue(ledger, pauses=())
    assert slurm.asked("scontrol requeue") == 1


def test_a_job_that_is_cancelled_meanwhile_is_not_asked_for_again(
    slurm: Controller, job: SlurmJob, ledger: Ledger
) -> None:
    slurm.fail("requeue", 99)
    job.terminated = True
    with pytest.raises(RunFailed):
        job.requeue(ledger, pauses=(600.0,))


def test_a_controller_that_is_away_for_a_moment_is_asked_again(slurm: Controller) -> None:
    slurm.fail("show", 2)
    assert show_job("812", pauses=(0.0, 0.0))["JobState"] == "RUNNING"
    slurm.fail("show", 2)
    with pytest.raises(LaunchError, match="SLURM says nothing of job 812: slurm_requeue error"):
        show_job("812", pauses=(0.0,))


def test_no_answer_about_an_earlier_job_is_not_that_it_is_over(slurm: Controller, tmp_path: Path) -> None:
    assert job_state("812") == "RUNNING"
    slurm.fail("squeue", 9)
    assert job_state("812") is None
    state = tmp_path / "run" / "launch" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"launch": "slurm job 812", "state": "running"}))
    for name in ("sbatch", "srun"):
        (slurm.folder / name).symlink_to("/bin/false")
    with pytest.raises(LaunchError, match="does not say whether slurm job 812 is still at work"):
        submit(SimpleNamespace(run=tmp_path / "run"), SimpleNamespace())  # type: ignore[arg-type]


ARRAY = {"SLURM_JOB_ID": "811", "SLURM_NTASKS": "2", "SLURM_RESTART_COUNT": "2"}
ARRAY |= {"SLURM_ARRAY_JOB_ID": "811", "SLURM_ARRAY_TASK_ID": "2"}
ONE_LINE = (
    "JobId={id} ArrayJobId=811 ArrayTaskId={task} JobName=seeds JobState={state} Restarts={task} StdOut=/my runs/o"
)


def test_a_task_of_an_array_is_asked_for_and_requeued_alone(slurm: Controller, ledger: Ledger) -> None:
    """SLURM_JOB_ID of one task is the id of the whole array."""
    first = SHOWN.format(**{**PLAIN, "state": "COMPLETED"}).replace(" JobName", " ArrayJobId=811 ArrayTaskId=0 JobName")
    (slurm.folder / "job").write_text(first + first.replace("=0 JobName", "=2 JobName").replace("COMPLETED", "RUNNING"))
    kept = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR2)}
    task = SlurmJob(ARRAY, 120)
    try:
        assert task.owner() == "us"
        assert task.shown()["ArrayTaskId"] == "2"
        task.requeue(ledger, pauses=())
    finally:
        for one, handler in kept.items():
            signal.signal(one, handler)
    assert set((slurm.folder / "words").read_text().splitlines()) == {"show job 811_2", "requeue 811_2"}


def test_a_job_on_one_line_is_read_too(slurm: Controller) -> None:
    lines = [
        ONE_LINE.format(id=id_, task=task, state=state) for id_, task, state in ((811, 2, "RUNNING"), (812, 0, "?"))
    ]
    (slurm.folder / "job").write_text("\n".join(reversed(lines)))
    found = show_job("811_2")
    assert (found["JobState"], found["Restarts"], found["JobName"], found["StdOut"]) == (
        "RUNNING",
        "2",
        "seeds",
        "/my runs/o",
    )

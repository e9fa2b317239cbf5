"""The driver inside a SLURM job: one process on the first node that starts the ranks with `srun`, again and again.

    allocation ── this driver ── srun step of attempt 1 (a task a rank) ── fails
                              ── srun step of attempt 2 ── USR2 before the time limit: saves, stops
                              ── scontrol requeue, and the job starts again later, perhaps on other nodes

Why not one `srun` as the job: a rank that dies then ends the job, and a new one waits in the queue; here the next
attempt begins in the same allocation seconds later. SLURM sends the time-limit signal to the tasks of the step, which
is right: the trainer saves and exits, and the driver, which is not signalled, requeues the job. SLURM itself requeues a
job that loses a node (--requeue).
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Literal

from fra_dist.distributed.environment import ATTEMPT, LAUNCH
from fra_dist.errors import DiskError, FraError, LaunchError
from fra_dist.exit_status import STOPPED
from fra_dist.launch.ledger import Ledger, RunFailed, read_state
from fra_dist.launch.outcome import Outcome, attempt_outcome
from fra_dist.launch.scontrol import scontrol, seconds_of, show_job
from fra_dist.launch.trainer_command import Launch, prepare_launch, trainer_command

REQUEUE_PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 30.0)
"""Seconds between attempts to requeue: together less than the two minutes that a job has left after saving."""
_TAKEN = "SLURM took the job off its nodes: node lost or preempted"


def run_slurm_job(launch: Launch, signal_lead: int = 120) -> int:
    """Run attempts until the run is complete (returns 0) or has to wait for the requeued job (75).

    `signal_lead` is the number of seconds before the time limit at which SLURM signals the ranks. Raises RunFailed when
    the run is given up.
    """
    job = SlurmJob(os.environ, signal_lead)
    ledger = Ledger.open(launch.run, job.name, launch.max_failures)
    ledger.log = job.shown().get("StdOut", ledger.log)
    if ledger.state == "running":  # this process's predecessor ended before it could judge the last attempt
        ledger.settle(Outcome("stopped", f"{_TAKEN} (restart {job.restarts})"))
    while True:
        if job.seconds_left() < signal_lead:
            outcome = Outcome("stopped", "too little time left in this job for another attempt")
        else:
            outcome = _attempt(launch, ledger, job)
        owner = job.owner() if outcome.kind != "complete" else "us"
        if owner == "slurm":
            outcome = Outcome("stopped", _TAKEN)
        again = ledger.settle(outcome, ask_again=owner != "user")
        print(f"fra-dist: attempt {ledger.attempt} {outcome.kind}" + (f": {outcome.cause}" if outcome.cause else ""))
        sys.stdout.flush()
        if ledger.state == "complete":
            return 0
        if ledger.state == "failed":
            raise RunFailed(ledger.reason)
        if owner != "us" or not again:
            return STOPPED
        if outcome.kind == "stopped":
            job.requeue(ledger)
            return STOPPED
        time.sleep(ledger.delay())


def srun_words(cpus_per_task: str | int | None) -> list[str]:
    """Return the `srun` of an attempt, without the program: one task a rank."""
    words = ["srun", "--kill-on-bad-exit=1", "--wait=120", "--unbuffered", "--mpi=none"]
    return [*words, f"--cpus-per-task={cpus_per_task}"] if cpus_per_task else words  # srun no longer inherits it


def task_words(folder: str, trainer: Sequence[str]) -> list[str]:
    """Return the command of one task of an attempt, whose records go to `folder`."""
    return [sys.executable, "-u", "-m", "fra_dist.launch.task", "--folder", folder, "--", *trainer]


class SlurmJob:
    """The SLURM job that this process runs in. Raises LaunchError outside of one."""

    def __init__(self, env: Mapping[str, str], signal_lead: int) -> None:
        try:
            self.id, self.world = _job_id(env), int(env["SLURM_NTASKS"])
        except KeyError as missing:
            raise LaunchError(f"{missing} is not set: this runs inside a SLURM job with --ntasks") from None
        self.restarts = int(env.get("SLURM_RESTART_COUNT", "0"))
        self.cpus_per_task = env.get("SLURM_CPUS_PER_TASK")
        self.name = f"slurm job {self.id}"
        self.signal_lead = signal_lead
        self.terminated = False
        signal.signal(signal.SIGTERM, self._terminate)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # meant for the tasks; reaches us too with `scancel --full`

    def step(self, command: Sequence[str], env: Mapping[str, str]) -> int:
        """Run one task for each rank as a job step; return the status of `srun`.

        A task with a bad status ends the step at once; one that has finished leaves the others two minutes to end.
        """
        srun = srun_words(self.cpus_per_task)
        process = subprocess.Popen([*srun, *command], env={**os.environ, **env}, start_new_session=True)
        return process.wait()

    def seconds_left(self) -> float:
        """Return the seconds until the time limit, by the clock of SLURM's controller: ours may be wrong."""
        shown = self.shown()
        return seconds_of(shown.get("TimeLimit", "")) - min(seconds_of(shown.get("RunTime", "")), 1e9)

    def owner(self) -> Literal["us", "slurm", "user"]:
        """Say who decides what comes next: the user, who cancelled the job; SLURM, which requeued it; or the driver."""
        shown = self.shown()
        state = shown.get("JobState", "RUNNING")
        if state == "CANCELLED":
            return "user"
        return "us" if state == "RUNNING" and int(shown.get("Restarts", self.restarts)) == self.restarts else "slurm"

    def shown(self) -> dict[str, str]:
        """Return what `scontrol show job` says.

        Empty, with a warning, when SLURM does not answer: the attempt continues.
        """
        try:
            return show_job(self.id)
        except LaunchError as error:
            print(f"fra-dist: warning: {error}", file=sys.stderr, flush=True)
            return {}

    def requeue(self, ledger: Ledger, pauses: Sequence[float] = REQUEUE_PAUSES) -> None:
        """Ask SLURM to queue the job again; SLURM ends this process soon after.

        It is asked again after each of the pauses (seconds) while it refuses or does not answer, because a restarting
        controller does so for a while and the chain of jobs would end here. Raises RunFailed when it keeps refusing.
        """
        for pause in (*pauses, None):
            answer = scontrol("requeue", self.id)
            if answer.fine or self._leaves():
                return
            if pause is None or self.terminated:
                break
            print(f"fra-dist: SLURM does not requeue the job, asked again in {pause:g} s: {answer.text}", flush=True)
            time.sleep(pause)
        ledger.state, ledger.reason = "stopped", f"SLURM does not requeue the job: {answer.text}"
        ledger.save()
        raise RunFailed(f"{ledger.reason}; the run is saved, submit it again to resume")

    def _leaves(self) -> bool:
        """Whether SLURM has queued the job again although it did not say so."""
        try:
            state = show_job(self.id, pauses=()).get("JobState", "")
        except LaunchError:
            return False
        return state.startswith(("PENDING", "REQUEUE", "COMPLETING"))

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True  # scancel or preemption: the tasks got it as well, so wait for the step to save and end


def _job_id(env: Mapping[str, str]) -> str:
    """Return the id by which SLURM knows this job alone.

    SLURM_JOB_ID of one task of a job array is also the id of the whole array, and a requeue by it would hit all tasks.
    """
    if "SLURM_ARRAY_JOB_ID" in env and "SLURM_ARRAY_TASK_ID" in env:
        return f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    return env["SLURM_JOB_ID"]


def _attempt(launch: Launch, ledger: Ledger, job: SlurmJob) -> Outcome:
    try:
        folder = ledger.begin_attempt(job.world)
    except DiskError as error:
        return Outcome("failed", str(error))
    env = {LAUNCH: job.name, ATTEMPT: str(ledger.attempt)}
    command = task_words(str(folder), launch.trainer)
    print(f"fra-dist: attempt {ledger.attempt}, {job.world} ranks, job {job.id} restart {job.restarts}", flush=True)
    code = job.step(command, env)
    return attempt_outcome(folder, job.world, launcher_error=f"srun ended with status {code}" if code else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the driver from a plain sbatch script: `exec python -m fra_dist.launch.slurm_job CONFIG key=value ...`.

    Returns the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m fra_dist.launch.slurm_job")
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--max-failures", type=int, default=3, help="in a row without a newer checkpoint")
    parser.add_argument("--signal-lead", type=int, default=120, help="seconds, as in #SBATCH --signal=USR2@SECONDS")
    args = parser.parse_args(argv)
    try:
        return run_slurm_job(_kept_or_new(args.config, args.overrides, args.max_failures), args.signal_lead)
    except FraError as error:
        print(f"fra-dist: {error}", file=sys.stderr)
        return error.exit_status


def _kept_or_new(config: str, overrides: Sequence[str], max_failures: int) -> Launch:
    """Return the launch.

    A requeued job resumes with the configuration of its first start, whatever the file says now.
    """
    launch = prepare_launch(config, overrides, max_failures, write=False)
    name = f"slurm job {os.environ.get('SLURM_JOB_ID')}"
    if read_state(launch.run).get("launch") == name:
        return Launch(launch.run, trainer_command(Path(launch.folder / "config.yaml")), max_failures)
    return prepare_launch(config, overrides, max_failures)


if __name__ == "__main__":
    sys.exit(main())

"""Submission to SLURM; only this module imports submitit.

submitit writes the batch script, submits it and keeps the job's files in RUN/launch/slurm. What runs in the job is our
own driver (`slurm_job`), as the batch process itself (`use_srun=False`). submitit's requeueing is not used: it saves on
rank 0 alone and counts every signal of a short job as a time-out.
"""

import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fra_dist.errors import LaunchError
from fra_dist.launch.ledger import Ledger, read_state
from fra_dist.launch.slurm_job import run_slurm_job, srun_words, task_words
from fra_dist.launch.trainer_command import Launch


@dataclass(frozen=True)
class Resources:
    """What `sbatch` is asked for; None leaves the site's default."""

    nodes: int = 1
    """The number of nodes."""
    gpus_per_node: int | None = None
    """GPUs on each node; one rank runs on each."""
    ranks_per_node: int | None = None
    """Ranks on each node, for runs on CPUs."""
    cpus_per_task: int | None = None
    """CPUs for each rank."""
    time: str | None = None
    """The time limit as SLURM writes it: minutes or [D-]HH:MM:SS."""
    partition: str | None = None
    """The partition to submit to."""
    account: str | None = None
    """The account to charge."""
    qos: str | None = None
    """The quality of service."""
    constraint: str | None = None
    """Features that the nodes must have."""
    exclude: str | None = None
    """Nodes that must not be used."""
    mem: str | None = None
    """Memory on each node, as SLURM writes it."""
    signal_lead: int = 120
    """Seconds before the time limit at which SLURM signals the ranks to save."""
    setup: tuple[str, ...] = ()
    """Shell lines to run in the batch script before the driver starts."""
    extra: dict[str, str | bool] = field(default_factory=dict)
    """Further sbatch options by their long names."""

    @property
    def tasks_per_node(self) -> int:
        """The number of ranks on each node: `ranks_per_node`, else one for each GPU, else 1."""
        return self.ranks_per_node or self.gpus_per_node or 1

    def parameters(self, name: str) -> dict[str, Any]:
        """Return the parameters of submitit's executor for a job called `name`."""
        chosen: dict[str, Any] = {
            "job_name": name,
            "nodes": self.nodes,
            "ntasks_per_node": self.tasks_per_node,
            "signal_delay_s": self.signal_lead,
            "stderr_to_stdout": True,
            "use_srun": False,
            "setup": list(self.setup) or None,
            "wckey": None,
            "additional_parameters": {"requeue": True, **self.extra},
        }
        chosen["time"] = self.time  # None: the partition's default instead of submitit's five minutes
        for key in ("gpus_per_node", "cpus_per_task", "partition", "account", "qos", "constraint", "exclude", "mem"):
            chosen[key] = getattr(self, key)
        return chosen


@dataclass(frozen=True)
class Submitted:
    """A job that SLURM has accepted: its number, and where its output goes."""

    job_id: str
    """SLURM's number of the job."""
    log: Path
    """The file that holds the job's output."""


def batch_script(launch: Launch, resources: Resources) -> str:
    """Return the sbatch script that `submit` would hand in; needs no SLURM on this machine."""
    from submitit.slurm.slurm import _make_sbatch_string

    command = f"{shlex.quote(launch.trainer[0])} -u -m submitit.core._submit {shlex.quote(str(_folder(launch)))}"
    return str(_make_sbatch_string(command=command, folder=_folder(launch), **resources.parameters(launch.run.name)))


def job_commands(launch: Launch, resources: Resources) -> str:
    """Return, as comments of a script, what the driver in the job starts: the job step, and in it the trainer."""
    task = task_words(str(launch.folder / "attempt-0001"), ())
    lines = ["# in the job, for each attempt:", f"#   {shlex.join([*srun_words(resources.cpus_per_task), *task])}"]
    return "\n".join([*lines, "# and behind the `--`, the trainer of each rank:", f"#   {shlex.join(launch.trainer)}"])


def submit(launch: Launch, resources: Resources, write: Callable[[], object] = lambda: None) -> Submitted:
    """Submit the run, after `write` has put its configuration in place (not earlier: that could disturb a running job).

    Raises LaunchError when SLURM is missing or refuses, or when another job is running this run.
    """
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise LaunchError(
            "there is no SLURM on this machine (sbatch and srun are not on PATH): run this on a login node"
        )
    _refuse_second(launch.run)
    write()
    executor = submitit.SlurmExecutor(folder=_folder(launch))
    executor.update_parameters(**resources.parameters(launch.run.name))
    try:
        job = executor.submit(run_slurm_job, launch, resources.signal_lead)
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        raise LaunchError(f"SLURM refused the job: {_reason(error)}") from None
    ledger = Ledger.open(launch.run, f"slurm job {job.job_id}", launch.max_failures)
    if ledger.state == "pending":  # the job may have started already
        ledger.log = str(job.paths.stdout)
        ledger.save()
    return Submitted(str(job.job_id), Path(job.paths.stdout))


def job_state(job_id: str) -> str | None:
    """Ask SLURM for the state of a job, such as "RUNNING".

    Empty when SLURM does not, or no longer, know the job; None when it does not answer.
    """
    if shutil.which("squeue") is None:
        return ""
    try:
        result = subprocess.run(
            ["squeue", "-h", "-t", "all", "-j", job_id, "-o", "%T"], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if result.returncode:
        return "" if "invalid job id" in result.stderr.lower() else None
    return result.stdout.strip().partition("\n")[0]


def _refuse_second(run: Path) -> None:
    state = read_state(run)
    kind, _, job_id = str(state.get("launch", "")).rpartition(" ")
    if kind != "slurm job" or state.get("state") not in ("pending", "running", "waiting"):
        return
    queue = job_state(job_id)
    if queue is None:
        raise LaunchError(
            f"SLURM does not say whether slurm job {job_id} is still at work on {run}: try again when it answers"
        )
    if queue in ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "SUSPENDED", "REQUEUE_HOLD"):
        raise LaunchError(
            f"slurm job {job_id} ({queue.lower()}) is at work on {run}: wait for it, cancel it with "
            f"`scancel {job_id}`, or set another output"
        )


def _folder(launch: Launch) -> Path:
    return launch.folder / "slurm"


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "error:" in line]
    return "; ".join(line.split("error:", 1)[1].strip() for line in lines) or " ".join(str(error).split())[:300]

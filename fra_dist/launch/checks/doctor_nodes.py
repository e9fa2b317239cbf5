"""`fra-dist launch ... --doctor`: the checks of `fra_dist.doctor` on every node that the run would use, and a sum over
all its ranks."""

import subprocess
import sys
from collections.abc import Sequence

from fra_dist.doctor import nodes
from fra_dist.doctor.rank_trial import judge_sum, printed_row
from fra_dist.doctor.result import CheckResult, fail
from fra_dist.doctor.subject import Subject
from fra_dist.errors import LaunchError
from fra_dist.launch.slurm import Resources

_NODE_SECONDS, _RANK_SECONDS = 1500.0, 300.0


def examine_slurm(subject: Subject, resources: Resources) -> list[CheckResult]:
    """Examine every node with `srun`, inside the present allocation or in one that it asks for, then sum over ranks.

    Raises LaunchError when srun is missing, refuses, or no node answers.
    """
    said = _srun(resources, 1, nodes.command(sys.executable, subject), _NODE_SECONDS)
    hosts = nodes.read_lines(said.stdout.splitlines())
    if not hosts:
        raise LaunchError(f"no node answered: {_last(said)}")
    found = nodes.joined_hosts(hosts)
    if len(hosts) < resources.nodes:
        found.append(
            CheckResult(
                "fail", f"{len(hosts)} of {resources.nodes} nodes answered: {_last(said)}", "see sinfo", "nodes"
            )
        )
    if resources.nodes * resources.tasks_per_node == 1:
        return found
    trial = [sys.executable, "-m", "fra_dist.doctor.rank_trial", subject.device]
    said = _srun(resources, resources.tasks_per_node, trial, _RANK_SECONDS)
    row = printed_row(said.stdout)
    remedy = "ranks do not meet: see `host name` and `interfaces`; set NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME"
    every = judge_sum(row) if row else fail(_last(said), remedy)
    return [*found, CheckResult(every.verdict, every.text, every.remedy, "all ranks")]


def srun_words(resources: Resources, tasks_per_node: int) -> list[str]:
    """Return the `srun` command, without the program, that starts so many tasks on each of the run's nodes."""
    words = ["srun", f"--nodes={resources.nodes}", f"--ntasks-per-node={tasks_per_node}"]
    words += [f"--ntasks={resources.nodes * tasks_per_node}", "--mpi=none", "--kill-on-bad-exit=1"]
    names = ("gpus_per_node", "cpus_per_task", "partition", "account", "qos", "constraint", "exclude", "mem")
    for name in names:
        if (value := getattr(resources, name)) is not None:
            words.append(f"--{name.replace('_', '-')}={value}")
    return words


def _srun(
    resources: Resources, tasks: int, program: Sequence[str], seconds: float
) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            [*srun_words(resources, tasks), *program], capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except FileNotFoundError:
        raise LaunchError("there is no SLURM on this machine (srun is not on PATH): run this on a login node") from None
    except subprocess.TimeoutExpired:
        raise LaunchError(
            f"srun has not ended in {seconds:.0f} s: is the job still in the queue (squeue)? Inside an allocation "
            f"(salloc) it begins at once"
        ) from None


def _last(said: "subprocess.CompletedProcess[str]") -> str:
    """The last line on standard error, of the ranks rather than of srun itself."""
    lines = [line.strip() for line in said.stderr.splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(("srun:", "slurmstepd:"))]
    return (own or lines or [f"srun ended with status {said.returncode}"])[-1][:300]

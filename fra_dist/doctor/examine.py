"""The list of checks, done one after the other in a process that is given up when one of them takes too long."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from fra_dist.doctor.bounded import Worker
from fra_dist.doctor.result import CheckResult, fail
from fra_dist.doctor.subject import Subject


@dataclass(frozen=True)
class Check:
    """One check of `fra-dist doctor`: its name, the function that does it, and how long that may take."""

    name: str
    """What the screen calls it."""
    place: str
    """module:function in `fra_dist.doctor`."""
    seconds: float
    """Time after which it is given up."""
    remedy: str = "see what the machine is busy with, or try again"
    """What to do when it was given up."""


QUICK = (
    Check("Python", "machine:check_python", 60),
    Check("bytecode", "machine:check_bytecode", 30),
    Check("memory", "machine:check_memory", 30),
    Check("open files", "machine:check_open_files", 30),
    Check("/dev/shm", "machine:check_shared_memory", 30),
    Check("TMPDIR", "machine:check_temporary_folder", 30),
    Check("home", "machine:check_home", 30, "the disk of HOME does not answer: set HOME to a local folder"),
    Check("clock", "machine:check_clock", 30, "see `run folder`"),
    Check("host name", "network:check_host_name", 30, "the name server does not answer: fix /etc/resolv.conf"),
    Check("interfaces", "network:check_interfaces", 30),
    Check("ports", "network:check_ports", 30),
    Check("SLURM", "clusters:check_slurm", 30),
    Check("Ray", "clusters:check_ray", 30),
    Check("run folder", "disks:check_run_folder", 30, "its disk does not answer: choose another output="),
)
"""Checks that take a moment and import neither torch nor data."""
THOROUGH = (
    Check("shards", "disks:check_shards", 60, "their disk or store does not answer"),
    Check("torch", "arithmetic:check_torch", 180, "the disk with Python's packages is slow, or does not answer"),
    Check("GPU", "arithmetic:check_gpu", 120, "the driver hangs: try nvidia-smi, then restart the machine"),
    Check("bf16", "arithmetic:check_bf16", 120),
    Check("Triton", "arithmetic:check_triton", 300),
    Check("DALI", "libraries:check_dali", 180),
    Check("step", "libraries:check_step", 240),
    Check("collectives", "rank_trial:check_ranks", 180, "ranks wait for each other: see `host name` and `interfaces`"),
)
"""Checks that measure, or import torch."""


def examine(subject: Subject, checks: Sequence[Check] | None = None) -> Iterator[CheckResult]:
    """Yield the finding of each check in their order; without `checks`, of all, or of QUICK when the subject says so.

    A check that takes too long, or that ends its process, costs its own finding only: the others are done in a new
    process.
    """
    waiting = list(checks if checks is not None else QUICK if subject.quick else QUICK + THOROUGH)
    while waiting:
        with Worker([one.place for one in waiting], subject) as worker:
            while waiting:
                check = waiting.pop(0)
                try:
                    found = CheckResult(**worker.answer(check.seconds))
                except TimeoutError:
                    found = fail(f"no answer in {check.seconds:.0f} s", check.remedy)
                except EOFError as error:
                    found = fail(f"the check broke off: {error}", check.remedy)
                else:
                    yield replace(found, name=check.name)
                    continue
                yield replace(found, name=check.name)
                break  # the rest in a new process


def as_rows(findings: Sequence[CheckResult]) -> list[dict[str, str]]:
    """Return the findings as JSON values: name, verdict, text, remedy."""
    return [asdict(one) for one in findings]

"""Asking SLURM's controller, which may be busy, restarting or out of reach for a while, and reading its answers."""

import re
import subprocess
import time
from collections.abc import Sequence
from typing import NamedTuple

from fra_dist.errors import LaunchError
from fra_dist.files import failure

PAUSES = (1.0, 2.0, 5.0, 10.0)
"""Seconds between the times that the same question is asked."""
_TIMEOUT = 60.0
_KEY = r"[A-Za-z][\w:/]*="
_FIRST, _NEXT = re.compile(_KEY), re.compile(rf"\s+(?={_KEY})")
_CHOSEN = ("JobName", "Comment", "AdminComment", "SystemComment", "Command", "SubmitLine")
_TO_THE_END = frozenset((*_CHOSEN, "WorkDir", "StdErr", "StdIn", "StdOut"))
"""Values that users choose, with whatever is in them. Each is the last of its line."""


class Answer(NamedTuple):
    """The result of one call of SLURM's command `scontrol`."""

    fine: bool
    """Whether the command succeeded."""
    text: str
    """What it printed; of an answer that is not fine, the error."""


def scontrol(*words: str) -> Answer:
    """Run `scontrol` once with the given words. Raises LaunchError when there is no such command."""
    try:
        result = subprocess.run(
            ["scontrol", *words], capture_output=True, text=True, errors="replace", timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return Answer(False, f"scontrol {words[0]} gave no answer in {_TIMEOUT:.0f} s")
    except OSError as error:
        raise failure(error, "cannot run scontrol", LaunchError) from None
    if result.returncode == 0:
        return Answer(True, result.stdout)
    text = " ".join((result.stderr + result.stdout).split())
    return Answer(False, text or f"scontrol {words[0]} ended with status {result.returncode}")


def show_job(job_id: str, pauses: Sequence[float] = PAUSES) -> dict[str, str]:
    """Return what `scontrol show job` says of a job, or of a task of an array (`811_2`): {name: value}.

    SLURM is asked again after each pause (seconds) while it does not answer. Raises LaunchError when it never does.
    """
    for pause in (*pauses, None):
        answer = scontrol("show", "job", job_id)
        if answer.fine:
            return _of_task(answer.text, job_id.partition("_")[2])
        if pause is not None:
            time.sleep(pause)
    raise LaunchError(f"SLURM says nothing of job {job_id}: {answer.text}")


def parse_job(text: str) -> dict[str, str]:
    """Parse the output of `scontrol show job` into {name: value}; of several jobs, the first one's values count.

    Names and comments that users choose, and paths, run to the end of their line, so that spaces in them stay. Where a
    site's `scontrol` prints a job on one line (as with -o), they end at the next name.
    """
    found: dict[str, str] = {}
    one_line = not re.search(r"^\s+\S", text, re.MULTILINE)
    for line in text.splitlines():
        rest = line.lstrip()
        while match := _FIRST.match(rest):
            name, rest = match[0][:-1], rest[match.end() :]
            following = None if name in _TO_THE_END and not one_line else _NEXT.search(rest)
            value, rest = (rest, "") if following is None else (rest[: following.start()], rest[following.end() :])
            found.setdefault(name, value)
    return found


def _of_task(text: str, task: str) -> dict[str, str]:
    """Return the values of the array's task of that number, where `text` tells of several; of the first job else."""
    jobs = [parse_job(part) for part in re.split(r"\n(?=JobId=)", text)]
    return next((job for job in jobs if task and job.get("ArrayTaskId") == task), jobs[0])


def seconds_of(duration: str) -> float:
    """Convert SLURM's [DAYS-]HOURS:MINUTES:SECONDS to seconds; infinity for "UNLIMITED" and the like."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", duration)
    if match is None:
        return float("inf")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

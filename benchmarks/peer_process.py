"""One way of `peers.py` in a process of its own, which does as much work as it is asked for and says what that took.

Used on both sides and in both environments: it imports nothing but the standard library. Time of the processor is that
of the process and of all its descendants, such as workers that decode photos.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Answer = dict[str, float]


class PeerProcess:
    """A process that serves one way. Raises RuntimeError with the end of its output when it fails."""

    def __init__(
        self, python: Path, script: Path, settings: dict[str, Any], variables: dict[str, str], log: Path
    ) -> None:
        self.log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [str(python), str(script), json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": str(settings["threads"])} | variables,
            )

    def ask(self, warm: int, count: int) -> Answer:
        """Have it do `warm` units of work and then `count` timed ones: images, and seconds by the clock (`wall`) and
        of processors (`cpu`).
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{warm} {count}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(last_line(self.log.read_text(errors="replace")))
        return json.loads(line)

    def close(self) -> None:
        """End it; it may have ended by itself."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(work: Iterator[int]) -> None:
    """Do units of work as asked on standard input, until that ends; each of `work` is a unit and says its images."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        warm, count = map(int, line.split())
        for _ in range(warm):
            next(work)
        began, processor = time.perf_counter(), tree_seconds()
        images = sum(next(work) for _ in range(count))
        wall, cpu = time.perf_counter() - began, tree_seconds() - processor
        print(json.dumps({"images": images, "wall": wall, "cpu": cpu}), file=answers, flush=True)


def tree_seconds() -> float:
    """Seconds that processors have spent on this process and its descendants, in steps of 10 ms for the latter."""
    parents: dict[int, tuple[int, float]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):  # it has ended
                continue
            parents[int(folder.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    ticks, found, new = 0.0, {os.getpid()}, {os.getpid()}
    while new:
        new = {pid for pid, (parent, _) in parents.items() if parent in new} - found
        found |= new
        ticks += sum(parents[pid][1] for pid in new)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def last_line(text: str) -> str:
    """The line of an error, without the pages around it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line.split(":")[0]]
    return (errors or lines or ["it ended without a word"])[-1]

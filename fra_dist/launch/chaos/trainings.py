"""A small training in processes of its own, started again with the same command until it is done."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fra_dist.config import Config, dump_config
from fra_dist.errors import LaunchError
from fra_dist.launch.ledger import all_rows, last_logged_step, newest_step
from fra_dist.launch.task import die_with_parent
from fra_dist.train.run_dir.fence import is_locked

PATIENCE = 600.0
"""Seconds that one attempt may take before it counts as hung."""
_TICK = 0.02
_STEP = re.compile(rb"^step (\d+)/", re.MULTILINE)
_TRAINER = [b"-m", b"fra_dist.cli.main", b"pretrain"]


class Missed(LaunchError):
    """The training was over, or too far, before the fault could strike."""


class Interrupted(Exception):
    """Somebody ends the campaign."""


@dataclass
class Attempt:
    process: "subprocess.Popen[bytes]"
    log: Path
    began: float
    reached: int = 0
    """The last step that had a row when it ended."""

    def steps(self) -> list[int]:
        """Those that rank 0 has reported, in order."""
        return [int(number) for number in _STEP.findall(self.log.read_bytes())]

    def last_line(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


class Training:
    """`folder` is new; `folder/run` will be the run folder."""

    def __init__(self, folder: Path, config: Config, ranks: int, stop: threading.Event) -> None:
        self.folder, self.run, self.ranks, self.stop = folder, folder / "run", ranks, stop
        self.steps = config.train.steps or 0
        self.yaml = folder / "config.yaml"
        self.attempts: list[Attempt] = []
        self.others: list[Attempt] = []
        """Starts beside the one that counts."""
        folder.mkdir(parents=True)
        self.configure(config)

    def configure(self, config: Config) -> None:
        """What the next start reads."""
        self.yaml.write_text(dump_config(config.model_copy(update={"output": str(self.run)})))

    def events(self, event: str) -> list[dict[str, Any]]:
        """Rows of the history."""
        return [row for row in all_rows(self.run / "history.jsonl") if row.get("event") == event]

    @property
    def attempt(self) -> Attempt:
        return self.attempts[-1]

    @property
    def complete(self) -> bool:
        return newest_step(self.run) == self.steps

    def start(self, env: Mapping[str, str] | None = None, watched: bool = False) -> None:
        """Begin the next attempt. `watched`: one rank too has a launcher's task above it."""
        self.attempts.append(self.launch(f"attempt-{len(self.attempts) + 1}", env, watched))

    def launch(self, name: str, env: Mapping[str, str] | None = None, watched: bool = False) -> Attempt:
        """The command that a user would type, its output in a file."""
        words = ["fra_dist.cli.main", "pretrain", str(self.yaml)]
        if self.ranks > 1:
            words = ["fra_dist.cli.main", "launch", "torchrun", "--config", str(self.yaml)]
            words.append(f"--ranks-per-node={self.ranks}")
        elif watched:
            words = ["fra_dist.launch.task", "--with-parent", "--", sys.executable, "-m", *words]
        log = self.folder / f"{name}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                env={"OMP_NUM_THREADS": "1", **os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),
            )
        return Attempt(process, log, time.monotonic())

    def reached(self) -> int:
        """The last step of this attempt or, until it has one, of the one before."""
        return max(last_logged_step(self.run), *self.attempt.steps()[-1:], 0)

    def wait_for(self, step: int, offset: float = 0.0) -> None:
        """Until the row of `step` is written and `offset` seconds have passed. Raises Missed when it ends before."""
        self.until(lambda: self.reached() >= step)
        self.sleep(offset)
        self._must_live()

    def until(self, holds: Callable[[], bool]) -> None:
        """Until something holds. Raises Missed when the attempt ends before."""
        while not holds():
            self._pause()
            self._must_live()

    def wait(self, watch: Callable[[], object]) -> int | None:
        """Until the attempt ends; its status, None when it hung and was killed. `watch` is called all the time."""
        end = time.monotonic() + PATIENCE
        while (status := self.attempt.process.poll()) is None and time.monotonic() < end:
            watch()
            self._pause()
        watch()
        self.kill()
        self.attempt.reached = self.reached()
        return status

    def kill(self) -> None:
        """Kill what is left of the attempt, and wait until nobody writes to the run folder."""
        self.kill_attempt(self.attempt)
        end = time.monotonic() + 60
        while is_locked(self.run) and time.monotonic() < end and not any(o.process.poll() is None for o in self.others):
            time.sleep(_TICK)

    def kill_attempt(self, attempt: Attempt) -> None:
        """All of its processes at once."""
        if attempt.process.poll() is None:
            send([*trainers(attempt.process.pid), attempt.process.pid], signal.SIGKILL)
            attempt.process.wait()

    def close(self) -> None:
        for attempt in [*self.attempts, *self.others]:
            self.kill_attempt(attempt)

    def sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._pause(min(left, _TICK))

    def _pause(self, seconds: float = _TICK) -> None:
        if self.stop.wait(seconds):
            raise Interrupted("interrupted")

    def _must_live(self) -> None:
        if self.attempt.process.poll() is not None:
            status, said = self.attempt.process.returncode, self.attempt.last_line()
            if status == 0:
                raise Missed("the training was over first")
            raise LaunchError(f"the training failed by itself with status {status}: {said}")


def steps_lost(attempts: Iterable[Attempt]) -> int:
    """Steps that were done more than once."""
    return count_repeated([_with_last(attempt.steps(), attempt.reached) for attempt in attempts])


def _with_last(steps: list[int], reached: int) -> list[int]:
    """A killed launcher may not have passed on the last lines."""
    return [*steps, reached] if reached > max(steps, default=0) else steps


def count_repeated(sequences: Iterable[list[int]]) -> int:
    """How many steps are repeated where numbers fall back, within an attempt or from one to the next."""
    lost = last = 0
    for sequence in sequences:
        for step in sequence:
            lost += max(0, last - step + 1)
            last = step
    return lost


def trainers(root: int) -> list[int]:
    """Processes of the trainers below a launcher, or the process itself, in the order of ranks."""
    found, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        folder = Path(f"/proc/{process}")
        try:
            if (folder / "cmdline").read_bytes().split(b"\0")[1:4] == _TRAINER:
                found.append((_rank(folder), process))
            for thread in (folder / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except OSError:
            continue
    return [process for _, process in sorted(set(found))]


def send(processes: Iterable[int], number: int) -> None:
    """A signal to each that is still there."""
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def _rank(folder: Path) -> int:
    words = (folder / "environ").read_bytes().split(b"\0")
    return next((int(word[5:]) for word in words if word.startswith(b"RANK=")), 0)

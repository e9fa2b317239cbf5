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
from fra_dist.json_lines import read_rows
from fra_dist.launch.ledger import last_logged_step, newest_step
from fra_dist.launch.task import die_with_parent
from fra_dist.train.run_dir.fence import is_locked

PATIENCE = 600.0
"""Seconds that one attempt may take before it counts as hung."""
_TICK = 0.02
_STEP = re.compile(rb"^step (\d+)/", re.MULTILINE)
_TRAINER = [b"-m", b"fra_dist.cli.main", b"pretrain"]


class Missed(LaunchError):
    """The training was over, or too far on, before the fault could strike."""


class Interrupted(Exception):
    """Raised when the user ends a campaign of faults, by Ctrl-C or a signal."""


@dataclass
class TrainingStart:
    """One start of a training's command: its process, its output, and how far it came."""

    process: "subprocess.Popen[bytes]"
    """The process that was started: the trainer itself, or the launcher of its ranks."""
    log: Path
    """The file that takes its output."""
    began: float
    """When it was started, in monotonic seconds."""
    reached: int = 0
    """The last step that had a row when the attempt ended."""

    def steps(self) -> list[int]:
        """Return the steps that rank 0 has reported, in the order of the reports."""
        return [int(number) for number in _STEP.findall(self.log.read_bytes())]

    def last_line(self) -> str:
        """Return the last line of its output that is not blank; an empty string when there is none."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


class Training:
    """A training in processes of its own: creates `folder`, and uses `folder/run` as the run folder."""

    def __init__(self, folder: Path, config: Config, ranks: int, stop: threading.Event) -> None:
        self.folder, self.run, self.ranks, self.stop = folder, folder / "run", ranks, stop
        self.steps = config.train.steps or 0
        self.yaml = folder / "config.yaml"
        self.attempts: list[TrainingStart] = []
        self.others: list[TrainingStart] = []
        """Starts beside the one that counts."""
        self.env: Mapping[str, str] = {}
        """Environment variables that every start gets in addition."""
        folder.mkdir(parents=True)
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Write the configuration that the next start reads."""
        self.yaml.write_text(dump_config(config.model_copy(update={"output": str(self.run)})))

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the rows of the history whose event is `event`."""
        return [row for row in read_rows(self.run / "history.jsonl") if row.get("event") == event]

    @property
    def attempt(self) -> TrainingStart:
        """The newest start of the training's command."""
        return self.attempts[-1]

    @property
    def complete(self) -> bool:
        """Whether the newest checkpoint is that of the last step."""
        return newest_step(self.run) == self.steps

    def start(self, env: Mapping[str, str] | None = None, watched: bool = False) -> None:
        """Begin the next attempt. `watched`: a single rank too gets a launcher's task above it."""
        self.attempts.append(self.launch(f"attempt-{len(self.attempts) + 1}", env, watched))

    def launch(self, name: str, env: Mapping[str, str] | None = None, watched: bool = False) -> TrainingStart:
        """Start the command that a user would type, with its output in `folder/NAME.log`."""
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
                env={"OMP_NUM_THREADS": "1", **os.environ, **self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),
            )
        return TrainingStart(process, log, time.monotonic())

    def reached(self) -> int:
        """Return the last step of this attempt or, until it has done one, of the attempt before."""
        return max(last_logged_step(self.run), *self.attempt.steps()[-1:], 0)

    def wait_for(self, step: int, offset: float = 0.0) -> None:
        """Wait until the row of `step` is written and `offset` seconds have passed.

        Raises Missed when the training ends first.
        """
        self.until(lambda: self.reached() >= step)
        self.sleep(offset)
        self._must_live()

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds` is true. Raises Missed when the attempt ends first."""
        while not holds():
            self._pause()
            self._must_live()

    def wait(self, watch: Callable[[], object]) -> int | None:
        """Wait until the attempt ends; return its status, or None when it hung and was killed.

        `watch` is called again and again meanwhile.
        """
        end = time.monotonic() + PATIENCE
        while (status := self.attempt.process.poll()) is None and time.monotonic() < end:
            watch()
            self._pause()
        watch()
        self.kill()
        self.attempt.reached = self.reached()
        return status

    def kill(self) -> None:
        """Kill what is left of the attempt, and wait until no process writes to the run folder."""
        self.kill_attempt(self.attempt)
        end = time.monotonic() + 60
        while is_locked(self.run) and time.monotonic() < end and not any(o.process.poll() is None for o in self.others):
            time.sleep(_TICK)

    def kill_attempt(self, attempt: TrainingStart) -> None:
        """Send SIGKILL to all processes of one start of the training, and wait for the one that was started."""
        if attempt.process.poll() is None:
            send([*trainers(attempt.process.pid), attempt.process.pid], signal.SIGKILL)
            attempt.process.wait()

    def close(self) -> None:
        """Kill the processes of all starts that are still running, second starts included."""
        for attempt in [*self.attempts, *self.others]:
            self.kill_attempt(attempt)

    def sleep(self, seconds: float) -> None:
        """Sleep for some seconds. Raises Interrupted when the campaign is being ended."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._pause(min(left, _TICK))

    def _pause(self, seconds: float = _TICK) -> None:
        if self.stop.wait(seconds):
            raise Interrupted("interrupted")

    def _must_live(self) -> None:
        if self.attempt.process.poll() is not None:
            status, message = self.attempt.process.returncode, self.attempt.last_line()
            if status == 0:
                raise Missed("the training was over first")
            raise LaunchError(f"the training failed by itself with status {status}: {message}")


def steps_lost(attempts: Iterable[TrainingStart]) -> int:
    """Count the steps that were done more than once over all attempts."""
    return count_repeated([_with_last(attempt.steps(), attempt.reached) for attempt in attempts])


def _with_last(steps: list[int], reached: int) -> list[int]:
    """Add the last step that was reached: a killed launcher may not have passed on the last lines."""
    return [*steps, reached] if reached > max(steps, default=0) else steps


def count_repeated(sequences: Iterable[list[int]]) -> int:
    """Count the steps that are repeated where numbers fall back, within a sequence or from one sequence to the next."""
    lost = last = 0
    for sequence in sequences:
        for step in sequence:
            lost += max(0, last - step + 1)
            last = step
    return lost


def trainers(root: int) -> list[int]:
    """List the process numbers of the trainers at or below the process `root`, in the order of ranks."""
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
    """Send a signal to each process that still exists."""
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def _rank(folder: Path) -> int:
    words = (folder / "environ").read_bytes().split(b"\0")
    return next((int(word[5:]) for word in words if word.startswith(b"RANK=")), 0)

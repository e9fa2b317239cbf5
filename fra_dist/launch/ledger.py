"""The state of a launch over all its attempts, and the rule for when there is another attempt.

    RUN/launch/state.json     {"launch": "slurm job 812", "state": "running", "attempt": 3, ...}; at the end, the result
    RUN/launch/attempt-0003/  records and logs of that attempt's ranks
    RUN/history.jsonl         a line for each attempt that did not end well, beside those of the trainer

A launcher that is started again under the same name resumes from this state.
"""

import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fra_dist import files, json_lines
from fra_dist.errors import FraError, LaunchError
from fra_dist.exit_status import FAILED
from fra_dist.launch.outcome import Outcome
from fra_dist.train.run_dir.fence import read_attempt

State = Literal["pending", "running", "waiting", "complete", "stopped", "failed"]
_IDLE_STOPS = 20
_KEPT = 20


class RunFailed(LaunchError):
    """The launcher has given the run up after too many failures or a refusal."""

    exit_status = FAILED


@dataclass
class Ledger:
    """The state of a launch over all its attempts, kept in RUN/launch/state.json.

    `failures` and `idle_stops` count since the newest checkpoint, of step `best`, appeared.
    """

    run: Path
    """The run folder."""
    launch: str
    """The name of the launch, such as "slurm job 812"."""
    max_failures: int = 3
    """How many attempts in a row may fail without a newer checkpoint."""
    state: State = "pending"
    """What the launch is doing now, or how it ended."""
    reason: str = ""
    """Why the last attempt did not complete the run; empty when there is nothing to say."""
    attempt: int = 0
    """The number of the newest attempt, from 1; 0 before the first."""
    world: int = 0
    """The number of ranks of the newest attempt."""
    best: int = -1
    """The step of the newest checkpoint seen so far; -1 when there is none."""
    failures: int = 0
    """Failed attempts since the newest checkpoint appeared."""
    idle_stops: int = 0
    """Attempts that were stopped without a newer checkpoint since the newest one appeared."""
    restarts: int = 0
    """How many attempts were followed by another one."""
    log: str = ""
    """The file that holds the launcher's output; empty when it is not known."""

    @classmethod
    def open(cls, run: Path, launch: str, max_failures: int = 3) -> "Ledger":
        """Read what RUN/launch/state.json says of this launch, or begin a new ledger.

        Raises DiskError or AccessError when that file cannot be read.
        """
        known = {k: v for k, v in read_state(run).items() if k in cls.__dataclass_fields__ and k != "run"}
        if known.get("launch") == launch:
            return cls(**{**known, "run": run, "max_failures": max_failures})
        return cls(run, launch, max_failures, best=newest_step(run))

    def save(self) -> None:
        """Write RUN/launch/state.json. A disk that refuses is reported on standard error; the launch continues."""
        row = {**asdict(self), "run": str(self.run), "time": round(time.time(), 1)}
        path = self.run / "launch" / "state.json"
        try:
            files.make_folder(path.parent)
            files.write_object(path, row, indent=1)
        except OSError as error:  # the launch itself continues
            print(f"warning: cannot write {path}: {error.strerror}", file=sys.stderr, flush=True)

    def begin_attempt(self, world: int) -> Path:
        """Number the next attempt of `world` ranks, make its folder and return it; old folders are deleted.

        Raises DiskError or AccessError.
        """
        self.attempt = max(self.attempt, read_attempt(self.run).get("attempt", 0)) + 1
        self.state, self.world = "running", world
        folder = self.run / "launch" / f"attempt-{self.attempt:04d}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            files.make_folder(folder)
        except OSError as error:
            raise files.failure(error, f"cannot make {folder}") from None
        for old in files.paths_in(self.run / "launch", "attempt-*")[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        self.save()
        return folder

    def settle(self, outcome: Outcome, ask_again: bool = True) -> bool:
        """Record how the attempt ended; True when there should be another.

        `ask_again` is False when the user wants the run to stop. Failures count only while no newer checkpoint appears.
        """
        step = self._newest_step()
        progress = step > self.best
        self.best = max(self.best, step)
        if progress:
            self.failures = self.idle_stops = 0
        self.reason = outcome.cause
        match outcome.kind:
            case "complete":
                self.state = "complete"
            case "stopped":
                self.idle_stops += not progress
                self.state = "waiting" if ask_again else "stopped"
            case "refused":
                self.state = "failed"
            case "failed":
                self.failures += not progress
                self.state = "waiting" if ask_again else "stopped"
        if self.failures > self.max_failures:
            self.state = "failed"
            self.reason = f"{self.failures} failures without a newer checkpoint; the last: {outcome.cause}"
        if self.idle_stops > _IDLE_STOPS:
            self.state = "failed"
            self.reason = f"stopped {self.idle_stops} times before the first new step: is the time limit too short?"
        again = self.state == "waiting"
        self.restarts += again
        if outcome.kind != "complete":
            lost = max(0, last_logged_step(self.run) - max(step, 0))
            event = "restart" if again else self.state
            note(self.run, f"launch {event}", attempt=self.attempt, cause=self.reason or outcome.kind, steps_lost=lost)
        self.save()
        return again

    def _newest_step(self) -> int:
        """Return the newest checkpoint's step as far as the disk tells, and the best so far while it does not."""
        try:
            return newest_step(self.run)
        except FraError as error:
            print(f"warning: {error}", file=sys.stderr, flush=True)
            return self.best

    def delay(self) -> float:
        """Return the seconds to wait before the next attempt: 0 after progress, then 1, 2, 4, ... up to 30."""
        return 0.0 if self.failures == 0 else min(2.0 ** (self.failures - 1), 30.0)


def read_state(run: Path) -> dict[str, Any]:
    """Read the last state that a launcher wrote; an empty dictionary when there is none, or none that is whole.

    Raises DiskError or AccessError when the file cannot be read.
    """
    return files.read_object(run / "launch" / "state.json") or {}


def newest_step(run: Path) -> int:
    """Return the step of the newest finished checkpoint; -1 when there is none. Raises DiskError or AccessError."""
    names = [name.removeprefix("step-") for name in files.names_in(run / "checkpoints", "step-*")]
    return max((int(name) for name in names if name.isdecimal()), default=-1)


def last_logged_step(run: Path) -> int:
    """Return the last step in metrics.jsonl; 0 when there is none or the file cannot be read."""
    try:
        steps = (json_lines.step_of_row(row) for _, row in json_lines.from_end(run / "metrics.jsonl"))
        return next((step for step in steps if step is not None), 0)
    except FraError:
        return 0  # only a number in a report


def last_row(path: Path, having: str = "") -> dict[str, Any]:
    """Return the last row of a file of JSON lines that has the entry `having`, or the last row of all without it.

    Empty when there is none. Reads from the end, so the file may be long and still grow.
    """
    for _, row in json_lines.from_end(path):
        if not having or having in row:
            return row
    return {}


def note(run: Path, event: str, **facts: Any) -> None:
    """Add a line to RUN/history.jsonl in one write, so that it does not mix with the trainer's lines.

    What the disk does not take goes to standard error instead: the launch does not end because of it.
    """
    row = {"time": round(time.time(), 1), "event": event, **facts}
    try:
        files.make_folder(run)
        json_lines.append(run / "history.jsonl", row)
    except OSError as error:
        print(f"warning: cannot write {run / 'history.jsonl'}: {error.strerror}: {row}", file=sys.stderr, flush=True)

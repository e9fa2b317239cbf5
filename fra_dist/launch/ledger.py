"""The state of a launch over all its attempts, and the rule for going on.

RUN/launch/state.json     {"launch": "slurm job 812", "state": "running", "attempt": 3, ...}; at the end, the result
RUN/launch/attempt-0003/  records and logs of that attempt's ranks
RUN/history.jsonl         a line for each attempt that did not end well, beside those of the trainer
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
    """The launcher has given the run up."""

    exit_status = FAILED


@dataclass
class Ledger:
    """`failures` and `idle_stops` count since the newest checkpoint, step `best`, appeared."""

    run: Path
    launch: str
    max_failures: int = 3
    state: State = "pending"
    reason: str = ""
    attempt: int = 0
    world: int = 0
    best: int = -1
    failures: int = 0
    idle_stops: int = 0
    restarts: int = 0
    log: str = ""

    @classmethod
    def open(cls, run: Path, launch: str, max_failures: int = 3) -> "Ledger":
        """Go on with what RUN/launch/state.json says of this launch, or begin."""
        known = {k: v for k, v in read_state(run).items() if k in cls.__dataclass_fields__ and k != "run"}
        if known.get("launch") == launch:
            return cls(**{**known, "run": run, "max_failures": max_failures})
        return cls(run, launch, max_failures, best=newest_step(run))

    def save(self) -> None:
        row = {**asdict(self), "run": str(self.run), "time": round(time.time(), 1)}
        path = self.run / "launch" / "state.json"
        try:
            files.make_folder(path.parent)
            files.write_object(path, row, indent=1)
        except OSError as error:  # the launch itself goes on
            print(f"warning: cannot write {path}: {error.strerror}", file=sys.stderr, flush=True)

    def begin_attempt(self, world: int) -> Path:
        """Number the next attempt and make its folder. Raises DiskError or AccessError."""
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
        """Take note of how the attempt ended; True when there should be another.

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
        """As far as the disk tells; the best so far while it does not."""
        try:
            return newest_step(self.run)
        except FraError as error:
            print(f"warning: {error}", file=sys.stderr, flush=True)
            return self.best

    def delay(self) -> float:
        """Seconds to wait before the next attempt: none after progress, then 1, 2, 4, ... 30."""
        return 0.0 if self.failures == 0 else min(2.0 ** (self.failures - 1), 30.0)


def read_state(run: Path) -> dict[str, Any]:
    """The last state that a launcher wrote; empty when there is none, or none that is whole.

    Raises DiskError or AccessError when that cannot be told.
    """
    return files.read_object(run / "launch" / "state.json") or {}


def newest_step(run: Path) -> int:
    """The step of the newest finished checkpoint; -1 when there is none. Raises DiskError or AccessError."""
    names = [name.removeprefix("step-") for name in files.names_in(run / "checkpoints", "step-*")]
    return max((int(name) for name in names if name.isdecimal()), default=-1)


def last_logged_step(run: Path) -> int:
    """The last step in metrics.jsonl; 0 when there is none."""
    try:
        steps = (json_lines.step_of_row(row) for _, row in json_lines.from_end(run / "metrics.jsonl"))
        return next((step for step in steps if step is not None), 0)
    except FraError:
        return 0  # only a number in a report


def last_row(path: Path, having: str = "") -> dict[str, Any]:
    """The last row of a JSON lines file (one with the entry `having`), which may be long and still grow."""
    for _, row in json_lines.from_end(path):
        if not having or having in row:
            return row
    return {}


def all_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON lines file; none when it is not there, and damaged lines are left out."""
    return json_lines.read_all(path)


def note(run: Path, event: str, **facts: Any) -> None:
    """Add a line to RUN/history.jsonl; one write, so that it does not mix with the trainer's lines.

    What the disk does not take goes to standard error instead: a launch does not end for it.
    """
    row = {"time": round(time.time(), 1), "event": event, **facts}
    try:
        files.make_folder(run)
        files.patiently(lambda: json_lines.append(run / "history.jsonl", json_lines.encode(row)))
    except OSError as error:
        print(f"warning: cannot write {run / 'history.jsonl'}: {error.strerror}: {row}", file=sys.stderr, flush=True)

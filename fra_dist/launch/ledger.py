"""The state of a launch over all its attempts, and the rule for going on.

RUN/launch/state.json     {"launch": "slurm job 812", "state": "running", "attempt": 3, ...}; at the end, the result
RUN/launch/attempt-0003/  records and logs of that attempt's ranks
RUN/history.jsonl         a line for each attempt that did not end well, beside those of the trainer
"""

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fra_dist.errors import LaunchError
from fra_dist.launch.outcome import Outcome
from fra_dist.train.run_dir.fence import read_attempt

State = Literal["pending", "running", "waiting", "complete", "stopped", "failed"]
_IDLE_STOPS = 20
_KEPT = 20


class RunFailed(LaunchError):
    """The launcher has given the run up."""

    exit_status = 1


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
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".state-{os.getpid()}.json")
        partial.write_text(json.dumps(row, indent=1))
        partial.replace(path)

    def begin_attempt(self, world: int) -> Path:
        """Number the next attempt and make its folder."""
        self.attempt = max(self.attempt, read_attempt(self.run).get("attempt", 0)) + 1
        self.state, self.world = "running", world
        folder = self.run / "launch" / f"attempt-{self.attempt:04d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for old in sorted(self.run.glob("launch/attempt-*"))[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        self.save()
        return folder

    def settle(self, outcome: Outcome, ask_again: bool = True) -> bool:
        """Take note of how the attempt ended; True when there should be another.

        `ask_again` is False when the user wants the run to stop. Failures count only while no newer checkpoint appears.
        """
        step = newest_step(self.run)
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

    def delay(self) -> float:
        """Seconds to wait before the next attempt: none after progress, then 1, 2, 4, ... 30."""
        return 0.0 if self.failures == 0 else min(2.0 ** (self.failures - 1), 30.0)


def read_state(run: Path) -> dict[str, Any]:
    """The last state that a launcher wrote; empty when there is none."""
    try:
        value = json.loads((run / "launch" / "state.json").read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def newest_step(run: Path) -> int:
    """The step of the newest finished checkpoint; -1 when there is none."""
    names = [path.name.removeprefix("step-") for path in run.glob("checkpoints/step-*")]
    return max((int(name) for name in names if name.isdigit()), default=-1)


def last_logged_step(run: Path) -> int:
    """The last step in metrics.jsonl; 0 when there is none."""
    return int(last_row(run / "metrics.jsonl").get("step", 0))


def last_row(path: Path, having: str = "") -> dict[str, Any]:
    """The last whole line of a JSON lines file (one with the entry `having`), which may be long and still grow."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - 100_000))
            lines = stream.read().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and (not having or having in value):
            return value
    return {}


def all_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON lines file; none when it is not there, and one cut short by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def note(run: Path, event: str, **facts: Any) -> None:
    """Add a line to RUN/history.jsonl; one write, so that it does not mix with the trainer's lines."""
    run.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": round(time.time(), 1), "event": event, **facts}) + "\n"
    handle = os.open(run / "history.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)

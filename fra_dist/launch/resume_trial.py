"""Two real runs of one configuration: one is left alone, one is stopped at random steps by random means and resumed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fra_dist.config import Config, dump_config
from fra_dist.errors import LaunchError
from fra_dist.exit_status import STOPPED
from fra_dist.files import paths_in
from fra_dist.json_lines import read_rows
from fra_dist.launch.ledger import last_logged_step
from fra_dist.launch.outcome import attempt_outcome
from fra_dist.launch.task import die_with_parent
from fra_dist.launch.trainer_command import absolute
from fra_dist.train.run_dir.fence import is_locked

MEANS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2)
"""The signals by which runs are stopped."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class PlannedStop:
    """One stop of a run: a signal, `delay` seconds after the row of `step` was written."""

    step: int
    """The step after whose row the signal is sent."""
    means: signal.Signals
    """The signal that stops the run."""
    delay: float = 0.0
    """Seconds between the row and the signal."""


def draw_stops(count: int, steps: int, seed: int) -> list[PlannedStop]:
    """Draw `count` stops at different steps; every signal is used before one comes again.

    The last quarter of the steps is left out: with short steps the run would be over first. Raises LaunchError when
    there are not enough steps.
    """
    candidates = range(1, max(2, steps * 3 // 4))
    if count > len(candidates):
        raise LaunchError(f"{steps} steps have places for {len(candidates)} stops, not {count}: give more --steps")
    draw = random.Random(seed)
    means = [one for _ in range(0, count, len(MEANS)) for one in draw.sample(MEANS, len(MEANS))]
    chosen = sorted(draw.sample(candidates, count))
    return [PlannedStop(step, one, draw.uniform(0, 0.05)) for step, one in zip(chosen, means, strict=False)]


def resume_trial_config(config: Config, steps: int) -> Config:
    """Return the configuration for a trial: at most `steps` steps, rows and samples of each, many checkpoints."""
    steps = min(config.train.steps or steps, steps)
    warmup = config.optim.warmup_steps
    warmup = steps // 4 if warmup is None or warmup >= steps else warmup
    log = {"every_steps": 1, "heatmaps_every": 0, "tensorboard": False, "samples": True}
    save = {"every_steps": max(1, steps // 8), "keep_every": 0, "keep_best": None}
    changed = {
        "optim": config.optim.model_copy(update={"warmup_steps": warmup}),
        "train": config.train.model_copy(update={"steps": steps}),
        "checkpoint": config.checkpoint.model_copy(update=save),
        "log": config.log.model_copy(update=log),
    }
    return absolute(config).model_copy(update=changed)


class TrialRun:
    """One run in the folder `folder/NAME`, trained by processes of its own."""

    def __init__(self, folder: Path, name: str, config: Config, say: Say) -> None:
        self.run, self.name, self.say = folder / name, name, say
        self.steps = config.train.steps or 0
        self.yaml, self.log = folder / f"{name}.yaml", folder / f"{name}.log"
        folder.mkdir(parents=True, exist_ok=True)
        self.yaml.write_text(dump_config(config.model_copy(update={"output": str(self.run)})))

    def complete(self, world: int = 1) -> None:
        """Train to the end with `world` ranks. Raises LaunchError when the run fails."""
        began = time.monotonic()
        before = self.reached()
        status = self._start(world).wait()
        if status != 0:
            raise LaunchError(f"the {self.name} run ended with status {status}: {self._cause(world)}")
        after = f" after step {before}" if before else ""
        self.say(f"{self.name}: complete{after}, {_ranks(world)}, {time.monotonic() - began:.1f} s")

    def stop(self, stop: PlannedStop, world: int = 1) -> bool:
        """Train with `world` ranks until the stop; False when the run was over before it.

        Raises LaunchError when the run fails by itself.
        """
        goal = max(stop.step, self.reached() + 1)
        process = self._start(world)
        try:
            while self.reached() < goal and process.poll() is None:
                time.sleep(0.01)
            time.sleep(stop.delay)
            if process.poll() is None:
                process.send_signal(stop.means)
            status = process.wait()
        finally:
            process.kill()
        if status not in (0, STOPPED, -stop.means, 128 + stop.means):
            raise LaunchError(f"the {self.name} run ended with status {status}: {self._cause(world)}")
        self._until_unlocked()
        how = f"{stop.means.name} at step {self.reached()}" if status else "complete before the next stop"
        self.say(f"{self.name}: {how}, {_ranks(world)}, status {status}")
        return status != 0

    def reached(self) -> int:
        """Return the last step that a metrics row was written for."""
        return last_logged_step(self.run)

    def resumed_from(self) -> int:
        """Return the step at which the last attempt resumed; 0 when none has."""
        rows = [row for row in read_rows(self.run / "history.jsonl") if row["event"] == "resume"]
        return int(rows[-1]["step"]) if rows else 0

    def _start(self, world: int) -> "subprocess.Popen[bytes]":
        words = ["pretrain", str(self.yaml)]
        if world > 1:
            words = ["launch", "torchrun", "--config", str(self.yaml), f"--ranks-per-node={world}", "--max-restarts=0"]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "fra_dist.cli.main", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(os.getpid()),
            )

    def _until_unlocked(self, patience: float = 60.0) -> None:
        """Wait until no process writes to the run: ranks whose launcher was killed die a moment later."""
        end = time.monotonic() + patience
        while is_locked(self.run):
            if time.monotonic() > end:
                raise LaunchError(f"processes of {self.run} are still there {patience:.0f} s after it was stopped")
            time.sleep(0.1)

    def _cause(self, world: int) -> str:
        """Return what the rank that failed said last."""
        records = sorted(paths_in(self.run / "launch", "torchrun-*"), key=lambda path: path.stat().st_mtime)
        if world > 1 and records:
            return attempt_outcome(records[-1], world).cause
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else "it said nothing"


def _ranks(world: int) -> str:
    return f"{world} rank{'s' if world > 1 else ''}"

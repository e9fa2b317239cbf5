"""What is done about steps that went wrong: a loss or gradient that is not finite, or a loss that jumps.

A step that is not finite has been left out on the device already (`engine.Update`), so looking can wait for the next
log step or checkpoint; nothing is read in between. Every decision is a line of history.jsonl and a folder
`RUN/guard/step-N/` that names the samples and how to do the step again.
"""

import json
import math
import statistics
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from fra_dist.config import GuardConfig
from fra_dist.errors import DataError, TrainingError
from fra_dist.train.resume import go_back

if TYPE_CHECKING:
    from fra_dist.train.trainer import Run

FOLDER = "guard"
PASSED_OVER = "passed_over.json"
_MIN_ROWS = 16
_NAMED = 1024


class Fault(NamedTuple):
    """A step, counted from 0, and what was wrong with it."""

    step: int
    kind: str
    """`nonfinite` or `spike`."""
    reason: str


class Guard:
    """One a run, on every rank; all come to the same decisions, from numbers that are the same on all."""

    def __init__(self, settings: GuardConfig, folder: Path, losses: Sequence[float]) -> None:
        """losses: totals of the log steps before this attempt, oldest first."""
        self.settings, self.folder = settings, folder
        self.losses = deque(losses, settings.spike_window)
        self.passed_over = read_passed_over(folder)
        self.waiting: list[tuple[int, Tensor, Tensor]] = []
        self.in_a_row = 0
        self.tried: set[int] = set()

    def note(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Keep what a step gave, on the device."""
        self.waiting.append((step, terms["total"].detach(), terms["applied"]))

    def look(self, run: "Run") -> bool:
        """Judge the steps since the last look; True when the run went back to a checkpoint.

        Raises TrainingError when the configuration says so, or after `guard.patience` steps in a row that are not
        finite.
        """
        steps = [step for step, _, _ in self.waiting]
        totals = run.ctx.cross.mean(torch.stack([total.double() for _, total, _ in self.waiting])).tolist()
        applied = torch.stack([fine.double() for _, _, fine in self.waiting]).tolist()
        self.waiting.clear()
        faults = list(self._faults(steps, totals, applied))
        if run.completed % run.config.log.every_steps == 0 and math.isfinite(totals[-1]):
            self.losses.append(totals[-1])
        return any(self._act(run, fault) for fault in faults)  # the steps after a return will be done again

    def _faults(self, steps: list[int], totals: list[float], applied: list[float]) -> Iterator[Fault]:
        for step, total, fine in zip(steps, totals, applied, strict=True):
            self.in_a_row = 0 if fine else self.in_a_row + 1
            if not fine:
                what = "the loss" if not math.isfinite(total) else "a gradient"
                yield Fault(step, "nonfinite", f"{what} is not finite")
            elif (score := self._score(total)) > self.settings.spike_score:
                yield Fault(step, "spike", f"the loss is {total:.4g}, {score:.0f} robust deviations above its median")

    def _score(self, total: float) -> float:
        """(x − median) / max(1.4826 MAD, 0.1 % of the median), over the loss at the last log steps."""
        if len(self.losses) < _MIN_ROWS:
            return 0.0
        median = statistics.median(self.losses)
        spread = 1.4826 * statistics.median(abs(loss - median) for loss in self.losses)
        return (total - median) / max(spread, 1e-3 * abs(median), 1e-12)

    def _act(self, run: "Run", fault: Fault) -> bool:
        policy = self.settings.nonfinite if fault.kind == "nonfinite" else self.settings.spike
        kept = self._describe(run, fault)
        if policy == "stop" or self.in_a_row >= self.settings.patience:
            run.folder.note("guard", step=fault.step + 1, fault=fault.kind, action="stop", reason=fault.reason)
            raise TrainingError(self._diagnosis(fault, policy, kept))
        back = None
        if policy in ("retry", "rollback"):
            again = policy == "retry" and fault.step not in self.tried
            self.tried.add(fault.step)
            back = go_back(run, fault.step)
            if back is not None and not again:
                self._pass_over(run, fault.step)
        left_out = "skip" if fault.kind == "nonfinite" else "note"
        action = left_out if back is None else policy if again else "rollback"
        facts = {} if back is None else {"to": back}
        run.folder.note("guard", step=fault.step + 1, fault=fault.kind, action=action, reason=fault.reason, **facts)
        if back is None and policy in ("retry", "rollback"):
            run.folder.note("notice", text=f"step {fault.step + 1}: there is no checkpoint to go back to yet")
        return back is not None

    def _pass_over(self, run: "Run", step: int) -> None:
        self.passed_over.add(step)
        if run.ctx.is_main:
            path = self.folder / FOLDER / PASSED_OVER
            path.parent.mkdir(exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(sorted(self.passed_over)))
            partial.replace(path)

    def _describe(self, run: "Run", fault: Fault) -> Path:
        """The folder of a fault: what was read at that step, and the command that does the step again."""
        path = self.folder / FOLDER / f"step-{fault.step + 1:08d}"
        if run.ctx.is_main:
            path.mkdir(parents=True, exist_ok=True)
            planned = run.loader.plan.batch(fault.step)
            ids = planned.ids.tolist()
            named = [{"id": i, **_name(run, i)} for i in ids[:_NAMED]]
            facts = {"step": fault.step + 1, "fault": fault.kind, "reason": fault.reason, "world": run.ctx.world}
            text = json.dumps({**facts, "epoch": int(planned.epochs[0]), "samples": ids, "named": named}, indent=1)
            (path / "batch.json").write_text(text)
            (path / "reproduce.sh").write_text(
                "#!/bin/sh\n# Do the steps from the checkpoint before this one again, and say where it goes wrong.\n"
                f"fra-dist replay {run.folder.path} {fault.step + 1}\n"
            )
        return path

    def _diagnosis(self, fault: Fault, policy: str, kept: Path) -> str:
        count = self.in_a_row
        what = f"{count} steps in a row were not finite" if fault.kind == "nonfinite" and count > 1 else fault.reason
        why = f"guard.{fault.kind}=stop" if policy == "stop" else f"guard.patience={self.settings.patience}"
        return (
            f"stopped at step {fault.step + 1} ({why}): {what}. Lower optim.lr, lengthen the warm-up, set optim.clip "
            f"or train.precision=fp32; {kept} names the samples and how to do the step again"
        )


def read_passed_over(folder: Path) -> set[int]:
    """Steps, counted from 0, that a run leaves out."""
    try:
        return {int(step) for step in json.loads((folder / FOLDER / PASSED_OVER).read_text())}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, TypeError):
        raise TrainingError(
            f"{folder / FOLDER / PASSED_OVER} is damaged: it lists the steps that the run leaves out; "
            "write them as [12, 40], or delete it to leave out none"
        ) from None


def _name(run: "Run", sample: int) -> dict[str, str]:
    try:
        shard, key = run.manifest.where(sample)
    except DataError as error:
        return {"unreadable": str(error)}
    return {"shard": shard, "key": key}

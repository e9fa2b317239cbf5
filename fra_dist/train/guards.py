"""The guard, which judges steps that went wrong: a loss or gradient that is not finite, or a loss that jumps.

A step that is not finite has been left out on the device already (`engines.protocol.Update`), so judging it can wait
for the next log step or checkpoint; nothing is read from the device in between. The guard judges and changes nothing
but its own record: it returns verdicts, and the loop in `trainer` acts on them.

Verdicts repeat: they depend on the steps in their order, never on how many of them one look covers. What else they
depend on (the steps in a row that were not finite, the losses of the last log steps) is saved with each checkpoint and
restored when a run resumes from it or returns to it, so that steps which were undone no longer count.
"""

import math
import statistics
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fra_dist.config import GuardConfig
from fra_dist.distributed import CrossRank

MEMORY = "guard"
"""The key of the guard's record among the small values that a checkpoint holds."""
_MIN_ROWS = 16

Fault = Literal["nonfinite", "spike"]
Action = Literal["skip", "note", "retry", "rollback", "stop"]


@dataclass(frozen=True)
class Verdict:
    """A step that went wrong, and what is to be done about it.

    Of the actions, `skip` (the update was left out already) and `note` need nothing; `retry` and `rollback` ask to
    return to the checkpoint before the step, and `rollback` also to leave the step out from then on; `stop` ends the
    run.
    """

    step: int
    """The step that went wrong, counted from 0."""
    fault: Fault
    """"nonfinite": the loss or a gradient was not finite; "spike": the loss jumped."""
    action: Action
    """What is to be done: "skip", "note", "retry", "rollback" or "stop"."""
    reason: str
    """What was wrong, in words."""
    setting: str
    """The setting that asks for the action, as `guard.KEY=VALUE`."""

    @property
    def without_checkpoint(self) -> Action:
        """The action to take when there is no checkpoint to return to."""
        if self.action not in ("retry", "rollback"):
            return self.action
        return "skip" if self.fault == "nonfinite" else "note"

    def diagnosis(self, record: Path) -> str:
        """Describe in one line why the run ends, for its user; `record` is the folder that describes the step."""
        return (
            f"stopped at step {self.step + 1} ({self.setting}): {self.reason}. Lower optim.lr, lengthen the warm-up, "
            f"set optim.clip or train.precision=fp32; {record} names the samples and how to do the step again"
        )


class _Seen(NamedTuple):
    """A step that awaits judgement, with its loss and whether its update was applied; None when it was left out."""

    step: int
    terms: tuple[Tensor, Tensor] | None


class Guard:
    """Judges the steps of a run. There is one on every rank; all reach the same verdicts from the same numbers.

    Args:
        settings: the policies and their limits.
        log_every: steps between the log steps, whose losses a jump is measured against.
        passed_over: steps (from 0) that the run leaves out, with the fault for which it does (empty: by the user).
        retried: steps (from 0) that the run went back for once, to do them again.
    """

    def __init__(
        self,
        settings: GuardConfig,
        log_every: int,
        passed_over: Mapping[int, str] | None = None,
        retried: Sequence[int] = (),
    ) -> None:
        self.settings, self.log_every = settings, log_every
        self.passed_over, self.retried = dict(passed_over or {}), set(retried)
        self.losses: deque[float] = deque(maxlen=settings.spike_window)
        self.in_a_row = 0
        """How many steps in a row, up to the last one judged, were not finite or left out for that reason."""
        self.jumps_left_out = 0
        """How many steps in a row, up to the last one judged, were left out because their loss had jumped."""
        self._waiting: list[_Seen] = []

    def note(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Keep the loss of a step, and whether its update was applied, on the device until the next judgement."""
        self._waiting.append(_Seen(step, (terms["total"].detach(), terms["step/applied"])))

    def note_left_out(self, step: int) -> None:
        """Record that the run left out step `step` (from 0), so that the next judgement counts it."""
        self._waiting.append(_Seen(step, None))

    def judge(self, cross: CrossRank) -> list[Verdict]:
        """Return verdicts on the steps since the last judgement, in order; after one that stops the run there are none.

        A collective over the ranks, and a host synchronisation: it reads the losses from the device.
        """
        seen, self._waiting = self._waiting, []
        values = _fetch([one.terms for one in seen if one.terms is not None], cross)
        verdicts: list[Verdict] = []
        for step, terms in seen:
            if terms is None:
                self._count_left_out(step)
            elif (verdict := self._judge_step(step, *next(values))) is not None:
                verdicts.append(verdict)
                if verdict.action == "stop":
                    break
        return verdicts

    def state(self) -> dict[str, Any]:
        """Return what the next verdicts depend on, as JSON values, for the checkpoint of the last judged step."""
        return {"in_a_row": self.in_a_row, "jumps_left_out": self.jumps_left_out, "losses": list(self.losses)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave; steps that were noted since are forgotten."""
        self._waiting.clear()
        self.in_a_row, self.jumps_left_out = int(state["in_a_row"]), int(state["jumps_left_out"])
        self.losses = deque(map(float, state["losses"]), self.settings.spike_window)

    def _count_left_out(self, step: int) -> None:
        """Count a step that is left out as what it was left out for.

        Otherwise a run in which every step fails would go back and leave out one after the other, to its end.
        """
        fault = self.passed_over.get(step)
        self.in_a_row += fault == "nonfinite"
        self.jumps_left_out += fault == "spike"

    def _judge_step(self, step: int, total: float, fine: bool) -> Verdict | None:
        self.in_a_row = 0 if fine else self.in_a_row + 1
        verdict = self._spike(step, total) if fine else self._nonfinite(step, total)
        self.jumps_left_out = 0  # after `_spike`, which reads it: this step was not left out
        if (step + 1) % self.log_every == 0 and math.isfinite(total):
            self.losses.append(total)
        return verdict

    def _nonfinite(self, step: int, total: float) -> Verdict:
        policy, patience = self.settings.nonfinite, self.settings.patience
        reason = f"{'a gradient' if math.isfinite(total) else 'the loss'} is not finite"
        if policy != "stop" and self.in_a_row >= patience:
            if self.in_a_row > 1:
                reason = f"{self.in_a_row} steps in a row were not finite"
            return Verdict(step, "nonfinite", "stop", reason, f"guard.patience={patience}")
        # a step is done again once: if it fails again, the cause is not passing, and it is left out
        action: Action = "rollback" if policy == "retry" and step in self.retried else policy
        return Verdict(step, "nonfinite", action, reason, f"guard.nonfinite={policy}")

    def _spike(self, step: int, total: float) -> Verdict | None:
        score = self._score(total)
        if score <= self.settings.spike_score:
            return None
        policy, patience = self.settings.spike, self.settings.patience
        reason = f"the loss is {total:.4g}, {score:.0f} robust deviations above its median"
        # 0 < ...: with guard.patience=1 too, a first jump is rolled back and not the end of the run
        if policy == "rollback" and 0 < self.jumps_left_out >= patience - 1:
            reason += f", and the {self.jumps_left_out} steps before it were left out for that"
            return Verdict(step, "spike", "stop", reason, f"guard.patience={patience}")
        return Verdict(step, "spike", policy, reason, f"guard.spike={policy}")

    def _score(self, total: float) -> float:
        """(x − median) / max(1.4826 MAD, 0.1 % of the median) of a loss, over the losses at the last log steps."""
        if len(self.losses) < _MIN_ROWS:
            return 0.0
        median = statistics.median(self.losses)
        spread = 1.4826 * statistics.median(abs(loss - median) for loss in self.losses)
        return (total - median) / max(spread, 1e-3 * abs(median), 1e-12)


def _fetch(terms: Sequence[tuple[Tensor, Tensor]], cross: CrossRank) -> Iterator[tuple[float, bool]]:
    """(mean loss over the ranks, whether the update was applied) for each step. One collective, none without steps."""
    if not terms:
        return iter(())
    totals = cross.mean(torch.stack([total.double() for total, _ in terms])).tolist()
    applied = torch.stack([fine for _, fine in terms]).bool().tolist()
    return iter(zip(totals, applied, strict=True))

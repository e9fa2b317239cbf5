"""Where a rank is in its work, and how long each part has taken: marked by the loop, read by other threads."""

import time
from collections import defaultdict, deque
from collections.abc import Callable
from statistics import median
from typing import NamedTuple


class StepPhase(NamedTuple):
    """The part of a training step that a rank is in, as its heartbeats report it to the watchdogs."""

    order: int
    """How many parts the rank has entered.

    Ranks do the same in the same order, so the lowest one is furthest behind.
    """
    step: int
    """The step that the rank is at, from 1."""
    name: str
    """The name of the part: "data", "step", "agree", "guard" or that of a hook."""
    patience: float
    """Seconds that this part may take, if that is more than the general time-out."""


class Phases:
    """Records where the loop is: it calls `enter` at each part of a step and `end_step` at its end.

    Other threads read `place`. `clock` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = self._step_since = clock()
        self._patient = 0.0
        self.place = StepPhase(0, 0, "start", 0.0)
        self.seconds: dict[str, float] = defaultdict(float)
        """Total seconds of each part so far: {name: seconds}."""
        self.recent: deque[float] = deque(maxlen=50)
        """Seconds of the last steps, without parts that have a patience of their own."""
        self.steps = 0

    def enter(self, name: str, step: int | None = None, patience: float = 0.0) -> None:
        """Begin a part, which ends the one before. `step` counts from 1; None: the same step as before.

        `patience` is how many seconds the part may take, if more than the general time-out.
        """
        now, before = self._clock(), self.place
        took = now - self._since
        self.seconds[before.name] += took
        if before.patience:
            self._patient += took
        self._since = now
        self.place = StepPhase(before.order + 1, before.step if step is None else step, name, patience)

    def end_step(self) -> None:
        """End a step. Call it right after `enter` of the part that the next step begins with."""
        self.recent.append(self._since - self._step_since - self._patient)
        self._step_since, self._patient = self._since, 0.0
        self.steps += 1

    def usual_step(self) -> tuple[float, float]:
        """Return (median, longest) of the recent steps in seconds; zeros before the first step."""
        recent = list(self.recent)
        return (median(recent), max(recent)) if recent else (0.0, 0.0)

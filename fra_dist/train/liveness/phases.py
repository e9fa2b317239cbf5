"""Where a rank is in its work, and how long it has taken for what: marked by the loop, read by others."""

import time
from collections import defaultdict, deque
from collections.abc import Callable
from statistics import median
from typing import NamedTuple


class Place(NamedTuple):
    """`order` counts the marks of an attempt: ranks do the same in the same order, so the one behind has the least."""

    order: int
    step: int
    name: str
    patience: float
    """Seconds that this part may take, if more than others."""


class Phases:
    """The loop calls `enter` at each part of a step and `end_step` at its end; other threads read `place`."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = self._step_since = clock()
        self._patient = 0.0
        self.place = Place(0, 0, "start", 0.0)
        self.seconds: dict[str, float] = defaultdict(float)
        """Total time of each part so far."""
        self.recent: deque[float] = deque(maxlen=50)
        """Seconds of the last steps, without parts that may be slow."""
        self.steps = 0

    def enter(self, name: str, step: int | None = None, patience: float = 0.0) -> None:
        """The part that was before ends here. `step` counts from 1; None: as before."""
        now, before = self._clock(), self.place
        took = now - self._since
        self.seconds[before.name] += took
        if before.patience:
            self._patient += took
        self._since = now
        self.place = Place(before.order + 1, before.step if step is None else step, name, patience)

    def end_step(self) -> None:
        """Called right after the mark of the part that the next step begins with."""
        self.recent.append(self._since - self._step_since - self._patient)
        self._step_since, self._patient = self._since, 0.0
        self.steps += 1

    def usual_step(self) -> tuple[float, float]:
        """(median, longest) of the recent steps in seconds; zeros before the first."""
        recent = list(self.recent)
        return (median(recent), max(recent)) if recent else (0.0, 0.0)

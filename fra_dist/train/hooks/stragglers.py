"""Stragglers: which ranks are slower than the others, and whether it is their data or their arithmetic.

In a step all ranks take equally long, because they wait for each other. A rank's own time is therefore its wait for
data, and the time of its step less what it spent in collectives: on a CPU over all steps, on a GPU in the log step,
measured by events on the device. Ranks compare their times at log steps, when they meet anyway.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_high

import torch
from torch import Tensor

from fra_dist.data.loading.batch import Batch
from fra_dist.distributed import WAITS
from fra_dist.train.trainer import Hook, Run

_FEWEST = 10  # fewest steps that are compared: single ones differ by chance
_SHARE = 0.05  # share of a step that a rank must lose to be reported


@dataclass(frozen=True)
class Own:
    """A rank's own time for each step, in seconds: what it would take if it did not wait for other ranks."""

    data: float
    """Seconds for each step in which the rank waited for data."""
    compute: float
    """Seconds for each step in which the rank computed, without collectives."""

    @property
    def total(self) -> float:
        """The rank's own time for each step, loading and computing together, in seconds."""
        return self.data + self.compute


@dataclass(frozen=True)
class Straggler:
    """A rank whose own time for a step is well above that of the other ranks, and what it loses time with."""

    rank: int
    """The number of the rank."""
    why: str
    """What it loses more time with: "data" or "compute"."""
    times: float
    """Its own time divided by that of the others."""


def find_stragglers(own: Sequence[Own], step_seconds: float, factor: float) -> list[Straggler]:
    """Find the ranks whose own time is above `factor` times the median of the others'.

    `own` is in the order of ranks, and `step_seconds` is how long a step takes. A difference that is a small share of
    the step does not count.
    """
    found = []
    for rank, mine in enumerate(own):
        others = [one for other, one in enumerate(own) if other != rank]
        if not others:
            break
        usual = median_high(one.total for one in others)
        late = mine.total - usual
        if mine.total > factor * usual and late > _SHARE * step_seconds:
            in_data = mine.data - median_high(one.data for one in others)
            why = "data" if in_data > late / 2 else "compute"
            found.append(Straggler(rank, why, mine.total / max(usual, 1e-9)))
    return found


class Stragglers(Hook):
    """Reports a rank, in the log and in the history, that is slow in two comparisons in a row.

    It is reported again only after it was not slow in between.
    """

    def begin(self, run: Run) -> None:
        """Start the first comparison of ranks, at the step that the run begins with."""
        self.named: set[tuple[int, str]] = set()
        self.before: set[tuple[int, str]] = set()
        self.sample: torch.cuda.Event | None = None
        self.first = True
        self._restart(run)

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """Compare the ranks at a log step; on a GPU, begin to time the device in the step before it.

        Every rank calls it.
        """
        if run.ctx.world == 1:
            return
        every = run.config.log.every_steps
        if run.completed % every == 0 and run.completed - self.since >= _FEWEST:
            self._compare(run)
            self._restart(run)
        elif run.ctx.device.type == "cuda" and (run.completed + 1) % every == 0:
            self._begin_sample(run)

    def went_back(self, run: Run) -> None:
        """Start a new comparison of ranks after a rollback, without the steps that were undone."""
        self._restart(run)

    def _compare(self, run: Run) -> None:
        steps = run.completed - self.since
        seconds = {name: value - self.seconds.get(name, 0.0) for name, value in run.phases.seconds.items()}
        data = seconds.get("data", 0.0) / steps
        compute = (seconds["step"] + seconds["agree"] - (WAITS.seconds - self.waits)) / steps
        if run.ctx.device.type == "cuda":
            compute = self._end_sample(run)
        own = [Own(*row) for row in run.ctx.gather([data, compute])]
        first, self.first = self.first, False
        if first or not run.ctx.is_main:  # the first steps load and compile
            return
        found = find_stragglers(own, sum(seconds.values()) / steps, run.config.log.straggler_factor)
        now = {(one.rank, one.why) for one in found}
        for one in found:
            if (one.rank, one.why) in self.before - self.named:
                self._name(run, one, own)
        self.named = {key for key in now if key in self.named or key in self.before}
        self.before = now

    def _name(self, run: Run, one: Straggler, own: Sequence[Own]) -> None:
        host, mine = run.hosts[one.rank], own[one.rank]
        run.folder.note(
            "straggler", step=run.completed, rank=one.rank, host=host, why=one.why, times=round(one.times, 2)
        )
        print(
            f"warning: rank {one.rank} on {host} takes {one.times:.1f} times as long as the others ({one.why}): "
            f"{mine.data * 1000:.0f} ms a step for data, {mine.compute * 1000:.0f} ms for computing",
            file=sys.stderr,
            flush=True,
        )

    def _restart(self, run: Run) -> None:
        self.since, self.seconds, self.waits = run.completed, dict(run.phases.seconds), WAITS.seconds

    def _begin_sample(self, run: Run) -> None:
        WAITS.take_sample()
        WAITS.sampling = True
        self.sample_data = run.phases.seconds["data"]
        self.sample = torch.cuda.Event(enable_timing=True)
        self.sample.record()

    def _end_sample(self, run: Run) -> float:
        """Return the seconds of the device's own work in the sampled step, which the metrics have waited for."""
        WAITS.sampling = False
        if self.sample is None:
            return 0.0
        end = torch.cuda.Event(enable_timing=True)
        end.record()
        end.synchronize()
        waited = WAITS.take_sample() + run.phases.seconds["data"] - self.sample_data
        seconds = self.sample.elapsed_time(end) / 1000 - waited
        self.sample = None
        return max(seconds, 0.0)

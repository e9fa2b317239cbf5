"""Which faults a campaign has, and at which moments they strike: a pure function of the seed."""

import random
from dataclasses import dataclass

from fra_dist.errors import LaunchError

SHARDS = ("corrupt shard", "vanished shard", "slow disk")
"""Kinds of faults for which the shards must be copied."""
CALLS = ("disk error", "kill at a call")
"""Kinds of faults for which a library is compiled and preloaded."""
KINDS = (
    *("kill -9", "kill -9 of one rank", "SIGTERM", "SIGUSR2", "SIGSTOP", "NaN in a batch", "flipped bit in checkpoint"),
    *("cut checkpoint", "full disk", "two starts", *CALLS, *SHARDS),
)
"""Names of all kinds of faults."""


@dataclass(frozen=True)
class Fault:
    """One fault of a campaign: its kind and the moment at which it strikes."""

    number: int
    """The number of the fault within the campaign, from 1."""
    kind: str
    """The name of the kind, one of `KINDS`."""
    step: int
    """The fault strikes after the metrics row of this step was written; 0: while the training starts."""
    offset: float
    """How long after that row, as a share of a step in [0, 1); at step 0, as a share of the time that a start takes."""
    seed: int
    """The seed of the details that the kind draws itself."""

    def details(self) -> random.Random:
        """Return a generator for the draws of the kind itself, the same in every attempt at this fault."""
        return random.Random(self.seed)


@dataclass(frozen=True)
class Length:
    """How long the trainings of a campaign are. Raises LaunchError for a training too short to be disturbed."""

    steps: int
    """The number of steps of a training."""
    save_every: int
    """The number of steps between two checkpoints."""

    def __post_init__(self) -> None:
        if self.steps < 24 or self.save_every * 3 > self.steps // 2:
            raise LaunchError(
                f"{self.steps} steps with a checkpoint every {self.save_every} are too few to break: give at least "
                f"--steps {max(24, self.save_every * 6)}"
            )

    def moments(self, kind: str) -> range:
        """Return the steps after which a kind may strike, never so late that the training would be over first."""
        late = self.steps * 3 // 4
        match kind:
            case "SIGSTOP":
                return range(self.save_every, late)  # a watchdog is patient with the first steps
            case "NaN in a batch":
                return range(self.save_every + 1, self.steps)  # there is a checkpoint to go back to
            case "flipped bit in checkpoint" | "cut checkpoint":
                return range(2 * self.save_every + 2, late)  # there is one before the newest
            case "corrupt shard":
                return range(1, self.steps // 3)  # before the damaged photos are read
            case "two starts" | "slow disk":
                return range(1)
            case _:
                return range(late)


def kinds_for(ranks: int, shards: bool, calls: bool = True) -> tuple[str, ...]:
    """List the kinds that make sense for `ranks` ranks.

    `shards`: whether the shards are in a folder that can be copied. `calls`: whether the library that lets single calls
    fail could be built.
    """
    left_out = {*(() if shards else SHARDS), *(() if calls else CALLS)}
    if ranks == 1:
        left_out.add("kill -9 of one rank")
    return tuple(kind for kind in KINDS if kind not in left_out)


def draw_faults(count: int, seed: int, length: Length, kinds: tuple[str, ...]) -> list[Fault]:
    """Draw `count` faults; every kind comes once before any kind comes again.

    The first n faults are the same for every count of at least n.
    """
    draw = random.Random(seed)
    faults: list[Fault] = []
    while len(faults) < count:
        for kind in draw.sample(kinds, len(kinds)):
            step = draw.choice(length.moments(kind))
            faults.append(Fault(len(faults) + 1, kind, step, draw.random(), draw.getrandbits(32)))
    return faults[:count]

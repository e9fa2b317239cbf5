"""Which faults come, and at which moments: a pure function of the seed."""

import random
from dataclasses import dataclass

from fra_dist.errors import LaunchError

SHARDS = ("corrupt shard", "vanished shard", "slow disk")
"""Kinds that need shards which can be copied."""
KINDS = (
    *("kill -9", "kill -9 of one rank", "SIGTERM", "SIGUSR2", "SIGSTOP", "NaN in a batch", "flipped bit in checkpoint"),
    *("cut checkpoint", "full disk", "two starts", *SHARDS),
)


@dataclass(frozen=True)
class Fault:
    """Fault `number`, counted from 1, strikes after the row of `step` was written.

    offset: then, as a share of a step in [0, 1); at step 0 of the time that a start takes. seed: of the details.
    """

    number: int
    kind: str
    step: int
    offset: float
    seed: int

    def details(self) -> random.Random:
        """Draws of the kind itself, the same in every attempt at this fault."""
        return random.Random(self.seed)


@dataclass(frozen=True)
class Length:
    """Of the trainings: how many steps, and how many between checkpoints."""

    steps: int
    save_every: int

    def __post_init__(self) -> None:
        if self.steps < 24 or self.save_every * 3 > self.steps // 2:
            raise LaunchError(
                f"{self.steps} steps with a checkpoint every {self.save_every} are too few to break: give at least "
                f"--steps {max(24, self.save_every * 6)}"
            )

    def moments(self, kind: str) -> range:
        """The steps after which a kind may strike: never so late that the training would be over first."""
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


def kinds_for(ranks: int, shards: bool) -> tuple[str, ...]:
    """The kinds that make sense. `shards`: they lie in a folder that can be copied."""
    left_out = {"kill -9 of one rank"} if ranks == 1 else set()
    return tuple(k for k in KINDS if k not in left_out and (shards or k not in SHARDS))


def draw_faults(count: int, seed: int, length: Length, kinds: tuple[str, ...]) -> list[Fault]:
    """`count` faults; every kind comes once before any comes again. The first n are the same for every count >= n."""
    draw = random.Random(seed)
    faults: list[Fault] = []
    while len(faults) < count:
        for kind in draw.sample(kinds, len(kinds)):
            step = draw.choice(length.moments(kind))
            faults.append(Fault(len(faults) + 1, kind, step, draw.random(), draw.getrandbits(32)))
    return faults[:count]

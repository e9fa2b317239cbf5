"""What a configuration means in steps and images, computed once for a data set and a world size."""

from dataclasses import dataclass

from fra_dist.config import Config
from fra_dist.errors import ConfigError


@dataclass(frozen=True)
class Sizes:
    """`global_batch` = world × `per_rank`; `per_rank` = `accumulation` × `micro_batch`; `lr` is the scaled one."""

    samples: int
    global_batch: int
    per_rank: int
    micro_batch: int
    accumulation: int
    total_steps: int
    warmup_steps: int
    lr: float


def derive_sizes(config: Config, samples: int, world: int) -> Sizes:
    """Raises ConfigError when the batch cannot be divided or the data set is smaller than one batch."""
    batch = config.train.global_batch
    if samples < batch:
        raise ConfigError(
            f"{config.data.shards} holds {samples} samples, fewer than one global batch: "
            f"set train.global_batch to {samples} or less"
        )
    per_rank, micro = share_of_rank(config, world)
    total = config.train.steps or max(1, round(config.train.epochs * samples / batch))
    warmup = config.optim.warmup_steps
    if warmup is None:
        warmup = round(config.optim.warmup_epochs * samples / batch)
    if warmup >= total:
        raise ConfigError(f"warm-up takes {warmup} of {total} steps: lower optim.warmup_steps or optim.warmup_epochs")
    lr = config.optim.lr * batch / config.optim.lr_batch
    return Sizes(samples, batch, per_rank, micro, per_rank // micro, total, warmup, lr)


def share_of_rank(config: Config, world: int) -> tuple[int, int]:
    """(images of one rank a step, images of one forward pass). Raises ConfigError when the batch cannot be divided."""
    batch = config.train.global_batch
    if batch % world:
        raise ConfigError(
            f"train.global_batch={batch} cannot be divided over {world} ranks: "
            f"use {_near_divisors(batch, world)} ranks, or a batch that is a multiple of {world}"
        )
    per_rank = batch // world
    micro = min(config.train.micro_batch or per_rank, per_rank)
    if per_rank % micro:
        raise ConfigError(
            f"a rank's share of {per_rank} images cannot be divided into train.micro_batch={micro}: "
            f"use {_near_divisors(per_rank, micro)}"
        )
    if micro < 2:
        raise ConfigError(
            f"{micro} image a forward pass is too few for batch norm: raise train.global_batch or train.micro_batch"
        )
    return per_rank, micro


def _near_divisors(number: int, near: int) -> str:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return " or ".join(str(d) for d in sorted(sorted(divisors, key=lambda d: abs(d - near))[:3]))

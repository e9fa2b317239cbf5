"""What a configuration means in steps and images, computed once for a data set and a world size."""

import math
from dataclasses import dataclass

from fra_dist.config import Config
from fra_dist.errors import ConfigError
from fra_dist.formats import plural

MAX_STEPS = 2**31 - 1
"""Largest number of steps, as for train.steps: with it the place of a sample in a run still fits into 64 bits."""
_OVER = 8 / 7
"""Shorter side of a stored photo over the side of a view."""
_LEAST_SIDE = 256


@dataclass(frozen=True)
class Sizes:
    """The sizes of a run: `global_batch` = world × `per_rank` and `per_rank` = `accumulation` × `micro_batch`."""

    samples: int
    """Samples in the data set."""
    global_batch: int
    """Images in a step, over all ranks."""
    per_rank: int
    """Images in a step of one rank."""
    micro_batch: int
    """Images in one forward pass of one rank."""
    accumulation: int
    """Forward passes in a step of one rank."""
    total_steps: int
    """Optimiser steps of the whole run."""
    warmup_steps: int
    """Steps of the learning rate's warm-up."""
    lr: float
    """The peak learning rate, scaled with the global batch."""


def derive_sizes(config: Config, samples: int, world: int) -> Sizes:
    """Derive the sizes of a run from its configuration, the number of samples and the world size.

    Raises ConfigError when the batch cannot be divided, the data set is smaller than one batch, or the warm-up or the
    run has too many steps.
    """
    batch = config.train.global_batch
    if samples < batch:
        where, kind = config.data.photos or config.data.shards or "the set", "photo" if config.data.photos else "sample"
        if samples == 0:
            raise ConfigError(f"{where} holds no {kind}s: name another folder")
        raise ConfigError(
            f"{where} holds {plural(samples, kind)}, fewer than one global batch of {batch}: set train.global_batch to "
            f"{samples} or less"
        )
    per_rank, micro = share_of_rank(config, world)
    total = config.train.steps or max(1, round(config.train.epochs * samples / batch))
    if total > MAX_STEPS:
        raise ConfigError(
            f"train.epochs={config.train.epochs:g} of {samples} samples are {total} steps, more than {MAX_STEPS}: "
            "lower train.epochs"
        )
    warmup = config.optim.warmup_steps
    if warmup is None:
        warmup = round(config.optim.warmup_epochs * samples / batch)
    if warmup >= total:
        raise ConfigError(f"warm-up takes {warmup} of {total} steps: lower optim.warmup_steps or optim.warmup_epochs")
    lr = config.optim.lr * batch / config.optim.lr_batch
    return Sizes(samples, batch, per_rank, micro, per_rank // micro, total, warmup, lr)


def accumulation_note(sizes: Sizes) -> str | None:
    """Say in one line what accumulation changes; None when a step is one forward pass."""
    if sizes.accumulation == 1:
        return None
    seen = sizes.global_batch // sizes.accumulation
    return (
        f"{sizes.accumulation} forward passes make a step, so batch norm, prototypes and the balancing of regions see "
        f"{seen} images at a time, not {sizes.global_batch}; gradients are those of all {sizes.global_batch}"
    )


def share_of_rank(config: Config, world: int) -> tuple[int, int]:
    """Return (images of one rank in a step, images of one forward pass).

    A share above train.micro_batch is done in passes of equal size: the largest that divides the share and is neither
    above train.micro_batch nor below half of it. So a run can resume at another world size with the memory it had.
    Raises ConfigError, which names world sizes that can, when the batch cannot be divided.
    """
    divided = _divide(config, world)
    if divided is not None:
        return divided
    batch, limit = config.train.global_batch, config.train.micro_batch
    ranks = "1 rank" if world == 1 else f"{world} ranks"
    passes = "" if limit is None or batch % world else f" in passes of {max(2, -(-limit // 2))} to {limit} images"
    sizes = worlds_that_fit(config)
    if not sizes:
        raise ConfigError(
            f"train.global_batch={batch} with train.micro_batch={limit} cannot be divided over any number of ranks: "
            f"set train.micro_batch to {_near_divisors(batch, limit or batch)}"
        )
    near = sorted(sorted(sizes, key=lambda w: abs(w - world))[:4])
    raise ConfigError(
        f"train.global_batch={batch} cannot be divided over {ranks}{passes} (batch norm needs 2): "
        f"use {' or '.join(map(str, near))} ranks, or another train.global_batch or train.micro_batch"
    )


def stored_side(config: Config) -> int:
    """Shorter side, in pixels, of the photos in shards that a run makes of `data.photos`."""
    return max(_LEAST_SIDE, math.ceil(config.data.image_size * _OVER))


def worlds_that_fit(config: Config) -> list[int]:
    """Return all world sizes over which the global batch can be divided, ascending."""
    batch = config.train.global_batch
    return [world for world in range(1, batch // 2 + 1) if batch % world == 0 and _divide(config, world) is not None]


def _divide(config: Config, world: int) -> tuple[int, int] | None:
    batch, limit = config.train.global_batch, config.train.micro_batch
    if batch % world:
        return None
    share = batch // world
    most = min(limit or share, share)
    micro = max(d for d in range(1, most + 1) if share % d == 0)
    return (share, micro) if micro >= max(2, most / 2) else None


def _near_divisors(number: int, near: int) -> str:
    divisors = [d for d in range(2, number + 1) if number % d == 0]
    return " or ".join(str(d) for d in sorted(sorted(divisors, key=lambda d: abs(d - near))[:3]))

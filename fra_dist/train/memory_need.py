"""Whether a rank fits into the memory of its device, and with which micro-batch it would."""

from dataclasses import dataclass

from fra_dist.config import Config
from fra_dist.errors import ConfigError
from fra_dist.train.sizes import share_of_rank

_GIB = 2**30
BF16_SHARE = 0.6
"""Memory of activations in bf16 relative to float32: most halve, masks, statistics and losses do not."""


@dataclass(frozen=True)
class MemoryNeed:
    """The memory of one rank, in bytes: an estimate, without what libraries and the allocator take for themselves."""

    fixed: float
    """Weights of both networks, copies of them in bf16, gradients and the optimiser's state."""
    per_image: float
    """Activations that one image (all of its views) keeps for the backward pass."""
    micro: int
    """Images in one forward pass."""

    @property
    def total(self) -> float:
        """The bytes that one rank needs at its micro-batch."""
        return self.fixed + self.per_image * self.micro

    def most_images(self, limit: float) -> int:
        """Return how many images a forward pass may have within `limit` bytes; below 2 nothing fits."""
        return int((limit - self.fixed) // max(self.per_image, 1.0))


def check_fits(config: Config, world: int, need: MemoryNeed, limit: float, where: str) -> None:
    """Raise ConfigError, which names a micro-batch that would fit, when a rank needs more than `limit` bytes.

    `where` names what has that limit, for example `this machine`.
    """
    if need.total <= limit:
        return
    said = (
        f"a rank needs about {need.total / _GIB:,.1f} GiB for {need.micro} images in a forward pass, "
        f"{where} has {limit / _GIB:,.1f} GiB"
    )
    micro = largest_micro(config, world, need.most_images(limit))
    if micro is None:
        raise ConfigError(f"{said}: even 2 images do not fit; take a smaller model.backbone or data.image_size")
    raise ConfigError(f"{said}: set train.micro_batch={micro}, or a smaller model.backbone or data.image_size")


def largest_micro(config: Config, world: int, most: int) -> int | None:
    """Return the largest train.micro_batch of at most `most` into which a rank's share divides; None: there is none."""
    for micro in range(min(most, config.train.global_batch // world), 1, -1):
        tried = config.model_copy(update={"train": config.train.model_copy(update={"micro_batch": micro})})
        try:
            return share_of_rank(tried, world)[1]
        except ConfigError:
            continue
    return None

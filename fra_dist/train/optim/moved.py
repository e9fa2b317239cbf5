"""What the optimiser step knows of the parameters that it moves: pieces of sharded ones, and EMA copies that follow."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class ParameterPieces:
    """The pieces of whole parameters that one flat tensor of a rank holds, when ranks share the optimiser (ZeRO)."""

    spans: list[tuple[int, int]]
    """(start, length) of each piece in the flat tensor, in elements."""
    index: Tensor
    """Which parameter of the group each piece belongs to, int64, one number for each of `spans`."""
    parameters: int
    """How many parameters the group has, over all ranks."""
    sum: Callable[[Tensor], Tensor]
    """Elementwise sum over ranks: a collective, so every rank that holds pieces calls it."""


class Followers(Protocol):
    """EMA copies of parameters, which an optimiser may move along with them; `ema.Following` implements it."""

    momentum: float
    target_of: dict[Tensor, Tensor]

    def done(self, parameters: Sequence[Tensor]) -> None:
        """The copies of these parameters have been moved."""
        ...


class LayerwiseOptimizer(Protocol):
    """What the fused step needs of a LARS optimiser."""

    param_groups: list[dict[str, Any]]
    pieces: dict[Tensor, ParameterPieces]
    found_inf: Tensor | None
    followers: Followers | None

    def velocity(self, parameter: Tensor) -> Tensor:
        """The momentum buffer of a parameter; zeros before its first step."""
        ...


def gradients_of(optimizer: LayerwiseOptimizer) -> Iterable[tuple[Tensor, dict[str, Any]]]:
    """Every parameter that has a gradient, with its group, in the order of the groups."""
    return ((p, group) for group in optimizer.param_groups for p in group["params"] if p.grad is not None)

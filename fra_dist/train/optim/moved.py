"""What the optimiser step knows of the parameters that it updates: pieces of sharded ones, and their EMA copies."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import eq, is_
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class ParameterPieces:
    """The pieces of whole parameters in one flat tensor of a rank, when ranks share the optimiser (ZeRO)."""

    spans: list[tuple[int, int]]
    """The (start, length) of each piece in the flat tensor, in elements."""
    index: Tensor
    """Which parameter of the group each piece belongs to: int64, one number for each of `spans`."""
    parameters: int
    """The number of parameters of the group, over all ranks."""
    sum: Callable[[Tensor], Tensor]
    """Sums a tensor elementwise over ranks: a collective, so every rank that holds pieces calls it."""


class Known:
    """Tensors that have been looked at, and where they lay in memory.

    A tensor may be given other memory through `data`. What it says of the same memory, such as strides, must stay.
    """

    def __init__(self, tensors: Sequence[Tensor] = ()) -> None:
        self._tensors, self._addresses = list(tensors), [tensor.data_ptr() for tensor in tensors]

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        """Whether they are these very tensors, in the same places."""
        return (
            len(tensors) == len(self._tensors)
            and all(map(is_, tensors, self._tensors))
            and all(map(eq, map(Tensor.data_ptr, tensors), self._addresses))
        )


class Followers(Protocol):
    """EMA copies of parameters, which an optimiser may update together with them; `ema.Following` implements it."""

    momentum: float
    """The EMA momentum m of this step."""
    target_of: dict[Tensor, Tensor]
    """The EMA copy of each parameter that has one."""

    def done(self, parameters: Sequence[Tensor]) -> None:
        """Record that the copies of these parameters have been updated."""
        ...


class LayerwiseOptimizer(Protocol):
    """What the fused step needs of a LARS optimiser."""

    param_groups: list[dict[str, Any]]
    """The groups of parameters with their settings, as in `torch.optim.Optimizer`."""
    pieces: dict[Tensor, ParameterPieces]
    """The pieces in each flat tensor among the parameters."""
    found_inf: Tensor | None
    """A 0-dim tensor that cancels the step when it holds 1; None: the step is always done."""
    followers: Followers | None
    """EMA copies to update along with the parameters; None when there are none."""

    known: Known
    """What the kernels took in the last step."""

    def velocity(self, parameter: Tensor) -> Tensor:
        """Return the momentum buffer of a parameter; zeros before its first step."""
        ...


def gradients_of(optimizer: LayerwiseOptimizer) -> Iterable[tuple[Tensor, dict[str, Any]]]:
    """Return every parameter that has a gradient, with its group, in the order of the groups."""
    return ((p, group) for group in optimizer.param_groups for p in group["params"] if p.grad is not None)

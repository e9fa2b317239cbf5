"""What several packages say of each other's objects, so that none imports the other for a type's sake."""

from typing import Protocol

from torch import Tensor


class CrossRank(Protocol):
    """What a model or a loss needs to know of the other ranks."""

    @property
    def world(self) -> int: ...

    def sum(self, x: Tensor) -> Tensor:
        """Elementwise sum over ranks, differentiable; any shape, equal on all ranks."""
        ...

    def mean(self, x: Tensor) -> Tensor:
        """Elementwise mean over ranks, differentiable: the global mean when every rank has as many images."""
        ...


class SingleRank:
    """One process: sums and means over ranks are the value itself."""

    world = 1

    def sum(self, x: Tensor) -> Tensor:
        return x

    def mean(self, x: Tensor) -> Tensor:
        return x


SINGLE = SingleRank()
"""The ranks of a run on one process."""

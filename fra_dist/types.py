"""What several packages say of each other's objects, so that none imports the other for a type's sake."""

from typing import Protocol

from torch import Tensor


class CrossRank(Protocol):
    """What a model or a loss needs to know of the other ranks."""

    @property
    def world(self) -> int:
        """How many ranks there are."""
        ...

    @property
    def rank(self) -> int:
        """Which of them this one is, from 0."""
        ...

    def sum(self, x: Tensor) -> Tensor:
        """Elementwise sum over ranks, differentiable; any shape, equal on all ranks."""
        ...

    def mean(self, x: Tensor) -> Tensor:
        """Elementwise mean over ranks, differentiable: the global mean when every rank has as many images."""
        ...

    def gather(self, x: Tensor) -> Tensor:
        """(B, ...) of each rank -> (world · B, ...), rank after rank, without gradient; equal shapes on all ranks."""
        ...


class SingleRank:
    """One process: sums and means over ranks are the value itself."""

    world = 1
    rank = 0

    def sum(self, x: Tensor) -> Tensor:
        return x

    def mean(self, x: Tensor) -> Tensor:
        return x

    def gather(self, x: Tensor) -> Tensor:
        return x.detach()


SINGLE = SingleRank()
"""The ranks of a run on one process."""

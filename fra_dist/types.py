"""Protocols of objects that several packages share, so that none imports another only for a type."""

from typing import Protocol

from torch import Tensor


class CrossRank(Protocol):
    """What a model or a loss needs to know of the other ranks, and the collectives that it may call."""

    @property
    def world(self) -> int:
        """The number of ranks that train together."""
        ...

    @property
    def rank(self) -> int:
        """The number of this rank, from 0 to world - 1."""
        ...

    def sum(self, x: Tensor) -> Tensor:
        """Sum `x` elementwise over the ranks, differentiably; any shape, equal on all ranks."""
        ...

    def mean(self, x: Tensor) -> Tensor:
        """Average `x` elementwise over the ranks, differentiably.

        It is the global mean when all ranks have equally many images.
        """
        ...

    def gather(self, x: Tensor) -> Tensor:
        """Concatenate (B, ...) of each rank to (world · B, ...), in the order of ranks, without gradient.

        Shapes are equal on all ranks.
        """
        ...


class SingleRank:
    """The `CrossRank` of a single process: sums and means over ranks are the value itself."""

    world = 1
    """The number of ranks, which is 1."""
    rank = 0
    """The number of this rank, which is 0."""

    def sum(self, x: Tensor) -> Tensor:
        """Return `x` unchanged, which is its sum over one rank."""
        return x

    def mean(self, x: Tensor) -> Tensor:
        """Return `x` unchanged, which is its mean over one rank."""
        return x

    def gather(self, x: Tensor) -> Tensor:
        """Return `x` without its gradient: the concatenation over one rank."""
        return x.detach()


SINGLE = SingleRank()
"""The `CrossRank` of a run on one process."""

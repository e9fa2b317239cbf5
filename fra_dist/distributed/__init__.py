"""Ranks: which one this process is (`context`) and what all of them compute together (`collectives`)."""

from fra_dist.distributed.collective_waits import WAITS
from fra_dist.distributed.collectives import ProcessGroupRanks, gather_to_main
from fra_dist.distributed.context import (
    RankContext,
    barrier,
    from_all,
    from_main,
    left_afterwards,
    read_ranks,
    start,
    stop,
)
from fra_dist.types import SINGLE, CrossRank

__all__ = [
    "SINGLE",
    "WAITS",
    "CrossRank",
    "ProcessGroupRanks",
    "RankContext",
    "barrier",
    "from_all",
    "from_main",
    "gather_to_main",
    "left_afterwards",
    "read_ranks",
    "start",
    "stop",
]

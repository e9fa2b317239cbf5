"""Ranks: who we are (`context`) and what we compute together (`collectives`)."""

from fra_dist.dist.collectives import SINGLE, CrossRank, ProcessGroupRanks, gather_to_main
from fra_dist.dist.context import RankContext, barrier, from_all, from_main, read_ranks, start, stop
from fra_dist.dist.waits import WAITS

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
    "read_ranks",
    "start",
    "stop",
]

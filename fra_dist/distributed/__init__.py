"""Ranks: which one this process is (`context`) and what all of them compute together (`collectives`).

Imported when first used.
"""

from typing import TYPE_CHECKING

from fra_dist._lazy import lazily

if TYPE_CHECKING:
    from fra_dist.distributed.collective_waits import WAITS as WAITS
    from fra_dist.distributed.collectives import ProcessGroupRanks as ProcessGroupRanks
    from fra_dist.distributed.collectives import gather_to_main as gather_to_main
    from fra_dist.distributed.context import RankContext as RankContext
    from fra_dist.distributed.context import barrier as barrier
    from fra_dist.distributed.context import from_all as from_all
    from fra_dist.distributed.context import from_main as from_main
    from fra_dist.distributed.context import left_afterwards as left_afterwards
    from fra_dist.distributed.context import read_ranks as read_ranks
    from fra_dist.distributed.context import start as start
    from fra_dist.distributed.context import stop as stop
    from fra_dist.types import SINGLE as SINGLE
    from fra_dist.types import CrossRank as CrossRank

_HOMES = {
    "SINGLE": "fra_dist.types",
    "WAITS": "fra_dist.distributed.collective_waits",
    "CrossRank": "fra_dist.types",
    "ProcessGroupRanks": "fra_dist.distributed.collectives",
    "RankContext": "fra_dist.distributed.context",
    "barrier": "fra_dist.distributed.context",
    "from_all": "fra_dist.distributed.context",
    "from_main": "fra_dist.distributed.context",
    "gather_to_main": "fra_dist.distributed.collectives",
    "left_afterwards": "fra_dist.distributed.context",
    "read_ranks": "fra_dist.distributed.context",
    "start": "fra_dist.distributed.context",
    "stop": "fra_dist.distributed.context",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = lazily(__name__, _HOMES)

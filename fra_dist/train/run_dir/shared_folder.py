"""The check that every rank sees the run folder that rank 0 writes to."""

import platform
import time
from pathlib import Path
from typing import Any

from fra_dist import distributed
from fra_dist.errors import DiskError, LaunchError
from fra_dist.train.run_dir.fence import OwnerUnreadable, read_attempt

_OTHER = "another attempt"
_PATIENCE = 10.0  # seconds that a network file system may be late


def meet_in(folder: Path) -> tuple[str, ...]:
    """Check that every rank sees the folder that rank 0 has claimed; return the host of each rank, by rank.

    Every rank calls it. Raises LaunchError on all ranks when some see another folder, for example one on their own
    disk, and DiskError, after which another attempt may succeed, when the disk of some does not answer.
    """
    expected = distributed.from_main(lambda: read_attempt(folder))
    end = time.monotonic() + _PATIENCE
    while (wrong := _wrong(folder, expected)) and time.monotonic() < end:
        time.sleep(0.2)
    ranks = distributed.from_all((platform.node(), wrong))
    for rank, (host, wrong) in enumerate(ranks):
        if wrong and wrong != _OTHER:
            raise DiskError(f"rank {rank} on {host} cannot look at the run folder: {wrong}")
    blind = [f"rank {rank} on {host}" for rank, (host, wrong) in enumerate(ranks) if wrong]
    if blind:
        more = f" and {len(blind) - 3} more" if len(blind) > 3 else ""
        raise LaunchError(
            f"{', '.join(blind[:3])}{more} do not see the run folder that rank 0 on {ranks[0][0]} writes to: "
            f"set output to one folder on a file system that all nodes share"
        )
    return tuple(host for host, _ in ranks)


def _wrong(folder: Path, expected: dict[str, Any]) -> str:
    """Why this rank does not read the same attempt as rank 0: `_OTHER`, or an error of the disk; empty when it does."""
    try:
        return "" if read_attempt(folder, patience=0) == expected else _OTHER
    except OwnerUnreadable as error:
        return str(error)
    except LaunchError:  # half of it, from a disk that is late
        return _OTHER

"""Heartbeats: signs of life of the ranks, one small file each in RUN/ranks, with the place of each rank in its work.

They are files and not messages, because they can be read while rank 0, or whoever holds a connection, is stopped. Only
counters are compared, never the clocks of two machines.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fra_dist.files import raw_bytes

FOLDER = "ranks"
"""The folder of the heartbeats in the run folder."""
PARTS = {"data": "waiting for data", "step": "forward and backward", "agree": "agreeing with the others"}
"""What the names of the loop's parts mean; other names are those of hooks."""
_SIZE = 512


@dataclass(frozen=True)
class Heartbeat:
    """One heartbeat of a rank: that it is alive, and where it is in its work."""

    attempt: int
    """The number of the attempt."""
    rank: int
    """The rank that wrote it."""
    host: str
    """The host of the rank."""
    count: int
    """A counter that grows with every heartbeat of the rank."""
    order: int
    """How many parts of steps the rank has entered, as `phases.StepPhase.order` counts them."""
    step: int
    """The step that the rank is at, from 1."""
    name: str
    """The part of the step that the rank is at."""
    stalled: float
    """Seconds that the rank has been at this part."""
    limit: float
    """Seconds that this part may take."""
    leaving: bool = False
    """Whether the rank will not write again: it is done, or about to end with its stacks written."""


class Heartbeats:
    """The heartbeat files of one attempt with `world` ranks, in the run folder `run`."""

    def __init__(self, run: Path, attempt: int, world: int) -> None:
        self.folder, self.attempt, self.world = run / FOLDER, attempt, world

    def write(self, heartbeat: Heartbeat) -> None:
        """Write a heartbeat in place, always of the same length, so that it works on a full disk too.

        Raises OSError.
        """
        self.folder.mkdir(exist_ok=True)
        handle = os.open(self._path(heartbeat.rank), os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
        try:
            os.pwrite(handle, json.dumps(asdict(heartbeat)).encode().ljust(_SIZE), 0)
        finally:
            os.close(handle)

    def read(self) -> dict[int, Heartbeat]:
        """Read the heartbeats of this attempt: {rank: heartbeat}.

        Ranks that have written none, or are in the middle of writing one, are left out.
        """
        found = {}
        for rank in range(self.world):
            try:
                row: dict[str, Any] = json.loads(raw_bytes(self._path(rank), ()))
                heartbeat = Heartbeat(**row)
            except (OSError, ValueError, TypeError):
                continue
            if heartbeat.attempt == self.attempt:
                found[rank] = heartbeat
        return found

    def _path(self, rank: int) -> Path:
        return self.folder / f"{rank:05d}.json"


class Listener:
    """Measures how long each other rank has given no sign of life, in seconds of this process."""

    def __init__(self, heartbeats: Heartbeats, rank: int) -> None:
        self.heartbeats = heartbeats
        self.last: dict[int, Heartbeat] = {}
        self.quiet = {other: 0.0 for other in range(heartbeats.world) if other != rank}

    def listen(self, passed: float) -> None:
        """Read all heartbeats; `passed` is the number of seconds since the last call."""
        now = self.heartbeats.read()
        for other in self.quiet:
            old, new = self.last.get(other), now.get(other)
            if new is None or (old is not None and new.count == old.count):
                self.quiet[other] += passed
            else:
                self.quiet[other] = 0.0
        self.last.update(now)

    def silent(self, seconds: float, unheard: float | None = None) -> list[int]:
        """Return the ranks that have been silent for `seconds`.

        For ranks that never gave a sign of life, `unheard` seconds count instead, if given. Ranks that are leaving are
        not among them.
        """
        left = {rank for rank, heartbeat in self.last.items() if heartbeat.leaving}
        limits = {rank: seconds if rank in self.last or unheard is None else unheard for rank in self.quiet}
        return [rank for rank, quiet in self.quiet.items() if quiet >= limits[rank] and rank not in left]


def stalled_rank(heartbeats: dict[int, Heartbeat], silent: list[int], hosts: tuple[str, ...]) -> str | None:
    """Say in one line which rank holds up the others; None while one may still be at something that takes long.

    heartbeats: those of all ranks by rank, this rank's too; silent: the silent ranks; hosts: the name of each rank's
    host. Silent ranks are to blame, or else those that are furthest behind.
    """
    if silent:
        return f"{_who(silent, hosts)} gave no sign of life{_since(heartbeats, silent)}: stopped, or out of reach"
    least = min(heartbeat.order for heartbeat in heartbeats.values())
    behind = [rank for rank in sorted(heartbeats) if heartbeats[rank].order == least]
    if any(heartbeats[rank].stalled < heartbeats[rank].limit for rank in behind):
        return None
    first = heartbeats[behind[0]]
    doing = f"step {first.step}, {PARTS.get(first.name, first.name)}, for {first.stalled:.0f} s"
    if len(behind) == len(heartbeats) > 1:
        return f"all {len(heartbeats)} ranks are at {doing}: a collective or a device, is stuck"
    others = "; the others wait" if len(heartbeats) > 1 else ""
    return f"{_who(behind, hosts)} {'is' if len(behind) == 1 else 'are'} at {doing}{others}"


def _who(ranks: list[int], hosts: tuple[str, ...]) -> str:
    named = [f"rank {rank} on {hosts[rank]}" if rank < len(hosts) else f"rank {rank}" for rank in ranks[:4]]
    return ", ".join(named) + (f" and {len(ranks) - 4} more" if len(ranks) > 4 else "")


def _since(heartbeats: dict[int, Heartbeat], silent: list[int]) -> str:
    known = heartbeats.get(silent[0])
    return f" since step {known.step}, {PARTS.get(known.name, known.name)}" if known else ""

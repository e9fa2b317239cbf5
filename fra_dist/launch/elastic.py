"""The driver of an elastic run: as many workers as the cluster has, between two bounds, until the run is complete.

    wait for workers -> attempt -> complete | stopped by us to change size | failed -> again, from the newest checkpoint

A worker that dies ends the attempt at once. A node that is to be drained, or enough new workers for a larger world,
make the driver ask all ranks to stop; they save, so no step is lost.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fra_dist.distributed.environment import ATTEMPT, LAUNCH
from fra_dist.errors import DiskError
from fra_dist.exit_status import STOPPED
from fra_dist.launch.ledger import Ledger, RunFailed
from fra_dist.launch.outcome import Outcome, attempt_outcome
from fra_dist.launch.ray_cluster import Cluster, Group
from fra_dist.launch.trainer_command import Launch
from fra_dist.launch.world import largest
from fra_dist.train.run_dir.fence import is_locked
from fra_dist.train.signals import StopFlag


@dataclass(frozen=True)
class Pace:
    """How patient the driver of an elastic run is; all values in seconds."""

    settle: float = 5.0
    """How long to wait for more workers once there are as many as the smallest world needs."""
    grow_after: float = 30.0
    """How long a larger world must have been possible before it is worth a restart."""
    save_within: float = 600.0
    """How long the ranks may take to save and stop when they are asked to."""


def run_elastic(launch: Launch, cluster: Cluster, sizes: tuple[int, ...], pace: Pace, stop: StopFlag) -> int:
    """Run attempts until the run is complete (returns 0) or is stopped and saved (75).

    `sizes` are the possible numbers of workers, ascending; `stop` must be entered. Raises RunFailed when the run is
    given up after too many failures.
    """
    ledger = Ledger.open(launch.run, cluster.name, launch.max_failures)
    _wait_for_former(launch.run, stop)
    while True:
        group = _gather(cluster, sizes, pace, stop)
        if group is None:
            outcome = Outcome("stopped", "asked to stop while it waited for workers")
        else:
            outcome = Attempt(launch, ledger, cluster, group, sizes, pace, stop).run()
        again = ledger.settle(outcome, ask_again=stop.requested is None)
        print(f"fra-dist: attempt {ledger.attempt} {outcome.kind}" + (f": {outcome.cause}" if outcome.cause else ""))
        if ledger.state == "complete":
            return 0
        if ledger.state == "failed":
            raise RunFailed(ledger.reason)
        if not again:
            return STOPPED
        _sleep(ledger.delay(), stop)


class Attempt:
    """One attempt of an elastic run: a fixed number of workers, from their start to their end."""

    def __init__(
        self,
        launch: Launch,
        ledger: Ledger,
        cluster: Cluster,
        group: Group,
        sizes: tuple[int, ...],
        pace: Pace,
        stop: StopFlag,
    ) -> None:
        self.launch, self.ledger, self.cluster, self.group = launch, ledger, cluster, group
        self.sizes, self.pace, self.stop = sizes, pace, stop
        self.world = len(group.places)
        self.reason = ""
        self.deadline = float("inf")
        self.larger_since: float | None = None

    def run(self) -> Outcome:
        """Start the ranks and watch them until all have ended or one has failed; return how the attempt ended."""
        try:
            folder = self.ledger.begin_attempt(self.world)
        except DiskError as error:
            self.group.end()
            return Outcome("failed", str(error))
        nodes = len({place.node for place in self.group.places})
        print(f"fra-dist: attempt {self.ledger.attempt}, {self.world} ranks on {nodes} nodes", flush=True)
        log: BinaryIO | None = None
        try:
            self.group.start(
                self.launch.trainer, folder, {LAUNCH: self.ledger.launch, ATTEMPT: str(self.ledger.attempt)}
            )
            left = self.world
            while left:
                ended = self.group.wait(1.0)
                log = _show(log, folder)
                gone = next((one.why for one in ended if one.code is None), "")
                if gone:
                    return Outcome("failed", gone)
                if any(one.code for one in ended):
                    time.sleep(0.5)  # ranks pull each other down: let the first one's record arrive
                    return attempt_outcome(folder, self.world)
                left -= len(ended)
                if ended:  # the others are saving or done as well
                    self.deadline = min(self.deadline, time.monotonic() + 120)
                self._reconsider()
                if time.monotonic() > self.deadline:
                    return Outcome("failed", f"{left} ranks did not stop in time ({self.reason or 'others are done'})")
            outcome = attempt_outcome(folder, self.world)
            return Outcome(outcome.kind, outcome.cause or self.reason)
        finally:
            self.group.end()
            log = _show(log, folder)
            if log is not None:
                log.close()

    def _reconsider(self) -> None:
        """Ask the ranks to stop when we are, when a node is about to go, or when a larger world is possible."""
        if self.reason:
            return
        draining = self.cluster.draining()
        leaving = [place.address for place in self.group.places if place.node in draining]
        if self.stop.requested is not None:
            self.reason = f"asked to stop by {self.stop.requested.name}"
        elif leaving:
            self.reason = f"node {leaving[0]} is draining"
        else:
            self.reason = self._grown()
        if self.reason:
            self.deadline = time.monotonic() + self.pace.save_within
            self.group.ask_to_stop()

    def _grown(self) -> str:
        """Say why to restart with a larger world; empty while that is not possible or not for long enough."""
        world = largest(self.sizes, self.world + self.cluster.free()) if self.world < self.sizes[-1] else 0
        if world <= self.world:
            self.larger_since = None
            return ""
        self.larger_since = self.larger_since or time.monotonic()
        long_enough = time.monotonic() - self.larger_since >= self.pace.grow_after
        return f"there are workers for {world} ranks now" if long_enough else ""


def _gather(cluster: Cluster, sizes: tuple[int, ...], pace: Pace, stop: StopFlag) -> Group | None:
    """Wait for workers and return them; None when asked to stop."""
    since, printed_at, enough = time.monotonic(), 0.0, 0.0
    while stop.requested is None:
        world = largest(sizes, cluster.free())
        now = time.monotonic()
        enough = (enough or now) if world else 0.0
        if world == sizes[-1] or (world and now - enough >= pace.settle):
            group = cluster.group(world)
            if group is not None:
                return group
        if not world and now - max(printed_at, since) > 10:
            printed_at = now
            print(f"fra-dist: waiting for {sizes[0]} workers, {cluster.free()} are free", flush=True)
        time.sleep(0.5)
    return None


def _wait_for_former(run: Path, stop: StopFlag, patience: float = 30.0) -> None:
    """Wait for the ranks of a driver that was killed, which end a few seconds after it.

    If somebody else is writing, the trainer refuses.
    """
    end = time.monotonic() + patience
    while is_locked(run) and time.monotonic() < end and stop.requested is None:
        time.sleep(0.5)


def _show(log: BinaryIO | None, folder: Path) -> BinaryIO | None:
    path = folder / "rank-0.log"
    try:
        log = path.open("rb") if log is None else log
        text = log.read()
    except OSError:
        return log  # not there yet, or the disk does not answer now
    if text:
        print(text.decode(errors="replace"), end="", flush=True)
    return log


def _sleep(seconds: float, stop: StopFlag) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and stop.requested is None:
        time.sleep(0.2)

"""The watchdog: no silent hang. A rank that makes no progress is named, stacks are written, and the attempt ends.

Each rank has a thread that writes signs of life (`heartbeats`). When the rank itself stands still for half the time-out
it listens to the others; at the whole of it, it knows which rank is silent or furthest behind. Every live rank then
writes the stacks of its threads to RUN/stacks/attempt-NNNN, and all end with status 70, which launchers answer with the
next attempt. A process that is stopped as a whole is ended by its launcher's task (`pulse`).

The time-out is train.watchdog_seconds or, when null, 20 usual steps, 3 of the longest, and 120 s at the least. The
first steps and parts that may be slow (checkpoints, pictures) have 15 minutes, as long as the rank gives signs of life.
Time is counted in ticks of the thread: a job that is suspended as a whole and continued is not late.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fra_dist.config import Config
from fra_dist.distributed import RankContext
from fra_dist.exit_status import HUNG
from fra_dist.train.liveness.bounded import Aside, leave_within
from fra_dist.train.liveness.heartbeats import Heartbeat, Heartbeats, Listener, stalled_rank
from fra_dist.train.liveness.phases import Phases
from fra_dist.train.liveness.pulse import Pulse
from fra_dist.train.liveness.stack_dumps import dump_stacks, dump_stacks_to_stderr, record_verdict

SLOW = 900.0
"""Seconds for parts that may be slow, and for the first steps of an attempt."""
_FIRST_STEPS = 3
_FLOOR, _USUAL, _LONGEST = 120.0, 20.0, 3.0
_GRACE = 10.0


class Watchdog:
    """Watches this rank and the others while it is entered as a context; not with `train.watchdog_seconds=0`.

    Args:
        config: the settings of the run.
        ctx: this rank's place among the others.
        phases: where this rank is in its work, which the loop marks.
        hosts: the host of each rank, by rank.
        folder: the run folder.
        attempt: its number; signs of life of other attempts do not count.
    """

    def __init__(
        self, config: Config, ctx: RankContext, phases: Phases, hosts: Sequence[str], folder: Path, attempt: int
    ) -> None:
        self.phases, self.attempt, self.hosts = phases, attempt, tuple(hosts)
        self.rank, self.folder = ctx.rank, folder
        self.seconds = config.train.watchdog_seconds
        data = config.data
        self.remote = (data.retries + 1) * (data.timeout_seconds + 20) if "://" in data.shards else 0.0
        self.heartbeats = Heartbeats(self.folder, attempt, ctx.world)
        self.listener = Listener(self.heartbeats, self.rank)
        self.pulse = Pulse(self.silence)
        self.aside = Aside()
        self.ticked = time.monotonic()
        self.count = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fra-watchdog", daemon=True)

    def __enter__(self) -> Self:
        if self.seconds != 0:
            self.pulse.start()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join(_GRACE)  # no longer: a disk that hangs may keep it
            self.pulse.stop()

    def timeout(self) -> float:
        """Return the seconds without progress that are too many in general."""
        if self.seconds is not None:
            return self.seconds
        usual, longest = self.phases.usual_step()
        return max(_FLOOR, _USUAL * usual, _LONGEST * longest)

    def limit(self) -> float:
        """Return the seconds without progress that are too many in the present part of the step."""
        place, seconds = self.phases.place, self.timeout()
        if self.phases.steps < _FIRST_STEPS:
            return max(seconds, SLOW)
        if self.seconds is None and place.name == "data":
            seconds = max(seconds, self.remote)
        return max(seconds, place.patience)

    def silence(self) -> float | None:
        """Return the seconds without a pulse that are too many, for the launcher's task.

        No part of a step, however long, keeps the pulse from beating. None, which means no pulse, when the watching
        thread has ended or hangs: nothing would end this rank if it hung as well.
        """
        seconds = 2.5 * self.quiet() + _GRACE
        asleep = self._thread.ident is not None and time.monotonic() - self.ticked > max(seconds, 6 * _GRACE)
        return None if asleep else seconds

    def quiet(self) -> float:
        """Return the seconds without a sign of life, of this rank or of another, after which the ranks are compared."""
        seconds = self.timeout()
        return (seconds if self.phases.steps >= _FIRST_STEPS else max(seconds, _FLOOR)) / 2

    def _watch(self) -> None:
        stalled, place, before = 0.0, self.phases.place, time.monotonic()
        heard = 0.0
        while not self._stop.wait(tick := min(max(self.timeout() / 12, 0.1), 10.0)):
            now = self.ticked = time.monotonic()
            passed, before = min(now - before, 2 * tick), now  # a job that was suspended has not stood still
            stalled, place = (stalled + passed, place) if self.phases.place is place else (0.0, self.phases.place)
            heartbeat = self._beat(stalled)
            self._write_aside(heartbeat, tick)
            quiet = self.quiet()
            if stalled < quiet:
                if heard:
                    self.listener, heard = Listener(self.heartbeats, self.rank), 0.0
                continue
            listener, since = self.listener, passed
            self.aside.run(lambda listener=listener, since=since: listener.listen(since), tick)  # type: ignore[misc]
            heard += passed
            text = self._verdict(heartbeat, quiet)
            if text and self.phases.place is place:  # the loop may have moved on while the files were read
                self._end(heartbeat, text)
        self._write_aside(self._beat(0.0, leaving=True), _GRACE)

    def _verdict(self, heartbeat: Heartbeat, quiet: float) -> str | None:
        """Say why the attempt must end; None while it need not."""
        if self.aside.hangs:  # nothing is known of the others, and this rank must not wait for a disk
            late = heartbeat.stalled >= heartbeat.limit  # alone, this rank can only judge itself
            return (
                f"{stalled_rank({self.rank: heartbeat}, [], self.hosts)}; the disk of {self.folder} hangs"
                if late
                else None
            )
        if any(other.leaving and other.name != "done" for other in self.listener.last.values()):
            return "another rank has seen that the run stands still"
        # a rank that was heard may be silent for half the time-out; one still starting, for longer
        silent = self.listener.silent(quiet, unheard=SLOW / 2 if self.phases.steps < _FIRST_STEPS else quiet)
        # this rank listens from half the time-out on: it may name a silent rank then, but a slow one only at the whole
        if not silent and heartbeat.stalled < heartbeat.limit:
            return None
        return stalled_rank({**self.listener.last, self.rank: heartbeat}, silent, self.hosts)

    def _beat(self, stalled: float, leaving: bool = False) -> Heartbeat:
        self.count += 1
        place = self.phases.place
        name, order = ("done", 10**9) if leaving else (place.name, place.order)
        return Heartbeat(
            attempt=self.attempt,
            rank=self.rank,
            host=self.hosts[self.rank],
            count=self.count,
            order=order,
            step=place.step,
            name=name,
            stalled=round(stalled, 1),
            limit=round(self.limit(), 1),
            leaving=leaving,
        )

    def _write_aside(self, heartbeat: Heartbeat, seconds: float) -> None:
        if self.heartbeats.world > 1:
            self.aside.run(lambda: self._write(heartbeat), seconds)

    def _write(self, heartbeat: Heartbeat) -> None:
        try:
            self.heartbeats.write(heartbeat)
        except OSError as error:
            if self.count == 1:
                print(f"warning: cannot write signs of life: {error}", file=sys.stderr, flush=True)

    def _end(self, heartbeat: Heartbeat, text: str) -> None:
        """Write stacks, wait until the other live ranks have written theirs, and end the process.

        Does not return, whatever a disk does meanwhile.
        """
        leave_within(4 * _GRACE, HUNG)
        try:
            self._say_farewell(heartbeat, text)
        except Exception as error:  # ending comes first
            os.write(2, f"watchdog: {text} ({type(error).__name__}: {error})\n".encode())
        finally:
            os._exit(HUNG)

    def _say_farewell(self, heartbeat: Heartbeat, text: str) -> None:
        if self.aside.hangs:
            dump_stacks_to_stderr(heartbeat)
            print(f"watchdog: {text}; stacks above", file=sys.stderr, flush=True)
            return
        folder = self.folder / "stacks" / f"attempt-{self.attempt:04d}"
        text = record_verdict(folder, text, self.attempt, heartbeat.step)
        dump_stacks(folder / f"rank-{self.rank:05d}.txt", heartbeat)
        self.count += 1
        if self.heartbeats.world > 1:
            self._write(Heartbeat(**{**heartbeat.__dict__, "count": self.count, "leaving": True}))
        end = time.monotonic() + _GRACE
        while time.monotonic() < end:  # who leaves first breaks the connections of the others
            last = self.heartbeats.read() if self.heartbeats.world > 1 else {}
            silent = self.listener.silent(self.quiet())
            if all(other.leaving or other.rank in silent for other in last.values()):
                break
            time.sleep(0.2)
        print(f"watchdog: {text}; stacks in {folder}", file=sys.stderr, flush=True)

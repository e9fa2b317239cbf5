"""Copies the shards that the plan's next steps need into the cache, before the reader asks for them."""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from math import ceil

import numpy as np
from numpy.typing import NDArray

from fra_dist.config import DataConfig
from fra_dist.data.order.plan import Plan
from fra_dist.data.shards.manifest import Manifest
from fra_dist.data.shards.reader import ShardSource
from fra_dist.data.shards.remote_source import CachedSource
from fra_dist.distributed import RankContext
from fra_dist.errors import DataError

THREADS = 4
"""Downloads that one rank runs at a time."""
_AGAIN = 64  # steps without need of a shard after which it is asked for again, should it have been evicted


class Prefetcher:
    """Walks the plan of one rank ahead of its reader: one thread looks ahead, THREADS threads fetch, until `close`.

    shard_bytes: size of each shard in bytes; fetch: gets the number of a shard to fetch, and may be called by several
    threads; shards, most_bytes: how many copies, and how many bytes of them, may wait for the reader.
    """

    def __init__(
        self,
        plan: Plan,
        rank: int,
        world: int,
        start_step: int,
        stop_step: int | None,
        shard_bytes: NDArray[np.int64],
        fetch: Callable[[int], None],
        shards: int,
        most_bytes: int,
    ) -> None:
        self.plan, self.rank, self.world, self.stop_step = plan, rank, world, stop_step
        self.shard_bytes, self.fetch = shard_bytes, fetch
        self.shards, self.most_bytes = shards, most_bytes
        self.horizon = horizon(plan)
        self._reached = start_step
        self._stopped = False
        self._moved = threading.Condition()
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._look, args=(start_step,), name="fra-ahead", daemon=True)]
        self._threads += [threading.Thread(target=self._work, name="fra-fetch", daemon=True) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def reached(self, step: int) -> None:
        """Note that the reader begins with a step, which makes space for shards of later steps."""
        with self._moved:
            self._reached = step
            self._moved.notify()

    def close(self, wait: float = 5.0) -> None:
        """Stop all threads. One whose `fetch` does not end within `wait` seconds is left behind; it dies with the
        process."""
        with self._moved:
            self._stopped = True
            self._moved.notify()
        for thread in self._threads:
            thread.join(wait)

    def _look(self, step: int) -> None:
        try:
            self._walk(step)
        finally:
            for _ in range(THREADS):
                self._queue.put(None)

    def _walk(self, step: int) -> None:
        waiting: deque[tuple[int, int]] = deque()  # (first step, bytes) of shards asked for, not yet reached
        last: dict[int, int] = {}  # the latest step that needs a shard
        while self.stop_step is None or step < self.stop_step:
            ids = self.plan.batch(step, self.rank, self.world).ids
            for shard in np.unique(np.searchsorted(self.plan.first_ids, ids, "right") - 1).tolist():
                # A shard never needed before counts as last needed _AGAIN steps ago, so that it is fetched.
                known = step - last.get(shard, step - _AGAIN) < _AGAIN
                last[shard] = step
                if known:
                    continue
                if not self._wait_for_space(step, waiting, int(self.shard_bytes[shard])):
                    return
                self._queue.put(shard)
            last = {shard: needed for shard, needed in last.items() if step - needed < _AGAIN}
            if not self._wait_for_step(step - self.horizon):
                return
            step += 1

    def _wait_for_space(self, step: int, waiting: "deque[tuple[int, int]]", size: int) -> bool:
        """Wait until a copy of `size` bytes, needed at `step`, may be made. False when it is time to stop."""
        with self._moved:
            while not self._stopped:
                while waiting and waiting[0][0] <= self._reached:
                    waiting.popleft()
                if step <= self._reached:
                    return True
                if len(waiting) < self.shards and sum(held for _, held in waiting) + size <= self.most_bytes:
                    waiting.append((step, size))
                    return True
                self._moved.wait()
        return False

    def _wait_for_step(self, step: int) -> bool:
        """Wait until the reader reaches a step. False when it is time to stop."""
        with self._moved:
            while self._reached < step and not self._stopped:
                self._moved.wait()
            return not self._stopped

    def _work(self) -> None:
        while (shard := self._queue.get()) is not None:
            if self._stopped:
                continue
            with contextlib.suppress(DataError):  # the reader meets it too, and says so
                self.fetch(shard)


def start_prefetcher(
    config: DataConfig,
    source: ShardSource,
    manifest: Manifest,
    plan: Plan,
    ctx: RankContext,
    steps: tuple[int, int | None],
) -> Prefetcher | None:
    """Start fetching ahead for steps steps[0] .. steps[1] - 1; None where no copies of shards are kept.

    steps[1] may be None, for a run without end.
    """
    shards = plan.streams_of_rank(ctx.world) if config.prefetch_shards is None else config.prefetch_shards
    if not isinstance(source, CachedSource) or not shards:
        return None
    names = [shard.name for shard in manifest.shards]
    sizes = np.array([shard.bytes for shard in manifest.shards], np.int64)
    half = source.cache.limit // 2  # the other half is for what is being read
    return Prefetcher(
        plan, ctx.rank, ctx.world, *steps, sizes, lambda number: source.ahead(names[number]), shards, half
    )


def horizon(plan: Plan) -> int:
    """How many steps to look ahead: those in which every stream passes about two shards, or two windows if these are
    larger."""
    held = plan.sizes[plan.sizes > 0]
    each = max(float(held.mean()), float(plan.window))
    return min(8192, 8 + ceil(2 * each * plan.streams / plan.global_batch))

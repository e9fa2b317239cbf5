"""Measures of a plan: how well it shuffles, which shards it reads at a time, and how evenly it loads the ranks."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fra_dist.data.order.plan import Plan


class Shuffle(NamedTuple):
    """Measures of one epoch's order. A perfect shuffle has a correlation of 0 and meets samples of one shard by chance
    only."""

    moved_mean: float
    """Mean distance, in samples, from a sample's unshuffled place in its stream to its turn; a third of a window is the
    best."""
    moved_max: int
    """Largest such distance, in samples; always less than the window."""
    correlation: float
    """Correlation of the ids of samples that follow each other in a stream."""
    same_shard: float
    """Chance that two samples of one global batch come from the same shard."""
    same_shard_by_chance: float
    """The same chance for two samples drawn at random from the whole set."""


def measure_shuffle(plan: Plan, epoch: int = 0, samples: int = 100_000, batches: int = 20) -> Shuffle:
    """Measure the shuffle of one epoch of a plan on about `samples` of its samples and `batches` of its batches."""
    count = min(plan.samples, samples)
    if plan.window == 0:
        turns = np.arange(count)
        places = plan.line_places(epoch, turns)
        home = turns
    else:
        streams = max(1, min(plan.streams, count // min(plan.window, plan.samples) or 1))
        length = min(plan.samples // plan.streams, -(-count // streams))
        stream, offset = np.divmod(np.arange(streams * length), length)
        places = plan.line_places(epoch, offset * plan.streams + stream)
        short, longer = divmod(plan.samples, plan.streams)
        home = stream * short + np.minimum(stream, longer) + offset
    moved = np.abs(places - home)
    ids = plan.ids_at(epoch, places).astype(np.float64)
    steps = np.unique(np.linspace(0, max(0, plan.samples // plan.global_batch - 1), batches).astype(int))
    share = [_same(np.searchsorted(plan.first_ids, plan.batch(step).ids, side="right")) for step in steps.tolist()]
    sizes = plan.sizes.astype(np.float64)
    chance = float((sizes * (sizes - 1)).sum() / max(1.0, plan.samples * (plan.samples - 1.0)))
    return Shuffle(float(moved.mean()), int(moved.max()), _correlation(ids), float(np.mean(share)), chance)


def rank_bytes(plan: Plan, shard_bytes: ArrayLike, world: int, steps: int, start: int = 0) -> NDArray[np.float64]:
    """Bytes (world,) that each rank reads in `steps` steps from step `start`; every sample counts as its shard's
    mean."""
    each = np.asarray(shard_bytes, np.float64) / np.maximum(plan.sizes, 1)
    total = np.zeros(world)
    for step in range(start, start + steps):
        shards = np.searchsorted(plan.first_ids, plan.batch(step).ids, side="right") - 1
        total += each[shards].reshape(-1, world).sum(axis=0)
    return total


def shards_of_rank(plan: Plan, rank: int, world: int, epoch: int = 0) -> int:
    """Different shards that hold the streams which one rank reads during an epoch."""
    found: set[int] = set()
    for number in range(plan.streams_of_rank(world)):
        span = plan.stream_span((rank + world * number) % plan.streams)
        found.update(plan.shards_between(epoch, *span).tolist())
    return len(found)


def working_set(plan: Plan, ranks: Iterable[int], world: int, start: int = 0, looks: int = 64) -> int:
    """Different shards that the given ranks together read from while each stream is in one window.

    This is what a cache that they share must hold so that no shard is fetched twice. Found from `looks` batches spread
    over the steps of a window, so it can miss a few when a window spans many small shards.
    """
    window = min(plan.window or plan.samples, -(-plan.samples // plan.streams))
    steps = max(1, window * plan.streams // plan.global_batch)
    found: set[int] = set()
    chosen = list(ranks)
    for step in np.unique(np.linspace(start, start + steps - 1, min(steps, looks)).astype(int)).tolist():
        ids = plan.batch(step).ids.reshape(-1, world)[:, chosen]
        found.update((np.searchsorted(plan.first_ids, ids.ravel(), side="right") - 1).tolist())
    return len(found)


def _same(shards: NDArray[np.int64]) -> float:
    _, counts = np.unique(shards, return_counts=True)
    return float((counts * (counts - 1)).sum()) / max(1, shards.size * (shards.size - 1))


def _correlation(values: NDArray[np.float64]) -> float:
    first, second = values[:-1], values[1:]
    if len(values) < 3 or first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])

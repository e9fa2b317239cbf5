"""Which samples a rank reads at a step: a pure function of the step, so a checkpoint need save nothing but the step.

**The sequence.** Epochs follow each other in one endless sequence of samples. Each epoch is a permutation of all N
samples, and batch t is places t*G .. t*G + G - 1 of the sequence, G being the global batch. So every sample appears
exactly once per epoch and every batch has G samples: a batch that the end of an epoch cuts short is filled from the
beginning of the next epoch, nothing is dropped or repeated, and each sample carries the epoch it belongs to.

**An epoch** (the idea of MosaicML Streaming, applied to plain tars). The shards are put in random order and laid end to
end; this line is cut into C ranges of equal length, the streams; each stream is cut into windows of at most W samples,
each window is shuffled, and the epoch takes one sample from each stream in turn. W = 0 means one shuffle over the whole
epoch instead, without regard for where samples lie.

**Ranks.** Rank r of R takes places r, r + R, r + 2R, ... of a batch. The batch is therefore the same for every R, and a
rank reads from only C / gcd(C, R) of the streams during an epoch. C need not divide anything.

Sample ids count through the shards in manifest order, from 0.
"""

from math import ceil, gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fra_dist.data.order.counter_random import key, permute
from fra_dist.errors import ConfigError, DataError

Ids = NDArray[np.int64]
"""An int64 array of sample ids, or of places in an epoch."""

_SHARDS, _WINDOWS, _WHOLE = 1, 2, 3  # domains of the hash


class PlannedBatch(NamedTuple):
    """The samples that one rank reads at a step, and the epoch each of them belongs to."""

    ids: Ids
    """Sample ids (B,), int64."""
    epochs: Ids
    """Epoch of each sample (B,), int64; two values occur in a batch that spans the end of an epoch."""


class Plan:
    """The order in which the samples of a data set are read.

    sizes: samples in each shard, in manifest order (zeros allowed); seed: the run's seed; global_batch: G; streams: C,
    of which at most min(N, G) are used, so that every batch draws from all of them; window: W, in samples, 0 for a
    shuffle over the whole epoch.

    Raises DataError when there are fewer samples than one global batch takes, ConfigError when a number is out of
    range.
    """

    def __init__(self, sizes: ArrayLike, seed: int, global_batch: int, streams: int = 32, window: int = 4096) -> None:
        self.sizes = np.atleast_1d(np.asarray(sizes, np.int64))
        self.samples = int(self.sizes.sum())
        if self.samples < global_batch:
            raise DataError(
                f"the shards hold {self.samples} samples, fewer than one global batch of {global_batch}: "
                "add data or lower train.global_batch"
            )
        if global_batch < 1 or streams < 1 or window < 0:
            raise ConfigError("a plan needs a global batch and streams of 1 or more and a window of 0 or more")
        self.seed, self.global_batch, self.window = seed, global_batch, window
        self.streams = 1 if window == 0 else min(streams, self.samples, global_batch)
        self.first_ids = np.cumsum(self.sizes) - self.sizes
        self._epochs: dict[int, tuple[Ids, Ids]] = {}

    @property
    def steps_per_epoch(self) -> float:
        """Steps per epoch, N / G. Not a whole number in general: a batch may span the end of an epoch."""
        return self.samples / self.global_batch

    def steps(self, epochs: float) -> int:
        """The fewest steps that read all samples of `epochs` epochs; at least 1."""
        return max(1, ceil(epochs * self.samples / self.global_batch - 1e-9))

    def streams_of_rank(self, world: int) -> int:
        """How many streams one rank of `world` reads from during an epoch. This bounds the shards that it has open."""
        return self.streams // gcd(self.streams, world)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> PlannedBatch:
        """The samples that `rank` of `world` reads at `step` (from 0): G / world of them, found in constant time.

        `batch(t, r, R)` equals `batch(t)` taken at [r::R]. Raises ConfigError when world does not divide G, ValueError
        for a negative step or a rank outside the world.
        """
        if world < 1 or self.global_batch % world:
            raise ConfigError(
                f"a global batch of {self.global_batch} cannot be shared equally by {world} ranks: "
                "choose a multiple of the number of ranks"
            )
        if step < 0 or not 0 <= rank < world:
            raise ValueError(f"step {step} of rank {rank} in a world of {world} does not exist")
        places = step * self.global_batch + np.arange(rank, self.global_batch, world, dtype=np.int64)
        epochs, index = np.divmod(places, self.samples)
        ids = np.empty_like(index)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            ids[here] = self.epoch_ids(epoch, index[here])
        return PlannedBatch(ids, epochs)

    def epoch_ids(self, epoch: int, index: Ids) -> Ids:
        """Sample ids at places `index` of one epoch; `index` has any shape and values 0 <= index < N."""
        return self.ids_at(epoch, self.line_places(epoch, index))

    def line_places(self, epoch: int, index: Ids) -> Ids:
        """Where the samples at places `index` of an epoch lie on that epoch's line of shards laid end to end."""
        if self.window == 0:
            return permute(index, self.samples, key(_WHOLE, self.seed, epoch))
        offset, stream = np.divmod(index, self.streams)
        short, longer = divmod(self.samples, self.streams)  # the first `longer` streams have one sample more
        length = short + (stream < longer)
        start = stream * short + np.minimum(stream, longer)
        windows = -(-length // self.window)
        number, first, size = _part(offset, length, windows)
        keys = key(_WINDOWS, self.seed, epoch, stream, number)
        return start + first + permute(offset - first, size, keys)

    def ids_at(self, epoch: int, places: Ids) -> Ids:
        """Sample ids at the given places on the line of an epoch, which is its shards laid end to end in their random
        order."""
        order, ends = self._shard_order(epoch)
        slot = np.searchsorted(ends, places, side="right")
        shard = order[slot]
        return self.first_ids[shard] + places - (ends[slot] - self.sizes[shard])

    def shards_between(self, epoch: int, begin: int, end: int) -> Ids:
        """Numbers of the shards that hold places begin .. end - 1 of an epoch's line, in the order of the line, empty
        ones left out."""
        order, ends = self._shard_order(epoch)
        first, last = np.searchsorted(ends, [begin, end - 1], side="right").tolist()
        shards = order[first : last + 1]
        return shards[self.sizes[shards] > 0]

    def stream_span(self, stream: int) -> tuple[int, int]:
        """The places (begin, end) between which a stream lies on the line of an epoch; `end` is exclusive."""
        short, longer = divmod(self.samples, self.streams)
        begin = stream * short + min(stream, longer)
        return begin, begin + short + (stream < longer)

    def _shard_order(self, epoch: int) -> tuple[Ids, Ids]:
        """The shards in this epoch's order, and where each ends on the line."""
        known = self._epochs.get(epoch)
        if known is None:
            order = np.argsort(key(_SHARDS, self.seed, epoch, np.arange(self.sizes.size)), kind="stable")
            known = order, np.cumsum(self.sizes[order])
            # Neighbouring epochs stay: a batch can span two, and the prefetcher looks ahead.
            recent = {e: table for e, table in self._epochs.items() if abs(e - epoch) == 1}
            self._epochs = {**recent, epoch: known}
        return known


def _part(offset: Ids, length: Ids, parts: Ids) -> tuple[Ids, Ids, Ids]:
    """Cut range(length) into nearly equal parts: (number, first offset, size) of the part that holds each offset."""
    small, extra = np.divmod(length, parts)  # the first `extra` parts have one more
    cut = extra * (small + 1)
    number = np.where(offset < cut, offset // (small + 1), extra + (offset - cut) // np.maximum(small, 1))
    first = number * small + np.minimum(number, extra)
    return number, first, small + (number < extra)

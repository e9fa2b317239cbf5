"""Turns a step into a request that a pipeline can decode: plan, bytes, header check, substitutes, augmentation."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fra_dist.config import Config
from fra_dist.data.decoding.images import BadImage, PhotoHeader, complete_bytes, probe
from fra_dist.data.decoding.pipeline import Request
from fra_dist.data.loading.batch import BadSample, Geometry
from fra_dist.data.loading.quarantine import Quarantine, candidates, check_bad_share
from fra_dist.data.order.plan import Plan
from fra_dist.data.order.views import ViewParams, draw_views, views_of
from fra_dist.data.shards.index import CHECKED, DECODED, OPEN
from fra_dist.data.shards.reader import ShardReader, StoredPhoto
from fra_dist.errors import DataError


@dataclass
class EncodedBatch:
    """One rank's batch before it is decoded: B samples, their bytes and the augmentation of their views."""

    step: int
    """The step that this batch is for, from 0."""
    epoch: int
    """Epoch of the first sample of the global batch."""
    planned: NDArray[np.int64]
    """(B,): sample ids that the plan asked for."""
    epochs: NDArray[np.int64]
    """(B,): epoch of each sample."""
    ids: NDArray[np.int64]
    """(B,): ids of the samples used, with substitutes in place of bad ones."""
    images: list[bytes]
    """Encoded photo of each sample, B of them."""
    heads: list[PhotoHeader | None]
    """Parsed header of each photo; None only while its position has no usable photo yet."""
    params: tuple[ViewParams, ...] | None = None
    """Augmentation parameters of each view; None until they are drawn."""
    found: list[BadSample] = field(default_factory=list)
    """Bad samples that this rank met for the first time in this batch."""
    substitutes: dict[int, Iterator[int]] = field(default_factory=dict)
    """Substitutes not tried yet, by position in the batch; only positions whose planned sample was bad have an
    entry."""

    def request(self) -> Request:
        """The request that a decoding pipeline takes for this batch. The views must have been drawn."""
        assert self.params is not None
        return Request(self.images, [head for head in self.heads if head is not None], self.params)

    def geometry(self) -> Geometry:
        """How the views of this batch lie in their photos. The views must have been drawn."""
        request = self.request()
        return Geometry(
            boxes=np.stack([view.box for view in request.params]),
            flips=np.stack([view.flip for view in request.params]),
            heights=np.array([head.height for head in request.heads], np.int32),
            widths=np.array([head.width for head in request.heads], np.int32),
        )


class Feeder:
    """Prepares the batches of one rank. Everything except the quarantine is a function of the step."""

    def __init__(
        self, config: Config, plan: Plan, reader: ShardReader, quarantine: Quarantine, rank: int, world: int
    ) -> None:
        self.config, self.plan, self.reader, self.quarantine = config, plan, reader, quarantine
        self.rank, self.world = rank, world
        self.pool = ThreadPoolExecutor(config.data.threads, thread_name_prefix="fra-whole")

    def close(self) -> None:
        """Stop the feeder's threads and close the reader of shards. The feeder cannot be used afterwards."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.reader.close()

    def prepare(self, step: int) -> EncodedBatch:
        """Read and check the samples of a step and draw their views, with substitutes in place of bad samples.

        Raises DataError when a shard is missing or too many samples are bad.
        """
        planned, epochs = self.plan.batch(step, self.rank, self.world)
        known = np.array([sample in self.quarantine.known for sample in planned.tolist()])
        wanted = np.flatnonzero(~known)
        looks = dict(zip(wanted.tolist(), self._looks(self.reader.read(planned[wanted])), strict=True))
        first_epoch = step * self.plan.global_batch // self.plan.samples
        count = len(planned)
        batch = EncodedBatch(step, first_epoch, planned, epochs, planned.copy(), [b""] * count, [None] * count)
        self.quarantine.read += len(planned)
        for position in range(len(planned)):
            if known[position]:
                self.quarantine.add(int(planned[position]))
                self._substitute(batch, position)
                continue
            looked = looks[position]
            if isinstance(looked, BadImage):
                self._reject(batch, position, str(looked))
            else:
                batch.heads[position], batch.images[position] = looked
        self._draw(batch)
        return batch

    def _looks(self, stored: Sequence[StoredPhoto]) -> "list[tuple[PhotoHeader, bytes] | BadImage]":
        """`_look` at each; in threads where photos must be walked through, which takes as long as reading them."""
        if any(_unchecked(photo) for photo in stored):
            return list(self.pool.map(_look, stored))
        return [_look(photo) for photo in stored]

    def replace(self, batch: EncodedBatch, reasons: Mapping[int, str]) -> None:
        """Put substitutes in place of photos that the decoder rejected, and draw the views again.

        reasons: why each photo was rejected, by its position in the batch. Raises DataError when too many samples are
        bad.
        """
        for position, reason in sorted(reasons.items()):
            self._reject(batch, position, reason)
        self._draw(batch)

    def _reject(self, batch: EncodedBatch, position: int, reason: str) -> None:
        self._condemn(batch, int(batch.ids[position]), reason, planned=position not in batch.substitutes)
        self._substitute(batch, position)

    def _condemn(self, batch: EncodedBatch, sample: int, reason: str, planned: bool) -> None:
        bad = BadSample(sample, *self.reader.name(sample), reason)
        if self.quarantine.add(sample, planned):
            batch.found.append(bad)
        if self.world == 1:  # several ranks judge together, see `train/hooks/metrics.py`
            met, read = len(self.quarantine.met), self.quarantine.read
            check_bad_share(met, read, self.plan.samples, self.config.data.max_bad_share, bad)

    def _substitute(self, batch: EncodedBatch, position: int) -> None:
        """Take the next good candidate for a position, noting the bad ones on the way."""
        if position not in batch.substitutes:
            batch.substitutes[position] = self._candidates(int(batch.planned[position]), int(batch.epochs[position]))
        for sample in batch.substitutes[position]:
            if sample in self.quarantine.known:
                continue
            looked = _look(self.reader.read(np.array([sample]))[0])
            if isinstance(looked, BadImage):
                self._condemn(batch, sample, str(looked), planned=False)
                continue
            batch.ids[position] = sample
            batch.heads[position], batch.images[position] = looked
            return
        shard, key = self.reader.name(int(batch.planned[position]))
        raise DataError(f"no usable sample found in place of {key} in {shard}: check the shards")

    def _candidates(self, sample: int, epoch: int) -> Iterator[int]:
        shard = self.reader.shard_of(sample)
        first, count = int(self.plan.first_ids[shard]), int(self.plan.sizes[shard])
        return candidates(self.config.seed, epoch, sample, first, count, self.plan.samples)

    def _draw(self, batch: EncodedBatch) -> None:
        data, seed = self.config.data, self.config.seed
        request_heads = [head for head in batch.heads if head is not None]
        heights = np.array([head.height for head in request_heads])
        widths = np.array([head.width for head in request_heads])
        batch.params = tuple(
            draw_views(view, seed, batch.epochs, batch.ids, number, heights, widths)
            for number, (view, _) in enumerate(views_of(data))
        )


def _look(stored: StoredPhoto) -> tuple[PhotoHeader, bytes] | BadImage:
    """What the header says, and bytes that any decoder takes; or why the photo cannot be used."""
    try:
        head = probe(stored.data)
        if not stored.intact:
            raise BadImage("changed since it was indexed (checksum)")
        return head, complete_bytes(stored.data) if _unchecked(stored) else stored.data
    except BadImage as error:
        return error


def _unchecked(stored: StoredPhoto) -> bool:
    """Whether nobody has seen yet that all blocks of the photo are there, or its end mark is not."""
    return bool(stored.flags & OPEN) or not stored.flags & (DECODED | CHECKED)

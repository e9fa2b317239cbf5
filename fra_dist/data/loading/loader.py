"""An iterator of batches, prepared ahead of the trainer in one background thread (and the threads of the pipeline).

The batches depend on the configuration, the shards and the step only: not on prefetching, threads, world size or
restarts.
"""

import atexit
import queue
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Self

import torch

from fra_dist.config import Config
from fra_dist.data.decoding.open_pipeline import open_pipeline
from fra_dist.data.decoding.pipeline import HOST_FORM, Pipeline, UndecodableError, ViewForm
from fra_dist.data.loading.batch import Batch
from fra_dist.data.loading.feeder import EncodedBatch, Feeder
from fra_dist.data.loading.prefetch import Prefetcher, start_prefetcher
from fra_dist.data.loading.quarantine import Quarantine
from fra_dist.data.loading.run_plan import make_plan
from fra_dist.data.shards.manifest import Manifest
from fra_dist.data.shards.reader import ShardReader, open_shard_source
from fra_dist.data.shards.remote_source import STATS
from fra_dist.data.stores.remote_folder import RemoteFolder
from fra_dist.distributed import RankContext

CLOSE_PATIENCE = 10.0
"""Seconds that closing a loader waits for a read of the data disk to end; after that the thread dies with the
process."""


def make_loader(
    config: Config,
    manifest: Manifest,
    ctx: RankContext,
    start_step: int = 0,
    stop_step: int | None = None,
    known_bad: Iterable[int] = (),
    check_files: bool = True,
    form: ViewForm = HOST_FORM,
) -> "Loader":
    """A loader of this rank's batches for steps start_step .. stop_step - 1 (without end when stop_step is None).

    known_bad: ids that an earlier attempt found undecodable; they are replaced without being read again. check_files:
    check first that every shard is there; it is enough that one rank of a node does so. form: of the views on a GPU.

    Raises ConfigError when the ranks cannot share the batch, DataError when the data set is too small or incomplete.
    """
    plan = make_plan(config, manifest)
    plan.batch(start_step, ctx.rank, ctx.world)
    manifest = manifest.separate()
    reader = ShardReader(manifest, open_shard_source(manifest))
    if check_files:
        reader.check()
    quarantine = Quarantine(known_bad)
    feeder = Feeder(config, plan, reader, quarantine, ctx.rank, ctx.world)
    pipeline = open_pipeline(config.data, ctx.device, config.train.global_batch // ctx.world, form)
    ahead = start_prefetcher(config.data, reader.source, manifest, plan, ctx, (start_step, stop_step))
    return Loader(feeder, pipeline, start_step, stop_step, ahead)


class Loader:
    """Iterates over `Batch`; call `close` when done, or use it in a `with` statement.

    wait_seconds: total time that `next` has spent waiting for a batch, which gives the data-wait share of a run.
    """

    def __init__(
        self,
        feeder: Feeder,
        pipeline: Pipeline,
        start_step: int,
        stop_step: int | None,
        ahead: Prefetcher | None = None,
    ) -> None:
        self.plan, self.quarantine = feeder.plan, feeder.quarantine
        folder = feeder.reader.manifest.folder
        self._folder = folder if isinstance(folder, RemoteFolder) else None
        self.wait_seconds = 0.0
        self._out: queue.Queue[Batch | BaseException | None] = queue.Queue(1)  # beside those in the pipeline
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=_produce,
            args=(feeder, pipeline, start_step, stop_step, self._out, self._stop, ahead),
            name="fra-loader",
            daemon=True,
        )
        self._finish = weakref.finalize(self, _finish, self._thread, self._out, self._stop, self._folder)
        # At the interpreter's exit the thread must have ended before DALI's own exit function destroys the pipelines:
        # a pipeline that is run after that builds itself again. Functions registered last run first, and a
        # finalizer's turn at exit is that of the first finalizer in the process.
        atexit.register(self._finish)
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if not self._finish.alive:
            raise StopIteration
        before = time.perf_counter()
        item = self._out.get()
        self.wait_seconds += time.perf_counter() - before
        if isinstance(item, Batch):
            _wait_on_stream(item)
            return item
        self.close()
        if item is None:
            raise StopIteration
        raise item

    @property
    def source_stats(self) -> dict[str, float]:
        """Counts of what was read from a store so far, named as in `remote_source.STATS`; empty for a local folder."""
        counters = self._folder.counters if self._folder is not None else None
        return {} if counters is None else {name: counters[name] for name in STATS}

    def close(self) -> None:
        """Stop the threads and close the files. Calling it again does nothing."""
        self._finish()
        atexit.unregister(self._finish)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _wait_on_stream(batch: Batch) -> None:
    """Let the current stream wait for the views, which another one makes; the host waits for nothing."""
    if batch.ready is None:
        return
    stream = torch.cuda.current_stream(batch.views[0].device)
    stream.wait_event(batch.ready)
    for view in batch.views:  # whose memory is the other stream's, and not free before this one is through with it
        view.record_stream(stream)


def _finish(
    thread: threading.Thread,
    out: "queue.Queue[Batch | BaseException | None]",
    stop: threading.Event,
    folder: RemoteFolder | None,
) -> None:
    stop.set()
    if folder is not None:
        folder.stop()
    end = time.monotonic() + CLOSE_PATIENCE
    while thread.is_alive():  # the producer may be waiting for a free place in the queue
        try:
            out.get_nowait()
        except queue.Empty:
            thread.join(0.05)
        if time.monotonic() > end:
            text = f"a read of the data set has not ended in {CLOSE_PATIENCE:.0f} s and is left behind"
            print(f"warning: {text}", file=sys.stderr, flush=True)
            return


def _produce(
    feeder: Feeder,
    pipeline: Pipeline,
    start_step: int,
    stop_step: int | None,
    out: "queue.Queue[Batch | BaseException | None]",
    stop: threading.Event,
    ahead: Prefetcher | None,
) -> None:
    """Body of the background thread. Errors travel through the queue to whoever asks for the next batch."""
    try:
        depth = feeder.config.data.prefetch
        waiting: deque[EncodedBatch] = deque()
        step = start_step
        while not stop.is_set():
            while len(waiting) < depth and (stop_step is None or step < stop_step):
                if ahead is not None:
                    ahead.reached(step)
                waiting.append(feeder.prepare(step))
                pipeline.submit(waiting[-1].request())
                step += 1
            if not waiting:
                out.put(None)
                return
            out.put(_collect(feeder, pipeline, waiting.popleft()))
    except BaseException as error:
        if not stop.is_set():
            out.put(error)
    finally:
        if ahead is not None:
            ahead.close()
        pipeline.close()
        feeder.close()


def _collect(feeder: Feeder, pipeline: Pipeline, batch: EncodedBatch) -> Batch:
    """Collect a batch; put substitutes in place of photos that cannot be decoded, until all can be."""
    views = None
    try:
        views = pipeline.collect()
    except UndecodableError as error:
        reasons = error.reasons
    while views is None:
        feeder.replace(batch, reasons)
        try:
            views = pipeline.redo(batch.request())
        except UndecodableError as error:
            reasons = error.reasons
    return Batch(
        step=batch.step,
        epoch=batch.epoch,
        ids=batch.ids,
        planned=batch.planned,
        epochs=batch.epochs,
        views=views,
        geometry=batch.geometry(),
        quarantined=tuple(batch.found),
        ready=None if pipeline.stream is None else pipeline.stream.record_event(),
    )

"""Checkpoints written in the background: a step waits only for a copy in memory, and a thread does the rest.

At most one checkpoint is being written. A second one that is due meanwhile waits half a minute for the first and is
then left out, as are later ones until the first has ended: a disk that hangs must not stop the training.
"""

import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fra_dist.config import CheckpointConfig
from fra_dist.errors import FraError
from fra_dist.train.checkpoints.retention import apply_retention
from fra_dist.train.checkpoints.snapshot import Snapshot
from fra_dist.train.checkpoints.writing import Contents, save_checkpoint

BUSY_WAIT = 30.0
"""Seconds that a periodic checkpoint waits for the one before it."""


@dataclass(frozen=True)
class WriteResult:
    """The result of writing one checkpoint in the background: how long it took, and where it is or what failed."""

    step: int
    """The step of the checkpoint."""
    stall: float
    """Seconds for which the training step waited."""
    seconds: float = 0.0
    """Seconds that the writing took."""
    path: Path | None = None
    """The folder of the checkpoint; None when it could not be written."""
    error: BaseException | None = None
    """Why it could not be written; None when it was."""
    deleted: tuple[str, ...] = ()
    """Names of the older checkpoints that were deleted after it."""
    unsure: str = ""
    """Why the rows before it may not outlive a power cut; empty when they do."""


class Saver:
    """Writes the checkpoints of a run into one folder, in the background.

    Args:
        folder: RUN/checkpoints.
        settings: the section checkpoint of the configuration.
        permit: called before anything in the folder is touched; an error that it raises becomes the outcome.
        newest: the step of the newest checkpoint in the folder that is known to be whole; -1 for none.
    """

    def __init__(
        self,
        folder: Path,
        settings: CheckpointConfig,
        permit: Callable[[], None] = lambda: None,
        newest: int = -1,
    ) -> None:
        self.folder, self.settings, self.permit = folder, settings, permit
        self.newest = newest
        """The step of the newest checkpoint that is known to be whole; -1 while there is none."""
        self._snapshot = Snapshot()
        self._done: queue.SimpleQueue[WriteResult] = queue.SimpleQueue()
        self._overdue = False
        self._last: list[threading.Thread | None] = [None]
        # at interpreter exit as well, before daemon threads are cut off
        self._finish = weakref.finalize(self, _finish, self._last, os.getpid(), settings.patience_seconds)

    @property
    def busy(self) -> bool:
        """Whether the background thread is writing a checkpoint at this moment."""
        return self._last[0] is not None and self._last[0].is_alive()

    def save(self, contents: Contents, sync_rows: Callable[[], None] = lambda: None) -> bool:
        """Copy the state into host memory and begin to write it; False, with nothing done, when the writer stays busy.

        `sync_rows` is called in the background before anything is written, to flush the rows of the steps before the
        checkpoint to the disk. A FraError that it raises is told in the outcome, and the checkpoint written all the
        same.

        `contents` may hold live tensors of any device and layout. The call waits for the checkpoint before it, for
        BUSY_WAIT seconds at most, and for the copy: a host synchronisation when the state is on a GPU.
        """
        began = time.perf_counter()
        if not self.wait(0.0 if self._overdue else BUSY_WAIT):
            self._overdue = True
            return False
        self._overdue = False
        copy = self._snapshot.take({"model": contents.model, "optimizer": contents.optimizer})
        fixed = replace(contents, model=copy["model"], optimizer=copy["optimizer"])
        outcome = WriteResult(contents.step, stall=time.perf_counter() - began)
        thread = threading.Thread(target=self._write, args=(fixed, outcome, sync_rows), name="fra-saver", daemon=True)
        thread.start()
        self._last[0] = thread
        if not self.settings.asynchronous:
            self.wait(self.settings.patience_seconds)
        return True

    def finished(self) -> list[WriteResult]:
        """Return the outcomes of the checkpoints that have ended since the last call, in order."""
        return [self._done.get() for _ in range(self._done.qsize())]

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is being written, for `seconds` at most; False when the writer is still busy then."""
        if self._last[0] is not None:
            self._last[0].join(seconds)
        return not self.busy

    def close(self) -> None:
        """Wait for the checkpoint that is being written, for `checkpoint.patience_seconds` at most."""
        self._finish()

    def _write(self, contents: Contents, outcome: WriteResult, sync_rows: Callable[[], None]) -> None:
        began = time.perf_counter()
        try:
            outcome = replace(outcome, unsure=_problem_of(sync_rows))
            path = save_checkpoint(self.folder, contents, self.permit)
            deleted = tuple(one.name for one in apply_retention(self.folder, self.settings))
            outcome = replace(outcome, path=path, deleted=deleted)
            self.newest = contents.step
        except BaseException as error:  # whatever it is, the training thread must hear of it
            outcome = replace(outcome, error=error)
        self._done.put(replace(outcome, seconds=time.perf_counter() - began))


def _problem_of(sync_rows: Callable[[], None]) -> str:
    try:
        sync_rows()
    except FraError as error:
        return str(error)
    return ""


def _finish(box: list[threading.Thread | None], pid: int, wait: float) -> None:
    thread = box[0]
    if thread is not None and os.getpid() == pid:  # a forked child has no such thread
        thread.join(wait)

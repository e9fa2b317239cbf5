"""Metrics for TensorBoard, written row by row; a full disk does not end the run."""

import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from fra_dist.train.sinks.event_records import framed

_RETRY = 60.0
"""Seconds until a file that could not be written is tried again."""


class TensorBoard:
    """Adds rows of scalars to an event file in `folder`.

    TensorBoard's own writer ends the program when the disk is full, from a thread. Here rows are then left out, with
    one warning: metrics.jsonl has them. Later rows begin a new file, because the old one may end in half a record.

    Rows of steps that were written before, in an earlier attempt or before the run went back, are hidden.

    Args:
        folder: RUN/tensorboard.
        begin: completed steps at the start of the attempt.
    """

    def __init__(self, folder: Path, begin: int) -> None:
        self.folder = folder
        self._last = begin
        self._hide_from: int | None = begin + 1
        self._records: BinaryIO | None = None
        self._files = 0
        self._retry_at = 0.0

    def write(self, step: int, row: Mapping[str, float | None]) -> None:
        """Add a row: one scalar for each name, None left out. Never raises because of the disk."""
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        if time.monotonic() < self._retry_at:
            return
        if step < self._last:
            self._hide_from = step
        self._last = step
        values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items() if value is not None]
        try:
            if self._records is None:
                self._records = self._open()
            if self._hide_from is not None:
                self._add(step=self._hide_from, session_log=SessionLog(status=SessionLog.START))
                self._hide_from = None
            self._add(step=step, summary=Summary(value=values))
            self._retry_at = 0.0
        except OSError as error:
            if not self._retry_at:
                text = f"cannot write {self.folder}: {error.strerror}; TensorBoard misses rows of metrics.jsonl"
                print(f"warning: {text}", file=sys.stderr)
            self._retry_at = time.monotonic() + _RETRY
            self.close()

    def close(self) -> None:
        """Close the event file. Never raises because of the disk."""
        records, self._records = self._records, None
        if records is not None:
            try:
                records.close()
            except OSError:
                return  # what was buffered is lost

    def _open(self) -> BinaryIO:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._files += 1
        name = f"events.out.tfevents.{time.time():.6f}.{platform.node()}.{os.getpid()}.{self._files}"
        self._records = (self.folder / name).open("xb")
        self._add(file_version="brain.Event:2")
        return self._records

    def _add(self, **facts: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        assert self._records is not None
        self._records.write(framed(Event(wall_time=time.time(), **facts).SerializeToString()))
        self._records.flush()

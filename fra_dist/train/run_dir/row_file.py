"""A file of JSON lines that outlives a full disk: rows that cannot be written wait in memory and are tried again."""

import json
import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WAITING = 10_000


class RowFile:
    """Appends rows. One process writes; others may append whole lines of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.waiting: deque[str] = deque(maxlen=_WAITING)  # the oldest go first when even this is full
        self._warned = False

    def append(self, row: dict[str, Any]) -> None:
        """Write the row, or keep it for the next call and say so once. Never raises for the disk's sake."""
        self.waiting.append(json.dumps(row) + "\n")
        self.flush()

    def forget(self, unwanted: Callable[[dict[str, Any]], bool]) -> None:
        """Drop rows among those that still wait."""
        kept = [line for line in self.waiting if not unwanted(json.loads(line))]
        self.waiting = deque(kept, maxlen=_WAITING)

    def flush(self) -> None:
        """Try to write what waits."""
        if not self.waiting:
            return
        try:
            self._write("".join(self.waiting).encode())
        except OSError as error:
            if not self._warned:
                print(f"warning: cannot write {self.path}: {error.strerror}; its rows wait in memory", file=sys.stderr)
            self._warned = True
            return
        self.waiting.clear()
        self._warned = False

    def _write(self, data: bytes) -> None:
        """All of it or nothing: a line cut short would spoil the next one."""
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            before = os.fstat(handle).st_size
            try:
                done = os.write(handle, data)
                while done < len(data):
                    done += os.write(handle, data[done:])
            except OSError:
                os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)

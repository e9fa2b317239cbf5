"""A file of JSON lines that outlives a full disk: rows that cannot be written stay in memory and are tried again."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fra_dist import json_lines
from fra_dist.formats import plural

_WAITING = 10_000


class RowFile:
    """Appends rows to a file of JSON lines. One process writes; others may append whole lines of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = json_lines.LineWriter(path, most=_WAITING)  # the oldest go first when even this is full
        self._gone = 0
        self._warned = False

    @property
    def waiting(self) -> int:
        """The number of rows that are in memory only."""
        return len(self._writer.lines)

    def append(self, row: dict[str, Any]) -> None:
        """Write the row, or keep it in memory for the next call and warn once. Never raises because of the disk."""
        self._gone += self.waiting == _WAITING
        self._writer.lines.append(json_lines.encode(row))
        self.flush()

    def forget(self, unwanted: Callable[[dict[str, Any]], bool]) -> None:
        """Drop the rows for which `unwanted` is true among those that are still in memory."""
        kept = [line for line in self._writer.lines if not unwanted(json.loads(line))]
        self._writer.lines.clear()
        self._writer.lines.extend(kept)

    def flush(self) -> None:
        """Try to write the rows that are still in memory. Never raises because of the disk."""
        if not self.waiting:
            return
        try:
            self._writer.write()
        except OSError as error:
            if not self._warned:
                print(f"warning: cannot write {self.path}: {error.strerror}; its rows wait in memory", file=sys.stderr)
            self._warned = True
            return
        self._warned = False
        if self._gone:
            lost = plural(self._gone, "row")
            print(f"warning: {self.path} is written again, without {lost} that memory did not hold", file=sys.stderr)
            self._gone = 0

    def finish(self) -> None:
        """Try a last time, and say on standard error how many rows are lost. Never raises because of the disk."""
        self.flush()
        self.report_lost()

    def report_lost(self) -> None:
        """Say on standard error how many rows are in memory only."""
        if self.waiting:
            lost = plural(self._gone + self.waiting, "row")
            print(f"warning: {self.path} could not be written to the end: {lost} lost", file=sys.stderr)

"""Files of JSON lines: rows that are appended while others read, and that a kill or a bad disk may damage.

A row is a JSON object on a line of its own, in ASCII, so that no character of a name can end a line. Anything else is
damage: it is left out, counted and reported, and never ends a command. Long files are read from their end, in constant
memory.
"""

import errno
import json
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fra_dist.files import open_to_add, open_to_read, parse_object, patiently, whole_file
from fra_dist.text_lines import lines_from_end, lines_of


@dataclass
class DamagedLines:
    """Counts the lines of a file that are not rows, and remembers where the first one that was met begins."""

    path: Path
    """The file that is read."""
    count: int = 0
    """The number of damaged lines met so far."""
    first: int = -1
    """The offset in bytes of the damaged line that was met first; -1 before any was met."""

    def note(self, offset: int) -> None:
        """Count one more damaged line, which begins at `offset` bytes."""
        self.first = offset if not self.count else self.first
        self.count += 1

    def text(self) -> str:
        """Describe the damage in one line; an empty string without damage."""
        if not self.count:
            return ""
        which = "1 damaged line was" if self.count == 1 else f"{self.count} damaged lines were"
        return f"{which} left out of {self.path.name}, one of them at byte {self.first}"


def step_of_row(row: dict[str, Any]) -> int | None:
    """Return the step of a row; None when its entry "step" is missing or no whole number."""
    step = row.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) else None


def number_in(row: Mapping[str, Any], name: str) -> float | None:
    """Return the entry `name` of a row as a finite float; None when it is missing, not finite or not a number."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def encode(row: dict[str, Any]) -> bytes:
    """Encode a row as one line of ASCII that ends with a newline."""
    return json.dumps(row).encode() + b"\n"


class LineWriter:
    """Adds whole lines to a file to which other processes may add as well, and goes on after an error.

    A disk that fails in the middle of a line leaves its beginning in the file. It stays there: cutting it off could
    fail too, and would take the lines with it that others have added since. The next `write` goes on behind it, or
    writes the line anew where the beginning is gone or another process has ended it.
    """

    def __init__(self, path: Path, lines: Iterable[bytes] = (), most: int | None = None) -> None:
        self.path = path
        self.lines = deque(lines, maxlen=most)
        """The lines that are not in the file yet, each with its newline; of more than `most` the last ones."""
        self._begun = b""  # the line whose beginning is the end of the file
        self._done = self._end = 0  # how many of its bytes are there, and the size of the file with them

    def write(self) -> None:
        """Write all lines; those that are in the file no longer wait when it raises OSError.

        A last line without its newline, which a kill may leave, is ended first, because it would spoil the new one. A
        pipe in place of the file is an error and is not waited for.
        """
        if not self.lines:
            return
        handle = open_to_add(self.path)
        try:
            self._find_place(handle)
            while self.lines:
                self._write_once(handle)
                self._find_place(handle)
        finally:
            os.close(handle)

    def _find_place(self, handle: int) -> None:
        """Forget the line that was begun unless it can be continued: the file ends with it, and it still waits."""
        size = os.fstat(handle).st_size
        waits = bool(self._done and self.lines and self.lines[0] is self._begun)
        if waits and size > self._end and self._done == len(self._begun) - 1:
            self.lines.popleft()  # only its newline was missing, and another process has put one there
        if not waits or size != self._end:
            self._begun, self._done, self._end = b"", 0, size

    def _write_once(self, handle: int) -> None:
        torn = not self._done and self._end and os.pread(handle, 1, self._end - 1) != b"\n"
        data = b"\n" * bool(torn) + b"".join(self.lines)[self._done :]
        written = os.write(handle, data)
        if not written:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.path))
        written += self._done - bool(torn)
        while self.lines and written >= len(self.lines[0]):
            written -= len(self.lines.popleft())
        self._begun, self._done = self.lines[0] if self.lines else b"", written
        self._end = os.lseek(handle, 0, os.SEEK_CUR)


def append(path: Path, row: dict[str, Any], pauses: Sequence[float] | None = None) -> None:
    """Add a row to a file, tried again after errors that may pass, as `patiently` does. Raises OSError."""
    patiently(LineWriter(path, [encode(row)]).write, pauses)


def iterate(path: Path, damage: DamagedLines | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file from its beginning, in constant memory; none when there is no file.

    Damaged lines are left out and counted in `damage`. A last line without its newline counts when it is a whole row:
    no process will add to it. Raises DiskError or AccessError.
    """
    for offset, line in lines_of(path):
        row = parse_object(line)
        if row is not None:
            yield row
        elif line.strip() and damage is not None:
            damage.note(offset)


def read_rows(path: Path, damage: DamagedLines | None = None) -> list[dict[str, Any]]:
    """Return all rows of a file as a list; damaged lines are left out and counted as in `iterate`."""
    return list(iterate(path, damage))


def from_end(path: Path, damage: DamagedLines | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (offset in bytes, row) from the last row to the first, reading only as far back as the caller asks.

    Yields nothing when there is no file. Raises DiskError or AccessError.
    """
    for offset, line in lines_from_end(path):
        row = parse_object(line)
        if row is not None:
            yield offset, row
        elif line.strip() and damage is not None:
            damage.note(offset)


def drop_after(path: Path, last: int, look_back: int = 1000) -> DamagedLines:
    """Remove the rows of steps after `last`, and the unfinished line that a kill left at the end.

    Rows are in the order of steps, so the file is cut where the first of them begins. The `look_back` rows before that
    are examined too; if one of those has to go, the rows behind it that stay are written again. Returns the damage that
    was met. Raises OSError on writing, DiskError or AccessError on reading.
    """
    damage = DamagedLines(path)
    cut: int | None = None
    kept: list[bytes] = []
    waiting: list[bytes] = []
    earlier = 0
    for offset, line in lines_from_end(path):
        row = parse_object(line)
        step = step_of_row(row) if row is not None else None
        if step is None and line.strip():
            damage.note(offset)
        if (step is not None and step > last) or (step is None and cut is None and not line.endswith(b"\n")):
            cut, kept, waiting, earlier = offset, [*waiting, *kept], [], 0
            continue
        if step is not None:
            waiting.insert(0, line)
        earlier += 1
        if earlier > look_back:
            break
    if cut is not None:
        _rewrite(path, cut, kept)
    return damage


def _rewrite(path: Path, cut: int, kept: list[bytes]) -> None:
    """Cut a file at `cut` and add lines; without lines to add that is one operation, else a copy takes its place."""
    if not kept:
        patiently(lambda: os.truncate(path, cut))
        return

    def write() -> None:
        with whole_file(path) as partial, os.fdopen(open_to_read(path), "rb") as old, partial.open("wb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
            new.truncate(cut)
            new.seek(cut)
            new.writelines(line if line.endswith(b"\n") else line + b"\n" for line in kept)

    patiently(write)


def last_rows(path: Path, count: int, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Return the last `count` rows for which `wanted` is true, oldest first. Raises DiskError or AccessError."""
    found: list[dict[str, Any]] = []
    for _, row in from_end(path):
        if len(found) >= count:
            break
        if wanted(row):
            found.append(row)
    return found[::-1]


def thinned(path: Path, most: int = 2000) -> list[dict[str, Any]]:
    """Return the rows of a file, or of a long file an evenly spread selection that is enough to draw curves.

    Rows with the same number of names are one kind. Of each kind at least `most` rows stay (all, if there are fewer),
    the first among them. Memory does not grow with the file, and only what is selected is parsed.
    """
    kinds: dict[int, tuple[int, list[tuple[int, bytes]]]] = {}
    seen: dict[int, int] = {}
    for offset, line in lines_of(path):
        kind = line.count(b'":')
        stride, kept = kinds.setdefault(kind, (1, []))
        if seen.setdefault(kind, 0) % stride == 0:
            kept.append((offset, line))
        seen[kind] += 1
        if len(kept) >= 2 * most:
            kinds[kind] = (2 * stride, kept[::2])
    found = (parse_object(line) for _, line in sorted(pair for _, kept in kinds.values() for pair in kept))
    return [row for row in found if row is not None]

"""Files of JSON lines: rows that are appended while others read, and that a kill or a bad disk may damage.

A row is a JSON object on a line of its own, in ASCII, so that no character of a name can end a line. What is not a row
is damage: it is left out, counted and named, and never ends a command. Long files are read from their end, in constant
memory.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fra_dist.files import ABSENT, failure, open_to_read, parse_object, patiently

_CHUNK, _FORWARD = 1 << 16, 1 << 20


@dataclass
class Damage:
    """Lines of a file that are not rows: how many, and where the first that was met begins (in bytes)."""

    path: Path
    count: int = 0
    first: int = -1

    def note(self, offset: int) -> None:
        self.first = offset if not self.count else self.first
        self.count += 1

    def text(self) -> str:
        """One line about it; empty without damage."""
        if not self.count:
            return ""
        which = "1 damaged line was" if self.count == 1 else f"{self.count} damaged lines were"
        return f"{which} left out of {self.path.name}, one of them at byte {self.first}"


def step_of_row(row: dict[str, Any]) -> int | None:
    """The step of a row; None when it has no whole number there."""
    step = row.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) else None


def number_in(row: Mapping[str, Any], name: str) -> float | None:
    """A finite number of a row; None when it has none of that name."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def encode(row: dict[str, Any]) -> bytes:
    """A row as a line."""
    return json.dumps(row).encode() + b"\n"


def append(path: Path, data: bytes) -> None:
    """Add whole lines to a file, all of them or none. Raises OSError.

    A last line without its end, which a kill left, is ended first: it would spoil the new one. A pipe in the place of
    the file is an error and not waited for.
    """
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        before = os.fstat(handle).st_size
        if before and os.pread(handle, 1, before - 1) != b"\n":
            data = b"\n" + data
        try:
            done = os.write(handle, data)
            while done < len(data):
                done += os.write(handle, data[done:])
        except OSError:
            os.ftruncate(handle, before)
            raise
    finally:
        os.close(handle)


def iterate(path: Path, damage: Damage | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a file from its beginning, in constant memory; none when it is not there.

    A last line without its end counts when it is a whole row: nobody will add to it. Raises DiskError or AccessError.
    """
    for offset, line in _lines(path):
        row = parse_object(line)
        if row is not None:
            yield row
        elif line.strip() and damage is not None:
            damage.note(offset)


def read_all(path: Path, damage: Damage | None = None) -> list[dict[str, Any]]:
    """`iterate` as a list."""
    return list(iterate(path, damage))


def from_end(path: Path, damage: Damage | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(offset, row) from the last row to the first, reading only as far back as is asked for.

    None when there is no file. Raises DiskError or AccessError.
    """
    for offset, line in lines_from_end(path):
        row = parse_object(line)
        if row is not None:
            yield offset, row
        elif line.strip() and damage is not None:
            damage.note(offset)


def lines_from_end(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset, line with its end) from the last to the first."""
    with _opened(path) as handle:
        at, tail = (0, b"") if handle < 0 else (_length(handle, path), b"")
        while at > 0:
            size = min(max(_CHUNK, len(tail)), at)  # of a long line, twice as much each time
            at -= size
            tail = _read_at(handle, path, at, size) + tail
            first = tail.find(b"\n") + 1
            if at > 0 and (first == 0 or first == len(tail)):
                continue  # no line begins in here yet
            begin = first if at else 0
            yield from _backwards(tail[begin:], at + begin)
            tail = tail[:begin]


def drop_after(path: Path, last: int, look_back: int = 1000) -> Damage:
    """Take the rows of steps after `last` out of a file, and what a kill left at its end; the damage met on the way.

    Rows stand in the order of steps, so it is cut where the first of them begins; `look_back` rows before that are
    looked at as well, and if one of them has to go, what stays behind it is written again. Raises OSError on writing,
    DiskError or AccessError on reading.
    """
    damage = Damage(path)
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
    """Cut a file and add lines; without lines to add that is one operation, else a copy takes its place."""
    if not kept:
        patiently(lambda: os.truncate(path, cut))
        return
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")

    def write() -> None:
        with os.fdopen(open_to_read(path), "rb") as old, partial.open("wb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
            new.truncate(cut)
            new.seek(cut)
            new.writelines(line if line.endswith(b"\n") else line + b"\n" for line in kept)
            new.flush()
            os.fsync(new.fileno())
        partial.replace(path)

    try:
        patiently(write)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def last_rows(path: Path, count: int, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """The last `count` rows that are `wanted`, oldest first. Raises DiskError or AccessError."""
    found: list[dict[str, Any]] = []
    for _, row in from_end(path):
        if len(found) >= count:
            break
        if wanted(row):
            found.append(row)
    return found[::-1]


def thinned(path: Path, most: int = 2000) -> list[dict[str, Any]]:
    """The rows of a file, or of a long one a selection for curves: of each kind of row (those with as many names)
    `most` or more, evenly spread, the first among them. Memory does not grow with the file; only what is selected is
    parsed."""
    kinds: dict[int, tuple[int, list[tuple[int, bytes]]]] = {}
    seen: dict[int, int] = {}
    for offset, line in _lines(path):
        kind = line.count(b'":')
        stride, kept = kinds.setdefault(kind, (1, []))
        if seen.setdefault(kind, 0) % stride == 0:
            kept.append((offset, line))
        seen[kind] += 1
        if len(kept) >= 2 * most:
            kinds[kind] = (2 * stride, kept[::2])
    found = (parse_object(line) for _, line in sorted(pair for _, kept in kinds.values() for pair in kept))
    return [row for row in found if row is not None]


def _backwards(block: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of whole lines, the last first."""
    end = len(block)
    while end > 0:
        start = block.rfind(b"\n", 0, end - 1) + 1
        yield offset + start, block[start:end]
        end = start


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset, line without its end) from the first to the last."""
    with _opened(path) as handle:
        at = offset = 0
        begun: list[bytes] = []
        while handle >= 0 and (piece := _read_at(handle, path, at, _FORWARD)):
            at += len(piece)
            if b"\n" not in piece:
                begun.append(piece)
                continue
            *lines, rest = b"".join([*begun, piece]).split(b"\n")
            begun = [rest]
            for line in lines:
                yield offset, line
                offset += len(line) + 1
        yield offset, b"".join(begun)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor; -1 when there is no file. Raises DiskError or AccessError."""
    try:
        handle = patiently(lambda: open_to_read(path))
    except OSError as error:
        if error.errno not in ABSENT:
            raise failure(error, f"cannot read {path}") from None
        yield -1
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _length(handle: int, path: Path) -> int:
    try:
        return os.fstat(handle).st_size
    except OSError as error:
        raise failure(error, f"cannot read {path}") from None


def _read_at(handle: int, path: Path, at: int, size: int) -> bytes:
    """`size` bytes, fewer only at the end of the file: a disk may give them in pieces."""

    def read() -> bytes:
        data = b""
        while len(data) < size and (piece := os.pread(handle, size - len(data), at + len(data))):
            data += piece
        return data

    try:
        return patiently(read)
    except OSError as error:
        raise failure(error, f"cannot read {path}") from None

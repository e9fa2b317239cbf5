"""Lines of a file and their offsets, from its beginning or its end, in constant memory; others may append to it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fra_dist.files import failure, is_nothing, open_to_read, patiently

_CHUNK, _FORWARD = 1 << 16, 1 << 20


def lines_from_end(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (offset in bytes, line with its newline), the last line first. Raises DiskError or AccessError."""
    with _opened(path) as handle:
        at, tail = (0, b"") if handle < 0 else (_length(handle, path), b"")
        while at > 0:
            size = min(max(_CHUNK, len(tail)), at)  # for a long line, twice as much each time
            at -= size
            tail = _read_at(handle, path, at, size) + tail
            first = tail.find(b"\n") + 1
            if at > 0 and (first == 0 or first == len(tail)):
                continue  # no line begins in here yet
            begin = first if at else 0
            yield from _backwards(tail[begin:], at + begin)
            tail = tail[:begin]


def _backwards(block: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of whole lines, the last first."""
    end = len(block)
    while end > 0:
        start = block.rfind(b"\n", 0, end - 1) + 1
        yield offset + start, block[start:end]
        end = start


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (offset in bytes, line without its newline), the first line first; none when there is no file.

    Raises DiskError or AccessError.
    """
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
    """Open a file to read and give its descriptor; -1 when there is no file. Raises DiskError or AccessError."""
    try:
        handle = patiently(lambda: open_to_read(path))
    except OSError as error:
        if not is_nothing(error, path):
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
    """Read `size` bytes, fewer only at the end of the file: a disk may give them in pieces."""

    def read() -> bytes:
        data = b""
        while len(data) < size and (piece := os.pread(handle, size - len(data), at + len(data))):
            data += piece
        return data

    try:
        return patiently(read)
    except OSError as error:
        raise failure(error, f"cannot read {path}") from None

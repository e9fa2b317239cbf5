"""Reads of tars by byte range, from a local disk or a remote folder."""

import os
from collections.abc import Callable
from pathlib import Path

from fra_dist.data.stores.remote_folder import RemoteFile, Window
from fra_dist.errors import DataError
from fra_dist.files import failure, open_to_read, patiently

Place = str | Path | RemoteFile
"""Where a tar is: a local path or a file of a remote folder."""
Read = Callable[[int, int], bytes]
"""Called with (length, offset); returns the bytes, fewer at the end of the file."""


class Opened:
    """Opens a tar in a `with` statement and gives a `Read`. Raises DataError when it cannot be opened."""

    def __init__(self, path: Place) -> None:
        self.path = path
        self.file = -1

    def __enter__(self) -> Read:
        if isinstance(self.path, RemoteFile):
            return Window(self.path).read
        try:
            path = self.path
            self.file = patiently(lambda: open_to_read(Path(path)))
        except OSError as error:
            raise failure(error, f"cannot open {self.path}", DataError) from None
        return self._read

    def _read(self, length: int, offset: int) -> bytes:
        try:
            return patiently(lambda: os.pread(self.file, length, offset))
        except OSError as error:
            raise failure(error, f"cannot read {self.path}", DataError) from None

    def __exit__(self, *_: object) -> None:
        if self.file >= 0:
            os.close(self.file)


def size_of(path: Place) -> int:
    """Size of a tar in bytes; for a remote file, the size that the manifest names. Raises OSError."""
    return path.size if isinstance(path, RemoteFile) else os.stat(path).st_size


def exactly(read: Read, offset: int, length: int, path: Place) -> bytes:
    """All `length` bytes from byte `offset` of a tar, by its `read`. Raises DataError when the tar ends earlier."""
    data = read(length, offset)
    while len(data) < length and (more := read(length - len(data), offset + len(data))):
        data += more
    if len(data) < length:
        raise DataError(f"{path} ends before byte {offset + length}: it was cut; restore it or index the folder again")
    return data

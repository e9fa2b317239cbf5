"""Locks on open files, which the kernel drops when a process dies, and helpers for files that are so locked."""

import fcntl
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

from fra_dist.leases import WITHOUT_FLOCK

SHARED, EXCLUSIVE = fcntl.LOCK_SH, fcntl.LOCK_EX


@cache
def can_lock(folder: Path) -> bool:
    """Whether flock works in a folder, which is made if need be; a line on standard error, once, where it does not.

    True as well where that cannot be tried: whoever uses the folder then meets the error.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in WITHOUT_FLOCK:
            return True
        text = f"{folder} has no file locks (flock), so no copies of shards are kept and samples are read one by one"
        print(f"warning: {text}: set data.cache to a folder on another disk", file=sys.stderr, flush=True)
        return False
    return True


def try_lock(file: int, kind: int) -> bool:
    """Take a lock on an open file, or change it; False when others' locks forbid that now."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(file: int) -> None:
    """Take the exclusive lock, however long that takes."""
    fcntl.flock(file, fcntl.LOCK_EX)


def is_at(file: int, path: Path) -> bool:
    """Whether a path still leads to this open file, and not to a later one of the same name."""
    return os.fstat(file).st_ino == inode(path)


def inode(path: Path) -> int | None:
    """The inode number of a path, or None when it cannot be looked at."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def write_at(file: int, data: bytes, at: int) -> None:
    """Write all of the bytes into an open file from position `at`. Raises OSError."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written

"""Files that a run depends on: is one there, what does it hold, write it as a whole.

"There is nothing" (ENOENT, ENOTDIR) is an answer; every other error means that the answer is not known. Errors that
pass (a network file system that lost its server for a moment, a disk that is busy or full) are tried again after
pauses, 4 seconds in all. Those that stay become a `DiskError`, whose exit status makes launchers try again; errors
that a restart would meet again (no permission, a read-only disk, a folder in place of a file) become an `AccessError`.
Both are one line that names the path.
"""

import errno
import fnmatch
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fra_dist.errors import AccessError, DiskError, FraError

T = TypeVar("T")

ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
"""There is nothing at that path."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
PASSING = FULL | frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.EBUSY, errno.EREMOTEIO),
        *(errno.ENOTCONN, errno.ESHUTDOWN, errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EHOSTDOWN),
        *(errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.ENOLINK, errno.ECOMM),
        *(errno.EPROTO, errno.ENOBUFS, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.EDEADLK, errno.ENOLCK),
    }
)
"""Errors that another attempt may not meet."""
PAUSES: Sequence[float] = (0.1, 0.4, 1.0, 2.5)
"""Seconds between attempts at one operation."""
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS})
_PARTIAL = ".partial-"


def patiently(operation: Callable[[], T], pauses: Sequence[float] | None = None) -> T:
    """The result of `operation`, which is called again after a pause while it raises an error that may pass.

    Raises the OSError of the last call, or at once one that would stay. `operation` must be repeatable as a whole.
    """
    for pause in PAUSES if pauses is None else pauses:
        try:
            return operation()
        except OSError as error:
            if error.errno not in PASSING:
                raise
        time.sleep(pause)
    return operation()


def failure(error: OSError, what: str, refusal: type[FraError] = AccessError) -> FraError:
    """The exception to raise for `error`: DiskError when another attempt may succeed, else `refusal`.

    `what` was tried, for example "cannot read RUN/config.yaml"; the reason is added to it.
    """
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno not in PASSING:
        return refusal(f"{what}: {reason}")
    advice = "make room there" if error.errno in FULL else "look at that disk or its network"
    return DiskError(f"{what}: {reason}; {advice}, then start the same command again")


def status_of(path: Path) -> os.stat_result | None:
    """What the file system says about a path, links followed; None when there is nothing. Raises Disk- or AccessError.

    A name that no file can have (too long, with a null character) is one of nothing.
    """
    try:
        return patiently(lambda: os.stat(path))
    except ValueError:
        return None
    except OSError as error:
        if error.errno in ABSENT | {errno.ENAMETOOLONG, errno.ELOOP}:
            return None
        raise failure(error, f"cannot look at {path}") from None


def exists(path: Path) -> bool:
    """Whether there is something at a path. Raises DiskError or AccessError when that cannot be told."""
    return status_of(path) is not None


def is_folder(path: Path) -> bool:
    """Whether there is a folder. Raises DiskError or AccessError when that cannot be told."""
    found = status_of(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_file(path: Path) -> bool:
    """Whether there is a regular file. Raises DiskError or AccessError when that cannot be told."""
    found = status_of(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def names_in(folder: Path, pattern: str = "*") -> list[str]:
    """Sorted names in a folder, hidden ones too, that match a shell pattern; none when there is no such folder.

    Raises DiskError or AccessError when the folder cannot be read.
    """
    try:
        found = patiently(lambda: os.listdir(folder))
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise failure(error, f"cannot read the folder {folder}") from None
    return sorted(name for name in found if fnmatch.fnmatchcase(name, pattern))


def paths_in(folder: Path, pattern: str = "*") -> list[Path]:
    """`names_in` as paths."""
    return [folder / name for name in names_in(folder, pattern)]


def open_to_read(path: Path) -> int:
    """A descriptor of a regular file. A pipe or a device in its place is refused rather than waited for.

    Raises OSError (EINVAL for something that is not a regular file, EISDIR for a folder).
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(number, os.strerror(number) if number == errno.EISDIR else "not a regular file", str(path))


def raw_bytes(path: Path) -> bytes:
    """The content of a regular file, tried again after pauses. Raises OSError."""

    def read() -> bytes:
        with os.fdopen(open_to_read(path), "rb") as stream:
            return stream.read()

    return patiently(read)


def read_bytes(path: Path) -> bytes | None:
    """The content of a file; None when there is none. Raises DiskError or AccessError."""
    try:
        return raw_bytes(path)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise failure(error, f"cannot read {path}") from None


def parse_object(data: bytes | str) -> dict[str, Any] | None:
    """A JSON object; None when it is not one, whatever the damage."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is no file, or no whole object. Raises DiskError or AccessError."""
    data = read_bytes(path)
    return None if data is None else parse_object(data)


def write_whole(path: Path, content: str | bytes) -> None:
    """Put a file in place as a whole: after a crash, or on a disk that fills up, the old or the new one is there.

    A temporary file in the same folder is flushed to the disk and renamed, and so is the folder's entry. Everything is
    done again after a passing error. Raises OSError; the temporary file is gone then.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}{_PARTIAL}{os.getpid()}")

    def write() -> None:
        try:
            with open(partial, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())  # after an error here only a new file is sure to reach the disk
            os.replace(partial, path)
        except BaseException:
            _remove(partial)
            raise
        sync_folder(path.parent)

    patiently(write)


def write_object(path: Path, value: Any, indent: int | None = None) -> None:
    """`write_whole` of JSON. Raises OSError."""
    write_whole(path, json.dumps(value, indent=indent))


def make_folder(path: Path) -> None:
    """Make a folder and its parents unless they are there. Raises OSError."""
    patiently(lambda: path.mkdir(parents=True, exist_ok=True))


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, on file systems that can. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Delete the temporary files of `write_whole` that killed processes left. The caller must be the only writer.

    Never raises: what cannot be deleted does no harm.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if name.startswith(".") and _PARTIAL in name and not name.startswith(_PARTIAL):
            _remove(folder / name)


def _remove(path: Path) -> None:
    try:
        os.unlink(path)
    except OSError:
        return  # not there, or swept later

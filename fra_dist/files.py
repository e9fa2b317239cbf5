"""Files that a run depends on: whether one is there, what it holds, and writing it as a whole.

"There is nothing" (ENOENT, ENOTDIR) is an answer; every other error means that the answer is not known. Errors that may
pass (a network file system that lost its server for a moment, a disk that is busy or full) are tried again after
pauses, 4 seconds in all. Those that stay become a `DiskError`, whose exit status makes launchers try again; errors that
a restart would meet again (no permission, a read-only disk, a folder in place of a file) become an `AccessError`. Both
are one line that names the path.
"""

import errno
import fnmatch
import io
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fra_dist.errors import AccessError, DiskError, FraError

T = TypeVar("T")

ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
"""Error numbers which say that there is nothing at a path."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers which say that a disk or a quota is full."""
PASSING = FULL | frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.EBUSY, errno.EREMOTEIO),
        *(errno.ENOTCONN, errno.ESHUTDOWN, errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EHOSTDOWN),
        *(errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.ENOLINK, errno.ECOMM),
        *(errno.EPROTO, errno.ENOBUFS, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.EDEADLK, errno.ENOLCK),
    }
)
"""Error numbers that another attempt may not meet."""
PAUSES: Sequence[float] = (0.1, 0.4, 1.0, 2.5)
"""Seconds between the attempts at one operation."""
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS})
_PARTIAL = ".partial-"
_TOLD = re.compile(r"unable to (?:open|mmap|map|stat|resize|read) .*\((\d+)\)\s*$", re.DOTALL)


def patiently(operation: Callable[[], T], pauses: Sequence[float] | None = None) -> T:
    """Call `operation`, and call it again after each of `pauses` (seconds) while it raises an error that may pass.

    Returns its result. Raises the OSError of the last call, or at once one that would stay. `operation` must be
    repeatable as a whole.
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
    """Make the exception to raise for `error`: a DiskError when another attempt may succeed, else a `refusal`.

    `what` says what was tried, for example "cannot read RUN/config.yaml"; the reason is added to it.
    """
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno not in PASSING:
        return refusal(f"{what}: {reason}")
    advice = "free some space there" if error.errno in FULL else "look at that disk or its network"
    return DiskError(f"{what}: {reason}; {advice}, then start the same command again")


def lasting_reason(error: OSError, what: str) -> str:
    """Return the reason of an error that another attempt would meet again, for whoever goes on without the file.

    Raises DiskError for any other: what a disk refuses for a moment must not be left out for good. `what` is as in
    `failure`.
    """
    if error.errno in PASSING:
        raise failure(error, what) from None
    return error.strerror or str(error) or type(error).__name__


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Make the errors of a disk that safetensors and torch tell otherwise an OSError with its number.

    safetensors raises FileNotFoundError for every error when it opens a file; torch, which opens it a second time,
    raises RuntimeError("unable to open file <...>: Input/output error (5)"). Other exceptions pass.
    """
    try:
        yield
    except FileNotFoundError:
        if exists(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path)) from None
        raise
    except RuntimeError as error:
        if (found := _TOLD.search(str(error))) is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None


def status_of(path: Path) -> os.stat_result | None:
    """Return what the file system says about a path, links followed; None when there is nothing.

    A name that no file can have (too long, or with a null character) counts as nothing. Raises DiskError or AccessError
    when the answer cannot be known.
    """
    try:
        return patiently(lambda: os.stat(path))
    except ValueError:
        return None
    except OSError as error:
        if error.errno in ABSENT | {errno.ENAMETOOLONG, errno.ELOOP}:
            return None
        raise failure(error, f"cannot look at {path}") from None


def is_nothing(error: OSError, path: Path) -> bool:
    """Whether `error`, met at a path, says that there is nothing: not even a link to a disk that is not mounted.

    Raises DiskError or AccessError when that cannot be known.
    """
    if error.errno not in ABSENT:
        return False
    try:
        patiently(lambda: os.lstat(path))
    except OSError as second:
        if second.errno in ABSENT:
            return True
        raise failure(second, f"cannot look at {path}") from None
    return False


def exists(path: Path) -> bool:
    """Whether there is anything at a path. Raises DiskError or AccessError when that cannot be known."""
    return status_of(path) is not None


def is_folder(path: Path) -> bool:
    """Whether there is a folder at a path. Raises DiskError or AccessError when that cannot be known."""
    found = status_of(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_link(path: Path) -> bool:
    """Whether there is a symbolic link at a path. Raises DiskError or AccessError when that cannot be known."""
    try:
        return patiently(path.is_symlink)
    except OSError as error:
        raise failure(error, f"cannot read {path}") from None


def is_file(path: Path) -> bool:
    """Whether there is a regular file at a path. Raises DiskError or AccessError when that cannot be known."""
    found = status_of(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def names_in(folder: Path, pattern: str = "*") -> list[str]:
    """List the names in a folder that match a shell pattern, sorted, hidden ones included.

    The list is empty when there is nothing of that name. Raises DiskError or AccessError when the folder cannot be
    read, or when a file or a link that leads nowhere is in its place.
    """
    try:
        found = patiently(lambda: os.listdir(folder))
    except OSError as error:
        if is_nothing(error, folder):
            return []
        raise failure(error, f"cannot read the folder {folder}") from None
    return sorted(name for name in found if fnmatch.fnmatchcase(name, pattern))


def paths_in(folder: Path, pattern: str = "*") -> list[Path]:
    """List the paths in a folder that match a shell pattern, as `names_in` lists their names."""
    return [folder / name for name in names_in(folder, pattern)]


def paths_below(folder: Path, pattern: str = "*") -> list[Path]:
    """List the regular files in a folder and in all folders below it whose names match a shell pattern, sorted by path.

    Links to folders are not followed. The list is empty when there is no such folder. Raises DiskError or AccessError
    when a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise failure(error, f"cannot read the folder {error.filename}")

    if not is_folder(folder):
        return []
    found = [Path(here) / name for here, _, names in os.walk(folder, onerror=refuse) for name in names]
    return sorted(path for path in found if fnmatch.fnmatchcase(path.name, pattern) and is_file(path))


def open_to_read(path: Path) -> int:
    """Open a regular file and return its descriptor. A pipe or a device in its place is refused, never waited for.

    Raises OSError: EISDIR for a folder, EINVAL for anything else that is not a regular file.
    """
    return _regular(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), path)


def open_to_add(path: Path) -> int:
    """Open a regular file to read it and to write at its end, made if it is missing, and return its descriptor.

    Raises OSError as `open_to_read` does: what is written into a pipe would be lost.
    """
    return _regular(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666), path)


def _regular(handle: int, path: Path) -> int:
    """The descriptor, if it is one of a regular file; else it is closed and OSError raised."""
    try:
        mode = os.fstat(handle).st_mode
    except OSError:
        os.close(handle)
        raise
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(number, os.strerror(number) if number == errno.EISDIR else "not a regular file", str(path))


def open_stream(path: Path | str) -> io.BufferedReader:
    """Open a regular file to read bytes, as `open_to_read` does. Raises OSError."""
    return os.fdopen(open_to_read(Path(path)), "rb")


def raw_bytes(path: Path, pauses: Sequence[float] | None = None) -> bytes:
    """Read a regular file, tried again after errors that may pass, as `patiently` does. Raises OSError."""

    def read() -> bytes:
        with open_stream(path) as stream:
            return stream.read()

    return patiently(read, pauses)


def raw_text(path: Path, pauses: Sequence[float] | None = None) -> str:
    """Read a regular file as UTF-8, tried again after errors that may pass. Raises OSError and UnicodeDecodeError."""
    return raw_bytes(path, pauses).decode()


def read_bytes(path: Path) -> bytes | None:
    """Read a file; None when there is none. Raises DiskError or AccessError when it cannot be read.

    A link that leads nowhere is not "none": its disk may not be mounted.
    """
    try:
        return raw_bytes(path)
    except OSError as error:
        if is_nothing(error, path):
            return None
        raise failure(error, f"cannot read {path}") from None


def parse_object(data: bytes | str) -> dict[str, Any] | None:
    """Parse a JSON object; None when `data` is anything else, however it is damaged."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_object(path: Path) -> dict[str, Any] | None:
    """Read the JSON object in a file; None when there is no file or it holds no whole object.

    Raises DiskError or AccessError when the file cannot be read.
    """
    data = read_bytes(path)
    return None if data is None else parse_object(data)


def write_whole(path: Path, content: str | bytes) -> None:
    """Put a file in place as a whole: after a crash, or on a full disk, the path holds the old content or the new one.

    A temporary file in the same folder is flushed to the disk and renamed, and the folder's entry is flushed too. All
    of it is tried again after an error that may pass. Raises OSError; the temporary file is then gone.
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


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`, for libraries that write files themselves, or for much data.

    When the block ends, what stands there is flushed to the disk and takes the name `path`, with the permissions that
    the umask gives to new files; after an exception it is deleted. Raises OSError.
    """
    partial = path.with_name(f".{path.name}{_PARTIAL}{os.getpid()}")
    try:
        with open(partial, "wb") as empty:
            mode = stat.S_IMODE(os.fstat(empty.fileno()).st_mode)
        yield partial
        os.chmod(partial, mode)  # a library may have replaced the file by a new one, for its owner alone
        handle = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(partial, path)
    except BaseException:
        _remove(partial)
        raise
    sync_folder(path.parent)


def write_object(path: Path, value: Any, indent: int | None = None) -> None:
    """Write a value as JSON into a file, as a whole like `write_whole`. Raises OSError."""
    write_whole(path, json.dumps(value, indent=indent))


def make_folder(path: Path) -> None:
    """Make a folder and its parents unless they exist. Raises OSError."""
    patiently(lambda: path.mkdir(parents=True, exist_ok=True))


def sync_file(path: Path) -> None:
    """Flush what was written into a file, by any process of this machine, to the disk; no file is no error.

    Tried again after errors that may pass. Raises DiskError or AccessError.
    """

    def sync() -> None:
        handle = open_to_read(path)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    try:
        patiently(sync)
    except OSError as error:
        if is_nothing(error, path):
            return
        raise failure(error, f"cannot flush {path} to the disk") from None


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, on file systems that can do so. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Delete the temporary files of `write_whole` that killed processes left in a folder.

    The caller must be the only writer there. Never raises: what cannot be deleted does no harm.
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

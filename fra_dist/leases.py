"""Exclusive locks for file systems without flock (Lustre without `-o flock`, some NFS): files that their holder renews.

    LOCK.lease    the name of its holder; created only when there is none, its mtime renewed every 5 seconds

A lease that has not been renewed for a minute belongs to a process that died and may be taken. Ages are measured by the
clock of the file system, against a file written for the comparison: clocks of machines do not matter.
"""

import errno
import fcntl
import os
import platform
import secrets
import threading
import time
from pathlib import Path

from fra_dist.files import ABSENT, patiently, raw_bytes

WITHOUT_FLOCK = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})
"""Error numbers of flock on file systems where it does not work."""
_READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
RENEWED, EXPIRES = 5.0, 60.0
"""RENEWED: seconds between renewals. EXPIRES: seconds after which a lease that has not been renewed may be taken."""


class Lease:
    """A lock made of a file that its holder renews.

    It is held from a successful `take` until `release` or the end of the process.
    """

    def __init__(self, lock: Path) -> None:
        """Prepare the lease that stands for `lock`, the file that flock would have been asked for.

        Nothing is written yet.
        """
        self.path = lock.with_name(f"{lock.name}.lease")
        self.holder = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._stop = threading.Event()

    def take(self) -> bool:
        """Take the lease and begin to renew it; False when another process holds it. Raises OSError."""
        if not self._make():
            age = age_of(self.path)
            if age is not None and age < EXPIRES:
                return False
            self._clear()
            if not self._make():
                return False
        threading.Thread(target=self._renew, name="fra-lease", daemon=True).start()
        return True

    def release(self) -> None:
        """Give the lease up. Never raises: a lease that cannot be deleted expires."""
        self._stop.set()
        try:
            if self._ours():
                os.unlink(self.path)
        except OSError:
            return

    def _make(self) -> bool:
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(handle, self.holder.encode())
        except OSError:  # a full disk: nobody holds what has no name in it
            self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        return True

    def _clear(self) -> None:
        """Remove an expired lease: of several processes that try, one succeeds in renaming it.

        A new lease that another process has made meanwhile is put back.
        """
        doomed = self.path.with_name(f".{self.path.name}.{self.holder}")
        try:
            os.rename(self.path, doomed)
            age = age_of(doomed)
            if age is not None and age < EXPIRES and age_of(self.path) is None:
                os.rename(doomed, self.path)
            else:
                os.unlink(doomed)
        except OSError as error:
            if error.errno not in ABSENT:
                raise

    def _ours(self) -> bool:
        return raw_bytes(self.path, ()).decode(errors="replace") == self.holder

    def _renew(self) -> None:
        while not self._stop.wait(RENEWED):
            try:
                if not self._ours():
                    return  # this process was suspended so long that another took it; `fence` tells it so
                os.utime(self.path)
            except OSError:
                continue  # tried again before it expires


def age_of(lease: Path) -> float | None:
    """Return the seconds since a lease was renewed, by the clock of its file system; None when there is no lease.

    Raises OSError.
    """
    try:
        renewed = patiently(lambda: os.stat(lease)).st_mtime
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise
    try:
        return patiently(lambda: _now_in(lease)) - renewed
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        return time.time() - renewed


def _now_in(lease: Path) -> float:
    """The time by the clock of the file system of a lease. Raises OSError."""
    probe = lease.with_name(f".{lease.name}.{platform.node()}-{os.getpid()}.now")
    try:
        probe.write_text("")
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


_HELD: dict[int, Lease] = {}
"""The leases that stand for locks which flock could not take, by the descriptor of the lock's file."""


def lock(handle: int, path: Path) -> bool:
    """Take the exclusive lock of an open file, by flock or else by a lease; False when another process holds it.

    Raises OSError when neither works. `close` gives the lock up.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_FLOCK:
            raise
    lease = Lease(path)
    if not lease.take():
        return False
    _HELD[handle] = lease
    return True


def close(handle: int) -> None:
    """Close a file that `lock` was called for, and give up its lock."""
    unlock(handle)
    os.close(handle)


def unlock(handle: int) -> None:
    """Give up the lease that stands for the lock of a file; a lock by flock ends when the file is closed."""
    if (lease := _HELD.pop(handle, None)) is not None:
        lease.release()


def is_locked_by_other(handle: int, path: Path) -> bool:
    """Whether another process holds the lock of an open file. Raises OSError when that cannot be known."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in WITHOUT_FLOCK:
            raise
    return is_leased(path)


def is_leased(lock: Path) -> bool:
    """Whether a process holds the lease that stands for `lock`. Raises OSError."""
    age = age_of(lock.with_name(f"{lock.name}.lease"))
    return age is not None and age < EXPIRES

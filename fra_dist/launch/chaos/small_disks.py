"""Disks small enough to be filled: a tmpfs in a mount namespace of our own, or a limit on the size of files.

Neither needs root where user namespaces are allowed, and both are gone when this process ends, whatever ends it.
"""

import ctypes
import os
import resource
from collections.abc import Iterable
from pathlib import Path

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_REC, _PRIVATE, _DETACH = 1 << 14, 1 << 18, 2
_libc = ctypes.CDLL(None, use_errno=True)


def own_mounts() -> bool:
    """Give this process and its children mounts that no other process sees; False where the system does not allow it.

    Must be called while the process has only one thread.
    """
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(_NEWNS if user == 0 else _NEWNS | _NEWUSER):
        return False
    try:
        if user != 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError:
        return False
    return not _libc.mount(b"none", b"/", None, ctypes.c_ulong(_REC | _PRIVATE), None)


def mount_small(folder: Path, size: int) -> bool:
    """Mount a tmpfs of `size` bytes on `folder`; False when that is not possible."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size},mode=0755".encode()
    return not _libc.mount(b"tmpfs", bytes(folder), b"tmpfs", ctypes.c_ulong(0), options)


def unmount(folder: Path) -> None:
    """Unmount the disk on `folder`, even while files on it are open."""
    _libc.umount2(bytes(folder), _DETACH)


def fill(folder: Path, leave: int) -> Path:
    """Fill the disk of `folder` until `leave` bytes are free, and return the file that fills it."""
    disk = os.statvfs(folder)
    filler = folder / "filler"
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, max(1, disk.f_bavail * disk.f_frsize - leave))
    return filler


def limit_files(processes: Iterable[int], size: int | None) -> None:
    """Limit the size in bytes of files that running processes may write, as a quota would; None lifts the limit."""
    for process in processes:
        try:
            hard = resource.prlimit(process, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(process, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
        except ProcessLookupError:
            continue

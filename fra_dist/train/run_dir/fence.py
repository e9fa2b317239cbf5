"""The fence that admits one writer to a run folder: attempts are numbered, and a superseded one can no longer write.

    RUN/.lock            locked (flock) by rank 0 of the attempt that is writing
    RUN/attempt.json     {"attempt": 3, "launch": "slurm job 812", "process": 4711, "host": "n3"}

A launcher may lose sight of ranks that are still alive (their node stopped answering, or they hang in the kernel) and
start the next attempt elsewhere. That attempt writes its number first; the old one reads the number before each write
and stops. A process that cannot read the number must not write either: only a file that is not there, in a folder that
nobody has claimed yet, means that there was no attempt.
"""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from fra_dist import files, leases
from fra_dist.distributed.environment import LaunchName
from fra_dist.errors import LaunchError


class Superseded(LaunchError):
    """A newer attempt owns the run folder, so this one must end."""


class OwnerUnreadable(LaunchError):
    """The disk does not say who owns the run folder; another attempt may succeed."""

    exit_status = 1
    """The status that the command line exits with, after which launchers try again."""


class Claim:
    """The right to write into a run folder; made by `take`."""

    def __init__(self, folder: Path, attempt: int, handle: int) -> None:
        self.folder, self.attempt, self._handle = folder, attempt, handle

    @classmethod
    def take(cls, folder: Path, launch: LaunchName, patience: float = 10.0) -> "Claim":
        """Claim `folder` for the launch of this process.

        A numbered attempt takes over from an earlier one of its launch that is still alive: it waits `patience` seconds
        for that one to notice, then replaces the lock. Raises LaunchError when another launch is writing or
        attempt.json is damaged, Superseded when a newer attempt of this launch exists, OwnerUnreadable or OSError when
        the disk fails.
        """
        holder = read_attempt(folder)
        recorded = holder.get("attempt", 0)
        number = launch.attempt if launch.attempt is not None else recorded + 1
        same = launch.attempt is not None and holder.get("launch") == launch.name
        if same and number < recorded:
            raise Superseded(f"attempt {number} of {folder} starts late: attempt {recorded} has taken over")
        handle = _lock(folder) or _take_later(folder, 0.5)  # `is_locked` of another process holds it for a moment
        if handle is None and not same:
            raise LaunchError(
                f"{holder.get('launch', 'another process')} (process {holder.get('process', '?')} on "
                f"{holder.get('host', '?')}) is writing to {folder}: stop it, or set another output"
            )
        number = max(number, recorded + 1)
        _write(folder, number, launch)
        if handle is None:
            handle = _take_later(folder, patience) or _replace_lock(folder)
        return cls(folder, number, handle)

    def check(self) -> None:
        """Raise Superseded when a newer attempt has begun, OwnerUnreadable when that cannot be known."""
        current = read_attempt(self.folder)
        if not current:
            raise OwnerUnreadable(
                f"attempt {self.attempt} of {self.folder} no longer finds attempt.json there, which says who may "
                f"write: start it again, once nothing moves or deletes files of the run folder"
            )
        if current["attempt"] != self.attempt:
            raise Superseded(
                f"attempt {self.attempt} of {self.folder} is over: attempt {current['attempt']} "
                f"({current.get('launch')}) is writing now"
            )

    def release(self) -> None:
        """Give the lock up. May be called more than once."""
        if self._handle >= 0:
            leases.close(self._handle)
            self._handle = -1


def read_attempt(folder: Path, patience: float = 2.0) -> dict[str, Any]:
    """Read the newest attempt of a run folder: {"attempt": number, "launch": ..., ...}; empty when there was none.

    A disk that fails is asked again for `patience` seconds. Raises OwnerUnreadable when it keeps failing, LaunchError
    when the file is damaged.
    """
    path, end = folder / "attempt.json", time.monotonic() + patience
    while True:
        try:
            value = json.loads(files.raw_text(path, ()))
            return {**value, "attempt": int(value["attempt"])}
        except FileNotFoundError:
            return {}
        except OSError as error:
            problem: LaunchError = OwnerUnreadable(f"cannot read {path}, which says who may write: {error.strerror}")
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            problem = LaunchError(
                f"{path} is damaged: it says who may write. Delete it when no process writes to {folder}"
            )
        if time.monotonic() >= end:
            raise problem
        time.sleep(min(0.2, patience))


def is_locked(folder: Path) -> bool:
    """Whether some process is writing to the run folder. Raises OwnerUnreadable when the disk does not say."""
    try:
        handle = files.open_to_read(folder / ".lock")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OwnerUnreadable(f"cannot open {folder / '.lock'}: {error.strerror}") from None
    try:
        return leases.is_locked_by_other(handle, folder / ".lock")
    except OSError as error:
        raise OwnerUnreadable(f"cannot lock {folder / '.lock'}: {error.strerror}") from None
    finally:
        os.close(handle)


def _write(folder: Path, number: int, launch: LaunchName) -> None:
    """Write attempt.json whole, and onto the disk before the attempt relies on it. Raises OSError."""
    row = {"attempt": number, "launch": launch.name, "process": os.getpid(), "host": platform.node()}
    files.write_object(folder / "attempt.json", row)


def _lock(folder: Path) -> int | None:
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    held = False
    try:
        held = leases.lock(handle, folder / ".lock")
    finally:
        if not held:
            os.close(handle)
    return handle if held else None


def _take_later(folder: Path, patience: float) -> int | None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        time.sleep(0.1)
        handle = _lock(folder)
        if handle is not None:
            return handle
    return None


def _replace_lock(folder: Path) -> int:
    """Take a new lock from a writer that neither writes nor ends (stopped, or its node is cut off).

    Its lock stays on the old file.
    """
    (folder / ".lock").unlink(missing_ok=True)
    (folder / ".lock.lease").unlink(missing_ok=True)
    handle = _lock(folder)
    if handle is None:
        raise LaunchError(f"another attempt took {folder} at the same moment")
    return handle

"""The memory that a process may use: the machine's, or the limit of its container or job."""

from pathlib import Path

import psutil

_GROUPS = Path("/sys/fs/cgroup")


def memory_limit() -> float:
    """Return the bytes that this process may use: the least of the machine's memory and its control groups' limits."""
    limits = [float(psutil.virtual_memory().total)]
    for path in limit_files():
        try:
            text = path.read_text().strip()
        except OSError:
            continue  # another version of control groups
        if text.isdecimal():
            limits.append(float(text))
    return min(limits)


def limit_files() -> list[Path]:
    """Return the files, of which not all need exist, in which the kernel gives the limits of this process's groups."""
    found = [_GROUPS / "memory.max", _GROUPS / "memory" / "memory.limit_in_bytes"]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        kinds, own = line.split(":", 2)[1:]
        folder = (_GROUPS / "memory" if "memory" in kinds else _GROUPS) / own.lstrip("/")
        for place in (folder, *folder.parents):
            if _GROUPS not in place.parents:
                break
            found += [place / "memory.max", place / "memory.limit_in_bytes"]
    return found

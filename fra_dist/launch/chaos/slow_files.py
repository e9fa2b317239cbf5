"""Files that take seconds to open: `python -m fra_dist.launch.chaos.slow_files SECONDS SEED FILE ...`.

This process holds a write lease on each file, so the kernel makes every process that opens it wait until the lease is
given up, which happens after a time between 0 and SECONDS. The process prints "ready" when it holds all leases and
"waiting" when somebody waits for the first time, and runs until its standard input is closed.
"""

import fcntl
import os
import random
import select
import signal
import sys
import time

LONGEST = 40.0
"""Longest delay in seconds. The kernel takes a lease away after /proc/sys/fs/lease-break-time, 45 s by default."""


def main(words: list[str]) -> int:
    """Hold leases on the files until standard input is closed; `words` are SECONDS, SEED and the files.

    Returns 0, or 1 when the file system has no leases.
    """
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # what the kernel sends when somebody waits, which would end us
    longest, draw = min(float(words[0]), LONGEST), random.Random(int(words[1]))
    held: dict[int, float] = {}
    for name in words[2:]:
        handle = os.open(name, os.O_RDONLY)
        try:
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            print(f"no lease on {name}: {error.strerror}", flush=True)
            return 1
        held[handle] = draw.uniform(0, longest)
    print("ready", flush=True)
    waiting: dict[int, float] = {}
    while not _closed():
        for handle in [h for h in held if h not in waiting and fcntl.fcntl(h, fcntl.F_GETLEASE) != fcntl.F_WRLCK]:
            if not waiting:
                print("waiting", flush=True)
            waiting[handle] = time.monotonic() + held[handle]
        for handle in [h for h, end in waiting.items() if h in held and time.monotonic() >= end]:
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            del held[handle]
    return 0


def _closed() -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], 0.02)
    return bool(ready) and os.read(sys.stdin.fileno(), 1) == b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

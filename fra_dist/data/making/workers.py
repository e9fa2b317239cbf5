"""Spreads calls over processes and gives their results in the order of the calls."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from fra_dist.errors import DataError

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with (number done, total)."""

_AHEAD = 4  # calls in hand for each process


def usable_cores() -> int:
    """Number of CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(calls: Iterable[Callable[[], T]], workers: int) -> Iterator[T]:
    """The results of the calls, in their order, computed by `workers` processes (by this process when that is 1).

    Raises DataError when a worker process dies, for instance because a decoder crashes or memory runs out.
    """
    pool = _pool(workers) if workers > 1 else None
    if pool is None:
        yield from (call() for call in calls)
        return
    waiting: deque[Future[T]] = deque()
    try:
        for call in calls:
            waiting.append(pool.submit(_run, call))
            if len(waiting) >= workers * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError(
            "a worker process died, of lack of memory or inside an image decoder: "
            "the same command resumes; --workers 1 shows where"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor | None:
    """A pool of processes; None, and a line on standard error, where the system has no semaphores for one."""
    context = multiprocessing.get_context("spawn")  # forking a process with threads (CUDA, DALI) can hang
    try:
        return ProcessPoolExecutor(workers, context, initializer=_follow_the_parent)
    except (ImportError, OSError) as error:  # no /dev/shm, or one that this user may not write
        print(f"note: one process does the work, as /dev/shm cannot be used ({error})", file=sys.stderr)
        return None


def _run(call: Callable[[], T]) -> T:
    return call()


def _follow_the_parent() -> None:
    """Leave Ctrl-C to the parent process, and end when it ends.

    A worker that waits for calls would otherwise never learn that no process is left to send any.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)

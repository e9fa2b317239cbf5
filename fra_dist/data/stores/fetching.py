"""Byte ranges of files in an object store: several requests at a time, retried with backoff, cancelled at once.

A failure that can pass (a 5xx answer, a time-out, a broken connection, a body cut short) is tried again; one that
cannot (no such file, no permission, no credentials) is an error at the first answer.
"""

import asyncio
import concurrent.futures
import errno
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from fra_dist.config.logins import without_kept
from fra_dist.errors import DataError, StoreError
from fra_dist.foreign_text import without_logins

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 20.0  # seconds
_POLL = 0.1  # seconds after which a waiting thread looks whether it should stop
_PASSING_STATUS = (408, 425, 429)  # of HTTP, beside those from 500 on
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError, ImportError, ValueError)
_FINAL_NAMES = frozenset(
    [
        *("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError"),
        *("DefaultCredentialsError", "ParamValidationError", "InvalidRegionError", "NoRegionError"),
        *("RepositoryNotFoundError", "GatedRepoError", "RevisionNotFoundError", "EntryNotFoundError"),
    ]
)


class Cancelled(DataError):
    """The reader was closed while a thread still waited for the store."""


class RefusedError(DataError):
    """The store will not give a file however often it is asked: the file is not there, or we may not read it."""


class Range(NamedTuple):
    """A request for bytes of one file in a remote store: a range of it, or all of it."""

    path: str
    """Path of the file as the fsspec filesystem names it."""
    start: int = 0
    """First byte of the range."""
    length: int | None = None
    """Bytes of the range; None when that is not known, which reads the whole file."""
    whole: bool = False
    """Request the whole file without a range header; `length`, where given, is then the size it must have."""


class Counters:
    """Named running totals that several threads may add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: Counter[str] = Counter()

    def add(self, name: str, value: float = 1) -> None:
        """Add `value` to the running total `name`, which begins at 0. Threads may call it at the same time."""
        with self._lock:
            self._values[name] += value  # type: ignore[assignment]

    def __getitem__(self, name: str) -> float:
        with self._lock:
            return self._values[name]


class Fetcher:
    """Reads ranges through one fsspec filesystem. Threads may share it.

    retries: attempts after the first; timeout: seconds that a first attempt may take; the n-th attempt may take n times
    as long, for slow lines. An asynchronous filesystem (s3, gs, http) is cancelled when the time is over; others keep
    their own limits. counters: receives `bytes_fetched`, `requests` and `retries`. stopped: once it is set, every call
    raises Cancelled.
    """

    def __init__(self, system: Any, retries: int, timeout: float, counters: Counters, stopped: threading.Event) -> None:
        self.system, self.retries, self.timeout = system, retries, timeout
        self.counters, self.stopped = counters, stopped

    def check_running(self) -> None:
        """Raise Cancelled if reading has been stopped, otherwise do nothing."""
        if self.stopped.is_set():
            raise Cancelled("reading was stopped")

    def pause(self, seconds: float) -> None:
        """Sleep for some seconds, but raise Cancelled as soon as reading is stopped."""
        if self.stopped.wait(seconds):
            self.check_running()

    def read(self, wanted: Range, retries: int | None = None) -> bytes:
        """The bytes of one range. Raises what `read_all` raises."""
        return next(self.read_all([wanted], 1, retries))

    def read_all(self, wanted: Iterable[Range], parallel: int, retries: int | None = None) -> Iterator[bytes]:
        """The bytes of each range in the order given, with up to `parallel` requests at a time.

        retries: attempts after the first, in place of the fetcher's own number. Raises RefusedError at the first answer
        that will not change, StoreError after the last retry, Cancelled when reading is stopped.
        """
        waiting: deque[tuple[Range, concurrent.futures.Future[bytes] | None]] = deque()
        try:
            for item in wanted:
                waiting.append((item, self._begin(item)))
                if len(waiting) >= parallel:
                    yield self._finish(*waiting.popleft(), retries)
            while waiting:
                yield self._finish(*waiting.popleft(), retries)
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()

    def _begin(self, item: Range, attempt: int = 1) -> "concurrent.futures.Future[bytes] | None":
        """Send a request; None for a filesystem that is not asynchronous, which `_wait` calls instead."""
        self.check_running()
        if not getattr(self.system, "async_impl", False):
            return None
        return asyncio.run_coroutine_threadsafe(self._ask(item, self.timeout * attempt), self.system.loop)

    async def _ask(self, item: Range, timeout: float) -> bytes:
        """Ask for a range within a time limit. The first call also opens the session, so that is limited too."""
        start, end = _ends(item)
        if start is not None and start == end:
            return b""  # S3 answers a range of no bytes with the whole object
        return await asyncio.wait_for(self.system._cat_file(item.path, start=start, end=end), timeout)

    def _finish(self, item: Range, future: "concurrent.futures.Future[bytes] | None", retries: int | None) -> bytes:
        tries, began = (self.retries if retries is None else retries) + 1, time.monotonic()
        for attempt in range(1, tries + 1):
            try:
                data = self._wait(item, future if attempt == 1 else self._begin(item, attempt))
                return self._whole(item, data)
            except (Cancelled, RefusedError):
                raise
            except Exception as error:
                self.check_running()
                reason, place = without_kept(without_logins(_reason(error))), without_logins(item.path)
                if _is_final(error):
                    raise RefusedError(f"cannot read {place}: {reason}") from None
                if attempt == tries:
                    raise StoreError(
                        f"cannot read {place}: {reason}; tried {tries} times in {time.monotonic() - began:.0f} s: "
                        "look at the network and the store (data.retries and data.timeout_seconds set the patience)"
                    ) from None
            self.counters.add("retries")
            self.pause(backoff(attempt))
        raise AssertionError("unreachable")

    def _wait(self, item: Range, future: "concurrent.futures.Future[bytes] | None") -> bytes:
        self.counters.add("requests")
        if future is None:
            start, end = _ends(item)
            return self.system.cat_file(item.path, start=start, end=end)
        while True:
            done, _ = concurrent.futures.wait([future], _POLL)
            if done:
                return future.result()
            if self.stopped.is_set():
                future.cancel()
                self.check_running()

    def _whole(self, item: Range, data: bytes) -> bytes:
        """The bytes, if they are as many as were asked for."""
        self.counters.add("bytes_fetched", len(data))
        if item.length is None or len(data) == item.length:
            return data
        if len(data) > item.length:
            reason = (
                "so it is another file than manifest.json names"
                if item.whole
                else "so the server does not answer range requests; use one that does, as every object store does"
            )
            place = without_logins(item.path)
            raise RefusedError(f"cannot read {place}: {len(data)} bytes came for {item.length}, {reason}")
        raise OSError(f"the answer has {len(data)} bytes of {item.length}")


def backoff(attempt: int) -> float:
    """Seconds to sleep after attempt number `attempt` (from 1): doubled each time, with jitter to spread the ranks."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)


def _ends(item: Range) -> tuple[int | None, int | None]:
    if item.whole or item.length is None:
        return None, None
    return item.start, item.start + item.length


def _is_final(error: BaseException) -> bool:
    status = getattr(error, "status", None)  # aiohttp.ClientResponseError
    if isinstance(status, int) and 400 <= status < 600:
        return status < 500 and status not in _PASSING_STATUS
    if isinstance(error, OSError) and error.errno in (errno.EINVAL, errno.EPERM, errno.ENOSYS):
        return True  # what s3fs makes of "bad request"
    return isinstance(error, _FINAL) or any(kind.__name__ in _FINAL_NAMES for kind in type(error).__mro__)


def _reason(error: BaseException) -> str:
    """What went wrong, in one short line."""
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "no answer in time"
    text = " ".join(str(error).split())[:300]
    name = type(error).__name__
    if isinstance(error, FileNotFoundError):
        return f"it does not exist ({text})" if "bucket" in text.lower() else "it does not exist"
    return f"{name}: {text}" if text else name

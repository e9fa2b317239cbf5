"""How long this rank has waited for the others inside collectives: the rest of its time is its own work.

On a CPU every collective is timed on the host. On a GPU the host does not wait for them, so they are timed by events on
the device, while `sampling` is set, and read later, when the device is known to have passed them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Waits:
    """Adds up the time that a process spends in collectives. There is one instance for the process: `WAITS`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """Seconds that the host has spent in collectives so far; only collectives of CPU tensors count here."""
        self.sampling = False
        """Whether collectives on a GPU are timed by events now."""
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def around(self, device: torch.device) -> Iterator[None]:
        """Count the time spent inside this context as waiting for the other ranks."""
        if device.type != "cuda":
            begin = time.perf_counter()
            yield
            self.seconds += time.perf_counter() - begin
        elif self.sampling:
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            yield
            after.record()
            self._events.append((before, after))
        else:
            yield

    def take_sample(self) -> float:
        """Return the seconds that the sampled collectives took on the device, and forget them.

        The device must have completed them already.
        """
        total = sum(before.elapsed_time(after) for before, after in self._events) / 1000
        self._events.clear()
        return total


WAITS = Waits()

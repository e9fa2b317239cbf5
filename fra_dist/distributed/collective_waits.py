"""How long this rank has waited for the others inside exchanges: what it took itself is the rest of its time.

On a CPU every exchange is timed on the host. On a GPU the host does not wait, so exchanges are timed by events on the
device, in steps that are `sampled`, and read later, when the device is known to have come past them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Waits:
    """One for the process: `WAITS`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """On the host, so far."""
        self.sampling = False
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def around(self, device: torch.device) -> Iterator[None]:
        """What is done inside is waiting."""
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
        """Seconds that the sampled exchanges took on the device, which must have done them; forgets them."""
        total = sum(before.elapsed_time(after) for before, after in self._events) / 1000
        self._events.clear()
        return total


WAITS = Waits()

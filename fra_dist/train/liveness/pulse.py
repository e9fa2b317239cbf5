"""A pulse to the launcher's task, which sees what a process cannot see of itself: that it is stopped as a whole.

The task (`launch.task`) passes the number of a pipe in FRA_DIST_PULSE. A thread of its own, which touches no file,
writes a line a second: for how many seconds of silence the task should wait before it ends this process; 0 means
without limit. While the watchdog's thread stands still, it writes none.
"""

import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Mapping

VARIABLE = "FRA_DIST_PULSE"
"""The environment variable that holds the number of the pipe."""
STACKS = signal.SIGRTMIN + 3
"""The signal that makes a process with a pulse write the stacks of its threads, even while one keeps the GIL."""


class Pulse:
    """Writes the pulse of this process from `start` to `stop`; does nothing without a task that listens.

    `patience` returns the seconds of silence that are too many, or None for no pulse now.
    """

    def __init__(self, patience: Callable[[], float | None], environment: Mapping[str, str] = os.environ) -> None:
        number = environment.get(VARIABLE, "")
        self._handle = int(number) if number.isdigit() else -1
        self._patience = patience
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="fra-pulse", daemon=True)

    def start(self) -> None:
        """Start the thread that writes the pulse; does nothing when no task listens."""
        if self._handle < 0:
            return
        os.set_blocking(self._handle, False)
        faulthandler.register(STACKS, all_threads=True)
        self._say(self._patience())
        self._thread.start()

    def stop(self) -> None:
        """End the pulse and tell the task to wait without limit."""
        if self._handle >= 0 and not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._say(0.0)

    def _beat(self) -> None:
        while not self._stop.wait(1.0):
            self._say(self._patience())

    def _say(self, seconds: float | None) -> None:
        if seconds is None:
            return
        try:
            os.write(self._handle, f"{seconds:.1f}\n".encode())
        except OSError:
            return  # the task does not read now, or is gone, and then the kernel ends this process

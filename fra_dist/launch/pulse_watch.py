"""The launcher's end of `train.liveness.pulse`: how long a trainer has been silent, and how it is then ended."""

import os
import signal
import time
from pathlib import Path

from fra_dist.train.liveness.pulse import STACKS

_TICK = 0.5
_TIME_FOR_STACKS = 1.0
_WHY = {"T": "its process was stopped", "t": "a debugger held it", "D": "it waited for a disk or a device"}


class Silence:
    """Listens to the pulse of a trainer on the pipe `handle` and measures how long it has been silent.

    Time passes in small ticks: a node that was suspended and continued is not silent.
    """

    def __init__(self, handle: int) -> None:
        self.handle, self.quiet, self.patience = handle, 0.0, 0.0
        self._text, self._before = b"", time.monotonic()
        os.set_blocking(handle, False)

    def too_long(self) -> bool:
        """Whether the trainer has been silent for longer than it said it might be. Call it about every half second."""
        now = time.monotonic()
        self.quiet += min(now - self._before, _TICK)
        self._before = now
        while text := self._read():
            self.quiet = 0.0
            *lines, self._text = (self._text + text).split(b"\n")
            if lines:
                self.patience = float(lines[-1])
        return 0 < self.patience < self.quiet

    def end(self, process: int) -> str:
        """Kill the trainer, after it has written the stacks of its threads if it can; return what was wrong with it."""
        state = state_of(process)
        try:
            if state not in "Tt":
                os.kill(process, STACKS)
                time.sleep(_TIME_FOR_STACKS)
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
        why = _WHY.get(state, "a thread kept the interpreter to itself, see the stacks in the rank's log")
        return f"gave no sign of life for {self.quiet:.0f} s and was killed: {why}"

    def _read(self) -> bytes:
        try:
            return os.read(self.handle, 4096)
        except OSError:
            return b""


def state_of(process: int) -> str:
    """Return Linux's letter for the state of a process: T stopped, D waiting for a disk, Z dead or not there."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"

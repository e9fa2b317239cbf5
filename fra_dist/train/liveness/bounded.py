"""Time limits for work that may hang: a disk or a network that does not answer must not hold up a whole process."""

import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from fra_dist.exit_status import HUNG


class Aside:
    """Does small pieces of work in a thread of its own, one at a time.

    While one of them hangs, further ones are left out and `hangs` is True.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    @property
    def hangs(self) -> bool:
        """Whether the last piece of work is not done yet."""
        return self._thread is not None and self._thread.is_alive()

    def run(self, work: Callable[[], object], seconds: float) -> bool:
        """Do `work` and wait for it, `seconds` at most; False when it was left out or is not done yet."""
        if self.hangs:
            return False
        self._thread = threading.Thread(target=work, name="fra-aside", daemon=True)
        self._thread.start()
        self._thread.join(seconds)
        return not self.hangs


def leave_within(seconds: float, status: int) -> threading.Timer:
    """End this process with `status` after `seconds`, unless the returned timer is cancelled before."""
    timer = threading.Timer(seconds, _leave, (seconds, status))
    timer.daemon = True
    timer.start()
    return timer


def _leave(seconds: float, status: int) -> None:
    said = f"the process has not come to its end in {seconds:.0f} s, as on a disk that hangs: it leaves with {status}"
    Aside().run(lambda: print(said, file=sys.stderr, flush=True), 2.0)  # standard error may hang as well
    os._exit(status)


class StartWatch:
    """Watches the parts of a start, before there are steps: one that takes too long ends the process with status 70.

    It is a context around the start; `part` names the part that comes next and gives it its time. The name of the part
    that took too long and the stacks of all threads go to standard error, so that nothing depends on the disk that may
    be the cause.
    """

    def __init__(self, seconds: float) -> None:
        """Set the seconds that one part may take, unless `part` gives it more; 0 means without limit."""
        self.seconds = seconds
        self._timer: threading.Timer | None = None

    def part(self, name: str, least: float = 0.0) -> None:
        """Begin the part `name`, which may take the general limit or `least` seconds, whichever is more."""
        self._cancel()
        if self.seconds:
            seconds = max(self.seconds, least)
            self._timer = threading.Timer(seconds, self._end, (name, seconds))
            self._timer.daemon = True
            self._timer.start()

    def pause(self) -> None:
        """Watch nothing until the next part: what follows may take as long as it must, and says how far it is."""
        self._cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, name: str, seconds: float) -> None:
        leave_within(10.0, HUNG)  # should standard error hang as well
        try:
            faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
            text = f"watchdog: {name} has taken more than {seconds:.0f} s: a disk, a network or a rank hangs"
            os.write(2, f"{text}\n".encode())
        finally:
            os._exit(HUNG)

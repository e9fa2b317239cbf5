"""Signals become a flag that the loop reads at a step boundary."""

import signal
from types import FrameType, TracebackType
from typing import Self

STOPPED = 75
"""Exit status of a run that was asked to stop, saved, and can be resumed (EX_TEMPFAIL)."""


class StopFlag:
    """While entered: SIGTERM, SIGUSR2 and Ctrl-C only set `.requested`; a second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

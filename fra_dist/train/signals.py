"""Signals that ask a run to stop: the loop reads a flag at step boundaries; before that, the process ends at once."""

import ctypes
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from fra_dist.exit_status import INTERRUPTED, STOPPED

STOP_SIGNALS = tuple(
    getattr(signal, f"SIG{name}") for name in ("TERM", "INT", "USR1", "USR2", "HUP", "XCPU", "QUIT", "ALRM")
)
"""The signals by which schedulers, terminals, shells and users end a process: none of them may end a run unsaved."""

_ALWAYS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


def heeded() -> tuple[signal.Signals, ...]:
    """Return the stop signals to act upon: not those for which somebody else has plans.

    `nohup` ignores SIGHUP, and a debugger or a profiler has handlers of its own.
    """
    free = (signal.SIG_DFL, _do_nothing)
    return tuple(number for number in STOP_SIGNALS if number in _ALWAYS or signal.getsignal(number) in free)


class StopFlag:
    """A context in which the stop signals only set `requested`, and are answered at once with a line.

    A second Ctrl-C changes nothing, so that what is being saved is not lost; a third one ends the process. A thread
    answers, because the interpreter runs no signal handler while a library works or waits.
    """

    def __init__(self, saving: str = "") -> None:
        """Name in `saving` what is saved after a signal; empty: this process does not answer, for example no rank 0."""
        self.requested: signal.Signals | None = None
        self._saving = saving
        self._before: dict[signal.Signals, object] = {}
        self._pipe: tuple[int, int] | None = None
        self._former_wakeup = -1

    def __enter__(self) -> Self:
        for number in heeded():
            self._before[number] = signal.signal(number, self._note)
        EARLY.end()
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._former_wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        threading.Thread(target=self._answer, args=(self._pipe[0],), name="fra-stop", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._former_wakeup)
        if self._pipe is not None:
            os.close(self._pipe[1])  # ends the thread
            self._pipe = None
        for number, handler in self._before.items():
            if handler is not None:
                signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number)

    def _answer(self, handle: int) -> None:
        """Answer signals until the pipe is closed."""
        interrupts = answered = 0
        while data := os.read(handle, 1):
            if data[0] not in self._before:
                continue
            interrupts += data[0] == signal.SIGINT
            if data[0] == signal.SIGINT and interrupts == _MOST_INTERRUPTS:
                _say("ended at the third Ctrl-C, without saving")
                _end_by(signal.SIGINT)
            name = "Ctrl-C" if data[0] == signal.SIGINT else signal.Signals(data[0]).name
            if self._saving and not answered:
                _say(
                    f"{name}: this step is finished, then {self._saving} is saved; a third Ctrl-C ends at once, unsaved"
                )
            elif self._saving and data[0] == signal.SIGINT:
                _say(f"still saving {self._saving}; Ctrl-C once more ends at once, and the checkpoint is lost")
            answered += 1
        os.close(handle)


_MOST_INTERRUPTS = 3


def _say(text: str) -> None:
    """Write a line to standard error, past whatever a thread may hold or a terminal may refuse."""
    try:
        os.write(2, f"\nfra-dist: {text}\n".encode())
    except OSError:
        return


def _end_by(number: signal.Signals) -> None:
    """End this process by a signal, as if it had no handler, from any thread."""
    ctypes.CDLL(None).signal(int(number), None)  # SIG_DFL; Python's `signal.signal` works in the main thread only
    os.kill(os.getpid(), number)


class EarlyStop:
    """From `begin` until a `StopFlag` takes over, a signal that asks to stop ends the process with status 75, or 130.

    Nothing has been done then that could be lost. A thread does it, because the interpreter answers no signal while a
    library waits for other ranks or a disk. There is one instance for the process: `EARLY`.
    """

    def __init__(self) -> None:
        self._pipe: tuple[int, int] | None = None

    def begin(self) -> None:
        """Begin to listen. Called in the main thread, before anything that takes long."""
        if self._pipe is not None or threading.current_thread() is not threading.main_thread():
            return
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        for number in heeded():
            signal.signal(number, _do_nothing)
        signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(self._pipe[0],), name="fra-early-stop", daemon=True).start()

    def end(self) -> None:
        """Stop listening, because others handle the signals from now on. Called in the main thread."""
        if self._pipe is None:
            return
        signal.set_wakeup_fd(-1)
        os.close(self._pipe[1])  # ends the thread
        self._pipe = None

    def _listen(self, handle: int) -> None:
        while data := os.read(handle, 1):
            number = data[0]
            if number not in STOP_SIGNALS:
                continue
            text = f"fra-dist: {signal.Signals(number).name} before the first step: nothing is lost, start it again\n"
            try:
                os.write(2, text.encode())
            finally:
                os._exit(INTERRUPTED if number == signal.SIGINT else STOPPED)
        os.close(handle)


EARLY = EarlyStop()


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Handle a signal: the wakeup descriptor is written to only for signals that have a handler."""

"""Standard output and error of a run, which must continue when its output is not read.

A terminal is dropped, `| head` closes a pipe, or the log lies on a full disk: what cannot be written is left out.
"""

import errno
import os
import sys
from collections.abc import Iterable
from typing import Any

QUIET = "FRA_DIST_QUIET"
"""Environment variable that `--quiet` sets, so that ranks that a launcher starts are quiet as well."""
_GONE = frozenset({errno.EPIPE, errno.EBADF, errno.EIO, errno.ENXIO})


class SafeOutput:
    """A text or binary stream whose `write` and `flush` never raise because of what is behind it.

    When that is gone for good (a closed pipe, a dropped terminal), everything goes to the null device from then on.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: Any) -> int:
        """Write as much as the stream takes; returns the length of `text` in any case.

        Never raises for the stream's sake.
        """
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:
            self._give_up(error)
        return len(text)

    def writelines(self, lines: Iterable[Any]) -> None:
        """Write each of `lines` in order. Never raises for the stream's sake."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream. Never raises for the stream's sake."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(error)

    @property
    def buffer(self) -> "SafeOutput":
        """The binary stream below this text stream, made safe too."""
        return SafeOutput(self._stream.buffer)

    def isatty(self) -> bool:
        """Whether the stream is a terminal; False for one that is closed or broken."""
        try:
            return bool(self._stream.isatty())
        except (OSError, ValueError):
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in _GONE:
            to_null(self._stream)


def quiet() -> bool:
    """Whether the user asked for results, warnings and errors only."""
    return os.environ.get(QUIET, "") not in ("", "0")


def protect() -> None:
    """Replace `sys.stdout` and `sys.stderr` of this process by `SafeOutput` streams."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif not isinstance(stream, SafeOutput):
            setattr(sys, name, SafeOutput(stream))


def to_null(stream: Any) -> None:
    """Redirect the descriptor of a stream to the null device. Never raises."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):
        return  # it has no descriptor, or none can be had

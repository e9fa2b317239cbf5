"""What others wrote (names of files, keys of samples, answers of servers) on its way to a terminal.

Control characters become `\\uXXXX`, so that a name can neither move the cursor, nor change the terminal, nor turn round
what is read; user names and passwords are cut out of URLs.
"""

import re
from collections.abc import Iterable
from typing import Any

_CONTROL = re.compile(
    r"(\x1b\[[0-9;]*[mK])"  # colours and the rest of a line deleted, as progress bars and libraries write them
    r"|(?!\A)\r(?!\n|\Z)"  # a bar begins with one
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
_LOGIN = re.compile(r"(?<=://)[^/\s]*:[^/\s]*@|(?<=\bhttp://)[^/\s]+@|(?<=\bhttps://)[^/\s]+@")


def plain(text: str) -> str:
    """Return `text` with control characters and those that change the direction of writing as `\\uXXXX`.

    Line breaks, tabs, colours, and a carriage return at the beginning or the end stay.
    """
    return _CONTROL.sub(lambda match: match[1] or f"\\u{ord(match[0]):04x}", text)


def without_logins(text: str) -> str:
    """Return `text` with USER:PASSWORD@, or TOKEN@ before a web server, cut out of every URL in it."""
    return _LOGIN.sub("", text)


class PlainOutput:
    """A text stream that takes everything through `plain`; all else is that of the stream behind it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `plain(text)`; returns the length of `text`. Raises what the stream raises."""
        self._stream.write(plain(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of `lines` in order. Raises what the stream raises."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

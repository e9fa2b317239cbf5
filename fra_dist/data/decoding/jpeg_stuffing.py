"""The bytes of a JPEG scan without stuffed zeros and restart markers (ITU-T T.81, B.1.1.5). Compiled by numba."""

from collections.abc import Callable
from typing import Any

from numba import njit

PADDING = 512
"""Bytes after the unstuffed data that may be read: more than one block can take."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function with numba, without the GIL; the machine code is cached on disk where that can be written."""
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to write to: neither beside this file nor in the home
        return njit(nogil=True, error_model="numpy")(function)


@compiled
def unstuff(data, at, out, ends, numbers):  # type: ignore[no-untyped-def]
    """Copy a scan to `out`, without stuffed zeros and restart markers, from byte `at` to the first other marker.

    ends: receives the byte in `out` at which each part ends; numbers: the number of the restart marker after it.
    Returns (parts, next byte of `data`); parts is more than len(ends) when there are too many.
    """
    size, length, parts = data.size, 0, 0
    while at < size:
        byte = data[at]
        if byte != 0xFF:
            out[length] = byte
            length += 1
            at += 1
            continue
        behind = at + 1
        while behind < size and data[behind] == 0xFF:
            behind += 1
        if behind >= size:
            at = size
            break
        following = data[behind]
        if following == 0:
            out[length] = 0xFF
            length += 1
            at = behind + 1
        elif 0xD0 <= following <= 0xD7:
            if parts >= ends.size:
                return parts + 1, at
            ends[parts], numbers[parts] = length, following - 0xD0
            parts += 1
            at = behind + 1
        else:
            break
    if parts >= ends.size:
        return parts + 1, at
    ends[parts], numbers[parts] = length, -1
    return parts + 1, at


@compiled
def stuffed_length(data, at, count):  # type: ignore[no-untyped-def]
    """How many bytes of `data` from byte `at` on hold `count` unstuffed bytes."""
    start = at
    while count > 0 and at < data.size:
        at += 2 if data[at] == 0xFF else 1
        count -= 1
    return at - start

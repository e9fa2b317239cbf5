"""Exit statuses of the commands, which launchers and users' scripts act upon. Nothing here imports anything."""

COMPLETE = 0
"""Done: starting again would do nothing."""

FAILED = 1
"""Something outside the input went wrong (a disk, a network, another rank): another attempt may succeed."""

REFUSED = 2
"""The input cannot be used, and one line says why: another attempt would end alike."""

HUNG = 70
"""The watchdog ended a rank that stood still (EX_SOFTWARE): another attempt may succeed."""

STOPPED = 75
"""Asked to stop, with everything saved: the same command goes on (EX_TEMPFAIL)."""

INTERRUPTED = 130
"""The same after Ctrl-C."""

BROKEN_PIPE = 141
"""Whoever read the output has gone away: what a shell gives for SIGPIPE."""

"""Exit statuses of the commands, which launchers and users' scripts act upon. This module imports nothing."""

COMPLETE = 0
"""The run is complete: another start would do nothing."""

FAILED = 1
"""Something outside the input went wrong (a disk, a network, another rank): another attempt may succeed."""

REFUSED = 2
"""The input cannot be used, and one line says why: another attempt would end in the same way."""

HUNG = 70
"""The watchdog ended a rank that made no progress (EX_SOFTWARE): another attempt may succeed."""

STOPPED = 75
"""The run was asked to stop and everything is saved: the same command resumes it (EX_TEMPFAIL)."""

INTERRUPTED = 130
"""The run was stopped by Ctrl-C and everything is saved: the same command resumes it."""

BROKEN_PIPE = 141
"""The reader of the output has gone away; a shell reports SIGPIPE with the same status."""

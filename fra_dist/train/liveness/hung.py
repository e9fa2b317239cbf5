"""The exit status of the watchdog, apart so that launchers can know it without torch."""

HUNG = 70
"""Of a rank that the watchdog has ended (EX_SOFTWARE)."""

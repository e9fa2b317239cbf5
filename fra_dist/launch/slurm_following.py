"""Watching a SLURM run from outside: its log as it grows, and a line that shows its progress."""

import shutil
import sys
import time
from pathlib import Path
from typing import TextIO

from fra_dist.errors import DiskError
from fra_dist.launch.ledger import read_state
from fra_dist.launch.slurm import Submitted, job_state
from fra_dist.launch.status.run_status import progress_line

_ENDED = ("CANCELLED", "FAILED", "TIMEOUT", "COMPLETED", "BOOT_FAIL", "OUT_OF_MEMORY", "")
_QUIET = 60.0


class Screen:
    """Prints text that scrolls above a status line that is rewritten; off a terminal, a status line now and then."""

    def __init__(self, out: TextIO) -> None:
        self.out, self.interactive, self.line = out, out.isatty(), ""
        self.at_start, self.printed_at = True, time.monotonic()

    def text(self, text: str) -> None:
        """Print text in place of the status line; it scrolls, and the next `status` comes below it."""
        if not text:
            return
        self._wipe()
        self.out.write(text)
        self.at_start = text.endswith("\n")
        self.printed_at = time.monotonic()  # a log that grows says enough
        self.out.flush()

    def status(self, line: str) -> None:
        """Show `line` as the status; off a terminal, only when it has changed and nothing was printed for a minute."""
        if self.interactive:
            if self.at_start:
                self._wipe()
                self.line = line[: shutil.get_terminal_size().columns - 1]
                self.out.write(self.line)
        elif line != self.line and time.monotonic() - self.printed_at > _QUIET:
            self.line = line
            self.text(f"fra-dist: {line}\n")
        self.out.flush()

    def close(self) -> None:
        """Remove the status line from a terminal; call it before anything else prints."""
        if self.interactive:
            self._wipe()

    def _wipe(self) -> None:
        if self.interactive and self.line:
            self.out.write("\r\x1b[K")
            self.line = ""


def follow_job(run: Path, submitted: Submitted, poll: float = 1.0, out: TextIO | None = None) -> str:
    """Show the job's log and its progress until the run ends for good; return the last state.

    `poll` is the number of seconds between two looks, `out` the stream to print to (standard output by default). Ctrl-C
    ends only the following, not the run.
    """
    screen, shown, queue, asked = Screen(out or sys.stdout), 0, "PENDING", 0.0
    try:
        while True:
            state = _state(run)
            ended = state in ("complete", "failed", "stopped")
            text = _read_from(submitted.log, shown)
            shown += len(text)
            screen.text(text.decode(errors="replace"))
            if ended:
                return state
            if time.monotonic() - asked > 5:
                asked, known = time.monotonic(), job_state(submitted.job_id)
                queue = queue if known is None else known  # SLURM may not answer for a while
                if queue in _ENDED:
                    return f"ended by SLURM ({queue or 'no longer known'})"
            screen.status(f"job {submitted.job_id} {queue.lower()}, {progress_line(run)}")
            time.sleep(poll)
    finally:
        screen.close()


def _state(run: Path) -> str:
    """Return the launcher's word for the state; "unknown" while the disk does not answer."""
    try:
        return str(read_state(run).get("state", "pending"))
    except DiskError:
        return "unknown"


def _read_from(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read()
    except OSError:
        return b""

"""What the watchdog leaves behind when it ends an attempt: the verdict, and the stacks of every thread of each rank."""

import faulthandler
import os
import sys
import time
from pathlib import Path

from fra_dist import json_lines
from fra_dist.errors import LaunchError
from fra_dist.files import raw_text
from fra_dist.train.liveness.heartbeats import Heartbeat
from fra_dist.train.run_dir.fence import read_attempt


def record_verdict(folder: Path, text: str, attempt: int, step: int) -> str:
    """Record why the attempt ends in FOLDER/verdict.txt and in the history; return the verdict that is recorded.

    `folder` is RUN/stacks/attempt-NNNN. The rank that comes first records its own text; later ones get that text.
    Nothing is recorded for an attempt that has been superseded.
    """
    run = folder.parents[1]
    try:
        if read_attempt(run, patience=0).get("attempt", attempt) != attempt:
            return text
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "verdict.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        time.sleep(0.2)
        return _first_verdict(folder) or text
    except (OSError, LaunchError):  # the stacks still tell, on this rank's standard error if need be
        return text
    row = {"time": round(time.time(), 1), "event": "watchdog", "attempt": attempt, "step": step, "text": text}
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(f"{text}\n")
        json_lines.append(run / "history.jsonl", row, pauses=())
    except OSError as error:
        print(f"warning: cannot write {run / 'history.jsonl'}: {error.strerror}", file=sys.stderr, flush=True)
    return text


def _first_verdict(folder: Path) -> str:
    """Return what the rank that was first has written; empty while that cannot be read."""
    try:
        return raw_text(folder / "verdict.txt", ()).strip()
    except (OSError, ValueError):
        return ""


def dump_stacks(path: Path, heartbeat: Heartbeat) -> None:
    """Write the stacks of this process, and where its rank is, to `path`; to standard error if that fails."""
    try:
        with path.open("w") as stream:
            stream.write(f"rank {heartbeat.rank} on {heartbeat.host}, process {os.getpid()}: ")
            stream.write(f"{heartbeat.name} of step {heartbeat.step}, {heartbeat.stalled:.0f} s without progress\n\n")
            stream.flush()
            faulthandler.dump_traceback(stream, all_threads=True)
    except OSError:
        dump_stacks_to_stderr(heartbeat)


def dump_stacks_to_stderr(heartbeat: Heartbeat) -> None:
    """Write the stacks to standard error, where no file can be written."""
    os.write(2, f"rank {heartbeat.rank} on {heartbeat.host}: {heartbeat.name} of step {heartbeat.step}\n".encode())
    faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)

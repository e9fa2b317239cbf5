"""One rank as launchers start it: `python -m fra_dist.launch.task [--folder DIR] [--lifeline] -- TRAINER ...`.

The trainer is a subprocess in a session of its own. Signals that ask it to stop are passed on; how it ended is written
to DIR/rank-R.json and its output to DIR/rank-R.log (rank 0 is shown as well). This process exits with 0 when the
trainer is done or has stopped with a checkpoint (status 75), so that neither srun nor torchrun kills the other ranks
while they still save; any other status is passed on.

A trainer that gives no sign of life for longer than it said it might (`train.liveness.pulse`) is killed: it is stopped
as a whole, or none of its Python threads can run.

When this process dies, the kernel kills the trainer. With --lifeline it also ends when its standard input is closed,
with --with-parent when the process that started it dies.
"""

import argparse
import ctypes
import json
import os
import platform
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from fra_dist import files
from fra_dist.distributed.environment import read_ranks
from fra_dist.errors import DiskError
from fra_dist.exit_status import REFUSED, STOPPED
from fra_dist.launch.outcome import last_line
from fra_dist.launch.pulse_watch import Silence
from fra_dist.safe_output import protect
from fra_dist.train.liveness import pulse
from fra_dist.train.signals import heeded

_PR_SET_PDEATHSIG = 1
_RECORD = 4096
"""Bytes of a record, reserved on the disk before the trainer starts: a disk that fills up still takes it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one rank from the command line and return the exit status: 2 when it cannot see the attempt's folder."""
    parser = argparse.ArgumentParser(prog="python -m fra_dist.launch.task")
    parser.add_argument("--folder", type=Path, help="of this attempt, made by the launcher on a shared file system")
    parser.add_argument("--lifeline", action="store_true")
    parser.add_argument("--with-parent", action="store_true")
    parser.add_argument("trainer", nargs=argparse.REMAINDER)  # torchrun takes the `--` out
    args = parser.parse_args(argv)
    protect()
    trainer = args.trainer[args.trainer[:1] == ["--"] :]
    if not trainer:
        parser.error("the trainer's command is missing")
    if args.with_parent:
        die_with_parent(os.getppid())()
    rank = read_ranks(os.environ)[0]
    if args.folder is not None and not _appears(args.folder):
        print(
            f"rank {rank} on {platform.node()} does not see {args.folder}: "
            "the run folder must lie on a file system that all nodes share",
            file=sys.stderr,
        )
        return REFUSED
    return Task(rank, args.folder, trainer, args.lifeline).run()


class Task:
    """One trainer process, from its start to the record of how it ended."""

    def __init__(self, rank: int, folder: Path | None, command: Sequence[str], lifeline: bool) -> None:
        self.rank, self.folder, self.command, self.lifeline = rank, folder, list(command), lifeline
        self.asked: set[int] = set()
        self.child: subprocess.Popen[bytes] | None = None
        self.cause = ""

    def run(self) -> int:
        """Run the trainer to its end, record how it ended, and return the exit status of this process."""
        for number in heeded():
            signal.signal(number, self._pass_on)
        log = self._open_log()
        self._reserve()
        listening, speaking = os.pipe()
        self.child = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT if log else None,
            env={**os.environ, pulse.VARIABLE: str(speaking)},
            pass_fds=(speaking,),
            start_new_session=True,
            preexec_fn=die_with_parent(os.getpid()),
        )
        os.close(speaking)
        for asked in self.asked:  # came between the handler and the start
            self.child.send_signal(asked)
        code = self._wait(self.child, Silence(listening))
        if code < 0 and -code in self.asked:
            code = STOPPED  # it had not got as far as handling signals: nothing was done, nothing is lost
        if self.cause:
            code = -signal.SIGKILL  # also when it ended by itself in that moment
        if code == 130 and signal.SIGINT in self.asked:
            code = STOPPED
        if self.folder is not None:
            self._record(self.folder, code)
        if code in (0, STOPPED):
            return 0
        return code if code > 0 else 128 - code

    def _wait(self, child: subprocess.Popen[bytes], silence: Silence) -> int:
        show = self._shown_log()
        try:
            while child.poll() is None:
                if self.lifeline and _closed(sys.stdin):
                    child.kill()
                    self.lifeline = False
                if not self.cause and silence.too_long():
                    self.cause = f"rank {self.rank} on {platform.node()} {silence.end(child.pid)}"
                    print(f"fra-dist: {self.cause}", file=sys.stderr, flush=True)
                _copy(show)
                time.sleep(0.1)
            _copy(show)
        finally:
            if show is not None:
                show.close()
        return child.returncode

    def _open_log(self) -> BinaryIO | None:
        """Open the trainer's log; None, for this process's own output, when the disk does not take a log."""
        if self.folder is None:
            return None
        path = self.folder / f"rank-{self.rank}.log"
        try:
            return files.patiently(lambda: path.open("wb"))
        except OSError as error:
            print(f"fra-dist: cannot write {path}: {error.strerror}; its lines come here", file=sys.stderr, flush=True)
            return None

    def _reserve(self) -> None:
        """Reserve the bytes of the record on the disk."""
        if self.folder is not None:
            try:
                (self.folder / f".rank-{self.rank}.json").write_bytes(b" " * _RECORD)
            except OSError:
                return  # tried again at the end

    def _shown_log(self) -> BinaryIO | None:
        if self.folder is None or self.rank != 0:
            return None
        try:
            return (self.folder / "rank-0.log").open("rb")
        except OSError:
            return None

    def _record(self, folder: Path, code: int) -> None:
        row: dict[str, object] = {"rank": self.rank, "host": platform.node(), "code": code, "time": time.time()}
        row["asked"] = bool(self.asked)
        if code not in (0, STOPPED):
            row["last"] = last_line(folder / f"rank-{self.rank}.log")
        if "TORCHELASTIC_RESTART_COUNT" in os.environ:
            row["restart"] = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
        if self.cause:
            row["cause"] = self.cause
        try:
            files.patiently(lambda: _write_record(folder / f"rank-{self.rank}.json", row))
        except OSError as error:
            text = f"cannot record in {folder} how rank {self.rank} ended: {error.strerror}"
            print(f"fra-dist: {text}; it ended so: {json.dumps(row)}", file=sys.stderr, flush=True)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.asked.add(number)
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)


def _appears(folder: Path, patience: float = 10.0) -> bool:
    """Whether the folder is there in the end: a network file system may show a new one a few seconds late."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            if files.is_folder(folder):
                return True
        except DiskError as error:
            print(f"fra-dist: {error}", file=sys.stderr, flush=True)
        time.sleep(0.2)
    return False


def _write_record(path: Path, row: dict[str, object]) -> None:
    """Write a record into the bytes that were reserved for it, then give it its name. Raises OSError."""
    handle = os.open(path.with_name(f".{path.name}"), os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
    try:
        os.pwrite(handle, json.dumps(row).encode()[:_RECORD].ljust(_RECORD), 0)
    finally:
        os.close(handle)
    os.replace(path.with_name(f".{path.name}"), path)  # not `write_whole`: this needs no space on a full disk


def _copy(source: BinaryIO | None) -> None:
    try:
        text = source.read() if source is not None else b""
    except OSError:
        return  # what the disk does not give now, it may give later
    if text:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()


def _closed(stream: object) -> bool:
    ready, _, _ = select.select([stream], [], [], 0)
    return bool(ready) and os.read(sys.stdin.fileno(), 1024) == b""


def die_with_parent(parent: int) -> Callable[[], None]:
    """Return a function for a new process to call, after which the kernel kills it when the process `parent` ends."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # died before the line above
            os._exit(1)

    return prepare


if __name__ == "__main__":
    sys.exit(main())

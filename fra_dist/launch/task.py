"""One rank as launchers start it: `python -m fra_dist.launch.task [--folder DIR] [--lifeline] -- TRAINER ...`.

The trainer is a subprocess in a session of its own. Signals that ask it to stop are passed on; how it ended is
written to DIR/rank-R.json and its output to DIR/rank-R.log (rank 0 is shown as well). This process exits with 0 when
the trainer is done or has stopped with a checkpoint (status 75), so that neither srun nor torchrun kills the other
ranks while they still save; any other status is passed on.

A trainer that gives no sign of life for longer than it said it might (`train.pulse`) is killed: it is stopped as a
whole, or none of its Python threads can run.

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

from fra_dist.distributed.environment import read_ranks
from fra_dist.launch.outcome import last_line
from fra_dist.launch.pulse_watch import Silence
from fra_dist.train.liveness import pulse
from fra_dist.train.signals import STOPPED

_PASSED_ON = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
_PR_SET_PDEATHSIG = 1


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fra_dist.launch.task")
    parser.add_argument("--folder", type=Path, help="of this attempt, made by the launcher on a shared file system")
    parser.add_argument("--lifeline", action="store_true")
    parser.add_argument("--with-parent", action="store_true")
    parser.add_argument("trainer", nargs=argparse.REMAINDER)  # torchrun takes the `--` out
    args = parser.parse_args(argv)
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
        return 2
    return Task(rank, args.folder, trainer, args.lifeline).run()


class Task:
    """One trainer process from start to record."""

    def __init__(self, rank: int, folder: Path | None, command: Sequence[str], lifeline: bool) -> None:
        self.rank, self.folder, self.command, self.lifeline = rank, folder, list(command), lifeline
        self.asked: set[int] = set()
        self.child: subprocess.Popen[bytes] | None = None
        self.cause = ""

    def run(self) -> int:
        for number in _PASSED_ON:
            signal.signal(number, self._pass_on)
        log = (self.folder / f"rank-{self.rank}.log").open("wb") if self.folder else None
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
            code = -signal.SIGKILL  # also when it came to its end in that moment
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

    def _shown_log(self) -> BinaryIO | None:
        if self.folder is None or self.rank != 0:
            return None
        return (self.folder / "rank-0.log").open("rb")

    def _record(self, folder: Path, code: int) -> None:
        row: dict[str, object] = {"rank": self.rank, "host": platform.node(), "code": code, "time": time.time()}
        row["asked"] = bool(self.asked)
        if code not in (0, STOPPED):
            row["last"] = last_line(folder / f"rank-{self.rank}.log")
        if "TORCHELASTIC_RESTART_COUNT" in os.environ:
            row["restart"] = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
        if self.cause:
            row["cause"] = self.cause
        partial = folder / f".rank-{self.rank}.json"
        partial.write_text(json.dumps(row))
        partial.replace(folder / f"rank-{self.rank}.json")

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.asked.add(number)
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)


def _appears(folder: Path, patience: float = 10.0) -> bool:
    """A network file system may show a new folder a few seconds late."""
    end = time.monotonic() + patience
    while not folder.is_dir():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _copy(source: BinaryIO | None) -> None:
    if source is not None and (text := source.read()):
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()


def _closed(stream: object) -> bool:
    ready, _, _ = select.select([stream], [], [], 0)
    return bool(ready) and os.read(sys.stdin.fileno(), 1024) == b""


def die_with_parent(parent: int) -> Callable[[], None]:
    """What a process calls to be killed when `parent` ends."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # died before the line above
            os._exit(1)

    return prepare


if __name__ == "__main__":
    sys.exit(main())

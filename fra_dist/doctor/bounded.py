"""A process that does checks one after the other, and whose answers are waited for only so long.

python -m fra_dist.doctor.bounded SUBJECT module:function ...     prints a line of JSON after each check
"""

import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from fra_dist.doctor.result import CheckResult
from fra_dist.doctor.subject import Subject

_MARK = "fra-dist doctor: "
"""What a line with an answer begins with: libraries print lines of their own."""


class Worker:
    """The process, as a context: it and what it started are killed at the end.

    It is never waited for without a limit: the kernel does not let go of a process that waits for a dead disk.
    """

    def __init__(self, places: Sequence[str], subject: Subject) -> None:
        """Start it with the checks at `places` (module:function), in this order."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fra_dist.doctor.bounded", subject.to_json(), *places],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: deque[str] = deque(maxlen=5)
        for work in (self._read_answers, self._read_errors):
            threading.Thread(target=work, daemon=True).start()

    def answer(self, seconds: float) -> dict[str, Any]:
        """Return the next answer. Raises TimeoutError after `seconds`, EOFError with the reason when it has ended."""
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError from None
        if line is None:
            said = [text.strip() for text in self._errors if text.strip()]
            raise EOFError(said[-1][:300] if said else f"its process ended with status {self._process.poll()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(1.0)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            return

    def _read_answers(self) -> None:
        for line in self._process.stdout or ():
            if line.startswith(_MARK):
                self._answers.put(line.removeprefix(_MARK))
        time.sleep(0.2)  # for the last lines of standard error
        self._answers.put(None)

    def _read_errors(self) -> None:
        self._errors.extend(self._process.stderr or ())


def find(place: str) -> Callable[[Subject], CheckResult]:
    """Return the function that `module:function` names, in this package or with dots anywhere."""
    module, _, function = place.partition(":")
    whole = module if "." in module else f"fra_dist.doctor.{module}"
    found: Callable[[Subject], CheckResult] = getattr(importlib.import_module(whole), function)
    return found


def main() -> int:
    """Do the checks that the command line names, and print a line after each."""
    subject = Subject.from_json(sys.argv[1])
    for place in sys.argv[2:]:
        print(_MARK + json.dumps(asdict(find(place)(subject))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Waiting for what a fault test expects, with an end."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 3
"""Times as long as what is expected takes on two quiet cores: the tests of a gate run beside each other."""


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of `condition`; AssertionError that names `what` after `PATIENCE * seconds`."""
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds:.0f} s still no {what() if callable(what) else what}")
        time.sleep(0.1)


def rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def events(run: Path, *names: str) -> list[dict[str, Any]]:
    return [row for row in rows(run / "history.jsonl") if row["event"] in names]


def processes_with(text: str) -> list[int]:
    """Processes, other than this one, whose command line or environment mentions `text` (a folder of the test)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found

"""How an attempt ended, judged from the records that its ranks left."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fra_dist import files
from fra_dist.errors import DiskError
from fra_dist.exit_status import HUNG, REFUSED, STOPPED


@dataclass(frozen=True)
class Outcome:
    """How one attempt of a run ended, as its launcher judges it, and why."""

    kind: Literal["complete", "stopped", "refused", "failed"]
    """"complete", "stopped" (saved, or nothing to save), "refused" (the input cannot be used) or "failed"."""
    cause: str = ""
    """Why it ended so, in one line; empty when there is nothing to say."""


def attempt_outcome(folder: Path, world: int, launcher_error: str = "") -> Outcome:
    """Judge the attempt of `world` ranks whose records are in `folder`.

    `launcher_error` is what the launcher itself saw go wrong, in one line; empty for nothing. Ranks that die pull
    others down: the first that was killed, else the first that failed, is named as the cause.
    """
    try:
        records = read_records(folder)
    except DiskError as error:
        return Outcome("failed", launcher_error or str(error))
    codes = {int(r["rank"]): int(r["code"]) for r in records}
    if len(codes) == world and all(code == 0 for code in codes.values()):
        return Outcome("complete")
    if len(codes) == world and all(code in (0, STOPPED) for code in codes.values()):
        return Outcome("stopped")
    if len(codes) == world and all(r.get("asked") for r in records):
        return Outcome("stopped", "asked to stop before it could save")
    if refused := refusal(folder):
        return Outcome("refused", refused)
    failed = [r for r in records if r["code"] not in (0, STOPPED)]
    if failed:
        return Outcome("failed", first_cause(folder, failed))
    mute = sorted(set(range(world)) - set(codes))
    who = f"rank{'s' if len(mute) > 1 else ''} {', '.join(map(str, mute[:8]))}{' ...' if len(mute) > 8 else ''}"
    return Outcome(
        "failed", launcher_error or f"{who} ended without a word: killed together with the launcher's process or node"
    )


def first_cause(folder: Path, failed: list[dict[str, Any]]) -> str:
    """Say why an attempt failed; `failed` are the records of its failed ranks in the order of time."""
    silent = [r for r in failed if r.get("cause")]
    hung = [r for r in failed if r["code"] == HUNG]
    killed = [r for r in failed if r["code"] < 0 and r["code"] != -signal.SIGTERM]
    return _describe(folder, (silent or hung or killed or failed)[0])


def refusal(folder: Path) -> str:
    """Return what the first rank that refused its input said; an empty string when none did.

    Raises DiskError or AccessError when the records cannot be read.
    """
    refused = [row for row in read_records(folder) if row["code"] == REFUSED]
    return (_last_line(folder, refused[0]) or _describe(folder, refused[0])) if refused else ""


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Read the records of an attempt in the order in which they were written, by the clock of the file system.

    Damaged records are left out. Raises DiskError or AccessError when the folder or a record cannot be read: it may
    hold the cause.
    """
    rows = []
    for path in files.paths_in(folder, "rank-*.json"):
        row, found = files.read_object(path), files.status_of(path)
        if found is not None and row is not None and isinstance(row.get("code"), int) and "rank" in row:
            rows.append((found.st_mtime_ns, path.name, {"host": "?", **row}))
    return [row for *_, row in sorted(rows, key=lambda entry: entry[:2])]


def _describe(folder: Path, row: dict[str, Any]) -> str:
    who = f"rank {row['rank']} on {row['host']}"
    if row.get("cause"):
        return str(row["cause"])
    if row["code"] < 0:
        return f"{who} was killed by {signal.Signals(-row['code']).name}"
    line = _last_line(folder, row)
    if row["code"] == HUNG and line:
        return line
    return f"{who} exited with status {row['code']}" + (f": {line}" if line else "")


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank, at most 300 characters; empty when there is none."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - 4000))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _last_line(folder: Path, row: dict[str, Any]) -> str:
    """Return the last line from the record: the next attempt may have begun its log in the place of this one."""
    return str(row["last"]) if "last" in row else last_line(folder / f"rank-{row['rank']}.log")

"""How an attempt ended, read from the records that its ranks left."""

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fra_dist.train.liveness.hung import HUNG
from fra_dist.train.signals import STOPPED

REFUSED = 2
"""Exit status of a trainer whose input is bad: starting it again would not help."""


@dataclass(frozen=True)
class Outcome:
    kind: Literal["complete", "stopped", "refused", "failed"]
    cause: str = ""


def judge(folder: Path, world: int, told: str = "") -> Outcome:
    """The outcome of the attempt of `world` ranks whose records lie in `folder`; `told`: what the launcher saw itself.

    Ranks that die pull others down: the first that was killed, else the first that failed, is named as the cause.
    """
    records = read_records(folder)
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
    return Outcome("failed", told or f"{who} ended without a word: killed together with the launcher's process or node")


def first_cause(folder: Path, failed: list[dict[str, Any]]) -> str:
    """Why an attempt failed, out of the records of its ranks that did, in the order of time."""
    silent = [r for r in failed if r.get("cause")]
    hung = [r for r in failed if r["code"] == HUNG]
    killed = [r for r in failed if r["code"] < 0 and r["code"] != -signal.SIGTERM]
    return _describe(folder, (silent or hung or killed or failed)[0])


def refusal(folder: Path) -> str:
    """What the first rank that refused its input said; empty when none did."""
    refused = [row for row in read_records(folder) if row["code"] == REFUSED]
    return (_last_line(folder, refused[0]) or _describe(folder, refused[0])) if refused else ""


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Records in the order in which they came, by the clock of the file system; one cut short is left out."""
    rows = []
    for path in folder.glob("rank-*.json"):
        try:
            rows.append((path.stat().st_mtime_ns, path.name, json.loads(path.read_text())))
        except (OSError, ValueError):
            continue
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
    """The last line of a log that is not blank; empty when there is none."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - 4000))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _last_line(folder: Path, row: dict[str, Any]) -> str:
    """From the record: the next attempt may have begun its log in the place of this one."""
    return str(row["last"]) if "last" in row else last_line(folder / f"rank-{row['rank']}.log")

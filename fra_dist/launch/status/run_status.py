"""What `fra-dist status RUN` shows: the facts of a run as one screen, or as one line."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fra_dist.formats import clock_text, plural
from fra_dist.launch.ledger import last_row
from fra_dist.launch.status.run_facts import facts, progress
from fra_dist.train.run_dir.fence import read_attempt

_LOSSES = ("total", "global", "local", "relation")


def overview(run: Path) -> str:
    """Describe a run on one screen. Raises LaunchError when `run` is not a run folder."""
    found = facts(run)
    lines = [("run", found["run"]), ("state", _state(found))]
    if found["launch"] or found["attempt"] is not None:
        world = f", {plural(found['world'], 'rank')}" if found["world"] else ""
        host = f", rank 0 on {found['host']}" if found["host"] else ""
        lines += [("launch", str(found["launch"])), ("attempt", f"{found['attempt'] or 0}{world}{host}")]
    lines.append(("step", _step(found)))
    if speed := _speed(found):
        lines.append(("speed", speed))
    if found["loss"]:
        shown = [name for name in _LOSSES if name in found["loss"]] or list(found["loss"])
        lines.append(("loss", ", ".join(f"{name} {found['loss'][name]:.3f}" for name in shown)))
    lines += [("probe", f"{name} {value:.3f}") for name, value in found["probes"].items()]
    lines.append(("checkpoint", _checkpoint(found["checkpoint"])))
    lines.append(("restarts", _restarts(found)))
    for row in found["faults"]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["time"]))
        lost = plural(row.get("steps_lost", 0), "step")
        lines.append(("", f"{when}  attempt {row.get('attempt')}: {row.get('cause')} ({lost} lost)"))
    lines += [("slow", text) for text in found["slow_ranks"]] + [("alarm", text) for text in found["alarms"]]
    if found["log"]:
        lines.append(("log", found["log"]))
    return "\n".join(f"{name:<11}{text}" for name, text in lines)


def progress_line(run: Path) -> str:
    """Describe a run in one line: attempt, step, images/s and time left."""
    attempt = read_attempt(run)
    found = progress(run, last_row(run / "metrics.jsonl", "images_per_second"))
    parts = [f"attempt {attempt['attempt']}"] if "attempt" in attempt else []
    parts.append(f"step {_step(found)}")
    if speed := _speed(found):
        parts.append(speed)
    return ", ".join(parts)


def _state(found: Mapping[str, Any]) -> str:
    if found["silent_seconds"] is not None:
        return f"running, but the last metrics row is {clock_text(found['silent_seconds'])} old"
    return f"{found['state']}: {found['reason']}" if found["reason"] else str(found["state"])


def _step(found: Mapping[str, Any]) -> str:
    step, total = found["step"], found["total_steps"]
    return f"{step} of {total} ({step / total:.0%})" if total else str(step)


def _speed(found: Mapping[str, Any]) -> str:
    pace, left = found["images_per_second"], found["seconds_left"]
    return "" if not pace else f"{pace:.0f} images/s" + ("" if left is None else f", {clock_text(left)} left")


def _checkpoint(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "none"
    age = found["age_seconds"]
    return f"step {found['step']}" + ("" if age is None else f", {clock_text(age)} ago")


def _restarts(found: Mapping[str, Any]) -> str:
    count, own = found["restarts"], found["restarts_by_launcher"]
    return str(count) + (f", {own} of them by the launcher" if count and own != count else "")

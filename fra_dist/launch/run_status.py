"""What `fra-dist status RUN` shows, read only from the files of the run folder."""

import time
from pathlib import Path
from typing import Any

from fra_dist import files
from fra_dist.config import load_config
from fra_dist.errors import FraError, LaunchError
from fra_dist.formats import clock_text
from fra_dist.json_lines import number_in, read_rows, step_of_row
from fra_dist.launch.ledger import last_row, newest_step, read_state
from fra_dist.train.run_dir.fence import is_locked, read_attempt

_QUIET = 600  # seconds without a metrics row after which a run that should be running is worth a look


def overview(run: Path) -> str:
    """Describe a run on one screen. Raises LaunchError when `run` is not a run folder."""
    history, state = _events(run), read_state(run)
    if not history and not state and not files.exists(run / "config.yaml"):
        raise LaunchError(f"{run} is not a run folder: it has neither config.yaml nor history.jsonl")
    metrics, attempt, now = last_row(run / "metrics.jsonl", "images_per_second"), read_attempt(run), time.time()
    lines = [("run", str(run)), ("state", _state(run, history, state))]
    if state or attempt:
        lines.append(("launch", str(state.get("launch") or attempt.get("launch"))))
        world = f", {state['world']} ranks" if state.get("world") else ""
        host = f", rank 0 on {attempt['host']}" if "host" in attempt else ""
        lines.append(("attempt", f"{attempt.get('attempt', state.get('attempt', 0))}{world}{host}"))
    lines.append(("step", _progress(run, metrics)))
    if speed := _speed(metrics):
        lines.append(("speed", speed))
    lines.append(("checkpoint", _checkpoint(run, history, now)))
    restarts = [row for row in history if row["event"] in ("launch restart", "launch failed", "launch stopped")]
    lines.append(("restarts", str(sum(row["event"] == "launch restart" for row in restarts))))
    for row in restarts[-5:]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["time"]))
        lines.append(
            ("", f"{when}  attempt {row.get('attempt')}: {row.get('cause')} ({row.get('steps_lost', 0)} lost)")
        )
    lines += [("slow", text) for text in _slow_ranks(history)]
    lines += [("alarm", text) for text in _alarms(history)]
    if state.get("log"):
        lines.append(("log", state["log"]))
    return "\n".join(f"{name:<11}{text}" for name, text in lines)


def progress_line(run: Path) -> str:
    """Describe a run in one line: attempt, step, images/s and time left."""
    metrics, attempt = last_row(run / "metrics.jsonl", "images_per_second"), read_attempt(run)
    parts = [f"attempt {attempt['attempt']}"] if "attempt" in attempt else []
    parts.append(f"step {_progress(run, metrics)}")
    if speed := _speed(metrics):
        parts.append(speed)
    return ", ".join(parts)


def _events(run: Path) -> list[dict[str, Any]]:
    """The rows of the history that say what happened and when; damaged ones are left out."""
    rows = read_rows(run / "history.jsonl")
    return [row for row in rows if isinstance(row.get("event"), str) and number_in(row, "time") is not None]


def _speed(metrics: dict[str, Any]) -> str:
    pace, left = number_in(metrics, "images_per_second"), number_in(metrics, "seconds_left")
    return "" if not pace else f"{pace:.0f} images/s" + ("" if left is None else f", {clock_text(left)} left")


def _whole(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """The rows that have all of the names."""
    return [row for row in rows if all(name in row for name in names)]


def _state(run: Path, history: list[dict[str, Any]], state: dict[str, Any]) -> str:
    writing = is_locked(run)
    if writing:
        age = _age(run / "metrics.jsonl")
        return "running" + (f", but the last metrics row is {clock_text(age)} old" if age > _QUIET else "")
    said = state.get("state", "")
    if said in ("failed", "stopped", "complete"):
        return f"{said}: {state['reason']}" if state.get("reason") and said != "complete" else str(said)
    last = [row["event"] for row in history if row["event"] in ("start", "resume", "complete", "stopped")]
    if last[-1:] == ["complete"]:
        return "complete"
    if said in ("pending", "waiting", "running"):
        return f"{'between attempts' if said == 'running' else said}: {state.get('reason') or 'queued'}"
    return "stopped and saved" if last[-1:] == ["stopped"] else "interrupted: the same command resumes"


def _progress(run: Path, metrics: dict[str, Any]) -> str:
    step = max(step_of_row(metrics) or 0, newest_step(run), 0)
    try:
        total = load_config(run / "config.yaml").train.steps
    except FraError:
        total = None
    return f"{step} of {total} ({step / total:.0%})" if total else str(step)


def _checkpoint(run: Path, history: list[dict[str, Any]], now: float) -> str:
    step = newest_step(run)
    times = [row["time"] for row in history if row["event"] == "checkpoint"]
    return "none" if step < 0 else f"step {step}" + (f", {clock_text(now - times[-1])} ago" if times else "")


def _slow_ranks(history: list[dict[str, Any]]) -> list[str]:
    """Return what was reported about slow ranks in the present attempt."""
    begun = max((i for i, row in enumerate(history) if row["event"] in ("start", "resume")), default=0)
    rows = [row for row in history[begun:] if row["event"] == "straggler"]
    rows = _whole(rows, "rank", "host", "times", "why", "step")
    return [
        f"rank {row['rank']} on {row['host']}: {row['times']} times as long as the others ({row['why']}), "
        f"step {row['step']}"
        for row in rows[-3:]
    ]


def _alarms(history: list[dict[str, Any]]) -> list[str]:
    """Return the signs of collapse that are not over, as they were reported."""
    found: dict[str, dict[str, Any]] = {}
    for row in history:
        if row["event"] == "alarm" and _whole([row], "sign", "step", "text"):
            found[row["sign"]] = row
        elif row["event"] == "alarm over":
            found.pop(row.get("sign", ""), None)
        elif row["event"] in ("start", "resume") or (row["event"] == "guard" and "to" in row):
            back = row.get("to", row.get("step", 0))  # what follows is done again, and told again if it lasts
            found = {sign: one for sign, one in found.items() if row["event"] != "start" and one["step"] <= back}
    return [f"step {row['step']}: {row['text']}" for row in found.values()]


def _age(path: Path) -> float:
    found = files.status_of(path)
    return time.time() - found.st_mtime if found else 0.0  # below 0 when the server's clock is ahead

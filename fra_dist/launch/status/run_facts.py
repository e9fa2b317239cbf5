"""What is known of a run from the files of its folder alone, as JSON values."""

import time
from pathlib import Path
from typing import Any

from fra_dist import files
from fra_dist.config import load_config
from fra_dist.errors import FraError, LaunchError
from fra_dist.json_lines import last_rows, number_in, read_rows, step_of_row
from fra_dist.launch.ledger import last_row, newest_step, read_state
from fra_dist.train.run_dir.fence import is_locked, read_attempt
from fra_dist.train.run_dir.no_run import SETTINGS, no_run

_QUIET = 600  # seconds without a metrics row after which a run that should be running is worth a look
_RECENT = 400  # rows of metrics that are searched for the newest losses and probes


def facts(run: Path) -> dict[str, Any]:
    """Return what is known of a run.

    run, state, reason, silent_seconds (null unless it runs and writes no rows), launch, attempt, world, host, step,
    total_steps, images_per_second, seconds_left, loss {name: value}, probes {name: value},
    checkpoint {step, age_seconds}, restarts, restarts_by_launcher, faults [...], slow_ranks [...], alarms [...], log.
    Unknown values are null.

    Raises LaunchError when `run` is not a run folder.
    """
    history, state = events(run), read_state(run)
    if not history and not state and not files.exists(run / SETTINGS):
        raise LaunchError(no_run(run))
    metrics, attempt = last_row(run / "metrics.jsonl", "images_per_second"), read_attempt(run)
    word, reason, silent = _state(run, history, state)
    number = attempt.get("attempt", state.get("attempt"))
    by_launcher = sum(row["event"] == "launch restart" for row in history)
    return {
        "run": str(run),
        "state": word,
        "reason": reason,
        "silent_seconds": silent,
        "launch": state.get("launch") or attempt.get("launch"),
        "attempt": number,
        "world": state.get("world") or None,
        "host": attempt.get("host"),
        **progress(run, metrics),
        **_newest_values(run),
        "checkpoint": _checkpoint(run, history),
        # every attempt but the first is a restart, whoever asked for it
        "restarts": max(number - 1, by_launcher) if isinstance(number, int) else by_launcher,
        "restarts_by_launcher": by_launcher,
        "faults": [row for row in history if row["event"] in ("launch restart", "launch failed", "launch stopped")][
            -5:
        ],
        "slow_ranks": _slow_ranks(history),
        "alarms": _alarms(history),
        "log": state.get("log") or None,
    }


def progress(run: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return step, total_steps, images_per_second and seconds_left; `metrics` is the last row with a pace."""
    return {
        "step": max(step_of_row(metrics) or 0, newest_step(run), 0),
        "total_steps": _total(run),
        "images_per_second": number_in(metrics, "images_per_second"),
        "seconds_left": number_in(metrics, "seconds_left"),
    }


def events(run: Path) -> list[dict[str, Any]]:
    """Return the rows of the history that say what happened and when; damaged ones are left out."""
    rows = read_rows(run / "history.jsonl")
    return [row for row in rows if isinstance(row.get("event"), str) and number_in(row, "time") is not None]


def _total(run: Path) -> int | None:
    try:
        return load_config(run / "config.yaml").train.steps
    except FraError:
        return None


def _newest_values(run: Path) -> dict[str, dict[str, float]]:
    """The newest value of each loss term and of each probe, among the last rows of metrics."""
    newest: dict[str, float] = {}
    for row in last_rows(run / "metrics.jsonl", _RECENT, lambda row: step_of_row(row) is not None):
        newest |= {name: float(value) for name in row if (value := number_in(row, name)) is not None}
    found = {}
    for kind, prefix in (("loss", "loss/"), ("probes", "probe/")):
        names = [name for name in newest if name.startswith(prefix) and not name.endswith("/seconds")]
        found[kind] = {name.removeprefix(prefix): newest[name] for name in names}
    return found


def _state(run: Path, history: list[dict[str, Any]], state: dict[str, Any]) -> tuple[str, str, float | None]:
    """(one word or two, the reason, seconds of silence of a run that is at work)."""
    if is_locked(run):
        age = _age(run / "metrics.jsonl")
        return "running", "", round(age) if age > _QUIET else None
    kind, reason = str(state.get("state", "")), str(state.get("reason") or "")
    if kind in ("failed", "stopped", "complete"):
        return kind, "" if kind == "complete" else reason, None
    last = [row["event"] for row in history if row["event"] in ("start", "resume", "complete", "stopped")]
    if last[-1:] == ["complete"]:
        return "complete", "", None
    if kind in ("pending", "waiting", "running"):
        return "between attempts" if kind == "running" else kind, reason or "queued", None
    if last[-1:] == ["stopped"]:
        return "stopped and saved", "", None
    return "interrupted", "the same command resumes", None


def _checkpoint(run: Path, history: list[dict[str, Any]]) -> dict[str, Any] | None:
    step = newest_step(run)
    times = [row["time"] for row in history if row["event"] == "checkpoint"]
    age = round(max(time.time() - times[-1], 0.0), 1) if times else None
    return None if step < 0 else {"step": step, "age_seconds": age}


def _slow_ranks(history: list[dict[str, Any]]) -> list[str]:
    """What was reported about slow ranks in the present attempt."""
    begun = max((i for i, row in enumerate(history) if row["event"] in ("start", "resume")), default=0)
    rows = [row for row in history[begun:] if row["event"] == "straggler"]
    rows = [row for row in rows if all(name in row for name in ("rank", "host", "times", "why", "step"))]
    return [
        f"rank {row['rank']} on {row['host']}: {row['times']} times as long as the others ({row['why']}), "
        f"step {row['step']}"
        for row in rows[-3:]
    ]


def _alarms(history: list[dict[str, Any]]) -> list[str]:
    """The signs of collapse that are not over, as they were reported."""
    found: dict[str, dict[str, Any]] = {}
    for row in history:
        if row["event"] == "alarm" and all(name in row for name in ("sign", "step", "text")):
            found[row["sign"]] = row
        elif row["event"] == "alarm over":
            found.pop(row.get("sign", ""), None)
        elif row["event"] in ("start", "resume") or (row["event"] == "guard" and "to" in row):
            back = row.get("to", row.get("step", 0))  # what follows is done again, and reported again if it lasts
            found = {sign: one for sign, one in found.items() if row["event"] != "start" and one["step"] <= back}
    return [f"step {row['step']}: {row['text']}" for row in found.values()]


def _age(path: Path) -> float:
    found = files.status_of(path)
    return time.time() - found.st_mtime if found else 0.0  # below 0 when the server's clock is ahead

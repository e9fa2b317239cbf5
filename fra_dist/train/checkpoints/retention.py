"""Which checkpoints stay: the last k, those of every n-th step, and the best by a metric."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fra_dist.config import CheckpointConfig
from fra_dist.train.checkpoints.reading import STATE, list_checkpoints, step_of
from fra_dist.train.checkpoints.writing import delete_checkpoint


@dataclass(frozen=True)
class Scored:
    """A checkpoint and the value of the metric at its step; None when that row had no such value."""

    step: int
    score: float | None = None


def expendable(found: Sequence[Scored], settings: CheckpointConfig) -> list[int]:
    """Steps of the checkpoints that may go, oldest first. `found` is in the order of steps; the newest always stays."""
    stay = {one.step for one in found[-settings.keep_last :]}
    if settings.keep_every:
        stay |= {one.step for one in found if one.step % settings.keep_every == 0}
    scored = [(one.score, one.step) for one in found if one.score is not None]
    if settings.keep_best and scored:
        sign = 1 if settings.best_is == "lowest" else -1
        stay.add(min(scored, key=lambda pair: (sign * pair[0], -pair[1]))[1])  # of equals the newest
    return [one.step for one in found if one.step not in stay]


def apply_retention(folder: Path, settings: CheckpointConfig) -> list[Path]:
    """Delete what may go, after a new checkpoint is whole; returns what was deleted. Never raises: a checkpoint too
    many does no harm."""
    paths = {step_of(path): path for path in list_checkpoints(folder)}
    found = [Scored(step, metric_of(path, settings.keep_best)) for step, path in paths.items()]
    gone = []
    for step in expendable(found, settings):
        try:
            delete_checkpoint(paths[step])
        except OSError:
            continue
        gone.append(paths[step])
    return gone


def metric_of(path: Path, metric: str | None) -> float | None:
    """A value of the row of a checkpoint's step; None when it has none, or is damaged."""
    if metric is None:
        return None
    try:
        value = json.loads((path / STATE).read_text())["metrics"][metric]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(value) if isinstance(value, int | float) else None

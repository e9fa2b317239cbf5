"""Which checkpoints are kept: the last k, those of every n-th step, and the best by a metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fra_dist import files, json_lines
from fra_dist.config import CheckpointConfig
from fra_dist.errors import FraError
from fra_dist.train.checkpoints.reading import STATE, list_checkpoints, step_of
from fra_dist.train.checkpoints.writing import delete_checkpoint


@dataclass(frozen=True)
class Scored:
    """A checkpoint and its value of the metric that chooses the best one."""

    step: int
    """The step of the checkpoint."""
    score: float | None = None
    """The value of the metric at that step; None when its row had no such value."""


def expendable(found: Sequence[Scored], settings: CheckpointConfig) -> list[int]:
    """Return the steps of the checkpoints that may be deleted, oldest first.

    `found` is in the order of steps; the newest checkpoint always stays.
    """
    stay = {one.step for one in found[-settings.keep_last :]}
    if settings.keep_every:
        stay |= {one.step for one in found if one.step % settings.keep_every == 0}
    scored = [(one.score, one.step) for one in found if one.score is not None]
    if settings.keep_best and scored:
        sign = 1 if settings.best_is == "lowest" else -1
        stay.add(min(scored, key=lambda pair: (sign * pair[0], -pair[1]))[1])  # among equals the newest
    return [one.step for one in found if one.step not in stay]


def apply_retention(folder: Path, settings: CheckpointConfig) -> list[Path]:
    """Delete the checkpoints that may go, and return their paths. Call it when a new checkpoint is whole.

    Never raises: a checkpoint too many does no harm. Nothing goes while the disk does not tell which is the best.
    """
    try:
        paths = {step_of(path): path for path in list_checkpoints(folder)}
        found = [Scored(step, metric_of(path, settings.keep_best)) for step, path in paths.items()]
    except FraError:
        return []
    gone = []
    for step in expendable(found, settings):
        try:
            delete_checkpoint(paths[step])
        except OSError:
            continue
        gone.append(paths[step])
    return gone


def metric_of(path: Path, metric: str | None) -> float | None:
    """Return the value of a metric at a checkpoint's step; None when the checkpoint has none or is damaged.

    Raises DiskError or AccessError when it cannot be read.
    """
    if metric is None:
        return None
    metrics = (files.read_object(path / STATE) or {}).get("metrics")
    return json_lines.number_in(metrics, metric) if isinstance(metrics, dict) else None

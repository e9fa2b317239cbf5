"""Scores of a network on a labelled data set, for Python and for `fra-dist eval TASK`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fra_dist.api.face_model import FaceModel, load
from fra_dist.errors import ConfigError, DataError
from fra_dist.eval.baselines import BESIDE
from fra_dist.eval.datasets import find_reader
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.results import run_task, settings_of, write_result
from fra_dist.eval.scores.intervals import Score
from fra_dist.eval.settings import TaskEntry, checked
from fra_dist.eval.task_names import TASKS
from fra_dist.eval.tasks.common import TaskResult
from fra_dist.files import exists, is_folder


@dataclass(frozen=True)
class Evaluation:
    """The result of one task."""

    scores: dict[str, Score]
    """Value and interval of each score, by name."""
    document: dict[str, Any]
    """Everything that is needed to read, compare and repeat the result, as in result.json."""
    result: TaskResult
    """The task's own result, with its columns and plots."""

    def __str__(self) -> str:
        return "\n".join(f"{name}  {score}" for name, score in self.scores.items())


def evaluate(
    model: FaceModel | str | Path,
    task: str,
    dataset: str,
    data: str | Path,
    *,
    out: str | Path | None = None,
    beside: Sequence[str] = BESIDE,
    cache: str | Path | None = None,
    **settings: Any,
) -> Evaluation:
    """Measure a network on one task, as `fra-dist eval TASK` does.

    model: as `fra_dist.load` gives or takes it; task: expression, attributes, alignment, verification, regions or
    consistency; dataset: the layout of the folder `data`, as for the command; out: a folder for result.json and plots,
    None: nothing is written; beside: baselines, of untrained and pixels; cache: a folder for cut faces and features,
    None: nothing is kept; settings: those of `fra_dist.eval.settings.Settings`, such as `labels=(100,)`.

    Raises ConfigError, CheckpointError or DataError.

        found = fra_dist.evaluate("runs/mine", "expression", "rafdb", "data/rafdb", labels=(100,), modes=("knn",))
        print(found)
    """
    if task not in TASKS:
        raise ConfigError(f"task {task!r} is not one of {', '.join(TASKS)}")
    beside = (beside,) if isinstance(beside, str) else beside
    wrong = [name for name in beside if name not in BESIDE]
    if wrong:
        raise ConfigError(f"beside {wrong[0]!r} is not one of {', '.join(BESIDE)}")
    find_reader(dataset)
    values = {"task": task, "dataset": dataset, "data": os.path.expanduser(data), "settings": settings_of(settings)}
    entry: TaskEntry = checked(TaskEntry, values, "evaluate")
    encoder = (model if isinstance(model, FaceModel) else load(model)).encoder
    return measure(encoder, entry, Cache(_folder(cache)), _folder(out), beside)


def _folder(given: str | Path | None) -> Path | None:
    return None if given is None else Path(os.path.expanduser(given))


def measure(
    encoder: Encoder, entry: TaskEntry, cache: Cache, out: str | Path | None, beside: Sequence[str]
) -> Evaluation:
    """Do one task of `evaluate`, or of a suite, and write its result. Raises DataError."""
    if out is not None and exists(Path(out)) and not is_folder(Path(out)):
        raise DataError(f"--out {out} is a file: results go into a folder")
    result, document = run_task(encoder, entry, cache, beside)
    if out is not None:
        write_result(Path(out), result, document)
    return Evaluation(dict(result.scores), document, result)

"""Scores during training: the frozen online network on small labelled sets, between steps.

Rank 0 measures and the other ranks wait in the same part of the step. Between steps rather than in a process of its
own: scores belong to exactly the weights of a step, stand in its row before its checkpoint is written, and repeat to
the bit. Nothing of the run changes: modes of modules are put back, no random numbers of torch, numpy or Python are
used, and prototypes and batch norm statistics do not follow.
"""

import itertools
import math
import random
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fra_dist import distributed, json_lines
from fra_dist.config import ProbeConfig, ProbeSet
from fra_dist.data.loading.batch import Batch
from fra_dist.errors import DataError
from fra_dist.eval.datasets import open_set
from fra_dist.eval.datasets.common.labelled_face import SPLITS, FaceSet, refuse_leaks, with_validation
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import PreparedFaces, prepare_faces
from fra_dist.eval.quick_look import own_ways, quick_settings, tasks_of
from fra_dist.eval.results import RUNNERS
from fra_dist.eval.tasks.common import TaskInput
from fra_dist.json_lines import step_of_row
from fra_dist.train.checkpoints.best_metric import PROBE_SECONDS
from fra_dist.train.hooks.metrics import Metrics
from fra_dist.train.trainer import Hook, Run

SHARES = dict(zip(SPLITS, (0.6, 0.15, 0.25), strict=True))
PROBED = ("expression", "attributes", "alignment", "regions")
"""Tasks that are measured during a run, where the labels allow them."""


@dataclass(frozen=True)
class Probed:
    """A set that is ready to be measured with, and the tasks that its labels allow."""

    title: str
    faces: PreparedFaces
    tasks: tuple[str, ...]


class Probes(Hook):
    """Scores go through `metrics` into the row of their step: probe/SET/TASK/SCORE."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def begin(self, run: Run) -> None:
        """Raises DataError, on all ranks, when a set cannot be used."""
        self.sets: list[Probed] = []
        self.warned: set[str] = set()
        if run.config.probe.every_steps:
            distributed.from_main(lambda: self._open(run))
            if distributed.from_main(lambda: self._owed(run)):
                self._probe(run)

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """Measure the scores when `probe.every_steps` is due, and after the last step; not when the run is stopping."""
        every = run.config.probe.every_steps
        due = every and (run.completed % every == 0 or run.completed == run.sizes.total_steps)
        if due and not run.stopped_by:  # a stop is quick; the next attempt begins with these scores
            self._probe(run)

    def _open(self, run: Run) -> None:
        settings, size = run.config.probe, run.config.data.image_size
        self.sets = [open_probed(one, settings, size, run.config.seed) for one in settings.sets]

    def _owed(self, run: Run) -> bool:
        """Whether the scores of this step are still missing: at step 0, or after a stop."""
        newest = json_lines.from_end(run.folder.path / "metrics.jsonl")
        of_step = itertools.takewhile(lambda found: (step_of_row(found[1]) or run.completed) >= run.completed, newest)
        known = any(step_of_row(row) == run.completed and PROBE_SECONDS in row for _, row in of_step)
        due = run.completed % run.config.probe.every_steps == 0 or run.completed == run.sizes.total_steps
        return due and not known

    def _probe(self, run: Run) -> None:
        if run.ctx.is_main:
            began = time.monotonic()
            values, left_out = measure_sets(run, self.sets, began + run.config.probe.seconds)
            values[PROBE_SECONDS] = round(time.monotonic() - began, 3)
            self.metrics.add(run, values, paused=values[PROBE_SECONDS])
            for what, why in left_out.items():
                self._warn(run, what, why)
        run.ctx.meet()

    def _warn(self, run: Run, what: str, why: str) -> None:
        """Once for each score and reason."""
        text = f"probe/{what} was not measured: {why}"
        if text not in self.warned:
            self.warned.add(text)
            run.folder.note("warning", step=run.completed, text=text)
            print(f"warning: step {run.completed}: {text}", file=sys.stderr, flush=True)


def open_probed(one: ProbeSet, settings: ProbeConfig, size: int, seed: int) -> Probed:
    """Read and cut the faces of a set. Raises DataError when it is not there or lacks the labels of a task."""
    faces = with_validation(open_set(one.dataset, one.data), seed)
    refuse_leaks(faces)
    faces = share_out(faces, settings.images)
    possible = tuple(task for task in tasks_of(faces) if task in PROBED)
    wrong = [task for task in one.tasks if task not in possible]
    if wrong or not possible:
        what = f"task {wrong[0]}" if wrong else "any task"
        raise DataError(f"probe.sets: {one.data} ({one.dataset}) has no labels for {what}")
    return Probed(one.title, prepare_faces(faces, size, Cache(None)), one.tasks or possible)


def share_out(faces: FaceSet, count: int) -> FaceSet:
    """At most `count` faces, by SHARES, spread evenly over each part; 2 of each at the least."""
    kept = []
    for split, share in SHARES.items():
        part = faces.of(split)
        number = min(max(2, int(share * count)), len(part))
        kept += [part[int(n)] for n in np.unique(np.linspace(0, len(part) - 1, number).astype(np.int64))]
    return replace(faces, records=tuple(kept))


def measure_sets(run: Run, sets: list[Probed], deadline: float) -> tuple[dict[str, Any], dict[str, str]]:
    """({SET/TASK/SCORE under probe/: value}, {SET/TASK: why it was not measured}); `deadline` as `time.monotonic`.

    A failure is reported and never ends the run.
    """
    config, network = run.config, run.model.online
    values: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    about = {"architecture": config.model.backbone, "map_stride": config.model.map_stride}
    data = config.data
    encoder = _Watched(
        config.name, network.backbone, data.image_size, data.mean, data.std, network, about, deadline=deadline
    )
    settings = quick_settings(config.seed, config.model.regions, own_ways(encoder))
    with _undisturbed(network):
        for one in sets:
            job = TaskInput(encoder, one.faces, settings, Cache(None))
            for task in one.tasks:
                try:
                    encoder.check()
                    scores = _scores(task, job)
                except _Late:
                    left_out[f"{one.title}/{task}"] = (
                        f"probe.seconds={config.probe.seconds:g} were over; raise them, or lower probe.images"
                    )
                except Exception as error:  # of whatever kind: training must continue
                    left_out[f"{one.title}/{task}"] = " ".join(str(error).split()) or type(error).__name__
                else:
                    values |= {f"probe/{one.title}/{task}/{name}": value for name, value in scores.items()}
    return values, left_out


def _scores(task: str, job: TaskInput) -> dict[str, float | None]:
    """MODE_SCORE or WAY_SCORE -> value, without those of subsets and at limits."""
    result = RUNNERS[task](job)
    slashes = 1 if task == "regions" else 2
    names = [name for name in result.scores if name.count("/") == slashes]
    found = {"_".join(name.split("/")[::slashes]): result.scores[name].value for name in names}
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in found.items()}


class _Late(Exception):
    """The time for this step's scores is over."""


@dataclass(frozen=True)
class _Watched(Encoder):
    """An encoder that stops when time is over, between batches."""

    deadline: float = math.inf

    def check(self) -> None:
        if time.monotonic() > self.deadline:
            raise _Late

    def pixels(self, photos: NDArray[np.uint8]) -> Tensor:
        self.check()
        return super().pixels(photos)


@contextmanager
def _undisturbed(network: nn.Module) -> Iterator[None]:
    """Eval mode inside; the mode of each module and all generators of random numbers are put back."""
    modes = [(module, module.training) for module in network.modules()]
    devices = {p.device for p in network.parameters() if p.is_cuda}
    python, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(list(devices)):
            for module, _ in modes:
                module.training = False
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
        for module, mode in modes:
            module.training = mode

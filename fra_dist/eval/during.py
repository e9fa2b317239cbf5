"""Scores while a run goes on: the frozen online network on small labelled sets, between steps.

Rank 0 measures and the other ranks wait in the same part of the step. Between steps rather than in a process of its
own: scores belong to exactly the weights of a step, stand in its row before its checkpoint is written, and repeat to
the bit. Nothing of the run changes: modes of modules are put back, no random numbers of torch, numpy or Python are
used, and prototypes and batch norm statistics do not follow.
"""

import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fra_dist import distributed
from fra_dist.config import ProbeConfig, ProbeSet
from fra_dist.data.loading.batch import Batch
from fra_dist.errors import DataError
from fra_dist.eval.datasets import open_set
from fra_dist.eval.datasets.common.labelled_face import SPLITS, FaceSet, refuse_leaks, with_validation
from fra_dist.eval.datasets.common.landmark_schemes import SCHEMES
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import Prepared, prepare
from fra_dist.eval.settings import Settings
from fra_dist.eval.tasks import alignment, attributes, expression
from fra_dist.eval.tasks.common import Job
from fra_dist.eval.tasks.quick_regions import quick_regions
from fra_dist.train.hooks.metrics import Metrics
from fra_dist.train.run_dir.folder import read_rows
from fra_dist.train.trainer import Hook, Run

SHARES = dict(zip(SPLITS, (0.6, 0.15, 0.25), strict=True))
SECONDS = "probe/seconds"
_RUNNERS = {"expression": expression.run, "attributes": attributes.run, "alignment": alignment.run}


@dataclass(frozen=True)
class Probed:
    """A set that is ready to be measured with, and the tasks that its labels allow."""

    title: str
    faces: Prepared
    tasks: tuple[str, ...]


class Probes(Hook):
    """Scores go through `metrics` into the row of their step: probe/SET/TASK/SCORE."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def begin(self, run: Run) -> None:
        """Raises DataError, on all ranks, when a set cannot be used."""
        self.sets: list[Probed] = []
        self.told: set[str] = set()
        if run.config.probe.every_steps:
            distributed.from_main(lambda: self._open(run))
            if distributed.from_main(lambda: self._owed(run)):
                self._probe(run)

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        every = run.config.probe.every_steps
        due = every and (run.completed % every == 0 or run.completed == run.sizes.total_steps)
        if due and not run.stopped_by:  # a stop is quick; the next attempt begins with these scores
            self._probe(run)

    def _open(self, run: Run) -> None:
        settings, size = run.config.probe, run.config.data.image_size
        self.sets = [open_probed(one, settings, size, run.config.seed) for one in settings.sets]

    def _owed(self, run: Run) -> bool:
        """Whether the scores of this step are still missing: at step 0, or after a stop."""
        path = run.folder.path / "metrics.jsonl"
        rows = read_rows(path) if path.exists() else []
        known = any(row["step"] == run.completed and SECONDS in row for row in rows)
        due = run.completed % run.config.probe.every_steps == 0 or run.completed == run.sizes.total_steps
        return due and not known

    def _probe(self, run: Run) -> None:
        if run.ctx.is_main:
            began = time.monotonic()
            values, left_out = measure(run, self.sets, began + run.config.probe.seconds)
            values[SECONDS] = round(time.monotonic() - began, 3)
            self.metrics.add(run, values, paused=values[SECONDS])
            for what, why in left_out.items():
                self._warn(run, what, why)
        run.ctx.meet()

    def _warn(self, run: Run, what: str, why: str) -> None:
        """Once for each score and reason."""
        text = f"probe/{what} was not measured: {why}"
        if text not in self.told:
            self.told.add(text)
            run.folder.note("warning", step=run.completed, text=text)
            print(f"warning: step {run.completed}: {text}", file=sys.stderr, flush=True)


def open_probed(one: ProbeSet, settings: ProbeConfig, size: int, seed: int) -> Probed:
    """Read and cut the faces of a set. Raises DataError when it is not there or lacks the labels of a task."""
    faces = with_validation(open_set(one.dataset, one.data), seed)
    refuse_leaks(faces)
    faces = share_out(faces, settings.images)
    possible = tasks_of(faces)
    wrong = [task for task in one.tasks if task not in possible]
    if wrong or not possible:
        what = f"task {wrong[0]}" if wrong else "any task"
        raise DataError(f"probe.sets: {one.data} ({one.dataset}) has no labels for {what}")
    return Probed(one.title, prepare(faces, size, Cache(None)), one.tasks or possible)


def share_out(faces: FaceSet, count: int) -> FaceSet:
    """At most `count` faces, by SHARES, spread evenly over each part; 2 of each at the least."""
    kept = []
    for split, share in SHARES.items():
        part = faces.of(split)
        number = min(max(2, int(share * count)), len(part))
        kept += [part[int(n)] for n in np.unique(np.linspace(0, len(part) - 1, number).astype(np.int64))]
    return replace(faces, records=tuple(kept))


def tasks_of(faces: FaceSet) -> tuple[str, ...]:
    aged = all(record.age is not None for record in faces.records)
    found = {
        "expression": bool(faces.expressions) and all(record.expression is not None for record in faces.records),
        "attributes": bool(faces.attributes) or aged,
        "alignment": bool(faces.scheme),
        "regions": bool(faces.mask_classes) or bool(faces.scheme and SCHEMES[faces.scheme].parts),
    }
    return tuple(task for task, there in found.items() if there)


def measure(run: Run, sets: list[Probed], deadline: float) -> tuple[dict[str, Any], dict[str, str]]:
    """({SET/TASK/SCORE under probe/: value}, {SET/TASK: why it was not measured}); `deadline` as `time.monotonic`.

    Whatever goes wrong is told and no reason to end the run.
    """
    config, network = run.config, run.model.online
    settings = Settings(
        labels=(100,),
        modes=("linear", "knn"),
        reader="ridge",
        bootstrap=0,
        seed=config.seed,
        regions=config.model.regions,
    )
    values: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    watched = _Watched(network.backbone, deadline)
    about = {"architecture": config.model.backbone}
    encoder = Encoder(config.name, watched, config.data.image_size, config.data.mean, config.data.std, network, about)
    with _undisturbed(network):
        for one in sets:
            job = Job(encoder, one.faces, settings, Cache(None))
            for task in one.tasks:
                try:
                    watched.check()
                    scores = _scores(task, job, watched.check)
                except _Late:
                    left_out[f"{one.title}/{task}"] = (
                        f"probe.seconds={config.probe.seconds:g} were over; raise them, or lower probe.images"
                    )
                except Exception as error:  # of whatever kind: training must go on
                    left_out[f"{one.title}/{task}"] = " ".join(str(error).split()) or type(error).__name__
                else:
                    values |= {f"probe/{one.title}/{task}/{name}": value for name, value in scores.items()}
    return values, left_out


def _scores(task: str, job: Job, check: Callable[[], None]) -> dict[str, float | None]:
    if task == "regions":
        found = quick_regions(job, check)
    else:
        result = _RUNNERS[task](job)
        names = [name for name in result.scores if name.count("/") == 2]  # without those of subsets and at limits
        found = {"_".join(name.split("/")[::2]): result.scores[name].value for name in names}
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in found.items()}


class _Late(Exception):
    """The time for this step's scores is over."""


class _Watched(nn.Module):
    """A backbone that stops when time is over, between batches."""

    def __init__(self, inner: nn.Module, deadline: float) -> None:
        super().__init__()
        self.inner, self.deadline = inner, deadline

    def check(self) -> None:
        if time.monotonic() > self.deadline:
            raise _Late

    def forward(self, images: Tensor) -> Tensor:
        self.check()
        return self.inner(images)


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

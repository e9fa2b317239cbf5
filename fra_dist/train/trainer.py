"""A run and its loop; `prepare.py` puts it together."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fra_dist import distributed
from fra_dist.config import Config
from fra_dist.data.loading.batch import Batch
from fra_dist.data.loading.loader import Loader
from fra_dist.data.shards.manifest import Manifest
from fra_dist.distributed import RankContext
from fra_dist.models.fra import FRA
from fra_dist.train.checkpoints.background_writer import Saver
from fra_dist.train.engines.protocol import Engine
from fra_dist.train.guards import Guard
from fra_dist.train.injected_faults import Faults
from fra_dist.train.liveness.phases import Phases
from fra_dist.train.liveness.watchdog import SLOW, Watchdog
from fra_dist.train.run_dir.folder import RunFolder
from fra_dist.train.signals import StopFlag
from fra_dist.train.sizes import Sizes
from fra_dist.train.step import Step


@dataclass
class Run:
    """The parts of a run. `completed` counts optimiser steps that are done, in earlier attempts too."""

    config: Config
    ctx: RankContext
    folder: RunFolder
    manifest: Manifest
    sizes: Sizes
    model: FRA
    optimizer: torch.optim.Optimizer
    engine: Engine
    step: Step
    loader: Loader
    completed: int
    saver: Saver
    guard: Guard
    memory: dict[str, Any] = field(default_factory=dict)
    """Small JSON values of hooks that outlive a stop: saved with each checkpoint, of rank 0."""
    faults: Faults = field(default_factory=Faults)
    phases: Phases = field(default_factory=Phases)
    hosts: tuple[str, ...] = field(default_factory=lambda: (platform.node(),))
    """Of the ranks, by rank."""
    stopped_by: str | None = None
    save_due: bool = False
    """After `agree`: every rank takes part in a checkpoint now. Before it, a hook of any rank may set it."""

    def agree(self, stop: StopFlag) -> None:
        """Come to one mind with the other ranks on what this step boundary is for."""
        stopping, self.save_due = self.ctx.agree_any(stop.requested is not None, self.save_due)
        if stopping:
            self.stopped_by = stop.requested.name if stop.requested else "another rank"

    def batches(self) -> Iterator[Batch]:
        """Those to be trained on, also after `resume.go_back`; steps that are to be left out are passed over."""
        while self.completed < self.sizes.total_steps:
            loader = self.loader
            for batch in loader:
                self.completed = batch.step + 1
                if batch.step not in self.guard.passed_over:
                    yield self.faults.touch(batch, self.ctx.rank)
                if self.loader is not loader:
                    break
            else:
                return

    def looks_wrong(self) -> bool:
        """True when the guard has sent the run back. It looks at log steps, before every checkpoint and at the end."""
        at_log = self.completed % self.config.log.every_steps == 0
        at_save = self.save_due or self.completed % self.config.checkpoint.every_steps == 0
        at_end = self.stopped_by is not None or self.completed == self.sizes.total_steps
        return (at_log or at_save or at_end) and self.guard.look(self)


class Hook:
    """Side effects around the loop. Hooks are called in the order of the list, on every rank."""

    patience = SLOW
    """Seconds that a call may take before the watchdog ends the attempt; less than its time-out counts as that."""

    def begin(self, run: Run) -> None:
        """Before the first step of this attempt."""

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """After each optimiser step; `terms` are on the device, so reading them waits for it."""

    def end(self, run: Run) -> None:
        """After the last step of this attempt, also when the run was asked to stop."""


def train(run: Run, hooks: Sequence[Hook]) -> bool:
    """Train to the last step or to a signal. True when the run is complete."""
    phases, slow = run.phases, max(SLOW, run.config.checkpoint.patience_seconds + 60)
    with StopFlag() as stop, Watchdog(run, distributed.from_main(lambda: run.folder.attempt)):
        for hook in hooks:
            phases.enter(f"{type(hook).__name__}.begin", run.completed + 1, slow)
            hook.begin(run)
        phases.enter("agree")
        run.agree(stop)
        phases.enter("data")
        for batch in run.batches() if not run.stopped_by else ():
            phases.enter("step", batch.step + 1)
            terms = run.step.run(batch.step, batch.views, batch.geometry)
            run.guard.note(batch.step, terms)
            phases.enter("agree")
            run.agree(stop)
            phases.enter("guard", patience=slow)
            if run.looks_wrong():
                phases.enter("data")
                continue
            for hook in hooks:
                phases.enter(type(hook).__name__, patience=hook.patience)
                hook.after_step(run, batch, terms)
            if run.stopped_by:
                break
            phases.enter("data", run.completed + 1)
            phases.end_step()
        for hook in hooks:
            phases.enter(f"{type(hook).__name__}.end", patience=slow)
            hook.end(run)
    return run.completed >= run.sizes.total_steps

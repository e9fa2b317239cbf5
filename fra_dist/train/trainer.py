"""A run and its loop; `prepare` puts the run together."""

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
from fra_dist.errors import TrainingError
from fra_dist.models.fra import FRA
from fra_dist.train.checkpoints.background_writer import Saver
from fra_dist.train.engines.protocol import Engine
from fra_dist.train.guard_files import fault_record, write_fault_record, write_passed_over, write_retried
from fra_dist.train.guards import MEMORY, Guard, Verdict
from fra_dist.train.injected_faults import Faults
from fra_dist.train.liveness.phases import Phases
from fra_dist.train.liveness.watchdog import SLOW, Watchdog
from fra_dist.train.resume import guard_state, load_batches, newest_before
from fra_dist.train.run_dir.folder import RunFolder
from fra_dist.train.signals import StopFlag
from fra_dist.train.sizes import Sizes
from fra_dist.train.step import Step

MARGIN = 60.0
"""Seconds that a part which may wait for a checkpoint has beyond checkpoint.patience_seconds."""


@dataclass
class Run:
    """The parts of a run, and what its loop does with them between the hooks."""

    config: Config
    """The configuration of the run."""
    ctx: RankContext
    """The place of this rank among the others."""
    folder: RunFolder
    """The run folder."""
    manifest: Manifest
    """The data set."""
    sizes: Sizes
    """Steps and images of the run."""
    model: FRA
    """The model, with its online and its target network."""
    optimizer: torch.optim.Optimizer
    """The optimiser over the trained parameters."""
    engine: Engine
    """The engine that carries forward, backward and update."""
    step: Step
    """Does the optimiser steps."""
    loader: Loader
    """The batches of this rank."""
    completed: int
    """Optimiser steps that are done, in earlier attempts too."""
    saver: Saver
    """Writes checkpoints in the background."""
    guard: Guard
    """Judges steps that went wrong."""
    memory: dict[str, Any] = field(default_factory=dict)
    """Small JSON values of hooks and of the guard that outlive a stop; rank 0's are saved with each checkpoint."""
    faults: Faults = field(default_factory=Faults)
    """Faults that are put into the batches on purpose."""
    phases: Phases = field(default_factory=Phases)
    """Where the loop is in its work, for the watchdog."""
    hosts: tuple[str, ...] = field(default_factory=lambda: (platform.node(),))
    """The host of each rank, by rank."""
    stopped_by: str | None = None
    """What asked the run to stop, a signal or another rank; None while nothing has."""
    save_due: bool = False
    """Whether a checkpoint is due. A hook of any rank may set it; after `agree` it is the same on every rank."""

    def agree(self, stop: StopFlag) -> None:
        """Agree with the other ranks on whether to stop and whether to save at this step boundary: a collective."""
        stopping, self.save_due = self.ctx.agree_any(stop.requested is not None, self.save_due)
        if stopping:
            self.stopped_by = stop.requested.name if stop.requested else "another rank"

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of the steps after `completed`, also after `go_back`. Steps to be left out are included."""
        while self.completed < self.sizes.total_steps:
            loader = self.loader
            for batch in loader:
                self.completed = batch.step + 1
                yield self.faults.touch(batch, self.ctx.rank)
                if self.loader is not loader:  # the run went back: begin with the batches of the new loader
                    break
            else:
                return

    def take_step(self, batch: Batch) -> dict[str, Tensor]:
        """Do an optimiser step, or leave it out when the guard's list has it.

        Returns the terms of `Step.run`; empty for a step that is left out.
        """
        if batch.step in self.guard.passed_over:
            self.guard.note_left_out(batch.step)
            return {}
        terms = self.step.run(batch.step, batch.views, batch.geometry)
        self.guard.note(batch.step, terms)
        return terms

    def looks_wrong(self) -> bool:
        """Let the guard judge, at log steps, before every checkpoint and at the end, and do what its verdicts ask for.

        True when the run went back to a checkpoint. Raises TrainingError on all ranks when a verdict stops the run.
        """
        at_log = self.completed % self.config.log.every_steps == 0
        at_save = self.save_due or self.completed % self.config.checkpoint.every_steps == 0
        at_end = self.stopped_by is not None or self.completed == self.sizes.total_steps
        if not (at_log or at_save or at_end):
            return False
        verdicts = self.guard.judge(self.ctx.cross)
        # `any` stops at the first verdict that goes back: the steps of later ones will be done again
        went_back = any(self._act(verdict) for verdict in verdicts)
        self.memory[MEMORY] = self.guard.state()
        return went_back

    def go_back(self, before: int) -> int | None:
        """Return to the newest good checkpoint of at most `before` steps; gives its step, or None when there is none.

        Every rank calls it at a step boundary. Later checkpoints are set aside and later rows forgotten.
        """
        patience = self.config.checkpoint.patience_seconds
        found = distributed.from_main(lambda: newest_before(self.folder, before) if self.saver.wait(patience) else None)
        if found is None:
            return None
        self.engine.load_model_state(found.model())
        self.engine.load_optimizer_state(found.optimizer())
        self.loader.close()
        self.completed = self.saver.newest = found.step
        self.memory = dict(found.memory)
        self.guard.restore(guard_state(self.memory, self.folder, self.config.guard.spike_window))
        self.loader = load_batches(self.config, self.manifest, self.ctx, self.folder, found.step, self.sizes)
        return found.step

    def _act(self, verdict: Verdict) -> bool:
        """Do what a verdict asks for and record it. True when the run went back."""
        self._describe(verdict)
        if verdict.action == "stop":
            self._tell(verdict, "stop")
            raise TrainingError(verdict.diagnosis(fault_record(self.folder.path, verdict.step)))
        if verdict.action not in ("retry", "rollback"):
            self._tell(verdict, verdict.action)
            return False
        step = self.go_back(verdict.step)
        if step is None:
            self._tell(verdict, verdict.without_checkpoint)
            text = f"step {verdict.step + 1}: there is no checkpoint to go back to yet"
            self.folder.note("notice", text=text)
            return False
        self._remember(verdict)
        self._tell(verdict, verdict.action, to=step)
        return True

    def _remember(self, verdict: Verdict) -> None:
        """Record what a restart from the checkpoint that the run went back to must not forget."""
        guard, path = self.guard, self.folder.path
        if verdict.action == "retry":
            guard.retried.add(verdict.step)
            distributed.from_main(lambda: write_retried(path, guard.retried))
        else:
            guard.passed_over[verdict.step] = verdict.fault
            distributed.from_main(lambda: write_passed_over(path, guard.passed_over))

    def _tell(self, verdict: Verdict, action: str, **facts: int) -> None:
        self.folder.note(
            "guard", step=verdict.step + 1, fault=verdict.fault, action=action, reason=verdict.reason, **facts
        )

    def _describe(self, verdict: Verdict) -> None:
        if not self.ctx.is_main:
            return
        try:
            write_fault_record(self.folder.path, verdict, self.loader.plan, self.manifest, self.ctx.world)
        except OSError as error:  # no reason to end the run
            text = f"step {verdict.step + 1} could not be described in {self.folder.path}: {error.strerror}"
            self.folder.note("warning", text=text)


class Hook:
    """Base class of the side effects around the loop. Hooks are called in the order of the list, on every rank."""

    patience = SLOW
    """Seconds that a call of `after_step` may take before the watchdog ends the attempt; its time-out is the least."""

    def begin(self, run: Run) -> None:
        """Called before the first step of this attempt."""

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """Called after each optimiser step; `terms` are on the device, so reading them is a host synchronisation.

        It is also called after a step that was left out, for what is due at it; `terms` is empty then.
        """

    def went_back(self, run: Run) -> None:
        """Called after the run returned to the checkpoint of step `run.completed`; later steps will be done again."""

    def end(self, run: Run) -> None:
        """Called after the last step of this attempt, also when the run was asked to stop."""


def train(run: Run, hooks: Sequence[Hook]) -> bool:
    """Train to the last step or to a signal, with the hooks around each step. True when the run is complete."""
    phases, slow = run.phases, max(SLOW, run.config.checkpoint.patience_seconds + MARGIN)
    attempt = distributed.from_main(lambda: run.folder.attempt)
    watchdog = Watchdog(run.config, run.ctx, phases, run.hosts, run.folder.path, attempt)
    saving = f"the checkpoint in {run.folder.checkpoints}" if run.ctx.is_main else ""
    with StopFlag(saving) as stop, watchdog:
        for hook in hooks:
            phases.enter(f"{type(hook).__name__}.begin", run.completed + 1, slow)
            hook.begin(run)
        phases.enter("agree")
        run.agree(stop)
        phases.enter("data")
        for batch in run.batches() if not run.stopped_by else ():
            phases.enter("step", batch.step + 1)
            terms = run.take_step(batch)
            phases.enter("agree")
            run.agree(stop)
            phases.enter("guard", patience=slow)
            if run.looks_wrong():
                for hook in hooks:
                    hook.went_back(run)
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

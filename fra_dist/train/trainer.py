"""A run: put together by `prepare`, carried out by `train`."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fra_dist import dist
from fra_dist.config import Config
from fra_dist.data.batch import Batch
from fra_dist.data.loader import Loader, make_loader
from fra_dist.data.manifest import Manifest, load_manifest
from fra_dist.data.quarantine import read_quarantine
from fra_dist.data.shard_files import check_shard_files
from fra_dist.data.stores import StoreOptions
from fra_dist.dist import RankContext
from fra_dist.errors import ConfigError, DataError
from fra_dist.models.fra import FRA
from fra_dist.train.checkpoint import restore_model
from fra_dist.train.engine import Engine, build_engine
from fra_dist.train.groups import build_optimizer
from fra_dist.train.resume import NEWEST, Origin, choose_checkpoint
from fra_dist.train.run_folder import RunFolder
from fra_dist.train.saver import Saver
from fra_dist.train.signals import StopFlag
from fra_dist.train.sizes import Sizes, derive_sizes
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
    memory: dict[str, Any] = field(default_factory=dict)
    """Small JSON values of hooks that outlive a stop: saved with each checkpoint, of rank 0."""
    stopped_by: str | None = None
    save_due: bool = False
    """After `agree`: every rank takes part in a checkpoint now. Before it, a hook of any rank may set it."""

    def agree(self, stop: StopFlag) -> None:
        """Come to one mind with the other ranks on what this step boundary is for."""
        stopping, self.save_due = self.ctx.agree_any(stop.requested is not None, self.save_due)
        if stopping:
            self.stopped_by = stop.requested.name if stop.requested else "another rank"


class Hook:
    """Side effects around the loop. Hooks are called in the order of the list, on every rank."""

    def begin(self, run: Run) -> None:
        """Before the first step of this attempt."""

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """After each optimiser step; `terms` are on the device, so reading them waits for it."""

    def end(self, run: Run) -> None:
        """After the last step of this attempt, also when the run was asked to stop."""


def train(run: Run, hooks: Sequence[Hook]) -> bool:
    """Train to the last step or to a signal. True when the run is complete."""
    with StopFlag() as stop:
        for hook in hooks:
            hook.begin(run)
        for batch in run.loader:
            terms = run.step.run(batch.step, batch.views)
            run.completed = batch.step + 1
            run.agree(stop)
            for hook in hooks:
                hook.after_step(run, batch, terms)
            if run.stopped_by:
                break
        for hook in hooks:
            hook.end(run)
    return run.completed >= run.sizes.total_steps


def _load_shards(config: Config, ctx: RankContext) -> Manifest:
    """The manifest, read once and sent to all ranks; one rank of each node looks whether the files are there."""
    manifest = dist.from_main(lambda: load_manifest(config.data.shards, False, StoreOptions.of(config.data)))
    problem = None
    if ctx.local_rank == 0:
        try:
            check_shard_files(manifest.folder, manifest.shards, indices=True)
        except DataError as error:
            problem = error
    if ctx.agree_any(problem is not None)[0]:
        raise problem or DataError("a node cannot read all shards: the message of its first rank names the file")
    return manifest


def prepare(config: Config, force: bool = False, origin: Origin = NEWEST) -> Run:
    """Build every part and go on from the newest good checkpoint, if the run folder has one and `origin` agrees.

    Raises ConfigError, DataError, CheckpointError or LaunchError, each before the first step.
    """
    if config.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if not config.data.shards:
        raise ConfigError("data.shards is empty: give the folder that `fra-dist shards make` wrote")
    ctx = dist.start(config.train.device)
    manifest = _load_shards(config, ctx)
    sizes = derive_sizes(config, manifest.total, ctx.world)
    torch.manual_seed(config.seed)
    model = FRA(config.model, cross=ctx.cross).to(ctx.device)
    model.check_image_size(config.data.image_size)
    model.train()
    optimizer = build_optimizer(model, config.optim)

    folder = RunFolder(config.output, ctx.is_main)
    dist.from_main(lambda: folder.open(config, ctx.device, force, origin.fresh))
    checkpoint = dist.from_main(lambda: choose_checkpoint(folder, config, origin, force))
    if checkpoint is not None:
        restore_model(model, checkpoint)
    completed = checkpoint.step if checkpoint else 0
    saver = Saver(folder.checkpoints, config.checkpoint, folder.check, newest=folder.own_step(checkpoint))
    engine = build_engine(config, model, optimizer, ctx, sizes)
    step = Step(config, model, engine, optimizer, ctx, sizes)
    bad = [sample.id for sample in read_quarantine(folder.path)]
    loader = make_loader(config, manifest, ctx, completed, sizes.total_steps, known_bad=bad, check_files=False)
    run = Run(config, ctx, folder, manifest, sizes, model, optimizer, engine, step, loader, completed, saver)
    if checkpoint is not None:
        run.memory.update(checkpoint.memory)
        engine.load_optimizer_state(checkpoint.optimizer())
    return run


def close(run: Run) -> None:
    """Stop the input and let go of the run folder. The process group stays: DeepSpeed cannot join a second one."""
    run.loader.close()
    run.saver.close()  # before another process may write here
    run.engine.close()
    run.folder.close()

"""Putting a run together from its configuration, and taking it apart again."""

import os
import sys
from contextlib import ExitStack

import torch

from fra_dist import distributed
from fra_dist.config import Config
from fra_dist.data.shards.manifest import Manifest, load_manifest
from fra_dist.data.shards.missing_files import check_shard_files
from fra_dist.data.stores.remote_folder import StoreOptions
from fra_dist.distributed import RankContext
from fra_dist.errors import ConfigError, DataError, FraError, StoreError
from fra_dist.exit_status import FAILED
from fra_dist.models.fra import FRA
from fra_dist.models.map_ceiling import coarse_map_warning
from fra_dist.train.checkpoints.background_writer import Saver
from fra_dist.train.checkpoints.best_metric import refuse_unknown_metric
from fra_dist.train.checkpoints.restoring import restore_model
from fra_dist.train.convolution_choice import convolutions_of_run
from fra_dist.train.engines.build import build_engine
from fra_dist.train.engines.deepspeed_options import check_extra
from fra_dist.train.execution import set_execution, trust_kernels
from fra_dist.train.guard_files import read_passed_over, read_retried
from fra_dist.train.guards import Guard
from fra_dist.train.inputs.initial_weights import initialise, with_digest
from fra_dist.train.inputs.own_photos import with_shards
from fra_dist.train.liveness.bounded import StartWatch
from fra_dist.train.liveness.watchdog import SLOW
from fra_dist.train.optim.parameter_groups import build_optimizer
from fra_dist.train.precision import precision_of_run
from fra_dist.train.resume import NEWEST, Origin, choose_checkpoint, guard_state, load_batches
from fra_dist.train.run_dir.folder import RunFolder
from fra_dist.train.run_dir.shared_folder import meet_in
from fra_dist.train.sizes import accumulation_note, derive_sizes
from fra_dist.train.step import Step, check_map_sizes
from fra_dist.train.trainer import Run

_READING = 60.0
"""Seconds that reading a part of the start may take, however short the time-out of the steps is."""


def prepare(config: Config, force: bool = False, origin: Origin = NEWEST) -> Run:
    """Build every part of a run, and resume from the newest good checkpoint or from where `origin` says.

    `force` accepts a configuration that differs from the checkpoint's. Raises ConfigError, DataError, CheckpointError
    or LaunchError, each before the first step.
    """
    if config.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    # images have one size: cuDNN tries its algorithms for each convolution once and keeps the fastest
    torch.backends.cudnn.benchmark = not config.train.deterministic
    if not config.data.shards and not config.data.photos:
        raise ConfigError(
            "data.shards is empty: give the folder that `fra-dist shards make` wrote, or data.photos=DIR with a folder "
            "of photos"
        )
    check_extra(config.train.deepspeed)
    refuse_unknown_metric(config)
    seconds = config.train.watchdog_seconds
    with StartWatch(SLOW if seconds is None else seconds) as watch:
        return _prepare(config, force, origin, watch)


def _prepare(config: Config, force: bool, origin: Origin, watch: StartWatch) -> Run:
    watch.part("meeting the other ranks", SLOW)
    ctx = distributed.start(config.train.device, _collective_minutes(config))
    if config.data.photos:
        watch.pause()
        config = with_shards(config, ctx, origin.fresh)
    if config.model.init:
        watch.part(f"reading the weights {config.model.init}", SLOW)
        config = with_digest(config, origin.fresh)
    watch.part(f"reading the manifest of {config.data.shards}", _READING)
    manifest = _load_shards(config, ctx)
    watch.part("building the model", SLOW)
    sizes = derive_sizes(config, manifest.total, ctx.world)
    torch.manual_seed(config.seed)
    model = FRA(config.model, cross=ctx.cross).to(ctx.device)
    if config.train.precision == "fp64":
        model.double()
    check_map_sizes(model, config)
    coarse = coarse_map_warning(*model.check_image_size(config.data.image_size)) if config.model.decoder else None
    model.train()
    trust_kernels(ctx.device)
    set_execution(model, config.train, ctx.device)
    optimizer = build_optimizer(model, config.optim)

    watch.part(f"opening the run folder {config.output} and its checkpoints", _READING)
    folder = RunFolder(config.output, ctx.is_main)
    distributed.from_main(lambda: folder.open(config, ctx.device, force, origin.fresh))
    hosts = meet_in(folder.path)
    checkpoint = distributed.from_main(lambda: choose_checkpoint(folder, config, origin, force))
    if checkpoint is not None:
        restore_model(model, checkpoint)
    elif (told := initialise(model, config)) is not None and ctx.is_main:
        print(told, flush=True)
        folder.note("notice", text=told)
    memory = None if checkpoint is None else checkpoint.memory
    executed, precision, told = precision_of_run(config, ctx.device, memory)
    _tell(folder, "precision", told, resumed=checkpoint is not None)
    watch.part("measuring convolutions", SLOW)
    images = sizes.micro_batch * (2 if model.views_grouped else 1)
    convolutions, told = convolutions_of_run(model, executed, ctx.device, images, memory)
    _tell(folder, "convolutions", told, resumed=checkpoint is not None)
    watch.part("building the engine and the input", SLOW)
    completed = checkpoint.step if checkpoint else 0
    saver = Saver(folder.checkpoints, config.checkpoint, folder.check, newest=folder.own_step(checkpoint))
    note = accumulation_note(sizes)
    if note and ctx.is_main:
        print(f"note: {note}", file=sys.stderr)
    if coarse and ctx.is_main:
        print(f"warning: {coarse}", file=sys.stderr)
    loader = load_batches(config, manifest, ctx, folder, completed, sizes)  # its first batches, while DeepSpeed loads
    engine = build_engine(executed, model, optimizer, ctx, sizes)
    step = Step(executed, model, engine, optimizer, ctx, sizes)
    passed_over, retried = distributed.from_main(lambda: (read_passed_over(folder.path), read_retried(folder.path)))
    guard = Guard(config.guard, config.log.every_steps, passed_over, retried)
    run = Run(config, ctx, folder, manifest, sizes, model, optimizer, engine, step, loader, completed, saver, guard)
    run.hosts = hosts
    run.memory.update(convolutions | precision)
    if checkpoint is not None:
        run.memory.update(checkpoint.memory)
        engine.load_optimizer_state(checkpoint.optimizer())
    guard.restore(guard_state(run.memory, folder, config.guard.spike_window))
    return run


def close(run: Run) -> None:
    """Stop the input, finish what is being saved, and release the run folder.

    The process group stays: whoever called for the run leaves it (`distributed.stop`, `distributed.left_afterwards`).
    """
    with ExitStack() as parts:  # each one, even after an error of another; the last added is closed first
        parts.callback(run.folder.close)
        parts.callback(run.engine.close)
        parts.callback(run.saver.close)  # before another process may write here
        parts.callback(run.loader.close)


def _tell(folder: RunFolder, event: str, told: str | None, resumed: bool) -> None:
    """Write how a run is computed into its history; of a run that resumes also to people, who may not expect it."""
    if told is None or not folder.is_main:
        return
    folder.note(event, text=told)
    if resumed:
        print(f"note: {told}", file=sys.stderr)


def _collective_minutes(config: Config) -> float:
    """Return the minutes that a collective may take.

    They are more than one rank may keep the others waiting, so that the watchdog, which can name it, comes first.
    """
    slow = max(SLOW, config.checkpoint.patience_seconds, config.train.watchdog_seconds or 0.0)
    return max(20.0, slow / 60 + 5)


def _load_shards(config: Config, ctx: RankContext) -> Manifest:
    """Read the manifest on rank 0 and send it to all ranks; one rank of each node checks that the files are there."""
    manifest = distributed.from_main(lambda: load_manifest(config.data.shards, False, StoreOptions.of(config.data)))
    problem: FraError | None = None
    if ctx.local_rank == 0:
        try:
            check_shard_files(manifest.folder, manifest.shards, indices=True)
        except FraError as error:
            problem = error
    passes = problem is not None and problem.exit_status == FAILED
    found, passes = ctx.agree_any(problem is not None, passes)
    if found:
        kind = StoreError if passes else DataError  # launchers try again what any rank takes for passing
        raise problem or kind("a node cannot read all shards: the message of its first rank names the file")
    return manifest

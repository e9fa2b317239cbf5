"""What a run will cost in memory and time, measured on a few images of noise before anything is trained."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fra_dist import distributed
from fra_dist.config import Config, dump_config
from fra_dist.data.making.photo_sets import count_photos
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.data.shards.shard_patterns import shard_sets
from fra_dist.data.stores.remote_folder import StoreOptions, is_remote
from fra_dist.errors import ConfigError
from fra_dist.files import exists
from fra_dist.formats import plural
from fra_dist.kernels import dispatch
from fra_dist.losses.geometry import Placement
from fra_dist.losses.total import fra_loss
from fra_dist.machine_memory import memory_limit
from fra_dist.models.fra import FRA
from fra_dist.models.norm import passing_maps
from fra_dist.train.engines.protocol import precision_of
from fra_dist.train.execution import set_execution
from fra_dist.train.inputs.initial_weights import initialise
from fra_dist.train.memory_need import BF16_SHARE, MemoryNeed, check_fits
from fra_dist.train.precision import decided
from fra_dist.train.sizes import Sizes, derive_sizes
from fra_dist.train.step import check_map_sizes

_MIB = 2**20
_STATES = {"lars": 1, "adamw": 2}


@dataclass(frozen=True)
class DryRun:
    """The result of a dry run: a description of the run, and whether it fits into memory."""

    text: str
    """Resolved configuration, parameter counts, sizes, memory and time."""
    problem: ConfigError | None
    """Why it would not fit into the memory of its device; None when it does."""


def describe_run(config: Config) -> DryRun:
    """Describe a run before it starts.

    Memory of activations and time of a step are measured with up to 8 images on this machine and scaled. Raises
    ConfigError or DataError when the run could not start.
    """
    ctx = distributed.start(config.train.device)
    try:
        torch.manual_seed(config.seed)
        model = FRA(config.model).to(ctx.device)
        check_map_sizes(model, config)
        model.train()
        set_execution(model, config.train.model_copy(update={"compile": False}), ctx.device)
        parts = [dump_config(config).rstrip(), "", *_parameters(model)]
        sizes: Sizes | None = None
        sets = shard_sets(config.data.shards) if config.data.shards else ()
        if sets and all(is_remote(one.folder) or exists(Path(one.folder)) for one in sets):
            manifest = load_manifest(config.data.shards, options=StoreOptions.of(config.data))
            sizes = derive_sizes(config, manifest.total, ctx.world)
        elif config.data.photos:
            sizes = derive_sizes(config, count_photos(config.data.photos), ctx.world)
        parts += [told] if (told := initialise(model, config)) else []
        micro = (
            sizes.micro_batch
            if sizes
            else min(config.train.micro_batch or config.train.global_batch, config.train.global_batch)
        )
        seconds, once, activations = _measure(decided(config, ctx.device)[0], model, ctx.device, min(micro, 8))
        need = MemoryNeed(_fixed(config, model, ctx.world) + once, activations, micro)
        parts += ["", _memory(need), "", *_time(config, sizes, seconds, ctx.device)]
        return DryRun("\n".join(parts), _too_large(config, need, ctx))
    finally:
        distributed.stop()


def _parameters(model: FRA) -> list[str]:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    rows = [f"parameters: {trained:,} trained, {_count(model.target):,} in the target network"]
    for name, child in [*model.online.named_children(), *model.named_children()]:
        if child is not model.online and child is not model.target and _count(child):
            rows.append(f"  {name:<18}{_count(child):>13,}")
    return rows


def measured_need(config: Config, micro: int, world: int, gpu: bool) -> MemoryNeed:
    """Measure what a rank needs with 2 images on this CPU, in float32; scaled to bf16 for a GPU that uses it.

    A GPU's kernels do not keep every map that a CPU's do.
    """
    device = torch.device("cpu")
    plain = config.model_copy(update={"train": config.train.model_copy(update={"compile": False, "precision": "fp32"})})
    model = FRA(config.model).train()
    set_execution(model, plain.train, device)
    fused = gpu and config.train.channels_last and not config.train.compile and dispatch.wish() != "reference"
    # the backward pass takes most of the time and keeps no more
    _, kept = _forward(plain, model, device, 2, without_passing=fused)
    activations = kept / 2  # in float32 next to nothing of it is kept whatever the number of images
    narrow = config.train.precision == "bf16" or (gpu and config.train.precision == "auto")
    return MemoryNeed(_fixed(config, model, world), activations * (BF16_SHARE if narrow else 1.0), micro)


def _fixed(config: Config, model: FRA, world: int) -> float:
    """The bytes of weights, gradients and the optimiser's state on one of `world` ranks."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    everything = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    stage = config.train.zero_stage
    gradients = 1 / world if stage == 2 else 1.0
    optimizer = (1 + _STATES[config.optim.name]) / world if stage else _STATES[config.optim.name]  # and its own weights
    return everything + 4 * trained * (gradients + optimizer)


def _memory(need: MemoryNeed) -> str:
    return (
        f"memory of a rank: about {need.total / _MIB:,.0f} MiB = {need.fixed / _MIB:,.0f} for weights and their "
        f"copies, gradients and optimiser + {need.per_image / _MIB:,.1f} an image x {need.micro} images for activations"
    )


def _too_large(config: Config, need: MemoryNeed, ctx: distributed.RankContext) -> ConfigError | None:
    if ctx.device.type == "cuda":
        limit, where = float(torch.cuda.mem_get_info(ctx.device)[1]), torch.cuda.get_device_name(ctx.device)
    else:
        limit, where = memory_limit(), "this machine"
    try:
        check_fits(config, ctx.world, need, limit, where)
    except ConfigError as error:
        return error
    return None


def _time(config: Config, sizes: Sizes | None, seconds: float, device: torch.device) -> list[str]:
    rows = [
        f"time: {1 / seconds:,.1f} images/s in forward and backward on {device} (a few images; full batches are faster)"
    ]
    if sizes is None:
        steps = config.train.steps
        if steps is None:
            return [*rows, f"data.shards={config.data.shards!r} is not here, so the number of steps is not known yet"]
        per_step = seconds * config.train.global_batch
    else:
        steps, per_step = sizes.total_steps, seconds * sizes.per_rank
        ranks = plural(sizes.global_batch // sizes.per_rank, "rank")
        rows.append(
            f"data: {sizes.samples:,} samples; batch {sizes.global_batch} = "
            f"{ranks} x {sizes.accumulation} accumulated x {sizes.micro_batch}; "
            f"warm-up {sizes.warmup_steps} steps; peak lr {sizes.lr:g}"
        )
    return [*rows, f"{steps:,} steps, about {steps * per_step / 3600:,.2f} hours"]


def _measure(config: Config, model: FRA, device: torch.device, images: int) -> tuple[float, float, float]:
    """(seconds of forward and backward of an image, bytes kept for backward whatever the number of images, for each).

    An image is one in all of its views. What is kept whatever their number, above all the copies of weights that
    autocast rounds, is told from the rest by another number of images. Seconds are of a second pass: the first one also
    chooses algorithms and allocates memory.
    """
    other = images - 2 if images >= 4 else images + 2  # as even or odd, so that the same terms are computed
    kept_of_other = _forward(config, model, device, other)[1]  # its loss, which holds all of it, goes at once
    seconds, kept = 0.0, 0
    for _ in range(2):
        began = time.perf_counter()
        loss, kept = _forward(config, model, device, images)
        loss.backward()
        loss.item()
        seconds = time.perf_counter() - began
    each = (kept - kept_of_other) / (images - other)
    return seconds / images, max(0.0, kept - images * each), each


def _forward(
    config: Config, model: FRA, device: torch.device, images: int, *, without_passing: bool = False
) -> tuple[Tensor, int]:
    """(the loss of `images` images of noise, bytes that its backward pass keeps).

    without_passing: all but `passing_maps`.
    """
    if images < 2:
        raise ConfigError("one image a forward pass is too few for batch norm")
    sizes = [config.data.image_size] * 2 + [config.data.local_size] * config.data.local_views
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    views = [torch.randn(images, 3, s, s, device=device).contiguous(memory_format=layout) for s in sizes]
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    dtype = precision_of(config, device)
    loss_config = config.loss.model_copy(update=_of_few(config, images))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t), passing_maps() as passing:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = model(*views)
        loss = fra_loss(output, loss_config, distributed.SINGLE, Placement.same(images, device))["total"]
    for each in passing if without_passing else ():
        kept.pop(each.untyped_storage().data_ptr(), None)
    return loss, sum(kept.values())


def _of_few(config: Config, images: int) -> dict[str, object]:
    """What changes in the loss of a few images: they are one group, and an odd number has no partners."""
    return {"exchange_group": None, "exchange": config.loss.exchange and images % 2 == 0}


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())

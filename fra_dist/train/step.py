"""One optimiser step: micro batches, losses, update, target. There is no host synchronisation in it.

On a GPU one step alone waits for the device: that in which CUDA graphs are recorded and compared.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from fra_dist.config import Config
from fra_dist.data.loading.batch import Geometry
from fra_dist.data.order.counter_random import key
from fra_dist.distributed import RankContext
from fra_dist.losses.correspondence import check_exchange
from fra_dist.losses.extra_terms import check_extra_terms
from fra_dist.losses.geometry import Placement, shown_pixels
from fra_dist.losses.total import fra_loss
from fra_dist.models.dropout import image_keys
from fra_dist.models.fra import FRA
from fra_dist.train.engines.cuda_graphs import Pass, recorded_passes, summed
from fra_dist.train.engines.kept_buffers import KeptBuffers
from fra_dist.train.engines.protocol import Engine
from fra_dist.train.optim.ema import Following
from fra_dist.train.optim.lars import LARS
from fra_dist.train.optim.schedule import ema_momentum, heatmap_temperature, learning_rate, weight_decay
from fra_dist.train.sizes import Sizes

Views = tuple[Tensor, ...]


def check_map_sizes(model: FRA, config: Config) -> None:
    """Raise ConfigError when a view is too small for the regions of the model."""
    model.check_image_size(config.data.image_size)
    if config.data.local_views:
        model.check_image_size(config.data.local_size)


class Step:
    """Does the optimiser steps of a run, one with each call of `run`.

    Raises ConfigError when the loss or CUDA graphs cannot be used with these sizes.
    """

    def __init__(
        self,
        config: Config,
        model: FRA,
        engine: Engine,
        optimizer: torch.optim.Optimizer,
        ctx: RankContext,
        sizes: Sizes,
    ) -> None:
        self.config, self.model, self.engine, self.optimizer = config, model, engine, optimizer
        self.ctx, self.sizes = ctx, sizes
        check_extra_terms(config.loss)
        check_exchange(config.loss, sizes.global_batch, sizes.accumulation, ctx.world)
        self.map = model.check_image_size(config.data.image_size) if config.loss.correspondence else None
        self.dtype = torch.float64 if config.train.precision == "fp64" else torch.float32
        self.buffers = KeptBuffers(model)
        self.following = Following(model)
        if isinstance(optimizer, LARS):
            optimizer.followers = self.following
        self.temperature = torch.empty((), dtype=self.dtype, device=ctx.device)
        self.recorded = recorded_passes(config, ctx, self._pass, model, self.buffers)

    def run(self, step: int, views: Views, geometry: Geometry | None = None) -> dict[str, Tensor]:
        """Do step number `step` (from 0) on this rank's share of the batch.

        `views` are two views (B, 3, S, S) and perhaps local views; `geometry` says where they lie in their photos.
        Returns the named loss terms and diagnostics, means over micro batches, and `step/applied` and `gradient/norm`
        (see `engines.protocol.Update`): 0-dim tensors on the device.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
            if group["decayed"]:
                group["weight_decay"] = self.weight_decay(step)
        self._set_heatmap_temperature(step)
        self.following.begin(self.ema_momentum(step))
        placement = self._placement(geometry)
        self.buffers.remember()

        def passes() -> Iterator[Pass]:
            self._seed(step)
            return self._passes(step, views, placement)

        sums = summed(map(self._pass, passes())) if self.recorded is None else self.recorded(passes)
        update = self.engine.update(sums["total"])
        self.model.revive_regions(self._number(step))
        self.model.move_prototypes()
        self.buffers.restore_unless(update.applied)
        self.following.finish(update.applied)
        means = sums
        if self.sizes.accumulation > 1:
            means = dict(zip(sums, torch._foreach_div(list(sums.values()), self.sizes.accumulation), strict=True))
        if self.model.revival is not None:
            means["regions/revived"] = self.model.revival.revived.to(self.dtype)
        return {**means, "step/applied": update.applied, "gradient/norm": update.gradient_norm}

    def _pass(self, some: Pass) -> dict[str, Tensor]:
        """Do forward, losses and backward of a micro batch: what a CUDA graph holds."""
        keys, *tensors = some.tensors
        placement = Placement(*tensors[: some.placed]) if some.placed else None
        self.model.set_dropout_keys(keys)
        view1, view2, *local_views = tensors[some.placed :]
        output = self.engine(view1, view2, some.last, *local_views)
        terms = fra_loss(output, self.config.loss, self.ctx.cross, placement)
        self.engine.differentiate(terms["total"], some.last)
        return {name: value.detach() for name, value in terms.items()}

    def learning_rate(self, step: int) -> float:
        """The peak-scaled learning rate of a step, which counts from 0."""
        optim, sizes = self.config.optim, self.sizes
        final = optim.final_lr * sizes.global_batch / optim.lr_batch
        return learning_rate(step, sizes.total_steps, sizes.warmup_steps, sizes.lr, optim.schedule, final, optim.drops)

    def weight_decay(self, step: int) -> float:
        """The weight decay of a step, which counts from 0."""
        optim = self.config.optim
        return weight_decay(step, self.sizes.total_steps, optim.weight_decay, optim.weight_decay_end)

    def ema_momentum(self, step: int) -> float:
        """The EMA momentum of a step, which counts from 0."""
        optim = self.config.optim
        return ema_momentum(step, self.sizes.total_steps, optim.ema_momentum, optim.ema_schedule)

    def heatmap_temperature(self, step: int) -> float:
        """The temperature of the heatmaps at a step, which counts from 0."""
        model = self.config.model
        return heatmap_temperature(
            step, self.sizes.total_steps, model.heatmap_temperature, model.heatmap_temperature_end
        )

    def _set_heatmap_temperature(self, step: int) -> None:
        temperature = self.heatmap_temperature(step)
        if self.recorded is None or self.config.model.heatmap_temperature_end is None:
            self.model.set_heatmap_temperature(temperature)
        else:  # a recording would keep a number of the host
            self.temperature.fill_(temperature)
            self.model.set_heatmap_temperature(self.temperature)

    def _number(self, step: int) -> int:
        """Return a number made of the seed and the step, modulo 2^64, for all that a step draws."""
        return _modulo_64((self.config.seed * 1_000_003 + step) * 65_537)

    def _keys(self, step: int, number: int) -> Tensor:
        """Return the keys of the images of a micro batch: rank r has places r, r + world, ... of the global batch."""
        first = number * self.sizes.micro_batch
        places = torch.arange(first, first + self.sizes.micro_batch) * self.ctx.world + self.ctx.rank
        keys = image_keys(self._number(step), places)  # on the host: on a GPU it would be some 30 launches
        if self.ctx.device.type == "cpu":
            return keys
        # PyTorch hands the pinned memory out again only when the copy is done
        pinned = torch.empty(keys.shape, dtype=keys.dtype, pin_memory=True).copy_(keys)
        return pinned.to(self.ctx.device, non_blocking=True)

    def _in_dtype(self, view: Tensor) -> Tensor:
        """Return the view in the dtype of the step; one that the loader has rounded for autocast stays as it is."""
        return view if view.dtype == torch.bfloat16 else view.to(self.dtype)

    def _seed(self, step: int) -> None:
        """Seed what a backbone may draw by seed, step and rank alone, so that a resumed run draws the same."""
        torch.manual_seed(drawing_seed(self.config.seed, step, self.ctx.rank))

    def _placement(self, geometry: Geometry | None) -> Placement | None:
        """Return where the two views lie, when the loss asks for it, and how much of each other they show."""
        if geometry is None or not self.config.loss.needs_places:
            return None
        boxes, flips = torch.from_numpy(geometry.boxes[:2]), torch.from_numpy(geometry.flips[:2])
        device = self.ctx.device
        placement = Placement(boxes.to(device, non_blocking=True), flips.to(device, non_blocking=True))
        if self.map is None:
            return placement
        # counted over all passes and ranks, so that a step is the same in however many parts it is done
        shown = self.ctx.cross.mean(shown_pixels(placement, *self.map, self.dtype))
        return replace(placement, shown=shown)

    def _passes(self, step: int, views: Views, placement: Placement | None) -> Iterator[Pass]:
        layout = torch.channels_last if self.config.train.channels_last else torch.contiguous_format
        size, count = self.sizes.micro_batch, self.sizes.accumulation
        for i in range(count):
            first, end = i * size, (i + 1) * size
            some = [self._in_dtype(v[first:end]).contiguous(memory_format=layout) for v in views]
            places = () if placement is None else placement.part(first, end).tensors()
            yield Pass([self._keys(step, i), *places, *some], len(places), i == 0, i == count - 1)


def drawing_seed(seed: int, step: int, rank: int) -> int:
    """A 32-bit seed for torch's generators from the seed of the run, a step and a rank.

    Hashed, because torch's generator on a CPU takes 32 bits of a seed alone: sums of multiples of step and rank gave
    one rank the stream that the next one had 65,535 steps later.
    """
    return int(key(seed, step, rank)[0]) >> 32


def _modulo_64(number: int) -> int:
    """Return a number that torch takes as a seed: the product of a large one and a step is longer."""
    return number & 0xFFFF_FFFF_FFFF_FFFF

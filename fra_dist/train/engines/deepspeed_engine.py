"""The DeepSpeed engine: forward, backward, the averaging over ranks, and ZeRO stages 0 to 2.

Only this module imports DeepSpeed. Gradient norm, clipping and the check for numbers that are not finite are ours at
every stage, so that stages agree and no step waits for the device: DeepSpeed's own code reads the norm on the host in
each step.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fra_dist.config import Config
from fra_dist.distributed import RankContext
from fra_dist.models.outputs import FRAOutput
from fra_dist.train.checkpoints.restoring import optimizer_tensors, restore_optimizer
from fra_dist.train.engines.deepspeed_options import deepspeed_dictionary
from fra_dist.train.engines.gradient_noise import GradientNoise
from fra_dist.train.engines.protocol import Update, judge_gradients, parameter_names, precision_of
from fra_dist.train.engines.zero import Partition
from fra_dist.train.execution import lay_out_weights
from fra_dist.train.optim.lars import LARS
from fra_dist.train.sizes import Sizes


class DeepSpeedEngine:
    """The step carried by DeepSpeed; its methods are those of `engines.protocol.Engine`."""

    def __init__(
        self, config: Config, model: nn.Module, optimizer: torch.optim.Optimizer, ctx: RankContext, sizes: Sizes
    ) -> None:
        deepspeed = _import_deepspeed(ctx.device)
        dictionary = deepspeed_dictionary(config, sizes, precision_of(config, ctx.device))
        self.engine, zero, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=dictionary, dist_init_required=False
        )
        self.module, self.optimizer, self.names = model, optimizer, parameter_names(model)
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.clip, self.sum_ranks = config.optim.clip, ctx.cross.sum
        self.noise: GradientNoise | None = None
        if config.log.gradient_noise:
            self.noise = GradientNoise(sizes.global_batch, self.sum_ranks if config.train.zero_stage else None)
        self.partition: Partition | None = None
        if config.train.zero_stage > 0:
            self.partition = Partition(zero, self.names, ctx)
            if isinstance(optimizer, LARS):
                optimizer.pieces = self.partition.pieces()
        else:
            # with one rank it would copy every gradient into a bucket, sum that over nobody, and copy it back
            self.engine.enable_backward_allreduce = ctx.world > 1
            if config.train.channels_last:
                lay_out_weights(model)  # shared out, they are views of flat tensors, which stay as they are

    def __call__(self, view1: Tensor, view2: Tensor, last: bool, *local_views: Tensor) -> FRAOutput:
        self.engine.set_gradient_accumulation_boundary(last)  # instead of its own count, which a replay goes past
        return self.engine(view1, view2, *local_views)

    def differentiate(self, loss: Tensor, last: bool) -> None:
        """Compute the gradients of a micro batch; see `Engine.differentiate`."""
        self.engine.backward(loss)

    def update(self, total: Tensor) -> Update:
        """Update the weights; see `Engine.update`."""
        shared = self.partition is not None
        gradients = self.partition.gradients() if self.partition is not None else self._gradients()
        update = judge_gradients(
            self.optimizer, gradients, total, self.clip, self.sum_ranks, shared=shared, noise=self.noise
        )
        self.engine.step()
        return update

    def model_state(self) -> dict[str, Tensor]:
        """Return every parameter and buffer of the model by name; see `Engine`."""
        return self.module.state_dict()

    def load_model_state(self, saved: Mapping[str, Tensor]) -> None:
        """Load what `model_state` gave, and renew the shares of the weights under ZeRO."""
        self.module.load_state_dict(saved)
        if self.partition is not None:
            self.partition.take_up_weights()

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimiser's state by PARAMETER/STATE; under ZeRO a collective that gathers all of it on rank 0."""
        if self.partition is not None:
            return self.partition.gather(self.optimizer)
        return optimizer_tensors(self.optimizer, self.names)

    def load_optimizer_state(self, saved: Mapping[str, Tensor]) -> None:
        """Load what `optimizer_state` gave, or this rank's share of it. Raises CheckpointError on an unknown name."""
        if self.partition is not None:
            self.partition.scatter(self.optimizer, saved)
        else:
            restore_optimizer(self.optimizer, self.names, saved)

    def close(self) -> None:
        """Release what DeepSpeed holds; the process group stays."""
        self.engine.destroy()

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.trained if p.grad is not None]


def _import_deepspeed(device: torch.device) -> Any:
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed
    import deepspeed.ops

    if device.type == "cpu":
        # otherwise it compiles a shared-memory collective at start-up, which takes minutes and a compiler
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    return deepspeed

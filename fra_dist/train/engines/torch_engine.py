"""The plain PyTorch engine: DistributedDataParallel on several ranks, the bare module on one."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from fra_dist.config import Config
from fra_dist.distributed import RankContext
from fra_dist.models.outputs import FRAOutput
from fra_dist.train.checkpoints.restoring import optimizer_tensors, restore_optimizer
from fra_dist.train.engines.cuda_graphs import recording_stream
from fra_dist.train.engines.gradient_noise import GradientNoise
from fra_dist.train.engines.protocol import Update, judge_gradients, parameter_names, precision_of
from fra_dist.train.sizes import Sizes


class TorchEngine:
    """The step in plain PyTorch, with nothing partitioned; its methods are those of `engines.protocol.Engine`."""

    def __init__(
        self, config: Config, model: nn.Module, optimizer: torch.optim.Optimizer, ctx: RankContext, sizes: Sizes
    ) -> None:
        self.module, self.optimizer, self.names = model, optimizer, parameter_names(model)
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.clip, self.sum_ranks = config.optim.clip, ctx.cross.sum
        self.accumulation = sizes.accumulation
        self.share: Tensor | None = None
        self.noise = GradientNoise(sizes.global_batch) if config.log.gradient_noise else None
        self.dtype = precision_of(config, ctx.device)
        self.device_type = ctx.device.type
        self.wrapped: nn.Module = model
        if ctx.world > 1:
            # the prototypes and the norm statistics are computed over all ranks, so buffers need no broadcast
            # gradients are views of the buckets that are reduced: no second copy of them, and none is copied back
            with _where_it_may_be_recorded(config, ctx.device):
                self.wrapped = nn.parallel.DistributedDataParallel(
                    model, broadcast_buffers=False, gradient_as_bucket_view=True
                )
            # for its own statistics it waits for events of the device in every hundredth step
            self.wrapped._set_ddp_runtime_logging_sample_rate(2**31 - 1)

    def __call__(self, view1: Tensor, view2: Tensor, last: bool, *local_views: Tensor) -> FRAOutput:
        autocast = torch.autocast(self.device_type, dtype=torch.bfloat16, enabled=self.dtype != torch.float32)
        with autocast, self._reduced_when(last):
            return self.wrapped(view1, view2, *local_views)

    def differentiate(self, loss: Tensor, last: bool) -> None:
        """Compute the gradients of a micro batch; see `Engine.differentiate`."""
        if self.device_type != "cuda":  # given a gradient, backward imports sympy, which takes longer than a step
            with self._reduced_when(last):
                (loss / self.accumulation).backward()
            return
        if self.share is None:  # kept: made anew, it would be launches in every pass
            self.share = torch.ones_like(loss) / self.accumulation
        with self._reduced_when(last):
            loss.backward(self.share)

    def update(self, total: Tensor) -> Update:
        """Update the weights; see `Engine.update`."""
        gradients = [p.grad for p in self.trained if p.grad is not None]
        update = judge_gradients(
            self.optimizer, gradients, total, self.clip, self.sum_ranks, shared=False, noise=self.noise
        )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return update

    def model_state(self) -> dict[str, Tensor]:
        """Return every parameter and buffer of the model by name; see `Engine`."""
        return self.module.state_dict()

    def load_model_state(self, saved: Mapping[str, Tensor]) -> None:
        """Load parameters and buffers that `model_state` returned, at any world size."""
        self.module.load_state_dict(saved)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimiser's state by PARAMETER/STATE, on every rank."""
        return optimizer_tensors(self.optimizer, self.names)

    def load_optimizer_state(self, saved: Mapping[str, Tensor]) -> None:
        """Load what `optimizer_state` gave. Raises CheckpointError on an unknown name."""
        restore_optimizer(self.optimizer, self.names, saved)

    def close(self) -> None:
        """Do nothing: unlike DeepSpeed, plain PyTorch leaves nothing to release."""
        return

    def _reduced_when(self, last: bool) -> AbstractContextManager[None]:
        """Ranks average their gradients on the last micro batch only; DDP decides that in forward and in backward."""
        if last or not isinstance(self.wrapped, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self.wrapped.no_sync()


def _where_it_may_be_recorded(config: Config, device: torch.device) -> AbstractContextManager[Any]:
    """On the stream of recordings, if one is asked for: what is made here runs on the stream where it was made."""
    if device.type == "cuda" and config.train.cuda_graphs:
        return torch.cuda.stream(recording_stream(device))
    return nullcontext()

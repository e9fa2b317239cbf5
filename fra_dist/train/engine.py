"""What carries a training step: DeepSpeed, or plain PyTorch with the same results. DeepSpeed is imported only here.

Weights stay fp32 and the arithmetic of forward and backward is autocast: DeepSpeed's own bf16 mode would keep the
target network in bf16, where an EMA with momentum 0.996 does not move most weights.
"""

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fra_dist.config import Config
from fra_dist.dist import RankContext
from fra_dist.models.fra import FRAOutput
from fra_dist.train.checkpoint import optimizer_tensors, restore_optimizer
from fra_dist.train.sizes import Sizes


@dataclass(frozen=True)
class Update:
    """What became of an optimiser step: 0-dim tensors on the device, equal on every rank."""

    applied: Tensor
    """1.0, or 0.0 when the loss or a gradient was not finite and everything stays as before the step."""
    gradient_norm: Tensor
    """Of the whole gradient, averaged over ranks and micro batches, before clipping."""


class Engine(Protocol):
    """Called once a micro batch: forward, then `backward`, which moves the optimiser on the last one of a step."""

    def __call__(self, view1: Tensor, view2: Tensor, last: bool) -> FRAOutput: ...

    def backward(self, loss: Tensor, last: bool) -> Update | None:
        """`loss` is the mean over the micro batch; gradients are averaged over micro batches and ranks.

        The update when `last`, otherwise None.
        """
        ...

    def optimizer_state(self) -> dict[str, Tensor]:
        """The optimiser's state, whole tensors by PARAMETER/STATE. Every rank calls it; rank 0 gets all of it."""
        ...

    def load_optimizer_state(self, saved: Mapping[str, Tensor]) -> None:
        """Take up what `optimizer_state` gave, at any world size. Raises CheckpointError on an unknown name."""
        ...

    def close(self) -> None: ...


def build_engine(
    config: Config, model: nn.Module, optimizer: torch.optim.Optimizer, ctx: RankContext, sizes: Sizes
) -> Engine:
    """Wrap a model that is already on `ctx.device`."""
    if config.train.backend == "deepspeed":
        return DeepSpeedEngine(config, model, optimizer, ctx, sizes)
    return TorchEngine(config, model, optimizer, ctx, sizes)


def precision_of(config: Config, device: torch.device) -> torch.dtype:
    """The autocast type: `auto` is bfloat16 on a GPU and float32 on a CPU."""
    if config.train.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if config.train.precision == "bf16" else torch.float32


def deepspeed_dictionary(config: Config, sizes: Sizes, dtype: torch.dtype) -> dict[str, Any]:
    """DeepSpeed's configuration, generated: users write ours."""
    return {
        "train_batch_size": sizes.global_batch,
        "train_micro_batch_size_per_gpu": sizes.micro_batch,
        "gradient_accumulation_steps": sizes.accumulation,
        "gradient_clipping": config.optim.clip or 0.0,  # DeepSpeed clips at 1.0 when it is left out
        "zero_optimization": {"stage": 0},
        "torch_autocast": {"enabled": dtype != torch.float32, "dtype": "bfloat16"},
        "steps_per_print": 1_000_000_000,
    }


class DeepSpeedEngine:
    """ZeRO stage 0 with autocast."""

    def __init__(
        self, config: Config, model: nn.Module, optimizer: torch.optim.Optimizer, ctx: RankContext, sizes: Sizes
    ) -> None:
        deepspeed = _import_deepspeed(ctx.device)
        dictionary = deepspeed_dictionary(config, sizes, precision_of(config, ctx.device))
        self.engine, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=dictionary, dist_init_required=False
        )
        self.optimizer, self.names = optimizer, parameter_names(model)

    def __call__(self, view1: Tensor, view2: Tensor, last: bool) -> FRAOutput:
        return self.engine(view1, view2)

    def backward(self, loss: Tensor, last: bool) -> Update | None:
        self.engine.backward(loss)
        norm = _gradient_norm(self.engine.module) if last else None
        self.engine.step()  # counts micro batches itself
        return None if norm is None else Update(torch.ones_like(norm), norm)

    def optimizer_state(self) -> dict[str, Tensor]:
        return optimizer_tensors(self.optimizer, self.names)

    def load_optimizer_state(self, saved: Mapping[str, Tensor]) -> None:
        restore_optimizer(self.optimizer, self.names, saved)

    def close(self) -> None:
        self.engine.destroy()


class TorchEngine:
    """DistributedDataParallel on several ranks, the bare module on one."""

    def __init__(
        self, config: Config, model: nn.Module, optimizer: torch.optim.Optimizer, ctx: RankContext, sizes: Sizes
    ) -> None:
        self.module = model
        self.optimizer, self.names = optimizer, parameter_names(model)
        self.clip = config.optim.clip
        self.accumulation = sizes.accumulation
        self.dtype = precision_of(config, ctx.device)
        self.device_type = ctx.device.type
        self.wrapped: nn.Module = model
        if ctx.world > 1:
            # the prototypes and the norm statistics are computed over all ranks, so buffers need no broadcast
            self.wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)

    def __call__(self, view1: Tensor, view2: Tensor, last: bool) -> FRAOutput:
        autocast = torch.autocast(self.device_type, dtype=torch.bfloat16, enabled=self.dtype != torch.float32)
        with autocast, self._reduced_when(last):
            return self.wrapped(view1, view2)

    def backward(self, loss: Tensor, last: bool) -> Update | None:
        with self._reduced_when(last):
            (loss / self.accumulation).backward()
        if not last:
            return None
        norm = _gradient_norm(self.module)
        if self.clip is not None:
            nn.utils.clip_grads_with_norm_(self.module.parameters(), self.clip, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return Update(torch.ones_like(norm), norm)

    def optimizer_state(self) -> dict[str, Tensor]:
        return optimizer_tensors(self.optimizer, self.names)

    def load_optimizer_state(self, saved: Mapping[str, Tensor]) -> None:
        restore_optimizer(self.optimizer, self.names, saved)

    def close(self) -> None:
        return

    def _reduced_when(self, last: bool) -> AbstractContextManager[None]:
        """Ranks average their gradients on the last micro batch only; DDP decides that in forward and in backward."""
        if last or not isinstance(self.wrapped, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self.wrapped.no_sync()


def _gradient_norm(model: nn.Module) -> Tensor:
    return nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


def parameter_names(model: nn.Module) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in model.named_parameters()}


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

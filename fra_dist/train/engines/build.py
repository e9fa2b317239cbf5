"""The choice of the engine that carries the steps of a run: DeepSpeed, or plain PyTorch."""

import torch
from torch import nn

from fra_dist.config import Config
from fra_dist.distributed import RankContext
from fra_dist.train.engines.protocol import Engine
from fra_dist.train.sizes import Sizes


def build_engine(
    config: Config, model: nn.Module, optimizer: torch.optim.Optimizer, ctx: RankContext, sizes: Sizes
) -> Engine:
    """Wrap a model that is already on `ctx.device` into the engine that `train.backend` names.

    Raises ConfigError for what DeepSpeed cannot do.
    """
    if config.train.backend == "deepspeed":
        from fra_dist.train.engines.deepspeed_engine import DeepSpeedEngine  # DeepSpeed is slow to import

        return DeepSpeedEngine(config, model, optimizer, ctx, sizes)
    from fra_dist.train.engines.torch_engine import TorchEngine

    return TorchEngine(config, model, optimizer, ctx, sizes)

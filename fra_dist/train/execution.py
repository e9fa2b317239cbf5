"""How the networks are carried out: as written, with blocks computed again in backward, or compiled."""

import torch
from torch import nn

from fra_dist.config import TrainConfig
from fra_dist.errors import ConfigError
from fra_dist.models.fra import FRA
from fra_dist.models.norm import BatchNorm
from fra_dist.models.recompute import recompute_blocks


def set_execution(model: FRA, config: TrainConfig, device: torch.device) -> None:
    """Apply `activation_checkpointing` and `compile` in place; names of parameters do not change.

    Compiled are backbone and heads of both networks and the predictors: the decoder's dropout would draw other numbers.
    Raises ConfigError for a backbone without blocks, or when a C++ compiler is needed and missing.
    """
    if config.activation_checkpointing:
        recompute_blocks(model.online.backbone)
    if config.compile:
        if device.type == "cpu":
            _need_compiler()
        for part in _compiled_parts(model):
            _leave_norms(part)
            part.compile()


def _compiled_parts(model: FRA) -> list[nn.Module]:
    parts: list[nn.Module | None] = [model.predictor, model.local_predictor]
    for network in (model.online, model.target):
        parts += [network.backbone, network.projector, network.pixel_projector, network.local_projector]
    return [part for part in parts if part is not None]


def _leave_norms(part: nn.Module) -> None:
    """Norms over ranks run as written: their exchange cannot be traced. Here, because a decorator on the class would
    import the compiler, seconds of every start."""
    for module in part.modules():
        if isinstance(module, BatchNorm):
            module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]


def _need_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, OSError):
        raise ConfigError(
            "train.compile on a CPU needs a C++ compiler and found none: install g++ or set train.compile=false"
        ) from None

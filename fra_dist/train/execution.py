"""How the networks are executed: views apart or together, blocks computed again in backward, compiled or not."""

import getpass
import importlib.util
import os

import torch
from torch import nn

from fra_dist.config import TrainConfig
from fra_dist.distributed import from_all
from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.models.convolution import use_patches
from fra_dist.models.fra import FRA
from fra_dist.models.norm import BatchNorm, can_be_grouped
from fra_dist.models.passes.recompute import recompute_blocks

MOST_VARIANTS = 64
"""The most variants of a function that are compiled."""


def set_execution(model: FRA, config: TrainConfig, device: torch.device) -> None:
    """Apply `group_views`, `channels_last`, `activation_checkpointing` and `compile` to a model in place.

    Parameters keep their names. Backbone and heads of both networks and the predictors are compiled; the decoder is
    not, because its dropout would draw other numbers. Raises ConfigError for a backbone without blocks or with norms
    whose views cannot be grouped, or when a compiler is needed and missing.
    """
    helps = device.type == "cuda" or model.online.cross.world > 1
    if config.group_views or (config.group_views is None and helps and can_be_grouped(model)):
        model.group_views()
    if config.channels_last:
        if config.backend == "torch":  # the DeepSpeed engine does it itself, once DeepSpeed has laid out the weights
            lay_out_weights(model)
        if device.type == "cpu":
            use_patches(model.online.backbone)
    if device.type == "cuda" and not config.compile and not config.activation_checkpointing:
        model.round_weights()
    if config.activation_checkpointing:
        recompute_blocks(model.online.backbone)
    if config.compile:
        _name_user()
        if device.type == "cpu":
            _need_compiler()
        elif importlib.util.find_spec("triton") is None:
            raise ConfigError("train.compile on a GPU needs Triton: install triton or set train.compile=false")
        _allow_variants()
        for part in _compiled_parts(model):
            _leave_norms(part)
            part.compile()


def lay_out_weights(model: nn.Module) -> None:
    """Put the weights of convolutions into channels-last layout, in place, to match the layout of the maps."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def trust_kernels(device: torch.device) -> None:
    """On a GPU, try the fused kernels first and disable, on every rank, those that fail on any rank.

    Every rank calls it. On a CPU it only takes part in the collective.
    """
    failed: dict[str, str] = {}
    if dispatch.device_obstacle(device.type, device.index) is None and dispatch.wish() == "auto":
        from fra_dist.kernels.self_check import check_kernels  # only GPUs need it

        failed = {finding.kernel: finding.problem for finding in check_kernels(device) if finding.problem}
    for rank, of_rank in enumerate(from_all(failed)):
        for kernel, problem in of_rank.items():
            if kernel not in failed:  # ranks on different paths would wait for each other's collectives
                dispatch.distrust(kernel, f"self-check of rank {rank}: {problem}")


def _compiled_parts(model: FRA) -> list[nn.Module]:
    parts: list[nn.Module | None] = [model.predictor, model.local_predictor]
    for network in (model.online, model.target):
        parts += [network.backbone, network.projector, network.pixel_projector, network.local_projector]
    return [part for part in parts if part is not None]


def _allow_variants() -> None:
    """Let one function be compiled often enough; beyond dynamo's limit it runs uncompiled, without a word.

    Heads share the code of their forward pass: each is a variant, of its own shapes, with and without gradients.
    """
    import torch._dynamo  # it takes seconds, and only here are they needed

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_VARIANTS)


def _leave_norms(part: nn.Module) -> None:
    """Keep norms over ranks out of compiled code: their collective cannot be traced.

    It is done here, because a decorator on the class would import the compiler, which takes seconds of every start.
    """
    for module in part.modules():
        if isinstance(module, BatchNorm) and module.cross.world > 1:
            module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]


def _name_user() -> None:
    """Give a user without a name, as in containers, one: torch names the folder of what it compiles after it."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # which of them depends on the version of Python
        os.environ["LOGNAME"] = f"user-{os.getuid()}"


def _need_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, OSError):
        raise ConfigError(
            "train.compile on a CPU needs a C++ compiler and found none: install g++ or set train.compile=false"
        ) from None

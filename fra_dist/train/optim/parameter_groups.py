"""Which parameters get weight decay and layer-wise adaptation, and the optimiser over them."""

from typing import Any

import torch
from torch import nn

from fra_dist.config import OptimConfig
from fra_dist.train.optim.adamw import AdamW
from fra_dist.train.optim.lars import LARS


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Divide the trained parameters into two groups: those with weight decay and adaptation, and those with neither.

    Each group sets `weight_decay`, `decayed` and `adapt`. `exclude: kind` puts norm weights, biases and every other 1-D
    parameter into the second group. `exclude: published` goes by name, as the published implementation does: only
    biases and the norms of the backbone are in the second group, so norm weights of heads and decoder are decayed and
    adapted.
    """
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    plain = _plain_by_name(model) if config.exclude == "published" else _plain_by_kind(model)

    def both(yes: bool) -> dict[str, bool]:
        return {"decayed": yes, "adapt": yes}

    return [
        {"params": [p for n, p in trained if n not in plain], "weight_decay": config.weight_decay, **both(True)},
        {"params": [p for n, p in trained if n in plain], "weight_decay": 0.0, **both(False)},
    ]


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Build LARS or AdamW over `parameter_groups`, at `config.lr`, which the trainer replaces step by step."""
    _leave_the_compiler_out()
    groups = parameter_groups(model, config)
    if config.name == "lars":
        return LARS(groups, lr=config.lr, momentum=config.momentum, trust=config.trust)
    for group in groups:
        del group["adapt"]
    return AdamW(groups, lr=config.lr, betas=config.betas, fused=True)  # fused: it honours found_inf


def _leave_the_compiler_out() -> None:
    """Keep the optimisers' methods from importing the compiler at their first call, which takes seconds of every start.

    Torch imports it to keep these methods out of compiled code. Nothing compiles them here. This changes the methods of
    `torch.optim.Optimizer` for the whole process.
    """
    for method in vars(torch.optim.Optimizer).values():
        plain, code = getattr(method, "__wrapped__", None), getattr(method, "__code__", None)
        # `torch._compile._disable_dynamo` wraps the method and keeps the compiled-out version in this attribute: with
        # the plain method there, the wrapper finds its work done and imports nothing
        if plain is not None and code is not None and code.co_filename.endswith("_compile.py"):
            plain.__dict__.setdefault("__dynamo_disable", plain)


_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def _plain_by_kind(model: nn.Module) -> set[str]:
    plain = {name for name, parameter in model.named_parameters() if parameter.dim() < 2 or name.endswith("bias")}
    for path, module in model.named_modules():
        if isinstance(module, _NORMS):
            plain |= {f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)}
    return plain


def _plain_by_name(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters() if "bn" in name or "bias" in name}

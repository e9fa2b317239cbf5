"""Activation checkpointing: blocks that keep their input alone and compute their activations again in backward."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from fra_dist.errors import ConfigError
from fra_dist.models.norm import groups_of, in_groups


def recompute_blocks(backbone: nn.Module) -> None:
    """Make every block of `backbone.blocks()` compute its activations again in backward.

    Losses, gradients and buffers stay the same: dropout draws the same numbers, and batch norm's running statistics
    follow a batch once. Raises ConfigError when the backbone does not name its blocks.
    """
    blocks = getattr(backbone, "blocks", None)
    found = blocks() if callable(blocks) else []
    if not found:
        raise ConfigError(
            f"train.activation_checkpointing needs a backbone with a method blocks() that lists them; "
            f"{type(backbone).__name__} has none: set it to false"
        )
    for block in found:
        # a subclass, because a replaced `forward` attribute would still mean this block in a copy of it
        block.__class__ = type(type(block).__name__, (_Recomputed, type(block)), {})


class _Recomputed(nn.Module):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return super().forward(*args, **kwargs)
        groups = groups_of(self)
        contexts = lambda: (nullcontext(), _once_more(self, groups))  # noqa: E731
        return checkpoint(super().forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def _once_more(module: nn.Module, groups: int) -> Iterator[None]:
    with statistics_kept(module), in_groups(module, groups):
        yield


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Inside the block, batch norm runs as in training,
    but what follows the batch is a copy of its running statistics."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [dict(norm._buffers) for norm in norms]
    for norm in norms:
        norm._buffers.update({name: None if b is None else b.clone() for name, b in norm._buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)

"""Batch norm, ReLU and the max pooling of a ResNet's stem in one, for the map that is the largest of them all.

    p = maxpool(ReLU(w (x − μ_g)/√(σ²_g + ε) + b))         x: (N, C, H, W),  p: (N, C, ⌈H/2⌉, ⌈W/2⌉)

with windows of 3×3 at every second place and a border of one place, statistics as in `kernels/batch_norm/`. The
normalised map is not made, and of where a maximum lies a byte is kept, where PyTorch keeps the map and eight bytes. The
backward pass, with g the gradient of p sent to where the maxima lie, if these are positive, is that of batch norm:

    dx = w/√(σ² + ε) (g − mean(g) − x̂ mean(g x̂))    dw = Σ g x̂    db = Σ g
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fra_dist.kernels import dispatch
from fra_dist.kernels.batch_norm import KERNEL as BATCH_NORM
from fra_dist.kernels.batch_norm import Running, normalised, statistics
from fra_dist.kernels.memory_layout import rows_are_channels
from fra_dist.types import CrossRank

KERNEL = dispatch.register("pooled_norm")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def pooled_norm(
    x: Tensor, weight: Tensor, bias: Tensor, *, cross: CrossRank, groups: int = 1, eps: float = 1e-5,
    running: Running | None = None,
) -> Tensor:  # fmt: skip
    """Normalise x by the statistics of each group over all ranks, rectify it and pool it: the formula of this module.

    x: (N, C, H, W) with N a multiple of `groups`; weight, bias: (C,). Every rank holds equally many values.
    Differentiable once in x, weight and bias. `running` follows the statistics in place, as in `batch_norm`.

    Returns (N, C, ⌈H/2⌉, ⌈W/2⌉). Raises ValueError for shapes that do not fit together, and ConfigError if the Triton
    kernels are insisted on (`dispatch.force`) and cannot take the call.
    """
    if torch.compiler.is_compiling() or not takes(x):
        y = normalised(
            x, weight, bias, None, cross=cross, groups=groups, relu=True, eps=eps, running=running,
        )  # fmt: skip
        return functional.max_pool2d(y, 3, stride=2, padding=1)
    if weight.shape != (x.shape[1],) or bias.shape != weight.shape or groups < 1 or len(x) % groups:
        raise ValueError(
            f"pooled_norm takes x (N, C, H, W) of {groups} groups, weight (C,) and bias (C,), not {tuple(x.shape)}, "
            f"{tuple(weight.shape)} and {tuple(bias.shape)}"
        )
    pooled: Tensor = _PooledNorm.apply(x, weight, bias, groups, eps, cross, running)
    return pooled


def takes(x: Tensor) -> bool:
    """Whether the Triton kernels will run for this tensor. Raises ConfigError as `pooled_norm` does."""
    return dispatch.use_triton(KERNEL, _obstacle(x), on_gpu=x.is_cuda)


class _PooledNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, cross: CrossRank,
        running: Running | None,
    ) -> Tensor:  # fmt: skip
        from fra_dist.kernels.pooled_norm.op import pool  # imports Triton

        mean, _, inverse, scale, shift = statistics(
            x, weight, bias, cross=cross, groups=groups, eps=eps, running=running
        )  # fmt: skip
        pooled, at = pool(x, scale, shift)
        ctx.cross = cross
        ctx.save_for_backward(x, at, weight, mean, inverse, scale)
        ctx.set_materialize_grads(False)
        return pooled

    @staticmethod
    def backward(ctx: Any, given: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        from fra_dist.kernels.pooled_norm.op import gradients, sums

        if given is None:
            return (None,) * 7
        x, at, weight, mean, inverse, scale = ctx.saved_tensors
        own = sums(given, at, x, mean, inverse)
        count = x.numel() // x.shape[1] // len(mean) * ctx.cross.world
        level, slope = (ctx.cross.sum(own) / count).unbind()
        dx = gradients(given, at, x, mean, inverse, scale, level, slope)
        d_bias, d_weight = own.sum(dim=1).to(weight.dtype).unbind()
        return dx, d_weight, d_bias, *[None] * 4


def _obstacle(x: Tensor) -> str | None:
    """Why the Triton kernels cannot take this tensor; None if they can."""
    obstacle = dispatch.device_obstacle(x.device.type, x.device.index)
    if obstacle is not None:
        return obstacle
    if x.dtype not in _DTYPES:
        return f"dtype {x.dtype}"
    if x.dim() != 4 or not rows_are_channels(x):
        return "a map that is not channels-last"
    if x.numel() == 0:
        return "no values"
    if x.numel() // x.shape[1] >= 2**31:
        return "2^31 values a channel or more"
    return None if dispatch.may_use_triton(BATCH_NORM, None) else "batch norm's kernels, which it uses, do not run"

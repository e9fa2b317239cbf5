"""The Triton kernels of the decoder's attention as PyTorch operators: autograd, torch.compile without a graph break.

Kept for the backward pass besides the inputs: the results and the log-sums of the scores, (B, R).
"""

from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.decoder_attention import launch
from fra_dist.kernels.operators import device_of, operator


def fused(
    rows: Tensor, memory: Tensor, code: Tensor, keep: Tensor | None, scale: float, keep_scale: float
) -> tuple[Tensor, Tensor]:
    """`reference.reference` by the Triton kernels: pooled rows (B, R, D) and sums of the weights (B, R),
    differentiable."""
    pooled, total, _ = forward_operator(
        rows.contiguous(), memory.contiguous(), code.contiguous(), keep, scale, keep_scale
    )
    return pooled, total


@operator("decoder_attention")
def forward_operator(
    rows: Tensor, memory: Tensor, code: Tensor, keep: Tensor | None, scale: float, keep_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The forward kernel as an operator: pooled (B, R, D), sums of weights and log-sums of scores (B, R).

    All inputs are contiguous.
    """
    dispatch.launches["decoder_attention"] += 1
    with device_of(memory):
        return launch.forward(rows, memory, code, keep, scale, keep_scale)


@forward_operator.register_fake
def _(
    rows: Tensor, memory: Tensor, code: Tensor, keep: Tensor | None, scale: float, keep_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    total = rows.new_empty(rows.shape[:2], dtype=torch.float32)
    return torch.empty_like(rows), total, torch.empty_like(total)


@operator("decoder_attention_backward")
def backward_operator(
    d_pooled: Tensor, d_total: Tensor, rows: Tensor, memory: Tensor, code: Tensor, keep: Tensor | None,
    pooled: Tensor, total: Tensor, logsum: Tensor, scale: float, keep_scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The backward kernels as an operator: gradients of rows (B, R, D) and memory (B, P, D)."""
    dispatch.launches["decoder_attention_backward"] += 1
    given = d_pooled.contiguous(), d_total.contiguous()
    with device_of(memory):
        return launch.backward(*given, rows, memory, code, keep, pooled, total, logsum, scale, keep_scale)


@backward_operator.register_fake
def _(d_pooled: Tensor, d_total: Tensor, rows: Tensor, memory: Tensor, *_rest: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(rows), torch.empty_like(memory)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.scale, ctx.keep_scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[2])


def _differentiate(ctx: Any, d_pooled: Tensor, d_total: Tensor, _unused: Any) -> tuple[Tensor | None, ...]:
    gradients = backward_operator(d_pooled, d_total, *ctx.saved_tensors, ctx.scale, ctx.keep_scale)
    return *gradients, None, None, None, None


forward_operator.register_autograd(_differentiate, _save)

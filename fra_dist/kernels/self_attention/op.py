"""The Triton kernels of self-attention as PyTorch operators: autograd, torch.compile without a graph break.

Kept for the backward pass: the inputs alone, the weights and the mask are computed again.
"""

from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.operators import device_of, operator
from fra_dist.kernels.self_attention import launch


@operator("self_attention")
def forward_operator(
    qk: Tensor, v: Tensor, keys: Tensor | None, heads: int, dropout: float, call: int, span: int
) -> Tensor:
    """The forward kernel as an operator: the attention (B, Q, D) of contiguous inputs, differentiable."""
    dispatch.launches["self_attention"] += 1
    with device_of(v):
        return launch.forward(qk, v, keys, heads, dropout, call, span)


@forward_operator.register_fake
def _(qk: Tensor, v: Tensor, *_rest: Any) -> Tensor:
    return torch.empty_like(v)


@operator("self_attention_backward")
def backward_operator(
    d_out: Tensor, qk: Tensor, v: Tensor, keys: Tensor | None, heads: int, dropout: float, call: int, span: int
) -> tuple[Tensor, Tensor]:
    """The backward kernel as an operator: gradients of qk and v."""
    dispatch.launches["self_attention_backward"] += 1
    with device_of(v):
        return launch.backward(d_out.contiguous(), qk, v, keys, heads, dropout, call, span)


@backward_operator.register_fake
def _(d_out: Tensor, qk: Tensor, v: Tensor, *_rest: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(qk), torch.empty_like(v)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    qk, v, keys, *ctx.numbers = inputs
    ctx.save_for_backward(qk, v, keys)


def _differentiate(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
    return *backward_operator(d_out, *ctx.saved_tensors, *ctx.numbers), None, None, None, None, None


forward_operator.register_autograd(_differentiate, _save)

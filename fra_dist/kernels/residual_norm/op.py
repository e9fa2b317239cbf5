"""The Triton kernels of dropout, residual and layer norm as PyTorch operators: autograd, torch.compile without a graph
break.

Kept for the backward pass: the inputs alone, mean, variance and mask are computed again.
"""

from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.operators import device_of, operator
from fra_dist.kernels.residual_norm import launch


@operator("residual_norm")
def forward_operator(
    x: Tensor, u: Tensor, weight: Tensor, bias: Tensor, queries: Tensor | None, keys: Tensor | None, eps: float,
    dropout: float, call: int, span: int, dtype: torch.dtype, rounded: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The forward kernel as an operator: y, y and y + queries in `dtype`, the last two empty where they are not wanted.

    Inputs are contiguous. Differentiable.
    """
    dispatch.launches["residual_norm"] += 1
    with device_of(x):
        return launch.forward(x, u, weight, bias, queries, keys, eps, dropout, call, span, dtype, rounded)


@forward_operator.register_fake
def _(
    x: Tensor, u: Tensor, weight: Tensor, bias: Tensor, queries: Tensor | None, keys: Tensor | None, eps: float,
    dropout: float, call: int, span: int, dtype: torch.dtype, rounded: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    wanted = rounded, queries is not None
    half, asked = (x.new_empty(x.shape if one else (0,), dtype=dtype) for one in wanted)
    return torch.empty_like(x), half, asked


@operator("residual_norm_backward")
def backward_operator(
    d_y: Tensor | None, d_rounded: Tensor | None, d_asked: Tensor | None, x: Tensor, u: Tensor, weight: Tensor,
    keys: Tensor | None, eps: float, dropout: float, call: int, span: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The backward kernels as an operator: gradients of x, u, weight, bias and queries, the last empty without that of
    y + queries."""
    dispatch.launches["residual_norm_backward"] += 1
    d_y, d_rounded, d_asked = (None if one is None else one.contiguous() for one in (d_y, d_rounded, d_asked))
    with device_of(x):
        return launch.backward(d_y, d_rounded, d_asked, x, u, weight, keys, eps, dropout, call, span)


@backward_operator.register_fake
def _(
    d_y: Tensor | None, d_rounded: Tensor | None, d_asked: Tensor | None, x: Tensor, u: Tensor, weight: Tensor,
    *_rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    d_queries = x.new_empty((0,) if d_asked is None else x.shape[1:])
    return torch.empty_like(x), torch.empty_like(u), torch.empty_like(weight), torch.empty_like(weight), d_queries


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, u, weight, _, _, keys, *ctx.numbers, _, _ = inputs
    ctx.save_for_backward(x, u, weight, keys)
    ctx.set_materialize_grads(False)  # what nobody used has no gradient, not one of zeros


def _differentiate(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    given = [None if grad is None or grad.numel() == 0 else grad for grad in grads]  # what was not wanted is empty
    *found, d_queries = backward_operator(*given, *ctx.saved_tensors, *ctx.numbers)
    return *found, None if given[2] is None else d_queries, *[None] * 7


forward_operator.register_autograd(_differentiate, _save)

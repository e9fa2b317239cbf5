"""The Triton kernels of the decoder's attention, and the products around them, as PyTorch operators.

The products go by heads, (H, B Q, ...), in strides that neither they nor the kernels need a copy for. Kept for the
backward pass besides the inputs: the rows and the pooled rows, (H, B, Q, D), the sums of their weights and the log-sums
of the scores, (H, B, Q).
"""

import math
from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.decoder_attention import launch
from fra_dist.kernels.operators import device_of, operator


def fused(
    asked: Tensor, memory: Tensor, code: Tensor, weight: Tensor, bias: Tensor, heads: int, dropout: float,
    keep: Tensor | None,
) -> Tensor:  # fmt: skip
    """The attention (B, Q, D), from projected queries: the weights of keys and values are one, (2 D, D), and so are
    their biases, (2 D,)."""
    dtype = asked.dtype
    asked, memory, code = asked.to(memory.dtype).contiguous(), memory.contiguous(), code.to(memory.dtype).contiguous()
    weight, bias = weight.to(memory.dtype).contiguous(), bias.contiguous()
    keep = None if keep is None else keep.contiguous()
    out, *_ = forward_operator(asked, memory, code, weight, bias, keep, heads, 1 / (1 - dropout))
    return out.to(dtype)


@operator("decoder_attention")
def forward_operator(
    asked: Tensor, memory: Tensor, code: Tensor, weight: Tensor, bias: Tensor, keep: Tensor | None, heads: int,
    keep_scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The forward pass as an operator: the attention (B, Q, D), rows, pooled rows, sums of weights, log-sums of scores.

    All inputs are contiguous, and all but the bias and the mask of one dtype.
    """
    dispatch.launches["decoder_attention"] += 1
    w_key, w_value = weight.view(2, heads, -1, weight.shape[1])
    with device_of(memory):
        rows = torch.bmm(_by_heads(asked, heads), w_key).to(memory.dtype).view(heads, *asked.shape)
        b_value, scale = bias[len(bias) // 2 :], 1 / math.sqrt(w_key.shape[1])
        pooled, total, logsum, out = launch.forward(rows, memory, code, keep, b_value, scale, keep_scale)
        _by_heads(out, heads).baddbmm_(pooled.flatten(1, 2), w_value.transpose(1, 2))
    return out, rows, pooled, total, logsum


@forward_operator.register_fake
def _(
    asked: Tensor, memory: Tensor, code: Tensor, weight: Tensor, bias: Tensor, keep: Tensor | None, heads: int,
    keep_scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    rows = asked.new_empty((heads, *asked.shape))
    total = rows.new_empty(rows.shape[:3], dtype=torch.float32)
    return torch.empty_like(asked), rows, torch.empty_like(rows), total, torch.empty_like(total)


@operator("decoder_attention_backward")
def backward_operator(
    d_out: Tensor, asked: Tensor, memory: Tensor, code: Tensor, weight: Tensor, bias: Tensor, keep: Tensor | None,
    rows: Tensor, pooled: Tensor, total: Tensor, logsum: Tensor, heads: int, keep_scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The backward pass as an operator: gradients of the queries, the memory, the weight and, in fp32, the bias."""
    dispatch.launches["decoder_attention_backward"] += 1
    d_out, d_asked, d_weight = d_out.contiguous(), torch.empty_like(asked), torch.empty_like(weight)
    w_key, w_value = weight.view(2, heads, -1, weight.shape[1])
    d_key, d_value = d_weight.view(w_key.shape[0] * 2, *w_key.shape[1:]).chunk(2)
    given = _by_heads(d_out, heads)
    with device_of(memory):
        d_total, d_bias = launch.bias_backward(d_out, total, bias[len(bias) // 2 :])
        torch.bmm(given.transpose(1, 2), pooled.flatten(1, 2), out=d_value)
        d_pooled = torch.bmm(given, w_value).to(memory.dtype).view(rows.shape)
        saved, scales = (rows, memory, code, keep, pooled, total, logsum), (1 / math.sqrt(w_key.shape[1]), keep_scale)
        d_rows, d_memory = launch.backward(d_pooled, d_total, *saved, *scales)
        d_rows = d_rows.flatten(1, 2)
        torch.bmm(_by_heads(asked, heads).transpose(1, 2), d_rows, out=d_key)
        torch.bmm(d_rows, w_key.transpose(1, 2), out=_by_heads(d_asked, heads))
    return d_asked, d_memory, d_weight, d_bias


@backward_operator.register_fake
def _(
    d_out: Tensor, asked: Tensor, memory: Tensor, code: Tensor, weight: Tensor, bias: Tensor, *_rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d_bias = torch.empty_like(bias, dtype=torch.float32)
    return torch.empty_like(asked), torch.empty_like(memory), torch.empty_like(weight), d_bias


def _by_heads(x: Tensor, heads: int) -> Tensor:
    """(B, Q, D) with the heads side by side, seen as (H, B Q, D/H)."""
    return x.view(-1, heads, x.shape[2] // heads).transpose(0, 1)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.heads, ctx.keep_scale = inputs
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, d_out: Tensor | None, *_unused: Any) -> tuple[Tensor | None, ...]:
    if d_out is None:
        return (None,) * 8
    d_asked, d_memory, d_weight, d_bias = backward_operator(d_out, *ctx.saved_tensors, ctx.heads, ctx.keep_scale)
    return d_asked, d_memory, None, d_weight, d_bias.to(ctx.saved_tensors[4].dtype), None, None, None


forward_operator.register_autograd(_differentiate, _save)

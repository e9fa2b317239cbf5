"""Cross-attention of learnable queries over the pixels of a map, with a position code on the keys alone.

For each head, with x a query, m a pixel, c its code, d the width of a head (Carion et al., arXiv 2005.12872):

    out = Σ_u w_u (W_v m_u + b_v),   w = softmax over pixels of (W_q x + b_q)·(W_k (m_u + c_u) + b_k)/√d

With few queries it is cheaper to move the weights to their side. b_k is the same for all pixels and drops out of the
softmax, and W_v can wait until the pixels are pooled:

    a = W_kᵀ (W_q x + b_q),   w = softmax of a·(m_u + c_u)/√d,   out = W_v (Σ_u w_u m_u) + b_v Σ_u w_u

So neither keys nor values are made: heads × Q rows a, as wide as the pixels, pool the map as it is. Σ w is not 1 with
dropout on the weights. B images, P pixels, Q queries, D width.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from fra_dist.kernels import dispatch
from fra_dist.kernels.decoder_attention.reference import plain_attention, reference

KERNEL = dispatch.register("decoder_attention")
MOST_WIDTH = {torch.bfloat16: 256, torch.float16: 256, torch.float32: 64}
"""Widest map that the Triton kernel takes, by dtype.

Tiles are as wide as the map; wider ones do not fit the registers.
"""


def decoder_attention(
    queries: Tensor,
    memory: Tensor,
    code: Tensor,
    weight: Tensor,
    bias: Tensor,
    heads: int,
    *,
    dropout: float = 0.0,
    keep: Tensor | None = None,
) -> Tensor:
    """Cross-attention of the queries over the pixels: (B, Q, D), the heads side by side, before an output projection.

    The result has the dtype that a linear layer would give. queries: (B, Q, D); memory: (B, P, D); code: (P, D), which
    gets no gradient; weight: (3 D, D) and bias: (3 D,), for queries, keys and values one after the other; dropout: on
    the attention weights, 0 in evaluation; keep: (B, heads, Q, P) bool, the weights that are not dropped, drawn from
    torch's generator if not given. Differentiable once. Raises ValueError for shapes that do not fit together, and
    ConfigError if the Triton kernel is insisted on (`dispatch.force`) and cannot take the call.
    """
    _check(queries, memory, code, weight, bias, heads, dropout, keep)
    obstacle = _obstacle(queries, memory, heads)
    triton = dispatch.use_triton(KERNEL, obstacle, on_gpu=memory.is_cuda)
    if not few(queries.shape[1], heads, memory.shape[2]):
        return plain_attention(queries, memory, code, weight, bias, heads, dropout, keep)
    if keep is None and dropout > 0:
        shape = (len(memory), heads, queries.shape[1], memory.shape[1])
        keep = torch.empty(shape, dtype=torch.bool, device=memory.device).bernoulli_(1 - dropout)
    if triton:
        return _fused(queries, memory, code.detach(), weight, bias, heads, dropout, keep)
    (w_query, w_key, w_value), (b_query, _, b_value) = weight.chunk(3), bias.chunk(3)
    asked = functional.linear(queries, w_query, b_query).unflatten(2, (heads, -1))
    rows = torch.einsum("bqhd,hde->bhqe", asked, w_key.unflatten(0, (heads, -1))).flatten(1, 2).to(memory.dtype)
    keep = None if keep is None else keep.flatten(1, 2)
    scales = 1 / math.sqrt(asked.shape[3]), 1 / (1 - dropout)
    pooled, total = reference(rows, memory, code.detach().to(memory.dtype), keep, *scales)
    pooled, total = (x.unflatten(1, (heads, -1)) for x in (pooled, total))
    out = torch.einsum("bhqe,hde->bqhd", pooled, w_value.unflatten(0, (heads, -1)))
    shift = total.transpose(1, 2)[..., None] * b_value.view(heads, -1)
    return (out + shift.to(out.dtype)).flatten(2)


def few(queries: int, heads: int, width: int) -> bool:
    """Whether heads × queries, the rows that pool the map, are fewer than its channels,
    so that pooling first is cheaper."""
    return heads * queries <= width


def _fused(
    queries: Tensor, memory: Tensor, code: Tensor, weight: Tensor, bias: Tensor, heads: int, dropout: float,
    keep: Tensor | None,
) -> Tensor:  # fmt: skip
    from fra_dist.kernels.decoder_attention.op import fused  # imports Triton

    parts = [memory.shape[2], 2 * memory.shape[2]]  # keys and values stay together, and so do their gradients
    (w_query, w_rest), (b_query, b_rest) = weight.split(parts), bias.split(parts)
    asked = functional.linear(queries, w_query, b_query)
    return fused(asked, memory, code, w_rest, b_rest, heads, dropout, keep)


def _check(
    queries: Tensor, memory: Tensor, code: Tensor, weight: Tensor, bias: Tensor, heads: int, dropout: float,
    keep: Tensor | None,
) -> None:  # fmt: skip
    fit = queries.dim() == 3 and memory.dim() == 3
    if fit:
        width = memory.shape[2]
        fit = queries.shape[0] == memory.shape[0] and queries.shape[2] == width and code.shape == memory.shape[1:]
        fit = fit and weight.shape == (3 * width, width) and bias.shape == (3 * width,) and memory.shape[1] > 0
    if not fit:
        shapes = ", ".join(str(tuple(x.shape)) for x in (queries, memory, code, weight, bias))
        raise ValueError(
            f"decoder_attention takes queries (B, Q, D), memory (B, P, D), code (P, D), weight (3 D, D) and bias "
            f"(3 D,), not {shapes}"
        )
    if keep is not None and keep.shape != (len(memory), heads, queries.shape[1], memory.shape[1]):
        raise ValueError(f"keep is {tuple(keep.shape)}, not (B, heads, Q, P)")
    if heads < 1 or memory.shape[2] % heads or not 0 <= dropout < 1:
        raise ValueError(
            f"a width of {memory.shape[2]} cannot be {heads} heads, or a dropout of {dropout} is not in [0, 1)"
        )


def _obstacle(queries: Tensor, memory: Tensor, heads: int) -> str | None:
    """Why the Triton kernel cannot take these tensors; None if it can."""
    if queries.device != memory.device:
        return "tensors on different devices"
    if memory.dtype not in MOST_WIDTH:
        return f"dtype {memory.dtype}"
    if memory.shape[2] > MOST_WIDTH[memory.dtype]:
        return f"width {memory.shape[2]}, more than {MOST_WIDTH[memory.dtype]} in {memory.dtype}"
    if not few(queries.shape[1], heads, memory.shape[2]):
        return f"{heads} heads of {queries.shape[1]} queries are more than the width: plain attention is quicker"
    rows = heads * queries.shape[1]
    if max(memory.shape[1] * max(memory.shape[2], rows), memory.shape[0] * rows * memory.shape[2]) >= 2**31:
        return "an image, or rows, of 2^31 numbers or more"
    if memory.shape[0] * rows == 0:
        return "no images or no queries"
    return dispatch.device_obstacle(memory.device.type, memory.device.index)

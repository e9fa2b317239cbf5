"""The decoder's attention in plain PyTorch, in both orders: pooling the map first,
or with keys and values of all pixels."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def reference(
    rows: Tensor, memory: Tensor, code: Tensor, keep: Tensor | None, scale: float, keep_scale: float
) -> tuple[Tensor, Tensor]:
    """Pool the map for each row: (B, R, D) in the dtype of `memory`, and the sums of the weights (B, R), fp32 or more.

    rows: (B, R, D), memory: (B, P, D) and code: (P, D) of one dtype; keep: (B, R, P) bool, which weights to multiply
    by keep_scale instead of 0. In plain PyTorch: it defines the result.
    """
    exact = torch.promote_types(memory.dtype, torch.float32)
    weights = ((rows @ (memory + code).transpose(1, 2)).to(exact) * scale).softmax(dim=2)
    if keep is not None:
        weights = weights * keep * keep_scale
    return weights.to(memory.dtype) @ memory, weights.sum(dim=2)


def plain_attention(
    queries: Tensor, memory: Tensor, code: Tensor, weight: Tensor, bias: Tensor, heads: int, dropout: float,
    keep: Tensor | None,
) -> Tensor:  # fmt: skip
    """`api.decoder_attention` with keys and values of all pixels, which is the cheaper order for many queries."""
    keys = memory + code.to(memory.dtype)
    parts = zip((queries, keys, memory), weight.chunk(3), bias.chunk(3), strict=True)
    q, k, v = (functional.linear(x, w, b).unflatten(2, (heads, -1)).transpose(1, 2) for x, w, b in parts)
    if keep is None:
        pooled = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    else:
        # factors go to queries and values, which are far smaller than the weights
        weights = ((q / math.sqrt(q.shape[3])) @ k.transpose(2, 3)).softmax(dim=3) * keep
        pooled = weights.to(v.dtype) @ (v / (1 - dropout))
    return pooled.transpose(1, 2).flatten(2)

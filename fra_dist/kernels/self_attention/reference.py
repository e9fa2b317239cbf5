"""Attention with dropout on its weights in plain PyTorch: it defines the result."""

import math

from torch import Tensor
from torch.nn import functional

from fra_dist.kernels.dropout_mask import dropped


def reference(
    query: Tensor, key: Tensor, value: Tensor, heads: int, dropout: float = 0.0, keep: Tensor | None = None
) -> Tensor:
    """The attention of projected queries (B, Q, D) over keys and values (B, P, D): (B, Q, D), the heads side by side.

    keep: (B, heads, Q, P) bool, the weights that are not dropped, drawn from torch's generator if not given.
    """
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    if dropout == 0:
        pooled = functional.scaled_dot_product_attention(q, k, v)
    else:
        weights = ((q / math.sqrt(q.shape[3])) @ k.transpose(2, 3)).softmax(dim=3)
        pooled = dropped(weights, dropout, keep) @ v
    return pooled.transpose(1, 2).flatten(2)

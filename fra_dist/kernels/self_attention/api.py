"""Self-attention among few queries, with dropout on the weights: one launch forward and one backward.

For each head, with q, k and v its parts of the projected queries and d their width:

    out = (softmax of q kᵀ/√d, with elements dropped) v

The mask is made where it is used, by the hash of `kernels/dropout_mask/` for (B, heads, Q, Q), so it is the same on
both paths, and nothing but the inputs is kept for the backward pass. B images, Q queries, D width.
"""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.dropout_mask import dropout_mask
from fra_dist.kernels.self_attention.reference import reference

KERNEL = dispatch.register("self_attention")
MOST = {torch.bfloat16: (64, 128), torch.float16: (64, 128), torch.float32: (32, 64)}
"""Most queries and widest head that the Triton kernels take, by dtype.

The scores of a head are one tile; larger ones do not fit the registers.
"""


def self_attention(
    qk: Tensor,
    v: Tensor,
    heads: int,
    *,
    dropout: float = 0.0,
    keys: Tensor | None = None,
    call: int = 1,
    span: int = 1,
) -> Tensor:
    """Self-attention of projected queries: (B, Q, D), the heads side by side, before an output projection.

    qk: (B, Q, 2 D), queries and keys side by side; v: (B, Q, D); dropout: on the attention weights, 0 in evaluation;
    keys, call, span: what `dropout_mask` takes, keys being those of the images, so that B is a multiple of their
    number; without keys the mask is drawn from torch's generator. Differentiable once. Raises ValueError for shapes
    that do not fit together, and ConfigError if the Triton kernels are insisted on (`dispatch.force`) and cannot take
    the call.
    """
    _check(qk, v, heads, dropout, keys)
    if dispatch.use_triton(KERNEL, _obstacle(qk, v, heads), on_gpu=v.is_cuda):
        from fra_dist.kernels.self_attention.op import forward_operator  # imports Triton

        if dropout == 0:
            keys = None
        elif keys is None:
            keys = torch.empty(len(v), dtype=torch.int64, device=v.device).random_()
        keys = None if keys is None else keys.contiguous()
        return forward_operator(qk.contiguous(), v.contiguous(), keys, heads, dropout, call, span)
    keep = None
    if dropout > 0 and keys is not None:
        keep = dropout_mask(keys, torch.Size((len(v), heads, v.shape[1], v.shape[1])), call, span, dropout)
    query, key = qk.chunk(2, dim=2)
    return reference(query, key, v, heads, dropout, keep)


def _check(qk: Tensor, v: Tensor, heads: int, dropout: float, keys: Tensor | None) -> None:
    if v.dim() != 3 or qk.shape != (*v.shape[:2], 2 * v.shape[2]):
        raise ValueError(
            f"self_attention takes qk (B, Q, 2 D) and v (B, Q, D), not {tuple(qk.shape)}, {tuple(v.shape)}"
        )
    if heads < 1 or v.shape[2] % heads or not 0 <= dropout < 1:
        raise ValueError(f"a width of {v.shape[2]} cannot be {heads} heads, or a dropout of {dropout} is not in [0, 1)")
    if keys is not None and (keys.dim() != 1 or keys.dtype != torch.int64 or len(keys) == 0 or len(v) % len(keys)):
        raise ValueError(f"{len(v)} images are not whole views of those with keys {tuple(keys.shape)} {keys.dtype}")


def _obstacle(qk: Tensor, v: Tensor, heads: int) -> str | None:
    """Why the Triton kernels cannot take these tensors; None if they can."""
    if qk.device != v.device:
        return "tensors on different devices"
    if v.dtype not in MOST or qk.dtype != v.dtype:
        return f"dtypes {qk.dtype} and {v.dtype}"
    if v.numel() == 0:
        return "no images or no queries"
    queries, width = MOST[v.dtype]
    if v.shape[1] > queries or v.shape[2] // heads > width:
        size = f"{v.shape[1]} queries and heads of {v.shape[2] // heads} numbers"
        return f"{size}, more than {queries} or {width} in {v.dtype}"
    return dispatch.device_obstacle(v.device.type, v.device.index)

"""The end of a post-norm block: dropout, residual and layer norm, one launch forward and two backward.

    s = x + (u, with elements dropped)      y = w (s − mean of s)/√(variance of s + ε) + b

and, for the linear layers that come next, y and y + a code of the queries, both rounded as autocast would round them.
The mask is made where it is used, by the hash of `kernels/dropout_mask/` for (B, Q, D), so it is the same on both
paths, and nothing but the inputs is kept for the backward pass. B images, Q queries, D width.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.dropout_mask import dropout_mask
from fra_dist.kernels.residual_norm.reference import reference

KERNEL = dispatch.register("residual_norm")
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
MOST_WIDTH = 512
"""Widest row that the Triton kernels take: a warp holds it in its registers."""


class Normed(NamedTuple):
    """The output of a block, and what the next one's linear layers take."""

    output: Tensor
    """(B, Q, D)."""
    rounded: Tensor
    """The output for linear layers: rounded to their dtype, or as it is, for autocast to round."""
    asked: Tensor | None
    """The same of output + queries; None where no queries were given."""


def residual_norm(
    x: Tensor,
    u: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float = 1e-5,
    queries: Tensor | None = None,
    rounded: bool = False,
    dtype: torch.dtype | None = None,
    dropout: float = 0.0,
    keys: Tensor | None = None,
    call: int = 1,
    span: int = 1,
) -> Normed:
    """The layer norm of x + dropout(u), over the last dimension.

    x, u: (B, Q, D), the residual and what a block makes of it; weight, bias: (D,); queries: (Q, D), added to what
    `Normed.asked` is; rounded: whether `Normed.rounded` is used; dtype: what autocast has linear layers take, if it is
    on. The Triton kernels write both in that dtype; the plain path leaves it to autocast. dropout: 0 in evaluation;
    keys, call, span: what `dropout_mask` takes, keys being those of the images, so that B is a multiple of their
    number; without keys the mask is drawn from torch's generator. Differentiable once. Raises ValueError for shapes
    that do not fit together, and ConfigError if the Triton kernels are insisted on (`dispatch.force`) and cannot take
    the call.
    """
    _check(x, u, weight, bias, queries, dropout, keys)
    if dispatch.use_triton(KERNEL, _obstacle(x, u, weight, bias, queries, dtype), on_gpu=x.is_cuda):
        from fra_dist.kernels.residual_norm.op import forward_operator  # imports Triton

        if dropout == 0:
            keys = None
        elif keys is None:
            keys = torch.empty(len(x), dtype=torch.int64, device=x.device).random_()
        keys = None if keys is None else keys.contiguous()
        code = None if queries is None else queries.contiguous()
        inputs = x.contiguous(), u.contiguous(), weight.contiguous(), bias.contiguous(), code, keys
        dtype = dtype or x.dtype
        rounded = rounded and dtype != x.dtype
        output, half, asked = forward_operator(*inputs, eps, dropout, call, span, dtype, rounded)
        return Normed(output, half if rounded else output, None if queries is None else asked)
    keep = None
    if dropout > 0 and keys is not None:
        keep = dropout_mask(keys, u.shape, call, span, dropout)
    output = reference(x, u, weight, bias, eps, dropout, keep)
    return Normed(output, output, None if queries is None else output + queries)


def _check(
    x: Tensor, u: Tensor, weight: Tensor, bias: Tensor, queries: Tensor | None, dropout: float, keys: Tensor | None
) -> None:
    fit = x.dim() == 3 and u.shape == x.shape and weight.shape == bias.shape == x.shape[2:]
    if not fit or (queries is not None and queries.shape != x.shape[1:]):
        given = (x, u, weight, bias) if queries is None else (x, u, weight, bias, queries)
        shapes = ", ".join(str(tuple(one.shape)) for one in given)
        raise ValueError(
            f"residual_norm takes x and u (B, Q, D), weight and bias (D,) and queries (Q, D), not {shapes}"
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"a dropout of {dropout} is not in [0, 1)")
    if keys is not None and (keys.dim() != 1 or keys.dtype != torch.int64 or len(keys) == 0 or len(x) % len(keys)):
        raise ValueError(f"{len(x)} images are not whole views of those with keys {tuple(keys.shape)} {keys.dtype}")


def _obstacle(
    x: Tensor, u: Tensor, weight: Tensor, bias: Tensor, queries: Tensor | None, dtype: torch.dtype | None
) -> str | None:
    """Why the Triton kernels cannot take these tensors; None if they can."""
    exact = (x, weight, bias) if queries is None else (x, weight, bias, queries)
    if any(one.device != u.device for one in exact):
        return "tensors on different devices"
    if u.dtype not in DTYPES or any(one.dtype != torch.float32 for one in exact):
        return f"dtypes {', '.join(str(one.dtype) for one in (*exact, u))}"
    if dtype is not None and dtype not in DTYPES:
        return f"linear layers in {dtype}"
    if x.numel() == 0:
        return "no images or no queries"
    if x.shape[2] > MOST_WIDTH:
        return f"width {x.shape[2]}, more than {MOST_WIDTH}"
    return dispatch.device_obstacle(x.device.type, x.device.index)

"""Dropout, residual and layer norm in plain PyTorch: it defines the result."""

from torch import Tensor
from torch.nn import functional

from fra_dist.kernels.dropout_mask import dropped


def reference(
    x: Tensor, u: Tensor, weight: Tensor, bias: Tensor, eps: float, dropout: float = 0.0, keep: Tensor | None = None
) -> Tensor:
    """The layer norm of x + dropout(u), (B, Q, D).

    keep: (B, Q, D) bool, the elements of u that are not dropped, drawn from torch's generator if not given.
    """
    s = x + (u if dropout == 0 else dropped(u, dropout, keep))
    return functional.layer_norm(s, weight.shape, weight, bias, eps)

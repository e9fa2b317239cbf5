"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

import torch
from torch import Tensor

from fra_dist.kernels.residual_norm.api import residual_norm
from fra_dist.kernels.small_cases import Make, backward


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Results and gradients, the branch and the linear layers in `dtype`; in float64 the plain path says what is
    right."""
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    x, u = make(4, 5, 60, dtype=exact, grad=True), make(4, 5, 60, grad=True)
    weight, bias, queries = (make(*shape, dtype=exact, grad=True) for shape in ((60,), (60,), (5, 60)))
    keys = torch.arange(1, 3, device=x.device) * 0x1234567890ABCDEF
    out = residual_norm(
        x, u, weight, bias, queries=queries, rounded=True, dtype=dtype, dropout=0.2, keys=keys, call=3, span=7
    )
    assert out.asked is not None
    return backward([out.output, out.rounded, out.asked], [x, u, weight, bias, queries], make)

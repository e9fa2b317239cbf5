"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

import torch
from torch import Tensor

from fra_dist.kernels.self_attention.api import self_attention
from fra_dist.kernels.small_cases import Make, backward


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Results and gradients on small inputs of `dtype`; in float64 the plain path says what is right."""
    qk, v = make(4, 5, 120, grad=True), make(4, 5, 60, grad=True)
    keys = torch.arange(1, 3, device=v.device) * 0x1234567890ABCDEF
    out = self_attention(qk, v, 3, dropout=0.2, keys=keys, call=3, span=7)
    return backward([out], [qk, v], make)

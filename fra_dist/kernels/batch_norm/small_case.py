"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

import torch
from torch import Tensor

from fra_dist.kernels.batch_norm.api import batch_norm
from fra_dist.kernels.small_cases import Make, backward
from fra_dist.types import SINGLE


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Results and gradients on small inputs of `dtype`; in float64 the plain path says what is right."""
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    x, rest = (make(8, 24, 5, 5).contiguous(memory_format=torch.channels_last).requires_grad_() for _ in range(2))
    weight, bias = (make(24, dtype=exact, grad=True) for _ in range(2))
    out, mean, var = batch_norm(x, weight, bias, rest, cross=SINGLE, groups=2, relu=True)
    return [mean, var, *backward([out], [x, rest, weight, bias], make)]

"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

import torch
from torch import Tensor

from fra_dist.kernels.correspondence.api import correspondence
from fra_dist.kernels.small_cases import Make, backward


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Results and gradients on small inputs of `dtype`; in float64 the plain path says what is right."""
    queries, keys = (make(2, 63, 40).div(6).requires_grad_() for _ in range(2))
    rows, columns = make(2, 9, dtype=torch.float32).abs() * 4, make(2, 7, dtype=torch.float32).abs() * 4
    out = correspondence(queries, keys, rows, columns, spread=0.7, temperature=0.1)
    return backward([out], [queries, keys], make)

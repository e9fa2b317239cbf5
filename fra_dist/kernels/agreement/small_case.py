"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

import torch
from torch import Tensor

from fra_dist.kernels.agreement.api import agreement
from fra_dist.kernels.small_cases import Make, backward


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Results and gradients on small inputs of `dtype`; in float64 the plain path says what is right."""
    predictions = make(6, 5, 72, grad=True), make(6, 5, 72, grad=True)
    found = agreement(predictions, (make(6, 5, 72), make(6, 5, 72)), 0.7)
    return [*found[3:], *backward(list(found[:3]), list(predictions), make)]

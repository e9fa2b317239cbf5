"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

import torch
from torch import Tensor

from fra_dist.kernels.region_attention.api import region_attention
from fra_dist.kernels.small_cases import Make, backward


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Results and gradients on small inputs of `dtype`; in float64 the plain path says what is right."""
    features, pixels = make(3, 48, 9, 7, grad=True), make(3, 32, 9, 7, grad=True)
    prototypes = make(5, 32, grad=True)
    outputs = region_attention(features, pixels, prototypes, 0.3)
    return backward(list(outputs), [features, pixels, prototypes], make)

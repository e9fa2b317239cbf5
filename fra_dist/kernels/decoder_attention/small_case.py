"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

import torch
from torch import Tensor

from fra_dist.kernels.decoder_attention.api import decoder_attention
from fra_dist.kernels.small_cases import Make, backward


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Results and gradients on small inputs of `dtype`; in float64 the plain path says what is right."""
    queries, memory = make(3, 5, 64, grad=True), make(3, 30, 64, grad=True)
    code, weight, bias = make(30, 64), make(192, 64), make(192)
    weight = (weight.detach() / 8).requires_grad_()
    out = decoder_attention(queries, memory, code, weight, bias, 4)
    return backward([out], [queries, memory, weight], make)

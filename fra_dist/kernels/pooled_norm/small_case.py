"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

import torch
from torch import Tensor

from fra_dist.kernels.pooled_norm.api import pooled_norm
from fra_dist.kernels.small_cases import Make, backward
from fra_dist.types import SINGLE


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Results and gradients on small inputs of `dtype`; in float64 the plain path says what is right.

    Values that a window compares differ by more than rounding, so that a maximum lies in the same place in every dtype.
    """
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    x = far_apart(8, 24, 9, 7).to(make(1)).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = (make(24, dtype=exact, grad=True) for _ in range(2))
    return backward([pooled_norm(x, weight, bias, cross=SINGLE, groups=2)], [x, weight, bias], make)


def far_apart(*shape: int) -> Tensor:
    """Whole numbers from -8 to 7, of shape (N, C, H, W), that differ within each window of 3×3."""
    n, c, h, w = torch.meshgrid(*(torch.arange(size) for size in shape), indexing="ij")
    return (7 * h + 3 * w + 5 * c + 11 * n) % 16 - 8.0

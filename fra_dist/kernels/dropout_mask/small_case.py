"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

import torch
from torch import Tensor

from fra_dist.kernels.dropout_mask.api import dropout_mask
from fra_dist.kernels.small_cases import Make


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Return a dropout mask of (10, 3, 500) for five keys; `dtype` has no influence on it."""
    keys = torch.arange(-2, 3, device=make(1).device) * 0x1234567890ABCDEF
    return [dropout_mask(keys, torch.Size((10, 3, 500)), 7, 4, 0.3)]

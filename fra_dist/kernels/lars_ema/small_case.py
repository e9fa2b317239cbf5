"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

import torch
from torch import Tensor

from fra_dist.kernels.lars_ema.api import lars_ema
from fra_dist.kernels.small_cases import Make


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Results and gradients on small inputs of `dtype`; in float64 the plain path says what is right."""
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    shapes = ((33, 65), (70,), (4, 3, 3, 3))
    weights, velocities, targets = ([make(*shape, dtype=exact) for shape in shapes] for _ in range(3))
    gradients = [make(*shape) for shape in shapes]
    lars_ema(
        *(weights, gradients, velocities), weight_decay=[0.1, 0.0, 0.1], adapt=[True, False, True],
        lr=0.3, momentum=0.9, trust=0.5, targets=targets, target_momentum=0.9,
    )  # fmt: skip
    return [*weights, *velocities, *targets]

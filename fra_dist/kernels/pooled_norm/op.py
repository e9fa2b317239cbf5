"""The stem's Triton kernels as PyTorch operators, for PyTorch's own tools; `api.pooled_norm` puts them together."""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.memory_layout import laid_out_like
from fra_dist.kernels.operators import device_of, operator
from fra_dist.kernels.pooled_norm import launch


@operator("pooled_norm_pool")
def pool(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Operator for `launch.pool`: the pooled map, and where its maxima lie."""
    dispatch.launches["pooled_norm_pool"] += 1
    with device_of(x):
        return launch.pool(x, scale, shift)


@pool.register_fake
def _(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    shape = *x.shape[:2], (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
    pooled = x.new_empty(shape).contiguous(memory_format=torch.channels_last)
    return pooled, torch.empty_like(pooled, dtype=torch.uint8)


@operator("pooled_norm_sums")
def sums(given: Tensor, at: Tensor, x: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    """Operator for `launch.sums`: Σ g and Σ g x̂, (2, G, C) fp32."""
    dispatch.launches["pooled_norm_sums"] += 1
    with device_of(x):
        return launch.sums(laid_out_like(given, at), at, x, mean, inverse)


@sums.register_fake
def _(given: Tensor, at: Tensor, x: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    return mean.new_empty((2, *mean.shape))


@operator("pooled_norm_gradients")
def gradients(
    given: Tensor, at: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, factor: Tensor, level: Tensor, slope: Tensor
) -> Tensor:
    """Operator for `launch.gradients`: the gradient of x."""
    dispatch.launches["pooled_norm_gradients"] += 1
    with device_of(x):
        return launch.gradients(laid_out_like(given, at), at, x, mean, inverse, factor, level, slope)


@gradients.register_fake
def _(given: Tensor, at: Tensor, x: Tensor, *_rest: Tensor) -> Tensor:
    return torch.empty_like(x)

"""The end of a view by the Triton kernel, as a PyTorch operator for torch.compile."""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.operators import device_of, operator
from fra_dist.kernels.view_pixels import launch


@operator("view_pixels")
def finish(images: Tensor, numbers: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    """Operator for `launch.finish`: the views (N, 3, S, S)."""
    dispatch.launches["view_pixels"] += 1
    with device_of(images):
        return launch.finish(images.contiguous(), numbers.contiguous(), dtype, channels_last)


@finish.register_fake
def _(images: Tensor, numbers: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    count, n = images.shape[:2]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((count, 3, n, n), dtype=dtype, device=images.device, memory_format=layout)

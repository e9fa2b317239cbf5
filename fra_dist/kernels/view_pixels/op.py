"""The end of a view by the Triton kernel, as a PyTorch operator for torch.compile."""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.view_pixels import launch


def _finish(images: Tensor, numbers: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    dispatch.launches["view_pixels"] += 1
    with torch.cuda.device_of(images):
        return launch.finish(images.contiguous(), numbers.contiguous(), dtype, channels_last)


finish = torch.library.custom_op("fra_dist::view_pixels", _finish, mutates_args=())


@finish.register_fake
def _(images: Tensor, numbers: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    count, n = images.shape[:2]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((count, 3, n, n), dtype=dtype, device=images.device, memory_format=layout)


def fused(images: Tensor, numbers: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    """The kernel: through the operator while torch.compile traces, otherwise by its body directly."""
    return (finish if torch.compiler.is_compiling() else _finish)(images, numbers, dtype, channels_last)

"""Launches the Triton kernel that finishes views."""

import torch
from torch import Tensor

from fra_dist.kernels.launcher import launch as _launch
from fra_dist.kernels.view_pixels import triton as kernels

SETTINGS = {"PIXELS": 1024, "LINES": 16, "ACROSS": 128, "num_warps": 8, "enable_fp_fusion": False}
"""Pixels at a time for the colours; lines and places in them for blur and result, 8 for each thread."""


def finish(images: Tensor, numbers: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    """Views (B, 3, n, n) by the kernel, from images (B, n, n, 3) uint8 and rows of numbers, both contiguous."""
    count, n = images.shape[:2]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty((count, 3, n, n), dtype=dtype, device=images.device, memory_format=layout)
    if count:
        levels = torch.empty_like(images)
        rows = torch.empty(images.shape, dtype=torch.float32, device=images.device)
        settings = {**SETTINGS, "CHANNELS_LAST": channels_last}
        _launch(kernels.view_kernel, (count,), settings, images, numbers, levels, rows, out, n, numbers.shape[1])
    return out

"""Launches the Triton kernel of dropout's masks."""

import torch
from torch import Tensor

from fra_dist.kernels.dropout_mask import triton as kernels
from fra_dist.kernels.launcher import cdiv
from fra_dist.kernels.launcher import launch as _launch

BLOCK = 1024
"""Elements that a program owns: 8 per thread."""


def mask(keys: Tensor, shape: list[int], call: int, span: int, threshold: int) -> Tensor:
    """The mask of what is kept, (V B, ...) bool and contiguous, by the kernel; threshold is p 2⁵³."""
    keep = torch.empty(shape, dtype=torch.bool, device=keys.device)
    elements = keep.numel() // max(shape[0], 1)
    if keep.numel():
        arguments = (keys, keep.view(torch.uint8), call, span, threshold, len(keys), elements)
        grid = (shape[0] * cdiv(elements, BLOCK),)
        _launch(kernels.mask_kernel, grid, {"BLOCK": BLOCK, "num_warps": 4}, *arguments)
    return keep

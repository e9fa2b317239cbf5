"""Launches the kernel of `triton`."""

from typing import Any

import torch
import triton
from torch import Tensor

from fra_dist.kernels.dropout_mask import triton as kernels

BLOCK = 1024
"""Elements of a program: 8 a thread."""


def mask(keys: Tensor, shape: list[int], call: int, span: int, threshold: int) -> Tensor:
    """(V B, ...) bool, contiguous."""
    keep = torch.empty(shape, dtype=torch.bool, device=keys.device)
    elements = keep.numel() // max(shape[0], 1)
    if keep.numel():
        arguments = (keys, keep.view(torch.uint8), call, span, threshold, len(keys), elements)
        grid = (shape[0] * triton.cdiv(elements, BLOCK),)
        _launch(kernels.mask_kernel, grid, {"BLOCK": BLOCK, "num_warps": 4}, *arguments)
    return keep


def _launch(kernel: Any, grid: tuple[int, ...], settings: dict[str, Any], *arguments: Any) -> None:
    kernel[grid](*arguments, **settings)

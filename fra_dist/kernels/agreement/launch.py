"""Launches the Triton kernels of the agreement: tile sizes, grids and buffers. Tensors are contiguous."""

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from fra_dist.kernels.agreement import triton as kernels
from fra_dist.kernels.dispatch import interpreted
from fra_dist.kernels.launcher import cdiv, next_power_of_2
from fra_dist.kernels.launcher import launch as _launch

WIDTH, NARROW = (64, 4), (32, 8)
"""Columns of the vectors in a tile, and warps; NARROW for more than 32 regions in fp32, which would spill."""
IMAGES = 128
"""Images that are added up at a time in the last sums."""


def forward_outputs(first: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Unfilled tensors for the six numbers of `api.Agreement`, the cosines and the inverse norms."""
    batch, count, _ = first.shape
    both, one, two, apart, apart1, apart2 = (first.new_empty((), dtype=torch.float32) for _ in range(6))
    cosines = first.new_empty((2, batch, count, count), dtype=torch.float32)
    return both, one, two, apart, apart1, apart2, cosines, first.new_empty((2, 2, batch, count), dtype=torch.float32)


def forward(
    first: Tensor, second: Tensor, target1: Tensor, target2: Tensor, weight: float,
    both: Tensor, one: Tensor, two: Tensor, apart: Tensor, apart1: Tensor, apart2: Tensor,
    cosines: Tensor, scales: Tensor,
) -> None:  # fmt: skip
    """Fill the tensors of `forward_outputs`. Needs at least one image, region and column, and at most 64 regions."""
    batch, count, depth = first.shape
    partial = cosines.new_empty((2, 2, batch))
    arguments = (first, second, target1, target2, cosines, scales, partial, batch, depth)
    _launch(kernels.cosines_kernel, (batch, 2), _settings(first, target1), *arguments)
    settings = {"BLOCK": IMAGES, "num_warps": 4}
    numbers = (both, one, two, apart, apart1, apart2)
    means = 1 / (batch * count), 1 / (batch * count * count)
    _launch(kernels.finish_kernel, 1, settings, partial, *numbers, weight, *means, batch)


def backward(
    d_first: Tensor, d_second: Tensor, first: Tensor, second: Tensor, target1: Tensor, target2: Tensor,
    cosines: Tensor, scales: Tensor, weight: float, gradient1: Tensor, gradient2: Tensor,
) -> None:  # fmt: skip
    """Fill the gradients of the predictions, from those of the two terms, 0-dim each."""
    batch, count, depth = first.shape
    same, other = -2 / (batch * count), 2 * weight / (batch * count * count)
    tensors = (d_first, d_second, first, second, target1, target2, cosines, scales, gradient1, gradient2)
    settings = _settings(first, target1)
    grid = (batch, 2, cdiv(depth, settings["BD"]))
    _launch(kernels.gradient_kernel, grid, settings, *tensors, same, other, batch, depth)


def _settings(prediction: Tensor, target: Tensor) -> dict[str, Any]:
    """Compile-time arguments. fp16 is multiplied as fp32 is, in three TF32 products, and so is a mix."""
    count = prediction.shape[1]
    half = prediction.dtype == target.dtype == torch.bfloat16 and not interpreted()
    padded = max(16, next_power_of_2(count))
    width, warps = NARROW if padded > 32 and not half else WIDTH
    return {"Q": count, "QP": padded, "BD": width, "HALF": tl.bfloat16 if half else None, "num_warps": warps}

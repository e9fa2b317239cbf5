"""Launches the Triton kernels of the agreement: tile sizes, grids and buffers. Tensors are contiguous."""

from collections.abc import Sequence
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


def forward(vectors: Sequence[Tensor], weight: float, outputs: Sequence[Tensor]) -> None:
    """Fill the tensors of `forward_outputs`; vectors: both predictions, both targets.

    Needs at least one image, region and column, and at most 64 regions.
    """
    batch, count, depth = vectors[0].shape
    *numbers, cosines, scales = outputs
    partial = cosines.new_empty((2, 2, batch))
    settings = _settings(vectors)
    _launch(kernels.cosines_kernel, (batch, 2), settings, *vectors, cosines, scales, partial, batch, depth)
    settings = {"BLOCK": IMAGES, "num_warps": 4}
    means = 1 / (batch * count), 1 / (batch * count * count)
    _launch(kernels.finish_kernel, 1, settings, partial, *numbers, weight, *means, batch)


def backward(
    given: Sequence[Tensor], vectors: Sequence[Tensor], cosines: Tensor, scales: Tensor, weight: float,
    gradients: Sequence[Tensor],
) -> None:  # fmt: skip
    """Fill the gradients of the predictions from `given`, those of the two terms, 0-dim each."""
    batch, count, depth = vectors[0].shape
    factors = -2 / (batch * count), 2 * weight / (batch * count * count)
    settings = _settings(vectors)
    grid = (batch, 2, cdiv(depth, settings["BD"]))
    tensors = (*given, *vectors, cosines, scales, *gradients)
    _launch(kernels.gradient_kernel, grid, settings, *tensors, *factors, batch, depth)


def _settings(vectors: Sequence[Tensor]) -> dict[str, Any]:
    """Compile-time arguments. fp16 is multiplied as fp32 is, in three TF32 products, and so is a mix."""
    count = vectors[0].shape[1]
    half = {x.dtype for x in vectors} == {torch.bfloat16} and not interpreted()
    padded = max(16, next_power_of_2(count))
    width, warps = NARROW if padded > 32 and not half else WIDTH
    return {"Q": count, "QP": padded, "BD": width, "HALF": tl.bfloat16 if half else None, "num_warps": warps}

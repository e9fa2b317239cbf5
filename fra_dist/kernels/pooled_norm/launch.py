"""Launches the Triton kernels of the stem: tile sizes, grids and partial sums."""

from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels.launcher import cdiv, next_power_of_2
from fra_dist.kernels.launcher import launch as _launch
from fra_dist.kernels.pooled_norm import triton as kernels

TILE = 2048
"""Values of a tile: 16 a thread of 4 warps."""
MOST_SPLITS = 512
"""The largest number of parts that a group's rows are split into: a constant, as in `kernels/batch_norm/`."""


def pool(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The pooled map (N, C, ⌈H/2⌉, ⌈W/2⌉), channels-last, and where its maxima lie, uint8 of its shape and layout."""
    batch, channels, height, width = x.shape
    shape = batch, channels, cdiv(height, 2), cdiv(width, 2)
    pooled, at = (
        torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)
        for dtype in (x.dtype, torch.uint8)
    )
    rows = batch // len(scale) * shape[2] * shape[3]
    settings = _shape(channels)
    arguments = (x, scale, shift, pooled, at, height, width, *shape[2:], channels, rows)
    _launch(kernels.pool_kernel, _tiles(rows, channels, len(scale), settings), settings, *arguments)
    return pooled, at


def sums(given: Tensor, at: Tensor, x: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    """Σ g and Σ g x̂ over this rank's values, (2, G, C) fp32; given: the gradient of the pooled map."""
    groups, channels = mean.shape
    settings, rows = _shape(channels), len(x) // groups * x.shape[2] * x.shape[3]
    length = cdiv(cdiv(rows, settings["BR"]), MOST_SPLITS) * settings["BR"]
    splits = cdiv(rows, length)
    partial = x.new_empty((splits, 2, groups, channels), dtype=torch.float32)
    numbers = (*x.shape[2:], *at.shape[2:], rows, channels, groups, splits, length)
    grid = (groups * cdiv(channels, settings["BC"]), splits)
    _launch(kernels.sums_kernel, grid, settings, given, at, x, mean, inverse, partial, *numbers)
    return partial.sum(dim=0)


def gradients(
    given: Tensor, at: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, factor: Tensor, level: Tensor, slope: Tensor
) -> Tensor:
    """The gradient of x, in its layout, from that of the pooled map."""
    groups, channels = mean.shape
    dx, settings = torch.empty_like(x), _shape(channels)
    rows = len(x) // groups * x.shape[2] * x.shape[3]
    arguments = (given, at, x, mean, inverse, factor, level, slope, dx, *x.shape[2:], *at.shape[2:], rows, channels)
    _launch(kernels.gradients_kernel, _tiles(rows, channels, groups, settings), settings, *arguments)
    return dx


def _shape(channels: int) -> dict[str, Any]:
    width = min(64, max(16, next_power_of_2(channels)))
    return {"BR": TILE // width, "BC": width, "num_warps": 4}


def _tiles(rows: int, channels: int, groups: int, settings: dict[str, Any]) -> tuple[int, int]:
    return cdiv(rows, settings["BR"]) * cdiv(channels, settings["BC"]), groups

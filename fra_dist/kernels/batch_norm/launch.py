"""Launches the Triton kernels of batch norm: tile sizes, grids and partial sums."""

from typing import Any

import torch
import triton
from torch import Tensor

from fra_dist.kernels.batch_norm import triton as kernels

TILE = 4096
"""Values of a tile: 32 a thread of 4 warps, so a bf16 tile is read 16 bytes at a time, four times."""
MOST_SPLITS = 256
"""The largest number of parts that a group's rows are split into.

A constant, so the order of the sums is the same on every GPU.
"""
COLLECTED = 16
"""Channels whose partial sums one program adds up: 128 bytes of float64."""
BLOCK = 128


def moments(x: Tensor, groups: int) -> Tensor:
    """Mean and mean square of this rank's values, (2, G, C) float64, by the kernel."""
    partial, rows = _partial_moments(x, groups)
    splits, channels = partial.shape[0], x.shape[1]
    result = x.new_empty((2, groups, channels), dtype=torch.float64)
    settings = {"SP": triton.next_power_of_2(splits), "BC": COLLECTED, "num_warps": 4}
    grid = (groups * triton.cdiv(channels, COLLECTED), 1)
    _launch(kernels.collect_kernel, grid, settings, x, partial, result, rows, channels, groups, splits)
    return result


def settle(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, running: tuple[Tensor, Tensor, Tensor] | None,
    momentum: float,
) -> Tensor:  # fmt: skip
    """`moments`, `finish` and, with `running` (mean, variance, number of statistics), `follow` on one rank, by two
    kernel launches: (5, G, C) fp32 as `finish` returns it."""
    partial, rows = _partial_moments(x, groups)
    splits, channels = partial.shape[0], x.shape[1]
    result = partial.new_empty((5, groups, channels))
    settings = {"G": groups, "SP": triton.next_power_of_2(splits), "BC": COLLECTED, "FOLLOW": running is not None}
    kept = (result, result, result) if running is None else running
    numbers = (eps, momentum, rows / max(rows - 1, 1), rows, channels, splits)
    arguments = (x, partial, weight, bias, result, *kept, *numbers)
    _launch(kernels.settle_kernel, (triton.cdiv(channels, COLLECTED), 1), settings | {"num_warps": 4}, *arguments)
    return result


def finish(moments: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Mean, variance, its inverse root, scale and shift of each group and channel, (5, G, C) fp32, by the kernel."""
    _, groups, channels = moments.shape
    result = moments.new_empty((5, groups, channels), dtype=torch.float32)
    number = groups * channels
    arguments = (moments, weight, bias, result, eps, channels, number)
    _launch(kernels.finish_kernel, (triton.cdiv(number, BLOCK), 1), {"BLOCK": BLOCK, "num_warps": 4}, *arguments)
    return result


def follow(
    running_mean: Tensor, running_var: Tensor, tracked: Tensor, mean: Tensor, var: Tensor, momentum: float,
    correction: float,
) -> None:  # fmt: skip
    """Update the running statistics in place by one kernel launch; correction is n/(n − 1),
    for the unbiased variance."""
    groups, channels = mean.shape
    arguments = (running_mean, running_var, tracked, mean, var, momentum, correction, channels)
    settings = {"G": groups, "BLOCK": BLOCK, "num_warps": 4}
    _launch(kernels.follow_kernel, (triton.cdiv(channels, BLOCK), 1), settings, *arguments)


def transform(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """The normalised map scale x + shift (+ residual), rectified if `relu`, in the layout of x, by the kernel."""
    rows, channels, settings = _shape(x, len(scale))
    y = torch.empty_like(x)
    settings |= {"ADD": residual is not None, "RELU": relu}
    arguments = (x, scale, shift, x if residual is None else residual, y, rows, channels)
    _launch(kernels.transform_kernel, _tiles(rows, channels, len(scale), settings), settings, *arguments)
    return y


def sums(dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor) -> Tensor:
    """The two sums of the backward pass over this rank's values, Σ g and Σ g x̂: (2, G, C) fp32."""
    return _partial_sums(dy, x, y, mean, inverse)[0].sum(dim=0)


def settle_sums(dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """What `sums` is for on one rank, by two kernel launches: means of g and g x̂, (2, G, C), and their sums over all
    groups, (2, C), the gradients of bias and weight; fp32."""
    partial, rows = _partial_sums(dy, x, y, mean, inverse)
    splits, _, groups, channels = partial.shape
    means, totals = partial.new_empty((2, groups, channels)), partial.new_empty((2, channels))
    settings = {"G": groups, "SP": triton.next_power_of_2(splits), "BC": COLLECTED, "num_warps": 4}
    arguments = (partial, means, totals, rows, channels, splits)
    _launch(kernels.settle_sums_kernel, (triton.cdiv(channels, COLLECTED), 1), settings, *arguments)
    return means, totals


def _partial_moments(x: Tensor, groups: int) -> tuple[Tensor, int]:
    """Sums of x − k and (x − k)² of each part of the rows, (splits, 2, G, C) fp32, and the rows of a group."""
    rows, channels, settings = _shape(x, groups)
    splits, length = _splits(rows, settings["BR"])
    partial = x.new_empty((splits, 2, groups, channels), dtype=torch.float32)
    grid = (groups * triton.cdiv(channels, settings["BC"]), splits)
    _launch(kernels.moments_kernel, grid, settings, x, partial, rows, channels, groups, splits, length)
    return partial, rows


def _partial_sums(dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor) -> tuple[Tensor, int]:
    """Σ g and Σ g x̂ of each part of the rows, (splits, 2, G, C) fp32, and the rows of a group."""
    groups = len(mean)
    rows, channels, settings = _shape(x, groups)
    splits, length = _splits(rows, settings["BR"])
    settings["RELU"] = y is not None
    partial = mean.new_empty((splits, 2, groups, channels))
    grid = (groups * triton.cdiv(channels, settings["BC"]), splits)
    arguments = (dy, x, x if y is None else y, mean, inverse, partial, rows, channels, groups, splits, length)
    _launch(kernels.sums_kernel, grid, settings, *arguments)
    return partial, rows


def gradients(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, factor: Tensor, level: Tensor,
    slope: Tensor, with_residual: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradient of x and the gradient of the residual, which is an empty tensor without a residual."""
    rows, channels, settings = _shape(x, len(mean))
    dx = torch.empty_like(x)
    d_residual = torch.empty_like(x) if with_residual else x.new_empty(0)
    settings |= {"ADD": with_residual, "RELU": y is not None}
    arguments = (dy, x, x if y is None else y, mean, inverse, factor, level, slope, dx, d_residual, rows, channels)
    _launch(kernels.gradients_kernel, _tiles(rows, channels, len(mean), settings), settings, *arguments)
    return dx, d_residual


def _shape(x: Tensor, groups: int) -> tuple[int, int, dict[str, Any]]:
    """Rows of a group, channels, and the tile's shape."""
    channels = x.shape[1]
    width = min(64, max(16, triton.next_power_of_2(channels)))
    return x.numel() // channels // groups, channels, {"BR": TILE // width, "BC": width, "num_warps": 4}


def _splits(rows: int, tile: int) -> tuple[int, int]:
    """Parts, and rows of each, a whole number of tiles."""
    tiles = triton.cdiv(rows, tile)
    length = triton.cdiv(tiles, MOST_SPLITS) * tile
    return triton.cdiv(rows, length), length


def _tiles(rows: int, channels: int, groups: int, settings: dict[str, Any]) -> tuple[int, int]:
    return triton.cdiv(rows, settings["BR"]) * triton.cdiv(channels, settings["BC"]), groups


def _launch(kernel: Any, grid: tuple[int, int], settings: dict[str, Any], *arguments: Any) -> None:
    kernel[grid](*arguments, **settings)

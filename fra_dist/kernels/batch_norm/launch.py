"""Launches the Triton kernels of batch norm: tile sizes, grids and partial sums."""

from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels.batch_norm import triton as kernels
from fra_dist.kernels.launcher import cdiv, next_power_of_2
from fra_dist.kernels.launcher import launch as _launch

TILE = 4096
"""Values of a tile: 32 a thread of 4 warps, so a bf16 tile is read 16 bytes at a time, four times."""
REDUCED_TILE = 2048
"""Values of a tile of the reducing kernels, which keep two sums of each in registers."""
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
    settings = {"SP": next_power_of_2(splits), "BC": COLLECTED, "num_warps": 4}
    grid = (groups * cdiv(channels, COLLECTED), 1)
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
    settings = {"G": groups, "SP": next_power_of_2(splits), "BC": COLLECTED, "FOLLOW": running is not None}
    kept = (result, result, result) if running is None else running
    numbers = (eps, momentum, rows / max(rows - 1, 1), rows, channels, splits)
    arguments = (x, partial, weight, bias, result, *kept, *numbers)
    _launch(kernels.settle_kernel, (cdiv(channels, COLLECTED), 1), settings | {"num_warps": 4}, *arguments)
    return result


def finish(moments: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Mean, variance, its inverse root, scale and shift of each group and channel, (5, G, C) fp32, by the kernel."""
    _, groups, channels = moments.shape
    result = moments.new_empty((5, groups, channels), dtype=torch.float32)
    number = groups * channels
    arguments = (moments, weight, bias, result, eps, channels, number)
    _launch(kernels.finish_kernel, (cdiv(number, BLOCK), 1), {"BLOCK": BLOCK, "num_warps": 4}, *arguments)
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
    _launch(kernels.follow_kernel, (cdiv(channels, BLOCK), 1), settings, *arguments)


def transform(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """The normalised map scale x + shift (+ residual), rectified if `relu`, in the layout of x, by the kernel."""
    rows, channels, settings = _shape(x, len(scale))
    y = torch.empty_like(x)
    settings |= {"ADD": residual is not None, "RELU": relu}
    arguments = (x, scale, shift, x if residual is None else residual, y, rows, channels)
    _launch(kernels.transform_kernel, _tiles(rows, channels, len(scale), settings), settings, *arguments)
    return y


def sums(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor, shift: Tensor | None
) -> Tensor:
    """The two sums of the backward pass over this rank's values, Σ g and Σ g x̂: (2, G, C) fp32.

    g is dy where y is positive; if y is None, where scale x + shift is; and everywhere without either.
    """
    return _partial_sums(dy, x, y, mean, inverse, scale, shift)[0].sum(dim=0)


def settle_sums(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor, shift: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What `sums` is for on one rank, by two kernel launches: means of g and g x̂, (2, G, C), and their sums over all
    groups, (2, C), the gradients of bias and weight; fp32."""
    partial, rows = _partial_sums(dy, x, y, mean, inverse, scale, shift)
    splits, _, groups, channels = partial.shape
    means, totals = partial.new_empty((2, groups, channels)), partial.new_empty((2, channels))
    settings = {"G": groups, "SP": next_power_of_2(splits), "BC": COLLECTED, "num_warps": 4}
    arguments = (partial, means, totals, rows, channels, splits)
    _launch(kernels.settle_sums_kernel, (cdiv(channels, COLLECTED), 1), settings, *arguments)
    return means, totals


def _partial_moments(x: Tensor, groups: int) -> tuple[Tensor, int]:
    """Sums of x − k and (x − k)² of each part of the rows, (splits, 2, G, C) fp32, and the rows of a group."""
    rows, channels, settings = _shape(x, groups, REDUCED_TILE)
    splits, length = _splits(rows, settings["BR"])
    partial = x.new_empty((splits, 2, groups, channels), dtype=torch.float32)
    grid = (groups * cdiv(channels, settings["BC"]), splits)
    _launch(kernels.moments_kernel, grid, settings, x, partial, rows, channels, groups, splits, length)
    return partial, rows


def _partial_sums(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor, shift: Tensor | None
) -> tuple[Tensor, int]:
    """Σ g and Σ g x̂ of each part of the rows, (splits, 2, G, C) fp32, and the rows of a group."""
    groups = len(mean)
    rows, channels, settings = _shape(x, groups, REDUCED_TILE)
    splits, length = _splits(rows, settings["BR"])
    settings["MASK"] = _mask(y, shift)
    partial = mean.new_empty((splits, 2, groups, channels))
    grid = (groups * cdiv(channels, settings["BC"]), splits)
    given = (dy, x, x if y is None else y, mean, inverse, scale, scale if shift is None else shift)
    _launch(kernels.sums_kernel, grid, settings, *given, partial, rows, channels, groups, splits, length)
    return partial, rows


def gradients(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, factor: Tensor, shift: Tensor | None,
    level: Tensor, slope: Tensor, with_residual: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradient of x and the gradient of the residual, which is an empty tensor without a residual.

    y and shift: see `sums`, whose scale is `factor` here.
    """
    rows, channels, settings = _shape(x, len(mean))
    dx = torch.empty_like(x)
    d_residual = torch.empty_like(x) if with_residual else x.new_empty(0)
    settings |= {"ADD": with_residual, "MASK": _mask(y, shift)}
    given = (dy, x, x if y is None else y, mean, inverse, factor, factor if shift is None else shift, level, slope)
    grid = _tiles(rows, channels, len(mean), settings)
    _launch(kernels.gradients_kernel, grid, settings, *given, dx, d_residual, rows, channels)
    return dx, d_residual


def _mask(y: Tensor | None, shift: Tensor | None) -> int:
    if y is not None:
        return kernels.FROM_OUTPUT.value
    return kernels.EVERYWHERE.value if shift is None else kernels.FROM_INPUT.value


def _shape(x: Tensor, groups: int, tile: int = TILE) -> tuple[int, int, dict[str, Any]]:
    """Rows of a group, channels, and the tile's shape."""
    channels = x.shape[1]
    width = min(64, max(16, next_power_of_2(channels)))
    return x.numel() // channels // groups, channels, {"BR": tile // width, "BC": width, "num_warps": 4}


def _splits(rows: int, tile: int) -> tuple[int, int]:
    """Parts, and rows of each, a whole number of tiles."""
    tiles = cdiv(rows, tile)
    length = cdiv(tiles, MOST_SPLITS) * tile
    return cdiv(rows, length), length


def _tiles(rows: int, channels: int, groups: int, settings: dict[str, Any]) -> tuple[int, int]:
    return cdiv(rows, settings["BR"]) * cdiv(channels, settings["BC"]), groups

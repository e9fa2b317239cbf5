"""Launches the Triton kernels of batch norm: tile sizes, grids and partial sums."""

from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels.batch_norm import triton as kernels
from fra_dist.kernels.launcher import Launch, cdiv, next_power_of_2

TILE = 4096
"""Values of a tile: 32 a thread of 4 warps, so a bf16 tile is read 16 bytes at a time, four times."""
REDUCED_TILE = 2048
"""Values of a tile of the reducing kernels, which keep two sums of each in registers."""
WIDTH = 64
"""Channels of a tile, if there are so many."""
PROGRAMS = 1024
"""Programs of a reducing kernel: some eight for each of an H100's processors.

Like the next two a constant, so the order of the sums is the same on every GPU.
"""
LEAST_SPLITS, MOST_SPLITS = 16, 256
"""Parts that a group's rows are split into, at most, for many channels and for few."""
PARTS = 16
"""Parts whose sums are read at once, where the last program adds them up: it needs no more registers than before."""
COLLECTED = 16
"""Channels whose partial sums one program adds up: 128 bytes of float64."""
BLOCK = 128
Running = tuple[Tensor, Tensor, Tensor]
"""Running mean, running variance, and how many statistics were followed."""


def moments(x: Tensor, groups: int) -> Tensor:
    """Mean and mean square of this rank's values, (2, G, C) float64, by the kernel."""
    partial = room_for_sums(x, groups)
    rows, channels, splits = _rows(x, groups), x.shape[1], len(partial)
    moments_launch(x, partial)()
    result = x.new_empty((2, groups, channels), dtype=torch.float64)
    settings = {"SP": next_power_of_2(splits), "BC": COLLECTED, "num_warps": 4}
    grid = (groups * cdiv(channels, COLLECTED), 1)
    numbers = (rows, channels, groups, splits)
    Launch(kernels.collect_kernel, grid, settings, (x, partial, result), numbers)()
    return result


def finish(moments: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Mean, variance, its inverse root, scale and shift of each group and channel, (5, G, C) fp32, by the kernel."""
    _, groups, channels = moments.shape
    result = moments.new_empty((5, groups, channels), dtype=torch.float32)
    number = groups * channels
    settings, tensors = {"BLOCK": BLOCK, "num_warps": 4}, (moments, weight, bias, result)
    Launch(kernels.finish_kernel, (cdiv(number, BLOCK), 1), settings, tensors, (eps, channels, number))()
    return result


def follow(
    running_mean: Tensor, running_var: Tensor, tracked: Tensor, mean: Tensor, var: Tensor, momentum: float,
    correction: float,
) -> None:  # fmt: skip
    """Update the running statistics in place by one kernel launch; correction is n/(n − 1),
    for the unbiased variance."""
    groups, channels = mean.shape
    settings, tensors = {"G": groups, "BLOCK": BLOCK, "num_warps": 4}, (running_mean, running_var, tracked, mean, var)
    numbers = (momentum, correction, channels)
    Launch(kernels.follow_kernel, (cdiv(channels, BLOCK), 1), settings, tensors, numbers)()


def transform(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """The normalised map scale x + shift (+ residual), rectified if `relu`, in the layout of x, by the kernel."""
    y = torch.empty_like(x)
    transform_launch(x, scale, shift, residual, y, relu)()
    return y


def sums(
    dy: Tensor, more: Tensor | None, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor,
    shift: Tensor | None, rebuild: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The two sums of the backward pass over this rank's values, Σ g and Σ g x̂: (2, G, C) fp32; and g, if y is given.

    The gradient of y is dy, or dy + more, rounded to their type. g is it where y is positive; if y is None, where
    scale x + shift is; and everywhere without either. Without y an empty tensor takes the place of g, or y itself, if
    `rebuild` asks for it.
    """
    partial = room_for_sums(x, len(mean))
    out = torch.empty_like(x) if rebuild or y is not None else x.new_empty(0)
    sums_launch(dy, more, x, y, mean, inverse, scale, shift, partial, out, rebuild=rebuild)()
    return partial.sum(dim=0), out


def gradients(
    g: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, factor: Tensor, shift: Tensor | None, level: Tensor,
    slope: Tensor,
) -> Tensor:  # fmt: skip
    """The gradient of x, from g; if shift is given, from the gradient of y, which counts where factor x + shift > 0."""
    dx = torch.empty_like(x)
    gradients_launch(g, x, mean, inverse, factor, shift, level, slope, dx)()
    return dx


def room_for_sums(x: Tensor, groups: int) -> Tensor:
    """Room for two sums of each part of the rows, (splits, 2, G, C) fp32."""
    rows, channels, settings = _shape(x, groups, REDUCED_TILE)
    splits, _ = _splits(rows, settings["BR"], _most_splits(channels, groups))
    return x.new_empty((splits, 2, groups, channels), dtype=torch.float32)


def moments_launch(x: Tensor, partial: Tensor) -> Launch:
    """Sums of x − k and (x − k)² of each part of the rows."""
    splits, _, groups, _ = partial.shape
    rows, channels, settings = _shape(x, groups, REDUCED_TILE)
    grid = (groups * cdiv(channels, settings["BC"]), splits)
    numbers = (rows, channels, groups, *_splits(rows, settings["BR"], _most_splits(channels, groups)))
    return Launch(kernels.moments_kernel, grid, settings, (x, partial), numbers)


def statistics_launch(
    x: Tensor, partial: Tensor, weight: Tensor, bias: Tensor, result: Tensor, running: Running | None,
    arrived: Tensor, eps: float, momentum: float,
) -> Launch:  # fmt: skip
    """`result` (5, G, C) as `finish` gives it for one rank, and the running statistics follow; arrived: `arrivals`."""
    splits, _, groups, _ = partial.shape
    rows, channels, settings = _shape(x, groups, REDUCED_TILE)
    length = _splits(rows, settings["BR"], _most_splits(channels, groups))[1]
    grid = (groups * cdiv(channels, settings["BC"]), splits)
    settings |= {"G": groups, "PARTS": _at_once(splits), "FOLLOW": running is not None}
    kept = (result, result, result) if running is None else running
    numbers = (eps, momentum, rows / max(rows - 1, 1), rows, channels, splits, length)
    tensors = (x, partial, weight, bias, result, *kept, arrived)
    return Launch(kernels.statistics_kernel, grid, settings, tensors, numbers)


def transform_launch(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, y: Tensor, relu: bool) -> Launch:
    """The normalised map, into y."""
    rows, channels, settings = _shape(x, len(scale))
    settings |= {"ADD": residual is not None, "RELU": relu}
    tensors = (x, scale, shift, x if residual is None else residual, y)
    grid = _tiles(rows, channels, len(scale), settings)
    return Launch(kernels.transform_kernel, grid, settings, tensors, (rows, channels))


def sums_launch(
    dy: Tensor, more: Tensor | None, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor,
    shift: Tensor | None, partial: Tensor, out: Tensor, *, rebuild: bool = False,
) -> Launch:  # fmt: skip
    """Σ g and Σ g x̂ of each part of the rows, into `partial`; g, if y is given, or y again, into `out`. See `sums`."""
    given = _given(dy, more, x, y, mean, inverse, scale, shift, partial, out, rebuild)
    grid, settings, tensors, (rows, channels, groups, splits, length) = given
    return Launch(kernels.sums_kernel, grid, settings, tensors, (rows, channels, groups, splits, length))


def means_launch(
    dy: Tensor, more: Tensor | None, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor,
    shift: Tensor | None, partial: Tensor, out: Tensor, means: Tensor, totals: Tensor, arrived: Tensor, *,
    rebuild: bool = False,
) -> Launch:  # fmt: skip
    """`sums_launch` for one rank, and of its sums the means (2, G, C) and totals (2, C); arrived: `arrivals`."""
    given = _given(dy, more, x, y, mean, inverse, scale, shift, partial, out, rebuild)
    grid, settings, tensors, (rows, channels, groups, splits, length) = given
    settings |= {"G": groups, "PARTS": _at_once(splits)}
    numbers = (rows, channels, splits, length)
    return Launch(kernels.means_kernel, grid, settings, (*tensors, means, totals, arrived), numbers)


def _given(
    dy: Tensor, more: Tensor | None, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor,
    shift: Tensor | None, partial: Tensor, out: Tensor, rebuild: bool,
) -> tuple[tuple[int, int], dict[str, Any], tuple[Tensor, ...], tuple[int, ...]]:  # fmt: skip
    """Grid, settings, tensors and numbers of a kernel that adds up gradients."""
    splits, _, groups, _ = partial.shape
    rows, channels, settings = _shape(x, groups, REDUCED_TILE)
    length = _splits(rows, settings["BR"], _most_splits(channels, groups))[1]
    grid = (groups * cdiv(channels, settings["BC"]), splits)
    settings |= {"MASK": _mask(y, shift), "ADD": more is not None, "REBUILD": rebuild}
    maps = (dy, dy if more is None else more, x, x if y is None else y)
    written = out if rebuild or y is not None else dy
    tensors = (*maps, mean, inverse, scale, scale if shift is None else shift, partial, written)
    return grid, settings, tensors, (rows, channels, groups, splits, length)


def gradients_launch(
    g: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, factor: Tensor, shift: Tensor | None, level: Tensor,
    slope: Tensor, dx: Tensor,
) -> Launch:  # fmt: skip
    """The gradient of x, into dx. See `gradients`."""
    rows, channels, settings = _shape(x, len(mean))
    settings["MASK"] = _mask(None, shift)
    grid = _tiles(rows, channels, len(mean), settings)
    tensors = (g, x, mean, inverse, factor, factor if shift is None else shift, level, slope, dx)
    return Launch(kernels.gradients_kernel, grid, settings, tensors, (rows, channels))


def _mask(y: Tensor | None, shift: Tensor | None) -> int:
    if y is not None:
        return kernels.FROM_OUTPUT.value
    return kernels.EVERYWHERE.value if shift is None else kernels.FROM_INPUT.value


def _rows(x: Tensor, groups: int) -> int:
    """Of a group."""
    return x.numel() // x.shape[1] // groups


def _shape(x: Tensor, groups: int, tile: int = TILE) -> tuple[int, int, dict[str, Any]]:
    """Rows of a group, channels, and the tile's shape."""
    channels = x.shape[1]
    width = min(WIDTH, max(16, next_power_of_2(channels)))
    return _rows(x, groups), channels, {"BR": tile // width, "BC": width, "num_warps": 4}


def _splits(rows: int, tile: int, most: int) -> tuple[int, int]:
    """Parts, and rows of each, a whole number of tiles."""
    tiles = cdiv(rows, tile)
    length = cdiv(tiles, most) * tile
    return cdiv(rows, length), length


def _most_splits(channels: int, groups: int) -> int:
    """The largest number of parts of a group's rows: with the blocks of channels and the groups, PROGRAMS or so."""
    return min(MOST_SPLITS, max(LEAST_SPLITS, PROGRAMS // (groups * cdiv(channels, WIDTH))))


def _at_once(splits: int) -> int:
    """Parts whose sums a program reads at once."""
    return min(PARTS, next_power_of_2(splits))


def _tiles(rows: int, channels: int, groups: int, settings: dict[str, Any]) -> tuple[int, int]:
    return cdiv(rows, settings["BR"]) * cdiv(channels, settings["BC"]), groups

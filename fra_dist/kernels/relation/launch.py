"""Launches the Triton kernels of the semantic relation: tile sizes, grids and partial results.

Tensors are contiguous.
"""

from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels.launcher import cdiv, next_power_of_2
from fra_dist.kernels.launcher import launch as _launch
from fra_dist.kernels.relation import triton as kernels

TILE = 1024
"""Similarities in a tile, of all regions together."""
MOST_SPLITS = 128
"""The largest number of parts that a view's pixels are split into.

A constant, so the order of the sums is the same on every GPU.
"""


def mass(teacher: Tensor, bias: Tensor, temperature: float) -> Tensor:
    """Mean over this rank's pixels of softmax(t/τ + b), (V, Q) float64, by the kernels."""
    views, number, pixels, settings = _shape(teacher)
    splits, length = _splits(number, settings["BU"])
    partial = bias.new_empty((splits, views, 2, settings["Q"]))
    arguments = (teacher, bias, partial, 1 / temperature, number, pixels, length)
    _launch(kernels.mass_kernel, (views, splits), settings, *arguments)
    result = bias.new_empty(bias.shape, dtype=torch.float64)
    settings = {"Q": settings["Q"], "QP": settings["QP"], "SP": next_power_of_2(splits), "num_warps": 4}
    _launch(kernels.combine_kernel, (views,), settings, partial, result, splits, number)
    return result


def shift(bias: Tensor, mass: Tensor) -> Tensor:
    """The bias after one Sinkhorn round, (V, Q): bias − log(mass), by the kernel."""
    result = torch.empty_like(bias)
    grid = (cdiv(bias.numel(), 128),)
    _launch(kernels.shift_kernel, grid, {"BLOCK": 128, "num_warps": 4}, bias, mass, result, bias.numel())
    return result


def terms(
    student: Tensor, teacher: Tensor, bias: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Cross-entropy, mean share and share of first places of each region, (V, 1 + 2 Q) fp32, by the kernel."""
    views, number, pixels, settings = _shape(student)
    splits, length = _splits(number, settings["BU"])
    partial = bias.new_empty((splits, views, 1 + 2 * settings["Q"]))
    scales = 1 / student_temperature, 1 / teacher_temperature
    arguments = (student, teacher, bias, partial, *scales, number, pixels, length)
    _launch(kernels.terms_kernel, (views, splits), settings, *arguments)
    return partial.sum(dim=0) / number


def gradient(
    student: Tensor, teacher: Tensor, bias: Tensor, d_cross_entropy: Tensor, slope: Tensor,
    student_temperature: float, teacher_temperature: float,
) -> Tensor:  # fmt: skip
    """The gradient of the student's similarities, of their shape, by the kernel; slope (V, Q) is the gradient of m."""
    views, number, pixels, settings = _shape(student)
    result = torch.empty_like(student)
    scales = 1 / student_temperature, 1 / teacher_temperature, 1 / (number * student_temperature)
    arguments = (student, teacher, bias, d_cross_entropy, slope, result, *scales, number, pixels)
    _launch(kernels.gradient_kernel, (views, cdiv(number, settings["BU"])), settings, *arguments)
    return result


def _shape(similarity: Tensor) -> tuple[int, int, int, dict[str, Any]]:
    """Views, pixels of a view, pixels of an image, and the tile."""
    views, images, regions, pixels = similarity.shape
    padded = max(2, next_power_of_2(regions))
    return views, images * pixels, pixels, {"Q": regions, "QP": padded, "BU": max(32, TILE // padded), "num_warps": 4}


def _splits(number: int, tile: int) -> tuple[int, int]:
    """Parts, none empty, and pixels of each, a whole number of tiles."""
    length = cdiv(cdiv(number, tile), MOST_SPLITS) * tile
    return cdiv(number, length), length

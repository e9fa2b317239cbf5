"""Launches the Triton kernels of dropout, residual and layer norm: programs, grids and buffers."""

from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels.launcher import cdiv, next_power_of_2
from fra_dist.kernels.launcher import launch as _launch
from fra_dist.kernels.residual_norm import triton as kernels

PROGRAMS = 512
"""Programs of the backward pass, of one warp each: as many as a large GPU runs at once without waiting."""
COLLECT = {"BR": 128, "BC": 32, "num_warps": 8}
"""Tile of the sum over programs: a row of it is 128 bytes."""


def forward(
    x: Tensor, u: Tensor, weight: Tensor, bias: Tensor, queries: Tensor | None, keys: Tensor | None, eps: float,
    dropout: float, call: int, span: int, dtype: torch.dtype, rounded: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """y, y in `dtype` and y + queries in `dtype`, from contiguous inputs; what is not wanted is empty."""
    y = torch.empty_like(x)
    half = torch.empty(x.shape if rounded else 0, dtype=dtype, device=x.device)
    asked = torch.empty(0 if queries is None else x.shape, dtype=dtype, device=x.device)
    settings = _settings(x, keys) | {"ROUNDED": rounded, "ASKED": queries is not None}
    tensors = x, u, weight, bias, x if queries is None else queries, x if keys is None else keys, y, half, asked
    numbers = *_numbers(keys, eps, dropout, call, span), *x.shape[1:]
    _launch(kernels.forward_kernel, x.shape[0] * x.shape[1], settings, *tensors, *numbers)
    return y, half, asked


def backward(
    d_y: Tensor | None, d_rounded: Tensor | None, d_asked: Tensor | None, x: Tensor, u: Tensor, weight: Tensor,
    keys: Tensor | None, eps: float, dropout: float, call: int, span: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, u, weight, bias and queries, given those of the results; the last is empty without d_asked."""
    images, queries, width = x.shape
    splits = max(1, min(images, PROGRAMS // queries))
    given = {"GIVEN": d_y is not None, "ROUNDED": d_rounded is not None, "ASKED": d_asked is not None}
    d_x, d_u, d_weight, d_bias = (torch.empty_like(one) for one in (x, u, weight, weight))
    d_queries = torch.empty(0 if d_asked is None else x.shape[1:], dtype=x.dtype, device=x.device)
    planes = 2 if d_asked is None else 3
    partial = torch.empty((planes, splits * queries, width), dtype=x.dtype, device=x.device)
    tensors = (
        *(x if one is None else one for one in (d_y, d_rounded, d_asked)),
        x,
        u,
        weight,
        x if keys is None else keys,
    )
    numbers = *_numbers(keys, eps, dropout, call, span), *x.shape, splits
    settings = _settings(x, keys) | given
    _launch(kernels.rows_backward_kernel, splits * queries, settings, *tensors, d_x, d_u, partial, *numbers)
    grid = cdiv(width, COLLECT["BC"]), 2 if d_asked is None else 2 + queries
    _launch(kernels.collect_kernel, grid, COLLECT, partial, d_weight, d_bias, d_queries, queries, width, splits)
    return d_x, d_u, d_weight, d_bias, d_queries


def _settings(x: Tensor, keys: Tensor | None) -> dict[str, Any]:
    return {"DP": next_power_of_2(x.shape[2]), "DROP": keys is not None, "num_warps": 1}


def _numbers(keys: Tensor | None, eps: float, dropout: float, call: int, span: int) -> tuple[int | float, ...]:
    return eps, 1 / (1 - dropout), call, span, int(dropout * 2**53), 1 if keys is None else len(keys)

"""Launches the Triton kernels of self-attention: heads of a program, grids and buffers."""

import math
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from fra_dist.kernels.dispatch import interpreted
from fra_dist.kernels.launcher import cdiv, next_power_of_2
from fra_dist.kernels.launcher import launch as _launch
from fra_dist.kernels.self_attention import triton as kernels

WARPS = {16: 1, 32: 4, 64: 8}
"""Warps of a program by its rows; more for wide heads."""


def forward(qk: Tensor, v: Tensor, keys: Tensor | None, heads: int, dropout: float, call: int, span: int) -> Tensor:
    """The attention (B, Q, D), from contiguous qk (B, Q, 2 D) and v (B, Q, D); keys: of dropout's masks, if any."""
    out, (programs, settings, numbers) = torch.empty_like(v), _shape(v, keys, heads, dropout, call, span)
    _launch(kernels.forward_kernel, programs, settings, qk, v, v if keys is None else keys, out, *numbers)
    return out


def backward(
    d_out: Tensor, qk: Tensor, v: Tensor, keys: Tensor | None, heads: int, dropout: float, call: int, span: int
) -> tuple[Tensor, Tensor]:
    """Gradients of qk and v, given that of the attention."""
    d_qk, d_v = torch.empty_like(qk), torch.empty_like(v)
    programs, settings, numbers = _shape(v, keys, heads, dropout, call, span)
    drawn = v if keys is None else keys
    _launch(kernels.backward_kernel, programs, settings, d_out, qk, v, drawn, d_qk, d_v, *numbers)
    return d_qk, d_v


def _shape(
    v: Tensor, keys: Tensor | None, heads: int, dropout: float, call: int, span: int
) -> tuple[int, dict[str, Any], tuple[int | float, ...]]:
    """Programs, compile-time arguments, and numbers. A product's sides are at least 16."""
    batch, queries, width = v.shape[0], v.shape[1], v.shape[2] // heads
    rows = max(16, next_power_of_2(queries))
    together = min(heads, rows // queries)
    groups, padded = cdiv(heads, together), max(16, next_power_of_2(width))
    settings = {"R": rows, "DP": padded, "DROP": keys is not None, "HALF": _half(v)}
    settings["num_warps"] = WARPS[rows] * cdiv(padded, 32 if rows == 16 else 128)
    scales = 1 / math.sqrt(width), 1 / (1 - dropout)
    hashed = call, span, int(dropout * 2**53), 1 if keys is None else len(keys)
    return batch * groups, settings, (*scales, *hashed, heads, queries, width, groups, together)


def _half(v: Tensor) -> Any:
    """16-bit type in which tensors are multiplied as loaded; None: in three TF32 products, as exact as fp32. The
    interpreter takes the second way for bf16, whose raw bits it multiplies."""
    return None if v.dtype == torch.float32 or interpreted() else _TYPES[v.dtype]


_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}

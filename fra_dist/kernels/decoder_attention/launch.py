"""Launches the Triton kernels of the decoder's attention: tile sizes, grids and buffers."""

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from fra_dist.kernels.decoder_attention import triton as kernels
from fra_dist.kernels.dispatch import interpreted
from fra_dist.kernels.launcher import cdiv, next_power_of_2
from fra_dist.kernels.launcher import launch as _launch

TILES = {
    # Kernel, whether the map is multiplied in 16 bits: rows, pixels, warps.
    # Such as compile for sm_80 and sm_90 without spilling registers at the largest width.
    ("pool", True): (64, 16, 8),
    ("pool", False): (16, 32, 4),
    ("rows_backward", True): (64, 16, 8),
    ("rows_backward", False): (16, 32, 4),
    ("memory_backward", True): (32, 32, 4),
    ("memory_backward", False): (16, 32, 4),
}


BIAS_ROWS = 64
"""Queries of all images that a program sums up for the gradient of the values' bias."""


def forward(
    rows: Tensor, memory: Tensor, code: Tensor, keep: Tensor | None, bias: Tensor, scale: float, keep_scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pooled rows (H, B, Q, D), sums of the weights (H, B, Q), log-sums of the scores, and (B, Q, D) the sums times the
    values' bias (D,) for heads side by side.

    All inputs are contiguous. The backward pass needs the log-sums.
    """
    heads, batch, queries, width = rows.shape
    settings = _settings("pool", rows, memory, keep)
    blocks = cdiv(heads * queries, settings["BR"])
    pooled, shift = torch.empty_like(rows), rows.new_empty((batch, queries, width))
    total, logsum = (rows.new_empty(rows.shape[:3], dtype=torch.float32) for _ in range(2))
    _launch(
        kernels.pool_kernel, batch * blocks, settings | {"WP": next_power_of_2(width // heads)},
        rows, memory, code, memory if keep is None else keep, bias, pooled, total, logsum, shift, scale, keep_scale,
        *_sizes(rows, memory), width // heads, blocks,
    )  # fmt: skip
    return pooled, total, logsum, shift


def backward(
    d_pooled: Tensor, d_total: Tensor, rows: Tensor, memory: Tensor, code: Tensor, keep: Tensor | None,
    pooled: Tensor, total: Tensor, logsum: Tensor, scale: float, keep_scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of the rows (H, B, Q, D) and the memory (B, P, D), given those of the pooled rows and of the sums."""
    d_rows, d_memory, level = torch.empty_like(rows), torch.empty_like(memory), torch.empty_like(total)
    mask = memory if keep is None else keep
    settings = _settings("rows_backward", rows, memory, keep)
    blocks = cdiv(rows.shape[0] * rows.shape[2], settings["BR"])
    _launch(
        kernels.rows_backward_kernel, len(memory) * blocks, settings,
        rows, memory, code, mask, pooled, total, logsum, d_pooled, d_total, d_rows, level, scale, keep_scale,
        *_sizes(rows, memory), blocks,
    )  # fmt: skip
    settings = _settings("memory_backward", rows, memory, keep)
    blocks = cdiv(memory.shape[1], settings["BU"])
    _launch(
        kernels.memory_backward_kernel, len(memory) * blocks, settings,
        rows, memory, code, mask, logsum, d_pooled, d_total, level, d_memory, scale, keep_scale,
        *_sizes(rows, memory), blocks,
    )  # fmt: skip
    return d_rows, d_memory


def bias_backward(d_out: Tensor, total: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the sums of the weights (H, B, Q) and of the biases of keys, which is zero, and of values (2 D,)."""
    heads, batch, queries = total.shape
    width = bias.shape[0] // heads
    d_total, parts = torch.empty_like(total), cdiv(batch * queries, BIAS_ROWS)
    partial = total.new_empty((parts, 2 * len(bias)))
    settings = {"BN": BIAS_ROWS, "WP": next_power_of_2(width), "num_warps": 4}
    arguments = (d_out, total, bias, d_total, partial, batch, queries, len(bias), width)
    _launch(kernels.bias_backward_kernel, (parts, heads), settings, *arguments)
    return d_total, partial.sum(dim=0)


def _sizes(rows: Tensor, memory: Tensor) -> tuple[int, ...]:
    """B, P, D."""
    return rows.shape[1], memory.shape[1], memory.shape[2]


def _settings(kernel: str, rows: Tensor, memory: Tensor, keep: Tensor | None) -> dict[str, Any]:
    """Compile-time arguments. A product's sides are at least 16."""
    half = _half(memory)
    most_rows, pixels, warps = TILES[kernel, half is not None]
    padded = max(16, next_power_of_2(memory.shape[2]))
    wanted = min(most_rows, max(16, next_power_of_2(rows.shape[0] * rows.shape[2])))
    settings = {
        "H": rows.shape[0],
        "Q": rows.shape[2],
        "BR": wanted,
        "BU": pixels,
        "DP": padded,
        "DROP": keep is not None,
        "HALF": half,
    }
    return settings | {"num_warps": warps, "num_stages": 1}


def _half(memory: Tensor) -> Any:
    """16-bit type in which a map is multiplied as loaded; None: in three TF32 products, as exact as fp32. The
    interpreter takes the second way for bf16, whose raw bits it multiplies."""
    return None if memory.dtype == torch.float32 or interpreted() else _TYPES[memory.dtype]


_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}

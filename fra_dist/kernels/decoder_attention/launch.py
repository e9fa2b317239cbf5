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


def forward(
    rows: Tensor, memory: Tensor, code: Tensor, keep: Tensor | None, scale: float, keep_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Pooled rows (B, R, D), sums of the weights (B, R), and log-sums of the scores (B, R).

    The backward pass needs the log-sums.
    """
    settings = _settings("pool", rows, memory, keep)
    blocks = cdiv(rows.shape[1], settings["BR"])
    pooled = torch.empty_like(rows)
    total, logsum = (rows.new_empty(rows.shape[:2], dtype=torch.float32) for _ in range(2))
    _launch(
        kernels.pool_kernel, len(rows) * blocks, settings,
        rows, memory, code, memory if keep is None else keep, pooled, total, logsum, scale, keep_scale,
        *_sizes(rows, memory), blocks,
    )  # fmt: skip
    return pooled, total, logsum


def backward(
    d_pooled: Tensor, d_total: Tensor, rows: Tensor, memory: Tensor, code: Tensor, keep: Tensor | None,
    pooled: Tensor, total: Tensor, logsum: Tensor, scale: float, keep_scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of the rows (B, R, D) and of the memory (B, P, D), given those of the pooled rows and of the sums."""
    d_rows, d_memory, level = torch.empty_like(rows), torch.empty_like(memory), torch.empty_like(total)
    mask = memory if keep is None else keep
    settings = _settings("rows_backward", rows, memory, keep)
    blocks = cdiv(rows.shape[1], settings["BR"])
    _launch(
        kernels.rows_backward_kernel, len(rows) * blocks, settings,
        rows, memory, code, mask, pooled, total, logsum, d_pooled, d_total, d_rows, level, scale, keep_scale,
        *_sizes(rows, memory), blocks,
    )  # fmt: skip
    settings = _settings("memory_backward", rows, memory, keep)
    blocks = cdiv(memory.shape[1], settings["BU"])
    _launch(
        kernels.memory_backward_kernel, len(rows) * blocks, settings,
        rows, memory, code, mask, logsum, d_pooled, d_total, level, d_memory, scale, keep_scale,
        *_sizes(rows, memory), blocks,
    )  # fmt: skip
    return d_rows, d_memory


def _sizes(rows: Tensor, memory: Tensor) -> tuple[int, int, int]:
    return rows.shape[1], memory.shape[1], memory.shape[2]


def _settings(kernel: str, rows: Tensor, memory: Tensor, keep: Tensor | None) -> dict[str, Any]:
    """Compile-time arguments. A product's sides are at least 16."""
    half = _half(memory)
    most_rows, pixels, warps = TILES[kernel, half is not None]
    padded = max(16, next_power_of_2(memory.shape[2]))
    wanted = min(most_rows, max(16, next_power_of_2(rows.shape[1])))
    settings = {"BR": wanted, "BU": pixels, "DP": padded, "DROP": keep is not None, "HALF": half}
    return settings | {"num_warps": warps, "num_stages": 1}


def _half(memory: Tensor) -> Any:
    """16-bit type in which a map is multiplied as loaded; None: in three TF32 products, as exact as fp32. The
    interpreter takes the second way for bf16, whose raw bits it multiplies."""
    return None if memory.dtype == torch.float32 or interpreted() else _TYPES[memory.dtype]


_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}

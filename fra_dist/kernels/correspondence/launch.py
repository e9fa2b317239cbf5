"""Launches the Triton kernels of correspondence: tile sizes, grids and buffers. All tensors are contiguous."""

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from fra_dist.kernels.correspondence import triton as kernels
from fra_dist.kernels.dispatch import interpreted
from fra_dist.kernels.launcher import cdiv, next_power_of_2
from fra_dist.kernels.launcher import launch as _launch

TILES = {
    # Whether vectors are multiplied in 16 bits: pixels of the own block and of the other one, columns of a step of the
    # products and of a program's gradient, warps. They compile for sm_80 and sm_90 without spilling registers.
    True: (64, 64, 64, 128, 8),
    False: (32, 64, 32, 64, 8),
}


def forward(
    queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor, spread: float, temperature: float,
    found: Tensor, mass: Tensor,
) -> None:  # fmt: skip
    """Fill `found` with L(u) and `mass` with log Σ_v exp(q(u)·k(v)/τ), each (B, H·W) fp32.

    Needs B, H·W and D of at least 1.
    """
    settings = _settings(queries, "BU")
    blocks = cdiv(queries.shape[1], settings["BU"])
    given = queries, keys, *_targets(rows, columns, spread), found, mass
    numbers = 1 / temperature, 1 / (2 * spread**2), queries.shape[2], rows.shape[1], columns.shape[1], blocks
    _launch(kernels.forward_kernel, len(queries) * blocks, settings, *given, *numbers)


def backward(
    queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor, mass: Tensor, given: Tensor,
    spread: float, temperature: float, d_queries: Tensor, d_keys: Tensor,
) -> None:  # fmt: skip
    """Fill `d_queries` and `d_keys` with the gradients of queries and keys; given: the gradient of L(u), (B, H·W)."""
    saved = queries, keys, *_targets(rows, columns, spread), mass, given
    numbers = 1 / temperature, 1 / (2 * spread**2), queries.shape[2], rows.shape[1], columns.shape[1]
    owners = (
        (kernels.queries_backward_kernel, "BU", d_queries),
        (kernels.keys_backward_kernel, "BV", d_keys),
    )
    for kernel, own, gradient in owners:
        settings = _settings(queries, own)
        settings["BG"] = min(TILES[settings["HALF"] is not None][3], _padded(queries))
        blocks, chunks = cdiv(queries.shape[1], settings[own]), cdiv(queries.shape[2], settings["BG"])
        _launch(kernel, len(queries) * blocks * chunks, settings, *saved, gradient, *numbers, blocks, chunks)


def _targets(rows: Tensor, columns: Tensor, spread: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places of rows and columns, and the logarithm of what normalises the factor of each."""
    return rows, columns, _level(rows, spread), _level(columns, spread)


def _level(places: Tensor, spread: float) -> Tensor:
    cells = torch.arange(places.shape[1], dtype=places.dtype, device=places.device)
    return (-(cells - places[:, :, None]).square() / (2 * spread**2)).logsumexp(dim=2)


def _settings(vectors: Tensor, own: str) -> dict[str, Any]:
    """Compile-time arguments of a kernel whose program owns a block of `own`, "BU" or "BV"."""
    half = _half(vectors)
    size, other, step, _, warps = TILES[half is not None]
    sizes = {own: size, "BV" if own == "BU" else "BU": other, "BD": min(step, _padded(vectors))}
    return {**sizes, "HALF": half, "num_warps": warps}


def _padded(vectors: Tensor) -> int:
    return max(16, next_power_of_2(vectors.shape[2]))


def _half(vectors: Tensor) -> Any:
    """16-bit type in which vectors are multiplied as loaded; None: in three TF32 products, as exact as fp32.

    fp16 takes the second way, because the low halves of small gradients would underflow; so does the interpreter, which
    multiplies the raw bits of bf16.
    """
    return tl.bfloat16 if vectors.dtype == torch.bfloat16 and not interpreted() else None

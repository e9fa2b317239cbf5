"""Correspondence in plain PyTorch: it defines the result, and is the path for CPUs.

Pixels are compared with pixels a tile at a time: some images, or some rows of one image against the whole of the other
map. The backward pass compares them again instead of keeping what the forward pass saw.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

TILE = 2**20
"""Pairs of pixels in a tile at most, unless a single row of the map has more."""


def reference(
    queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor, *, spread: float, temperature: float
) -> Tensor:
    """`api.correspondence` in plain PyTorch, with the same arguments and result,
    by tiles of at most TILE pairs of pixels."""
    with torch.autocast(queries.device.type, enabled=False):
        wide = torch.promote_types(queries.dtype, keys.dtype)
        exact = torch.float64 if wide == torch.float64 else torch.float32
        factors = line_target(rows.to(exact), spread), line_target(columns.to(exact), spread)
        return _Tiled.apply(queries, keys, *factors, temperature)


def line_target(places: Tensor, spread: float) -> Tensor:
    """Logarithm of one factor of t, normalised over the last dimension: (B, N, N) from the places (B, N) of N lines.

    places: where each row (or column) lies among the N rows (or columns) of the other map, in cells; spread: s, in
    cells.
    """
    cells = torch.arange(places.shape[1], dtype=places.dtype, device=places.device)
    return functional.log_softmax(-(cells - places[:, :, None]).square() / (2 * spread**2), dim=2)


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor, temperature: float) -> Tensor:
        batch, height, width = len(rows), rows.shape[1], columns.shape[1]
        shares = rows.exp(), columns.exp()
        # Σ t log t of a product is the sum of those of its factors
        known = (shares[0] * rows).sum(dim=2)[:, :, None] + (shares[1] * columns).sum(dim=2)[:, None]
        found, mass = (rows.new_empty(batch, height * width) for _ in range(2))
        for images, lines, pixels in _tiles(batch, height, width):
            logits = _logits(queries[images, pixels], keys[images], rows.dtype, temperature)
            target = _target(shares[0][images, lines], shares[1][images])
            mass[images, pixels] = logits.logsumexp(dim=2)
            found[images, pixels] = mass[images, pixels] - (target * logits).sum(dim=2)
        ctx.temperature = temperature
        ctx.save_for_backward(queries, keys, *shares, mass)
        return found + known.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        queries, keys, rows, columns, mass = ctx.saved_tensors
        d_queries, d_keys = (torch.empty_like(queries, dtype=rows.dtype), torch.zeros_like(keys, dtype=rows.dtype))
        for images, lines, pixels in _tiles(len(rows), rows.shape[1], columns.shape[1]):
            some, others = queries[images, pixels], keys[images]
            slope = _logits(some, others, rows.dtype, ctx.temperature).sub_(mass[images, pixels, None]).exp_()
            slope.sub_(_target(rows[images, lines], columns[images]))
            slope.mul_(grads[0][images, pixels, None] / ctx.temperature)
            d_queries[images, pixels] = slope @ others.to(rows.dtype)
            d_keys[images] += slope.transpose(1, 2) @ some.to(rows.dtype)
        return d_queries.to(queries.dtype), d_keys.to(keys.dtype), None, None, None


def _logits(queries: Tensor, keys: Tensor, exact: torch.dtype, temperature: float) -> Tensor:
    return (queries.to(exact) / temperature) @ keys.to(exact).transpose(1, 2)


def _target(rows: Tensor, columns: Tensor) -> Tensor:
    """Factors (B, h, H) and (B, W, W) -> (B, h·W, H·W)."""
    return (rows[:, :, None, :, None] * columns[:, None, :, None, :]).flatten(3).flatten(1, 2)


def _tiles(batch: int, height: int, width: int) -> Iterator[tuple[slice, slice, slice]]:
    """Images, rows of the queries' map, and the pixels of those rows."""
    of_row = height * width * width
    lines = max(1, min(height, TILE // of_row))
    images = max(1, TILE // (of_row * height))
    for first in range(0, batch, images):
        for top in range(0, height, lines):
            end = min(top + lines, height)
            yield slice(first, first + images), slice(top, end), slice(top * width, end * width)

"""Triton kernels of correspondence: one for the forward pass, two for the backward pass.

A program owns a block of pixels of one image, in backward some columns of its gradient, and goes over the pixels of the
other map a block at a time; logarithms of sums are kept up as in FlashAttention (arXiv 2205.14135), so that pixels
against pixels are never in memory. Targets are computed where they are used, from the places of a row and of a column.
Every sum has a fixed order: results repeat to the bit. For the formulas see `api.py`.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl

from fra_dist.kernels.triton_matmul import matmul


@triton.jit
def log_target(y, x, level, row, column, sharpness):
    """The target's logarithm, log t(v|u): y, x and level (log of the normalisation) of u, row and column of v,
    broadcast."""
    down, along = row - y, column - x
    return -(down * down + along * along) * sharpness - level


@triton.jit
def load_rows(images, image, pixel, d, HW, D):
    """The vectors of a block of pixels of an image, zero outside."""
    place = images + image * HW * D + pixel[:, None] * D + d[None, :]
    return tl.load(place, mask=(pixel < HW)[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def products(one, other, image, u, v, HW, D, BU: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, HALF: tl.constexpr):
    """Inner products of the vectors of two blocks of pixels, (BU, BV) fp32."""
    total = tl.zeros((BU, BV), tl.float32)
    for start in range(0, D, BD):
        d = start + tl.arange(0, BD)
        other_rows = load_rows(other, image, v, d, HW, D)
        total = matmul(load_rows(one, image, u, d, HW, D), tl.trans(other_rows), total, HALF)
    return total


@triton.jit
def load_places(rows, columns, row_levels, column_levels, image, u, H, W):
    """Where a block of pixels lies in the other map: y, x, and the level (log of the normalisation) of each."""
    known = u < H * W
    i, j = image * H + u // W, image * W + u % W
    y = tl.load(rows + i, mask=known, other=0.0)
    x = tl.load(columns + j, mask=known, other=0.0)
    level = tl.load(row_levels + i, mask=known, other=0.0) + tl.load(column_levels + j, mask=known, other=0.0)
    return y, x, level


@triton.jit
def forward_kernel(
    queries, keys, rows, columns, row_levels, column_levels, found, mass, scale, sharpness, D, H, W, blocks,
    BU: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """L and the logarithm of the sum of exp(logits) of one block of pixels; scale is 1/τ, sharpness 1/(2 s²)."""
    image = (tl.program_id(0) // blocks).to(tl.int64)
    u = (tl.program_id(0) % blocks) * BU + tl.arange(0, BU)
    HW = H * W
    y, x, level = load_places(rows, columns, row_levels, column_levels, image, u, H, W)
    largest = tl.full((BU,), float("-inf"), tl.float32)
    total = tl.zeros((BU,), tl.float32)
    wanted = tl.zeros((BU,), tl.float32)
    for start in range(0, HW, BV):
        v = start + tl.arange(0, BV)
        logits = products(queries, keys, image, u, v, HW, D, BU, BV, BD, HALF) * scale
        row, column = (v // W).to(tl.float32), (v % W).to(tl.float32)
        target = log_target(y[:, None], x[:, None], level[:, None], row[None, :], column[None, :], sharpness)
        inside = (v < HW)[None, :]
        wanted += tl.sum(tl.where(inside, tl.exp(target) * (target - logits), 0.0), axis=1)
        logits = tl.where(inside, logits, float("-inf"))
        before = largest
        largest = tl.maximum(before, tl.max(logits, axis=1))
        total = total * tl.exp(before - largest) + tl.sum(tl.exp(logits - largest[:, None]), axis=1)
    whole = largest + tl.log(total)
    tl.store(mass + image * HW + u, whole, mask=u < HW)
    tl.store(found + image * HW + u, wanted + whole, mask=u < HW)


@triton.jit
def queries_backward_kernel(
    queries, keys, rows, columns, row_levels, column_levels, mass, given, gradient, scale, sharpness, D, H, W, blocks,
    chunks, BU: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, BG: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Gradient of one block of queries, for BG of its columns."""
    block = tl.program_id(0) // chunks
    image = (block // blocks).to(tl.int64)
    u = (block % blocks) * BU + tl.arange(0, BU)
    d = (tl.program_id(0) % chunks) * BG + tl.arange(0, BG)
    HW = H * W
    y, x, level = load_places(rows, columns, row_levels, column_levels, image, u, H, W)
    whole = tl.load(mass + image * HW + u, mask=u < HW, other=0.0)
    weight = tl.load(given + image * HW + u, mask=u < HW, other=0.0) * scale
    d_q = tl.zeros((BU, BG), tl.float32)
    for start in range(0, HW, BV):
        v = start + tl.arange(0, BV)
        logits = products(queries, keys, image, u, v, HW, D, BU, BV, BD, HALF) * scale
        row, column = (v // W).to(tl.float32), (v % W).to(tl.float32)
        target = log_target(y[:, None], x[:, None], level[:, None], row[None, :], column[None, :], sharpness)
        apart = tl.exp(logits - whole[:, None]) - tl.exp(target)
        slope = tl.where((v < HW)[None, :], apart * weight[:, None], 0.0)
        d_q = matmul(slope, load_rows(keys, image, v, d, HW, D), d_q, HALF)
    place = gradient + image * HW * D + u[:, None] * D + d[None, :]
    tl.store(place, d_q.to(gradient.dtype.element_ty), mask=(u < HW)[:, None] & (d < D)[None, :])


@triton.jit
def keys_backward_kernel(
    queries, keys, rows, columns, row_levels, column_levels, mass, given, gradient, scale, sharpness, D, H, W, blocks,
    chunks, BU: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr, BG: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Gradient of one block of keys: as for queries, with the roles of the pixels u and v swapped."""
    block = tl.program_id(0) // chunks
    image = (block // blocks).to(tl.int64)
    v = (block % blocks) * BV + tl.arange(0, BV)
    d = (tl.program_id(0) % chunks) * BG + tl.arange(0, BG)
    HW = H * W
    row, column = (v // W).to(tl.float32), (v % W).to(tl.float32)
    d_k = tl.zeros((BV, BG), tl.float32)
    for start in range(0, HW, BU):
        u = start + tl.arange(0, BU)
        y, x, level = load_places(rows, columns, row_levels, column_levels, image, u, H, W)
        whole = tl.load(mass + image * HW + u, mask=u < HW, other=0.0)
        weight = tl.load(given + image * HW + u, mask=u < HW, other=0.0) * scale
        logits = products(keys, queries, image, v, u, HW, D, BV, BU, BD, HALF) * scale
        target = log_target(y[None, :], x[None, :], level[None, :], row[:, None], column[:, None], sharpness)
        apart = tl.exp(logits - whole[None, :]) - tl.exp(target)
        slope = tl.where((u < HW)[None, :], apart * weight[None, :], 0.0)
        d_k = matmul(slope, load_rows(queries, image, u, d, HW, D), d_k, HALF)
    place = gradient + image * HW * D + v[:, None] * D + d[None, :]
    tl.store(place, d_k.to(gradient.dtype.element_ty), mask=(v < HW)[:, None] & (d < D)[None, :])

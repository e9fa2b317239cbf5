"""Triton kernels of the end of a post-norm block, forward and backward, and the sums of the latter's pieces.

x, u (N, Q, D) and all gradients are contiguous. One warp owns a row at a time, so that sums over it need no barrier;
DP: the width as a power of two. Of the backward's programs, (query, split), each has every S-th image and adds up what
the parameters and the query's code get from its rows; `collect_kernel` adds up the programs, in a fixed order.
With g the gradient of y and n = (s − mean)/√(variance + ε):  ds = (g w − mean of g w − n · mean of g w n)/√(…).
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl

from fra_dist.kernels.triton_dropout import call_key, is_kept


@triton.jit
def normed(
    x, u, keys, image, query, place, c, inside, eps, keep_scale, call, span, threshold, B, D,
    DROP: tl.constexpr,
):  # fmt: skip
    """The row s, normalised; 1/√(variance + ε); and the factors of dropout: keep_scale or 0, and 1 without dropout."""
    s = tl.load(u + place, mask=inside, other=0.0).to(tl.float32)
    factor = tl.full(s.shape, 1.0, tl.float32)
    if DROP:
        kept = is_kept(call_key(keys, image, B, call, span), query * D + c, threshold)
        factor = tl.where(kept, keep_scale, 0.0)
    s = tl.load(x + place, mask=inside, other=0.0) + s * factor
    away = tl.where(inside, s - tl.sum(s, axis=0) / D, 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(away * away, axis=0) / D + eps)
    return away * inverse, inverse, factor


@triton.jit(do_not_specialize=["call", "span", "threshold"])
def forward_kernel(
    x, u, weight, bias, queries, keys, y, rounded, asked, eps, keep_scale, call, span, threshold, B, Q, D,
    DP: tl.constexpr, DROP: tl.constexpr, ROUNDED: tl.constexpr, ASKED: tl.constexpr,
):  # fmt: skip
    """One row of y, and of what the next linear layers take."""
    image = tl.program_id(0) // Q
    query = tl.program_id(0) % Q
    c = tl.arange(0, DP)
    inside = c < D
    place = tl.program_id(0).to(tl.int64) * D + c
    n, _, _ = normed(x, u, keys, image, query, place, c, inside, eps, keep_scale, call, span, threshold, B, D, DROP)
    out = n * tl.load(weight + c, mask=inside, other=0.0) + tl.load(bias + c, mask=inside, other=0.0)
    tl.store(y + place, out, mask=inside)
    if ROUNDED:
        tl.store(rounded + place, out.to(rounded.dtype.element_ty), mask=inside)
    if ASKED:
        moved = out + tl.load(queries + query * D + c, mask=inside, other=0.0)
        tl.store(asked + place, moved.to(asked.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["call", "span", "threshold"])
def rows_backward_kernel(
    d_y, d_rounded, d_asked, x, u, weight, keys, d_x, d_u, partial,
    eps, keep_scale, call, span, threshold, B, N, Q, D, S,
    DP: tl.constexpr, DROP: tl.constexpr, GIVEN: tl.constexpr, ROUNDED: tl.constexpr, ASKED: tl.constexpr,
):  # fmt: skip
    """The gradients of some rows of x and u, and the sums of those of weight, bias and code over them."""
    query = tl.program_id(0) % Q
    c = tl.arange(0, DP)
    inside = c < D
    w = tl.load(weight + c, mask=inside, other=0.0)
    slope = tl.zeros((DP,), tl.float32)
    level = tl.zeros((DP,), tl.float32)
    code = tl.zeros((DP,), tl.float32)
    for image in range(tl.program_id(0) // Q, N, S):
        place = (image * Q + query).to(tl.int64) * D + c
        n, inverse, factor = normed(
            x, u, keys, image, query, place, c, inside, eps, keep_scale, call, span, threshold, B, D, DROP
        )
        g = tl.zeros((DP,), tl.float32)
        if GIVEN:
            g += tl.load(d_y + place, mask=inside, other=0.0)
        if ROUNDED:
            g += tl.load(d_rounded + place, mask=inside, other=0.0).to(tl.float32)
        if ASKED:
            moved = tl.load(d_asked + place, mask=inside, other=0.0).to(tl.float32)
            g += moved
            code += moved
        slope += g * n
        level += g
        g *= w
        ds = (g - tl.sum(g, axis=0) / D - n * (tl.sum(g * n, axis=0) / D)) * inverse
        tl.store(d_x + place, ds, mask=inside)
        tl.store(d_u + place, (ds * factor).to(d_u.dtype.element_ty), mask=inside)
    piece = partial + tl.program_id(0) * D + c
    tl.store(piece, slope, mask=inside)
    tl.store(piece + S * Q * D, level, mask=inside)
    if ASKED:
        tl.store(piece + 2 * S * Q * D, code, mask=inside)


@triton.jit
def collect_kernel(
    partial, d_weight, d_bias, d_queries, Q, D, S,
    BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Some columns of the gradient of weight (row 0), bias (row 1) or the code of a query (the rows after)."""
    row = tl.program_id(1)
    query = tl.maximum(row - 2, 0)
    step = tl.where(row < 2, 1, Q)
    pieces = tl.where(row < 2, S * Q, S)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    first = partial + (tl.minimum(row, 2) * S * Q + query) * D
    total = tl.zeros((BR, BC), tl.float32)
    for start in range(0, pieces, BR):
        piece = start + tl.arange(0, BR)
        inside = (piece < pieces)[:, None] & (c < D)[None, :]
        total += tl.load(first + (piece * step * D)[:, None] + c[None, :], mask=inside, other=0.0)
    found = tl.sum(total, axis=0)
    tl.store(d_weight + c, found, mask=(c < D) & (row == 0))
    tl.store(d_bias + c, found, mask=(c < D) & (row == 1))
    tl.store(d_queries + query * D + c, found, mask=(c < D) & (row >= 2))

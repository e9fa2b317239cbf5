"""Triton kernels of self-attention among few queries, forward and backward: all keys of a head are in one tile.

qk (B, Q, 2 D) and v (B, Q, D) are contiguous, with the heads side by side. A program owns one image and as many heads
as fit into its R rows: row r is query r % Q of head r // Q of them, and scores between different heads are masked out.
Rows without a query see each other alone, with zeros. The width of a head is padded to DP. With w' = w where kept,
times keep_scale, and d the gradients:  dw' = do·v,  ds = w (dw' kept − Σ w' dw').
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl

from fra_dist.kernels.triton_dropout import call_key, is_kept
from fra_dist.kernels.triton_matmul import matmul


@triton.jit
def product(a, b, HALF: tl.constexpr):
    """The matrix product a b, in fp32."""
    return matmul(a, b, tl.zeros((a.shape[0], b.shape[1]), tl.float32), HALF)


@triton.jit
def rows_of(heads, Q, W, groups, together, R: tl.constexpr, DP: tl.constexpr):
    """Where the tile is in v: the image, the rows' heads and queries, numbers of elements (R, DP), which are there."""
    image = tl.program_id(0) // groups
    r = tl.arange(0, R)
    c = tl.arange(0, DP)
    head = (tl.program_id(0) % groups) * together + r // Q
    inside = ((r // Q < together) & (head < heads))[:, None] & (c < W)[None, :]
    place = (head * W)[:, None] + c[None, :]
    return image, head, r % Q, place, inside


@triton.jit
def weights_of(
    a, k, keys, image, head, query, scale, keep_scale, call, span, threshold, B, Q,
    R: tl.constexpr, DROP: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """The softmax of the scores (R, R), and the factors of dropout: keep_scale or 0, and 1 without dropout."""
    s = tl.where(head[:, None] == head[None, :], product(a, tl.trans(k), HALF) * scale, float("-inf"))
    w = tl.exp(s - tl.max(s, axis=1)[:, None])
    w = w / tl.sum(w, axis=1)[:, None]
    if DROP:
        element = (head * Q + query)[:, None] * Q + query[None, :]
        kept = is_kept(call_key(keys, image, B, call, span), element, threshold)
        return w, tl.where(kept, keep_scale, 0.0)
    else:
        return w, tl.full((R, R), 1.0, tl.float32)


@triton.jit(do_not_specialize=["call", "span", "threshold"])
def forward_kernel(
    qk, v, keys, out, scale, keep_scale, call, span, threshold, B, heads, Q, W, groups, together,
    R: tl.constexpr, DP: tl.constexpr, DROP: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """The attention of some heads of an image."""
    image, head, query, place, inside = rows_of(heads, Q, W, groups, together, R, DP)
    D = heads * W
    base = image.to(tl.int64) * Q * D
    double = 2 * base + (query * 2 * D)[:, None] + place
    single = base + (query * D)[:, None] + place
    a = tl.load(qk + double, mask=inside, other=0.0)
    k = tl.load(qk + D + double, mask=inside, other=0.0)
    w, factor = weights_of(
        a, k, keys, image, head, query, scale, keep_scale, call, span, threshold, B, Q, R, DROP, HALF
    )
    pooled = product(w * factor, tl.load(v + single, mask=inside, other=0.0), HALF)
    tl.store(out + single, pooled.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["call", "span", "threshold"])
def backward_kernel(
    d_out, qk, v, keys, d_qk, d_v, scale, keep_scale, call, span, threshold, B, heads, Q, W, groups, together,
    R: tl.constexpr, DP: tl.constexpr, DROP: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """The gradients of queries, keys and values of some heads of an image; the weights are computed again."""
    image, head, query, place, inside = rows_of(heads, Q, W, groups, together, R, DP)
    D = heads * W
    base = image.to(tl.int64) * Q * D
    double = 2 * base + (query * 2 * D)[:, None] + place
    single = base + (query * D)[:, None] + place
    a = tl.load(qk + double, mask=inside, other=0.0)
    k = tl.load(qk + D + double, mask=inside, other=0.0)
    w, factor = weights_of(
        a, k, keys, image, head, query, scale, keep_scale, call, span, threshold, B, Q, R, DROP, HALF
    )
    given = tl.load(d_out + single, mask=inside, other=0.0)
    pulled = product(tl.trans(w * factor), given, HALF)
    tl.store(d_v + single, pulled.to(d_v.dtype.element_ty), mask=inside)
    d_weight = product(given, tl.trans(tl.load(v + single, mask=inside, other=0.0)), HALF) * factor
    ds = w * (d_weight - tl.sum(w * d_weight, axis=1)[:, None]) * scale
    d_query = product(ds, k, HALF)
    tl.store(d_qk + double, d_query.to(d_qk.dtype.element_ty), mask=inside)
    d_key = product(tl.trans(ds), a, HALF)
    tl.store(d_qk + D + double, d_key.to(d_qk.dtype.element_ty), mask=inside)

"""Triton kernels of the decoder's attention: rows pool the pixels of a map, forward and backward.

Memory (B, P, D) is contiguous, and so are rows (H, B, Q, D) and all that there is one of for each row: the products on
both sides of these kernels go by heads. Row r of an image is query r % Q of head r // Q. The forward kernel gives a
program BR rows of an image and goes over the pixels with a running maximum; the backward kernels give a program BR
rows, or BU pixels, and go over the others, computing the weights again from the rows' log-sums. No atomics. D is padded
to DP, a power of two. With d the gradients and w' = w where kept, times keep_scale:  dw' = do·m + dt,
ds = w (dw' kept − Σ w' dw'),  Σ w' dw' = do·o + dt t.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl


@triton.jit
def rows_of(base, row, d, rows, D):
    """A tile (rows, DP) of an image's matrix, zero outside of it."""
    return tl.load(base + row[:, None] * D + d[None, :], mask=(row < rows)[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def places_of(r, B, Q: tl.constexpr):
    """Where the rows r of the first image are among all H B Q."""
    return r // Q * (B * Q) + r % Q


@triton.jit
def heads_of(base, r, d, B, D, H: tl.constexpr, Q: tl.constexpr):
    """A tile (rows, DP) of the rows of an image, zero outside of them."""
    inside = (r < H * Q)[:, None] & (d < D)[None, :]
    return tl.load(base + places_of(r, B, Q)[:, None] * D + d[None, :], mask=inside, other=0.0)


@triton.jit
def product(a, b, HALF: tl.constexpr):
    """The matrix product a b, summed in fp32.

    Operands are multiplied in 16 bits where the maps are, and otherwise by three TF32 products, as exact as fp32.
    """
    if HALF is None:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="tf32x3")
    else:
        return tl.dot(a.to(HALF), b.to(HALF))


@triton.jit
def pixels_of(memory, code, image, u, d, P, D, TYPE: tl.constexpr):
    """A block of pixels, and the keys that they make with their codes, rounded to the type of the map."""
    m = rows_of(memory + image.to(tl.int64) * P * D, u, d, P, D)
    return m, (m.to(tl.float32) + rows_of(code, u, d, P, D).to(tl.float32)).to(TYPE)


@triton.jit
def kept(keep, image, r, u, keep_scale, R, P, DROP: tl.constexpr):
    """The factors of dropout that the weights are multiplied by, (BR, BU): keep_scale or 0, and 1 without dropout."""
    inside = (r < R)[:, None] & (u < P)[None, :]
    if DROP:
        place = image.to(tl.int64) * R * P + r[:, None] * P + u[None, :]
        return tl.where(tl.load(keep + place, mask=inside, other=0) != 0, keep_scale, 0.0)
    else:
        return tl.where(inside, 1.0, 0.0)


@triton.jit
def pool_kernel(
    rows, memory, code, keep, bias, pooled, total, logsum, shift, scale, keep_scale, B, P, D, W, blocks,
    H: tl.constexpr, Q: tl.constexpr, BR: tl.constexpr, BU: tl.constexpr, DP: tl.constexpr, WP: tl.constexpr,
    DROP: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Pool the map for BR rows of one image: pooled rows, sums of the weights, and log-sums of the scores.

    Where the values go, shift (B, Q, D) with heads of W numbers, the sums times the values' bias are put for a start.
    """
    R: tl.constexpr = H * Q
    image = tl.program_id(0) // blocks
    r = tl.program_id(0) % blocks * BR + tl.arange(0, BR)
    d = tl.arange(0, DP)
    base = image.to(tl.int64) * Q
    a = heads_of(rows + base * D, r, d, B, D, H, Q)
    top = tl.full((BR,), float("-inf"), tl.float32)
    mass = tl.zeros((BR,), tl.float32)
    share = tl.zeros((BR,), tl.float32)
    sums = tl.zeros((BR, DP), tl.float32)
    for start in range(0, P, BU):
        u = start + tl.arange(0, BU)
        m, k = pixels_of(memory, code, image, u, d, P, D, memory.dtype.element_ty)
        s = tl.where((u < P)[None, :], product(a, tl.trans(k), HALF) * scale, float("-inf"))
        higher = tl.maximum(top, tl.max(s, axis=1))
        shrink = tl.exp(top - higher)
        w = tl.exp(s - higher[:, None])
        mass = mass * shrink + tl.sum(w, axis=1)
        w = w * kept(keep, image, r, u, keep_scale, R, P, DROP)
        share = share * shrink + tl.sum(w, axis=1)
        sums = sums * shrink[:, None] + product(w, m, HALF)
        top = higher
    place = places_of(r, B, Q)
    inside = (r < R)[:, None] & (d < D)[None, :]
    tl.store(pooled + base * D + place[:, None] * D + d[None, :], (sums / mass[:, None]).to(a.dtype), mask=inside)
    tl.store(total + base + place, share / mass, mask=r < R)
    tl.store(logsum + base + place, top + tl.log(mass), mask=r < R)
    c = tl.arange(0, WP)
    channel = (r // Q * W)[:, None] + c[None, :]
    inside = (r < R)[:, None] & (c < W)[None, :]
    value = (share / mass)[:, None] * tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    tl.store(shift + base * D + (r % Q * D)[:, None] + channel, value.to(shift.dtype.element_ty), mask=inside)


@triton.jit
def bias_backward_kernel(
    d_out, total, bias, d_total, partial, B, Q, D, W,
    BN: tl.constexpr, WP: tl.constexpr,
):  # fmt: skip
    """The gradient of the sums of BN queries' weights in one head, and a part of that of the values' bias.

    The bias of the keys, the first half of partial (parts, 2, D), gets zeros.
    """
    head = tl.program_id(1)
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    c = tl.arange(0, WP)
    channel = head * W + c
    inside = (n < B * Q)[:, None] & (c < W)[None, :]
    given = tl.load(d_out + n.to(tl.int64)[:, None] * D + channel[None, :], mask=inside, other=0.0).to(tl.float32)
    b = tl.load(bias + channel, mask=c < W, other=0.0).to(tl.float32)
    tl.store(d_total + head * B * Q + n, tl.sum(given * b[None, :], axis=1), mask=n < B * Q)
    t = tl.load(total + head * B * Q + n, mask=n < B * Q, other=0.0)
    part = partial + tl.program_id(0) * 2 * D + channel
    tl.store(part, tl.zeros((WP,), tl.float32), mask=c < W)
    tl.store(part + D, tl.sum(given * t[:, None], axis=0), mask=c < W)


@triton.jit
def score_gradient(
    a, given, m, k, d_total, level, log_sum, factor, scale, u, P, HALF: tl.constexpr,
):  # fmt: skip
    """Weights where kept (BR, BU), and the gradient of the scores before they are scaled, of the same shape."""
    s = tl.where((u < P)[None, :], product(a, tl.trans(k), HALF) * scale, float("-inf"))
    w = tl.exp(s - log_sum[:, None])
    d_weight = product(given, tl.trans(m), HALF) + d_total[:, None]
    return w * factor, w * (d_weight * factor - level[:, None]) * scale


@triton.jit
def rows_backward_kernel(
    rows, memory, code, keep, pooled, total, logsum, d_pooled, d_total, d_rows, level, scale, keep_scale, B, P, D,
    blocks,
    H: tl.constexpr, Q: tl.constexpr, BR: tl.constexpr, BU: tl.constexpr, DP: tl.constexpr, DROP: tl.constexpr,
    HALF: tl.constexpr,
):  # fmt: skip
    """The rows' gradient, and Σ w' dw' of each row for the other kernel."""
    R: tl.constexpr = H * Q
    image = tl.program_id(0) // blocks
    r = tl.program_id(0) % blocks * BR + tl.arange(0, BR)
    d = tl.arange(0, DP)
    base = image.to(tl.int64) * Q
    place = places_of(r, B, Q)
    given = heads_of(d_pooled + base * D, r, d, B, D, H, Q)
    dt = tl.load(d_total + base + place, mask=r < R, other=0.0)
    mean = tl.sum(given.to(tl.float32) * heads_of(pooled + base * D, r, d, B, D, H, Q).to(tl.float32), axis=1)
    mean += dt * tl.load(total + base + place, mask=r < R, other=0.0)
    tl.store(level + base + place, mean, mask=r < R)
    log_sum = tl.load(logsum + base + place, mask=r < R, other=0.0)
    a = heads_of(rows + base * D, r, d, B, D, H, Q)
    sums = tl.zeros((BR, DP), tl.float32)
    for start in range(0, P, BU):
        u = start + tl.arange(0, BU)
        m, k = pixels_of(memory, code, image, u, d, P, D, memory.dtype.element_ty)
        factor = kept(keep, image, r, u, keep_scale, R, P, DROP)
        _, ds = score_gradient(a, given, m, k, dt, mean, log_sum, factor, scale, u, P, HALF)
        sums += product(ds, k, HALF)
    inside = (r < R)[:, None] & (d < D)[None, :]
    tl.store(d_rows + base * D + place[:, None] * D + d[None, :], sums.to(d_rows.dtype.element_ty), mask=inside)


@triton.jit
def memory_backward_kernel(
    rows, memory, code, keep, logsum, d_pooled, d_total, level, d_memory, scale, keep_scale, B, P, D, blocks,
    H: tl.constexpr, Q: tl.constexpr, BR: tl.constexpr, BU: tl.constexpr, DP: tl.constexpr, DROP: tl.constexpr,
    HALF: tl.constexpr,
):  # fmt: skip
    """The gradient of BU pixels of one image's memory."""
    R: tl.constexpr = H * Q
    image = tl.program_id(0) // blocks
    u = tl.program_id(0) % blocks * BU + tl.arange(0, BU)
    d = tl.arange(0, DP)
    base = image.to(tl.int64) * Q
    m, k = pixels_of(memory, code, image, u, d, P, D, memory.dtype.element_ty)
    sums = tl.zeros((BU, DP), tl.float32)
    for start in range(0, R, BR):
        r = start + tl.arange(0, BR)
        place = places_of(r, B, Q)
        a = heads_of(rows + base * D, r, d, B, D, H, Q)
        given = heads_of(d_pooled + base * D, r, d, B, D, H, Q)
        dt = tl.load(d_total + base + place, mask=r < R, other=0.0)
        mean = tl.load(level + base + place, mask=r < R, other=0.0)
        log_sum = tl.load(logsum + base + place, mask=r < R, other=0.0)
        factor = kept(keep, image, r, u, keep_scale, R, P, DROP)
        w, ds = score_gradient(a, given, m, k, dt, mean, log_sum, factor, scale, u, P, HALF)
        sums += product(tl.trans(w), given, HALF)
        sums += product(tl.trans(ds), a, HALF)
    place = image.to(tl.int64) * P * D + u[:, None] * D + d[None, :]
    inside = (u < P)[:, None] & (d < D)[None, :]
    tl.store(d_memory + place, sums.to(d_memory.dtype.element_ty), mask=inside)

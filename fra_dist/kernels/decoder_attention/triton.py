"""Triton kernels of the decoder's attention: rows pool the pixels of a map, forward and backward.

Rows (B, R, D) and memory (B, P, D) are contiguous. The forward kernel gives a program BR rows of an image and goes over
the pixels with a running maximum; the backward kernels give a program BR rows, or BU pixels, and go over the others,
computing the weights again from the rows' log-sums. No atomics. D is padded to DP, a power of two. With d the gradients
and w' = w where kept, times keep_scale:  dw' = do·m + dt,  ds = w (dw' kept − Σ w' dw'),  Σ w' dw' = do·o + dt t.
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
    rows, memory, code, keep, pooled, total, logsum, scale, keep_scale, R, P, D, blocks,
    BR: tl.constexpr, BU: tl.constexpr, DP: tl.constexpr, DROP: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Pool the map for BR rows of one image: pooled rows, sums of the weights, and log-sums of the scores."""
    image = tl.program_id(0) // blocks
    r = tl.program_id(0) % blocks * BR + tl.arange(0, BR)
    d = tl.arange(0, DP)
    base = image.to(tl.int64) * R
    a = rows_of(rows + base * D, r, d, R, D)
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
    place = r[:, None] * D + d[None, :]
    inside = (r < R)[:, None] & (d < D)[None, :]
    tl.store(pooled + base * D + place, (sums / mass[:, None]).to(pooled.dtype.element_ty), mask=inside)
    tl.store(total + base + r, share / mass, mask=r < R)
    tl.store(logsum + base + r, top + tl.log(mass), mask=r < R)


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
    rows, memory, code, keep, pooled, total, logsum, d_pooled, d_total, d_rows, level, scale, keep_scale, R, P, D,
    blocks, BR: tl.constexpr, BU: tl.constexpr, DP: tl.constexpr, DROP: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """The rows' gradient, and Σ w' dw' of each row for the other kernel."""
    image = tl.program_id(0) // blocks
    r = tl.program_id(0) % blocks * BR + tl.arange(0, BR)
    d = tl.arange(0, DP)
    base = image.to(tl.int64) * R
    given = rows_of(d_pooled + base * D, r, d, R, D)
    dt = tl.load(d_total + base + r, mask=r < R, other=0.0)
    mean = tl.sum(given.to(tl.float32) * rows_of(pooled + base * D, r, d, R, D).to(tl.float32), axis=1)
    mean += dt * tl.load(total + base + r, mask=r < R, other=0.0)
    tl.store(level + base + r, mean, mask=r < R)
    log_sum = tl.load(logsum + base + r, mask=r < R, other=0.0)
    a = rows_of(rows + base * D, r, d, R, D)
    sums = tl.zeros((BR, DP), tl.float32)
    for start in range(0, P, BU):
        u = start + tl.arange(0, BU)
        m, k = pixels_of(memory, code, image, u, d, P, D, memory.dtype.element_ty)
        factor = kept(keep, image, r, u, keep_scale, R, P, DROP)
        _, ds = score_gradient(a, given, m, k, dt, mean, log_sum, factor, scale, u, P, HALF)
        sums += product(ds, k, HALF)
    inside = (r < R)[:, None] & (d < D)[None, :]
    tl.store(d_rows + base * D + r[:, None] * D + d[None, :], sums.to(d_rows.dtype.element_ty), mask=inside)


@triton.jit
def memory_backward_kernel(
    rows, memory, code, keep, logsum, d_pooled, d_total, level, d_memory, scale, keep_scale, R, P, D, blocks,
    BR: tl.constexpr, BU: tl.constexpr, DP: tl.constexpr, DROP: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """The gradient of BU pixels of one image's memory."""
    image = tl.program_id(0) // blocks
    u = tl.program_id(0) % blocks * BU + tl.arange(0, BU)
    d = tl.arange(0, DP)
    base = image.to(tl.int64) * R
    m, k = pixels_of(memory, code, image, u, d, P, D, memory.dtype.element_ty)
    sums = tl.zeros((BU, DP), tl.float32)
    for start in range(0, R, BR):
        r = start + tl.arange(0, BR)
        a = rows_of(rows + base * D, r, d, R, D)
        given = rows_of(d_pooled + base * D, r, d, R, D)
        dt = tl.load(d_total + base + r, mask=r < R, other=0.0)
        mean = tl.load(level + base + r, mask=r < R, other=0.0)
        log_sum = tl.load(logsum + base + r, mask=r < R, other=0.0)
        factor = kept(keep, image, r, u, keep_scale, R, P, DROP)
        w, ds = score_gradient(a, given, m, k, dt, mean, log_sum, factor, scale, u, P, HALF)
        sums += product(tl.trans(w), given, HALF)
        sums += product(tl.trans(ds), a, HALF)
    place = image.to(tl.int64) * P * D + u[:, None] * D + d[None, :]
    inside = (u < P)[:, None] & (d < D)[None, :]
    tl.store(d_memory + place, sums.to(d_memory.dtype.element_ty), mask=inside)

"""Triton kernels of region attention: two for the forward pass, three for the backward pass.

Memory traffic is the cost, so each pass reads the maps F (B, C, H, W) and z (B, D, H, W) once and writes their
gradients once; what goes between the kernels is (B, Q, H·W). A program owns one image, or a block of its pixels or
channels, so pixels are never regrouped across images and offsets inside an image fit 32 bits. Q is padded to QP, a
power of two of at least 16, for the tensor cores. Every sum has a fixed order: results repeat to the bit.

    backward, with dS and dR given, A_q = Σ_u M_q(u), P = M − ε, n = 1/‖z‖, p̂ = p/‖p‖:
    dM_q(u) = (dR_q · (F(u) − r_q)) / A_q              dF(u) = Σ_q dR_q M_q(u) / A_q
    T = dS + P (dM − Σ_q P dM) / τ                     dz(u) = n (Σ_q T_q p̂_q − n z Σ_q T_q s_q)
    dp̂_q = Σ_b,u T_q n z                               dp_q = (dp̂_q − p̂_q (p̂_q · dp̂_q)) / ‖p_q‖
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl

from fra_dist.kernels.triton_matmul import matmul

NORM_FLOOR = tl.constexpr(1e-12)
CLAMPED = tl.constexpr(0.999e12)
"""An inverse norm above this comes from the floor, whose gradient is zero."""


@triton.jit
def offsets(pixel, W, sh, sw, FLAT: tl.constexpr):
    """Offsets of pixels inside their image; with FLAT the pixels are evenly spaced, `sw` apart."""
    if FLAT:
        return pixel * sw
    else:
        return (pixel // W) * sh + (pixel % W) * sw


@triton.jit
def softmax(s, q, temperature, Q: tl.constexpr):
    """Softmax over the regions (axis 1) of s/τ; it is zero in the padding."""
    logits = tl.where((q < Q)[None, :], s / temperature, float("-inf"))
    powers = tl.exp(logits - tl.max(logits, axis=1)[:, None])
    return powers / tl.sum(powers, axis=1)[:, None]


@triton.jit
def similarity_kernel(
    z, p, s, z_scale, p_scale, D, HW, W, blocks, zb, zd, zh, zw, pq, pd,
    Q: tl.constexpr, QP: tl.constexpr, BU: tl.constexpr, BD: tl.constexpr, FLAT: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Cosine similarities and inverse norms of one block of pixels."""
    image = (tl.program_id(0) // blocks).to(tl.int64)
    u = (tl.program_id(0) % blocks) * BU + tl.arange(0, BU)
    q = tl.arange(0, QP)
    rows = z + image * zb + offsets(u, W, zh, zw, FLAT)[:, None]
    dots = tl.zeros((BU, QP), tl.float32)
    z_square = tl.zeros((BU,), tl.float32)
    p_square = tl.zeros((QP,), tl.float32)
    for start in range(0, D, BD):
        d = start + tl.arange(0, BD)
        tile = tl.load(rows + d[None, :] * zd, mask=(u < HW)[:, None] & (d < D)[None, :], other=0.0)
        proto = tl.load(p + d[:, None] * pd + q[None, :] * pq, mask=(d < D)[:, None] & (q < Q)[None, :], other=0.0)
        proto = proto.to(tl.float32)
        dots = matmul(tile, proto, dots, HALF)
        z_square += tl.sum(tile.to(tl.float32) * tile.to(tl.float32), axis=1)
        p_square += tl.sum(proto * proto, axis=0)
    z_inverse = 1.0 / tl.maximum(tl.sqrt(z_square), NORM_FLOOR)
    p_inverse = 1.0 / tl.maximum(tl.sqrt(p_square), NORM_FLOOR)
    out = s + image * Q * HW + q[None, :] * HW + u[:, None]
    tl.store(out, dots * z_inverse[:, None] * p_inverse[None, :], mask=(u < HW)[:, None] & (q < Q)[None, :])
    tl.store(z_scale + image * HW + u, z_inverse, mask=u < HW)
    if tl.program_id(0) == 0:
        tl.store(p_scale + q, p_inverse, mask=q < Q)


@triton.jit
def pool_kernel(
    f, s, r, mass, temperature, epsilon, C, HW, W, blocks, fb, fc, fh, fw,
    Q: tl.constexpr, QP: tl.constexpr, BU: tl.constexpr, BC: tl.constexpr, FLAT: tl.constexpr, HALF: tl.constexpr,
    ON_DEVICE: tl.constexpr,
):  # fmt: skip
    """Region features of one image, for one block of channels."""
    if ON_DEVICE:
        temperature = tl.load(temperature)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    block = tl.program_id(0) % blocks
    c = block * BC + tl.arange(0, BC)
    q = tl.arange(0, QP)
    pooled = tl.zeros((BC, QP), tl.float32)
    total = tl.where(q < Q, 0.0, 1.0)
    for start in range(0, HW, BU):
        u = start + tl.arange(0, BU)
        inside = (u < HW)[:, None] & (q < Q)[None, :]
        sim = tl.load(s + image * Q * HW + q[None, :] * HW + u[:, None], mask=inside, other=0.0)
        heat = tl.where(inside, softmax(sim, q, temperature, Q) + epsilon, 0.0)
        at = f + image * fb + c[:, None] * fc + offsets(u, W, fh, fw, FLAT)[None, :]
        tile = tl.load(at, mask=(c < C)[:, None] & (u < HW)[None, :], other=0.0)
        pooled = matmul(tile, heat, pooled, HALF)
        total += tl.sum(heat, axis=0)
    out = r + image * Q * C + q[None, :] * C + c[:, None]
    tl.store(out, (pooled / total[None, :]).to(r.dtype.element_ty), mask=(c < C)[:, None] & (q < Q)[None, :])
    if block == 0:
        tl.store(mass + image * Q + q, total, mask=q < Q)


@triton.jit
def features_backward_kernel(
    f, s, r, mass, ds, dr, df, ds_total, temperature, epsilon, C, HW, W, blocks,
    fb, fc, fh, fw, gb, gc, gh, gw,
    Q: tl.constexpr, QP: tl.constexpr, BU: tl.constexpr, BC: tl.constexpr, FLAT: tl.constexpr, HALF: tl.constexpr,
    ON_DEVICE: tl.constexpr,
):  # fmt: skip
    """Gradient of the features, and the whole gradient of the similarities, for one block of pixels."""
    if ON_DEVICE:
        temperature = tl.load(temperature)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    u = (tl.program_id(0) % blocks) * BU + tl.arange(0, BU)
    q = tl.arange(0, QP)
    inside = (u < HW)[:, None] & (q < Q)[None, :]
    at = image * Q * HW + q[None, :] * HW + u[:, None]
    share = softmax(tl.load(s + at, mask=inside, other=0.0), q, temperature, Q)
    total = tl.load(mass + image * Q + q, mask=q < Q, other=1.0)
    weight = tl.where(inside, (share + epsilon) / total[None, :], 0.0)
    rows = f + image * fb + offsets(u, W, fh, fw, FLAT)[:, None]
    d_rows = df + image * gb + offsets(u, W, gh, gw, FLAT)[:, None]
    slope = tl.zeros((BU, QP), tl.float32)
    level = tl.zeros((QP,), tl.float32)
    for start in range(0, C, BC):
        c = start + tl.arange(0, BC)
        region = image * Q * C + q[:, None] * C + c[None, :]
        known = (q < Q)[:, None] & (c < C)[None, :]
        d_region = tl.load(dr + region, mask=known, other=0.0)
        mean = tl.load(r + region, mask=known, other=0.0)
        here = (u < HW)[:, None] & (c < C)[None, :]
        tile = tl.load(rows + c[None, :] * fc, mask=here, other=0.0)
        slope = matmul(tile, tl.trans(d_region), slope, HALF)
        level += tl.sum(d_region.to(tl.float32) * mean.to(tl.float32), axis=1)
        d_tile = matmul(weight, d_region, tl.zeros((BU, BC), tl.float32), HALF)
        tl.store(d_rows + c[None, :] * gc, d_tile.to(df.dtype.element_ty), mask=here)
    d_heat = (slope - level[None, :]) / total[None, :]
    d_logit = share * (d_heat - tl.sum(share * d_heat, axis=1)[:, None])
    direct = tl.load(ds + at, mask=inside, other=0.0)
    tl.store(ds_total + at, direct + d_logit / temperature, mask=inside)


@triton.jit
def pixels_backward_kernel(
    z, p, s, z_scale, p_scale, ds_total, dz, partial, D, HW, W, blocks, work, splits, chunks,
    zb, zd, zh, zw, pq, pd, gb, gd, gh, gw,
    Q: tl.constexpr, QP: tl.constexpr, BU: tl.constexpr, BD: tl.constexpr, FLAT: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Gradient of the pixels for every `splits`-th block of pixels, and their share of the prototypes' gradient."""
    split = tl.program_id(0) // chunks
    d = (tl.program_id(0) % chunks) * BD + tl.arange(0, BD)
    q = tl.arange(0, QP)
    known = (q < Q)[:, None] & (d < D)[None, :]
    unit = tl.load(p + q[:, None] * pq + d[None, :] * pd, mask=known, other=0.0).to(tl.float32)
    unit *= tl.load(p_scale + q, mask=q < Q, other=0.0)[:, None]
    d_unit = tl.zeros((BD, QP), tl.float32)
    for block in range(split, work, splits):
        image = (block // blocks).to(tl.int64)
        u = (block % blocks) * BU + tl.arange(0, BU)
        inside = (u < HW)[:, None] & (q < Q)[None, :]
        at = image * Q * HW + q[None, :] * HW + u[:, None]
        scale = tl.load(z_scale + image * HW + u, mask=u < HW, other=0.0)
        d_sim = tl.load(ds_total + at, mask=inside, other=0.0)
        radial = tl.sum(d_sim * tl.load(s + at, mask=inside, other=0.0), axis=1)
        radial = tl.where(scale > CLAMPED, 0.0, radial * scale * scale)
        d_sim *= scale[:, None]
        here = (u < HW)[:, None] & (d < D)[None, :]
        rows = z + image * zb + offsets(u, W, zh, zw, FLAT)[:, None]
        tile = tl.load(rows + d[None, :] * zd, mask=here, other=0.0)
        d_tile = matmul(d_sim, unit, tl.zeros((BU, BD), tl.float32), HALF)
        d_tile -= radial[:, None] * tile.to(tl.float32)
        d_rows = dz + image * gb + offsets(u, W, gh, gw, FLAT)[:, None]
        tl.store(d_rows + d[None, :] * gd, d_tile.to(dz.dtype.element_ty), mask=here)
        d_unit = matmul(tl.trans(tile), d_sim, d_unit, HALF)
    out = partial + (split * Q + q[None, :]) * D + d[:, None]
    tl.store(out, d_unit, mask=(q < Q)[None, :] & (d < D)[:, None])


@triton.jit
def prototypes_backward_kernel(
    p, p_scale, partial, dp, D, Q, splits, pq, pd, gq, gd, DP: tl.constexpr, STEP: tl.constexpr
):
    """Gradient of one prototype from the partial sums."""
    q = tl.program_id(0)
    d = tl.arange(0, DP)
    sums = tl.zeros((STEP, DP), tl.float32)
    for start in range(0, splits, STEP):
        split = start + tl.arange(0, STEP)
        known = (split < splits)[:, None] & (d < D)[None, :]
        sums += tl.load(partial + (split * Q + q)[:, None] * D + d[None, :], mask=known, other=0.0)
    d_unit = tl.sum(sums, axis=0)
    scale = tl.load(p_scale + q)
    unit = tl.load(p + q * pq + d * pd, mask=d < D, other=0.0).to(tl.float32) * scale
    radial = tl.where(scale > CLAMPED, 0.0, tl.sum(unit * d_unit, axis=0))
    tl.store(dp + q * gq + d * gd, (scale * (d_unit - radial * unit)).to(dp.dtype.element_ty), mask=d < D)

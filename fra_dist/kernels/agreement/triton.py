"""Triton kernels of the agreement: the cosines of an image's predictions with its targets, their sums, the gradient.

Predictions p and targets t are (B, Q, D), two pairs of them. A program owns an image of one pair, so nothing crosses
images but the last sums, which one program does in a fixed order. Q is padded to QP, a power of two of at least 16, for
the tensor cores. With a_qk the gradient of c_qk, and n = 1/‖p‖, m = 1/‖t‖:

    a_qq = −2 d/(B Q)     a_qk = 2 w c_qk d/(B Q²)     dp_q = n_q (Σ_k a_qk m_k t_k − n_q p_q Σ_k a_qk c_qk)
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl

from fra_dist.kernels.triton_matmul import matmul

NORM_FLOOR = tl.constexpr(1e-12)
FLOORED = tl.constexpr(0.999e12)
"""An inverse norm above this comes from the floor, whose gradient is zero."""


@triton.jit
def cosines_kernel(
    p1, p2, t1, t2, cosines, scales, partial, B, D,
    Q: tl.constexpr, QP: tl.constexpr, BD: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Cosines (2, B, Q, Q), inverse norms of p and t (2, 2, B, Q), and sums over each image (2, 2, B)."""
    image = tl.program_id(0)
    pair = tl.program_id(1)
    if pair == 0:
        p = p1
        t = t1
    else:
        p = p2
        t = t2
    q = tl.arange(0, QP)
    rows = (image.to(tl.int64) * Q + q)[:, None] * D
    dots = tl.zeros((QP, QP), tl.float32)
    p_square = tl.zeros((QP,), tl.float32)
    t_square = tl.zeros((QP,), tl.float32)
    for start in range(0, D, BD):
        d = start + tl.arange(0, BD)
        inside = (q < Q)[:, None] & (d < D)[None, :]
        prediction = tl.load(p + rows + d[None, :], mask=inside, other=0.0)
        target = tl.load(t + rows + d[None, :], mask=inside, other=0.0)
        dots = matmul(prediction, tl.trans(target), dots, HALF)
        p_square += tl.sum(prediction.to(tl.float32) * prediction.to(tl.float32), axis=1)
        t_square += tl.sum(target.to(tl.float32) * target.to(tl.float32), axis=1)
    p_scale = 1.0 / floored(p_square)
    t_scale = 1.0 / floored(t_square)
    cosine = dots * p_scale[:, None] * t_scale[None, :]
    real = (q < Q)[:, None] & (q < Q)[None, :]
    same = q[:, None] == q[None, :]
    at = pair * B + image
    tl.store(cosines + (at.to(tl.int64) * Q + q)[:, None] * Q + q[None, :], cosine, mask=real)
    tl.store(scales + (pair * 2 * B + image) * Q + q, p_scale, mask=q < Q)
    tl.store(scales + ((pair * 2 + 1) * B + image) * Q + q, t_scale, mask=q < Q)
    agreeing = tl.sum(tl.sum(tl.where(real & same, cosine, 0.0), axis=1), axis=0)
    others = tl.sum(tl.sum(tl.where(real & (q[:, None] != q[None, :]), cosine * cosine, 0.0), axis=1), axis=0)
    tl.store(partial + pair * 2 * B + image, agreeing)
    tl.store(partial + (pair * 2 + 1) * B + image, others)


@triton.jit
def floored(square):
    """The norm, at least the floor; NaN stays NaN."""
    norm = tl.sqrt(square)
    return tl.where(norm < NORM_FLOOR, NORM_FLOOR, norm)


@triton.jit
def finish_kernel(partial, both, one, two, apart, apart1, apart2, weight, mean, mean_apart, B, BLOCK: tl.constexpr):
    """The two terms, the similarities of different regions, and the sum of each, from the sums over images.

    mean is 1/(B Q), mean_apart 1/(B Q²).
    """
    i = tl.arange(0, BLOCK)
    agree1 = tl.zeros((BLOCK,), tl.float32)
    agree2 = tl.zeros((BLOCK,), tl.float32)
    others1 = tl.zeros((BLOCK,), tl.float32)
    others2 = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, B, BLOCK):
        image = start + i
        agree1 += tl.load(partial + image, mask=image < B, other=0.0)
        others1 += tl.load(partial + B + image, mask=image < B, other=0.0)
        agree2 += tl.load(partial + 2 * B + image, mask=image < B, other=0.0)
        others2 += tl.load(partial + 3 * B + image, mask=image < B, other=0.0)
    first_apart = tl.sum(others1, axis=0) * mean_apart
    second_apart = tl.sum(others2, axis=0) * mean_apart
    first = 2.0 - 2.0 * (tl.sum(agree1, axis=0) * mean) + weight * first_apart
    second = 2.0 - 2.0 * (tl.sum(agree2, axis=0) * mean) + weight * second_apart
    tl.store(both, first + second)
    tl.store(one, first)
    tl.store(two, second)
    tl.store(apart, first_apart + second_apart)
    tl.store(apart1, first_apart)
    tl.store(apart2, second_apart)


@triton.jit
def gradient_kernel(
    d_one, d_two, p1, p2, t1, t2, cosines, scales, dp1, dp2, same, other, B, D,
    Q: tl.constexpr, QP: tl.constexpr, BD: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Gradient of the predictions of an image, for one block of columns; same is −2/(B Q), other 2 w/(B Q²)."""
    image = tl.program_id(0)
    pair = tl.program_id(1)
    if pair == 0:
        given = tl.load(d_one)
        p = p1
        t = t1
        dp = dp1
    else:
        given = tl.load(d_two)
        p = p2
        t = t2
        dp = dp2
    q = tl.arange(0, QP)
    d = tl.program_id(2) * BD + tl.arange(0, BD)
    real = (q < Q)[:, None] & (q < Q)[None, :]
    at = (pair * B + image).to(tl.int64)
    cosine = tl.load(cosines + (at * Q + q)[:, None] * Q + q[None, :], mask=real, other=0.0)
    slope = given * tl.where(q[:, None] == q[None, :], same, other * cosine)
    p_scale = tl.load(scales + (pair * 2 * B + image) * Q + q, mask=q < Q, other=0.0)
    t_scale = tl.load(scales + ((pair * 2 + 1) * B + image) * Q + q, mask=q < Q, other=0.0)
    # a vector below the floor is divided by a constant
    radial = tl.where(p_scale > FLOORED, 0.0, tl.sum(slope * cosine, axis=1) * p_scale)
    inside = (q < Q)[:, None] & (d < D)[None, :]
    place = (image.to(tl.int64) * Q + q)[:, None] * D + d[None, :]
    target = tl.load(t + place, mask=inside, other=0.0)
    prediction = tl.load(p + place, mask=inside, other=0.0).to(tl.float32)
    gradient = matmul(slope * t_scale[None, :], target, tl.zeros((QP, BD), tl.float32), HALF)
    gradient = p_scale[:, None] * (gradient - radial[:, None] * prediction)
    tl.store(dp + place, gradient.to(dp.dtype.element_ty), mask=inside)

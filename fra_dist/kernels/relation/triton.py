"""Triton kernels of the semantic relation: Sinkhorn's rounds, the terms, and their gradient.

Similarities are (V, B, Q, P), P pixels an image and N = B P a view. A tile is all regions by BU pixels of a view, so
softmaxes stay inside it. Reducing kernels give a program a part of a view's pixels and leave partial results, which are
put together in a fixed order. Shares are kept as logarithms where they may be too small for fp32.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl


@triton.jit
def tile_offsets(view, n, q, N, P, Q: tl.constexpr):
    """Offsets of the similarities of a tile, (QP, BU)."""
    return view * N * Q + (n // P * Q)[None, :] * P + q[:, None] * P + (n % P)[None, :]


@triton.jit
def log_share(x, scale, bias, q, Q: tl.constexpr):
    """The log softmax over regions, axis 0, of scale x + bias; −inf for regions from Q on."""
    logits = tl.where((q < Q)[:, None], x * scale + bias[:, None], float("-inf"))
    logits = logits - tl.max(logits, axis=0)[None, :]
    return logits - tl.log(tl.sum(tl.exp(logits), axis=0))[None, :]


@triton.jit
def mass_kernel(
    teacher, bias, partial, scale, N, P, length,
    Q: tl.constexpr, QP: tl.constexpr, BU: tl.constexpr,
):  # fmt: skip
    """For a part of a view's pixels: the largest log share of each region, and the sum of shares relative to it."""
    view = tl.program_id(0)
    split = tl.program_id(1)
    q = tl.arange(0, QP)
    b = tl.load(bias + view * Q + q, mask=q < Q, other=0.0)
    top = tl.full((QP,), float("-inf"), tl.float32)
    total = tl.zeros((QP,), tl.float32)
    for start in range(split * length, min((split + 1) * length, N), BU):
        n = start + tl.arange(0, BU)
        inside = (q < Q)[:, None] & (n < N)[None, :]
        t = tl.load(teacher + tile_offsets(view, n, q, N, P, Q), mask=inside, other=0.0).to(tl.float32)
        share = tl.where((n < N)[None, :], log_share(t, scale, b, q, Q), float("-inf"))
        higher = tl.maximum(top, tl.max(share, axis=1))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(share - higher[:, None]), axis=1)
        top = higher
    place = partial + (split * tl.num_programs(0) + view) * 2 * Q + q
    tl.store(place, top, mask=q < Q)
    tl.store(place + Q, total, mask=q < Q)


@triton.jit
def combine_kernel(partial, mass, splits, N, Q: tl.constexpr, QP: tl.constexpr, SP: tl.constexpr):
    """Mean share of each region of a view, in float64."""
    view = tl.program_id(0)
    q = tl.arange(0, QP)
    s = tl.arange(0, SP)
    inside = (s < splits)[:, None] & (q < Q)[None, :]
    place = partial + (s[:, None] * tl.num_programs(0) + view) * 2 * Q + q[None, :]
    top = tl.load(place, mask=inside, other=float("-inf"))
    total = tl.load(place + Q, mask=inside, other=0.0)
    highest = tl.max(top, axis=0)
    whole = tl.sum(tl.where(inside, total * tl.exp(top - highest[None, :]), 0.0), axis=0)
    tl.store(mass + view * Q + q, whole.to(tl.float64) * tl.exp(highest.to(tl.float64)) / N, mask=q < Q)


@triton.jit
def shift_kernel(bias, mass, result, count, BLOCK: tl.constexpr):
    """The bias after one Sinkhorn round, bias − log(mass); a mass below 1e-300 counts as 1e-300."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    m = tl.load(mass + place, mask=inside, other=1.0)
    m = tl.where(m < 1e-300, 1e-300, m)  # keeps NaN, as torch does
    tl.store(result + place, tl.load(bias + place, mask=inside, other=0.0) - tl.log(m).to(tl.float32), mask=inside)


@triton.jit
def terms_kernel(
    student, teacher, bias, partial, student_scale, teacher_scale, N, P, length,
    Q: tl.constexpr, QP: tl.constexpr, BU: tl.constexpr,
):  # fmt: skip
    """For a part of a view's pixels: sums of the cross-entropy, shares and first places, 1 + 2 Q numbers."""
    view = tl.program_id(0)
    split = tl.program_id(1)
    q = tl.arange(0, QP)
    b = tl.load(bias + view * Q + q, mask=q < Q, other=0.0)
    entropy = tl.zeros((BU,), tl.float32)
    total = tl.zeros((QP,), tl.float32)
    first = tl.zeros((QP,), tl.float32)
    for start in range(split * length, min((split + 1) * length, N), BU):
        n = start + tl.arange(0, BU)
        inside = (q < Q)[:, None] & (n < N)[None, :]
        place = tile_offsets(view, n, q, N, P, Q)
        s = tl.load(student + place, mask=inside, other=0.0).to(tl.float32)
        t = tl.load(teacher + place, mask=inside, other=0.0).to(tl.float32)
        share = log_share(s, student_scale, tl.zeros((QP,), tl.float32), q, Q)
        target = tl.exp(log_share(t, teacher_scale, b, q, Q))
        entropy -= tl.sum(tl.where(inside, target * share, 0.0), axis=0)
        total += tl.sum(tl.where(inside, tl.exp(share), 0.0), axis=1)
        # the first of the largest; NaN counts as the largest, as torch has it
        s = tl.where((q < Q)[:, None], tl.where(s == s, s, float("inf")), float("-inf"))
        best = tl.min(tl.where(s == tl.max(s, axis=0)[None, :], q[:, None], QP), axis=0)
        first += tl.sum(tl.where(inside & (best[None, :] == q[:, None]), 1.0, 0.0), axis=1)
    place = partial + (split * tl.num_programs(0) + view) * (1 + 2 * Q)
    tl.store(place, tl.sum(entropy, axis=0))
    tl.store(place + 1 + q, total, mask=q < Q)
    tl.store(place + 1 + Q + q, first, mask=q < Q)


@triton.jit
def gradient_kernel(
    student, teacher, bias, d_entropy, slope, gradient, student_scale, teacher_scale, factor, N, P,
    Q: tl.constexpr, QP: tl.constexpr, BU: tl.constexpr,
):  # fmt: skip
    """One tile of the gradient; factor is 1/(N τ_s)."""
    view = tl.program_id(0)
    n = tl.program_id(1) * BU + tl.arange(0, BU)
    q = tl.arange(0, QP)
    b = tl.load(bias + view * Q + q, mask=q < Q, other=0.0)
    tilt = tl.load(slope + view * Q + q, mask=q < Q, other=0.0)
    inside = (q < Q)[:, None] & (n < N)[None, :]
    place = tile_offsets(view, n, q, N, P, Q)
    s = tl.load(student + place, mask=inside, other=0.0).to(tl.float32)
    t = tl.load(teacher + place, mask=inside, other=0.0).to(tl.float32)
    share = tl.exp(log_share(s, student_scale, tl.zeros((QP,), tl.float32), q, Q))
    target = tl.exp(log_share(t, teacher_scale, b, q, Q))
    level = tl.sum(share * tilt[:, None], axis=0)
    whole = tl.load(d_entropy + view) * (share - target) + share * (tilt[:, None] - level[None, :])
    tl.store(gradient + place, (whole * factor).to(gradient.dtype.element_ty), mask=inside)

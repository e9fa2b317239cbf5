"""Triton kernels of batch norm: two for the forward pass, two for the backward pass.

A map is rows of C channels, R of them a group. The reducing kernels give a program a block of channels and every
SPLITS-th part of a group's rows, and leave partial sums to be added in a fixed order; the others own a tile. Each pass
reads what it needs once: moments x; transform x (and the residual); sums dy, x, y; gradients dy, x, y. Sums are fp32.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl


@triton.jit
def moments_kernel(
    x, partial, R, C, G, splits, length,
    BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Sums of x − k and (x − k)² over a part of a group's rows, k being the group's first row: nothing cancels."""
    blocks = tl.cdiv(C, BC)
    c = (tl.program_id(0) % blocks) * BC + tl.arange(0, BC)
    group = tl.program_id(0) // blocks
    split = tl.program_id(1)
    base = x + group.to(tl.int64) * R * C
    first = tl.load(base + c, mask=c < C, other=0.0).to(tl.float32)
    total = tl.zeros((BC,), tl.float32)
    square = tl.zeros((BC,), tl.float32)
    for start in range(split * length, (split + 1) * length, BR):
        row = start + tl.arange(0, BR)
        inside = (row < R)[:, None] & (c < C)[None, :]
        value = tl.load(base + row.to(tl.int64)[:, None] * C + c[None, :], mask=inside, other=0.0).to(tl.float32)
        value = tl.where(inside, value - first[None, :], 0.0)
        total += tl.sum(value, axis=0)
        square += tl.sum(value * value, axis=0)
    place = partial + (split * 2 * G + group) * C + c
    tl.store(place, total, mask=c < C)
    tl.store(place + G * C, square, mask=c < C)


@triton.jit
def transform_kernel(
    x, scale, shift, residual, y, R, C,
    BR: tl.constexpr, BC: tl.constexpr, ADD: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """One tile of y = scale x + shift (+ residual), rectified if RELU."""
    blocks = tl.cdiv(C, BC)
    c = (tl.program_id(0) % blocks) * BC + tl.arange(0, BC)
    row = (tl.program_id(0) // blocks) * BR + tl.arange(0, BR)
    group = tl.program_id(1)
    inside = (row < R)[:, None] & (c < C)[None, :]
    place = group.to(tl.int64) * R * C + row.to(tl.int64)[:, None] * C + c[None, :]
    a = tl.load(scale + group * C + c, mask=c < C, other=0.0)
    b = tl.load(shift + group * C + c, mask=c < C, other=0.0)
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) * a[None, :] + b[None, :]
    if ADD:
        value += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        value = tl.where(value < 0.0, 0.0, value)  # keeps NaN, as torch does
    tl.store(y + place, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def sums_kernel(
    dy, x, y, mean, inverse, partial, R, C, G, splits, length,
    BR: tl.constexpr, BC: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Sums of g and g x̂ over a part of a group's rows."""
    blocks = tl.cdiv(C, BC)
    c = (tl.program_id(0) % blocks) * BC + tl.arange(0, BC)
    group = tl.program_id(0) // blocks
    split = tl.program_id(1)
    origin = group.to(tl.int64) * R * C
    centre = tl.load(mean + group * C + c, mask=c < C, other=0.0)
    factor = tl.load(inverse + group * C + c, mask=c < C, other=0.0)
    level = tl.zeros((BC,), tl.float32)
    slope = tl.zeros((BC,), tl.float32)
    for start in range(split * length, (split + 1) * length, BR):
        row = start + tl.arange(0, BR)
        inside = (row < R)[:, None] & (c < C)[None, :]
        place = origin + row.to(tl.int64)[:, None] * C + c[None, :]
        given = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
        if RELU:
            given = tl.where(tl.load(y + place, mask=inside, other=0.0).to(tl.float32) > 0.0, given, 0.0)
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        unit = tl.where(inside, (value - centre[None, :]) * factor[None, :], 0.0)
        level += tl.sum(given, axis=0)
        slope += tl.sum(given * unit, axis=0)
    place = partial + (split * 2 * G + group) * C + c
    tl.store(place, level, mask=c < C)
    tl.store(place + G * C, slope, mask=c < C)


@triton.jit
def gradients_kernel(
    dy, x, y, mean, inverse, factor, level, slope, dx, d_residual, R, C,
    BR: tl.constexpr, BC: tl.constexpr, ADD: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """One tile of dx, and of the residual's gradient if ADD."""
    blocks = tl.cdiv(C, BC)
    c = (tl.program_id(0) % blocks) * BC + tl.arange(0, BC)
    row = (tl.program_id(0) // blocks) * BR + tl.arange(0, BR)
    group = tl.program_id(1)
    inside = (row < R)[:, None] & (c < C)[None, :]
    place = group.to(tl.int64) * R * C + row.to(tl.int64)[:, None] * C + c[None, :]
    channel = group * C + c
    given = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        given = tl.where(tl.load(y + place, mask=inside, other=0.0).to(tl.float32) > 0.0, given, 0.0)
    centre = tl.load(mean + channel, mask=c < C, other=0.0)
    scale = tl.load(inverse + channel, mask=c < C, other=0.0)
    unit = (tl.load(x + place, mask=inside, other=0.0).to(tl.float32) - centre[None, :]) * scale[None, :]
    inner = given - tl.load(level + channel, mask=c < C, other=0.0)[None, :]
    inner -= unit * tl.load(slope + channel, mask=c < C, other=0.0)[None, :]
    result = inner * tl.load(factor + channel, mask=c < C, other=0.0)[None, :]
    tl.store(dx + place, result.to(dx.dtype.element_ty), mask=inside)
    if ADD:
        tl.store(d_residual + place, given.to(d_residual.dtype.element_ty), mask=inside)

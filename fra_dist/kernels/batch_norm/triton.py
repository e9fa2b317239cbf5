"""Triton kernels of batch norm: two for the forward pass over the maps, two for the backward pass. On one rank the
first of either pass goes on to what the second needs: `statistics` and `means`. On several there is a collective in
between, so the first, `moments` or `sums`, leaves partial sums, and three more turn a few numbers a channel to others.

A map is rows of C channels, R of them a group. The reducing kernels give a program a block of channels and every
SPLITS-th part of a group's rows, whose sums are added in a fixed order, whichever came last; the others own a tile.
Each pass reads what it needs once: moments x; transform x (and the residual); sums dy, x; gradients g, x. Where ReLU
came after a residual, sums reads y as well, and the second gradient if y went two ways, and writes g: it is the
residual's gradient, and gradients needs nothing else. Without a residual, the sign of y is that of scale x + shift, and
g is made of dy twice; where y was not kept, sums writes it once more for whoever needs it. Sums are fp32, and what is
made of them float64 until ranks have been added up.

The reducing kernels add up tiles and reduce one tile after their loop: no barrier waits inside of it.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl

EVERYWHERE, FROM_OUTPUT, FROM_INPUT = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
"""How the backward kernels know where ReLU let values through: no ReLU, by y, or by scale x + shift."""


@triton.jit
def add_up_moments(
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
    total = tl.zeros((BR, BC), tl.float32)
    square = tl.zeros((BR, BC), tl.float32)
    for start in range(split * length, (split + 1) * length, BR):
        row = start + tl.arange(0, BR)
        inside = (row < R)[:, None] & (c < C)[None, :]
        value = tl.load(base + row.to(tl.int64)[:, None] * C + c[None, :], mask=inside, other=0.0).to(tl.float32)
        value = tl.where(inside, value - first[None, :], 0.0)
        total += value
        square += value * value
    place = partial + (split * 2 * G + group) * C + c
    tl.store(place, tl.sum(total, axis=0), mask=c < C)
    tl.store(place + G * C, tl.sum(square, axis=0), mask=c < C)


@triton.jit
def is_last(arrived, expected):
    """Whether this program is the last of `expected` ones to come here. What the others stored before is there then.

    The barrier lets the stores of all threads come before the addition of one of them, which releases them to whoever
    adds later; the counter is zero again for the next kernel.
    """
    tl.debug_barrier()
    last = tl.atomic_add(arrived, 1, sem="acq_rel", scope="gpu") == expected - 1
    if last:
        tl.store(arrived, 0)
    return last


@triton.jit
def moments_kernel(
    x, partial, R, C, G, splits, length,
    BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Sums of x − k and (x − k)² over a part of a group's rows, for `collect_kernel`."""
    add_up_moments(x, partial, R, C, G, splits, length, BR, BC)


@triton.jit
def statistics_kernel(
    x, partial, weight, bias, result, running_mean, running_var, tracked, arrived, eps, momentum, correction, R, C,
    splits, length,
    G: tl.constexpr, PARTS: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr, FOLLOW: tl.constexpr,
):  # fmt: skip
    """Moments, collect, finish and, if FOLLOW, follow, on one rank: the last program of a block of channels goes on
    from the sums of all, group by group."""
    add_up_moments(x, partial, R, C, G, splits, length, BR, BC)
    block = tl.program_id(0) % tl.cdiv(C, BC)
    if is_last(arrived + block, G * splits):
        c = block * BC + tl.arange(0, BC)
        gain = tl.load(weight + c, mask=c < C, other=0.0).to(tl.float32)
        base = tl.load(bias + c, mask=c < C, other=0.0).to(tl.float32)
        if FOLLOW:
            centre = tl.load(running_mean + c, mask=c < C, other=0.0)
            spread = tl.load(running_var + c, mask=c < C, other=0.0)
        for group in tl.static_range(G):
            place = partial + group * C + c
            offset = tl.sum(of_all_parts(place, 2 * G * C, splits, c < C, PARTS, BC, tl.float64), axis=0) / R
            square = tl.sum(of_all_parts(place + G * C, 2 * G * C, splits, c < C, PARTS, BC, tl.float64), axis=0) / R
            row = x + (block.to(tl.int64) * 0 + group) * R * C  # a map may have 2³¹ values
            first = tl.load(row + c, mask=c < C, other=0.0).to(tl.float32).to(tl.float64)
            mean = (first + offset).to(tl.float32)
            var = (square - offset * offset).to(tl.float32)
            var = tl.where(var < 0.0, 0.0, var)  # keeps NaN
            inverse = 1.0 / tl.sqrt_rn(var + eps)
            scale = gain * inverse
            out = result + group * C + c
            tl.store(out, mean, mask=c < C)
            tl.store(out + G * C, var, mask=c < C)
            tl.store(out + 2 * G * C, inverse, mask=c < C)
            tl.store(out + 3 * G * C, scale, mask=c < C)
            tl.store(out + 4 * G * C, base - mean * scale, mask=c < C)
            if FOLLOW:
                centre += (mean - centre) * momentum
                spread += (var * correction - spread) * momentum
        if FOLLOW:
            tl.store(running_mean + c, centre, mask=c < C)
            tl.store(running_var + c, spread, mask=c < C)
            if block == 0:
                tl.store(tracked, tl.load(tracked) + G)


@triton.jit
def of_all_parts(place, step, splits, mask, PARTS: tl.constexpr, BC: tl.constexpr, TYPE: tl.constexpr):
    """The sums (BC,) of every part, at `place` and `step` further for each part, as PARTS rows yet to be added up.

    Other programs stored them: they are read where all programs store, not from what this one may have read before.
    """
    total = tl.zeros((PARTS, BC), TYPE)
    for start in range(0, splits, PARTS):
        part = start + tl.arange(0, PARTS)
        inside = (part < splits)[:, None] & mask[None, :]
        total += tl.load(place[None, :] + part[:, None] * step, mask=inside, other=0.0, cache_modifier=".cg").to(TYPE)
    return total


@triton.jit
def collect_kernel(
    x, partial, moments, R, C, G, splits,
    SP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Mean and mean square of a group's channels, float64, from the partial sums around its first row."""
    blocks = tl.cdiv(C, BC)
    c = (tl.program_id(0) % blocks) * BC + tl.arange(0, BC)
    group = tl.program_id(0) // blocks
    split = tl.arange(0, SP)
    inside = (split < splits)[:, None] & (c < C)[None, :]
    place = partial + (split[:, None] * 2 * G + group) * C + c[None, :]
    offset = tl.sum(tl.load(place, mask=inside, other=0.0).to(tl.float64), axis=0) / R
    square = tl.sum(tl.load(place + G * C, mask=inside, other=0.0).to(tl.float64), axis=0) / R
    first = tl.load(x + group.to(tl.int64) * R * C + c, mask=c < C, other=0.0).to(tl.float32).to(tl.float64)
    mean = first + offset
    tl.store(moments + group * C + c, mean, mask=c < C)
    tl.store(moments + (G + group) * C + c, square - offset * offset + mean * mean, mask=c < C)


@triton.jit
def finish_kernel(
    moments, weight, bias, result, eps, C, N,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Mean, variance, its inverse root, scale and shift of N = groups × channels, one after the other."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exact = tl.load(moments + i, mask=i < N, other=0.0)
    var = (tl.load(moments + N + i, mask=i < N, other=0.0) - exact * exact).to(tl.float32)
    var = tl.where(var < 0.0, 0.0, var)  # keeps NaN
    mean = exact.to(tl.float32)
    inverse = 1.0 / tl.sqrt_rn(var + eps)
    scale = tl.load(weight + i % C, mask=i < N, other=0.0).to(tl.float32) * inverse
    shift = tl.load(bias + i % C, mask=i < N, other=0.0).to(tl.float32) - mean * scale
    tl.store(result + i, mean, mask=i < N)
    tl.store(result + N + i, var, mask=i < N)
    tl.store(result + 2 * N + i, inverse, mask=i < N)
    tl.store(result + 3 * N + i, scale, mask=i < N)
    tl.store(result + 4 * N + i, shift, mask=i < N)


@triton.jit
def follow_kernel(
    running_mean, running_var, tracked, mean, var, momentum, correction, C,
    G: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The running statistics follow the statistics of each of the G groups in turn."""
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    centre = tl.load(running_mean + c, mask=c < C, other=0.0)
    spread = tl.load(running_var + c, mask=c < C, other=0.0)
    for group in tl.static_range(G):
        centre += (tl.load(mean + group * C + c, mask=c < C, other=0.0) - centre) * momentum
        spread += (tl.load(var + group * C + c, mask=c < C, other=0.0) * correction - spread) * momentum
    tl.store(running_mean + c, centre, mask=c < C)
    tl.store(running_var + c, spread, mask=c < C)
    if tl.program_id(0) == 0:
        tl.store(tracked, tl.load(tracked) + G)


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
def rectified(given, value, scale, shift):
    """The gradient where ReLU let the value through, by its sign before ReLU."""
    return tl.where(value * scale[None, :] + shift[None, :] > 0.0, given, 0.0)


@triton.jit
def add_up_gradients(
    dy, more, x, y, mean, inverse, scale, shift, partial, g, R, C, G, splits, length,
    BR: tl.constexpr, BC: tl.constexpr, MASK: tl.constexpr, ADD: tl.constexpr, REBUILD: tl.constexpr,
):  # fmt: skip
    """Sums of g and g x̂ over a part of a group's rows; g itself too where it is known by y.

    If REBUILD, y goes where g would: y = ReLU(scale x + shift), as `transform_kernel` wrote it. If ADD,
    the gradient of y is dy + more. What is added up is g as it is kept, rounded as the sum would have been had an
    addition of its own stored it.
    """
    blocks = tl.cdiv(C, BC)
    c = (tl.program_id(0) % blocks) * BC + tl.arange(0, BC)
    group = tl.program_id(0) // blocks
    split = tl.program_id(1)
    origin = group.to(tl.int64) * R * C
    centre = tl.load(mean + group * C + c, mask=c < C, other=0.0)
    factor = tl.load(inverse + group * C + c, mask=c < C, other=0.0)
    gain = tl.load(scale + group * C + c, mask=c < C, other=0.0)
    base = tl.load(shift + group * C + c, mask=c < C, other=0.0)
    level = tl.zeros((BR, BC), tl.float32)
    slope = tl.zeros((BR, BC), tl.float32)
    for start in range(split * length, (split + 1) * length, BR):
        row = start + tl.arange(0, BR)
        inside = (row < R)[:, None] & (c < C)[None, :]
        place = origin + row.to(tl.int64)[:, None] * C + c[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        given = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
        if ADD:
            given += tl.load(more + place, mask=inside, other=0.0).to(tl.float32)
        if MASK == FROM_OUTPUT:
            given = tl.where(tl.load(y + place, mask=inside, other=0.0).to(tl.float32) > 0.0, given, 0.0)
            kept = given.to(g.dtype.element_ty)
            tl.store(g + place, kept, mask=inside)
            given = kept.to(tl.float32)
        if MASK == FROM_INPUT:
            if REBUILD:
                before = value * gain[None, :] + base[None, :]
                tl.store(g + place, tl.where(before < 0.0, 0.0, before).to(g.dtype.element_ty), mask=inside)
            given = rectified(given, value, gain, base)
        unit = tl.where(inside, (value - centre[None, :]) * factor[None, :], 0.0)
        level += given
        slope += given * unit
    place = partial + (split * 2 * G + group) * C + c
    tl.store(place, tl.sum(level, axis=0), mask=c < C)
    tl.store(place + G * C, tl.sum(slope, axis=0), mask=c < C)


@triton.jit
def sums_kernel(
    dy, more, x, y, mean, inverse, scale, shift, partial, g, R, C, G, splits, length,
    BR: tl.constexpr, BC: tl.constexpr, MASK: tl.constexpr, ADD: tl.constexpr, REBUILD: tl.constexpr,
):  # fmt: skip
    """Sums of g and g x̂ over a part of a group's rows, to be added up over parts and ranks."""
    add_up_gradients(
        dy, more, x, y, mean, inverse, scale, shift, partial, g, R, C, G, splits, length, BR, BC, MASK, ADD, REBUILD
    )


@triton.jit
def means_kernel(
    dy, more, x, y, mean, inverse, scale, shift, partial, g, means, totals, arrived, R, C, splits, length,
    G: tl.constexpr, PARTS: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr, MASK: tl.constexpr, ADD: tl.constexpr,
    REBUILD: tl.constexpr,
):  # fmt: skip
    """Sums on one rank, whose last program of a block of channels goes on: means of g and g x̂ of each group, and their
    sums over all groups."""
    add_up_gradients(
        dy, more, x, y, mean, inverse, scale, shift, partial, g, R, C, G, splits, length, BR, BC, MASK, ADD, REBUILD
    )
    block = tl.program_id(0) % tl.cdiv(C, BC)
    if is_last(arrived + block, G * splits):
        c = block * BC + tl.arange(0, BC)
        levels = tl.zeros((BC,), tl.float32)
        slopes = tl.zeros((BC,), tl.float32)
        for group in tl.static_range(G):
            place = partial + group * C + c
            level = tl.sum(of_all_parts(place, 2 * G * C, splits, c < C, PARTS, BC, tl.float32), axis=0)
            slope = tl.sum(of_all_parts(place + G * C, 2 * G * C, splits, c < C, PARTS, BC, tl.float32), axis=0)
            tl.store(means + group * C + c, level / R, mask=c < C)
            tl.store(means + (G + group) * C + c, slope / R, mask=c < C)
            levels += level
            slopes += slope
        tl.store(totals + c, levels, mask=c < C)
        tl.store(totals + C + c, slopes, mask=c < C)


@triton.jit
def gradients_kernel(
    g, x, mean, inverse, factor, shift, level, slope, dx, R, C,
    BR: tl.constexpr, BC: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """One tile of dx, from g, or from dy in its place where g is known by x."""
    blocks = tl.cdiv(C, BC)
    c = (tl.program_id(0) % blocks) * BC + tl.arange(0, BC)
    row = (tl.program_id(0) // blocks) * BR + tl.arange(0, BR)
    group = tl.program_id(1)
    inside = (row < R)[:, None] & (c < C)[None, :]
    place = group.to(tl.int64) * R * C + row.to(tl.int64)[:, None] * C + c[None, :]
    channel = group * C + c
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    a = tl.load(factor + channel, mask=c < C, other=0.0)
    given = tl.load(g + place, mask=inside, other=0.0).to(tl.float32)
    if MASK == FROM_INPUT:
        given = rectified(given, value, a, tl.load(shift + channel, mask=c < C, other=0.0))
    centre = tl.load(mean + channel, mask=c < C, other=0.0)
    spread = tl.load(inverse + channel, mask=c < C, other=0.0)
    unit = (value - centre[None, :]) * spread[None, :]
    inner = given - tl.load(level + channel, mask=c < C, other=0.0)[None, :]
    inner -= unit * tl.load(slope + channel, mask=c < C, other=0.0)[None, :]
    result = inner * a[None, :]
    tl.store(dx + place, result.to(dx.dtype.element_ty), mask=inside)

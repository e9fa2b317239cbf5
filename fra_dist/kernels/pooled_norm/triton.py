"""Triton kernels of the stem: the pooled map from the map before batch norm, and the gradient back.

Maps are channels-last; a program has a tile of places and a block of channels. What the pooling kernel notes of a
maximum is its place in the window, row by row, 0 to 8, and NOWHERE where it is not positive, so that the gradient ends
there. A place of the map lies in up to four windows, and the backward kernels look up which of them it won. Both make
the gradient before the pooling anew rather than write it. Each pass reads a map once, but for what windows share.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl

NOWHERE = tl.constexpr(9)


@triton.jit
def pool_kernel(
    x, scale, shift, pooled, at, H, W, OH, OW, C, R,
    BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """A tile of the pooled map, of R places a group, and where its maxima lie."""
    blocks = tl.cdiv(C, BC)
    c = (tl.program_id(0) % blocks) * BC + tl.arange(0, BC)
    row = (tl.program_id(0) // blocks) * BR + tl.arange(0, BR)
    group = tl.program_id(1)
    a = tl.load(scale + group * C + c, mask=c < C, other=0.0)
    b = tl.load(shift + group * C + c, mask=c < C, other=0.0)
    image = group * (R // (OH * OW)) + row // (OH * OW)
    top = (row // OW) % OH * 2 - 1
    left = row % OW * 2 - 1
    best = tl.full((BR, BC), -1.0, tl.float32)
    won = tl.full((BR, BC), NOWHERE, tl.int32)
    for step in tl.static_range(9):
        h = top + step // 3
        w = left + step % 3
        seen = (row < R) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        inside = seen[:, None] & (c < C)[None, :]
        place = ((image.to(tl.int64) * H + h) * W + w)[:, None] * C + c[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) * a[None, :] + b[None, :]
        value = tl.where(value < 0.0, 0.0, value)  # keeps NaN, as torch does
        value = value.to(pooled.dtype.element_ty).to(tl.float32)  # maxima are those of the rounded map
        better = inside & ((value > best) | (value != value))
        best = tl.where(better, value, best)
        won = tl.where(better & (value > 0.0), step, won)
    out = ((group.to(tl.int64) * R + row) * C)[:, None] + c[None, :]
    inside = (row < R)[:, None] & (c < C)[None, :]
    tl.store(pooled + out, best.to(pooled.dtype.element_ty), mask=inside)
    tl.store(at + out, won.to(tl.uint8), mask=inside)


@triton.jit
def sent_back(given, at, image, h, w, c, inside, OH, OW, C):
    """The gradient at places (h, w) of the map: the sum of those of the windows that they won."""
    total = tl.zeros(inside.shape, tl.float32)
    for one in tl.static_range(2):
        for other in tl.static_range(2):
            # an even place is the middle of one window; an odd one is the end of a window and the start of the next
            oh = (h + one) // 2
            ow = (w + other) // 2
            there = (oh < OH) & (ow < OW) & ((h % 2 == 1) | (one == 0)) & ((w % 2 == 1) | (other == 0))
            seen = inside & there[:, None]
            place = ((image.to(tl.int64) * OH + oh) * OW + ow)[:, None] * C + c[None, :]
            step = (h - 2 * oh + 1) * 3 + w - 2 * ow + 1
            mine = tl.load(at + place, mask=seen, other=9).to(tl.int32) == step[:, None]
            total += tl.where(mine, tl.load(given + place, mask=seen, other=0.0).to(tl.float32), 0.0)
    return total


@triton.jit
def sums_kernel(
    given, at, x, mean, inverse, partial, H, W, OH, OW, R, C, G, splits, length,
    BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Sums of g and g x̂ over a part of a group's R places."""
    blocks = tl.cdiv(C, BC)
    c = (tl.program_id(0) % blocks) * BC + tl.arange(0, BC)
    group = tl.program_id(0) // blocks
    split = tl.program_id(1)
    centre = tl.load(mean + group * C + c, mask=c < C, other=0.0)
    factor = tl.load(inverse + group * C + c, mask=c < C, other=0.0)
    level = tl.zeros((BR, BC), tl.float32)
    slope = tl.zeros((BR, BC), tl.float32)
    for start in range(split * length, (split + 1) * length, BR):
        row = start + tl.arange(0, BR)
        inside = (row < R)[:, None] & (c < C)[None, :]
        image = group * (R // (H * W)) + row // (H * W)
        g = sent_back(given, at, image, (row // W) % H, row % W, c, inside, OH, OW, C)
        place = ((group.to(tl.int64) * R + row) * C)[:, None] + c[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        level += g
        slope += g * ((value - centre[None, :]) * factor[None, :])
    place = partial + (split * 2 * G + group) * C + c
    tl.store(place, tl.sum(level, axis=0), mask=c < C)
    tl.store(place + G * C, tl.sum(slope, axis=0), mask=c < C)


@triton.jit
def gradients_kernel(
    given, at, x, mean, inverse, factor, level, slope, dx, H, W, OH, OW, R, C,
    BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """One tile of dx."""
    blocks = tl.cdiv(C, BC)
    c = (tl.program_id(0) % blocks) * BC + tl.arange(0, BC)
    row = (tl.program_id(0) // blocks) * BR + tl.arange(0, BR)
    group = tl.program_id(1)
    inside = (row < R)[:, None] & (c < C)[None, :]
    image = group * (R // (H * W)) + row // (H * W)
    g = sent_back(given, at, image, (row // W) % H, row % W, c, inside, OH, OW, C)
    place = ((group.to(tl.int64) * R + row) * C)[:, None] + c[None, :]
    channel = group * C + c
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    centre = tl.load(mean + channel, mask=c < C, other=0.0)
    spread = tl.load(inverse + channel, mask=c < C, other=0.0)
    unit = (value - centre[None, :]) * spread[None, :]
    inner = g - tl.load(level + channel, mask=c < C, other=0.0)[None, :]
    inner -= unit * tl.load(slope + channel, mask=c < C, other=0.0)[None, :]
    result = inner * tl.load(factor + channel, mask=c < C, other=0.0)[None, :]
    tl.store(dx + place, result.to(dx.dtype.element_ty), mask=inside)

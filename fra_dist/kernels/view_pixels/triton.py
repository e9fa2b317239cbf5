"""The Triton kernel that finishes views: a program owns an image.

It goes over the image up to four times: for the mean that contrast needs, for all colours, and for the rows and the
columns of a blur. Between the passes stand barriers. `levels` and `rows` lie in memory as the
result does, in lines: of n pixels with three channels each if channels come last, else of n pixels of one channel.

Compiled without fused multiply-add (`launch.py`), so that each operation rounds as on the CPU.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl

from fra_dist.kernels.dispatch import interpreted
from fra_dist.kernels.view_pixels import columns as _c

FACTORS, GREY, RADIUS = tl.constexpr(_c.FACTORS), tl.constexpr(_c.GREY), tl.constexpr(_c.RADIUS)
SOLARISE, FLIP, MEAN = tl.constexpr(_c.SOLARISE), tl.constexpr(_c.FLIP), tl.constexpr(_c.MEAN)
SCALE, WEIGHTS = tl.constexpr(_c.SCALE), tl.constexpr(_c.WEIGHTS)
CONTRAST, SATURATION, HUE = tl.constexpr(_c.CONTRAST), tl.constexpr(_c.SATURATION), tl.constexpr(_c.HUE)
ROUNDING = tl.constexpr(255.999 / 255)
INTERPRETED = tl.constexpr(interpreted())


@triton.jit
def plus(product, x):
    """A product and something else, each rounded: ptxas 12.9 fuses sums of pairs for sm_100 and sm_120 unasked."""
    if INTERPRETED:
        return product + x
    return tl.inline_asm_elementwise("add.rn.f32 $0, $1, $2;", "=f,f,f", [product, x], tl.float32, is_pure=True, pack=1)


@triton.jit
def whole(x):
    """Positive numbers without what is behind the point."""
    return x.to(tl.int32).to(tl.float32)


@triton.jit
def grey_of(r, g, b):
    """Grey levels."""
    return whole(plus(b * 0.114, plus(r * 0.2989, g * 0.587)))


@triton.jit
def scaled(x, factor, offset):
    """A channel between 0 and its double, or between it and a level."""
    return whole(tl.maximum(tl.minimum(plus(x * factor, offset), 255.0), 0.0))


@triton.jit
def turned(distance, chroma, peak, low, high):
    """A channel's value at a distance (times the chroma, in sixths of the circle) from the hue of the pixel."""
    distance = tl.abs(distance)
    distance = tl.minimum(distance, plus(6.0 * chroma, -distance))
    return whole(tl.maximum(tl.minimum(peak - distance, high), low) * ROUNDING)


@triton.jit
def hue_turned(r, g, b, shift):
    """The hue turned by `shift` circles, as explained in `data/decoding/pixels.py`."""
    high = tl.maximum(tl.maximum(r, g), b)
    low = tl.minimum(tl.minimum(r, g), b)
    chroma = high - low
    turn = 6.0 * shift * chroma
    base = r + g + b + high - 2.0 * low
    peak = 2.0 * chroma + low
    red = turned(base - 2.0 * r + tl.where(g > b, turn, -turn), chroma, peak, low, high)
    green = turned(base - 2.0 * g + tl.where(b > r, turn, -turn), chroma, peak, low, high)
    blue = turned(base - 2.0 * b + tl.where(r > g, turn, -turn), chroma, peak, low, high)
    return red, green, blue


@triton.jit
def jittered(source, pixel, inside, row, mean, last):
    """Red, green and blue of pixels after the first `last` operations; `mean`: of grey, for the contrast."""
    r = tl.load(source + 3 * pixel, mask=inside, other=0).to(tl.float32)
    g = tl.load(source + 3 * pixel + 1, mask=inside, other=0).to(tl.float32)
    b = tl.load(source + 3 * pixel + 2, mask=inside, other=0).to(tl.float32)
    for k in range(0, last):
        operation = tl.load(row + k).to(tl.int32)
        factor = tl.load(row + FACTORS + operation)
        if operation == HUE:
            if factor != 0.0:
                r, g, b = hue_turned(r, g, b, factor)
        else:
            anchor = tl.where(operation == SATURATION, grey_of(r, g, b), tl.where(operation == CONTRAST, mean, 0.0))
            offset = (1.0 - factor) * anchor
            r, g, b = scaled(r, factor, offset), scaled(g, factor, offset), scaled(b, factor, offset)
    return r, g, b


@triton.jit
def contrast_mean(source, row, n, PIXELS: tl.constexpr):
    """Mean of the grey levels that the contrast meets; 0 where the contrast stays as it is."""
    place = 0
    for k in range(0, 4):
        place = tl.where(tl.load(row + k).to(tl.int32) == CONTRAST, k, place)
    todo = tl.where(tl.load(row + FACTORS + CONTRAST) != 1.0, n * n, 0)
    total = tl.zeros([PIXELS], tl.int32)
    for first in range(0, todo, PIXELS):
        pixel = first + tl.arange(0, PIXELS)
        r, g, b = jittered(source, pixel, pixel < todo, row, 0.0, place)
        total += grey_of(r, g, b).to(tl.int32)
    return (tl.sum(total.to(tl.int64), 0).to(tl.float64) / (n * n).to(tl.float64)).to(tl.float32)


@triton.jit
def mirrored(i, n):
    """Indices beyond an edge of 0 .. n - 1, reflected there; the edge itself is not repeated."""
    i = tl.where(i < 0, -i, i)
    return tl.where(i >= n, 2 * n - 2 - i, i)


@triton.jit
def tile_of(t, lines, width, LINES: tl.constexpr, ACROSS: tl.constexpr):
    """Lines (LINES, 1) and places in them (1, ACROSS) of tile number t, and which of them there are."""
    across = tl.cdiv(width, ACROSS)
    line = (t // across) * LINES + tl.arange(0, LINES)[:, None]
    place = (t % across) * ACROSS + tl.arange(0, ACROSS)[None, :]
    return line, place, (line < lines) & (place < width)


@triton.jit(do_not_specialize=["columns"])
def view_kernel(
    images, numbers, levels, rows, out, n, columns,
    CHANNELS_LAST: tl.constexpr, PIXELS: tl.constexpr, LINES: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """out (B, 3, n, n) from images (B, n, n, 3) and numbers (B, columns); levels, rows: room of that size."""
    size = tl.program_id(0).to(tl.int64) * n * n * 3
    row = numbers + tl.program_id(0).to(tl.int64) * columns
    images += size
    levels += size
    rows += size
    out += size
    step: tl.constexpr = 3 if CHANNELS_LAST else 1  # from a pixel to the next
    lines = n if CHANNELS_LAST else 3 * n
    width = 3 * n if CHANNELS_LAST else n
    plane = 1 if CHANNELS_LAST else n * n  # from a channel to the next
    flip = tl.load(row + FLIP) > 0
    mean = contrast_mean(images, row, n, PIXELS)
    grey = tl.load(row + GREY) > 0
    for first in range(0, n * n, PIXELS):
        pixel = first + tl.arange(0, PIXELS)
        inside = pixel < n * n
        x = pixel % n
        seen = tl.where(flip, pixel - x + (n - 1 - x), pixel)
        r, g, b = jittered(images, seen, inside, row, mean, 4)
        level = grey_of(r, g, b)
        tl.store(levels + pixel * step, tl.where(grey, level, r).to(tl.uint8), mask=inside)
        tl.store(levels + pixel * step + plane, tl.where(grey, level, g).to(tl.uint8), mask=inside)
        tl.store(levels + pixel * step + 2 * plane, tl.where(grey, level, b).to(tl.uint8), mask=inside)
    tl.debug_barrier()

    radius = tl.load(row + RADIUS).to(tl.int32)
    tiles = tl.cdiv(lines, LINES) * tl.cdiv(width, ACROSS)
    way = tl.where(flip, -1, 1)  # taps are added in the order of the view before the flip
    for t in range(0, tl.where(radius > 0, tiles, 0)):
        line, place, inside = tile_of(t, lines, width, LINES, ACROSS)
        x, channel = place // step, place % step
        total = tl.zeros([LINES, ACROSS], tl.float32)
        for k in range(-radius, radius + 1):
            near = line * width + mirrored(x + way * k, n) * step + channel
            weight = tl.load(row + WEIGHTS + tl.where(k < 0, -k, k))
            total = plus(weight * tl.load(levels + near, mask=inside, other=0).to(tl.float32), total)
        tl.store(rows + line * width + place, total, mask=inside)
    tl.debug_barrier()

    threshold = tl.load(row + SOLARISE)
    for t in range(0, tiles):
        line, place, inside = tile_of(t, lines, width, LINES, ACROSS)
        y = line % n
        if radius > 0:
            value = tl.full([LINES, ACROSS], 0.5, tl.float32)  # rounds to the nearest
            for k in range(-radius, radius + 1):
                near = (line - y + mirrored(y + k, n)) * width + place
                weight = tl.load(row + WEIGHTS + tl.where(k < 0, -k, k))
                value = plus(weight * tl.load(rows + near, mask=inside, other=0), value)
            value = whole(tl.minimum(value, 255.0))
        else:
            value = tl.load(levels + line * width + place, mask=inside, other=0).to(tl.float32)
        value = tl.where(value >= threshold, 255.0 - value, value)
        channel = place % 3 if CHANNELS_LAST else line // n
        value -= tl.load(row + MEAN + channel, mask=inside, other=0)
        value *= tl.load(row + SCALE + channel, mask=inside, other=0)
        tl.store(out + line * width + place, value.to(out.dtype.element_ty), mask=inside)
